//! Which runs of a node came before which, and what that lets a token leave out.
//!
//! A run begins its log with a record of the node that it is a run of, and that record, like every
//! entry, names what its writer had seen. If a run had seen all that is held of an earlier run of the
//! same node, then whoever holds anything of the later one holds all of the earlier one: what is
//! applied is a causal cut. So a vector that names the later run need not name the earlier one, and
//! tokens do not grow with every restart.
//!
//! Invariant: for a causal cut, [`Succession::complete`] gives back what [`Succession::reduce`] left
//! out and nothing else, on every node that holds the cut. An earlier run that goes on after all (a
//! disk that was found again) is named again: nothing here ever refuses an entry.

use std::collections::BTreeMap;

use crate::id::OriginId;
use crate::vector::VersionVector;

/// The runs that ended, each with the runs that had seen its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Succession {
    /// By the earlier run: the later ones, and up to which seq they had seen it.
    later: BTreeMap<OriginId, BTreeMap<OriginId, u64>>,
    /// By the later run: the earlier ones, and up to which seq it had seen them.
    earlier: BTreeMap<OriginId, BTreeMap<OriginId, u64>>,
}

impl Succession {
    /// Takes note that the first entry of `later` had seen `earlier`, a run of the same node, up to
    /// `seq`.
    pub fn add(&mut self, earlier: OriginId, later: OriginId, seq: u64) {
        self.later.entry(earlier).or_default().insert(later, seq);
        self.earlier.entry(later).or_default().insert(earlier, seq);
    }

    /// Whether anything is known that `later` came after.
    #[must_use]
    pub fn knows(&self, later: OriginId) -> bool {
        self.earlier.contains_key(&later)
    }

    /// Whether `vector`, which names `origin` at `seq`, says so of another run, too.
    #[must_use]
    pub fn is_implied(&self, origin: OriginId, seq: u64, vector: &VersionVector) -> bool {
        let later = self.later.get(&origin);
        later.is_some_and(|later| later.iter().any(|(by, end)| *end == seq && vector.get(*by) > 0))
    }

    /// The runs that `vector` must name; the others follow from these. `keep` is named in any case.
    #[must_use]
    pub fn reduce(&self, vector: &VersionVector, keep: Option<OriginId>) -> VersionVector {
        let named = |(origin, seq): &(OriginId, u64)| {
            Some(*origin) == keep || !self.is_implied(*origin, *seq, vector)
        };
        vector.iter().filter(named).collect()
    }

    /// All runs of which a vector that was reduced says something.
    #[must_use]
    pub fn complete(&self, vector: &VersionVector) -> VersionVector {
        let mut whole = vector.clone();
        let mut named: Vec<OriginId> = vector.iter().map(|(origin, _)| origin).collect();
        while let Some(later) = named.pop() {
            for (earlier, seq) in self.earlier.get(&later).into_iter().flatten() {
                if whole.get(*earlier) == 0 {
                    named.push(*earlier);
                }
                whole.raise(*earlier, *seq);
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn run(number: u8) -> OriginId {
        OriginId([number; 16])
    }

    fn vector(components: &[(u8, u64)]) -> VersionVector {
        components.iter().map(|(number, seq)| (run(*number), *seq)).collect()
    }

    /// Runs 1, 2 and 3 of one node, each of which had seen the end of the one before.
    fn chain() -> Succession {
        let mut succession = Succession::default();
        succession.add(run(1), run(2), 5);
        succession.add(run(2), run(3), 7);
        succession
    }

    #[test]
    fn of_a_chain_of_runs_only_the_last_is_named() {
        let whole = vector(&[(1, 5), (2, 7), (3, 4), (9, 2)]);
        let reduced = chain().reduce(&whole, None);
        assert_eq!(reduced, vector(&[(3, 4), (9, 2)]));
        assert_eq!(chain().complete(&reduced), whole);
    }

    #[test]
    fn what_went_on_after_its_end_is_named_and_so_is_what_must_be() {
        let found_again = vector(&[(1, 6), (2, 7), (3, 4)]);
        let reduced = chain().reduce(&found_again, None);
        assert_eq!(reduced, vector(&[(1, 6), (3, 4)]));
        assert_eq!(chain().complete(&reduced), found_again);
        let kept = chain().reduce(&vector(&[(1, 5), (2, 7)]), Some(run(1)));
        assert_eq!(kept, vector(&[(1, 5), (2, 7)]));
    }

    #[test]
    fn a_vector_from_before_the_later_run_keeps_its_place() {
        let before = vector(&[(1, 3)]);
        assert_eq!(chain().reduce(&before, None), before);
        assert_eq!(chain().complete(&before), before, "nothing is taken for seen that was not");
        let at_the_end = vector(&[(1, 5)]);
        assert_eq!(chain().reduce(&at_the_end, None), at_the_end);
    }

    /// What one of several nodes does in a history without a disk.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// A node writes: its run's record first, if it has none yet.
        Write(usize),
        /// A node begins a new run; on an empty disk if so said.
        Restart(usize, bool),
        /// One node takes in all that another holds.
        Pull(usize, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let node = || 0..3_usize;
        let step = prop_oneof![
            4 => node().prop_map(Step::Write),
            2 => (node(), prop::bool::weighted(0.2)).prop_map(|(node, wiped)| Step::Restart(node, wiped)),
            3 => (node(), node()).prop_map(|(to, from)| Step::Pull(to, from)),
        ];
        prop::collection::vec(step, 0..60)
    }

    /// Nodes that only keep vectors. Every vector a node has had is a causal cut.
    struct History {
        held: [VersionVector; 3],
        runs: [OriginId; 3],
        owners: BTreeMap<OriginId, usize>,
        records: Vec<(OriginId, VersionVector)>,
        cuts: Vec<VersionVector>,
    }

    impl History {
        fn of(steps: &[Step]) -> Self {
            let mut history = Self {
                held: Default::default(),
                runs: [run(1), run(2), run(3)],
                owners: (0..3).map(|node| (run(node as u8 + 1), node)).collect(),
                records: Vec::new(),
                cuts: Vec::new(),
            };
            steps.iter().for_each(|step| history.take(*step));
            history
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Write(node) => {
                    let origin = self.runs[node];
                    let seq = self.held[node].get(origin);
                    if seq == 0 {
                        self.records.push((origin, self.held[node].clone()));
                    }
                    self.held[node].raise(origin, seq + 1 + u64::from(seq == 0));
                    self.cuts.push(self.held[node].clone());
                }
                Step::Restart(node, wiped) => {
                    let next = run(self.owners.len() as u8 + 1);
                    self.owners.insert(next, node);
                    self.runs[node] = next;
                    if wiped {
                        self.held[node] = VersionVector::default();
                    }
                }
                Step::Pull(to, from) => {
                    let theirs = self.held[from].clone();
                    self.held[to].merge(&theirs);
                    self.cuts.push(self.held[to].clone());
                }
            }
        }

        /// What a node knows that holds `cut`, and everything else if `more`.
        fn succession(&self, cut: Option<&VersionVector>) -> Succession {
            let mut succession = Succession::default();
            for (later, saw) in &self.records {
                if cut.is_some_and(|cut| cut.get(*later) == 0) {
                    continue;
                }
                for (earlier, seq) in saw {
                    let same = self.owners[&earlier] == self.owners[later];
                    if same && !succession.is_implied(earlier, seq, saw) {
                        succession.add(earlier, *later, seq);
                    }
                }
            }
            succession
        }
    }

    proptest! {
        #[test]
        fn no_cut_loses_or_gains_anything_on_its_way_through_a_token(steps in steps()) {
            let history = History::of(&steps);
            for cut in &history.cuts {
                let reduced = history.succession(Some(cut)).reduce(cut, None);
                for reader in [history.succession(Some(cut)), history.succession(None)] {
                    prop_assert_eq!(&reader.complete(&reduced), cut);
                }
                // Also if the writer of the token knows of runs that the cut does not reach.
                let reduced = history.succession(None).reduce(cut, None);
                prop_assert_eq!(&history.succession(Some(cut)).complete(&reduced), cut);
            }
        }
    }
}
