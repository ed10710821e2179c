//! One space on one node: its replica, and a session with each connected peer.
//!
//! This file is the hub: it takes inputs, dispatches, and hands out outputs. Invariants: nothing
//! is acknowledged, pushed or shown before its batch is durable; frames may be lost, doubled or
//! late, and nothing but time is lost with them.

mod commands;
mod exchange;
mod pull;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use warbler_store::engine::EngineError;
use warbler_store::id::{Digest, Millis, NodeId, OriginId};
use warbler_store::name::Name;
use warbler_store::overlay::Ticket;
use warbler_store::replica::{Replica, ReplicaError, Sealed};

pub use commands::{Command, CommandId, Durability, Outcome, Reached};
pub use upkeep::{TrimPolicy, Upkeep};

use self::commands::Commands;
use crate::frame::Frame;
use crate::session::Session;

/// How often an idle session shows a sign of life, with the digests that P3 compares: 2 s.
pub const HEARTBEAT_MILLIS: Millis = 2_000;

/// The most damaged rows of which the operator is told in one run.
const MAX_DAMAGE: usize = 1024;

/// The time of an input: the wall clock, for ids; and a clock that never jumps, for deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the Unix epoch, as the node believes.
    pub wall: Millis,
    /// Milliseconds since some moment; never goes back.
    pub elapsed: Millis,
}

/// Who may hold the space: its regions, and the nodes in them.
#[derive(Debug, Clone)]
pub struct Roster {
    /// The space's regions.
    pub regions: Vec<Name>,
    /// The nodes of those regions, this one included.
    pub nodes: BTreeMap<NodeId, Name>,
}

impl Roster {
    /// Whether `node` of `region` may write in the space. A node that left the file is judged by
    /// its region: what it wrote stays.
    #[must_use]
    pub fn allows(&self, node: &NodeId, region: &Name) -> bool {
        let listed = self.nodes.get(node);
        self.regions.contains(region) && listed.is_none_or(|listed| listed == region)
    }
}

/// What a driver has to do.
#[derive(Debug)]
pub enum Output {
    /// Persist the batch, then call [`Replicator::handle_written`]. One at a time.
    Persist(Arc<Sealed>),
    /// Send a frame. It may be lost.
    Send {
        /// To whom.
        peer: NodeId,
        /// What.
        frame: Vec<u8>,
    },
    /// Answer a command.
    Answer {
        /// Which.
        command: CommandId,
        /// What became of it.
        outcome: Outcome,
    },
    /// Show followers what became durable.
    Publish(Arc<Sealed>),
    /// End the connection: the peer broke the protocol.
    Disconnect {
        /// Whose.
        peer: NodeId,
        /// What it did.
        reason: String,
    },
    /// Tell the operator.
    Alarm(Alarm),
    /// The replica cannot go on: open it again, under a new origin.
    Failed(ReplicaError),
    /// Nothing more to do; call [`Replicator::handle_wake`] at that time.
    WakeAt(Millis),
}

/// What an operator must know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Alarm {
    /// Two nodes hold the same entries and show different states (P3).
    #[error("the digest of peer {} differs at an equal version vector: {theirs}, here {ours}", peer.short())]
    Diverged {
        /// The peer.
        peer: NodeId,
        /// Its digest of the space.
        theirs: Digest,
        /// Ours.
        ours: Digest,
    },
    /// Two entries stand at one place of a log.
    #[error("peer {} holds another entry at {origin}/{seq}", peer.short())]
    Forked {
        /// The peer.
        peer: NodeId,
        /// Whose log.
        origin: OriginId,
        /// Where.
        seq: u64,
    },
    /// Rows that were to be sent to a peer are damaged. The node goes on; the peer may get them
    /// from another.
    #[error("{0}")]
    Damaged(String),
    /// An entry is held and cannot be applied here; the rest goes on.
    #[error("entry {origin}/{seq} is held and not applied: {why}")]
    Quarantined {
        /// Whose entry.
        origin: OriginId,
        /// Its seq.
        seq: u64,
        /// Why.
        why: String,
    },
    /// A peer asks for entries that were trimmed, since every node held them: it has lost them.
    #[error("peer {} lacks entries of {origin} that were trimmed here, up to {seq}", peer.short())]
    Trimmed {
        /// The peer.
        peer: NodeId,
        /// Whose entries.
        origin: OriginId,
        /// Up to where the log was trimmed.
        seq: u64,
    },
    /// An entry of a peer was refused.
    #[error("entry {origin}/{seq} from peer {} is refused: {why}", peer.short())]
    Refused {
        /// Who sent it.
        peer: NodeId,
        /// Whose entry.
        origin: OriginId,
        /// Its seq.
        seq: u64,
        /// Why.
        why: String,
    },
}

/// How a peer stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerProgress {
    /// The peer.
    pub peer: NodeId,
    /// Entries we hold durably and it has not said it holds.
    pub behind: u64,
    /// Entries it holds and we do not.
    pub ahead: u64,
    /// Its entries that wait for their past here.
    pub waiting: usize,
    /// Whether it pulls instead of being pushed to.
    pub catching_up: bool,
}

/// See the module's comment.
pub struct Replicator {
    replica: Replica,
    roster: Roster,
    sessions: BTreeMap<NodeId, Session>,
    commands: Commands,
    pulls: pull::Pulls,
    flushing: Option<Ticket>,
    outputs: VecDeque<Output>,
    /// The damage of which the operator was told.
    damage: BTreeSet<String>,
    /// Whether the device has no room for what peers hold.
    no_room: bool,
    failed: bool,
}

impl Replicator {
    /// A replicator over an opened replica.
    #[must_use]
    pub fn new(replica: Replica, roster: Roster) -> Self {
        Self {
            replica,
            roster,
            sessions: BTreeMap::new(),
            commands: Commands::default(),
            pulls: pull::Pulls::default(),
            flushing: None,
            outputs: VecDeque::new(),
            damage: BTreeSet::new(),
            no_room: false,
            failed: false,
        }
    }

    /// The replica, to look at.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// How each connected peer stands.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerProgress> {
        let durable = &self.replica.durable().vector;
        let progress = |(peer, session): (&NodeId, &Session)| PeerProgress {
            peer: *peer,
            behind: durable.entries_above(&session.holds),
            ahead: session.holds.entries_above(durable),
            waiting: session.waiting.len(),
            catching_up: session.push_next.is_none(),
        };
        self.sessions.iter().map(progress).collect()
    }

    /// A connection to `peer` is up and both greetings agreed, on this protocol version.
    pub fn handle_connected(&mut self, now: Now, peer: NodeId, version: u16) {
        if !self.roster.nodes.contains_key(&peer) {
            let reason = "its node is not among the space's".to_owned();
            self.outputs.push_back(Output::Disconnect { peer, reason });
            return;
        }
        self.sessions.insert(peer, Session::new(now.elapsed + HEARTBEAT_MILLIS, version));
        self.send_vector(peer, true);
    }

    /// The connection to `peer` is gone.
    pub fn handle_disconnected(&mut self, now: Now, peer: NodeId) {
        self.sessions.remove(&peer);
        self.pull_missing(now);
    }

    /// A frame came from `peer`.
    pub fn handle_frame(&mut self, now: Now, peer: NodeId, frame: &[u8]) {
        let Some(session) = self.sessions.get(&peer).filter(|_| !self.failed) else { return };
        let known = Frame::since(frame) <= session.version;
        match Frame::decode(frame) {
            Ok(_) if !known => self.disconnect(peer, "a frame of a later protocol version".into()),
            Ok(frame) => self.on_frame(now, peer, frame),
            Err(error) => self.disconnect(peer, format!("a malformed frame: {error}")),
        }
    }

    /// The device has room for more entries, or has not: then none are taken in and none asked for,
    /// while peers get what is held here all the same.
    pub fn handle_room(&mut self, now: Now, has_room: bool) {
        self.no_room = !has_room;
        self.pull_missing(now);
    }

    /// A client asks for something.
    pub fn handle_command(&mut self, now: Now, id: CommandId, command: Command) {
        if self.failed {
            return;
        }
        self.on_command(now, id, command);
    }

    /// Call when the inputs at hand are taken in: ends the batch, unless one is being flushed.
    pub fn handle_idle(&mut self, now: Now) {
        self.deliver_waiting(now);
        self.seal();
    }

    /// The batch of `ticket` is durable.
    pub fn handle_written(&mut self, now: Now, ticket: Ticket) {
        if self.failed {
            return;
        }
        if self.flushing.is_some_and(|flushing| flushing <= ticket) {
            self.flushing = None;
        }
        for sealed in self.replica.written(ticket) {
            self.push_own(&sealed);
            self.outputs.push_back(Output::Publish(sealed));
        }
        self.tell_all();
        self.answer_commands(now);
        self.seal();
        self.pull_missing(now);
    }

    /// Time has passed: call at the time of the last [`Output::WakeAt`], or earlier.
    pub fn handle_wake(&mut self, now: Now) {
        if self.failed {
            return;
        }
        self.answer_commands(now);
        self.send_heartbeats(now);
        self.give_up_pulls(now);
        self.pull_missing(now);
    }

    /// The next thing to do; [`Output::WakeAt`] when there is nothing more.
    pub fn poll_output(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or_else(|| Output::WakeAt(self.next_wake()))
    }

    fn next_wake(&self) -> Millis {
        if self.failed {
            return Millis::MAX;
        }
        let heartbeats = self.sessions.values().map(|session| session.heartbeat_due);
        let pulls = self
            .sessions
            .values()
            .filter_map(|session| session.pull.as_ref().map(|pull| pull.deadline));
        let rest = [self.commands.next_deadline(), self.pulls.due].into_iter().flatten();
        heartbeats.chain(pulls).chain(rest).min().unwrap_or(Millis::MAX)
    }

    fn seal(&mut self) {
        if self.failed || self.flushing.is_some() {
            return;
        }
        match self.replica.seal() {
            Ok(Some(sealed)) => {
                self.flushing = Some(sealed.ticket);
                self.outputs.push_back(Output::Persist(sealed));
            }
            Ok(None) => {}
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: ReplicaError) {
        if !self.failed {
            self.failed = true;
            self.outputs.push_back(Output::Failed(error));
        }
    }

    /// What becomes of an error in reading for a peer. Nothing is half done then, so damage
    /// stops nothing but the answer; the operator is told once.
    fn suffer(&mut self, error: EngineError) {
        if !matches!(error, EngineError::Damaged(_)) {
            return self.fail(error.into());
        }
        let what = error.to_string();
        if self.damage.len() < MAX_DAMAGE && self.damage.insert(what.clone()) {
            self.alarm(Alarm::Damaged(what));
        }
    }

    fn send(&mut self, peer: NodeId, frame: &Frame) {
        self.outputs.push_back(Output::Send { peer, frame: frame.encode() });
    }

    fn disconnect(&mut self, peer: NodeId, reason: String) {
        self.sessions.remove(&peer);
        self.outputs.push_back(Output::Disconnect { peer, reason });
    }

    fn alarm(&mut self, alarm: Alarm) {
        self.outputs.push_back(Output::Alarm(alarm));
    }
}
