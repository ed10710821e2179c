//! Rows of the index: conversations, their names, and where each identity stands.
//!
//! The first byte of a key is a letter that names the kind of row; letters are not used again.

use super::RowType;
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::digest::RowSum;
use crate::engine::Table;
use crate::id::{ConversationId, Front, Identity, MessageId, SpaceId};
use crate::name::Name;

const INDEX_CONVERSATION: u8 = b'c';
const INDEX_IDENTITY: u8 = b'i';
const INDEX_NAME: u8 = b'n';

/// `index`, `c`: the state of a conversation, under its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationRow {
    /// Its name.
    pub name: Name,
    /// Which conversation of that name.
    pub incarnation: u32,
    /// The segment that takes appends.
    pub ordinal: u32,
    /// Records in that segment.
    pub records: u32,
    /// Bytes of keys and headers in that segment.
    pub record_bytes: u32,
    /// Messages in the timeline.
    pub messages: u64,
    /// The greatest id in the timeline, if any.
    pub last: Option<MessageId>,
    /// The sum of its rows' digests.
    pub sum: RowSum,
}

impl RowType for ConversationRow {
    const TABLE: Table = Table::Index;
    type Key = ConversationId;

    fn key(id: &ConversationId) -> Vec<u8> {
        [&[INDEX_CONVERSATION][..], &id.0].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.run(self.name.as_str().as_bytes()).u32(self.incarnation);
        encoder.u32(self.ordinal).u32(self.records).u32(self.record_bytes);
        encoder.varint(self.messages).raw(&self.last.unwrap_or(MessageId::MIN).0);
        encoder.raw(&self.sum.to_bytes());
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: decoder.name("conversation name")?,
            incarnation: decoder.u32("incarnation")?,
            ordinal: decoder.u32("ordinal")?,
            records: decoder.u32("records")?,
            record_bytes: decoder.u32("record bytes")?,
            messages: decoder.varint("messages")?,
            last: Some(MessageId(decoder.array("last id")?)).filter(|id| *id != MessageId::MIN),
            sum: RowSum::from_bytes(decoder.array("row sum")?),
        })
    }
}

/// `index`, `n`: the id of the conversation of a name, under space and name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameRow {
    /// The conversation.
    pub conversation: ConversationId,
}

impl NameRow {
    /// The prefix of the names of `space`.
    #[must_use]
    pub fn prefix(space: SpaceId) -> Vec<u8> {
        [&[INDEX_NAME][..], &space.0].concat()
    }
}

impl RowType for NameRow {
    const TABLE: Table = Table::Index;
    type Key = (SpaceId, Name);

    fn key((space, name): &Self::Key) -> Vec<u8> {
        [&Self::prefix(*space)[..], name.as_str().as_bytes()].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.raw(&self.conversation.0);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { conversation: ConversationId(decoder.array("conversation")?) })
    }
}

/// One identity with its canonical place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The identity.
    pub identity: Identity,
    /// The least front at which it is held.
    pub front: Front,
}

/// `index`, `i`: the identities with one tail, under conversation and tail. Almost always one:
/// two make a row of two.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdentityRow {
    /// By identity.
    pub placed: Vec<Placed>,
}

impl IdentityRow {
    /// Where `identity` stands.
    #[must_use]
    pub fn front(&self, identity: Identity) -> Option<Front> {
        self.placed.iter().find(|placed| placed.identity == identity).map(|placed| placed.front)
    }

    /// What the id of any copy names: the message at its front, or the only one with its tail.
    #[must_use]
    pub fn find(&self, id: MessageId) -> Option<Placed> {
        let exact = self.placed.iter().find(|placed| placed.front == id.front());
        let alone = self.placed.first().filter(|_| self.placed.len() == 1);
        exact.or(alone).copied()
    }

    /// Sets where `identity` stands.
    pub fn place(&mut self, identity: Identity, front: Front) {
        match self.placed.binary_search_by_key(&identity, |placed| placed.identity) {
            Ok(index) => self.placed[index].front = front,
            Err(index) => self.placed.insert(index, Placed { identity, front }),
        }
    }
}

impl RowType for IdentityRow {
    const TABLE: Table = Table::Index;
    type Key = (ConversationId, [u8; 8]);

    fn key((conversation, tail): &Self::Key) -> Vec<u8> {
        [&[INDEX_IDENTITY][..], &conversation.0, tail].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.varint(self.placed.len() as u64);
        for placed in &self.placed {
            encoder.raw(&placed.identity.0).raw(&placed.front.to_bytes());
        }
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let count = decoder.varint("identities")?;
        let placed = (0..count).map(|_| {
            let identity = Identity(decoder.array("identity")?);
            Ok(Placed { identity, front: Front::from_bytes(decoder.array("front")?) })
        });
        Ok(Self { placed: placed.collect::<Result<_, DecodeError>>()? })
    }
}
