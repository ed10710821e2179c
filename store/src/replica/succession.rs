//! Runs that came after others, as their first entries say.
//!
//! Invariant: what is kept of it follows from first entries that are held, and outlives their
//! leaving the log. What is damaged is passed over: then tokens name more than they must.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Replica, ReplicaError};
use crate::engine::{EngineError, View};
use crate::entry::Entry;
use crate::id::{OriginId, SpaceId};
use crate::succession::Succession;
use crate::tables::{self, LogRow, OriginRow, SuccessorRow};
use crate::vector::VersionVector;

impl Replica {
    /// Which runs came after which.
    #[must_use]
    pub fn succession(&self) -> &Arc<Succession> {
        &self.succession
    }

    /// Takes note of what a run's first entry says of the runs of its node before it. Those that
    /// another of them speaks for already need no row.
    pub(super) fn note_successor(&mut self, later: OriginId, saw: &VersionVector) {
        let Some(node) = self.origins.get(&later).map(|row| row.node) else { return };
        let earlier: Vec<(OriginId, u64)> = saw
            .iter()
            .filter(|(origin, _)| self.origins.get(origin).is_some_and(|row| row.node == node))
            .filter(|(origin, seq)| !self.succession.is_implied(*origin, *seq, saw))
            .collect();
        for (origin, seq) in earlier {
            self.put(&(self.space, origin, later), &SuccessorRow { seq });
            Arc::make_mut(&mut self.succession).add(origin, later, seq);
        }
    }

    /// Reads it back: from rows, and from the log what has none, as in a space that was taken in
    /// whole. The rows that were missing go with the first batch.
    pub(super) fn read_successors(&mut self) -> Result<(), ReplicaError> {
        let engine = Arc::clone(self.overlay.engine());
        self.succession = Arc::new(read_rows(&*engine, self.space)?);
        for (later, saw) in first_entries(&*engine, self.space, &self.origins, &self.succession)? {
            self.note_successor(later, &saw);
        }
        Ok(())
    }
}

fn read_rows(view: &(impl View + ?Sized), space: SpaceId) -> Result<Succession, EngineError> {
    let mut succession = Succession::default();
    for row in tables::rows::<SuccessorRow, _>(view, &SuccessorRow::prefix(space)) {
        let Some((key, row)) = unless_damaged(row)? else { continue };
        let (earlier, later) = SuccessorRow::parse(&key)?;
        succession.add(earlier, later, row.seq);
    }
    Ok(succession)
}

/// What the first entries had seen that are in the log and of which nothing is known, in causal
/// order.
fn first_entries(
    view: &(impl View + ?Sized),
    space: SpaceId,
    origins: &BTreeMap<OriginId, OriginRow>,
    known: &Succession,
) -> Result<Vec<(OriginId, VersionVector)>, EngineError> {
    let mut first = BTreeMap::new();
    for (origin, row) in origins {
        if row.trimmed > 0 || known.knows(*origin) {
            continue;
        }
        let key = (space, *origin, 1);
        let row = unless_damaged(tables::get::<LogRow>(view, &key))?.flatten();
        if let Some(Ok(entry)) = row.map(|row| Entry::decode(&row.entry)) {
            first.insert((entry.depth, *origin), entry.saw);
        }
    }
    Ok(first.into_iter().map(|((_, origin), saw)| (origin, saw)).collect())
}

fn unless_damaged<T>(read: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match read {
        Err(EngineError::Damaged(_)) => Ok(None),
        read => read.map(Some),
    }
}
