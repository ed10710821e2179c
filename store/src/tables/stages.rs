//! Rows of `meta` about long work on the store that must not be taken for done: the conversion
//! of an older format, and the taking in of a whole space.
//!
//! The first byte of a key is a letter that names the kind of row; letters are not used again.
//! Invariant: while such a row stands the store, or the space, is not to be read by anybody else.

use super::RowType;
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::engine::{EngineError, Table};
use crate::id::SpaceId;
use crate::seal;

const META_STAGING: u8 = b'b';
const META_UPGRADE: u8 = b'u';

/// The greatest length of a cursor, in bytes.
const MAX_CURSOR_BYTES: usize = 1024;

/// `meta`, `u`: how far the conversion from the format before has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeRow {
    /// Which step.
    pub step: u8,
    /// The last key of the step's rows that was converted; empty: none yet.
    pub cursor: Vec<u8>,
}

impl UpgradeRow {
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = META_UPGRADE;
}

impl RowType for UpgradeRow {
    const TABLE: Table = Table::Meta;
    type Key = ();

    fn key((): &()) -> Vec<u8> {
        vec![META_UPGRADE]
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.u8(self.step).run(&self.cursor);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let step = decoder.u8("step")?;
        Ok(Self { step, cursor: decoder.run("cursor", MAX_CURSOR_BYTES)?.to_vec() })
    }
}

/// `meta`, `b`: a space is being taken in whole, and what is held of it is not complete; under
/// the space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StagingRow {
    /// How many chunks were taken in.
    pub chunks: u64,
}

impl StagingRow {
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = META_STAGING;
    /// The prefix of all rows of this kind.
    pub const PREFIX: [u8; 1] = [META_STAGING];

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

impl RowType for StagingRow {
    const TABLE: Table = Table::Meta;
    type Key = SpaceId;

    fn key(space: &SpaceId) -> Vec<u8> {
        [&[META_STAGING][..], &space.0].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.varint(self.chunks);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { chunks: decoder.varint("chunks")? })
    }
}
