//! What the rows about a conversation must be, computed from its documents and the erasure table.
//!
//! Those who verify compare it with the rows that are there; those who repair write it in their
//! place. It knows nothing of batches or replicas. Invariant: what is computed depends on the set
//! of records and the erasure table alone, as what the write path maintains does; so the two are
//! two ways to the same rows, and a fault in either shows.

mod documents;
mod messages;
mod settings;

use std::collections::BTreeMap;

pub(crate) use documents::{documents_of, records_in};
pub(crate) use messages::MessageClaims;
pub(crate) use settings::SettingClaims;

use crate::engine::{EngineError, Table, View};
use crate::erasure::{Erasure, Words};
use crate::id::{ConversationId, Front, Identity, SpaceId};
use crate::name::Name;
use crate::record::BodyReference;
use crate::tables::{self, ErasureKey, RowType};

/// Messages whose documents and rows are held in memory at once, about.
const SHARE_MESSAGES: u64 = 50_000;

/// A part of a conversation's messages, so that one of any size takes bounded memory: those whose
/// identities fall into `part` of `parts`. Each share reads all documents of the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// Which, from 0.
    pub(crate) part: u64,
    /// Of how many.
    pub(crate) parts: u64,
}

impl Share {
    /// The first share of a conversation with so many messages.
    pub(crate) fn first_of(messages: u64) -> Self {
        Self { part: 0, parts: messages / SHARE_MESSAGES + 1 }
    }

    /// The next, if there is one.
    pub(crate) fn next(self) -> Option<Self> {
        let part = self.part + 1;
        (part < self.parts).then_some(Self { part, ..self })
    }

    /// Whether messages with this tail belong to it; all that share a tail share a row.
    pub(crate) fn holds(self, tail: [u8; 8]) -> bool {
        u64::from_be_bytes(tail) % self.parts == self.part
    }
}

/// What is to be forgotten, as far as it bears on one conversation.
pub(crate) struct Forgotten<'a> {
    view: &'a dyn View,
    space: SpaceId,
    conversation: ConversationId,
    authors: &'a BTreeMap<Name, Front>,
    /// Up to where everything has expired.
    pub(crate) cut: Option<Front>,
}

impl<'a> Forgotten<'a> {
    /// Reads what bears on `conversation`; `authors` from [`erased_authors`].
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub(crate) fn of(
        view: &'a dyn View,
        space: SpaceId,
        conversation: ConversationId,
        authors: &'a BTreeMap<Name, Front>,
    ) -> Result<Self, EngineError> {
        let cut: Option<Erasure> = tables::get(view, &(space, ErasureKey::Cut(conversation)))?;
        let cut = match cut {
            Some(Erasure::Cut { up_to, .. }) => Some(up_to),
            Some(_) | None => None,
        };
        Ok(Self { view, space, conversation, authors, cut })
    }

    /// Whether what stands at `front` has expired.
    pub(crate) fn has_expired(&self, front: Front) -> bool {
        self.cut.is_some_and(|cut| front <= cut)
    }

    /// Whether a message by `author` at `front` shows as erased.
    pub(crate) fn is_erased(
        &self,
        identity: Identity,
        author: &Name,
        front: Front,
    ) -> Result<bool, EngineError> {
        let by_author = self.authors.get(author).is_some_and(|up_to| front <= *up_to);
        Ok(by_author || self.is_message_erased(identity)?)
    }

    fn is_message_erased(&self, identity: Identity) -> Result<bool, EngineError> {
        let key = Erasure::key(&(self.space, ErasureKey::Message(self.conversation, identity)));
        Ok(self.view.get(Table::Erasures, &key)?.is_some())
    }

    /// Whether a row covers `words`.
    pub(crate) fn covers(&self, words: &Words<'_>) -> Result<bool, EngineError> {
        let until = |up_to: Option<&Front>| match (words.front, up_to) {
            (Some(front), Some(up_to)) => front <= *up_to,
            (None, _) | (_, None) => false,
        };
        if until(self.cut.as_ref()) || until(self.authors.get(words.author)) {
            return Ok(true);
        }
        words.message.map_or(Ok(false), |identity| self.is_message_erased(identity))
    }
}

/// The authors whose words were erased in a space, up to where.
///
/// # Errors
/// When the engine fails or a row is damaged.
pub(crate) fn erased_authors(
    view: &dyn View,
    space: SpaceId,
) -> Result<BTreeMap<Name, Front>, EngineError> {
    let prefix = Erasure::authors_prefix(space);
    let rows = tables::rows::<Erasure, _>(view, &prefix);
    let mut authors = BTreeMap::new();
    for row in rows {
        if let (_, Erasure::Author { author, up_to }) = row? {
            authors.insert(author, up_to);
        }
    }
    Ok(authors)
}

/// Rows as they must be.
#[derive(Default)]
pub(crate) struct Expected {
    /// Values, sealed, by table and key.
    pub(crate) rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    /// Words that are held, by the keys of their rows.
    pub(crate) words: BTreeMap<Vec<u8>, BodyReference>,
    /// What documents hold that cannot be so: what it is, for people.
    pub(crate) faults: Vec<String>,
}

impl Expected {
    fn row<R: RowType>(&mut self, key: &R::Key, row: &R) {
        let (key, value) = tables::sealed(key, row);
        self.rows.insert((R::TABLE, key), value);
    }
}
