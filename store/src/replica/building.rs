//! The batch that is being built: what was taken in since the last one was sealed.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::Batch;
use crate::entry::Parcel;
use crate::id::{ConversationId, Identity, MessageId, OriginId, SegmentId};
use crate::name::Name;
use crate::record::{Body, Message, Record};
use crate::tables::ConversationRow;

/// What one applied entry did that followers see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Whose entry.
    pub origin: OriginId,
    /// Its seq.
    pub seq: u64,
    /// The messages it brought, in the entry's order.
    pub messages: Vec<Message>,
    /// Ids that turned out to be another message's: (alias, canonical).
    pub aliases: Vec<(ConversationId, MessageId, MessageId)>,
}

/// A local record that waits for its entry.
pub(super) struct Staged {
    pub(super) record: Record,
    pub(super) body: Body,
}

/// See the module's comment.
#[derive(Default)]
pub(super) struct Building {
    /// Rows written so far.
    pub(super) batch: Batch,
    /// Conversations created here, in order.
    pub(super) created: Vec<(ConversationId, Name)>,
    /// Posts made here, by the segment that takes them.
    pub(super) posts: BTreeMap<SegmentId, Vec<Staged>>,
    /// Identities of posts made here of which followers were not told yet: they are when the
    /// own entry is written, or before, when an entry of a peer brings a copy.
    pub(super) unannounced: BTreeSet<(ConversationId, Identity)>,
    /// Conversations whose rows changed, with their new rows.
    pub(super) conversations: BTreeMap<ConversationId, ConversationRow>,
    /// Origins of which entries were applied.
    pub(super) origins: BTreeSet<OriginId>,
    /// Entries applied, in order.
    pub(super) applied: Vec<Applied>,
    /// Own entries, in order.
    pub(super) own: Vec<Parcel>,
    /// Bytes of entries and bodies taken in.
    pub(super) bytes: usize,
}

impl Building {
    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.created.is_empty() && self.posts.is_empty()
    }
}
