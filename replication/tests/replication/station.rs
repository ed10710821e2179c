//! A node of the world: a replicator with a disk that writes when it is told to.
//!
//! It must not know other stations. Invariants: outputs are noted in the order in which they
//! came; what is published was causally complete; nothing leaves before it is on disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use warbler_replication::frame::Frame;
use warbler_replication::replicator::{
    Alarm, Command, CommandId, Durability, Now, Outcome, Output, Replicator, Roster,
};
use warbler_store::engine::{Engine, MemoryEngine};
use warbler_store::entropy::Entropy;
use warbler_store::id::{Identity, Millis, NodeId, OriginId, SpaceId};
use warbler_store::name::Name;
use warbler_store::overlay::Ticket;
use warbler_store::reader::{Range, Reader};
use warbler_store::record::ContentType;
use warbler_store::replica::{NewMessage, Placing, Replica, Sealed, Writer};

/// The time at which worlds begin: 2026-01-01.
const NOON: Millis = 1_767_225_600_000;
const DOCUMENT_CACHE_BYTES: usize = 64 << 20;

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn space() -> SpaceId {
    SpaceId::of(&name("main"))
}

pub(crate) fn at(elapsed: Millis) -> Now {
    Now { wall: NOON + elapsed, elapsed }
}

/// What `ada` posts in `general`.
pub(crate) fn says(text: &str) -> NewMessage {
    NewMessage {
        conversation: name("general"),
        author: name("ada"),
        body: text.as_bytes().to_vec(),
        content_type: ContentType::default(),
        reply_to: None,
        thread: None,
        placing: Placing::Now,
        key: None,
    }
}

/// An output, as far as stories ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Persist(Ticket),
    Entries(NodeId),
    Vector(NodeId),
    Other(NodeId),
    Publish(Ticket),
    Answer(CommandId),
    Disconnect(NodeId, String),
}

pub(crate) struct Station {
    pub(crate) id: NodeId,
    region: Name,
    runs: u8,
    pub(crate) disk: MemoryEngine,
    pub(crate) replicator: Replicator,
    pub(crate) reader: Reader,
    pub(crate) roster: Roster,
    /// When the replicator wants to be woken.
    pub(crate) wake: Millis,
    /// Batches that wait for the disk.
    pub(crate) unwritten: VecDeque<Arc<Sealed>>,
    /// Whether the disk hangs.
    pub(crate) holds_writes: bool,
    pub(crate) said: Vec<Said>,
    pub(crate) answers: BTreeMap<CommandId, Outcome>,
    pub(crate) alarms: Vec<Alarm>,
    published: BTreeSet<Identity>,
    last_command: u64,
}

/// What a station wants from the world.
#[derive(Default)]
pub(crate) struct Wants {
    pub(crate) frames: Vec<(NodeId, Vec<u8>)>,
    pub(crate) disconnects: Vec<NodeId>,
}

fn origin(id: NodeId, runs: u8) -> OriginId {
    let mut origin = [id.0[0]; 16];
    origin[1] = runs;
    OriginId(origin)
}

fn open(disk: &MemoryEngine, (id, region): (NodeId, &Name), origin: OriginId) -> Replica {
    let writer = Writer { node: id, region: region.clone(), origin, started: NOON };
    let seed = blake3::Hasher::new().update(&origin.0).update(&id.0).finalize();
    let entropy = Entropy::from_seed(*seed.as_bytes());
    let engine = Arc::new(disk.clone());
    Replica::open(engine, &name("main"), writer, entropy, DOCUMENT_CACHE_BYTES).expect("opens")
}

impl Station {
    pub(crate) fn new(id: NodeId, region: &str, roster: Roster) -> Self {
        Self::on(MemoryEngine::new(), id, region, roster, origin(id, 0))
    }

    /// A station on a disk that another may have written.
    pub(crate) fn on(
        disk: MemoryEngine,
        id: NodeId,
        region: &str,
        roster: Roster,
        origin: OriginId,
    ) -> Self {
        let region = name(region);
        let replica = open(&disk, (id, &region), origin);
        Self {
            id,
            region,
            runs: 0,
            replicator: Replicator::new(replica, roster.clone()),
            reader: Reader::new(Arc::new(disk.clone()), space()),
            disk,
            roster,
            wake: Millis::MAX,
            unwritten: VecDeque::new(),
            holds_writes: false,
            said: Vec::new(),
            answers: BTreeMap::new(),
            alarms: Vec::new(),
            published: BTreeSet::new(),
            last_command: 0,
        }
    }

    /// Ends the run without a word and begins the next, under a new origin.
    pub(crate) fn restart(&mut self) {
        self.runs += 1;
        self.disk.crash();
        let replica = open(&self.disk, (self.id, &self.region), origin(self.id, self.runs));
        self.replicator = Replicator::new(replica, self.roster.clone());
        self.unwritten.clear();
        self.wake = Millis::MAX;
    }

    pub(crate) fn command(&mut self, now: Now, command: Command) -> CommandId {
        self.last_command += 1;
        let id = CommandId(self.last_command);
        self.replicator.handle_command(now, id, command);
        id
    }

    pub(crate) fn post(
        &mut self,
        now: Now,
        message: NewMessage,
        wait: (usize, Millis),
    ) -> CommandId {
        let durability = Durability { regions: wait.0, wait: wait.1 };
        self.command(now, Command::Post { message, durability })
    }

    /// Writes the oldest batch that waits.
    pub(crate) fn write(&mut self, now: Now) {
        let sealed = self.unwritten.pop_front().expect("a batch waits for the disk");
        self.disk.persist(&sealed.batch).expect("persists");
        self.replicator.handle_written(now, sealed.ticket);
    }

    /// Ends the batch and carries out all outputs.
    pub(crate) fn drain(&mut self, now: Now) -> Wants {
        self.replicator.handle_idle(now);
        let mut wants = Wants::default();
        loop {
            match self.replicator.poll_output() {
                Output::Persist(sealed) => {
                    assert!(self.unwritten.is_empty(), "one batch at a time");
                    self.said.push(Said::Persist(sealed.ticket));
                    self.unwritten.push_back(sealed);
                }
                Output::Send { peer, frame } => {
                    self.said.push(self.sent(peer, &frame));
                    wants.frames.push((peer, frame));
                }
                Output::Answer { command, outcome } => {
                    self.said.push(Said::Answer(command));
                    self.answers.insert(command, outcome);
                }
                Output::Publish(sealed) => {
                    self.said.push(Said::Publish(sealed.ticket));
                    self.publish(&sealed);
                }
                Output::Disconnect { peer, reason } => {
                    self.said.push(Said::Disconnect(peer, reason));
                    wants.disconnects.push(peer);
                }
                Output::Alarm(alarm) => self.alarms.push(alarm),
                Output::Failed(error) => panic!("the replica of {} failed: {error}", self.region),
                Output::WakeAt(wake) => {
                    self.wake = wake;
                    return wants;
                }
            }
        }
    }

    /// Checks that what leaves is on disk: entries, and what a vector claims.
    fn sent(&self, peer: NodeId, frame: &[u8]) -> Said {
        let durable = self.reader.vector().expect("reads");
        match Frame::decode(frame).expect("own frame") {
            Frame::Entries(parcels) => {
                let all = parcels.iter().all(|parcel| durable.get(parcel.origin) >= parcel.seq);
                assert!(all, "entries were sent before they were on disk");
                Said::Entries(peer)
            }
            Frame::Vector { held, .. } => {
                let all = held.iter().all(|held| durable.get(held.origin) >= held.seq);
                assert!(all, "entries were acknowledged before they were on disk");
                Said::Vector(peer)
            }
            Frame::Heartbeat { .. }
            | Frame::AskVector
            | Frame::Pull { .. }
            | Frame::PullEnd { .. } => Said::Other(peer),
        }
    }

    /// Notes what followers are shown, and checks that no answer comes before its message.
    fn publish(&mut self, sealed: &Sealed) {
        for message in sealed.applied.iter().flat_map(|applied| &applied.messages) {
            let answered = message.header.reply_to;
            let shown = answered.is_none_or(|answered| self.published.contains(&answered));
            assert!(shown, "an answer is shown before its message");
            self.published.insert(message.identity);
        }
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        let page = self.reader.page(&name("general"), Range::Last, 100_000);
        let text = |body| String::from_utf8(body).expect("words");
        page.map_or_else(
            |_| Vec::new(),
            |page| page.messages.into_iter().map(|message| text(message.body)).collect(),
        )
    }
}
