//! Rows that describe the store, its spaces and the origins in them.
//!
//! The first byte of a key is a letter that names the kind of row; letters are not used again.

use super::RowType;
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::digest::RowSum;
use crate::engine::{EngineError, Table};
use crate::id::{Digest, Front, Millis, NodeId, OriginId, SpaceId};
use crate::name::Name;
use crate::seal;

const META_FORMAT: u8 = b'f';
const META_NODE: u8 = b'n';
const META_ORIGIN: u8 = b'o';
const META_SPACE: u8 = b's';

/// `meta`, `f`: the version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatRow {
    /// See [`FORMAT_VERSION`].
    pub version: u32,
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
}

impl OriginRow {
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
    type Key = (SpaceId, OriginId);

    fn key((space, origin): &Self::Key) -> Vec<u8> {
        [&Self::prefix(*space)[..], &origin.0].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.raw(&self.node.0).run(self.region.as_str().as_bytes()).u64(self.started);
        encoder.varint(self.seq).varint(self.depth).raw(&self.digest.0);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            node: NodeId(decoder.array("node")?),
            region: decoder.name("region")?,
            started: decoder.u64("start time")?,
            seq: decoder.varint("seq")?,
            depth: decoder.varint("depth")?,
            digest: Digest(decoder.array("chain digest")?),
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
}

impl RowType for SpaceRow {
    const TABLE: Table = Table::Meta;
    type Key = SpaceId;

    fn key(space: &SpaceId) -> Vec<u8> {
        [&[META_SPACE][..], &space.0].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.run(self.name.as_str().as_bytes()).raw(&self.clock.to_bytes());
        encoder.varint(self.conversations).varint(self.messages).varint(self.ahead);
        encoder.raw(&self.sum.to_bytes());
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: decoder.name("space name")?,
            clock: Front::from_bytes(decoder.array("clock")?),
            conversations: decoder.varint("conversations")?,
            messages: decoder.varint("messages")?,
            ahead: decoder.varint("ahead")?,
            sum: RowSum::from_bytes(decoder.array("row sum")?),
        })
    }
}
