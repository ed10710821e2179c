//! A simulated node: what survives a crash, and what does not.
//!
//! Everything in [`Process`] is memory and dies with the power; the engine is the disk. Invariant:
//! every run opens the replica from the disk alone, under an origin drawn anew (unless a mutant
//! says otherwise).

use std::collections::BTreeSet;
use std::sync::Arc;

use warbler_replication::replicator::{Now, Replicator, Roster};
use warbler_store::engine::MemoryEngine;
use warbler_store::entropy::Entropy;
use warbler_store::id::{Millis, NodeId, OriginId, SegmentId, SpaceId};
use warbler_store::name::Name;
use warbler_store::reader::Reader;
use warbler_store::replica::{Replica, ReplicaError, Sealed, Writer};
use warbler_store::vector::VersionVector;

use crate::agenda::{Micros, RunNumber};

/// The wall clock at the start of every run: 2026-01-01, in milliseconds since the Unix epoch.
pub(crate) const EPOCH_MILLIS: Millis = 1_767_225_600_000;

/// A node's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WallClock {
    /// How far it is ahead, in milliseconds.
    pub(crate) offset: i64,
    /// How much faster it runs, in millionths.
    pub(crate) drift: i64,
}

impl WallClock {
    pub(crate) fn read(self, now: Micros) -> Millis {
        let elapsed = (now / 1_000) as i64;
        let off = self.offset + elapsed * self.drift / 1_000_000;
        EPOCH_MILLIS.saturating_add(now / 1_000).saturating_add_signed(off)
    }
}

/// What a run of a node has in memory.
pub(crate) struct Process {
    pub(crate) replicator: Replicator,
    /// The batch that the disk is busy with.
    pub(crate) flushing: Option<Arc<Sealed>>,
    /// Whether an end of the batch is entered in the agenda.
    pub(crate) ending: bool,
    /// Documents of which a snapshot is being built.
    pub(crate) snapshots: BTreeSet<SegmentId>,
    /// What was held at the last round of upkeep.
    pub(crate) kept: VersionVector,
    /// The earliest wake that is entered in the agenda.
    pub(crate) wake: Option<Millis>,
    /// How often it was woken at one and the same moment.
    pub(crate) spins: (Millis, u32),
}

/// See the module's comment.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) region: Name,
    pub(crate) engine: MemoryEngine,
    pub(crate) reader: Reader,
    pub(crate) clock: WallClock,
    pub(crate) run: RunNumber,
    pub(crate) origin: OriginId,
    pub(crate) process: Option<Process>,
    /// Until when it stands still.
    pub(crate) paused: Micros,
    /// Whether the next write fails, and whether it is kept all the same.
    pub(crate) tear: Option<bool>,
    /// Until when its disk is full.
    pub(crate) full: Micros,
    /// Whether a row of its disk is damaged: the disk will be replaced.
    pub(crate) is_damaged: bool,
    /// When its disk was lost last.
    pub(crate) wiped: Option<Micros>,
    /// A copy of the disk, for the mutant that returns from it.
    pub(crate) copy: Option<MemoryEngine>,
}

impl Node {
    pub(crate) fn new(id: NodeId, region: Name, space: SpaceId) -> Self {
        let engine = MemoryEngine::new();
        Self {
            id,
            region,
            reader: Reader::new(Arc::new(engine.clone()), space),
            engine,
            clock: WallClock::default(),
            run: 0,
            origin: OriginId([0; 16]),
            process: None,
            paused: 0,
            tear: None,
            full: 0,
            is_damaged: false,
            wiped: None,
            copy: None,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// The times of an input that comes at `now`.
    pub(crate) fn now(&self, now: Micros) -> Now {
        Now { wall: self.clock.read(now), elapsed: now / 1_000 }
    }

    /// Begins a new run from what is on the disk.
    pub(crate) fn start(
        &mut self,
        now: Micros,
        space: &Name,
        roster: &Roster,
        entropy: [u8; 32],
        document_cache_bytes: usize,
    ) -> Result<(), ReplicaError> {
        let writer = Writer {
            node: self.id,
            region: self.region.clone(),
            origin: self.origin,
            started: self.clock.read(now),
        };
        let engine = Arc::new(self.engine.clone());
        let entropy = Entropy::from_seed(entropy);
        let replica = Replica::open(engine, space, writer, entropy, document_cache_bytes)?;
        self.run += 1;
        self.process = Some(Process {
            replicator: Replicator::new(replica, roster.clone()),
            flushing: None,
            ending: false,
            snapshots: BTreeSet::new(),
            kept: VersionVector::default(),
            wake: None,
            spins: (0, 0),
        });
        Ok(())
    }

    /// The process of this very run, if it still goes on.
    pub(crate) fn process_of(&mut self, run: RunNumber) -> Option<&mut Process> {
        self.process.as_mut().filter(|_| self.run == run)
    }

    /// Puts another disk in the place of this one.
    pub(crate) fn exchange_disk(&mut self, engine: MemoryEngine, space: SpaceId) {
        self.reader = Reader::new(Arc::new(engine.clone()), space);
        self.engine = engine;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_is_off_by_what_it_was_set_off_and_drifts() {
        let clock = WallClock { offset: -500, drift: 1_000 };
        assert_eq!(clock.read(0), EPOCH_MILLIS - 500);
        assert_eq!(clock.read(10_000_000), EPOCH_MILLIS + 10_000 - 500 + 10);
    }
}
