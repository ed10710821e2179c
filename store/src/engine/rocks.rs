//! The engine on disk: one RocksDB database, one column family a table.
//!
//! With its children the only place that names RocksDB: `tuning` says how tables are stored,
//! `directory` whose a directory is, `purge` how erased bytes leave the files, `check` reads them
//! all, `failure` turns RocksDB's words into [`EngineError`]. It must not know what keys and
//! values mean, beyond how many leading bytes of a key belong together. Invariant: a batch that
//! [`Engine::persist`] acknowledged is in a write-ahead log that was flushed to the device, and
//! after the first failure nothing more is written.

mod check;
mod directory;
mod failure;
mod purge;
mod tuning;

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use rocksdb::properties::CUR_SIZE_ALL_MEM_TABLES;
use rocksdb::{
    Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBIterator, IteratorMode, Options,
    ReadOptions, Snapshot, WriteBatch, WriteOptions,
};

use self::directory::{create_directory, files, refuse_foreign};
use self::failure::{error, io_error, opening_error};
pub use self::tuning::Memory;
use self::tuning::{block_cache, column_families, database, tuning};
use super::{
    Batch, CheckProgress, Direction, Engine, EngineError, KeyRange, Room, Rows, Table, View,
};

/// What RocksDB writes beside a key and a value: kind, table, two lengths.
const BYTES_BESIDE_A_ROW: usize = 12;

/// A store in a directory. Only one process can have a directory open.
pub struct RocksEngine {
    db: DB,
    cache: Cache,
    memory: Memory,
    durably: WriteOptions,
    /// The first failure of a write. After some failures RocksDB refuses further writes, after
    /// others it resumes by itself, and would then make a batch durable without the failed one it
    /// rests on. So nothing is written after the first until the store is opened again.
    failed: OnceLock<EngineError>,
    /// Held while a purge rewrites files: two would only do the same work twice.
    purging: Mutex<()>,
}

impl RocksEngine {
    /// Opens the store in the directory `path`, and creates both where missing, with the default
    /// [`Memory`].
    ///
    /// # Errors
    /// See [`RocksEngine::open_within`].
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        Self::open_within(path, Memory::default())
    }

    /// Opens the store in the directory `path`, and creates both where missing.
    ///
    /// # Errors
    /// [`EngineError::Locked`] if the store is open already, [`EngineError::Foreign`] if the
    /// directory holds anything but a store (it is left as it was), [`EngineError::Damaged`] if a
    /// file is missing or fails its checksum, [`EngineError::Full`] if there is no room.
    pub fn open_within(path: &Path, memory: Memory) -> Result<Self, EngineError> {
        let cache = block_cache(memory);
        let families = column_families(memory, &cache);
        Self::open_with(path, &database(memory), families, memory, cache)
    }

    fn open_with(
        path: &Path,
        options: &Options,
        families: Vec<ColumnFamilyDescriptor>,
        memory: Memory,
        cache: Cache,
    ) -> Result<Self, EngineError> {
        refuse_foreign(path)?;
        create_directory(path).map_err(|error| io_error(path, &error))?;
        let db = DB::open_cf_descriptors(options, path, families)
            .map_err(|error| opening_error(path, error))?;
        let mut durably = WriteOptions::default();
        durably.set_sync(true);
        let (failed, purging) = (OnceLock::new(), Mutex::default());
        Ok(Self { db, cache, memory, durably, failed, purging })
    }

    fn column_family(&self, table: Table) -> Result<&ColumnFamily, EngineError> {
        self.db
            .cf_handle(table.name())
            .ok_or_else(|| EngineError::Failed(format!("table `{table}` is not open")))
    }

    fn check_not_failed(&self) -> Result<(), EngineError> {
        self.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    fn buffered_bytes(&self) -> Result<u64, EngineError> {
        let bytes = |table| {
            let family = self.column_family(table)?;
            let bytes = self.db.property_int_value_cf(family, CUR_SIZE_ALL_MEM_TABLES);
            Ok(bytes.map_err(error)?.unwrap_or(0))
        };
        Table::ALL.into_iter().map(bytes).sum()
    }

    fn write(&self, batch: &Batch) -> Result<(), EngineError> {
        // A batch is megabytes: grown step by step, it would be copied over and over.
        let mut encoded =
            WriteBatch::with_capacity_bytes(batch.bytes() + batch.len() * BYTES_BESIDE_A_ROW);
        for table in Table::ALL {
            let family = self.column_family(table)?;
            for (key, value) in batch.table(table) {
                match value {
                    Some(value) => encoded.put_cf(family, key, value),
                    None => encoded.delete_cf(family, key),
                }
            }
        }
        self.db.write_opt(encoded, &self.durably).map_err(error)
    }
}

impl fmt::Debug for RocksEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksEngine").field("path", &self.db.path()).finish_non_exhaustive()
    }
}

impl View for RocksEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let family = self.column_family(table)?;
        self.db.get_cf(family, key).map_err(error)
    }

    fn scan<'a>(
        &'a self,
        table: Table,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Rows<'a> {
        match self.column_family(table) {
            Ok(family) => rows(self.db.iterator_cf_opt(
                family,
                range(table, start, end, direction),
                mode(direction),
            )),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
}

impl Engine for RocksEngine {
    fn view(&self) -> Box<dyn View + '_> {
        Box::new(Moment { engine: self, snapshot: self.db.snapshot() })
    }

    fn persist(&self, batch: &Batch) -> Result<(), EngineError> {
        self.check_not_failed()?;
        if batch.is_empty() {
            return Ok(());
        }
        self.write(batch).map_err(|error| self.failed.get_or_init(|| error).clone())
    }

    fn disk_bytes(&self) -> u64 {
        // A directory that cannot be read counts as empty: the next write will say what is wrong.
        files(self.db.path()).map_or(0, |files| files.values().sum())
    }

    fn room(&self) -> Result<Room, EngineError> {
        let room = directory::room(self.db.path())?;
        // What lies in the buffers was acknowledged, and must be written to table files yet.
        let owed = self.buffered_bytes()?;
        Ok(Room { free_bytes: room.free_bytes.saturating_sub(owed), ..room })
    }

    fn check_sound(&self) -> Result<(), EngineError> {
        self.check_not_failed()?;
        // After such a failure RocksDB may refuse all writes, for ever or until it has recovered.
        match self.background_failures()? {
            0 => Ok(()),
            _ => Err(EngineError::Failed("a table file could not be written".to_owned())),
        }
    }

    fn purge(&self, ranges: &[KeyRange]) -> Result<(), EngineError> {
        self.check_not_failed()?;
        purge::purge(self, ranges, purge::PATIENCE)
    }

    fn check_files(
        &self,
        go_on: &mut dyn FnMut(CheckProgress) -> bool,
    ) -> Result<Vec<String>, EngineError> {
        check::check_files(self, go_on)
    }
}

/// The database as it was when the view was taken.
struct Moment<'a> {
    engine: &'a RocksEngine,
    snapshot: Snapshot<'a>,
}

impl View for Moment<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let family = self.engine.column_family(table)?;
        self.snapshot.get_cf(family, key).map_err(error)
    }

    fn scan<'a>(
        &'a self,
        table: Table,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Rows<'a> {
        match self.engine.column_family(table) {
            Ok(family) => rows(self.snapshot.iterator_cf_opt(
                family,
                range(table, start, end, direction),
                mode(direction),
            )),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
}

/// How to read the rows with `start <= key < end`.
fn range(table: Table, start: &[u8], end: &[u8], direction: Direction) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(start);
    // RocksDB does not say what it does when the bounds are the wrong way round.
    options.set_iterate_upper_bound(end.max(start));
    options.set_total_order_seek(!keeps_to_one_prefix(table, start, end, direction));
    options
}

/// Whether a scan may skip files by their prefix filter. RocksDB asks the filter about the key
/// that it seeks and no other, so every row of the range must share that key's prefix, or rows
/// are lost: `start` is sought on the way forward, `end` on the way back.
fn keeps_to_one_prefix(table: Table, start: &[u8], end: &[u8], direction: Direction) -> bool {
    let Some(length) = tuning(table).prefix else { return false };
    let Some(prefix) = start.get(..length) else { return false };
    match direction {
        Direction::Forward => !is_beyond(end, prefix),
        Direction::Backward => end.starts_with(prefix),
    }
}

/// Whether there can be a key below `end` that is greater than all that begin with `prefix`.
fn is_beyond(end: &[u8], prefix: &[u8]) -> bool {
    // The least key greater than those: the prefix without its trailing ones, plus one.
    let ones = prefix.iter().rev().take_while(|byte| **byte == 0xff).count();
    match prefix[..prefix.len() - ones].split_last() {
        Some((last, head)) => end > [head, &[last + 1]].concat().as_slice(),
        None => false,
    }
}

/// Where a scan begins: with bounds set, the ends of the database are the ends of the range.
fn mode(direction: Direction) -> IteratorMode<'static> {
    match direction {
        Direction::Forward => IteratorMode::Start,
        Direction::Backward => IteratorMode::End,
    }
}

fn rows(iterator: DBIterator<'_>) -> Rows<'_> {
    Box::new(
        iterator
            .map(|row| row.map(|(key, value)| (key.into_vec(), value.into_vec())).map_err(error)),
    )
}

#[cfg(test)]
mod tests;
