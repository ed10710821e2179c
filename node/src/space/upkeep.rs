//! Upkeep of a space: when a round is due, and what becomes of what it finds.
//!
//! The replicator says what is to be done; the caretaker does what is slow; this is what the
//! replica thread keeps in mind in between. Invariants: no document is built twice at once; what
//! failed is not tried again and again; words leave the files within the bound, since a purge
//! begins when half of it is over.

use std::collections::{BTreeSet, VecDeque};

use warbler_replication::replicator::{Now, Replicator, TrimPolicy, Upkeep};
use warbler_store::id::{ConversationId, Millis, SegmentId, SpaceId};
use warbler_store::replica::{Built, KeyRange};
use warbler_store::tables::SweepRow;
use warbler_store::vector::VersionVector;

use crate::caretaker::{Caretaker, Chore};

/// How often a round is due: every second.
const ROUND_MILLIS: Millis = 1_000;
/// How often while somebody waits for a sweep: 20 ms.
const URGENT_ROUND_MILLIS: Millis = 20;
/// How long a purge that failed is left alone: 10 s.
const PURGE_PAUSE_MILLIS: Millis = 10_000;
/// Snapshots of a space that wait for the caretaker at once.
const MAX_BUILDING: usize = 8;
/// How many moments of the time for which the log is kept are remembered.
const MOMENTS: Millis = 64;

/// What the settings say of upkeep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Erased bytes leave this node's files within so many milliseconds.
    pub(crate) erase_within: Millis,
    /// For how many milliseconds entries stay in the log, if they are ever trimmed.
    pub(crate) keep_log: Option<Millis>,
}

/// How upkeep stands, for people and for those who wait for a sweep.
#[derive(Debug, Clone, Default)]
pub struct UpkeepProgress {
    /// Rounds so far.
    pub rounds: u64,
    /// Conversations of which erased bytes may still lie in files.
    pub sweeps: usize,
    /// Why the last purge failed, if it did.
    pub purge_error: Option<String>,
    /// Purges that failed so far.
    pub failures: u64,
}

/// What a replica thread is told of the caretaker's work.
pub(crate) enum Finished {
    /// A snapshot was built, or could not be.
    Snapshot(SegmentId, Option<Built>),
    /// A purge of all these is over, with the error if it failed.
    Purge(Vec<(ConversationId, SweepRow)>, Option<String>),
}

/// See the module's comment.
pub(super) struct Upkeeping {
    space: SpaceId,
    policy: Policy,
    caretaker: Caretaker,
    /// Calls back into the mailbox.
    finished: Box<dyn Fn() -> Box<dyn FnOnce(Finished) + Send> + Send>,
    due: Millis,
    /// Somebody waits until nothing is left to sweep.
    urgent: bool,
    building: BTreeSet<SegmentId>,
    given_up: BTreeSet<SegmentId>,
    purging: bool,
    /// Not before.
    purge_due: Millis,
    /// What was durable at moments of the past, oldest first.
    moments: VecDeque<(Millis, VersionVector)>,
    progress: UpkeepProgress,
}

impl Upkeeping {
    pub(super) fn new(
        space: SpaceId,
        (policy, caretaker): (Policy, Caretaker),
        finished: Box<dyn Fn() -> Box<dyn FnOnce(Finished) + Send> + Send>,
    ) -> Self {
        Self {
            space,
            policy,
            caretaker,
            finished,
            due: 0,
            urgent: false,
            building: BTreeSet::new(),
            given_up: BTreeSet::new(),
            purging: false,
            purge_due: 0,
            moments: VecDeque::new(),
            progress: UpkeepProgress::default(),
        }
    }

    /// How it stands.
    pub(super) fn progress(&self) -> &UpkeepProgress {
        &self.progress
    }

    /// When the next round is due.
    pub(super) fn due(&self) -> Millis {
        self.due
    }

    /// Somebody waits until nothing is left to sweep.
    pub(super) fn hurry(&mut self, now: Now) {
        self.urgent = true;
        self.purge_due = now.elapsed;
        self.due = now.elapsed;
    }

    /// The caretaker is done with something.
    pub(super) fn finish(&mut self, now: Now, replicator: &mut Replicator, finished: Finished) {
        match finished {
            Finished::Snapshot(document, built) => {
                self.building.remove(&document);
                if built.is_none() {
                    self.given_up.insert(document);
                }
                replicator.handle_built(document, built);
            }
            Finished::Purge(sweeps, error) => {
                self.purging = false;
                match &error {
                    None => {
                        for (conversation, sweep) in sweeps {
                            replicator.handle_purged(conversation, sweep);
                        }
                    }
                    Some(error) => {
                        tracing::error!(error, "erased bytes are still in the files");
                        self.urgent = false;
                        self.progress.failures += 1;
                        self.purge_due = now.elapsed + PURGE_PAUSE_MILLIS;
                    }
                }
                self.progress.purge_error = error;
                self.due = now.elapsed;
            }
        }
    }

    /// A round, if one is due.
    pub(super) fn round(&mut self, now: Now, replicator: &mut Replicator) {
        if now.elapsed < self.due {
            return;
        }
        let policy = self.trim_policy(now.elapsed, &replicator.replica().durable().vector);
        let upkeep = replicator.handle_upkeep(&policy);
        // An error stops the replica by itself.
        let left = replicator.replica().sweeps().map_or(0, |sweeps| sweeps.len());
        self.progress.sweeps = left;
        self.progress.rounds += 1;
        self.urgent &= left > 0;
        self.hand_in(now, upkeep);
        self.due = now.elapsed + if self.urgent { URGENT_ROUND_MILLIS } else { ROUND_MILLIS };
    }

    fn hand_in(&mut self, now: Now, upkeep: Upkeep) {
        for document in upkeep.snapshots {
            if self.building.len() < MAX_BUILDING
                && !self.given_up.contains(&document)
                && self.building.insert(document)
            {
                let finished = (self.finished)();
                let done = Box::new(move |built| finished(Finished::Snapshot(document, built)));
                self.caretaker.hand_in(Chore::Snapshot { space: self.space, document, done });
            }
        }
        let half = self.policy.erase_within / 2;
        let is_due = |sweep: &SweepRow| now.wall >= sweep.since.saturating_add(half);
        let due = self.urgent || upkeep.sweeps.iter().any(|(_, sweep, _)| is_due(sweep));
        if due && !self.purging && !upkeep.sweeps.is_empty() && now.elapsed >= self.purge_due {
            self.purging = true;
            // All that waits goes at once: a purge rewrites files, whatever it is for.
            let mut sweeps = Vec::new();
            let mut ranges: Vec<KeyRange> = Vec::new();
            for (conversation, sweep, of) in upkeep.sweeps {
                sweeps.push((conversation, sweep));
                ranges.extend(of);
            }
            let finished = (self.finished)();
            let done = Box::new(move |purged: Result<(), _>| {
                let error =
                    purged.err().map(|error: warbler_store::engine::EngineError| error.to_string());
                finished(Finished::Purge(sweeps, error));
            });
            self.caretaker.hand_in(Chore::Purge { ranges, done });
        }
    }

    /// What may leave the log: what was durable here when the time for which it is kept began.
    fn trim_policy(&mut self, elapsed: Millis, durable: &VersionVector) -> TrimPolicy {
        let Some(keep) = self.policy.keep_log else { return TrimPolicy::Never };
        let step = (keep / MOMENTS).max(ROUND_MILLIS);
        let fresh = self.moments.back().is_none_or(|(at, _)| elapsed >= at + step);
        if fresh {
            self.moments.push_back((elapsed, durable.clone()));
        }
        let is_past = |(at, _): &(Millis, VersionVector)| at + keep <= elapsed;
        while self.moments.get(1).is_some_and(is_past) {
            self.moments.pop_front();
        }
        match self.moments.front().filter(|moment| is_past(moment)) {
            Some((_, vector)) => TrimPolicy::HeldByAll(vector.clone()),
            None => TrimPolicy::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use warbler_store::engine::MemoryEngine;
    use warbler_store::id::OriginId;

    fn upkeeping(keep_log: Option<Millis>) -> Upkeeping {
        let (caretaker, _) =
            Caretaker::start(Arc::new(MemoryEngine::new()).into()).expect("a thread");
        let policy = Policy { erase_within: 3_600_000, keep_log };
        let nobody = Box::new(|| -> Box<dyn FnOnce(Finished) + Send> { Box::new(|_| {}) });
        Upkeeping::new(SpaceId([1; 16]), (policy, caretaker), nobody)
    }

    fn vector(seq: u64) -> VersionVector {
        [(OriginId([1; 16]), seq)].into_iter().collect()
    }

    #[test]
    fn the_log_is_kept_for_its_time_and_trimmed_to_what_was_held_before() {
        let mut upkeeping = upkeeping(Some(100_000));
        let mut policy = |elapsed| upkeeping.trim_policy(elapsed, &vector(elapsed));
        assert_eq!(policy(0), TrimPolicy::Never);
        assert_eq!(policy(99_999), TrimPolicy::Never);
        assert_eq!(policy(100_000), TrimPolicy::HeldByAll(vector(0)));
        for elapsed in (101_000..400_000).step_by(1_000) {
            let TrimPolicy::HeldByAll(held) = policy(elapsed) else {
                panic!("something of {elapsed} may go");
            };
            let seq = held.get(OriginId([1; 16]));
            assert!(seq + 100_000 <= elapsed, "{seq} is too new at {elapsed}");
        }
        assert!(upkeeping.moments.len() <= 2 * MOMENTS as usize, "memory is bounded");
    }

    #[test]
    fn nothing_is_trimmed_unless_the_settings_say_so() {
        assert_eq!(upkeeping(None).trim_policy(u64::MAX, &vector(9)), TrimPolicy::Never);
    }
}
