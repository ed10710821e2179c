//! The tables: what each holds, how its keys are built, and what its values say.
//!
//! Keys are big-endian, so that their order is their meaning's order; values are sealed
//! (`seal.rs`). Invariant: only this file and those under it build or read a key or a value.
//! `FORMAT.md` says the same for people.

mod entries;
mod index;
mod messages;
mod meta;

pub use entries::{DocumentEntryRow, LogRow};
pub use index::{ConversationRow, IdentityRow, NameRow, Placed};
pub use messages::{BodyKey, MessageKey, TimelineRow};
pub use meta::{FormatRow, NodeRow, OriginRow, SpaceRow};

use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::engine::{Batch, EngineError, Table, View};
use crate::seal;

/// The version of every value written today.
const VERSION: u8 = 1;
/// The version of the whole format; a store of a newer one is refused.
pub const FORMAT_VERSION: u32 = 1;

/// A row type: its table, its key and its value, encode and decode facing each other.
pub trait RowType: Sized {
    /// Where the rows lie.
    const TABLE: Table;
    /// What a key is made of.
    type Key;
    /// The key's bytes.
    fn key(key: &Self::Key) -> Vec<u8>;
    /// The value's content.
    fn encode(&self, encoder: &mut Encoder);
    /// Reads the content.
    ///
    /// # Errors
    /// When it is not what [`RowType::encode`] writes.
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError>;
}

/// Reads the row under `key`.
///
/// # Errors
/// When the engine fails or the row is damaged.
pub fn get<R: RowType>(
    view: &(impl View + ?Sized),
    key: &R::Key,
) -> Result<Option<R>, EngineError> {
    let key = R::key(key);
    match view.get(R::TABLE, &key)? {
        Some(value) => open(&key, &value).map(Some),
        None => Ok(None),
    }
}

/// Reads a row from its stored key and value.
///
/// # Errors
/// When the row is damaged.
pub fn open<R: RowType>(key: &[u8], value: &[u8]) -> Result<R, EngineError> {
    let content = seal::open(R::TABLE, key, VERSION, value)?;
    let mut decoder = Decoder::new(content);
    let row = R::decode(&mut decoder).and_then(|row| decoder.end(R::TABLE.name()).map(|()| row));
    row.map_err(|source| seal::damaged(R::TABLE, key, source))
}

/// The stored key and value of a row.
pub fn sealed<R: RowType>(key: &R::Key, row: &R) -> (Vec<u8>, Vec<u8>) {
    let key = R::key(key);
    let mut encoder = Encoder::new();
    row.encode(&mut encoder);
    let value = seal::seal(R::TABLE, &key, VERSION, &encoder.finish());
    (key, value)
}

/// Adds the writing of a row to `batch`.
pub fn put<R: RowType>(batch: &mut Batch, key: &R::Key, row: &R) {
    let (key, value) = sealed(key, row);
    batch.put(R::TABLE, key, value);
}

/// The first key behind all that begin with `prefix`.
#[must_use]
pub fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0xff; prefix.len() + 64]
}
