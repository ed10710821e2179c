//! Stories of two and three nodes on real sockets.

use std::net::UdpSocket;
use std::time::Instant;

use warbler_replication::greeting::LEAST_FRAME_LIMIT_BYTES;

use super::quic::IDLE_TIMEOUT;
use super::*;

mod world;

use world::{World, any_port, identity, ping_pong, reason_of_close, say, settled, space, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_connect_and_exchange_frames_both_ways_in_order() {
    let world = World::of(2);
    let (a, b) = (world.id(0), world.id(1));
    let mut left = world.start(0).await;
    let mut right = world.start(1).await;
    let mut shared = [space("main"), space("bank")];
    shared.sort();
    assert_eq!(left.expect_connected(b).await, shared);
    assert_eq!(right.expect_connected(a).await, shared);

    let frame =
        |number: u32| [number.to_be_bytes().as_slice(), &vec![7; number as usize % 1_000]].concat();
    for number in 0..2_000 {
        left.transport.send(b, space("main"), frame(number));
        right.transport.send(a, space("bank"), frame(number));
    }
    left.transport.send(b, space("main"), vec![9; MAX_FRAME_BYTES as usize]);
    for number in 0..2_000 {
        assert_eq!(right.expect_frame(a).await, (space("main"), frame(number)));
        assert_eq!(left.expect_frame(b).await, (space("bank"), frame(number)));
    }
    assert_eq!(right.expect_frame(a).await.1.len(), MAX_FRAME_BYTES as usize);

    let state = left.state(b);
    assert!(state.connected && state.rtt.is_some() && state.remote.is_some(), "{state:?}");
    assert!(state.sent_bytes > 3_000_000 && state.received_bytes > 1_000_000, "{state:?}");
    assert_eq!((state.dropped_frames, state.alarm), (0, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_dials_end_with_exactly_one_connection() {
    for _ in 0..10 {
        let world = World::of(2);
        let (mut left, mut right) = world.start_pair().await;
        // Nothing else was reported meanwhile: the next events are these frames.
        ping_pong((&mut left, world.id(0)), (&mut right, world.id(1))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_that_decides_keeps_the_first_of_two_connections() {
    let world = World::of(2);
    let mut node = world.start(0).await;
    let greeting = world.greeting(1, 0);
    let [first, second] = [world.dial_by_hand(1, &node).await, world.dial_by_hand(1, &node).await];
    let (_send, mut receive) = world.agree_by_hand(&greeting, &first).await;
    let mut byte = [0];
    receive.read_exact(&mut byte).await.expect("in");
    assert_eq!(byte, [control::YOU_ARE_IN]);
    node.expect_connected(world.id(1)).await;

    let _control = say(&greeting, &second).await;
    let reason = reason_of_close(&second).await;
    assert!(reason.contains("it gave way to another connection"), "{reason}");
    // The first one is asked whether it still lives, and goes on.
    assert_eq!(next_beside_times(&mut receive).await, control::ARE_YOU_ALIVE);
    assert!(first.close_reason().is_none());
    assert!(node.state(world.id(1)).last_error.is_none(), "giving way is no failure");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_learn_how_each_others_clock_stands_to_their_own() {
    let world = World::of(2);
    let (left, _right) = world.start_pair().await;
    left.until_peer(world.id(1), |state| {
        state.clock_ahead_millis.is_some_and(|ahead| ahead.abs() < 5_000)
    })
    .await;

    // A peer whose clock is an hour fast says so itself.
    let world = World::of(2);
    let mut node = world.start(0).await;
    let connection = world.dial_by_hand(1, &node).await;
    let (mut send, _receive) = world.greet_by_hand(1, 0, &connection).await;
    node.expect_connected(world.id(1)).await;
    let hour = 3_600_000;
    let fast = (u64::from_be_bytes(clock::now()) + hour).to_be_bytes();
    send.write_all(&[&[control::THE_TIME_IS][..], &fast].concat()).await.expect("sent");
    node.until_peer(world.id(1), |state| {
        state.clock_ahead_millis.is_some_and(|ahead| ahead > hour as i64 - 5_000)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_node_follows_to_the_connection_that_it_is_told_to_use() {
    let world = World::of(2);
    let mut node = world.start(1).await;
    let greeting = world.greeting(0, 1);
    let [first, second] = [world.dial_by_hand(0, &node).await, world.dial_by_hand(0, &node).await];
    let (mut one, _receive) = world.agree_by_hand(&greeting, &first).await;
    // It is not in before it is told so.
    let (mut other, _receive) = world.agree_by_hand(&greeting, &second).await;
    assert!(!node.state(world.id(0)).connected);
    one.write_all(&[control::YOU_ARE_IN]).await.expect("sent");
    node.expect_connected(world.id(0)).await;

    other.write_all(&[control::YOU_ARE_IN]).await.expect("sent");
    let reason = node.expect_disconnected(world.id(0)).await;
    assert_eq!(reason, "it gave way to another connection with the same peer");
    node.expect_connected(world.id(0)).await;
    let reason = reason_of_close(&first).await;
    assert!(reason.contains("it gave way to another connection"), "{reason}");
    assert!(second.close_reason().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_key_is_refused_with_a_clear_error_on_both_sides_while_others_go_on() {
    let world = World::of(2);
    let (mut left, mut right) = world.start_pair().await;

    // The stranger knows the node's key and address, but the node does not know the stranger's.
    let stranger = identity();
    let mut cluster = (*world.cluster).clone();
    cluster.nodes[1].id = stranger.node_id();
    let us = OurSide { origin: world::origin(), cluster: Arc::new(cluster) };
    let outside = Transport::bind(any_port(), &stranger, us, |event| {
        panic!("the stranger was told {event:?}");
    });
    let outside = outside.expect("bound");

    let refused = format!("the key of node {} is not in the cluster file", stranger.node_id());
    let seen = || format!("{:?}", outside.peers());
    until(seen, || {
        let error = outside.peers()[0].last_error.clone().unwrap_or_default();
        error == format!("the peer refuses our key: {refused}")
    })
    .await;
    let strangers = || left.transport.strangers();
    until(
        || format!("{:?}", strangers()),
        || strangers().refused > 0 && strangers().last.is_some_and(|last| last.ends_with(&refused)),
    )
    .await;
    ping_pong((&mut left, world.id(0)), (&mut right, world.id(1))).await;
    outside.close("done").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_answers_at_anothers_address_is_refused_by_name() {
    let world = World::of(3);
    let nobody = world.address(1);
    // The first node looks for the second where the third stands. The third cannot dial back.
    let ours = world.cluster_with(&[(1, world.address(2)), (2, nobody)]);
    let theirs = world.cluster_with(&[(0, nobody)]);
    let left = world.bind(0, world.address(0), ours).expect("bound");
    let right = world.bind(2, world.address(2), theirs).expect("bound");

    let (expected, found) = (world.id(1), world.id(2));
    let error = format!("node {expected} was expected at this address, {found} answered");
    left.until_error(expected, &error).await;
    right.until_error(world.id(0), &format!("closed by the peer: {error}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_at_a_peers_address_is_refused() {
    let world = World::of(2);
    let stranger = World::at(vec![identity()], vec![world.address(1)]);
    let _answers = stranger.start(0).await;
    let node = world.start(0).await;
    let error = format!("the key of node {} is not in the cluster file", stranger.id(0));
    node.until_error(world.id(1), &error).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_whose_name_cannot_be_resolved_is_reported_and_dialled_again() {
    let world = World::of(2);
    let mut cluster = (*world.cluster).clone();
    cluster.nodes[1].address = "no-such-host.invalid:7421".parse().expect("an address");
    let mut node = world.bind(0, world.address(0), Arc::new(cluster)).expect("bound");
    node.until_error(world.id(1), "no-such-host.invalid:7421 cannot be resolved").await;

    // The peer finds its way to us, though.
    let mut peer = world.start(1).await;
    node.expect_connected(world.id(1)).await;
    peer.expect_connected(world.id(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_with_other_protocol_versions_is_refused_with_both_lists() {
    let world = World::of(2);
    let node = world.start(0).await;
    let connection = world.dial_by_hand(1, &node).await;
    let (mut send, _receive) = connection.open_bi().await.expect("a stream");
    let mut greeting = world.greeting(1, 0);
    greeting.versions = vec![8, 9];
    send.write_all(&greeting.encode()).await.expect("sent");

    let expected = format!(
        "no common protocol version: {} speaks [3, 2], {} speaks [8, 9]",
        world.id(0).short(),
        world.id(1).short()
    );
    let reason = reason_of_close(&connection).await;
    assert!(reason.contains(&expected), "{reason}");
    node.until_error(world.id(1), &expected).await;
    assert!(!node.state(world.id(1)).connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greeting_of_garbage_is_refused_and_changes_nothing() {
    let world = World::of(2);
    let mut node = world.start(0).await;
    let mut too_small = world.greeting(1, 0);
    too_small.max_frame_bytes = LEAST_FRAME_LIMIT_BYTES - 1;
    let mut endless = world.greeting(1, 0).encode();
    endless[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    for (bytes, expected) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "not a Warbler peer"),
        (endless, "the greeting says it has 4294967295 bytes"),
        (too_small.encode(), "the peer takes frames of at most 2097151 bytes"),
        (world.greeting(0, 0).encode(), "the greeting says that it is from node"),
    ] {
        let connection = world.dial_by_hand(1, &node).await;
        let (mut send, _receive) = connection.open_bi().await.expect("a stream");
        send.write_all(&bytes).await.expect("sent");
        let reason = reason_of_close(&connection).await;
        assert!(reason.contains(expected), "{reason}");
        node.until_error(world.id(1), expected).await;
    }

    let mut peer = world.start(1).await;
    node.expect_connected(world.id(1)).await;
    peer.expect_connected(world.id(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_datagrams_change_nothing() {
    let world = World::of(2);
    let (mut left, mut right) = world.start_pair().await;

    let socket = UdpSocket::bind(any_port()).expect("a socket");
    let mut bytes = [0; 1_300];
    for round in 0..500_usize {
        getrandom::fill(&mut bytes).expect("random bytes");
        if round % 3 == 0 {
            // The beginning of a QUIC 1 Initial packet.
            bytes[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
        }
        let length = [1, 20, 64, 1_300][round % 4];
        socket.send_to(&bytes[..length], left.transport.local_addr()).expect("sent");
    }
    ping_pong((&mut left, world.id(0)), (&mut right, world.id(1))).await;
    assert!(left.state(world.id(1)).last_error.is_none(), "{:?}", left.state(world.id(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversized_frame_closes_its_connection_and_nothing_else() {
    let world = World::of(3);
    let mut node = world.start(0).await;
    let mut friend = world.start(1).await;
    node.expect_connected(world.id(1)).await;
    friend.expect_connected(world.id(0)).await;

    let connection = world.dial_by_hand(2, &node).await;
    let _control = world.greet_by_hand(2, 0, &connection).await;
    assert_eq!(node.expect_connected(world.id(2)).await, [space("main")]);
    let mut stream = connection.open_uni().await.expect("a stream");
    stream.write_all(&[session::FRAMES]).await.expect("sent");
    stream.write_all(&space("main").0).await.expect("sent");
    stream.write_all(&[0, 0, 0, 2, b'h', b'i']).await.expect("sent");
    assert_eq!(node.expect_frame(world.id(2)).await, (space("main"), b"hi".to_vec()));
    stream.write_all(&(MAX_FRAME_BYTES + 1).to_be_bytes()).await.expect("sent");

    let expected = "a frame of 2097153 bytes was announced, at most 2097152 are allowed";
    let reason = reason_of_close(&connection).await;
    assert!(reason.contains(expected), "{reason}");
    assert_eq!(node.expect_disconnected(world.id(2)).await, expected);
    ping_pong((&mut node, world.id(0)), (&mut friend, world.id(1))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_space_is_taken_from_or_sent_to_a_node_outside_of_it() {
    let world = World::of(3);
    let mut node = world.start(0).await;
    let connection = world.dial_by_hand(2, &node).await;
    let _control = world.greet_by_hand(2, 0, &connection).await;
    assert_eq!(node.expect_connected(world.id(2)).await, [space("main")]);

    // The node opens one stream, for the space that both see; a frame of the other goes nowhere.
    node.transport.send(world.id(2), space("bank"), b"secret".to_vec());
    node.transport.send(world.id(2), space("main"), b"hello".to_vec());
    let mut stream = connection.accept_uni().await.expect("a stream");
    let mut bytes = [0; 1 + 16 + 4 + 5];
    stream.read_exact(&mut bytes).await.expect("a frame");
    assert_eq!(bytes[1..17], space("main").0);
    assert_eq!(&bytes[21..], b"hello");

    let mut stream = connection.open_uni().await.expect("a stream");
    let bytes = [&[session::FRAMES], space("bank").0.as_slice(), &[0, 0, 0, 1, 1]].concat();
    stream.write_all(&bytes).await.expect("sent");
    let reason = node.expect_disconnected(world.id(2)).await;
    assert!(
        reason.contains(&format!("for space {}, which is not agreed on", space("bank"))),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_says_goodbye_and_returns_is_connected_again() {
    let world = World::of(2);
    let (mut left, mut right) = world.start_pair().await;

    right.transport.close("an upgrade").await;
    assert_eq!(right.expect_disconnected(world.id(0)).await, "an upgrade");
    let reason = left.expect_disconnected(world.id(1)).await;
    assert_eq!(reason, "closed by the peer: an upgrade");
    assert!(!left.state(world.id(1)).connected);
    drop(right);

    let mut right = world.start(1).await;
    left.expect_connected(world.id(1)).await;
    right.expect_connected(world.id(0)).await;
    ping_pong((&mut left, world.id(0)), (&mut right, world.id(1))).await;
}

#[test]
fn a_peer_that_was_killed_and_returns_is_connected_long_before_its_silence_is_noticed() {
    // Whichever of them decides which connection stays.
    for (ours, theirs) in [(0, 1), (1, 0)] {
        kill_and_return(ours, theirs);
    }
}

fn kill_and_return(ours: usize, theirs: usize) {
    let world = World::of(2);
    let (us, them) = (world.id(ours), world.id(theirs));
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    let (our_time, second_life) = (runtime(), runtime());
    // On one thread, so that nothing can say goodbye while the rest is being dropped.
    let first_life = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let first_life = first_life.expect("a runtime");
    let mut node = our_time.block_on(world.start(ours));
    let mut peer = first_life.block_on(world.start(theirs));
    first_life.block_on(async {
        tokio::join!(node.expect_connected(them), peer.expect_connected(us));
        settled(&node, &peer).await;
    });

    // Nothing of it runs any more, and no goodbye is sent.
    first_life.shutdown_background();
    drop(peer);
    let killed = Instant::now();
    let mut peer = second_life.block_on(world.start(theirs));
    let reason = our_time.block_on(node.expect_disconnected(them));
    assert!(reason.contains("restarted"), "{reason}");
    our_time.block_on(node.expect_connected(them));
    second_life.block_on(peer.expect_connected(us));

    assert!(killed.elapsed() < IDLE_TIMEOUT / 2, "it took {:?}", killed.elapsed());
    assert_eq!(node.state(them).alarm, None, "there never were two live runs");
    our_time.block_on(ping_pong((&mut node, us), (&mut peer, them)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_live_runs_of_one_node_the_first_is_kept_until_it_ends() {
    let world = World::of(2);
    let (mut node, mut first) = world.start_pair().await;

    let mut second = world.start_at(1, any_port()).await;
    second.until_error(world.id(0), "is kept").await;
    node.until_peer(world.id(1), |state| state.alarm.is_some()).await;
    let alarm = node.state(world.id(1)).alarm.expect("an alarm");
    assert!(alarm.starts_with("another run of n1"), "{alarm}");
    ping_pong((&mut node, world.id(0)), (&mut first, world.id(1))).await;
    assert!(!second.state(world.id(0)).connected);

    first.transport.close("the first ends").await;
    node.expect_disconnected(world.id(1)).await;
    node.expect_connected(world.id(1)).await;
    second.expect_connected(world.id(0)).await;
    ping_pong((&mut node, world.id(0)), (&mut second, world.id(1))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_run_is_an_alarm_only_once_the_first_has_shown_that_it_lives() {
    let world = World::of(2);
    let mut node = world.start(0).await;
    let first = world.dial_by_hand(1, &node).await;
    let (mut send, mut receive) = world.greet_by_hand(1, 0, &first).await;
    node.expect_connected(world.id(1)).await;

    // The first may have been killed: that a second one comes proves nothing yet.
    let second = world.dial_by_hand(1, &node).await;
    let _control = say(&world.greeting(1, 0), &second).await;
    let reason = reason_of_close(&second).await;
    assert!(reason.contains("is kept"), "{reason}");
    assert_eq!(next_beside_times(&mut receive).await, control::ARE_YOU_ALIVE);
    assert_eq!(node.state(world.id(1)).alarm, None);

    send.write_all(&[control::ALIVE]).await.expect("sent");
    node.until_peer(world.id(1), |state| state.alarm.is_some()).await;
    assert!(first.close_reason().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_disconnected_for_a_violation_learns_why_and_may_return() {
    let world = World::of(2);
    let (mut left, mut right) = world.start_pair().await;

    left.transport.disconnect(world.id(1), "an entry with a wrong digest");
    assert_eq!(left.expect_disconnected(world.id(1)).await, "an entry with a wrong digest");
    let reason = right.expect_disconnected(world.id(0)).await;
    assert_eq!(reason, "closed by the peer: an entry with a wrong digest");
    left.expect_connected(world.id(1)).await;
    right.expect_connected(world.id(0)).await;
    ping_pong((&mut left, world.id(0)), (&mut right, world.id(1))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sending_to_a_peer_that_reads_nothing_drops_and_counts_instead_of_waiting() {
    let world = World::of(2);
    let mut node = world.start(0).await;
    let connection = world.dial_by_hand(1, &node).await;
    let _control = world.greet_by_hand(1, 0, &connection).await;
    node.expect_connected(world.id(1)).await;

    // Windows and queue hold some 24 MiB; this is far more.
    for _ in 0..200 {
        node.transport.send(world.id(1), space("main"), vec![0; 1024 * 1024]);
    }
    let dropped = node.state(world.id(1)).dropped_frames;
    assert!((100..200).contains(&dropped), "{dropped} frames were dropped");
    assert!(node.state(world.id(1)).connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_refused_by_its_address() {
    let world = World::of(1);
    let node = world.start(0).await;
    let address = node.transport.local_addr();
    let Err(error) = world.bind(0, address, Arc::clone(&world.cluster)) else {
        panic!("{address} was bound twice")
    };
    assert!(matches!(error, TransportError::InUse(named) if named == address), "{error}");
    assert!(error.hint().expect("a hint").contains("WARBLER_QUIC_LISTEN"));

    let elsewhere = "192.0.2.1:7421".parse().expect("an address");
    let Err(error) = world.bind(0, elsewhere, Arc::clone(&world.cluster)) else {
        panic!("{elsewhere} was bound")
    };
    assert!(matches!(error, TransportError::Listen { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_two_runs_nobody_is_connected_and_then_peers_meet_the_new_run() {
    let world = World::of(2);
    let (mut left, mut right) = world.start_pair().await;

    left.transport.pause("its store is closed");
    assert_eq!(left.expect_disconnected(world.id(1)).await, "its store is closed");
    let reason = right.expect_disconnected(world.id(0)).await;
    assert_eq!(reason, "closed by the peer: its store is closed");
    right.until_error(world.id(0), "is opening its store again").await;
    assert!(!left.state(world.id(1)).connected && !right.state(world.id(0)).connected);

    left.transport.resume(world::origin());
    left.expect_connected(world.id(1)).await;
    right.expect_connected(world.id(0)).await;
    ping_pong((&mut left, world.id(0)), (&mut right, world.id(1))).await;
    for (node, peer) in [(&left, world.id(1)), (&right, world.id(0))] {
        assert_eq!(node.state(peer).alarm, None, "there never were two live runs");
    }
}

/// A greeting takes round trips, and the run may be over before its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_greeted_in_the_name_of_an_ended_run_is_not_taken() {
    let world = World::of(2);
    let mut node = world.start(0).await;
    let connection = world.dial_by_hand(1, &node).await;
    let greeting = world.greeting(1, 0);
    let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
    send.write_all(&greeting.encode()).await.expect("sent");
    // It has greeted and waits for our agreement.
    let mut header = [0; warbler_replication::greeting::HEADER_BYTES];
    receive.read_exact(&mut header).await.expect("its greeting");
    node.transport.pause("its store is closed");
    node.transport.resume(world::origin());
    send.write_all(&[control::AGREED]).await.expect("sent");
    let reason = reason_of_close(&connection).await;
    assert!(reason.contains("is opening its store again"), "{reason}");

    // The next one is greeted in the name of the new run.
    let again = world.dial_by_hand(1, &node).await;
    let _control = world.greet_by_hand(1, 0, &again).await;
    node.expect_connected(world.id(1)).await;
}

/// The next byte on a control stream that is not a time.
async fn next_beside_times(receive: &mut quinn::RecvStream) -> u8 {
    loop {
        let mut byte = [0];
        receive.read_exact(&mut byte).await.expect("a byte");
        if byte != [control::THE_TIME_IS] {
            return byte[0];
        }
        receive.read_exact(&mut [0; clock::BYTES]).await.expect("a time");
    }
}
