//! The documents that are open, bounded in bytes; the least recently used go first.
//!
//! A document can be dropped at any time: it is loaded again from the log rows of the entries
//! that changed it, read through the overlay, so pending changes are never missed. Invariant: a
//! loaded document holds every change its own origin made, or the origin may not write it.

use lru::LruCache;

use super::ReplicaError;
use crate::document::{Checked, Document, Scalar};
use crate::engine::{Direction, View};
use crate::entry::{Entry, EntryKind};
use crate::id::{OriginId, SegmentId, SpaceId};
use crate::name::Name;
use crate::overlay::Overlay;
use crate::tables::{self, DocumentEntryRow, LogRow, RowType};

/// The ordinal that stands for a conversation's own document, beside its segments'.
pub(super) const CONVERSATION_DOCUMENT: u32 = u32::MAX;

/// Which document to open, and how it begins.
#[derive(Clone, Copy)]
pub(super) enum Which<'a> {
    /// A segment: begins empty.
    Segment(SegmentId),
    /// A conversation's own document: begins with its name.
    Conversation(SegmentId, &'a Name),
}

impl Which<'_> {
    pub(super) fn id(&self) -> SegmentId {
        match self {
            Self::Segment(id) | Self::Conversation(id, _) => *id,
        }
    }
}

/// See the module's comment.
pub(super) struct Documents {
    origin: OriginId,
    open: LruCache<SegmentId, Document>,
    bytes: usize,
    limit: usize,
}

impl Documents {
    pub(super) fn new(origin: OriginId, limit: usize) -> Self {
        Self { origin, open: LruCache::unbounded(), bytes: 0, limit }
    }

    /// Lends the document to `work`, loading it first if it is not open. A document whose work
    /// failed is dropped: it may be ruined.
    pub(super) fn with<T, E: From<ReplicaError>>(
        &mut self,
        overlay: &Overlay,
        space: SpaceId,
        which: Which<'_>,
        work: impl FnOnce(&mut Document) -> Result<T, E>,
    ) -> Result<T, E> {
        let id = which.id();
        let mut document = match self.open.pop(&id) {
            Some(document) => {
                self.bytes -= document.bytes();
                document
            }
            None => load(overlay, space, self.origin, which)?,
        };
        let result = work(&mut document)?;
        self.bytes += document.bytes();
        self.open.put(id, document);
        self.evict();
        Ok(result)
    }

    fn evict(&mut self) {
        while self.bytes > self.limit && self.open.len() > 1 {
            if let Some((_, document)) = self.open.pop_lru() {
                self.bytes -= document.bytes();
            }
        }
    }
}

/// Builds a document from the entries that changed it.
fn load(
    overlay: &Overlay,
    space: SpaceId,
    origin: OriginId,
    which: Which<'_>,
) -> Result<Document, ReplicaError> {
    let mut document = match which {
        Which::Segment(_) => Document::new(origin),
        Which::Conversation(_, name) => {
            let name = Scalar::Text(name.as_str().to_owned());
            let begun = Document::with_genesis(origin, vec![("name".to_owned(), name)]);
            begun.map_err(|source| ReplicaError::Damaged(source.to_string()))?
        }
    };
    let mut changes = Vec::new();
    let prefix = DocumentEntryRow::prefix(which.id());
    let end = tables::behind(&prefix);
    for row in overlay.scan(DocumentEntryRow::TABLE, &prefix, &end, Direction::Forward) {
        let (key, value) = row?;
        let _: DocumentEntryRow = tables::open(&key, &value)?;
        let (origin, seq) = DocumentEntryRow::parse(&key)?;
        changes.push(read_change(overlay, space, origin, seq)?);
    }
    changes.sort_by_key(|(depth, _)| *depth);
    let changes: Vec<_> = changes.into_iter().map(|(_, checked)| checked.change).collect();
    if !changes.is_empty() {
        let applied = document.apply(changes);
        applied.map_err(|source| ReplicaError::Damaged(source.to_string()))?;
    }
    Ok(document)
}

fn read_change(
    overlay: &Overlay,
    space: SpaceId,
    origin: OriginId,
    seq: u64,
) -> Result<(u64, Checked), ReplicaError> {
    let damaged = |why: String| ReplicaError::Damaged(format!("entry {origin}/{seq}: {why}"));
    let row = tables::get::<LogRow>(overlay, &(space, origin, seq))?;
    let row = row.ok_or_else(|| damaged("missing from the log".to_owned()))?;
    let entry = Entry::decode(&row.entry).map_err(|source| damaged(source.to_string()))?;
    let (EntryKind::Segment { change, .. } | EntryKind::Conversation { change, .. }) = entry.kind
    else {
        return Err(damaged("changes no document".to_owned()));
    };
    let checked = Checked::parse(&change, origin).map_err(|source| damaged(source.to_string()))?;
    Ok((entry.depth, checked))
}
