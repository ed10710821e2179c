//! One direction of a path: which packets get through, and when.
//!
//! Responsible for delay, jitter, loss, duplication, bandwidth and the bounded queue of one direction. It must not know of
//! sockets or tasks: time and the seed are arguments. Invariant: without jitter packets leave in the order they came in,
//! and never earlier than the configured delay after it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

/// The most memory that one direction may hold, in bytes: packets that wait and packets under way.
/// Enough for 200 MB/s at a one-way delay of 300 ms.
const MAX_HELD: usize = 64 << 20;

/// What a packet is counted as beyond its bytes, so that empty packets are bounded too.
const PACKET_COST: usize = 64;

/// How one direction of a path treats packets.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// How long each packet takes, at least.
    pub delay: Duration,
    /// Up to so much is added to the delay of each packet, evenly spread. More than zero reorders.
    pub jitter: Duration,
    /// The share of packets that are lost, 0.0 to 1.0.
    pub loss: f64,
    /// The share of packets that arrive twice, 0.0 to 1.0. The copy has a jitter of its own.
    pub duplication: f64,
    /// Bytes a second; `None` is without limit.
    pub bandwidth: Option<u64>,
    /// Bytes that may wait for the bandwidth; what comes beyond is dropped, as routers do. Without a bandwidth nothing waits.
    pub queue: usize,
}

impl Shape {
    /// A clean path that only takes time: `delay` one way.
    pub fn delayed(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            loss: 0.0,
            duplication: 0.0,
            bandwidth: None,
            queue: 1 << 20,
        }
    }
}

/// What has passed one direction so far. Bytes are UDP payload: no UDP, IP or Ethernet headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets that the sender put on the wire.
    pub sent_packets: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Packets handed to the receiver, copies included.
    pub delivered_packets: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Packets that were lost: by chance, by a full queue, or because the direction was cut.
    pub dropped_packets: u64,
}

/// What to do next about a pipe.
pub(crate) enum Next<T> {
    /// Hand this packet over now.
    Deliver(T, Vec<u8>),
    /// Ask again then, or when something was put in.
    WaitUntil(Instant),
    /// Nothing is under way.
    Idle,
}

/// One direction of a path. `T` says where a packet goes when it leaves.
pub(crate) struct Pipe<T> {
    shape: Shape,
    rng: ChaCha8Rng,
    cut: bool,
    /// When the last packet that was let in has passed the bandwidth.
    free_at: Option<Instant>,
    under_way: BinaryHeap<Reverse<Packet<T>>>,
    next_number: u64,
    held: usize,
    traffic: Traffic,
}

struct Packet<T> {
    due: Instant,
    number: u64,
    to: T,
    payload: Vec<u8>,
}

impl<T: Clone> Pipe<T> {
    pub(crate) fn new(shape: Shape, seed: u64) -> Self {
        Self {
            shape,
            rng: ChaCha8Rng::seed_from_u64(seed),
            cut: false,
            free_at: None,
            under_way: BinaryHeap::new(),
            next_number: 0,
            held: 0,
            traffic: Traffic::default(),
        }
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Changes how packets are treated from now on; those under way keep their times.
    pub(crate) fn reshape(&mut self, shape: Shape) {
        self.shape = shape;
    }

    /// Nothing gets through from now on, also of what is under way.
    pub(crate) fn cut(&mut self) {
        self.cut = true;
        self.traffic.dropped_packets += self.under_way.len() as u64;
        self.under_way.clear();
        self.held = 0;
        self.free_at = None;
    }

    /// Packets get through again.
    pub(crate) fn heal(&mut self) {
        self.cut = false;
    }

    /// A packet came in from the sender.
    pub(crate) fn put(&mut self, now: Instant, to: T, payload: &[u8]) {
        self.traffic.sent_packets += 1;
        self.traffic.sent_bytes += payload.len() as u64;
        // Drawn for each packet, whatever happens to it: one path's fate does not shift that of later packets.
        let lost = self.rng.random_bool(self.shape.loss.clamp(0.0, 1.0));
        let doubled = self.rng.random_bool(self.shape.duplication.clamp(0.0, 1.0));
        let jitters = [self.rng.random::<f64>(), self.rng.random::<f64>()];

        let cost = payload.len() + PACKET_COST;
        if self.cut || lost || self.held + cost > MAX_HELD {
            self.traffic.dropped_packets += 1;
            return;
        }
        let Some(leaves) = self.pass_bandwidth(now, payload.len()) else {
            self.traffic.dropped_packets += 1;
            return;
        };
        let copies = if doubled && self.held + 2 * cost <= MAX_HELD { 2 } else { 1 };
        for jitter in jitters.into_iter().take(copies) {
            let due = leaves + self.shape.delay + self.shape.jitter.mul_f64(jitter);
            let number = self.next_number;
            self.next_number += 1;
            self.held += cost;
            let packet = Packet { due, number, to: to.clone(), payload: payload.to_vec() };
            self.under_way.push(Reverse(packet));
        }
    }

    /// When a packet of this length that came in `now` has passed the bandwidth; `None` when the queue is full.
    fn pass_bandwidth(&mut self, now: Instant, len: usize) -> Option<Instant> {
        let Some(bandwidth) = self.shape.bandwidth else {
            return Some(now);
        };
        let bandwidth = bandwidth.max(1) as f64;
        let starts = self.free_at.map_or(now, |free| free.max(now));
        let waiting = (starts - now).as_secs_f64() * bandwidth;
        if waiting + len as f64 > self.shape.queue as f64 {
            return None;
        }
        let leaves = starts + Duration::from_secs_f64(len as f64 / bandwidth);
        self.free_at = Some(leaves);
        Some(leaves)
    }

    /// The next packet that is due, or how long there is none.
    pub(crate) fn next(&mut self, now: Instant) -> Next<T> {
        match self.under_way.peek() {
            None => Next::Idle,
            Some(Reverse(packet)) if packet.due > now => Next::WaitUntil(packet.due),
            Some(_) => {
                let Some(Reverse(packet)) = self.under_way.pop() else {
                    return Next::Idle;
                };
                self.held -= packet.payload.len() + PACKET_COST;
                self.traffic.delivered_packets += 1;
                self.traffic.delivered_bytes += packet.payload.len() as u64;
                Next::Deliver(packet.to, packet.payload)
            }
        }
    }
}

// Ordered by time, then by arrival: equal times keep their order.
impl<T> Ord for Packet<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl<T> PartialOrd for Packet<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Packet<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Packet<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Everything that is due at `now`, as (number in the payload).
    fn due(pipe: &mut Pipe<()>, now: Instant) -> Vec<u8> {
        let mut seen = Vec::new();
        while let Next::Deliver((), payload) = pipe.next(now) {
            seen.push(payload[0]);
        }
        seen
    }

    fn all_of(shape: Shape, seed: u64) -> (Vec<u8>, Traffic) {
        let start = Instant::now();
        let mut pipe = Pipe::new(shape, seed);
        for number in 0..200 {
            // Ten at once each time: also those keep their order.
            pipe.put(start + MS * u32::from(number / 10), (), &[number]);
        }
        let seen = due(&mut pipe, start + Duration::from_secs(60));
        (seen, pipe.traffic())
    }

    #[test]
    fn a_packet_is_due_exactly_after_the_delay() {
        let start = Instant::now();
        let mut pipe = Pipe::new(Shape::delayed(20 * MS), 1);
        pipe.put(start, (), &[7]);

        assert!(due(&mut pipe, start + 20 * MS - Duration::from_nanos(1)).is_empty());
        assert!(matches!(pipe.next(start), Next::WaitUntil(at) if at == start + 20 * MS));
        assert_eq!(due(&mut pipe, start + 20 * MS), [7]);
        assert!(matches!(pipe.next(start), Next::Idle));
    }

    #[test]
    fn without_jitter_packets_keep_their_order_and_with_it_they_do_not() {
        let in_order: Vec<u8> = (0..200).collect();
        let (seen, _) = all_of(Shape::delayed(20 * MS), 1);
        assert_eq!(seen, in_order);

        let (mut seen, _) = all_of(Shape { jitter: 30 * MS, ..Shape::delayed(20 * MS) }, 1);
        assert_ne!(seen, in_order);
        seen.sort_unstable();
        assert_eq!(seen, in_order);
    }

    #[test]
    fn loss_and_duplication_follow_the_seed_and_are_counted() {
        let shape = Shape { loss: 0.25, duplication: 0.25, ..Shape::delayed(MS) };
        let (seen, traffic) = all_of(shape.clone(), 7);
        assert_eq!(
            all_of(shape.clone(), 7),
            (seen.clone(), traffic),
            "the same seed, the same fate"
        );
        assert_ne!(all_of(shape, 8).0, seen);

        let mut once = seen.clone();
        once.dedup();
        assert!((120..180).contains(&once.len()), "{} of 200 arrived", once.len());
        assert!(seen.len() - once.len() > 15, "{} came twice", seen.len() - once.len());
        assert_eq!(traffic.sent_packets, 200);
        assert_eq!(traffic.dropped_packets, 200 - once.len() as u64);
        assert_eq!(traffic.delivered_packets, seen.len() as u64);
        assert_eq!(traffic.delivered_bytes, seen.len() as u64);
    }

    #[test]
    fn bandwidth_spaces_packets_and_a_full_queue_drops() {
        let start = Instant::now();
        let shape = Shape { bandwidth: Some(1_000), queue: 400, ..Shape::delayed(Duration::ZERO) };
        let mut pipe = Pipe::new(shape, 1);
        for number in 0..6 {
            pipe.put(start, (), &[number; 100]);
        }
        // 100 bytes at 1,000 bytes a second: one each 100 ms, and only four fit.
        assert_eq!(due(&mut pipe, start + 99 * MS), [] as [u8; 0]);
        assert_eq!(due(&mut pipe, start + 100 * MS), [0]);
        assert_eq!(due(&mut pipe, start + 1_000 * MS), [1, 2, 3]);
        assert_eq!(pipe.traffic().dropped_packets, 2);
        // The link has been idle since: the next packet does not wait.
        pipe.put(start + 1_000 * MS, (), &[9; 100]);
        assert_eq!(due(&mut pipe, start + 1_100 * MS), [9]);
    }

    #[test]
    fn a_cut_loses_what_is_under_way_and_a_heal_lets_later_packets_through() {
        let start = Instant::now();
        let mut pipe = Pipe::new(Shape::delayed(20 * MS), 1);
        pipe.put(start, (), &[1]);
        pipe.cut();
        pipe.put(start, (), &[2]);
        assert!(matches!(pipe.next(start + 100 * MS), Next::Idle));
        pipe.heal();
        pipe.put(start, (), &[3]);
        assert_eq!(due(&mut pipe, start + 100 * MS), [3]);
        assert_eq!(pipe.traffic().dropped_packets, 2);
    }

    #[test]
    fn memory_is_bounded_when_nobody_takes_packets_out() {
        let start = Instant::now();
        let mut pipe = Pipe::new(Shape::delayed(Duration::from_secs(3_600)), 1);
        let packet = vec![0; 60_000];
        for _ in 0..2_000 {
            pipe.put(start, (), &packet);
        }
        assert!(pipe.held <= MAX_HELD);
        assert_eq!(pipe.under_way.len(), MAX_HELD / (packet.len() + PACKET_COST));
    }
}
