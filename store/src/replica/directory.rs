//! The conversations that were written last, so that a busy one is not looked up for every message.
//!
//! Bounded in number; the least recently written go first. Invariant: a row that is held is the
//! one that the overlay holds, for every write of one passes here.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::id::ConversationId;
use crate::name::Name;
use crate::tables::ConversationRow;

/// The most conversations that are held: some 20 MiB.
const MAX_HELD: usize = 65_536;
/// Bytes of memory for which one conversation is held.
const BYTES_EACH: usize = 1024;

/// See the module's comment.
pub(super) struct Directory {
    rows: LruCache<ConversationId, ConversationRow>,
    names: LruCache<Name, ConversationId>,
}

impl Directory {
    /// An empty one, for a replica that may take so many bytes for its documents.
    pub(super) fn new(cache_bytes: usize) -> Self {
        let held = (cache_bytes / BYTES_EACH).clamp(1, MAX_HELD);
        let held = NonZeroUsize::new(held).unwrap_or(NonZeroUsize::MIN);
        Self { rows: LruCache::new(held), names: LruCache::new(held) }
    }

    pub(super) fn row(&self, id: ConversationId) -> Option<&ConversationRow> {
        self.rows.peek(&id)
    }

    pub(super) fn named(&mut self, name: &Name) -> Option<ConversationId> {
        self.names.get(name).copied()
    }

    pub(super) fn keep(&mut self, id: ConversationId, row: ConversationRow) {
        self.rows.put(id, row);
    }

    pub(super) fn keep_name(&mut self, name: Name, id: ConversationId) {
        self.names.put(name, id);
    }

    pub(super) fn forget(&mut self, name: &Name, id: ConversationId) {
        self.rows.pop(&id);
        self.names.pop(name);
    }
}
