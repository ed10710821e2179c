//! Free ports for nodes.
//!
//! Invariant: ports lie below those that the system gives to outgoing connections, so that no client takes the port of a node
//! that is down for a while.

use std::net::{TcpListener, UdpSocket};

use crate::failure::Failure;

const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

/// Ports that are free for both UDP and TCP on the loopback interface. Where the search begins depends on the process, so
/// that two demos at once do not choose alike.
///
/// # Errors
/// When there are not so many.
pub(super) fn free(count: usize) -> Result<Vec<u16>, Failure> {
    let range = LAST - FIRST;
    let begin = u16::try_from(std::process::id() % 512 * 16).unwrap_or(0);
    let is_free = |port: &u16| {
        UdpSocket::bind(("127.0.0.1", *port)).is_ok()
            && TcpListener::bind(("127.0.0.1", *port)).is_ok()
    };
    let ports = (0..range).map(|step| FIRST + (begin + step) % range);
    let ports: Vec<u16> = ports.filter(is_free).take(count).collect();
    if ports.len() < count {
        let problem =
            format!("fewer than {count} ports of 127.0.0.1 are free from {FIRST} to {LAST}");
        return Err(Failure::refused(problem));
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_different_and_one_in_use_is_passed_over() {
        let ports = free(6).expect("free ports");
        assert_eq!(ports.iter().collect::<std::collections::BTreeSet<_>>().len(), 6);
        let _held = UdpSocket::bind(("127.0.0.1", ports[0])).expect("it is free");
        assert!(!free(6).expect("free ports").contains(&ports[0]));
    }
}
