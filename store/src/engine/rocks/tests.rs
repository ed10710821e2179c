//! What only RocksDB can get wrong: locks, foreign directories, torn logs, damage.

mod damage;
mod full;
mod purging;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;

use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};
use rocksdb::statistics::Ticker;
use tempfile::TempDir;

use super::failure::is_about_the_lock;
use super::*;

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn open(path: &Path) -> RocksEngine {
    RocksEngine::open(path).expect("the store opens")
}

fn put(engine: &RocksEngine, table: Table, key: &[u8], value: &[u8]) {
    let mut batch = Batch::default();
    batch.put(table, key.to_vec(), value.to_vec());
    engine.persist(&batch).expect("the batch is persisted");
}

fn get(engine: &dyn View, table: Table, key: &[u8]) -> Option<Vec<u8>> {
    engine.get(table, key).expect("the value is read")
}

/// The files with this extension, oldest first.
fn with_extension(path: &Path, extension: &str) -> Vec<PathBuf> {
    let names = files(path).expect("the directory is read").into_keys();
    names
        .map(|name| path.join(name))
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        .collect()
}

fn contents(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = files(path).expect("the directory is read").into_keys();
    // RocksDB removes files while we look.
    names.filter_map(|name| Some((name.clone(), fs::read(path.join(name)).ok()?))).collect()
}

fn flip_byte(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("the file is read");
    bytes[at] ^= 0x10;
    fs::write(file, bytes).expect("the file is written");
}

fn cut_off(file: &Path, bytes: u64) {
    let file = File::options().write(true).open(file).expect("the file");
    let length = file.metadata().expect("its size").len();
    file.set_len(length - bytes).expect("the file is cut");
}

fn assert_foreign(path: &Path, words: &str) {
    let before = contents(path);
    match RocksEngine::open(path) {
        Err(EngineError::Foreign { why, .. }) => assert!(why.contains(words), "{why}"),
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert_eq!(contents(path), before, "the directory is untouched");
}

/// Without the flush a power cut would take what was acknowledged, and no test that only
/// ends the process could tell.
#[test]
fn every_batch_is_flushed_to_the_device() {
    let directory = directory();
    let memory = Memory::default();
    let mut options = database(memory);
    options.enable_statistics();
    let cache = block_cache(memory);
    let families = column_families(memory, &cache);
    let engine = RocksEngine::open_with(directory.path(), &options, families, memory, cache);
    let engine = engine.expect("the store opens");
    let flushes = || options.get_ticker_count(Ticker::WalFileSynced);
    let before = flushes();
    for key in [b"a", b"b", b"c"] {
        put(&engine, Table::Log, key, b"");
    }
    assert_eq!(flushes(), before + 3);
}

#[test]
fn a_process_that_is_killed_loses_no_acknowledged_batch() {
    let (running, killed) = (directory(), directory());
    let engine = open(running.path());
    put(&engine, Table::Log, b"a", b"1");
    for (name, bytes) in contents(running.path()) {
        fs::write(killed.path().join(name), bytes).expect("the file is copied");
    }
    assert_eq!(get(&open(killed.path()), Table::Log, b"a"), Some(b"1".to_vec()));
}

#[test]
fn a_directory_that_is_open_is_locked() {
    let directory = directory();
    let engine = open(directory.path());
    put(&engine, Table::Log, b"a", b"1");
    match RocksEngine::open(directory.path()) {
        Err(EngineError::Locked { path }) => {
            assert_eq!(path, directory.path().display().to_string());
        }
        other => panic!("expected a lock, got {other:?}"),
    }
    assert_eq!(get(&engine, Table::Log, b"a"), Some(b"1".to_vec()));
    drop(engine);
    open(directory.path());
}

#[test]
fn only_what_rocksdb_says_about_the_lock_is_taken_for_a_lock() {
    assert!(is_about_the_lock(
        "IO error: While lock file: /db/LOCK: Resource temporarily unavailable"
    ));
    assert!(!is_about_the_lock(
        "IO error: while open a file for lock: /db/LOCK: Permission denied"
    ));
    assert!(!is_about_the_lock("Corruption: block checksum mismatch in /locks/000008.sst"));
}

#[test]
fn a_store_is_created_with_its_parent_directories() {
    let directory = directory();
    let path = directory.path().join("not/yet/there");
    put(&open(&path), Table::Log, b"a", b"1");
    assert_eq!(get(&open(&path), Table::Log, b"a"), Some(b"1".to_vec()));
}

#[test]
fn a_directory_with_other_files_is_refused_and_untouched() {
    let directory = directory();
    fs::write(directory.path().join("thesis.txt"), "years of work").expect("a file");
    assert_foreign(directory.path(), "thesis.txt");
}

#[test]
fn a_database_with_unknown_tables_is_refused_and_untouched() {
    let directory = directory();
    drop(open(directory.path()));
    let memory = Memory::default();
    let mut families = column_families(memory, &block_cache(memory));
    families.push(ColumnFamilyDescriptor::new("payroll", Options::default()));
    DB::open_cf_descriptors(&database(memory), directory.path(), families).expect("another's");
    assert_foreign(directory.path(), "payroll");
}

/// Most users of RocksDB have no tables but the default one: all their rows are in it.
#[test]
fn a_database_with_rows_and_no_tables_is_refused_and_untouched() {
    let directory = directory();
    let theirs = DB::open_default(directory.path()).expect("another's database");
    theirs.put(b"key", b"value").expect("a row");
    drop(theirs);
    assert_foreign(directory.path(), "none of our tables");

    drop(DB::open_default(directory.path()).expect("the log becomes a table file"));
    assert_foreign(directory.path(), "none of our tables");
}

#[test]
fn a_file_in_place_of_the_directory_is_refused_and_untouched() {
    let directory = directory();
    let path = directory.path().join("file");
    fs::write(&path, "text").expect("a file");
    match RocksEngine::open(&path) {
        Err(EngineError::Foreign { why, .. }) => assert_eq!(why, "it is not a directory"),
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert_eq!(fs::read(&path).expect("still a file"), b"text");
}

/// A crash during the very first start must not make the directory foreign for ever.
#[test]
fn a_creation_that_a_crash_cut_short_is_finished_by_the_next() {
    let before_current = directory();
    for name in ["LOCK", "LOG", "LOG.old.1", "IDENTITY", "MANIFEST-000001", "000001.dbtmp"] {
        fs::write(before_current.path().join(name), "").expect("a file");
    }
    put(&open(before_current.path()), Table::Log, b"a", b"");

    let before_tables = directory();
    drop(DB::open_default(before_tables.path()).expect("an empty database"));
    put(&open(before_tables.path()), Table::Log, b"a", b"");
}

#[test]
fn after_a_failed_write_every_batch_is_refused_until_the_store_is_opened_again() {
    let directory = directory();
    let mut engine = open(directory.path());
    let mut fails = Batch::default();
    fails.put(Table::Log, b"a".to_vec(), vec![]);
    let mut alone_it_would_not = Batch::default();
    alone_it_would_not.put(Table::Meta, b"b".to_vec(), vec![]);

    engine.db.drop_cf(Table::Log.name()).expect("the table is taken away");
    let first = engine.persist(&fails).expect_err("there is no such table");
    let second = engine.persist(&alone_it_would_not).expect_err("still shut");
    assert_eq!(second.to_string(), first.to_string());
    assert_eq!(get(&engine, Table::Meta, b"b"), None);

    drop(engine);
    let engine = open(directory.path());
    engine.persist(&fails).expect("open again");
    engine.persist(&alone_it_would_not).expect("open again");
}

/// Each post asks for an identity that is new as a rule: that must not search the whole buffer.
#[test]
fn a_lookup_in_vain_is_answered_by_the_filter_of_the_buffer() {
    let directory = directory();
    let engine = open(directory.path());
    for table in Table::ALL {
        put(&engine, table, b"there", b"1");
    }
    set_perf_stats(PerfStatsLevel::EnableCount);
    let mut counts = PerfContext::default();
    for table in [Table::Index, Table::Erasures] {
        counts.reset();
        assert_eq!(get(&engine, table, b"not there"), None);
        assert_eq!(counts.metric(PerfMetric::BloomMemtableMissCount), 1, "{table}");
        assert!(get(&engine, table, b"there").is_some());
        assert_eq!(counts.metric(PerfMetric::BloomMemtableHitCount), 1, "{table}");
    }
    set_perf_stats(PerfStatsLevel::Disable);
}

#[test]
fn only_a_scan_that_keeps_to_one_prefix_is_read_through_its_filter() {
    use Direction::{Backward, Forward};
    let key = |prefix: u8, rest: &[u8]| [[prefix; 16].as_slice(), rest].concat();
    let keeps = |start: &[u8], end: &[u8], direction| {
        keeps_to_one_prefix(Table::Timeline, start, end, direction)
    };
    for direction in [Forward, Backward] {
        assert!(keeps(&key(1, &[]), &key(1, &[0xff; 24]), direction));
        assert!(!keeps(&key(1, &[]), &key(2, &[]), direction));
        assert!(!keeps(&[1; 15], &key(1, &[0xff]), direction));
        assert!(!keeps_to_one_prefix(Table::Meta, b"a", b"a", direction));
        let (start, end) = (key(1, &[]), [[1; 31].as_slice(), &[3]].concat());
        assert!(!keeps_to_one_prefix(Table::Log, &start, &end, direction));
    }
    let behind = [[1; 15].as_slice(), &[2]].concat();
    assert!(keeps(&key(1, &[7]), &behind, Forward));
    assert!(!keeps(&key(1, &[7]), &behind, Backward));
    assert!(!keeps(&key(1, &[7]), &[behind.as_slice(), &[0]].concat(), Forward));

    let ending_in_ones = [[1; 14].as_slice(), &[0xff; 2]].concat();
    let behind = [[1; 13].as_slice(), &[2]].concat();
    assert!(keeps(&ending_in_ones, &behind, Forward));
    assert!(!keeps(&ending_in_ones, &[2; 16], Forward));
    assert!(keeps(&[0xff; 16], &[0xff; 64], Forward));
}
