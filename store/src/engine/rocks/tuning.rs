//! How each table is stored, and the database as a whole.
//!
//! Responsible for every number and switch that RocksDB is given, each with its reason. It must
//! not know what is read or written. Invariant: no switch trades away durability, or the promise
//! that erased bytes can be made to leave the files.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType,
    DBRecoveryMode, Options, SliceTransform,
};

use crate::engine::Table;

const MIB: usize = 1 << 20;

/// The memory that a store may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of the cache that all tables share, index and filter blocks included, so that what
    /// reading takes is bounded by this number alone.
    pub cache: usize,
    /// Bytes that rows not yet in a table file may take, over all tables, before they are written
    /// out; while that goes on about as much again may be filled. One table's buffer is half of
    /// it, so that a busy table makes few and large files.
    pub write_buffers: usize,
}

impl Memory {
    /// The least of either with which a store works: a few blocks, and a few batches.
    pub const LEAST: usize = 8 * MIB;
}

impl Default for Memory {
    /// 64 MiB each. RocksDB's default of two buffers of 64 MiB a table would be 900 MiB.
    fn default() -> Self {
        Self { cache: 64 * MIB, write_buffers: 64 * MIB }
    }
}

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

/// Share of a write buffer that its filter takes on top: some 16 bits a row of 100 bytes.
const BUFFER_FILTER_SHARE: f64 = 0.02;

/// Block for tables that are read in runs: larger blocks compress better and a page is in one.
const BLOCK_OF_RUNS_BYTES: usize = 16 << 10;

/// Block for tables that are read a row at a time: reading it costs little more than the row.
const BLOCK_OF_ROWS_BYTES: usize = 4 << 10;

/// Bytes of one piece of a file's index or filter.
const METADATA_BLOCK_BYTES: usize = 8 << 10;

/// What of the tuning differs between tables.
pub(super) struct Tuning {
    /// Leading bytes of a key that belong together; scans that stay within them skip the files
    /// that hold none of them.
    pub(super) prefix: Option<usize>,
    block_bytes: usize,
    /// Whether lookups are mostly of keys that are not there, so that the buffer needs a filter.
    seeks_the_absent: bool,
    /// Whether what is looked for is there as a rule, so that the last level, where nine tenths of
    /// the rows are, does without a filter: on a cold page each filter would be one more read that
    /// says yes.
    finds_what_it_seeks: bool,
}

const ROWS: Tuning = Tuning {
    prefix: None,
    block_bytes: BLOCK_OF_ROWS_BYTES,
    seeks_the_absent: false,
    finds_what_it_seeks: false,
};

/// Read in runs that are known to be there.
const RUNS: Tuning = Tuning { block_bytes: BLOCK_OF_RUNS_BYTES, finds_what_it_seeks: true, ..ROWS };

/// Every table, and why it is stored as it is.
pub(super) const fn tuning(table: Table) -> Tuning {
    match table {
        // Space and origin (16 + 16). Written in order and read in runs from some seq on, for a
        // peer that lacks them; origins of every run of every node pile up in the same files.
        Table::Log => Tuning { prefix: Some(32), ..RUNS },
        // The segment's id (20). Few and large values, all of a segment read at once. No blob
        // files: their garbage outlives a compaction, and with it what was to be erased.
        Table::Segments => Tuning { prefix: Some(20), finds_what_it_seeks: false, ..RUNS },
        // The conversation (16). Read a page at a time, newest first as a rule.
        Table::Timeline => Tuning { prefix: Some(16), ..RUNS },
        // Keyed and read like the timeline, kept apart so that erasing rewrites no timeline.
        Table::Bodies => Tuning { prefix: Some(16), ..RUNS },
        // Small, grow-only, asked about each message that comes in, mostly in vain; scanned as a
        // whole when peers compare.
        Table::Erasures => Tuning { seeks_the_absent: true, ..ROWS },
        // Many kinds of rows with keys of many lengths: no prefix fits all. Looked up row by row,
        // for each post by its identity, which is new as a rule.
        Table::Index => Tuning { seeks_the_absent: true, ..ROWS },
        // Few rows, rewritten with every batch.
        Table::Meta => ROWS,
    }
}

pub(super) fn block_cache(memory: Memory) -> Cache {
    Cache::new_lru_cache(memory.cache)
}

pub(super) fn column_families(memory: Memory, cache: &Cache) -> Vec<ColumnFamilyDescriptor> {
    Table::ALL
        .map(|table| ColumnFamilyDescriptor::new(table.name(), column_family(table, memory, cache)))
        .into()
}

pub(super) fn column_family(table: Table, memory: Memory, cache: &Cache) -> Options {
    let tuning = tuning(table);
    let mut options = Options::default();
    if let Some(length) = tuning.prefix {
        options.set_prefix_extractor(SliceTransform::create_fixed_prefix(length));
    }
    options.set_block_based_table_factory(&blocks(&tuning, cache));
    options.set_write_buffer_size(memory.write_buffers / 2);
    if tuning.seeks_the_absent {
        // Measured with 200,000 rows in the buffer: a lookup in vain takes 0.25 instead of 1.9 us,
        // one that finds a row and one that writes it about 0.1 us more.
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(BUFFER_FILTER_SHARE);
    }
    options.set_optimize_filters_for_hits(tuning.finds_what_it_seeks);
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
    // In pieces: a cold page reads the pieces that it needs, not a file's whole index and filter,
    // which are a megabyte for a file of 64 MiB.
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks.set_metadata_block_size(METADATA_BLOCK_BYTES);
    blocks.set_pin_top_level_index_and_filter(true);
    blocks
}

pub(super) fn database(memory: Memory) -> Options {
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
    options.set_db_write_buffer_size(memory.write_buffers);
    options.set_max_open_files(OPEN_FILES);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_bytes_per_sync(BYTES_PER_DEVICE_FLUSH);
    // A log file that is used again keeps the bytes that its new rows do not reach yet, erased
    // ones among them. It would make flushes cheaper, since the file's length stays.
    options.set_recycle_log_file_num(0);
    // A reader that drops the last view of a file must not wait for its removal.
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_max_log_file_size(INFO_LOG_BYTES);
    options.set_keep_log_file_num(INFO_LOG_FILES);
    options
}
