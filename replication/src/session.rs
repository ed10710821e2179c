//! What is known of one peer, while a connection to it lasts.
//!
//! Soft state: it is gone with the connection and causes no writes. Invariant: `holds` never
//! claims more for the peer than the peer said or sent.

use std::collections::{BTreeSet, VecDeque};

use warbler_store::id::{Digest, Millis, OriginId};
use warbler_store::vector::VersionVector;

use crate::frame::Wanted;
use crate::waiting::Waiting;

/// A pull that was sent and not answered in full.
#[derive(Debug, Clone)]
pub(crate) struct Pull {
    pub(crate) request: u32,
    pub(crate) wanted: Vec<Wanted>,
    /// When it is given up unless something arrives before.
    pub(crate) deadline: Millis,
}

/// See the module's comment.
pub(crate) struct Session {
    /// The protocol version that both sides agreed on.
    pub(crate) version: u16,
    /// What the peer holds durably, as far as it said so or sent it.
    pub(crate) holds: VersionVector,
    /// Whether its whole vector was received.
    pub(crate) greeted: bool,
    /// What it was told we hold, by vectors and by pushes.
    pub(crate) told: VersionVector,
    /// The next own seq to push, while the peer keeps up.
    pub(crate) push_next: Option<u64>,
    /// What was pushed and is not known to be held: seq and bytes.
    pub(crate) unacknowledged: VecDeque<(u64, usize)>,
    /// Our pull that it is answering.
    pub(crate) pull: Option<Pull>,
    /// No pull is sent before: the last one was not answered.
    pub(crate) no_pull_before: Millis,
    /// Its entries that wait for their past.
    pub(crate) waiting: Waiting,
    /// The digests of the space, its and ours, over which the operator was told of a divergence.
    pub(crate) diverged: Option<(Digest, Digest)>,
    /// The origins of whose forks the operator was told.
    pub(crate) forked: BTreeSet<OriginId>,
    /// The origins of which it asked for entries that were trimmed here.
    pub(crate) trimmed: BTreeSet<OriginId>,
    /// When the next heartbeat is due.
    pub(crate) heartbeat_due: Millis,
    /// Entries dropped from the waiting buffer for want of room.
    pub(crate) dropped: u64,
}

impl Session {
    pub(crate) fn new(now: Millis, version: u16) -> Self {
        Self {
            version,
            holds: VersionVector::default(),
            greeted: false,
            told: VersionVector::default(),
            push_next: None,
            unacknowledged: VecDeque::new(),
            pull: None,
            no_pull_before: 0,
            waiting: Waiting::default(),
            diverged: None,
            forked: BTreeSet::new(),
            trimmed: BTreeSet::new(),
            heartbeat_due: now,
            dropped: 0,
        }
    }

    /// Takes note that the peer holds `origin` up to `seq`.
    pub(crate) fn raise(&mut self, origin: OriginId, seq: u64, own: OriginId) {
        self.holds.raise(origin, seq);
        if origin == own {
            while self.unacknowledged.front().is_some_and(|(pushed, _)| *pushed <= seq) {
                self.unacknowledged.pop_front();
            }
        }
    }

    /// Bytes pushed and not known to be held.
    pub(crate) fn in_flight(&self) -> usize {
        self.unacknowledged.iter().map(|(_, bytes)| bytes).sum()
    }
}
