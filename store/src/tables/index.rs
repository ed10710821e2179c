//! Rows of the index: conversations, their names, and where each identity stands.
//!
//! The first byte of a key is a letter that names the kind of row; letters are not used again.

use super::RowType;
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::digest::RowSum;
use crate::engine::Table;
use crate::id::{ConversationId, Front, Identity, MessageId, SpaceId};
use crate::name::Name;
use crate::record::Access;

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
    /// Up to where everything has expired.
    pub cut: Option<Front>,
    /// The greatest read marker, if any.
    pub read: Option<MessageId>,
    /// Who may read and write, as the setting says.
    pub access: Access,
    /// Entries about it that could not be applied.
    pub quarantined: u32,
    /// The sum of its rows' digests.
    pub sum: RowSum,
}

impl ConversationRow {
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = INDEX_CONVERSATION;
    /// The prefix of all rows of this kind.
    pub const PREFIX: [u8; 1] = [INDEX_CONVERSATION];

    /// Whether what stands at `front` has expired.
    #[must_use]
    pub fn has_expired(&self, front: Front) -> bool {
        self.cut.is_some_and(|cut| front <= cut)
    }
}

impl RowType for ConversationRow {
    const TABLE: Table = Table::Index;
    const VERSION: u8 = 2;
    type Key = ConversationId;

    fn key(id: &ConversationId) -> Vec<u8> {
        [&[INDEX_CONVERSATION][..], &id.0].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.run(self.name.as_str().as_bytes()).u32(self.incarnation);
        encoder.u32(self.ordinal).u32(self.records).u32(self.record_bytes);
        encoder.varint(self.messages).raw(&self.last.unwrap_or(MessageId::MIN).0);
        encoder.raw(&self.cut.unwrap_or_default().to_bytes());
        encoder.raw(&self.read.unwrap_or(MessageId::MIN).0);
        encoder.u8(u8::from(self.access == Access::Members)).varint(u64::from(self.quarantined));
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
            cut: Some(Front::from_bytes(decoder.array("cut")?))
                .filter(|cut| *cut != Front::default()),
            read: Some(MessageId(decoder.array("read")?)).filter(|id| *id != MessageId::MIN),
            access: if decoder.flag("access")? { Access::Members } else { Access::Open },
            quarantined: decoder.count("quarantined", u32::MAX as usize)? as u32,
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
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = INDEX_NAME;

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

/// One identity with the places of its copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The identity.
    pub identity: Identity,
    /// The fronts at which copies of it are held, the least first; nearly always one.
    pub fronts: Vec<Front>,
}

impl Placed {
    /// The place of the canonical copy.
    #[must_use]
    pub fn canonical(&self) -> Front {
        self.fronts.first().copied().unwrap_or_default()
    }
}

/// `index`, `i`: the identities with one tail, under conversation and tail. Almost always one:
/// two make a row of two.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdentityRow {
    /// By identity.
    pub placed: Vec<Placed>,
}

impl IdentityRow {
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = INDEX_IDENTITY;

    /// Where the copies of `identity` stand.
    #[must_use]
    pub fn placed(&self, identity: Identity) -> Option<&Placed> {
        self.placed.iter().find(|placed| placed.identity == identity)
    }

    /// Where the canonical copy of `identity` stands.
    #[must_use]
    pub fn front(&self, identity: Identity) -> Option<Front> {
        self.placed(identity).map(Placed::canonical)
    }

    /// What the id of any copy names: the message with a copy at its front, or the only one with
    /// its tail.
    #[must_use]
    pub fn find(&self, id: MessageId) -> Option<&Placed> {
        let exact = self.placed.iter().find(|placed| placed.fronts.contains(&id.front()));
        exact.or_else(|| self.placed.first().filter(|_| self.placed.len() == 1))
    }

    /// Adds a place of a copy of `identity`. False if it was known.
    pub fn place(&mut self, identity: Identity, front: Front) -> bool {
        let found = self.placed.binary_search_by_key(&identity, |placed| placed.identity);
        let index = found.unwrap_or_else(|index| {
            self.placed.insert(index, Placed { identity, fronts: Vec::new() });
            index
        });
        let fronts = &mut self.placed[index].fronts;
        let Err(place) = fronts.binary_search(&front) else { return false };
        fronts.insert(place, front);
        true
    }
}

impl RowType for IdentityRow {
    const TABLE: Table = Table::Index;
    const VERSION: u8 = 2;
    type Key = (ConversationId, [u8; 8]);

    fn key((conversation, tail): &Self::Key) -> Vec<u8> {
        [&[INDEX_IDENTITY][..], &conversation.0, tail].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        for placed in &self.placed {
            encoder.raw(&placed.identity.0).varint(placed.fronts.len() as u64);
            for front in &placed.fronts {
                encoder.raw(&front.to_bytes());
            }
        }
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let mut placed = Vec::new();
        while !decoder.is_empty() {
            let identity = Identity(decoder.array("identity")?);
            let count = decoder.varint("copies")?;
            let fronts = (0..count).map(|_| decoder.array("front").map(Front::from_bytes));
            placed.push(Placed { identity, fronts: fronts.collect::<Result<_, _>>()? });
        }
        Ok(Self { placed })
    }
}
