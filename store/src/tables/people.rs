//! Rows of the index about people: what they are members of, what they have read.
//!
//! The first byte of a key is a letter that names the kind of row; letters are not used again.

use super::RowType;
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::engine::{EngineError, Table};
use crate::id::{ConversationId, MessageId, SpaceId};
use crate::name::Name;
use crate::seal;

const INDEX_LATE: u8 = b'l';
const INDEX_MARKER: u8 = b'm';
const INDEX_MEMBERSHIP: u8 = b'u';

/// A name in the middle of a key: its length, then its bytes.
fn framed(name: &Name) -> Vec<u8> {
    [&[name.as_str().len() as u8], name.as_str().as_bytes()].concat()
}

/// `index`, `u`: one row for each conversation that a user is a member of, under space, user and
/// conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MembershipRow;

impl MembershipRow {
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = INDEX_MEMBERSHIP;

    /// The prefix of the memberships of `user`.
    #[must_use]
    pub fn prefix(space: SpaceId, user: &Name) -> Vec<u8> {
        [&[INDEX_MEMBERSHIP][..], &space.0, &framed(user)].concat()
    }

    /// User and conversation in a row's key.
    #[must_use]
    pub fn parts(key: &[u8]) -> Option<(Name, ConversationId)> {
        let mut decoder = Decoder::new(key.get(17..)?);
        let length = decoder.u8("length of the name").ok()?;
        let user = decoder.raw("user", usize::from(length)).ok()?;
        let id = ConversationId(decoder.array("conversation").ok()?);
        decoder.end("membership").ok()?;
        Some((std::str::from_utf8(user).ok()?.parse().ok()?, id))
    }

    /// The conversation in a row's key.
    ///
    /// # Errors
    /// When the key is not one of these rows.
    pub fn parse(key: &[u8]) -> Result<ConversationId, EngineError> {
        let id = key.last_chunk::<16>().map(|id| ConversationId(*id));
        id.ok_or_else(|| seal::damaged(Self::TABLE, key, "a key that is too short"))
    }
}

impl RowType for MembershipRow {
    const TABLE: Table = Table::Index;
    type Key = (SpaceId, Name, ConversationId);

    fn key((space, user, conversation): &Self::Key) -> Vec<u8> {
        [&Self::prefix(*space, user)[..], &conversation.0].concat()
    }

    fn encode(&self, _: &mut Encoder) {}

    fn decode(_: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

/// `index`, `m`: up to where a user has read, under conversation and user. The greatest counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkerRow {
    /// The user, once more.
    pub user: Name,
    /// The last message read.
    pub message: MessageId,
}

impl MarkerRow {
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = INDEX_MARKER;

    /// The prefix of the markers of `conversation`.
    #[must_use]
    pub fn prefix(conversation: ConversationId) -> Vec<u8> {
        [&[INDEX_MARKER][..], &conversation.0].concat()
    }
}

impl RowType for MarkerRow {
    const TABLE: Table = Table::Index;
    type Key = (ConversationId, Name);

    fn key((conversation, user): &Self::Key) -> Vec<u8> {
        [&Self::prefix(*conversation)[..], user.as_str().as_bytes()].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.run(self.user.as_str().as_bytes()).raw(&self.message.0);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let user = decoder.name("user")?;
        Ok(Self { user, message: MessageId(decoder.array("message")?) })
    }
}

/// `index`, `l`: a message that was applied here below a user's read marker, until the marker
/// moves. Of this node alone, since it depends on the order of arrival; not in any digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LateRow;

impl LateRow {
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = INDEX_LATE;

    /// The prefix of the late messages of `user`.
    #[must_use]
    pub fn prefix(conversation: ConversationId, user: &Name) -> Vec<u8> {
        [&[INDEX_LATE][..], &conversation.0, &framed(user)].concat()
    }

    /// The message in a row's key.
    ///
    /// # Errors
    /// When the key is not one of these rows.
    pub fn parse(key: &[u8]) -> Result<MessageId, EngineError> {
        let id = key.last_chunk::<16>().map(|id| MessageId(*id));
        id.ok_or_else(|| seal::damaged(Self::TABLE, key, "a key that is too short"))
    }
}

impl RowType for LateRow {
    const TABLE: Table = Table::Index;
    type Key = (ConversationId, Name, MessageId);

    fn key((conversation, user, message): &Self::Key) -> Vec<u8> {
        [&Self::prefix(*conversation, user)[..], &message.0].concat()
    }

    fn encode(&self, _: &mut Encoder) {}

    fn decode(_: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}
