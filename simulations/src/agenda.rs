//! What will happen, by virtual time.
//!
//! Invariant: of events at one time, the one that was entered first happens first; so a run has
//! one order.

use std::collections::BTreeMap;
use std::sync::Arc;

use warbler_replication::replicator::CommandId;
use warbler_store::id::{ConversationId, Millis, SegmentId};
use warbler_store::overlay::Ticket;
use warbler_store::replica::Built;
use warbler_store::tables::SweepRow;

/// Virtual microseconds since the start of the run.
pub(crate) type Micros = u64;

/// Numbers the runs of a node.
pub(crate) type RunNumber = u64;

/// A connection that was made; later ones have greater numbers.
pub(crate) type ConnectionNumber = u64;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A frame arrives.
    Frame { from: usize, to: usize, connection: ConnectionNumber, bytes: Arc<[u8]> },
    /// A client's command arrives.
    Command { node: usize, command: CommandId },
    /// The disk is done with the batch in its hands.
    Flushed { node: usize, run: RunNumber },
    /// The driver learns that a batch is durable.
    Written { node: usize, run: RunNumber, ticket: Ticket },
    /// The driver has taken in what was at hand.
    Idle { node: usize, run: RunNumber },
    /// The time that the replicator asked for.
    Wake { node: usize, run: RunNumber, at: Millis },
    /// A round of upkeep is due.
    Upkeep { node: usize, run: RunNumber },
    /// A snapshot is built.
    Built { node: usize, run: RunNumber, document: SegmentId, built: Option<Box<Built>> },
    /// The files of a conversation are purged.
    Purged { node: usize, run: RunNumber, conversation: ConversationId, sweep: SweepRow },
    /// A client does something.
    Act { client: usize },
    /// A client has waited long enough for an answer.
    Impatient { client: usize, attempt: u64 },
    /// A connection is tried.
    Dial { link: usize },
    /// One side's greeting is done.
    Up { link: usize, side: usize, connection: ConnectionNumber },
    /// One side takes note that the connection is gone.
    Down { link: usize, side: usize, connection: ConnectionNumber },
    /// A link has been cut for so long that its connection may have timed out.
    Silent { from: usize, to: usize, connection: ConnectionNumber, since: Micros },
    /// A node loses power.
    Crash,
    /// A node returns.
    Start { node: usize, run: RunNumber },
    /// A write fails.
    Tear,
    /// A node stands still.
    Pause,
    /// A wall clock jumps.
    Jump,
    /// The network is split.
    Cut,
    /// These directions of links carry frames again.
    Mend { cut: Vec<(usize, usize)> },
    /// A connection ends for no reason: a mutant's.
    Reconnect,
    /// An entry that nobody can apply comes into the world.
    Poison,
    /// A disk fills up.
    Fill,
    /// There is room on a disk again.
    Room { node: usize },
    /// A disk is lost.
    Wipe,
    /// A bit of a disk flips.
    Flip,
    /// A damaged disk is replaced.
    Replace { node: usize },
    /// All trouble ends.
    Calm,
    /// Everything must have converged.
    Converged,
    /// Nothing but heartbeats may have been sent since.
    End,
}

impl Event {
    /// The node whose process takes the event in, if it does: it waits while that stands still.
    pub(crate) fn node(&self) -> Option<usize> {
        match self {
            Self::Frame { to: node, .. }
            | Self::Command { node, .. }
            | Self::Flushed { node, .. }
            | Self::Written { node, .. }
            | Self::Idle { node, .. }
            | Self::Upkeep { node, .. }
            | Self::Built { node, .. }
            | Self::Purged { node, .. }
            | Self::Wake { node, .. } => Some(*node),
            Self::Act { .. }
            | Self::Impatient { .. }
            | Self::Dial { .. }
            | Self::Up { .. }
            | Self::Down { .. }
            | Self::Silent { .. }
            | Self::Crash
            | Self::Start { .. }
            | Self::Tear
            | Self::Pause
            | Self::Jump
            | Self::Cut
            | Self::Mend { .. }
            | Self::Reconnect
            | Self::Poison
            | Self::Fill
            | Self::Room { .. }
            | Self::Wipe
            | Self::Flip
            | Self::Replace { .. }
            | Self::Calm
            | Self::Converged
            | Self::End => None,
        }
    }

    /// What the hash of a run takes in: a tag, a place, and the bytes of frames.
    pub(crate) fn mark(&self) -> (u8, usize, &[u8]) {
        match self {
            Self::Frame { to, bytes, .. } => (1, *to, bytes),
            Self::Command { node, .. } => (2, *node, &[]),
            Self::Flushed { node, .. } => (3, *node, &[]),
            Self::Written { node, .. } => (4, *node, &[]),
            Self::Idle { node, .. } => (5, *node, &[]),
            Self::Wake { node, .. } => (6, *node, &[]),
            Self::Upkeep { node, .. } => (24, *node, &[]),
            Self::Built { node, .. } => (25, *node, &[]),
            Self::Purged { node, .. } => (26, *node, &[]),
            Self::Act { client } => (7, *client, &[]),
            Self::Impatient { client, .. } => (8, *client, &[]),
            Self::Dial { link } => (9, *link, &[]),
            Self::Up { link, .. } => (10, *link, &[]),
            Self::Down { link, .. } => (11, *link, &[]),
            Self::Silent { to, .. } => (12, *to, &[]),
            Self::Crash => (13, 0, &[]),
            Self::Start { node, .. } => (14, *node, &[]),
            Self::Tear => (15, 0, &[]),
            Self::Pause => (16, 0, &[]),
            Self::Jump => (17, 0, &[]),
            Self::Cut => (18, 0, &[]),
            Self::Mend { .. } => (19, 0, &[]),
            Self::Reconnect => (20, 0, &[]),
            Self::Poison => (27, 0, &[]),
            Self::Fill => (28, 0, &[]),
            Self::Room { node } => (29, *node, &[]),
            Self::Wipe => (30, 0, &[]),
            Self::Flip => (31, 0, &[]),
            Self::Replace { node } => (32, *node, &[]),
            Self::Calm => (21, 0, &[]),
            Self::Converged => (22, 0, &[]),
            Self::End => (23, 0, &[]),
        }
    }
}

/// See the module's comment.
#[derive(Default)]
pub(crate) struct Agenda {
    events: BTreeMap<(Micros, u64), Event>,
    entered: u64,
}

impl Agenda {
    pub(crate) fn enter(&mut self, at: Micros, event: Event) {
        self.entered += 1;
        self.events.insert((at, self.entered), event);
    }

    pub(crate) fn next(&mut self) -> Option<(Micros, Event)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}
