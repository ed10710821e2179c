//! The engine on disk: one RocksDB database, one column family a table.
//!
//! The only file that names RocksDB. Responsible for tuning it, for turning its words into
//! [`EngineError`], and for never opening a directory that is somebody else's. It must not know
//! what keys and values mean, beyond how many leading bytes of a key belong together.
//! Invariant: a batch that [`Engine::persist`] acknowledged is in a write-ahead log that was
//! flushed to the device, and after the first failure nothing more is written.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBIterator, DBRecoveryMode, DEFAULT_COLUMN_FAMILY_NAME, ErrorKind, IteratorMode, Options,
    ReadOptions, SliceTransform, Snapshot, WriteBatch, WriteOptions,
};

use super::{Batch, Direction, Engine, EngineError, Rows, Table, View};

const MIB: usize = 1 << 20;

/// Bytes of the cache that all tables share, index and filter blocks included, so that what
/// reading takes is bounded by this number alone.
const BLOCK_CACHE_BYTES: usize = 64 * MIB;

/// Bytes that rows not yet in a table file may take, over all tables. RocksDB's default of two
/// buffers of 64 MiB a table would be 900 MiB.
const WRITE_BUFFERS_BYTES: usize = 64 * MIB;

/// Bytes of one table's write buffer: half of what all may take, so that a busy table makes few
/// and large files.
const WRITE_BUFFER_BYTES: usize = 32 * MIB;

/// Bytes of write-ahead log at which RocksDB flushes the tables that hold back the oldest file.
/// An idle table would otherwise pin every log since its last write: start-up would replay them
/// all, and erased bytes would stay in them.
const WAL_BYTES: u64 = 128 << 20;

/// Table files open at once; a quarter of the 1,024 descriptors a process commonly gets.
const OPEN_FILES: i32 = 256;

/// Threads that write out buffers and compact.
const BACKGROUND_JOBS: i32 = 4;

/// Bytes a background job writes before it asks the device to take them. Without it a compaction
/// ends in one great flush, and every batch waits behind that.
const BYTES_PER_DEVICE_FLUSH: u64 = 1 << 20;

/// RocksDB's own log of what it does: bytes of one file, and how many are kept.
const INFO_LOG_BYTES: usize = 4 * MIB;
const INFO_LOG_FILES: usize = 4;

/// Bits of filter a key: about one lookup in a hundred reads a block in vain.
const BLOOM_BITS_PER_KEY: f64 = 10.0;

/// Block for tables that are read in runs: larger blocks compress better and a page is in one.
const BLOCK_OF_RUNS_BYTES: usize = 16 << 10;

/// Block for tables that are read a row at a time: reading it costs little more than the row.
const BLOCK_OF_ROWS_BYTES: usize = 4 << 10;

/// The name of the file by which RocksDB finds everything else; a database without it is none.
const CURRENT: &str = "CURRENT";

/// A store in a directory. Only one process can have a directory open.
pub struct RocksEngine {
    db: DB,
    durably: WriteOptions,
    /// The first failure of a write. After some failures RocksDB refuses further writes, after
    /// others it resumes by itself, and would then make a batch durable without the failed one it
    /// rests on. So nothing is written after the first until the store is opened again.
    failed: OnceLock<EngineError>,
}

impl RocksEngine {
    /// Opens the store in the directory `path`, and creates both where missing.
    ///
    /// # Errors
    /// [`EngineError::Locked`] if the store is open already, [`EngineError::Foreign`] if the
    /// directory holds anything but a store (it is left as it was), [`EngineError::Damaged`] if a
    /// file is missing or fails its checksum, [`EngineError::Full`] if there is no room.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        Self::open_with(path, &database())
    }

    fn open_with(path: &Path, options: &Options) -> Result<Self, EngineError> {
        refuse_foreign(path)?;
        create_directory(path).map_err(|error| io_error(path, &error))?;
        let db = DB::open_cf_descriptors(options, path, column_families())
            .map_err(|error| opening_error(path, error))?;
        let mut durably = WriteOptions::default();
        durably.set_sync(true);
        Ok(Self { db, durably, failed: OnceLock::new() })
    }

    fn column_family(&self, table: Table) -> Result<&ColumnFamily, EngineError> {
        self.db
            .cf_handle(table.name())
            .ok_or_else(|| EngineError::Failed(format!("table `{table}` is not open")))
    }

    fn write(&self, batch: &Batch) -> Result<(), EngineError> {
        let mut encoded = WriteBatch::default();
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
        if let Some(error) = self.failed.get() {
            return Err(error.clone());
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.write(batch).map_err(|error| self.failed.get_or_init(|| error).clone())
    }

    fn disk_bytes(&self) -> u64 {
        // A directory that cannot be read counts as empty: the next write will say what is wrong.
        files(self.db.path()).map_or(0, |files| files.values().sum())
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

/// What of the tuning differs between tables.
struct Tuning {
    /// Leading bytes of a key that belong together; scans that stay within them skip the files
    /// that hold none of them.
    prefix: Option<usize>,
    block_bytes: usize,
}

/// Every table, and why it is stored as it is.
const fn tuning(table: Table) -> Tuning {
    match table {
        // Space and origin (16 + 16). Written in order and read in runs from some seq on, for a
        // peer that lacks them; origins of every run of every node pile up in the same files.
        Table::Log => Tuning { prefix: Some(32), block_bytes: BLOCK_OF_RUNS_BYTES },
        // The segment's id (20). Few and large values, all of a segment read at once. No blob
        // files: their garbage outlives a compaction, and with it what was to be erased.
        Table::Segments => Tuning { prefix: Some(20), block_bytes: BLOCK_OF_RUNS_BYTES },
        // The conversation (16). Read a page at a time, newest first as a rule.
        Table::Timeline => Tuning { prefix: Some(16), block_bytes: BLOCK_OF_RUNS_BYTES },
        // Keyed and read like the timeline, kept apart so that erasing rewrites no timeline.
        Table::Bodies => Tuning { prefix: Some(16), block_bytes: BLOCK_OF_RUNS_BYTES },
        // Small, grow-only, looked up row by row; scanned as a whole when peers compare.
        Table::Erasures => Tuning { prefix: None, block_bytes: BLOCK_OF_ROWS_BYTES },
        // Many kinds of rows with keys of many lengths: no prefix fits all. Looked up row by row.
        Table::Index => Tuning { prefix: None, block_bytes: BLOCK_OF_ROWS_BYTES },
        // Few rows, rewritten with every batch.
        Table::Meta => Tuning { prefix: None, block_bytes: BLOCK_OF_ROWS_BYTES },
    }
}

fn column_families() -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    Table::ALL
        .map(|table| ColumnFamilyDescriptor::new(table.name(), column_family(table, &cache)))
        .into()
}

fn column_family(table: Table, cache: &Cache) -> Options {
    let tuning = tuning(table);
    let mut options = Options::default();
    if let Some(length) = tuning.prefix {
        options.set_prefix_extractor(SliceTransform::create_fixed_prefix(length));
    }
    options.set_block_based_table_factory(&blocks(&tuning, cache));
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    // Cheap where data still moves; small where nine tenths of it come to rest.
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    options
}

fn blocks(tuning: &Tuning, cache: &Cache) -> BlockBasedOptions {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_size(tuning.block_bytes);
    // Filters hold prefixes and whole keys: a lookup of an absent key reads no block.
    blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    blocks.set_block_cache(cache);
    // Outside the cache, index and filter blocks would grow with the data, without bound. Those
    // of the newest files are asked in every lookup and stay.
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks
}

fn database() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // The default silently ends the replay at the first bad record, acknowledged batches behind
    // it included. This one forgives only a record that breaks off at the end of a log: a write
    // that was never acknowledged. For anything else the store does not open.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // "The end of a log" must not mean a finished log that lost its end, or is missing.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_total_wal_size(WAL_BYTES);
    options.set_db_write_buffer_size(WRITE_BUFFERS_BYTES);
    options.set_max_open_files(OPEN_FILES);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_bytes_per_sync(BYTES_PER_DEVICE_FLUSH);
    // A reader that drops the last view of a file must not wait for its removal.
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_max_log_file_size(INFO_LOG_BYTES);
    options.set_keep_log_file_num(INFO_LOG_FILES);
    options
}

/// Refuses a directory that is not ours, before anything in it is touched.
fn refuse_foreign(path: &Path) -> Result<(), EngineError> {
    let files = match files(path) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(path, &error)),
    };
    match strangeness(path, &files) {
        Some(why) => Err(EngineError::Foreign { path: path.display().to_string(), why }),
        None => Ok(()),
    }
}

/// What shows that a directory is not ours, if anything does.
fn strangeness(path: &Path, files: &BTreeMap<String, u64>) -> Option<String> {
    if !files.contains_key(CURRENT) {
        let stranger = files.keys().find(|name| !is_from_unfinished_creation(name))?;
        return Some(format!("it holds `{stranger}` but no database"));
    }
    // Fails for a damaged database, and can fail for one that is in use: opening finds out which.
    let names = DB::list_cf(&Options::default(), path).ok()?;
    let is_ours = |name: &String| Table::ALL.iter().any(|table| table.name() == name);
    let unknown = names.iter().find(|name| *name != DEFAULT_COLUMN_FAMILY_NAME && !is_ours(name));
    if let Some(unknown) = unknown {
        return Some(format!("its database has a table `{unknown}`"));
    }
    // A creation of ours that a crash cut short has no tables either, but then no rows.
    (!names.iter().any(is_ours) && files.iter().any(|(name, bytes)| has_rows(name, *bytes)))
        .then(|| "its database has rows but none of our tables".to_owned())
}

/// Whether RocksDB writes a file of this name before it writes `CURRENT`. A crash between the
/// two leaves a directory that we began and must be able to finish.
fn is_from_unfinished_creation(name: &str) -> bool {
    matches!(name, "LOCK" | "IDENTITY" | "LOG")
        || name.starts_with("LOG.old.")
        || name.starts_with("MANIFEST-")
        || name.ends_with(".dbtmp")
}

/// Whether a file of a database (RocksDB's or LevelDB's) holds rows.
fn has_rows(name: &str, bytes: u64) -> bool {
    let is = |extension| Path::new(name).extension().is_some_and(|it| it == extension);
    is("sst") || is("ldb") || (is("log") && bytes > 0)
}

/// Names and sizes in bytes of what is in a directory. RocksDB's files have names in ASCII.
fn files(path: &Path) -> io::Result<BTreeMap<String, u64>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match entry.metadata() {
            Ok(metadata) => files.insert(name, metadata.len()),
            // RocksDB removes files while we look.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
    }
    Ok(files)
}

/// Creates `path` and its parents, and flushes each parent's list of names: otherwise a power cut
/// can take the whole directory, with everything flushed inside it.
fn create_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    create_directory(parent)?;
    fs::create_dir(path)?;
    File::open(parent)?.sync_all()
}

/// RocksDB's error on opening `path`, in our words.
fn opening_error(path: &Path, failure: rocksdb::Error) -> EngineError {
    if is_about_the_lock(failure.as_ref()) {
        return EngineError::Locked { path: path.display().to_string() };
    }
    error(failure)
}

/// Whether RocksDB says that the directory is open: in another process, or in this one. Not any
/// word with "lock" in it will do: a damaged "block" has it, and directories may.
fn is_about_the_lock(text: &str) -> bool {
    text.starts_with("IO error: While lock file")
        || text.starts_with("IO error: lock hold by current process")
}

/// RocksDB's error in our words. It comes as text only.
fn error(failure: rocksdb::Error) -> EngineError {
    let kind = failure.kind();
    let text = failure.into_string();
    let says = |words: &str| text.contains(words);
    if says("No space left") || says("Disk quota exceeded") {
        EngineError::Full(text)
    } else if kind == ErrorKind::Corruption
        // A file of the store that is gone, or that the device fails to read.
        || (kind == ErrorKind::IOError && (says("No such file") || says("Input/output error")))
    {
        EngineError::Damaged(text)
    } else {
        EngineError::Failed(text)
    }
}

/// The system's error about the directory `path`, in our words.
fn io_error(path: &Path, failure: &io::Error) -> EngineError {
    let is = |kind| failure.kind() == kind;
    let text = format!("{}: {failure}", path.display());
    if is(io::ErrorKind::StorageFull) || is(io::ErrorKind::QuotaExceeded) {
        EngineError::Full(text)
    } else if is(io::ErrorKind::NotADirectory) {
        EngineError::Foreign {
            path: path.display().to_string(),
            why: "it is not a directory".to_owned(),
        }
    } else {
        EngineError::Failed(text)
    }
}

#[cfg(test)]
mod tests;
