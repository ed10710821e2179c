//! Documents: snapshots, the changes that they do not cover, and the log that carries those.
//!
//! Invariant: a document is whole when every change stands on changes that it holds, and every
//! fact about a change is what the change itself says.

use std::collections::{BTreeMap, BTreeSet};

use super::{Damage, Slice};
use crate::document::{Change, ChangeFact, ChangeHash, GENESIS};
use crate::engine::View;
use crate::id::{OriginId, SegmentId, SpaceId};
use crate::replica::{change_of, changes_of, genesis_of};
use crate::tables::{self, ChangeRow, LogRow, OriginRow, SnapshotRow};
use crate::vector::VersionVector;

/// What snapshots cover, of the documents met last.
#[derive(Default)]
pub(super) struct Coverage {
    known: BTreeMap<SegmentId, Option<VersionVector>>,
}

impl Coverage {
    /// Whether a document holds the change of an entry; also if it cannot be read.
    pub(super) fn has(
        &mut self,
        view: &dyn View,
        document: SegmentId,
        (origin, seq): (OriginId, u64),
        slice: &mut Slice,
    ) -> bool {
        const MOST: usize = 1024;
        let row = ChangeRow { document, origin, seq };
        if !slice.read::<ChangeFact>(view, &row).is_missing() {
            return true;
        }
        if self.known.len() >= MOST {
            self.known.clear();
        }
        let covered = self.known.entry(document).or_insert_with(|| {
            match tables::get::<SnapshotRow>(view, &document) {
                Ok(Some(row)) => Some(row.0.covered),
                Ok(None) => Some(VersionVector::default()),
                Err(_) => None,
            }
        });
        covered.as_ref().is_none_or(|covered| covered.get(origin) >= seq)
    }
}

/// Checks one document. False if its content cannot be had.
pub(super) fn check(
    view: &dyn View,
    space: SpaceId,
    document: SegmentId,
    slice: &mut Slice,
) -> bool {
    let mut known: BTreeSet<ChangeHash> = BTreeSet::new();
    let found =
        |slice: &mut Slice, why: String| slice.found(Damage::at::<SnapshotRow>(&document, why));
    let snapshot = match tables::get::<SnapshotRow>(view, &document) {
        Ok(row) => row.map(|row| row.0),
        Err(_) => return false,
    };
    match &snapshot {
        Some(snapshot) => {
            if let Err(error) = snapshot.check() {
                found(slice, format!("a snapshot that is not what it says: {error}"));
                return false;
            }
            known.extend(snapshot.hashes().unwrap_or_default().iter().map(|(hash, _)| *hash));
        }
        None => match genesis_of(view, document) {
            Ok(Some(writes)) => {
                let deps = Vec::new();
                let genesis = Change { actor: GENESIS, seq: 1, start_op: 1, deps, writes };
                known.insert(genesis.encode().1);
            }
            Ok(None) => {}
            Err(_) => return false,
        },
    }
    let Ok(facts) = changes_of(view, document) else { return false };
    known.extend(facts.iter().map(|(_, fact)| fact.hash));
    let mut whole = true;
    for (row, fact) in &facts {
        whole &= check_change(view, space, (*row, fact), &known, slice);
    }
    for (origin, _) in snapshot.iter().flat_map(|snapshot| snapshot.covered.iter()) {
        if slice.read::<OriginRow>(view, &(space, origin)).is_missing() {
            found(slice, format!("a snapshot with changes of the unknown origin {origin}"));
        }
    }
    whole
}

fn check_change(
    view: &dyn View,
    space: SpaceId,
    (row, fact): (ChangeRow, &ChangeFact),
    known: &BTreeSet<ChangeHash>,
    slice: &mut Slice,
) -> bool {
    let mut found = |why: String| slice.found(Damage::at::<ChangeFact>(&row, why).within(space));
    let key = (space, row.origin, row.seq);
    match tables::get::<LogRow>(view, &key) {
        Ok(Some(_)) => {}
        Ok(None) => {
            found("a change whose entry is not in the log".to_owned());
            return false;
        }
        Err(_) => return false,
    }
    let change = match change_of(view, space, row) {
        Ok(bytes) => Change::decode(&bytes),
        Err(error) => {
            found(format!("a change whose entry carries none: {error}"));
            return false;
        }
    };
    let (change, hash) = match change {
        Ok(change) => change,
        Err(error) => {
            found(format!("a change that cannot be read: {error}"));
            return false;
        }
    };
    if ChangeFact::of(&change, hash) != *fact || change.actor != row.origin {
        found("a fact that is not what its change says".to_owned());
    }
    if change.deps.iter().any(|dependency| !known.contains(dependency)) {
        found("a change that stands on one that is not held".to_owned());
    }
    true
}
