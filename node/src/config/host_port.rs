//! An address that others dial: a host (an IP address or a DNS name) and a port.
//!
//! It must not know how names are resolved: that happens at every dial, since names move. Its
//! one invariant: what was parsed can be dialled, as far as its form tells.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The greatest length of a DNS name, in bytes.
const MAX_DNS_NAME_BYTES: usize = 253;
/// The greatest length of one label of a DNS name, in bytes.
const MAX_DNS_LABEL_BYTES: usize = 63;

/// A host and a port that can be dialled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    host: String,
    port: u16,
}

/// Why a text is not an address that can be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHostPort {
    /// There is no port.
    #[error(
        "`{0}` has no port: HOST:PORT expected, such as eu-1.example.org:7421 or [2001:db8::1]:7421"
    )]
    NoPort(String),
    /// The port is not one that can be dialled.
    #[error("`{0}` has no valid port: 1 to 65535 expected")]
    Port(String),
    /// The host is neither an address nor a name.
    #[error(
        "`{0}` has no valid host: an IPv4 address, an IPv6 address in brackets or a DNS name expected"
    )]
    Host(String),
    /// The host stands for all addresses of a machine.
    #[error(
        "`{0}` cannot be dialled: it stands for every address of a machine; name the one that peers reach"
    )]
    Unspecified(String),
}

impl HostPort {
    /// The host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for HostPort {
    type Err = InvalidHostPort;

    fn from_str(text: &str) -> Result<Self, InvalidHostPort> {
        let (host, port) =
            text.rsplit_once(':').ok_or_else(|| InvalidHostPort::NoPort(text.to_owned()))?;
        let port = match port.parse() {
            Ok(parsed) if parsed > 0 && !port.starts_with('+') => parsed,
            Ok(_) | Err(_) => return Err(InvalidHostPort::Port(text.to_owned())),
        };
        let invalid = || InvalidHostPort::Host(text.to_owned());
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let ip: Option<IpAddr> = match bracketed {
            Some(inside) => Some(inside.parse::<Ipv6Addr>().map_err(|_| invalid())?.into()),
            None => host.parse::<Ipv4Addr>().ok().map(Into::into),
        };
        if ip.is_some_and(|ip| ip.is_unspecified()) {
            return Err(InvalidHostPort::Unspecified(text.to_owned()));
        }
        if ip.is_none() && !is_dns_name(host) {
            return Err(invalid());
        }
        Ok(Self { host: bracketed.unwrap_or(host).to_owned(), port })
    }
}

/// Whether `host` has the form of a DNS name. What has only digits and dots was meant as an IPv4
/// address.
fn is_dns_name(host: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let label =
        |label: &str| (1..=MAX_DNS_LABEL_BYTES).contains(&label.len()) && label.chars().all(letter);
    host.len() <= MAX_DNS_NAME_BYTES
        && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
        && host.chars().any(|c| c.is_ascii_alphabetic())
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_with_a_port_survive_their_text() {
        for text in ["127.0.0.1:7421", "[2001:db8::1]:1", "localhost:65535", "a-1.example.org.:80"]
        {
            let parsed: HostPort = text.parse().expect("valid");
            assert_eq!(parsed.to_string(), text);
        }
        let parsed: HostPort = "[::1]:7421".parse().expect("valid");
        assert_eq!((parsed.host(), parsed.port()), ("::1", 7421));
    }

    #[test]
    fn what_cannot_be_dialled_is_refused_with_the_reason() {
        let parse = |text: &str| text.parse::<HostPort>().expect_err(text);
        assert_eq!(parse("localhost"), InvalidHostPort::NoPort("localhost".to_owned()));
        for port in ["a:0", "a:65536", "a:", "a:x", "a:-1"] {
            assert_eq!(parse(port), InvalidHostPort::Port(port.to_owned()));
        }
        for host in
            [":1", "::1:7421", "[nonsense]:1", "1.2.3:80", "a b:80", "a..b:1", "[1.2.3.4]:1"]
        {
            assert_eq!(parse(host), InvalidHostPort::Host(host.to_owned()));
        }
        for any in ["0.0.0.0:7421", "[::]:7421"] {
            assert_eq!(parse(any), InvalidHostPort::Unspecified(any.to_owned()));
        }
    }
}
