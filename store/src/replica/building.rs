//! What was taken in since the last batch was sealed, beside its rows.

use std::collections::{BTreeMap, BTreeSet};

use crate::entry::Parcel;
use crate::erasure::Erasure;
use crate::id::{ConversationId, Identity, MessageId, OriginId, SegmentId};
use crate::name::Name;
use crate::record::{Body, Message, Statement};
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
    /// Where each of them stands among the entry's records, from 0: messages that expire, or turn
    /// out to be another's, leave gaps and move no other.
    pub places: Vec<u32>,
    /// Ids that turned out to be another message's: (alias, canonical).
    pub aliases: Vec<(ConversationId, MessageId, MessageId)>,
    /// Messages that were edited, redacted or reacted to, by the ids that show.
    pub changed: Vec<(ConversationId, MessageId)>,
    /// Conversations whose settings changed.
    pub settings: Vec<ConversationId>,
    /// What is to be forgotten from now on.
    pub erased: Vec<Erasure>,
}

impl Applied {
    /// An entry that nobody sees anything of.
    #[must_use]
    pub fn nothing(origin: OriginId, seq: u64) -> Self {
        Self {
            origin,
            seq,
            messages: Vec::new(),
            places: Vec::new(),
            aliases: Vec::new(),
            changed: Vec::new(),
            settings: Vec::new(),
            erased: Vec::new(),
        }
    }

    /// Adds a message that stands at `place` among the entry's records.
    pub(crate) fn bring(&mut self, place: usize, message: Message) {
        self.messages.push(message);
        self.places.push(place as u32);
    }
}

/// A local record that waits for its entry.
pub(super) struct Staged {
    pub(super) identity: Identity,
    pub(super) statement: Statement,
    pub(super) body: Option<Body>,
}

/// See the module's comment.
#[derive(Default)]
pub(super) struct Building {
    /// Conversations created here, in order, with their incarnations.
    pub(super) created: Vec<(ConversationId, Name, u32)>,
    /// Records made here, by the segment that takes them.
    pub(super) records: BTreeMap<SegmentId, Vec<Staged>>,
    /// Read markers moved here.
    pub(super) markers: BTreeMap<(ConversationId, Name), MessageId>,
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
    /// Whether anything else changed: rows without an entry.
    pub(super) touched: bool,
    /// Whether words of this very batch are covered: by a row that was applied in it, or before.
    pub(super) forgets: bool,
}

impl Building {
    pub(super) fn is_empty(&self) -> bool {
        !self.touched
            && self.applied.is_empty()
            && self.created.is_empty()
            && self.records.is_empty()
            && self.markers.is_empty()
    }
}
