//! Rows of messages: what a reader sees, and the words.
//!
//! `timeline` and `bodies` have the same keys, so that a page reads both side by side. Invariant:
//! the order of the keys of a conversation is the order of its messages.

use super::RowType;
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::engine::{EngineError, Table};
use crate::id::{ConversationId, Front, Identity, MessageId};
use crate::record::{Body, Header, MAX_BODY_BYTES, Record};
use crate::seal;

/// Where a message stands: its id, with the whole identity in place of the half. So two messages
/// whose identities share the half, and whose fronts are equal, have a row each everywhere, and
/// which came first makes no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageKey {
    /// Where it was said.
    pub conversation: ConversationId,
    /// Its place in the timeline.
    pub front: Front,
    /// Its identity.
    pub identity: Identity,
}

impl MessageKey {
    /// Length in bytes.
    pub const BYTES: usize = 40;
    /// Length of the part that conversation and id determine, in bytes.
    pub const ID_PREFIX_BYTES: usize = 32;

    /// Where `record` stands in `conversation`.
    #[must_use]
    pub fn of(conversation: ConversationId, record: &Record) -> Self {
        Self { conversation, front: record.header.front, identity: record.identity }
    }

    /// The message's id.
    #[must_use]
    pub fn id(&self) -> MessageId {
        MessageId::new(self.front, self.identity)
    }

    /// What the keys of all messages of `conversation` with this id begin with.
    #[must_use]
    pub fn id_prefix(conversation: ConversationId, id: MessageId) -> Vec<u8> {
        [conversation.0, id.0].concat()
    }

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.conversation.0);
        bytes[16..24].copy_from_slice(&self.front.to_bytes());
        bytes[24..].copy_from_slice(&self.identity.0);
        bytes
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            conversation: ConversationId(decoder.array("conversation")?),
            front: Front::from_bytes(decoder.array("front")?),
            identity: Identity(decoder.array("identity")?),
        })
    }
}

/// `timeline`: the header of a message, under conversation, front and identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineRow {
    /// Its header.
    pub header: Header,
}

impl TimelineRow {
    /// What a row's key says.
    ///
    /// # Errors
    /// When the key is not one of this table.
    pub fn parse(key: &[u8]) -> Result<MessageKey, EngineError> {
        let mut decoder = Decoder::new(key);
        let read = MessageKey::read(&mut decoder);
        read.and_then(|read| decoder.end("key").map(|()| read))
            .map_err(|source| seal::damaged(Self::TABLE, key, source))
    }
}

impl RowType for TimelineRow {
    const TABLE: Table = Table::Timeline;
    type Key = MessageKey;

    fn key(key: &MessageKey) -> Vec<u8> {
        key.to_bytes().to_vec()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.raw(&self.header.encode());
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { header: Header::decode(decoder.take_rest())? })
    }
}

/// `bodies`: a body with its salt, keyed like the timeline. A second copy of a message under the
/// same id (an import of one message in two regions) stands behind the first, with its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyKey {
    /// The message.
    pub message: MessageKey,
    /// The digest of the body's reference, for all copies but the first to arrive.
    pub copy: Option<[u8; 16]>,
}

impl RowType for Body {
    const TABLE: Table = Table::Bodies;
    type Key = BodyKey;

    fn key(key: &BodyKey) -> Vec<u8> {
        let copy = key.copy.as_ref().map_or(&[][..], |digest| &digest[..]);
        [&key.message.to_bytes()[..], copy].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.raw(&self.salt).raw(&self.bytes);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let salt = decoder.array("salt")?;
        let bytes = decoder.take_rest();
        if bytes.len() > MAX_BODY_BYTES {
            return Err(DecodeError::invalid("body", format!("{} bytes", bytes.len())));
        }
        Ok(Self { salt, bytes: bytes.to_vec() })
    }
}
