//! Rows of `meta` about runs that are over.
//!
//! The first byte of a key is a letter that names the kind of row; letters are not used again.

use super::RowType;
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::engine::{EngineError, Table};
use crate::id::{OriginId, SpaceId};
use crate::seal;

const META_SUCCESSOR: u8 = b'e';

/// `meta`, `e`: a run's first entry had seen the end of an earlier run of the same node, under
/// space, earlier and later origin. It stands there because the log may be trimmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuccessorRow {
    /// Up to which seq it had seen the earlier run.
    pub seq: u64,
}

impl SuccessorRow {
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = META_SUCCESSOR;

    /// The prefix of the rows of `space`.
    #[must_use]
    pub fn prefix(space: SpaceId) -> Vec<u8> {
        [&[META_SUCCESSOR][..], &space.0].concat()
    }

    /// The earlier and the later origin in a row's key.
    ///
    /// # Errors
    /// When the key is not one of these rows.
    pub fn parse(key: &[u8]) -> Result<(OriginId, OriginId), EngineError> {
        let mut decoder = Decoder::new(key);
        let parse = || {
            decoder.raw("letter and space", 17)?;
            let earlier = OriginId(decoder.array("earlier origin")?);
            let later = OriginId(decoder.array("later origin")?);
            decoder.end("key").map(|()| (earlier, later))
        };
        parse().map_err(|source: DecodeError| seal::damaged(Self::TABLE, key, source))
    }
}

impl RowType for SuccessorRow {
    const TABLE: Table = Table::Meta;
    type Key = (SpaceId, OriginId, OriginId);

    fn key((space, earlier, later): &Self::Key) -> Vec<u8> {
        [&Self::prefix(*space)[..], &earlier.0, &later.0].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.varint(self.seq);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { seq: decoder.varint("seq")? })
    }
}
