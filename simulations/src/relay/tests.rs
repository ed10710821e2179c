//! The relay with real sockets: what arrives, in which order, how late, and what is counted.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);
const ONE_WAY: Duration = Duration::from_millis(20);

/// A socket that stands for a node, or for anybody. With large buffers: a burst must not be lost at its receiver.
fn socket() -> UdpSocket {
    bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port")
}

fn address_of(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("a bound socket has an address")
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 2_000];
    let (len, from) = timeout(PATIENCE, socket.recv_from(&mut buffer))
        .await
        .expect("a packet arrives in time")
        .expect("the socket receives");
    buffer.truncate(len);
    (buffer, from)
}

/// Two nodes, 20 ms apart, and the relay between them.
fn oslo_and_tokyo(shape: Shape) -> (UdpSocket, UdpSocket, Relay) {
    let (oslo, tokyo) = (socket(), socket());
    let nodes = [("oslo".to_owned(), address_of(&oslo)), ("tokyo".to_owned(), address_of(&tokyo))];
    let plan = Plan { seed: 5, ..Plan::new(nodes) }.between("oslo", "tokyo", &shape);
    let relay = Relay::start(plan).expect("the relay starts");
    (oslo, tokyo, relay)
}

#[tokio::test]
async fn packets_take_the_delay_each_way_and_arrive_intact_and_in_order() {
    let (oslo, tokyo, relay) = oslo_and_tokyo(Shape::delayed(ONE_WAY));
    let to_tokyo = relay.address("tokyo").expect("tokyo has an address");

    let began = Instant::now();
    for number in 0..100_u8 {
        let payload = vec![number; 1_000 + usize::from(number)];
        oslo.send_to(&payload, to_tokyo).await.expect("oslo sends");
    }
    let mut came_from = None;
    for number in 0..100_u8 {
        let (payload, from) = receive(&tokyo).await;
        assert!(began.elapsed() >= ONE_WAY, "after {:?}", began.elapsed());
        assert_eq!(payload, vec![number; 1_000 + usize::from(number)]);
        came_from = Some(from);
    }

    let answered = Instant::now();
    let relay_for_oslo = came_from.expect("packets came");
    tokyo.send_to(b"answer", relay_for_oslo).await.expect("tokyo sends");
    let (payload, from) = receive(&oslo).await;
    assert!(answered.elapsed() >= ONE_WAY, "after {:?}", answered.elapsed());
    assert_eq!((payload.as_slice(), from), (b"answer".as_slice(), to_tokyo));

    let sent = relay.traffic("oslo", "tokyo").expect("a path");
    assert_eq!((sent.sent_packets, sent.delivered_packets, sent.dropped_packets), (100, 100, 0));
    assert_eq!(sent.sent_bytes, (0..100).map(|number| 1_000 + number).sum::<u64>());
    let back = relay.traffic("tokyo", "oslo").expect("a path");
    assert_eq!((back.sent_packets, back.sent_bytes), (1, 6));
    let nobody = relay.traffic(ELSEWHERE, "tokyo").expect("a path");
    assert_eq!(nobody, Traffic::default());
}

#[tokio::test]
async fn a_cut_direction_is_silent_until_it_heals_while_the_other_goes_on() {
    let (oslo, tokyo, relay) = oslo_and_tokyo(Shape::delayed(ONE_WAY));
    let to_tokyo = relay.address("tokyo").expect("tokyo has an address");
    oslo.send_to(b"first", to_tokyo).await.expect("oslo sends");
    let (_, relay_for_oslo) = receive(&tokyo).await;

    relay.cut("oslo", "tokyo").expect("a path");
    oslo.send_to(b"lost", to_tokyo).await.expect("oslo sends");
    tokyo.send_to(b"still here", relay_for_oslo).await.expect("tokyo sends");
    assert_eq!(receive(&oslo).await.0, b"still here");
    // The answer was sent after the lost packet on a path of the same delay: that one would have arrived by now.
    relay.heal("oslo", "tokyo").expect("a path");
    oslo.send_to(b"second", to_tokyo).await.expect("oslo sends");
    assert_eq!(receive(&tokyo).await.0, b"second");

    assert_eq!(relay.traffic("oslo", "tokyo").expect("a path").dropped_packets, 1);
    assert_eq!(
        relay.cut("oslo", "lima"),
        Err(NoSuchPath { from: "oslo".to_owned(), to: "lima".to_owned() })
    );
}

#[tokio::test]
async fn many_dialers_and_a_restart_from_another_port_each_get_their_own_answers() {
    let (_oslo, tokyo, relay) = oslo_and_tokyo(Shape::delayed(ONE_WAY));
    let to_tokyo = relay.address("tokyo").expect("tokyo has an address");

    // Each dialer is a new port, as a restarted node or a client would have.
    let mut dialers = Vec::new();
    for number in 0..50_u8 {
        let dialer = socket();
        dialer.send_to(&[number], to_tokyo).await.expect("a dialer sends");
        dialers.push(dialer);
    }
    for _ in 0..50 {
        let (question, from) = receive(&tokyo).await;
        tokyo.send_to(&[question[0], 99], from).await.expect("tokyo answers");
    }
    for (number, dialer) in (0..50_u8).zip(&dialers) {
        assert_eq!(receive(dialer).await, (vec![number, 99], to_tokyo));
    }
    let sent = relay.traffic(ELSEWHERE, "tokyo").expect("a path");
    assert_eq!((sent.sent_packets, sent.sent_bytes), (50, 50));
}

#[tokio::test]
async fn what_is_lost_and_doubled_on_the_wire_is_what_is_counted() {
    let shape = Shape { loss: 0.3, duplication: 0.3, ..Shape::delayed(ONE_WAY) };
    let (oslo, tokyo, relay) = oslo_and_tokyo(shape);
    let to_tokyo = relay.address("tokyo").expect("tokyo has an address");
    for number in 0..100 {
        oslo.send_to(&[number], to_tokyo).await.expect("oslo sends");
    }
    // What comes from elsewhere takes a clean path without delay, so the last packet is awaited on the same one.
    let clean = Shape::delayed(ONE_WAY);
    await_taken(&relay, 100).await;
    relay.reshape("oslo", "tokyo", clean).expect("a path");
    oslo.send_to(&[255], to_tokyo).await.expect("oslo sends");

    let mut seen = Vec::new();
    loop {
        let (payload, _) = receive(&tokyo).await;
        if payload == [255] {
            break;
        }
        seen.push(payload[0]);
    }
    let traffic = relay.traffic("oslo", "tokyo").expect("a path");
    assert_eq!(traffic.sent_packets, 101);
    assert_eq!(traffic.delivered_packets, seen.len() as u64 + 1);
    let arrived = seen.len();
    seen.dedup();
    assert_eq!(traffic.dropped_packets, 100 - seen.len() as u64);
    assert!((10..60).contains(&traffic.dropped_packets), "{traffic:?}");
    assert!(arrived > seen.len(), "none came twice");
}

/// Waits until the relay has taken in so many packets from oslo.
async fn await_taken(relay: &Relay, packets: u64) {
    let taken = async {
        while relay.traffic("oslo", "tokyo").expect("a path").sent_packets < packets {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, taken).await.expect("the relay takes the packets in");
}

#[tokio::test]
async fn a_relay_that_is_dropped_frees_its_ports() {
    let (_oslo, _tokyo, relay) = oslo_and_tokyo(Shape::delayed(ONE_WAY));
    let address = relay.address("tokyo").expect("tokyo has an address");
    assert!(UdpSocket::bind(address).await.is_err());
    drop(relay);
    let freed = async {
        while UdpSocket::bind(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, freed).await.expect("the port is free again");
}

#[tokio::test]
async fn no_node_may_be_called_elsewhere() {
    let node = socket();
    let plan = Plan::new([(ELSEWHERE.to_owned(), address_of(&node))]);
    let problem = Relay::start(plan).err().expect("it is refused").to_string();
    assert!(problem.contains("`elsewhere`"), "{problem}");
}
