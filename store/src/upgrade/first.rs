//! Rows as format 1 had them, to be read only.
//!
//! Invariant: what is read here is of version 1; a row of another version is damage.

use crate::bytes::{DecodeError, Decoder};
use crate::engine::{EngineError, Table};
use crate::id::{Digest, Front, Identity, MessageId, Millis, NodeId};
use crate::name::Name;
use crate::record::Header;
use crate::seal;

/// Reads the content of a row of version 1.
pub(super) fn read<T>(
    table: Table,
    key: &[u8],
    value: &[u8],
    decode: impl FnOnce(&mut Decoder<'_>) -> Result<T, DecodeError>,
) -> Result<T, EngineError> {
    let mut decoder = Decoder::new(seal::open(table, key, 1, value)?);
    let row = decode(&mut decoder).and_then(|row| decoder.end(table.name()).map(|()| row));
    row.map_err(|source| seal::damaged(table, key, source))
}

/// `timeline`: a header alone.
pub(super) fn header(decoder: &mut Decoder<'_>) -> Result<Header, DecodeError> {
    Header::decode(decoder.take_rest())
}

/// `index`, `i`: each identity with the place of its canonical copy.
pub(super) fn identities(decoder: &mut Decoder<'_>) -> Result<Vec<(Identity, Front)>, DecodeError> {
    let count = decoder.varint("identities")?;
    let placed = (0..count).map(|_| {
        let identity = Identity(decoder.array("identity")?);
        Ok((identity, Front::from_bytes(decoder.array("front")?)))
    });
    placed.collect()
}

/// `index`, `c`.
pub(super) struct Conversation {
    pub(super) name: Name,
    pub(super) incarnation: u32,
    pub(super) ordinal: u32,
    pub(super) records: u32,
    pub(super) record_bytes: u32,
    pub(super) messages: u64,
    pub(super) last: Option<MessageId>,
}

impl Conversation {
    pub(super) fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let conversation = Self {
            name: decoder.name("conversation name")?,
            incarnation: decoder.u32("incarnation")?,
            ordinal: decoder.u32("ordinal")?,
            records: decoder.u32("records")?,
            record_bytes: decoder.u32("record bytes")?,
            messages: decoder.varint("messages")?,
            last: Some(MessageId(decoder.array("last id")?)).filter(|id| *id != MessageId::MIN),
        };
        decoder.raw("row sum", 32)?;
        Ok(conversation)
    }
}

/// `meta`, `o`.
pub(super) struct Origin {
    pub(super) node: NodeId,
    pub(super) region: Name,
    pub(super) started: Millis,
    pub(super) seq: u64,
    pub(super) depth: u64,
    pub(super) digest: Digest,
}

impl Origin {
    pub(super) fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
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

/// `meta`, `s`.
pub(super) struct Space {
    pub(super) name: Name,
    pub(super) clock: Front,
    pub(super) conversations: u64,
    pub(super) messages: u64,
    pub(super) ahead: u64,
}

impl Space {
    pub(super) fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let space = Self {
            name: decoder.name("space name")?,
            clock: Front::from_bytes(decoder.array("clock")?),
            conversations: decoder.varint("conversations")?,
            messages: decoder.varint("messages")?,
            ahead: decoder.varint("ahead")?,
        };
        decoder.raw("row sum", 32)?;
        Ok(space)
    }
}
