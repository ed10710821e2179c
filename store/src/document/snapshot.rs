//! Snapshots: a document as Automerge saves it, in the place of the changes that made it.
//!
//! The only file that runs Automerge. Invariant: a snapshot is handed out only after its bytes
//! were loaded again and had the heads and the content that were put in; a panic of Automerge's
//! is caught and costs the snapshot, not the node.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::{Automerge, ReadDoc, SaveOptions, ScalarValueRef, ValueRef};

use super::{Change, ChangeHash, GENESIS, Scalar};
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::id::OriginId;
use crate::vector::VersionVector;

/// The most heads, or actors, that a snapshot may name.
const MAX_TIPS: usize = 65_536;
/// The greatest size of a saved document: far above what a segment's bound lets it become.
pub(crate) const MAX_SAVED_BYTES: usize = 64 << 20;

/// Why a snapshot cannot be made or read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SnapshotError {
    /// Automerge refused.
    #[error("automerge refused: {0}")]
    Refused(String),
    /// Automerge panicked.
    #[error("automerge panicked: {0}")]
    Panicked(String),
    /// What was loaded is not what was saved.
    #[error("the saved document differs from what was saved: {0}")]
    Differs(&'static str),
    /// A change stands on one that is not held.
    #[error("a change stands on one that is not held")]
    Incomplete,
}

/// A saved document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The heads, each with the number of its last operation.
    pub heads: Vec<(ChangeHash, u64)>,
    /// Each actor's last change: its number, its hash, and that of its last operation.
    pub actors: Vec<(OriginId, u64, ChangeHash, u64)>,
    /// Up to which entry of each origin's log the document's changes are in it.
    pub covered: VersionVector,
    /// The document, as Automerge saves it, uncompressed: the engine compresses.
    pub bytes: Vec<u8>,
}

/// Keys and scalars of a document.
type Contents = BTreeMap<String, Scalar>;

impl Snapshot {
    /// Makes a snapshot of a document: of what it begins with, its last snapshot, and the changes
    /// since, each with its origin and its entry's seq, in any order.
    ///
    /// # Errors
    /// When Automerge refuses or panics, or what it saved is not what it was given.
    pub fn take(
        genesis: Option<Vec<(String, Scalar)>>,
        before: Option<&Self>,
        changes: &[(OriginId, u64, Vec<u8>)],
    ) -> Result<Self, SnapshotError> {
        contained(|| Self::make(genesis, before, changes))
    }

    fn make(
        genesis: Option<Vec<(String, Scalar)>>,
        before: Option<&Self>,
        changes: &[(OriginId, u64, Vec<u8>)],
    ) -> Result<Self, SnapshotError> {
        let mut document = match before {
            Some(before) => load(&before.bytes)?,
            None => Automerge::new(),
        };
        let mut expected = contents_of(&document);
        let begin = genesis.filter(|_| before.is_none()).map(|writes| {
            Change { actor: GENESIS, seq: 1, start_op: 1, deps: Vec::new(), writes }.encode().0
        });
        let mut covered = before.map(|before| before.covered.clone()).unwrap_or_default();
        let mut parsed = Vec::with_capacity(changes.len() + 1);
        for bytes in begin.iter().chain(changes.iter().map(|(_, _, bytes)| bytes)) {
            let (change, _) = Change::decode(bytes).map_err(refused)?;
            expected.extend(change.writes);
            parsed.push(automerge::Change::from_bytes(bytes.clone()).map_err(refused)?);
        }
        changes.iter().for_each(|(origin, seq, _)| covered.raise(*origin, *seq));
        document.apply_changes(parsed).map_err(refused)?;
        if !document.get_missing_deps(&[]).is_empty() {
            return Err(SnapshotError::Incomplete);
        }
        let bytes =
            document.save_with_options(SaveOptions { deflate: false, retain_orphans: false });
        let again = load(&bytes)?;
        if again.get_heads() != document.get_heads() {
            return Err(SnapshotError::Differs("heads"));
        }
        if contents_of(&again) != expected {
            return Err(SnapshotError::Differs("content"));
        }
        Ok(Self::of(&again, covered, bytes))
    }

    fn of(document: &Automerge, covered: VersionVector, bytes: Vec<u8>) -> Self {
        let changes = document.get_changes(&[]);
        let heads = document.get_heads();
        let mut actors: BTreeMap<OriginId, (u64, ChangeHash, u64)> = BTreeMap::new();
        let mut tips = Vec::with_capacity(heads.len());
        for change in &changes {
            let hash = ChangeHash(change.hash().0);
            if heads.contains(&change.hash()) {
                tips.push((hash, change.max_op()));
            }
            let Ok(actor) = change.actor_id().to_bytes().try_into().map(OriginId) else { continue };
            let last = actors.entry(actor).or_insert((0, hash, 0));
            if change.seq() > last.0 {
                *last = (change.seq(), hash, change.max_op());
            }
        }
        tips.sort_unstable();
        let actors = actors.into_iter().map(|(actor, (seq, hash, op))| (actor, seq, hash, op));
        Self { heads: tips, actors: actors.collect(), covered, bytes }
    }

    /// Whether the saved document is what the rest of the snapshot says of it.
    ///
    /// # Errors
    /// When it is not, or Automerge refuses or panics.
    pub fn check(&self) -> Result<(), SnapshotError> {
        contained(|| {
            let document = load(&self.bytes)?;
            let again = Self::of(&document, self.covered.clone(), Vec::new());
            if again.heads != self.heads || again.actors != self.actors {
                return Err(SnapshotError::Differs("heads or last changes"));
            }
            Ok(())
        })
    }

    /// All that the document holds, by key.
    ///
    /// # Errors
    /// When Automerge refuses or panics.
    pub fn contents(&self) -> Result<Vec<(String, Scalar)>, SnapshotError> {
        contained(|| Ok(contents_of(&load(&self.bytes)?).into_iter().collect()))
    }

    /// All changes in the document: hash and last operation of each.
    ///
    /// # Errors
    /// When Automerge refuses or panics.
    pub fn hashes(&self) -> Result<Vec<(ChangeHash, u64)>, SnapshotError> {
        contained(|| {
            let changes = load(&self.bytes)?.get_changes(&[]);
            let known = |change: &automerge::Change| (ChangeHash(change.hash().0), change.max_op());
            Ok(changes.iter().map(known).collect())
        })
    }

    /// The bytes of all changes in the document, as they were made: by actor, in its order.
    ///
    /// # Errors
    /// When Automerge refuses or panics.
    pub fn changes(&self) -> Result<Vec<(OriginId, u64, Vec<u8>)>, SnapshotError> {
        contained(|| {
            let document = load(&self.bytes)?;
            let mut changes = Vec::new();
            for change in document.get_changes(&[]) {
                let actor = change.actor_id().to_bytes().try_into().map(OriginId);
                let actor = actor.map_err(|_| SnapshotError::Differs("an actor's length"))?;
                changes.push((actor, change.seq(), change.raw_bytes().to_vec()));
            }
            changes.sort_unstable_by_key(|(actor, seq, _)| (*actor, *seq));
            Ok(changes)
        })
    }

    /// Writes the snapshot.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.varint(self.heads.len() as u64);
        for (hash, max_op) in &self.heads {
            encoder.raw(&hash.0).varint(*max_op);
        }
        encoder.varint(self.actors.len() as u64);
        for (actor, seq, hash, max_op) in &self.actors {
            encoder.raw(&actor.0).varint(*seq).raw(&hash.0).varint(*max_op);
        }
        self.covered.encode(encoder);
        encoder.run(&self.bytes);
    }

    /// Reads what [`Snapshot::encode`] wrote; the document itself is not read.
    ///
    /// # Errors
    /// When the bytes are cut off.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let count = decoder.count("heads", MAX_TIPS)?;
        let heads = (0..count).map(|_| {
            let hash = ChangeHash(decoder.array("head")?);
            Ok((hash, decoder.varint("last operation")?))
        });
        let heads = heads.collect::<Result<_, DecodeError>>()?;
        let count = decoder.count("actors", MAX_TIPS)?;
        let actors = (0..count).map(|_| {
            let actor = OriginId(decoder.array("actor")?);
            let seq = decoder.varint("change number")?;
            let hash = ChangeHash(decoder.array("change hash")?);
            Ok((actor, seq, hash, decoder.varint("last operation")?))
        });
        let actors = actors.collect::<Result<_, DecodeError>>()?;
        let covered = VersionVector::decode(decoder)?;
        let bytes = decoder.run("document", MAX_SAVED_BYTES)?.to_vec();
        Ok(Self { heads, actors, covered, bytes })
    }
}

fn load(bytes: &[u8]) -> Result<Automerge, SnapshotError> {
    Automerge::load(bytes).map_err(refused)
}

fn contents_of(document: &Automerge) -> Contents {
    let items = document.map_range(automerge::ROOT, ..);
    let scalars = items.filter_map(|item| {
        let key = item.key.to_string();
        match &item.value {
            ValueRef::Scalar(ScalarValueRef::Bytes(bytes)) => {
                Some((key, Scalar::Bytes(bytes.to_vec())))
            }
            ValueRef::Scalar(ScalarValueRef::Str(text)) => {
                Some((key, Scalar::Text(text.to_string())))
            }
            ValueRef::Scalar(_) | ValueRef::Object(_) => None,
        }
    });
    scalars.collect()
}

/// Runs what may panic on bytes that should not be there.
fn contained<T>(run: impl FnOnce() -> Result<T, SnapshotError>) -> Result<T, SnapshotError> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(SnapshotError::Panicked(text.unwrap_or_else(|| "no message".to_owned())))
        }
    }
}

fn refused(error: impl std::fmt::Display) -> SnapshotError {
    SnapshotError::Refused(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Tips;
    use proptest::prelude::*;

    fn name() -> Vec<(String, Scalar)> {
        vec![("name".to_owned(), Scalar::Text("general".to_owned()))]
    }

    /// Changes of three actors, each on top of what it happens to have seen, in a causal order.
    fn history(steps: &[(usize, usize, usize)]) -> (Vec<(OriginId, u64, Vec<u8>)>, Contents) {
        let mut sides = vec![Tips::of_genesis(name()); 3];
        let mut seen = [0; 3];
        let mut made: Vec<(OriginId, u64, Vec<u8>)> = Vec::new();
        let mut contents: Contents = name().into_iter().collect();
        let mut counts = [0; 3];
        for (number, (side, catch_up, records)) in steps.iter().enumerate() {
            let origin = OriginId([*side as u8 + 1; 16]);
            let until = (seen[*side] + catch_up).min(made.len());
            for (other, _, bytes) in &made[seen[*side]..until] {
                if *other != origin {
                    let (change, hash) = Change::decode(bytes).expect("own bytes");
                    sides[*side].check(&change).expect("causal");
                    sides[*side].take(&change, hash);
                }
            }
            seen[*side] = until;
            let writes: Vec<_> = (0..*records)
                .map(|place| {
                    let value = vec![number as u8; place + 1];
                    (format!("{:04}-{side}-{place}", 9999 - number), Scalar::Bytes(value))
                })
                .collect();
            contents.extend(writes.clone());
            let (bytes, _) = sides[*side].append(origin, writes);
            counts[*side] += 2;
            made.push((origin, counts[*side], bytes));
        }
        (made, contents)
    }

    #[test]
    fn a_snapshot_of_bytes_that_are_no_document_is_an_error() {
        let (made, _) = history(&[(0, 0, 2)]);
        let whole = Snapshot::take(Some(name()), None, &made).expect("a snapshot");
        let mut torn = whole.clone();
        torn.bytes.truncate(whole.bytes.len() / 2);
        assert!(torn.contents().is_err());
        assert!(Snapshot::take(None, Some(&torn), &[]).is_err());
        let mut flipped = whole;
        let middle = flipped.bytes.len() / 2;
        flipped.bytes[middle] ^= 1;
        assert!(flipped.contents().is_err(), "the chunk has a checksum");
    }

    #[test]
    fn a_snapshot_is_not_made_of_changes_with_a_gap() {
        let (made, _) = history(&[(0, 0, 1), (0, 0, 1), (0, 0, 1)]);
        let gap = [made[0].clone(), made[2].clone()];
        assert!(Snapshot::take(Some(name()), None, &gap).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn snapshots_in_any_steps_hold_what_the_changes_wrote(
            steps in prop::collection::vec((0..3_usize, 0..6_usize, 1..4_usize), 1..40),
            cut: usize,
        ) {
            let (made, contents) = history(&steps);
            let whole = Snapshot::take(Some(name()), None, &made).expect("a snapshot");
            let (first, rest) = made.split_at(cut % (made.len() + 1));
            let half = Snapshot::take(Some(name()), None, first).expect("a snapshot");
            let both = Snapshot::take(Some(name()), Some(&half), rest).expect("a snapshot");
            prop_assert_eq!(&both.heads, &whole.heads);
            prop_assert_eq!(&both.actors, &whole.actors);
            prop_assert_eq!(&both.covered, &whole.covered);
            let expected: Vec<_> = contents.into_iter().collect();
            prop_assert_eq!(both.contents().expect("loads"), expected);

            let mut changes = made.iter().map(|(origin, _, bytes)| (*origin, bytes.clone()));
            let kept = both.changes().expect("loads");
            prop_assert!(changes.all(|(origin, bytes)| {
                kept.iter().any(|(actor, _, kept)| *actor == origin && *kept == bytes)
            }), "automerge gives the changes back as they were made");

            let mut encoder = Encoder::new();
            both.encode(&mut encoder);
            let bytes = encoder.finish();
            prop_assert_eq!(&Snapshot::decode(&mut Decoder::new(&bytes)).expect("own"), &both);

            // Tips that stand on a snapshot take the next change like tips that know all.
            let facts = Vec::new();
            let mut tips = Tips::restore(Some(name()), Some(&both), facts).expect("whole");
            let mut all = Tips::of_genesis(name());
            for (_, _, bytes) in &made {
                let (change, hash) = Change::decode(bytes).expect("own bytes");
                all.take(&change, hash);
            }
            let next = vec![("next".to_owned(), Scalar::Text("next".to_owned()))];
            prop_assert_eq!(tips.append(OriginId([1; 16]), next.clone()), all.append(OriginId([1; 16]), next));
            prop_assert_eq!(both.hashes().expect("loads").len(), made.len() + 1);
        }
    }
}
