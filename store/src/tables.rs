//! The tables: what each holds, how its keys are built, and what its values say.
//!
//! Keys are big-endian, so that their order is their meaning's order; values are sealed
//! (`seal.rs`). Invariant: only this file and those under it build or read a key or a value.
//! `FORMAT.md` says the same for people.

mod any;
mod deeds;
mod entries;
mod erasures;
mod index;
mod messages;
mod meta;
mod people;
mod stages;
mod topology;

pub use any::{Whose, check};
pub use deeds::{EditKey, EditRow, ReactionKey, ReactionRow, SettingRow, ThreadKey, ThreadRow};
pub use entries::{ChangeRow, LogRow, SnapshotRow};
pub use erasures::{ErasureKey, erasures_of};
pub use index::{ConversationRow, IdentityRow, NameRow, Placed};
pub use messages::{BodyKey, MessageKey, TimelineRow};
pub use meta::{FormatRow, NodeRow, OriginRow, QuarantineRow, SpaceRow, SweepRow};
pub use people::{LateRow, MarkerRow, MembershipRow};
pub use stages::{StagingRow, UpgradeRow};
pub use topology::SuccessorRow;

use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::engine::{Batch, Direction, EngineError, Table, View};
use crate::seal;

/// The version of the whole format; a store of a newer one is refused, an older one converted.
pub const FORMAT_VERSION: u32 = 2;

/// A row type: its table, its key and its value, encode and decode facing each other.
pub trait RowType: Sized {
    /// Where the rows lie.
    const TABLE: Table;
    /// The version of the values written today.
    const VERSION: u8 = 1;
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
    let content = seal::open(R::TABLE, key, R::VERSION, value)?;
    let mut decoder = Decoder::new(content);
    let row = R::decode(&mut decoder).and_then(|row| decoder.end(R::TABLE.name()).map(|()| row));
    row.map_err(|source| seal::damaged(R::TABLE, key, source))
}

/// The content of a row's value.
pub fn content<R: RowType>(row: &R) -> Vec<u8> {
    let mut encoder = Encoder::with_capacity(64);
    row.encode(&mut encoder);
    encoder.finish()
}

/// The stored key and value of a row.
pub fn sealed<R: RowType>(key: &R::Key, row: &R) -> (Vec<u8>, Vec<u8>) {
    let key = R::key(key);
    let value = seal::seal(R::TABLE, &key, R::VERSION, &content(row));
    (key, value)
}

/// Adds the writing of a row to `batch`.
pub fn put<R: RowType>(batch: &mut Batch, key: &R::Key, row: &R) {
    let (key, value) = sealed(key, row);
    batch.put(R::TABLE, key, value);
}

/// Adds the removal of a row to `batch`.
pub fn delete<R: RowType>(batch: &mut Batch, key: &R::Key) {
    batch.delete(R::TABLE, R::key(key));
}

/// The rows of one type whose keys begin with `prefix`, with their keys, in the order of the keys.
pub fn rows<'a, R: RowType + 'a, V: View + ?Sized>(
    view: &'a V,
    prefix: &[u8],
) -> impl Iterator<Item = Result<(Vec<u8>, R), EngineError>> + use<'a, R, V> {
    let rows = view.scan(R::TABLE, prefix, &behind(prefix), Direction::Forward);
    rows.map(|row| {
        let (key, value) = row?;
        let row = open(&key, &value)?;
        Ok((key, row))
    })
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
