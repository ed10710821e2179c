//! Keeping the store small while it is used: snapshots, trimming, sweeping.
//!
//! The driver calls in every now and then, builds snapshots wherever it likes, and purges the
//! engine's files. Invariant: an entry is trimmed only when every node of the space has said that
//! it holds it durably.

use warbler_store::id::{ConversationId, SegmentId};
use warbler_store::replica::{Built, KeyRange};
use warbler_store::tables::SweepRow;
use warbler_store::vector::VersionVector;

use super::Replicator;

/// How many entries one round of upkeep trims at most.
const TRIMMED_AT_ONCE: usize = 4096;
/// How many rows of erased conversations one round removes at most.
const REMOVED_AT_ONCE: usize = 4096;

/// What may leave the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrimPolicy {
    /// Nothing.
    Never,
    /// What every node of the space holds durably, up to this vector: who resumes from a token
    /// above it finds the log.
    HeldByAll(VersionVector),
}

/// What the driver is to do.
#[derive(Debug, Clone, Default)]
pub struct Upkeep {
    /// Documents of which a snapshot should be built, with [`Built::of`], and handed to
    /// [`Replicator::handle_built`].
    pub snapshots: Vec<SegmentId>,
    /// Conversations of which erased words may lie in the engine's files: ranges to purge, and
    /// what to hand to [`Replicator::handle_purged`] when that is done. Their rows are gone.
    pub sweeps: Vec<(ConversationId, SweepRow, Vec<KeyRange>)>,
    /// Entries trimmed in this round.
    pub trimmed: u64,
}

impl Replicator {
    /// What every node of the space is known to hold durably. Nothing while one is away: what it
    /// holds is not known.
    #[must_use]
    pub fn held_by_all(&self) -> VersionVector {
        let us = self.replica.writer().node;
        let own = &self.replica.durable().vector;
        let others: Option<Vec<_>> = self
            .roster
            .nodes
            .keys()
            .filter(|node| **node != us)
            .map(|node| self.sessions.get(node).filter(|session| session.greeted))
            .collect();
        let Some(others) = others else { return VersionVector::default() };
        let held = |(origin, seq)| {
            let least = others.iter().map(|session| session.holds.get(origin)).min();
            (origin, least.map_or(seq, |least| least.min(seq)))
        };
        own.iter().map(held).collect()
    }

    /// One round of upkeep; its rows are written with the next batch.
    pub fn handle_upkeep(&mut self, policy: &TrimPolicy) -> Upkeep {
        let mut upkeep = Upkeep::default();
        if self.failed {
            return upkeep;
        }
        upkeep.snapshots = self.replica.full_segments().collect();
        if let TrimPolicy::HeldByAll(limit) = policy {
            let held = self.held_by_all();
            let safe = limit.iter().map(|(origin, seq)| (origin, seq.min(held.get(origin))));
            match self.replica.trim(&safe.collect(), TRIMMED_AT_ONCE) {
                Ok(kept) => {
                    upkeep.trimmed = kept.trimmed;
                    upkeep.snapshots.extend(kept.wants);
                }
                Err(error) => self.fail(error),
            }
        }
        if let Err(error) = self.list_sweeps(&mut upkeep) {
            self.fail(error);
        }
        self.seal();
        upkeep
    }

    /// A document is to be sweeped when no row of it is left that should not be.
    fn list_sweeps(
        &mut self,
        upkeep: &mut Upkeep,
    ) -> Result<(), warbler_store::replica::ReplicaError> {
        for (conversation, sweep) in self.replica.sweeps()? {
            let removed = self.replica.remove_retired(conversation, REMOVED_AT_ONCE)?;
            // Rows whose removal is still on its way to the disk would survive a purge.
            if removed && self.replica.barrier() <= self.replica.last_written() {
                let ranges = self.replica.sweep_ranges(conversation);
                upkeep.sweeps.push((conversation, sweep, ranges));
            }
        }
        Ok(())
    }

    /// A snapshot was built, or could not be.
    pub fn handle_built(&mut self, document: SegmentId, built: Option<Built>) {
        if self.failed {
            return;
        }
        match built {
            Some(built) => {
                if let Err(error) = self.replica.install(built) {
                    return self.fail(error);
                }
            }
            None => self.replica.give_up_snapshot(document),
        }
        self.seal();
    }

    /// The engine's files were purged of the ranges of a sweep.
    pub fn handle_purged(&mut self, conversation: ConversationId, sweep: SweepRow) {
        if self.failed {
            return;
        }
        if let Err(error) = self.replica.swept(conversation, sweep) {
            self.fail(error);
        }
        self.seal();
    }
}
