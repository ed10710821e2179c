//! The erasure table of a node, as its disk holds it, and what it covers.
//!
//! Says again, in words of its own, what the store's rows mean. Invariant: rows are never lost:
//! a table only grows.

use std::collections::{BTreeMap, BTreeSet};

use warbler_store::engine::View;
use warbler_store::erasure::{Erasure, Words};
use warbler_store::id::{ConversationId, Front, Identity, SpaceId};
use warbler_store::name::Name;
use warbler_store::tables::erasures_of;

use super::{Broken, Promise};

/// See the module's comment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    messages: BTreeSet<(ConversationId, Identity)>,
    authors: BTreeMap<Name, Front>,
    conversations: BTreeSet<ConversationId>,
    cuts: BTreeMap<ConversationId, Front>,
}

impl Rows {
    /// Reads the table of a disk.
    pub(crate) fn read(view: &(impl View + ?Sized), space: SpaceId) -> Result<Self, String> {
        let mut rows = Self::default();
        for row in erasures_of(view, space).map_err(|error| error.to_string())? {
            rows.add(&row);
        }
        Ok(rows)
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, row: &Erasure) {
        let raise = |held: &mut Front, front: Front| *held = (*held).max(front);
        match row {
            Erasure::Message { conversation, identity } => {
                self.messages.insert((*conversation, *identity));
            }
            Erasure::Author { author, up_to } => {
                raise(self.authors.entry(author.clone()).or_default(), *up_to);
            }
            Erasure::Conversation { conversation, .. } => {
                self.conversations.insert(*conversation);
            }
            Erasure::Cut { conversation, up_to } => {
                raise(self.cuts.entry(*conversation).or_default(), *up_to);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether everything that `before` covers is still covered.
    pub(crate) fn grew_from(&self, before: &Self, node: usize) -> Result<(), Broken> {
        let up_to = |held: Option<&Front>, front: &Front| held.is_some_and(|held| held >= front);
        let kept = before.messages.is_subset(&self.messages)
            && before.conversations.is_subset(&self.conversations)
            && before.authors.iter().all(|(name, front)| up_to(self.authors.get(name), front))
            && before.cuts.iter().all(|(id, front)| up_to(self.cuts.get(id), front));
        match kept {
            true => Ok(()),
            false => Err(Broken::new(
                Promise::Erasure,
                format!("node {node} forgot what it was to forget"),
            )),
        }
    }

    /// Whether a conversation is retired.
    pub(crate) fn retires(&self, conversation: ConversationId) -> bool {
        self.conversations.contains(&conversation)
    }

    /// Whether the words of an author are to be forgotten, at least up to there.
    pub(crate) fn forgets(&self, author: &Name, up_to: Option<Front>) -> bool {
        self.authors.get(author).is_some_and(|held| up_to.is_none_or(|up_to| *held >= up_to))
    }

    /// Whether a message is named.
    pub(crate) fn names(&self, conversation: ConversationId, identity: Identity) -> bool {
        self.messages.contains(&(conversation, identity))
    }

    /// Whether what stands at `front` in a conversation has expired.
    pub(crate) fn expires(&self, conversation: ConversationId, front: Front) -> bool {
        self.cuts.get(&conversation).is_some_and(|cut| front <= *cut)
    }

    /// Whether a message by `author` with this canonical place shows as erased.
    pub(crate) fn erases(
        &self,
        conversation: ConversationId,
        identity: Identity,
        author: &Name,
        front: Front,
    ) -> bool {
        self.messages.contains(&(conversation, identity))
            || self.authors.get(author).is_some_and(|up_to| front <= *up_to)
    }

    /// Whether these words must be gone.
    pub(crate) fn covers(&self, words: &Words<'_>) -> bool {
        let Words { conversation, message, author, front } = *words;
        self.retires(conversation)
            || message.is_some_and(|message| self.messages.contains(&(conversation, message)))
            || front.is_some_and(|front| {
                self.expires(conversation, front)
                    || self.authors.get(author).is_some_and(|up_to| front <= *up_to)
            })
    }
}
