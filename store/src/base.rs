//! A whole space, handed from one node to another: what a node begins with that has nothing, or
//! whose store is lost.
//!
//! ```text
//!   the node that has it                       the node that takes it
//!   Export::of(view) ── Stamp ───────────────▶ Import::begin(view) ─▶ batch: the mark of staging
//!   export.next(view) ── Chunk … ────────────▶ import.take(chunk)  ─▶ batch
//!   none left                                  import.finish(view) ─▶ batch: the space, no mark
//! ```
//! The entries behind the stamp's vector are pulled like any others. Knows no frames and no peers.
//! Invariant: until the last batch the space's own row is missing and the mark of staging stands,
//! so that nobody reads half a space; what is left of an import that was killed is wiped.

mod export;
mod import;
#[cfg(test)]
mod tests;
mod wipe;

pub use export::{Export, ExportError};
pub use import::{Import, ImportError};
pub use wipe::{is_unfinished, wipe, wipe_unfinished};

use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::engine::{EngineError, Table, View};
use crate::id::{ConversationId, Digest, SpaceId};
use crate::name::Name;
use crate::replica::{Point, read_origins, vector_of};
use crate::tables::{
    self, ConversationRow, EditRow, IdentityRow, MarkerRow, ReactionRow, SettingRow, SpaceRow,
    ThreadRow,
};
use crate::vector::VersionVector;

/// The greatest size of a chunk, in bytes: 2 MiB. It is full at [`CHUNK_BYTES`], and one more row
/// may follow.
pub const MAX_CHUNK_BYTES: usize = 2 << 20;
/// The size at which a chunk is full, in bytes: 256 KiB. A snapshot is larger at times.
pub const CHUNK_BYTES: usize = 256 << 10;
/// The greatest length of a key, in bytes.
const MAX_KEY_BYTES: usize = 512;

/// Of which moment a space is handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The space.
    pub name: Name,
    /// What is held, and its digests.
    pub point: Point,
}

impl Stamp {
    /// The stamp of what `view` holds of `space`. None if it holds nothing of it.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub fn of(view: &dyn View, space: SpaceId) -> Result<Option<Self>, EngineError> {
        let Some(row) = tables::get::<SpaceRow>(view, &space)? else { return Ok(None) };
        let point = Point {
            vector: vector_of(&read_origins(view, space)?),
            digest: row.sum.digest(),
            erasures: row.erasures.digest(),
            quarantine: row.quarantine.digest(),
        };
        Ok(Some(Self { name: row.name, point }))
    }

    /// Writes the stamp.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.run(self.name.as_str().as_bytes());
        self.point.vector.encode(encoder);
        let Point { digest, erasures, quarantine, .. } = &self.point;
        encoder.raw(&digest.0).raw(&erasures.0).raw(&quarantine.0);
    }

    /// Reads what [`Stamp::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are no stamp.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let name = decoder.name("space name")?;
        let vector = VersionVector::decode(decoder)?;
        let digest = Digest(decoder.array("digest")?);
        let erasures = Digest(decoder.array("digest of erasures")?);
        let quarantine = Digest(decoder.array("digest of the quarantine")?);
        Ok(Self { name, point: Point { vector, digest, erasures, quarantine } })
    }
}

/// Rows of a space, as they are stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Table, key and sealed value: the checksum that its node wrote goes along.
    pub rows: Vec<(Table, Vec<u8>, Vec<u8>)>,
}

impl Chunk {
    /// Bytes of keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rows.iter().map(|(_, key, value)| key.len() + value.len() + 8).sum()
    }

    /// Writes the number of rows, then each as table, key and value.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.varint(self.rows.len() as u64);
        for (table, key, value) in &self.rows {
            encoder.u8(*table as u8).run(key).run(value);
        }
    }

    /// Reads what [`Chunk::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are cut off, above the limits or of an unknown table.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let count = decoder.count("rows", MAX_CHUNK_BYTES)?;
        let mut rows = Vec::new();
        for _ in 0..count {
            let table = decoder.u8("table")?;
            let table = Table::ALL.get(usize::from(table)).copied();
            let table = table.ok_or_else(|| DecodeError::invalid("table", "unknown"))?;
            let key = decoder.run("key", MAX_KEY_BYTES)?.to_vec();
            let value = decoder.run("value", crate::document::MAX_SAVED_BYTES + (1 << 20))?;
            rows.push((table, key, value.to_vec()));
        }
        Ok(Self { rows })
    }
}

/// The letters of the rows of `index` that go along with a conversation; which messages came late
/// is each node's own.
const LETTERS: [u8; 6] = [
    EditRow::LETTER,
    IdentityRow::LETTER,
    MarkerRow::LETTER,
    ReactionRow::LETTER,
    SettingRow::LETTER,
    ThreadRow::LETTER,
];

/// A range of keys that begin alike.
type Prefix = (Table, Vec<u8>);

/// What holds the rows of a conversation, its own row first: whoever has that knows whose the
/// others are.
fn prefixes_of(id: ConversationId) -> Vec<Prefix> {
    let index = |letter: u8| (Table::Index, [&[letter][..], &id.0].concat());
    let mut prefixes = vec![index(ConversationRow::LETTER)];
    prefixes.extend(LETTERS.map(index));
    prefixes
        .extend([Table::Segments, Table::Timeline, Table::Bodies].map(|it| (it, id.0.to_vec())));
    prefixes
}

/// The conversation behind `after` of those in `space`.
fn conversation_behind(
    view: &dyn View,
    space: SpaceId,
    after: Option<ConversationId>,
) -> Result<Option<ConversationId>, EngineError> {
    let start = match after {
        Some(after) => [&[ConversationRow::LETTER][..], &after.0, &[0]].concat(),
        None => ConversationRow::PREFIX.to_vec(),
    };
    let end = tables::behind(&ConversationRow::PREFIX);
    for row in view.scan(Table::Index, &start, &end, crate::engine::Direction::Forward) {
        let (key, value) = row?;
        let row: ConversationRow = tables::open(&key, &value)?;
        let id = ConversationId::of(space, &row.name, row.incarnation);
        if tables::Whose::of(Table::Index, &key).conversation == Some(id) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}
