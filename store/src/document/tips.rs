//! What must be known of a document to append to it, and to check what others appended.
//!
//! Invariant: the tips are those of all changes that were taken in, whatever the order in which
//! they are read back.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, ChangeError, ChangeHash, GENESIS, Scalar, Snapshot, SnapshotError};
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::id::OriginId;

/// The most dependencies that a stored fact may name.
const MAX_DEPENDENCIES: usize = 4096;
/// What tips take in memory without any change, about, in bytes.
const EMPTY_BYTES: usize = 200;
/// What a change adds, about, in bytes.
const CHANGE_BYTES: usize = 64;

/// What is stored of a change that no snapshot covers yet, so that tips are read back without
/// reading the changes themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeFact {
    /// Its hash.
    pub hash: ChangeHash,
    /// Which of its actor's changes of the document.
    pub seq: u64,
    /// The number of its last operation.
    pub max_op: u64,
    /// The changes it stands on, by the first 8 bytes of their hashes.
    pub deps: Vec<[u8; 8]>,
}

impl ChangeFact {
    /// What is to be stored of `change`.
    #[must_use]
    pub fn of(change: &Change, hash: ChangeHash) -> Self {
        let deps = change.deps.iter().map(ChangeHash::prefix).collect();
        Self { hash, seq: change.seq, max_op: change.max_op(), deps }
    }

    /// Writes the fact.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.raw(&self.hash.0).varint(self.seq).varint(self.max_op);
        encoder.varint(self.deps.len() as u64);
        for dependency in &self.deps {
            encoder.raw(dependency);
        }
    }

    /// Reads what [`ChangeFact::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are cut off.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let hash = ChangeHash(decoder.array("change hash")?);
        let seq = decoder.varint("change number")?;
        let max_op = decoder.varint("last operation")?;
        let count = decoder.count("dependencies", MAX_DEPENDENCIES)?;
        let deps = (0..count).map(|_| decoder.array("dependency")).collect::<Result<_, _>>()?;
        Ok(Self { hash, seq, max_op, deps })
    }
}

/// See the module's comment.
#[derive(Debug, Clone, Default)]
pub struct Tips {
    heads: BTreeSet<ChangeHash>,
    /// Each actor's last change.
    actors: BTreeMap<OriginId, (u64, ChangeHash)>,
    /// The last operation of each change that is known.
    ops: BTreeMap<ChangeHash, u64>,
    /// Whether a snapshot holds changes whose operations are not known.
    incomplete: bool,
}

impl Tips {
    /// The tips of a document without a change.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The tips of a document that begins with one change which is the same wherever it is made:
    /// a fixed actor ([`GENESIS`]), these scalars. So what two regions begin at once merges.
    #[must_use]
    pub fn of_genesis(writes: Vec<(String, Scalar)>) -> Self {
        let mut tips = Self::empty();
        tips.append(GENESIS, writes);
        tips
    }

    /// Reads tips back: from what the document begins with, its snapshot, and the facts of the
    /// changes that the snapshot does not cover, in any order.
    ///
    /// # Errors
    /// When a fact stands on a change that is not among them.
    pub fn restore(
        genesis: Option<Vec<(String, Scalar)>>,
        snapshot: Option<&Snapshot>,
        facts: Vec<(OriginId, ChangeFact)>,
    ) -> Result<Self, SnapshotError> {
        let mut tips = match (snapshot, genesis) {
            (Some(snapshot), _) => Self::of_snapshot(snapshot),
            (None, Some(genesis)) => Self::of_genesis(genesis),
            (None, None) => Self::empty(),
        };
        let mut replaced: BTreeSet<[u8; 8]> = BTreeSet::new();
        for (actor, fact) in facts {
            let ChangeFact { hash, seq, max_op, deps } = fact;
            let last = tips.actors.entry(actor).or_insert((seq, hash));
            if last.0 < seq {
                *last = (seq, hash);
            }
            tips.ops.insert(hash, max_op);
            tips.heads.insert(hash);
            replaced.extend(deps);
        }
        let known: BTreeSet<[u8; 8]> = tips.ops.keys().map(ChangeHash::prefix).collect();
        if !tips.incomplete && !replaced.is_subset(&known) {
            return Err(SnapshotError::Incomplete);
        }
        tips.heads.retain(|head| !replaced.contains(&head.prefix()));
        Ok(tips)
    }

    fn of_snapshot(snapshot: &Snapshot) -> Self {
        let mut tips = Self { incomplete: true, ..Self::default() };
        for (hash, max_op) in &snapshot.heads {
            tips.heads.insert(*hash);
            tips.ops.insert(*hash, *max_op);
        }
        for (actor, seq, hash, max_op) in &snapshot.actors {
            tips.actors.insert(*actor, (*seq, *hash));
            tips.ops.insert(*hash, *max_op);
        }
        tips
    }

    /// Whether every change of the document is known by its hash.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.incomplete
    }

    /// Takes note of the changes that a snapshot holds: hash and last operation of each.
    pub fn complete(&mut self, changes: Vec<(ChangeHash, u64)>) {
        self.ops.extend(changes);
        self.incomplete = false;
    }

    /// Makes `actor`'s next change, on top of all that is held, and takes it in. Returns its
    /// bytes and what is to be stored of it.
    pub fn append(
        &mut self,
        actor: OriginId,
        writes: Vec<(String, Scalar)>,
    ) -> (Vec<u8>, ChangeFact) {
        let last = self.actors.get(&actor);
        let seq = last.map_or(1, |(seq, _)| seq + 1);
        let mut deps: BTreeSet<ChangeHash> = self.heads.clone();
        deps.extend(last.map(|(_, hash)| *hash));
        let ops = deps.iter().filter_map(|dependency| self.ops.get(dependency));
        let start_op = ops.max().map_or(1, |op| op + 1);
        let change = Change { actor, seq, start_op, deps: deps.into_iter().collect(), writes };
        let (bytes, hash) = change.encode();
        (bytes, self.take(&change, hash))
    }

    /// Checks that `change` is its actor's next one and stands on what is held.
    ///
    /// # Errors
    /// When it does not. An unknown dependency may be known to a snapshot, while the tips are not
    /// complete.
    pub fn check(&self, change: &Change) -> Result<(), ChangeError> {
        let last = self.actors.get(&change.actor);
        let expected = last.map_or(1, |(seq, _)| seq + 1);
        if change.seq != expected {
            return Err(ChangeError::Sequence { found: change.seq, expected });
        }
        let mut least = 1;
        for dependency in &change.deps {
            let held = self.ops.get(dependency);
            let held = held.ok_or_else(|| ChangeError::Dependency(dependency.to_string()))?;
            least = least.max(held + 1);
        }
        if let Some((_, hash)) = last
            && change.deps.binary_search(hash).is_err()
        {
            return Err(ChangeError::Dependency(format!("{hash}, its actor's last change")));
        }
        // An honest change stands on all that its writer held, so it begins right behind that.
        // Taking no more keeps a hostile counter from being driven up to where writing fails.
        if change.start_op != least {
            return Err(ChangeError::Counter { start: change.start_op, least });
        }
        Ok(())
    }

    /// Takes in a change that was checked. Returns what is to be stored of it.
    pub fn take(&mut self, change: &Change, hash: ChangeHash) -> ChangeFact {
        for dependency in &change.deps {
            self.heads.remove(dependency);
        }
        self.heads.insert(hash);
        self.actors.insert(change.actor, (change.seq, hash));
        self.ops.insert(hash, change.max_op());
        ChangeFact::of(change, hash)
    }

    /// Bytes of memory they take, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        EMPTY_BYTES + self.ops.len() * CHANGE_BYTES + self.actors.len() * CHANGE_BYTES
    }

    /// The heads, in the order of their hashes.
    pub fn heads(&self) -> impl Iterator<Item = ChangeHash> {
        self.heads.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(key: &str) -> Vec<(String, Scalar)> {
        vec![(key.to_owned(), Scalar::Text(key.to_owned()))]
    }

    fn decoded(bytes: &[u8]) -> (Change, ChangeHash) {
        Change::decode(bytes).expect("own bytes")
    }

    fn take(tips: &mut Tips, bytes: &[u8]) -> ChangeFact {
        let (change, hash) = decoded(bytes);
        tips.check(&change).expect("follows");
        tips.take(&change, hash)
    }

    #[test]
    fn two_regions_that_begin_the_same_document_have_begun_one() {
        let mut oslo = Tips::of_genesis(write("general"));
        let mut tokyo = Tips::of_genesis(write("general"));
        assert!(oslo.heads().eq(tokyo.heads()));
        let (from_oslo, _) = oslo.append(OriginId([1; 16]), write("a"));
        let (from_tokyo, _) = tokyo.append(OriginId([2; 16]), write("b"));
        take(&mut oslo, &from_tokyo);
        take(&mut tokyo, &from_oslo);
        assert!(oslo.heads().eq(tokyo.heads()));
        assert_eq!(oslo.heads().count(), 2);
    }

    #[test]
    fn a_change_that_does_not_follow_is_refused() {
        let mut tips = Tips::empty();
        let (first, _) = tips.append(OriginId([1; 16]), write("a"));
        let (second, _) = tips.append(OriginId([1; 16]), write("b"));
        let (change, hash) = decoded(&second);

        let mut other = Tips::empty();
        assert!(matches!(other.check(&change), Err(ChangeError::Sequence { .. })), "a gap");
        take(&mut other, &first);
        let refused = |change: &Change| other.check(change).expect_err("refused");
        let late = Change { start_op: change.start_op + 1, ..change.clone() };
        assert!(matches!(refused(&late), ChangeError::Counter { .. }));
        let loose = Change { deps: vec![], start_op: 1, ..change.clone() };
        assert!(matches!(refused(&loose), ChangeError::Dependency(_)), "not on its own last");
        let orphan = Change { deps: vec![ChangeHash([9; 32])], ..change.clone() };
        assert!(matches!(refused(&orphan), ChangeError::Dependency(_)));
        assert!(other.check(&change).is_ok());
        other.take(&change, hash);
        assert!(matches!(other.check(&change), Err(ChangeError::Sequence { .. })), "twice");
    }

    proptest! {
        #[test]
        fn tips_are_read_back_from_their_facts_in_any_order(
            steps in prop::collection::vec((0..3_usize, any::<bool>()), 1..40), turn: usize,
        ) {
            let mut sides = vec![Tips::of_genesis(write("general")); 3];
            let mut made: Vec<(OriginId, Vec<u8>, ChangeFact)> = Vec::new();
            let mut seen = [0; 3];
            for (number, (side, write_now)) in steps.into_iter().enumerate() {
                if write_now {
                    // Everything that exists is taken in first, so that all changes are causal.
                    while seen[side] < made.len() {
                        let (origin, bytes, _) = &made[seen[side]];
                        if *origin != OriginId([side as u8 + 1; 16]) {
                            take(&mut sides[side], bytes);
                        }
                        seen[side] += 1;
                    }
                }
                let origin = OriginId([side as u8 + 1; 16]);
                let alone = made[seen[side]..].iter().any(|(other, ..)| *other == origin);
                if alone {
                    continue;
                }
                let (bytes, fact) = sides[side].append(origin, write(&format!("k{number}")));
                made.push((origin, bytes, fact));
            }
            let mut whole = Tips::of_genesis(write("general"));
            for (_, bytes, _) in &made {
                take(&mut whole, bytes);
            }
            let mut facts: Vec<_> = made.iter().map(|(origin, _, fact)| (*origin, fact.clone())).collect();
            for (_, fact) in &facts {
                let mut encoder = Encoder::new();
                fact.encode(&mut encoder);
                let bytes = encoder.finish();
                prop_assert_eq!(&ChangeFact::decode(&mut Decoder::new(&bytes)).expect("own"), fact);
            }
            let length = facts.len().max(1);
            facts.rotate_left(turn % length);
            let restored = Tips::restore(Some(write("general")), None, facts).expect("whole");
            prop_assert_eq!(&restored.heads, &whole.heads);
            prop_assert_eq!(&restored.actors, &whole.actors);
            prop_assert_eq!(&restored.ops, &whole.ops);
        }
    }
}
