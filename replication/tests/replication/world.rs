//! The world: stations by name, links that can be cut, frames that can be lost, virtual time.
//!
//! It must not look into stations but for what they show. Invariant: a run is a function of what
//! the story does.

use std::collections::{BTreeMap, BTreeSet};

use warbler_replication::frame::Frame;
use warbler_replication::greeting::PROTOCOL_VERSION;
use warbler_replication::replicator::{Alarm, Command, CommandId, Outcome, Roster};
use warbler_store::id::{MessageId, Millis, NodeId};
use warbler_store::replica::{NewMessage, Point};

use crate::station::{Said, Station, Wants, at, name, says};

/// How long a frame takes.
const LATENCY: Millis = 20;
/// How long a write takes.
const DISK: Millis = 2;

#[derive(Debug)]
enum Event {
    Frame { from: NodeId, to: NodeId, connection: u64, bytes: Vec<u8> },
    Write(NodeId, u64),
}

pub(crate) struct World {
    pub(crate) now: Millis,
    pub(crate) stations: BTreeMap<NodeId, Station>,
    names: BTreeMap<&'static str, NodeId>,
    /// The number of each connection that is up.
    links: BTreeMap<(NodeId, NodeId), u64>,
    connections: u64,
    events: BTreeMap<(Millis, u64), Event>,
    last_event: u64,
    /// How long frames take on links that are slower than the others.
    latencies: BTreeMap<(NodeId, NodeId), Millis>,
    /// The protocol versions of stations that do not speak the latest.
    pub(crate) speaks: BTreeMap<NodeId, u16>,
    /// Frames of entries to lose, by sender and receiver.
    to_lose: BTreeMap<(NodeId, NodeId), usize>,
    /// If not 0: where doubling, loss and reordering are drawn from.
    pub(crate) unrest: u64,
    /// Frames of each kind that were sent, by sender and receiver.
    pub(crate) sent: Vec<(NodeId, NodeId, Vec<u8>)>,
}

pub(crate) fn minutes(minutes: u64) -> Millis {
    minutes * 60_000
}

impl World {
    /// Stations, each in a region of its own name, all connected; the first has created
    /// `general`.
    pub(crate) fn of<const N: usize>(names: [&'static str; N]) -> Self {
        let mut world = Self::apart(names);
        for (place, one) in names.iter().enumerate() {
            for other in &names[..place] {
                world.connect(one, other);
            }
        }
        world.create(names[0]);
        world.settle();
        world
    }

    /// Stations that are not connected, with nothing in them.
    pub(crate) fn apart<const N: usize>(names: [&'static str; N]) -> Self {
        let ids: BTreeMap<_, _> =
            names.iter().zip(1..).map(|(name, id)| (*name, NodeId([id; 32]))).collect();
        let roster = Roster {
            regions: names.iter().map(|region| name(region)).collect(),
            nodes: ids.iter().map(|(region, id)| (*id, name(region))).collect(),
        };
        let station = |(region, id): (&&'static str, &NodeId)| {
            (*id, Station::new(*id, region, roster.clone()))
        };
        Self {
            now: 1_000,
            stations: ids.iter().map(station).collect(),
            names: ids,
            links: BTreeMap::new(),
            connections: 0,
            events: BTreeMap::new(),
            last_event: 0,
            latencies: BTreeMap::new(),
            speaks: BTreeMap::new(),
            to_lose: BTreeMap::new(),
            unrest: 0,
            sent: Vec::new(),
        }
    }

    pub(crate) fn id(&self, name: &str) -> NodeId {
        self.names[name]
    }

    pub(crate) fn at(&mut self, name: &str) -> &mut Station {
        let id = self.id(name);
        self.stations.get_mut(&id).expect("a station of that name")
    }

    pub(crate) fn connect(&mut self, one: &str, other: &str) {
        let (one, other) = (self.id(one), self.id(other));
        self.connections += 1;
        self.links.insert(pair(one, other), self.connections);
        let speaks = |id| self.speaks.get(&id).copied().unwrap_or(PROTOCOL_VERSION);
        let version = speaks(one).min(speaks(other));
        for (here, there) in [(one, other), (other, one)] {
            self.input(here, |station, now| {
                station.replicator.handle_connected(now, there, version);
            });
        }
    }

    pub(crate) fn cut(&mut self, one: &str, other: &str) {
        self.cut_ids(self.id(one), self.id(other));
    }

    fn cut_ids(&mut self, one: NodeId, other: NodeId) {
        if self.links.remove(&pair(one, other)).is_some() {
            for (here, there) in [(one, other), (other, one)] {
                self.input(here, |station, now| station.replicator.handle_disconnected(now, there));
            }
        }
    }

    pub(crate) fn is_connected(&self, one: &str, other: &str) -> bool {
        self.links.contains_key(&pair(self.id(one), self.id(other)))
    }

    /// Cuts the power of a station and starts it again; its links stay down.
    pub(crate) fn restart(&mut self, name: &str) {
        let id = self.id(name);
        self.stations.get_mut(&id).expect("a station").restart();
        let peers: Vec<NodeId> = self.stations.keys().copied().filter(|peer| *peer != id).collect();
        for peer in peers {
            if self.links.remove(&pair(id, peer)).is_some() {
                self.input(peer, |station, now| station.replicator.handle_disconnected(now, id));
            }
        }
        self.input(id, |_, _| {});
    }

    /// Gives a station an input and carries out what it wants.
    pub(crate) fn input<T>(
        &mut self,
        id: NodeId,
        give: impl FnOnce(&mut Station, warbler_replication::replicator::Now) -> T,
    ) -> T {
        let now = at(self.now);
        let station = self.stations.get_mut(&id).expect("a station");
        let given = give(station, now);
        let waiting = station.unwritten.len();
        let Wants { frames, disconnects } = station.drain(now);
        if station.unwritten.len() > waiting {
            let ticket = station.unwritten[waiting].ticket;
            self.push(self.now + DISK, Event::Write(id, ticket));
        }
        for (to, bytes) in frames {
            self.send(id, to, bytes);
        }
        for peer in disconnects {
            self.cut_ids(id, peer);
        }
        given
    }

    fn push(&mut self, when: Millis, event: Event) {
        self.last_event += 1;
        self.events.insert((when, self.last_event), event);
    }

    fn send(&mut self, from: NodeId, to: NodeId, bytes: Vec<u8>) {
        let Some(connection) = self.links.get(&pair(from, to)).copied() else { return };
        self.sent.push((from, to, bytes.clone()));
        let is_entries = matches!(Frame::decode(&bytes), Ok(Frame::Entries(_)));
        let lost = self.to_lose.get_mut(&(from, to)).filter(|left| is_entries && **left > 0);
        if let Some(left) = lost {
            *left -= 1;
            return;
        }
        let frame = |bytes| Event::Frame { from, to, connection, bytes };
        let latency = self.latencies.get(&pair(from, to)).copied().unwrap_or(LATENCY);
        match self.draw() % 8 {
            1 => {}
            2 => {
                self.push(self.now + latency, frame(bytes.clone()));
                self.push(self.now + 3 * latency, frame(bytes));
            }
            3 => self.push(self.now + 9 * latency, frame(bytes)),
            _ => self.push(self.now + latency, frame(bytes)),
        }
    }

    /// A number that the unrest determines; 0 while all is calm.
    fn draw(&mut self) -> u64 {
        if self.unrest != 0 {
            // Xorshift, after Marsaglia (2003).
            self.unrest ^= self.unrest << 13;
            self.unrest ^= self.unrest >> 7;
            self.unrest ^= self.unrest << 17;
        }
        self.unrest >> 20
    }

    /// A frame that `from` never sent.
    pub(crate) fn inject(&mut self, from: &str, to: &str, bytes: Vec<u8>) {
        let (from, to) = (self.id(from), self.id(to));
        self.input(to, |station, now| station.replicator.handle_frame(now, from, &bytes));
    }

    /// From now on frames between the two take so long.
    pub(crate) fn slow_down(&mut self, one: &str, other: &str, latency: Millis) {
        self.latencies.insert(pair(self.id(one), self.id(other)), latency);
    }

    /// The next frame of entries from one to the other is lost.
    pub(crate) fn drop_next(&mut self, from: &str, to: &str) {
        *self.to_lose.entry((self.id(from), self.id(to))).or_default() += 1;
    }

    pub(crate) fn create(&mut self, node: &str) {
        let id = self.id(node);
        let general = name("general");
        self.input(id, |station, now| station.command(now, Command::Create { name: general }));
    }

    /// Posts, and waits until it is acknowledged at durability 1.
    pub(crate) fn post(&mut self, node: &str, text: &str) -> MessageId {
        self.post_message(node, says(text))
    }

    pub(crate) fn post_message(&mut self, node: &str, message: NewMessage) -> MessageId {
        let command = self.ask(node, message, (1, 0));
        self.run_until("the post is acknowledged", |world| {
            world.at(node).answers.contains_key(&command)
        });
        let outcome = &self.at(node).answers[&command];
        let Outcome::Posted { posted, .. } = outcome else { panic!("{outcome:?}") };
        posted.id
    }

    /// Posts at a durability, with a time to wait, and goes on at once.
    pub(crate) fn ask(
        &mut self,
        node: &str,
        message: NewMessage,
        wait: (usize, Millis),
    ) -> CommandId {
        let id = self.id(node);
        self.input(id, |station, now| station.post(now, message, wait))
    }

    /// Makes a station's disk hang, or go on.
    pub(crate) fn hold_writes(&mut self, node: &str, holds: bool) {
        let now = self.now;
        let id = self.id(node);
        let station = self.at(node);
        station.holds_writes = holds;
        if let Some(sealed) = station.unwritten.front().filter(|_| !holds) {
            let ticket = sealed.ticket;
            self.push(now + DISK, Event::Write(id, ticket));
        }
    }

    /// Does what is next. False if that lies behind `until`.
    fn step(&mut self, until: Millis) -> bool {
        let wake = self.stations.iter().map(|(id, station)| (station.wake, *id)).min();
        let (wake, sleeper) = wake.expect("there are stations");
        let event = self.events.first_key_value().map(|((when, _), _)| *when);
        let next = event.unwrap_or(Millis::MAX).min(wake);
        if next > until {
            self.now = self.now.max(until);
            return false;
        }
        self.now = self.now.max(next);
        if event.is_some_and(|when| when <= wake) {
            let (_, event) = self.events.pop_first().expect("was looked at");
            self.happen(event);
        } else {
            self.input(sleeper, |station, now| station.replicator.handle_wake(now));
            let wake = self.stations[&sleeper].wake;
            assert!(wake > self.now, "it wants to be woken at once, for ever");
        }
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Frame { from, to, connection, bytes } => {
                if self.links.get(&pair(from, to)) == Some(&connection) {
                    self.input(to, |station, now| {
                        station.replicator.handle_frame(now, from, &bytes);
                    });
                }
            }
            Event::Write(id, ticket) => self.input(id, |station, now| {
                let next = station.unwritten.front().map(|sealed| sealed.ticket);
                if next == Some(ticket) && !station.holds_writes {
                    station.write(now);
                }
            }),
        }
    }

    pub(crate) fn run_for(&mut self, span: Millis) {
        let until = self.now + span;
        while self.step(until) {}
    }

    /// Runs until it is so; ten minutes at most.
    pub(crate) fn run_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let until = self.now + minutes(10);
        while !is_so(self) {
            assert!(self.step(until), "not within ten minutes: {what}");
        }
    }

    /// Runs until all connected stations hold the same, and shows that only heartbeats flow then
    /// and that all show the same.
    pub(crate) fn settle(&mut self) {
        self.run_until("all hold the same", |world| world.is_settled());
        self.run_for(10_000);
        self.sent.clear();
        self.run_for(60_000);
        for (from, to, frame) in &self.sent {
            let frame = Frame::decode(frame).expect("own frame");
            let is_heartbeat = matches!(frame, Frame::Heartbeat { .. });
            assert!(is_heartbeat, "{from} still sends {to} {frame:?}");
        }
        let connected: BTreeSet<NodeId> =
            self.links.keys().flat_map(|(one, other)| [*one, *other]).collect();
        let points: Vec<Point> = connected.iter().map(|id| self.point(*id)).collect();
        assert!(points.windows(2).all(|pair| pair[0] == pair[1]), "they differ: {points:?}");
        let texts: Vec<_> = connected.iter().map(|id| self.stations[id].texts()).collect();
        assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "they differ: {texts:?}");
        self.sent.clear();
    }

    fn point(&self, id: NodeId) -> Point {
        self.stations[&id].replicator.replica().durable().clone()
    }

    fn is_settled(&self) -> bool {
        let even =
            |(one, other): &(NodeId, NodeId)| self.point(*one).vector == self.point(*other).vector;
        let idle = |station: &Station| {
            station.unwritten.is_empty() && !station.replicator.replica().has_work()
        };
        self.links.keys().all(even) && self.stations.values().all(idle)
    }

    pub(crate) fn texts(&self, node: &str) -> Vec<String> {
        self.stations[&self.id(node)].texts()
    }

    pub(crate) fn alarms(&self) -> Vec<&Alarm> {
        self.stations.values().flat_map(|station| &station.alarms).collect()
    }

    /// Why a station ended sessions.
    pub(crate) fn disconnects(&self, node: &str) -> Vec<&str> {
        let said = &self.stations[&self.id(node)].said;
        said.iter()
            .filter_map(|said| match said {
                Said::Disconnect(_, reason) => Some(reason.as_str()),
                Said::Persist(_)
                | Said::Entries(_)
                | Said::Vector(_)
                | Said::Other(_)
                | Said::Publish(_)
                | Said::Answer(_) => None,
            })
            .collect()
    }

    /// Frames from one to the other since the world last settled.
    pub(crate) fn frames(&self, from: &str, to: &str) -> Vec<Frame> {
        let (from, to) = (self.id(from), self.id(to));
        self.sent
            .iter()
            .filter(|(sender, receiver, _)| (*sender, *receiver) == (from, to))
            .map(|(_, _, frame)| Frame::decode(frame).expect("own frame"))
            .collect()
    }
}

fn pair(one: NodeId, other: NodeId) -> (NodeId, NodeId) {
    (one.min(other), one.max(other))
}
