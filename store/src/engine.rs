//! The seam to the disk: a byte key-value store with atomic, durable batches.
//!
//! Everything above works on [`Engine`] and [`View`]; nothing above may know which engine runs.
//! Invariant of the seam: what [`Engine::persist`] wrote is durable when it returns, and no
//! reader sees any of it before. Visibility before durability would show readers words that a
//! power cut takes back.

mod memory;
mod rocks;

#[cfg(test)]
mod contract;

use std::fmt;
use std::sync::Arc;

pub use memory::MemoryEngine;
pub use rocks::RocksEngine;

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

/// One write within a [`Batch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets `key` to `value`.
    Put {
        /// Where.
        table: Table,
        /// The whole key.
        key: Vec<u8>,
        /// The whole value.
        value: Vec<u8>,
    },
    /// Removes `key`; no error if it is absent.
    Delete {
        /// Where.
        table: Table,
        /// The whole key.
        key: Vec<u8>,
    },
}

/// Writes that become durable and visible together, or not at all. Later writes win.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    writes: Vec<Write>,
}

impl Batch {
    /// Adds a write of `value` under `key`.
    pub fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.writes.push(Write::Put { table, key, value });
    }

    /// Adds the removal of `key`.
    pub fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.writes.push(Write::Delete { table, key });
    }

    /// Adds all writes of `later` behind those held.
    pub fn append(&mut self, mut later: Self) {
        self.writes.append(&mut later.writes);
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The writes, in order.
    #[must_use]
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// Bytes of keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.writes
            .iter()
            .map(|write| match write {
                Write::Put { key, value, .. } => key.len() + value.len(),
                Write::Delete { key, .. } => key.len(),
            })
            .sum()
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
    /// Any other failure of the engine, in its own words.
    #[error("the storage engine failed: {0}")]
    Failed(String),
}
