//! Upkeep: what a node's driver does every now and then to keep its store small.
//!
//! Snapshots are built from what is on the disk and installed later: other inputs come in
//! between, and a crash loses them. Invariant: of one document one snapshot is built at a time.

use warbler_replication::replicator::TrimPolicy;
use warbler_store::engine::Engine;
use warbler_store::id::{ConversationId, SegmentId};
use warbler_store::replica::Built;
use warbler_store::tables::SweepRow;

use super::{Step, World};
use crate::agenda::{Event, RunNumber};
use crate::checkers::{Broken, Promise};

/// How long a snapshot is under way at most, in microseconds.
const BUILDING_MICROS: u64 = 1_500_000;

impl World<'_> {
    /// Sees that a node's upkeep goes on.
    pub(super) fn keep_up(&mut self, at: usize) {
        if self.faults.upkeep == 0 {
            return;
        }
        let later = self.now + 1_000 * self.dice.upkeep.between(20, self.faults.upkeep);
        let run = self.nodes[at].run;
        self.agenda.enter(later, Event::Upkeep { node: at, run });
    }

    pub(super) fn upkeep(&mut self, at: usize, run: RunNumber) -> Step {
        let space = self.space_id;
        let Some(process) = self.nodes[at].process_of(run) else { return Ok(()) };
        let policy = if !self.faults.trims {
            TrimPolicy::Never
        } else {
            let durable = process.replicator.replica().durable().vector.clone();
            // Some keep what came in since the round before, for who resumes.
            let limit =
                if self.dice.upkeep.chance(700) { durable.clone() } else { process.kept.clone() };
            process.kept = durable;
            TrimPolicy::HeldByAll(limit)
        };
        let upkeep = process.replicator.handle_upkeep(&policy);
        self.story.trimmed += upkeep.trimmed;
        let mut wanted: Vec<SegmentId> = upkeep.snapshots;
        wanted.retain(|document| process.snapshots.insert(*document));
        let engine = self.nodes[at].engine.clone();
        for document in wanted {
            let built = Built::of(&*engine.view(), space, document);
            let built = if self.nodes[at].is_damaged { built.or(Ok(None)) } else { built };
            let built = built.map_err(|error: warbler_store::replica::ReplicaError| {
                let how = format!("node {at} cannot build a snapshot: {error}");
                Broken::new(Promise::Soundness, how)
            })?;
            let later = self.now + self.dice.upkeep.below(BUILDING_MICROS);
            let built = built.map(Box::new);
            self.agenda.enter(later, Event::Built { node: at, run, document, built });
        }
        for (conversation, sweep, _) in upkeep.sweeps {
            let later = self.now + self.dice.upkeep.below(BUILDING_MICROS);
            self.agenda.enter(later, Event::Purged { node: at, run, conversation, sweep });
        }
        let trimmed = upkeep.trimmed;
        if trimmed > 0 {
            self.tell(at, || format!("trims {trimmed} entries"));
        }
        self.keep_up(at);
        self.after_input(at)
    }

    pub(super) fn built(
        &mut self,
        at: usize,
        run: RunNumber,
        document: SegmentId,
        built: Option<Built>,
    ) -> Step {
        let Some(process) = self.nodes[at].process_of(run) else { return Ok(()) };
        process.snapshots.remove(&document);
        self.story.snapshots += u64::from(built.is_some());
        process.replicator.handle_built(document, built);
        self.after_input(at)
    }

    pub(super) fn purged(
        &mut self,
        at: usize,
        run: RunNumber,
        conversation: ConversationId,
        sweep: SweepRow,
    ) -> Step {
        let Some(process) = self.nodes[at].process_of(run) else { return Ok(()) };
        process.replicator.handle_purged(conversation, sweep);
        self.story.sweeps += 1;
        self.after_input(at)
    }
}
