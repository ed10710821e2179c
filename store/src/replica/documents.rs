//! What must be known of the documents that are written or checked: their tips, bounded in
//! bytes; the least recently used go first.
//!
//! Tips can be dropped at any time: they are loaded again from the rows of the document's
//! changes, read through the overlay, so pending changes are never missed. No document is loaded
//! to append to it, or to take a peer's change in. Invariant: loaded tips hold every change their
//! own origin made, or the origin may not write it.

use lru::LruCache;

use super::ReplicaError;
use crate::document::{Change, ChangeError, ChangeFact, ChangeHash, Scalar, Snapshot, Tips};
use crate::engine::{Direction, View};
use crate::id::{OriginId, SegmentId};
use crate::name::Name;
use crate::overlay::Overlay;
use crate::tables::{self, ChangeRow, RowType, SnapshotRow};

/// The ordinal that stands for a conversation's own document, beside its segments'.
pub(crate) const CONVERSATION_DOCUMENT: u32 = u32::MAX;

/// Which document to open, and how it begins.
#[derive(Clone, Copy)]
pub(crate) enum Which<'a> {
    /// A segment: begins empty.
    Segment(SegmentId),
    /// A conversation's own document: begins with its name.
    Conversation(SegmentId, &'a Name),
}

impl Which<'_> {
    pub(crate) fn id(&self) -> SegmentId {
        match self {
            Self::Segment(id) | Self::Conversation(id, _) => *id,
        }
    }

    /// What the document's first change writes, where it is the same everywhere.
    pub(crate) fn genesis(&self) -> Option<Vec<(String, Scalar)>> {
        match self {
            Self::Segment(_) => None,
            Self::Conversation(_, name) => {
                Some(vec![("name".to_owned(), Scalar::Text(name.as_str().to_owned()))])
            }
        }
    }
}

/// See the module's comment.
pub(super) struct Documents {
    open: LruCache<SegmentId, Tips>,
    bytes: usize,
    limit: usize,
}

impl Documents {
    pub(super) fn new(limit: usize) -> Self {
        Self { open: LruCache::unbounded(), bytes: 0, limit }
    }

    /// Makes the next change of `origin` in a document.
    pub(super) fn append(
        &mut self,
        overlay: &Overlay,
        which: Which<'_>,
        origin: OriginId,
        writes: Vec<(String, Scalar)>,
    ) -> Result<(Vec<u8>, ChangeFact), ReplicaError> {
        let mut tips = self.take(overlay, which)?;
        let made = tips.append(origin, writes);
        self.put(which.id(), tips);
        Ok(made)
    }

    /// Checks a peer's change against its document and takes it in. If it is refused, nothing
    /// has changed.
    pub(super) fn accept(
        &mut self,
        overlay: &Overlay,
        which: Which<'_>,
        change: &Change,
        hash: ChangeHash,
    ) -> Result<Result<ChangeFact, ChangeError>, ReplicaError> {
        let mut tips = self.take(overlay, which)?;
        let mut checked = tips.check(change);
        if let Err(ChangeError::Dependency(_)) = &checked
            && !tips.is_complete()
        {
            // It may stand on a change that only the snapshot knows.
            let snapshot = read_snapshot(overlay, which.id())?;
            if let Some(snapshot) = snapshot {
                tips.complete(snapshot.hashes().map_err(|error| damaged(which, &error))?);
            }
            checked = tips.check(change);
        }
        let outcome = checked.map(|()| tips.take(change, hash));
        self.put(which.id(), tips);
        Ok(outcome)
    }

    /// Drops what is known of a document.
    pub(super) fn forget(&mut self, document: SegmentId) {
        if let Some(tips) = self.open.pop(&document) {
            self.bytes -= tips.bytes();
        }
    }

    fn take(&mut self, overlay: &Overlay, which: Which<'_>) -> Result<Tips, ReplicaError> {
        match self.open.pop(&which.id()) {
            Some(tips) => {
                self.bytes -= tips.bytes();
                Ok(tips)
            }
            None => load(overlay, which),
        }
    }

    fn put(&mut self, document: SegmentId, tips: Tips) {
        self.bytes += tips.bytes();
        self.open.put(document, tips);
        while self.bytes > self.limit && self.open.len() > 1 {
            if let Some((_, tips)) = self.open.pop_lru() {
                self.bytes -= tips.bytes();
            }
        }
    }
}

/// Reads what the stored changes of a document make of its tips.
fn load(view: &(impl View + ?Sized), which: Which<'_>) -> Result<Tips, ReplicaError> {
    let prefix = ChangeRow::prefix(which.id());
    let mut snapshot: Option<Snapshot> = None;
    let mut facts: Vec<(OriginId, ChangeFact)> = Vec::new();
    let rows = view.scan(SnapshotRow::TABLE, &prefix, &tables::behind(&prefix), Direction::Forward);
    for row in rows {
        let (key, value) = row?;
        match ChangeRow::parse(&key)? {
            None => snapshot = Some(tables::open::<SnapshotRow>(&key, &value)?.0),
            Some(change) => facts.push((change.origin, tables::open(&key, &value)?)),
        }
    }
    let restored = Tips::restore(which.genesis(), snapshot.as_ref(), facts);
    restored.map_err(|error| damaged(which, &error))
}

/// The snapshot of a document, if there is one.
pub(crate) fn read_snapshot(
    view: &(impl View + ?Sized),
    document: SegmentId,
) -> Result<Option<Snapshot>, ReplicaError> {
    Ok(tables::get::<SnapshotRow>(view, &document)?.map(|row| row.0))
}

fn damaged(which: Which<'_>, error: &dyn std::error::Error) -> ReplicaError {
    let SegmentId { conversation, ordinal } = which.id();
    ReplicaError::Damaged(format!("document {conversation}/{ordinal}: {error}"))
}
