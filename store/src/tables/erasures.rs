//! Rows of the erasure table: kept for ever, and only growing.
//!
//! Knows nothing of what an erasure does. Invariant: registers are keyed without their value, so
//! that a greater one takes the place of a lesser one.

use super::RowType;
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::engine::{EngineError, Table, View};
use crate::erasure::Erasure;
use crate::id::{ConversationId, Identity, SpaceId};
use crate::name::Name;

const ERASED_AUTHOR: u8 = b'a';
const ERASED_CONVERSATION: u8 = b'c';
const ERASED_MESSAGE: u8 = b'm';
const CUT: u8 = b'x';

/// Which row of a space's erasure table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErasureKey {
    /// The erasure of one message.
    Message(ConversationId, Identity),
    /// The register of an author.
    Author(Name),
    /// The retirement of a conversation.
    Conversation(ConversationId),
    /// The register of what has expired in a conversation.
    Cut(ConversationId),
}

impl ErasureKey {
    /// The key of `row`.
    #[must_use]
    pub fn of(row: &Erasure) -> Self {
        match row {
            Erasure::Message { conversation, identity } => Self::Message(*conversation, *identity),
            Erasure::Author { author, .. } => Self::Author(author.clone()),
            Erasure::Conversation { conversation, .. } => Self::Conversation(*conversation),
            Erasure::Cut { conversation, .. } => Self::Cut(*conversation),
        }
    }
}

impl Erasure {
    /// The prefix of the rows of `space` that erase what authors wrote.
    #[must_use]
    pub fn authors_prefix(space: SpaceId) -> Vec<u8> {
        [&space.0[..], &[ERASED_AUTHOR]].concat()
    }
}

impl RowType for Erasure {
    const TABLE: Table = Table::Erasures;
    type Key = (SpaceId, ErasureKey);

    fn key((space, key): &Self::Key) -> Vec<u8> {
        let (letter, rest) = match key {
            ErasureKey::Message(conversation, identity) => {
                (ERASED_MESSAGE, [conversation.0, identity.0].concat())
            }
            ErasureKey::Author(author) => (ERASED_AUTHOR, author.as_str().as_bytes().to_vec()),
            ErasureKey::Conversation(conversation) => {
                (ERASED_CONVERSATION, conversation.0.to_vec())
            }
            ErasureKey::Cut(conversation) => (CUT, conversation.0.to_vec()),
        };
        [&space.0[..], &[letter], &rest].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        self.encode(encoder);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

/// All rows of the erasure table of `space`.
///
/// # Errors
/// When the engine fails or a row is damaged.
pub fn erasures_of(
    view: &(impl View + ?Sized),
    space: SpaceId,
) -> Result<Vec<Erasure>, EngineError> {
    super::rows::<Erasure, _>(view, &space.0).map(|row| row.map(|(_, row)| row)).collect()
}
