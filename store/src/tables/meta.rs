//! Rows that describe the store, its spaces and the origins in them.
//!
//! The first byte of a key is a letter that names the kind of row; letters are not used again.

use super::RowType;
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::digest::RowSum;
use crate::engine::{EngineError, Table};
use crate::id::{ConversationId, Digest, Front, Millis, NodeId, OriginId, SpaceId};
use crate::name::Name;
use crate::seal;

const META_FORMAT: u8 = b'f';
const META_NODE: u8 = b'n';
const META_ORIGIN: u8 = b'o';
const META_QUARANTINE: u8 = b'q';
const META_SPACE: u8 = b's';
const META_SWEEP: u8 = b'w';

/// `meta`, `f`: the version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatRow {
    /// See [`FORMAT_VERSION`].
    pub version: u32,
}

impl FormatRow {
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = META_FORMAT;
}

impl RowType for FormatRow {
    const TABLE: Table = Table::Meta;
    type Key = ();

    fn key((): &()) -> Vec<u8> {
        vec![META_FORMAT]
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.u32(self.version);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { version: decoder.u32("format version")? })
    }
}

/// `meta`, `n`: the node whose store this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRow {
    /// The node.
    pub node: NodeId,
}

impl NodeRow {
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = META_NODE;
}

impl RowType for NodeRow {
    const TABLE: Table = Table::Meta;
    type Key = ();

    fn key((): &()) -> Vec<u8> {
        vec![META_NODE]
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.raw(&self.node.0);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { node: NodeId(decoder.array("node")?) })
    }
}

/// `meta`, `o`: what is held of an origin, under space and origin. All of a space's rows are its
/// version vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginRow {
    /// The node whose run it is.
    pub node: NodeId,
    /// The node's region.
    pub region: Name,
    /// When the run started.
    pub started: Millis,
    /// Up to which seq everything is held.
    pub seq: u64,
    /// The depth of the entry with that seq.
    pub depth: u64,
    /// The chain digest up to and with that entry.
    pub digest: Digest,
    /// Up to which seq the log was trimmed: entries above are held as they were written, those
    /// below only as what they did.
    pub trimmed: u64,
    /// The chain digest up to and with the last entry that was trimmed.
    pub base: Digest,
}

impl OriginRow {
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = META_ORIGIN;

    /// The prefix of the origins of `space`.
    #[must_use]
    pub fn prefix(space: SpaceId) -> Vec<u8> {
        [&[META_ORIGIN][..], &space.0].concat()
    }

    /// The origin in a row's key.
    ///
    /// # Errors
    /// When the key is not one of these rows.
    pub fn parse(key: &[u8]) -> Result<OriginId, EngineError> {
        match key.get(17..).and_then(|origin| origin.try_into().ok()) {
            Some(origin) => Ok(OriginId(origin)),
            None => Err(seal::damaged(Self::TABLE, key, "a key of another length")),
        }
    }
}

impl RowType for OriginRow {
    const TABLE: Table = Table::Meta;
    const VERSION: u8 = 2;
    type Key = (SpaceId, OriginId);

    fn key((space, origin): &Self::Key) -> Vec<u8> {
        [&Self::prefix(*space)[..], &origin.0].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.raw(&self.node.0).run(self.region.as_str().as_bytes()).u64(self.started);
        encoder.varint(self.seq).varint(self.depth).raw(&self.digest.0);
        encoder.varint(self.trimmed).raw(&self.base.0);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            node: NodeId(decoder.array("node")?),
            region: decoder.name("region")?,
            started: decoder.u64("start time")?,
            seq: decoder.varint("seq")?,
            depth: decoder.varint("depth")?,
            digest: Digest(decoder.array("chain digest")?),
            trimmed: decoder.varint("trimmed")?,
            base: Digest(decoder.array("base digest")?),
        })
    }
}

/// `meta`, `s`: the state of a space, under its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceRow {
    /// Its name.
    pub name: Name,
    /// The greatest front seen that was not too far ahead.
    pub clock: Front,
    /// Conversations in it.
    pub conversations: u64,
    /// Messages in their timelines.
    pub messages: u64,
    /// Ids met that lay too far ahead of the clock.
    pub ahead: u64,
    /// The sum of all rows' digests.
    pub sum: RowSum,
    /// The sum of the digests of the erasure table's rows.
    pub erasures: RowSum,
    /// How many messages the erasure table names one by one.
    pub erased_messages: u64,
    /// The sum of the digests of the quarantine's rows.
    pub quarantine: RowSum,
}

impl SpaceRow {
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = META_SPACE;
    /// The prefix of all rows of this kind.
    pub const PREFIX: [u8; 1] = [META_SPACE];

    /// The space in a row's key.
    ///
    /// # Errors
    /// When the key is not one of these rows.
    pub fn parse(key: &[u8]) -> Result<SpaceId, EngineError> {
        match key.get(1..).and_then(|space| space.try_into().ok()) {
            Some(space) => Ok(SpaceId(space)),
            None => Err(seal::damaged(Self::TABLE, key, "a key of another length")),
        }
    }
}

impl RowType for SpaceRow {
    const TABLE: Table = Table::Meta;
    const VERSION: u8 = 2;
    type Key = SpaceId;

    fn key(space: &SpaceId) -> Vec<u8> {
        [&[META_SPACE][..], &space.0].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.run(self.name.as_str().as_bytes()).raw(&self.clock.to_bytes());
        encoder.varint(self.conversations).varint(self.messages).varint(self.ahead);
        encoder.raw(&self.sum.to_bytes()).raw(&self.erasures.to_bytes());
        encoder.varint(self.erased_messages).raw(&self.quarantine.to_bytes());
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: decoder.name("space name")?,
            clock: Front::from_bytes(decoder.array("clock")?),
            conversations: decoder.varint("conversations")?,
            messages: decoder.varint("messages")?,
            ahead: decoder.varint("ahead")?,
            sum: RowSum::from_bytes(decoder.array("row sum")?),
            erasures: RowSum::from_bytes(decoder.array("erasure sum")?),
            erased_messages: decoder.varint("erased messages")?,
            quarantine: RowSum::from_bytes(decoder.array("quarantine sum")?),
        })
    }
}

/// `meta`, `q`: why an entry that is held could not be applied, under space, origin and seq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineRow {
    /// The conversation it is about, if it is about one.
    pub conversation: Option<ConversationId>,
    /// Why, for people.
    pub why: String,
}

/// The greatest length of a reason that is kept, in bytes.
const MAX_WHY_BYTES: usize = 1024;

impl QuarantineRow {
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = META_QUARANTINE;

    /// The prefix of the quarantine of `space`.
    #[must_use]
    pub fn prefix(space: SpaceId) -> Vec<u8> {
        [&[META_QUARANTINE][..], &space.0].concat()
    }

    /// The row, with a reason that is not too long to be kept.
    #[must_use]
    pub fn new(conversation: Option<ConversationId>, why: &str) -> Self {
        let mut end = why.len().min(MAX_WHY_BYTES);
        while !why.is_char_boundary(end) {
            end -= 1;
        }
        Self { conversation, why: why[..end].to_owned() }
    }

    /// Origin and seq in a row's key.
    ///
    /// # Errors
    /// When the key is not one of these rows.
    pub fn parse(key: &[u8]) -> Result<(OriginId, u64), EngineError> {
        let mut decoder = Decoder::new(key);
        let mut parse = || {
            decoder.raw("letter and space", 17)?;
            Ok((OriginId(decoder.array("origin")?), decoder.u64("seq")?))
        };
        parse().map_err(|source: DecodeError| seal::damaged(Self::TABLE, key, source))
    }
}

impl RowType for QuarantineRow {
    const TABLE: Table = Table::Meta;
    type Key = (SpaceId, OriginId, u64);

    fn key((space, origin, seq): &Self::Key) -> Vec<u8> {
        [&Self::prefix(*space)[..], &origin.0, &seq.to_be_bytes()].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.u8(u8::from(self.conversation.is_some()));
        if let Some(conversation) = self.conversation {
            encoder.raw(&conversation.0);
        }
        encoder.run(self.why.as_bytes());
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let given = decoder.flag("conversation")?;
        let conversation = given.then(|| decoder.array("conversation").map(ConversationId));
        let conversation = conversation.transpose()?;
        Ok(Self { conversation, why: decoder.text("reason", MAX_WHY_BYTES)?.to_owned() })
    }
}

/// `meta`, `w`: words of a conversation were erased and may still lie in files, or rows of it are
/// still to be removed, under space and conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepRow {
    /// When the first of the erasures was applied, by this node's clock.
    pub since: Millis,
    /// How many were applied: one more than was swept up means there is more to sweep.
    pub erasures: u64,
}

impl SweepRow {
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = META_SWEEP;

    /// The prefix of the sweeps of `space`.
    #[must_use]
    pub fn prefix(space: SpaceId) -> Vec<u8> {
        [&[META_SWEEP][..], &space.0].concat()
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

impl RowType for SweepRow {
    const TABLE: Table = Table::Meta;
    type Key = (SpaceId, ConversationId);

    fn key((space, conversation): &Self::Key) -> Vec<u8> {
        [&Self::prefix(*space)[..], &conversation.0].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.varint(self.since).varint(self.erasures);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let since = decoder.varint("since")?;
        Ok(Self { since, erasures: decoder.varint("erasures")? })
    }
}
