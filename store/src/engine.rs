//! The seam to the disk: a byte key-value store with atomic, durable batches.
//!
//! Everything above works on [`Engine`] and [`View`]; nothing above may know which engine runs.
//! Invariant of the seam: what [`Engine::persist`] wrote is durable when it returns, and no
//! reader sees any of it before. Visibility before durability would show readers words that a
//! power cut takes back.

mod memory;
mod rocks;
mod slot;

#[cfg(test)]
mod contract;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

pub use memory::MemoryEngine;
pub use rocks::{Memory, RocksEngine};
pub use slot::EngineSlot;

/// The tables of a node. `tables.rs` says what each holds and how its keys are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Entries, by space, origin and seq.
    Log,
    /// What a segment document is loaded from.
    Segments,
    /// One row a message: what a reader sees.
    Timeline,
    /// Bodies and their salts, keyed like the timeline.
    Bodies,
    /// Erasure rows.
    Erasures,
    /// Names, identities and the state of each conversation.
    Index,
    /// Format version, origins, vectors, digests.
    Meta,
}

impl Table {
    /// Every table, in a fixed order.
    pub const ALL: [Self; 7] = [
        Self::Log,
        Self::Segments,
        Self::Timeline,
        Self::Bodies,
        Self::Erasures,
        Self::Index,
        Self::Meta,
    ];

    /// The table's name on disk and in errors.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Segments => "segments",
            Self::Timeline => "timeline",
            Self::Bodies => "bodies",
            Self::Erasures => "erasures",
            Self::Index => "index",
            Self::Meta => "meta",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The writes to one table: each key with its new value, or with none to be removed.
type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Writes that become durable and visible together, or not at all. Of several writes of one key
/// the last counts, so a batch is a map, and can be read like what it will become.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// In the order of [`Table::ALL`].
    tables: [Writes; Table::ALL.len()],
    bytes: usize,
}

impl Batch {
    /// Adds a write of `value` under `key`.
    pub fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.write(table, key, Some(value));
    }

    /// Adds the removal of `key`; no error if it is absent.
    pub fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.write(table, key, None);
    }

    fn write(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        let length = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        let key_bytes = key.len();
        self.bytes += length(&value);
        match self.tables[table as usize].insert(key, value) {
            Some(before) => self.bytes -= length(&before),
            None => self.bytes += key_bytes,
        }
    }

    /// Adds all writes of `later` over those held.
    pub fn append(&mut self, later: Self) {
        for (table, writes) in Table::ALL.into_iter().zip(later.tables) {
            writes.into_iter().for_each(|(key, value)| self.write(table, key, value));
        }
    }

    /// What the batch does to `key`: `None` if nothing, `Some(None)` if it removes it.
    #[must_use]
    pub fn get(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.tables[table as usize].get(key).map(Option::as_deref)
    }

    /// The writes of keys from `start` to before `end`, in the order of the keys.
    pub fn range<'a>(
        &'a self,
        table: Table,
        start: &[u8],
        end: &[u8],
    ) -> impl DoubleEndedIterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        // A map refuses to be asked for a range that ends before it starts.
        let bounds = (Bound::Included(start), Bound::Excluded(end.max(start)));
        let writes = (start < end).then(|| self.tables[table as usize].range::<[u8], _>(bounds));
        writes.into_iter().flatten().map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    /// All writes, by table and key.
    pub fn iter(&self) -> impl Iterator<Item = (Table, &[u8], Option<&[u8]>)> {
        let tables = Table::ALL.into_iter();
        tables.flat_map(|table| self.table(table).map(move |(key, value)| (table, key, value)))
    }

    /// The writes of one table, by key.
    pub fn table(&self, table: Table) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let writes = self.tables[table as usize].iter();
        writes.map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    /// How many keys are written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tables.iter().map(BTreeMap::len).sum()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(BTreeMap::is_empty)
    }

    /// Bytes of keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Which way a scan walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Forward,
    /// Greatest key first.
    Backward,
}

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Rows of a scan, each read when asked for.
pub type Rows<'a> = Box<dyn Iterator<Item = Result<Row, EngineError>> + 'a>;

/// Something to read from: the newest durable state, or one moment of it.
pub trait View {
    /// The value under `key`, if any.
    ///
    /// # Errors
    /// When the engine cannot read.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// The rows with `start <= key < end`, in the order of `direction`. Empty when `end <= start`.
    fn scan<'a>(&'a self, table: Table, start: &[u8], end: &[u8], direction: Direction)
    -> Rows<'a>;
}

/// A store of bytes. Shared by threads; [`Engine::persist`] is called by one at a time.
pub trait Engine: View + Send + Sync {
    /// One unchanging moment: later writes are not seen through it.
    fn view(&self) -> Box<dyn View + '_>;

    /// Writes `batch` atomically. On `Ok` it is durable and visible. On `Err` the outcome is
    /// unknown: the caller must treat it as a crash and reopen.
    ///
    /// # Errors
    /// When writing or flushing fails.
    fn persist(&self, batch: &Batch) -> Result<(), EngineError>;

    /// Bytes of disk the engine's files take, about.
    fn disk_bytes(&self) -> u64;

    /// What room the device has.
    ///
    /// # Errors
    /// When the system does not say.
    fn room(&self) -> Result<Room, EngineError>;

    /// Whether writing goes well also behind the scenes, where nobody waits for an answer.
    ///
    /// # Errors
    /// When it does not, or a write has failed: the engine should be opened again.
    fn check_sound(&self) -> Result<(), EngineError>;

    /// Makes erased bytes leave the device. When it returns `Ok`, no file holds a value of a row
    /// within `ranges` that was deleted or overwritten before the call. Keys may stay in files
    /// that say what lies where. Writes may go on meanwhile; it takes long, and rewrites at least
    /// the files that hold rows of the ranges, so gather ranges before calling.
    ///
    /// # Errors
    /// [`EngineError::Busy`] if after half a minute a view or scan from before is still open: then
    /// the bytes are still there, and the call must be repeated. Any other error likewise.
    fn purge(&self, ranges: &[KeyRange]) -> Result<(), EngineError>;

    /// Reads every row of every file, past all caches of the engine's own, and returns the damage
    /// found, a sentence each that names table and file. Calls `go_on` with its progress now and
    /// then; when that answers false, it returns what it found so far. Slow: do not hold back a
    /// writer for it.
    ///
    /// # Errors
    /// When reading fails for another reason than damage.
    fn check_files(
        &self,
        go_on: &mut dyn FnMut(CheckProgress) -> bool,
    ) -> Result<Vec<String>, EngineError>;
}

/// The keys of a table from one to before another.
pub type KeyRange = (Table, Vec<u8>, Vec<u8>);

/// Room on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes it has in all; `u64::MAX` if there is no limit.
    pub total_bytes: u64,
    /// Bytes that can still be written, less those that the engine owes to the device already.
    pub free_bytes: u64,
}

/// How far [`Engine::check_files`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckProgress {
    /// The table being read, in the order of [`Table::ALL`].
    pub table: Table,
    /// Bytes of keys and values read so far.
    pub bytes: u64,
}

/// An engine that several owners share.
pub type SharedEngine = Arc<dyn Engine>;

/// Why an engine could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The data directory is open in another process.
    #[error("{path} is in use by another process")]
    Locked {
        /// The directory.
        path: String,
    },
    /// The directory holds something that is not ours, or is of a newer format.
    #[error("{path} is not a Warbler store: {why}")]
    Foreign {
        /// The directory.
        path: String,
        /// What was found.
        why: String,
    },
    /// Bytes on disk fail their checksum or cannot be read.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// No room is left on the device.
    #[error("no space left on the device: {0}")]
    Full(String),
    /// It is not done yet, because somebody holds what it would change. Ask again.
    #[error("the storage engine is busy: {0}")]
    Busy(String),
    /// The engine is closed for a moment, after a failure.
    #[error("the store is being opened again after a failure")]
    Reopening,
    /// Any other failure of the engine, in its own words.
    #[error("the storage engine failed: {0}")]
    Failed(String),
}

impl EngineError {
    /// What to do now, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Locked { .. } => Some("end the other process first"),
            Self::Foreign { .. } => Some("name another directory; nothing in this one was changed"),
            Self::Damaged(_) => Some(
                "keep the directory as it is; a node can be set up anew with `warbler init`, and \
                 takes everything from its peers",
            ),
            Self::Full(_) => Some("make room on the device; nothing acknowledged is lost"),
            Self::Busy(_) | Self::Reopening => Some("try again in a moment"),
            Self::Failed(_) => None,
        }
    }
}
