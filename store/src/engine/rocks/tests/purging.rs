//! Whether erased bytes have left the files, told by reading the files.

use std::thread;
use std::time::Duration;

use super::*;
use crate::engine::contract::END;
use rocksdb::DBCompressionType;

/// 32 bytes that no compression shortens and nothing else has.
fn marker(number: u64) -> Vec<u8> {
    blake3::hash(&number.to_be_bytes()).as_bytes().to_vec()
}

/// An engine whose table files hold rows as they are, so that a search sees them all.
fn open_plain(path: &Path) -> RocksEngine {
    let memory = Memory::default();
    let cache = block_cache(memory);
    let family = |table: Table| {
        let mut options = tuning::column_family(table, memory, &cache);
        options.set_compression_type(DBCompressionType::None);
        options.set_bottommost_compression_type(DBCompressionType::None);
        ColumnFamilyDescriptor::new(table.name(), options)
    };
    let families = Table::ALL.map(family).into();
    let options = database(memory);
    RocksEngine::open_with(path, &options, families, memory, cache.clone())
        .expect("the store opens")
}

/// Which of the directory's files hold `bytes`.
fn holders(path: &Path, bytes: &[u8]) -> Vec<String> {
    let holds = |content: &[u8]| content.windows(bytes.len()).any(|window| window == bytes);
    let files = contents(path).into_iter().filter(|(_, content)| holds(content));
    files.map(|(name, _)| name).collect()
}

fn delete(engine: &RocksEngine, table: Table, key: &[u8]) {
    let mut batch = Batch::default();
    batch.delete(table, key.to_vec());
    engine.persist(&batch).expect("the batch is persisted");
}

fn flush(engine: &RocksEngine, table: Table) {
    let family = engine.column_family(table).expect("the table");
    engine.db.flush_cf(family).expect("the buffer is written out");
}

fn all_of(table: Table) -> KeyRange {
    (table, Vec::new(), END.to_vec())
}

fn key(number: u64) -> Vec<u8> {
    [&[7; 16][..], &number.to_be_bytes()].concat()
}

/// Deleted, overwritten and put and deleted at once; in a log, in one table file and in several.
fn plant_and_erase(engine: &RocksEngine, path: &Path) {
    for number in 0..40 {
        put(engine, Table::Bodies, &key(number), &marker(number));
        if number % 10 == 5 {
            flush(engine, Table::Bodies);
        }
    }
    for number in 0..40 {
        assert!(!holders(path, &marker(number)).is_empty(), "{number} was planted");
    }
    for number in (0..40).filter(|number| number % 2 == 0) {
        delete(engine, Table::Bodies, &key(number));
    }
    for number in [7, 17, 37] {
        put(engine, Table::Bodies, &key(number), &marker(number + 1_000));
    }
}

fn assert_purged(engine: &RocksEngine, path: &Path) {
    for number in 0..40 {
        let overwritten = [7, 17, 37].contains(&number);
        if number % 2 == 0 || overwritten {
            assert_eq!(holders(path, &marker(number)), [""; 0], "{number} is gone");
        }
        let value = match number {
            number if number % 2 == 0 => None,
            number if overwritten => Some(marker(number + 1_000)),
            number => Some(marker(number)),
        };
        assert_eq!(get(engine, Table::Bodies, &key(number)), value);
    }
}

#[test]
fn after_a_purge_no_file_holds_what_was_deleted_or_overwritten() {
    for open in [open_plain, open] {
        let directory = directory();
        let engine = open(directory.path());
        plant_and_erase(&engine, directory.path());
        assert!(!holders(directory.path(), &marker(2)).is_empty(), "a delete alone leaves it");
        engine.purge(&[all_of(Table::Bodies)]).expect("purged");
        assert_purged(&engine, directory.path());

        drop(engine);
        assert_purged(&open(directory.path()), directory.path());
    }
}

/// Its bytes are in the log twice, and in no table file ever.
#[test]
fn a_row_that_never_left_the_log_is_purged_from_it() {
    let directory = directory();
    let engine = open_plain(directory.path());
    put(&engine, Table::Bodies, &key(1), &marker(1));
    delete(&engine, Table::Bodies, &key(1));
    // A table that is idle holds on to the log just the same.
    put(&engine, Table::Erasures, b"row", b"");
    assert!(!holders(directory.path(), &marker(1)).is_empty());
    engine.purge(&[(Table::Bodies, key(1), key(2))]).expect("purged");
    assert_eq!(holders(directory.path(), &marker(1)), [""; 0]);
    assert_eq!(get(&engine, Table::Erasures, b"row"), Some(vec![]));
}

/// In the last level a row may lie under a newer one that a view kept it beside: no other
/// compaction would ever touch the file again.
#[test]
fn a_row_at_rest_in_the_last_level_is_purged_too() {
    let directory = directory();
    let engine = open_plain(directory.path());
    put(&engine, Table::Bodies, &key(1), &marker(1));
    put(&engine, Table::Bodies, &key(2), &marker(2));
    let view = engine.view();
    delete(&engine, Table::Bodies, &key(1));
    put(&engine, Table::Bodies, &key(2), &marker(3));
    let family = engine.column_family(Table::Bodies).expect("the table");
    engine.db.compact_range_cf(family, None::<&[u8]>, None::<&[u8]>);
    drop(view);
    engine.db.compact_range_cf(family, None::<&[u8]>, None::<&[u8]>);
    assert!(!holders(directory.path(), &marker(1)).is_empty(), "at rest");

    engine.purge(&[(Table::Bodies, key(1), key(3))]).expect("purged");
    assert_eq!(holders(directory.path(), &marker(1)), [""; 0]);
    assert_eq!(holders(directory.path(), &marker(2)), [""; 0]);
    assert_eq!(get(&engine, Table::Bodies, &key(2)), Some(marker(3)));
}

fn is_busy(engine: &RocksEngine) -> bool {
    let purged = purge::purge(engine, &[all_of(Table::Bodies)], Duration::from_millis(20));
    matches!(purged, Err(EngineError::Busy(_)))
}

/// A compaction leaves alone what an older view can see.
#[test]
fn a_purge_is_not_done_while_an_older_view_is_open() {
    let directory = directory();
    let engine = open_plain(directory.path());
    put(&engine, Table::Bodies, &key(1), &marker(1));
    let view = engine.view();
    delete(&engine, Table::Bodies, &key(1));
    assert!(is_busy(&engine));
    assert_eq!(get(&*view, Table::Bodies, &key(1)), Some(marker(1)));

    drop(view);
    let later = engine.view();
    engine.purge(&[all_of(Table::Bodies)]).expect("a view from after it holds nothing back");
    assert_eq!(holders(directory.path(), &marker(1)), [""; 0]);
    assert_eq!(get(&*later, Table::Bodies, &key(1)), None);
}

/// The compaction is done, but the scan keeps the file that it reads.
#[test]
fn a_purge_is_not_done_while_a_scan_keeps_an_old_file() {
    let directory = directory();
    let engine = open_plain(directory.path());
    put(&engine, Table::Bodies, &key(1), &marker(1));
    flush(&engine, Table::Bodies);
    let mut rows = engine.scan(Table::Bodies, b"", END, Direction::Forward);
    delete(&engine, Table::Bodies, &key(1));
    assert!(is_busy(&engine));
    assert!(!holders(directory.path(), &marker(1)).is_empty());
    assert_eq!(rows.next().expect("a row").expect("it reads"), (key(1), marker(1)));

    drop(rows);
    engine.purge(&[all_of(Table::Bodies)]).expect("purged");
    assert_eq!(holders(directory.path(), &marker(1)), [""; 0]);
}

#[test]
fn a_purge_waits_for_an_older_view_to_be_closed() {
    let directory = directory();
    let engine = open_plain(directory.path());
    put(&engine, Table::Bodies, &key(1), &marker(1));
    let view = engine.view();
    delete(&engine, Table::Bodies, &key(1));
    thread::scope(|threads| {
        let purge = threads.spawn(|| engine.purge(&[all_of(Table::Bodies)]));
        assert_eq!(get(&*view, Table::Bodies, &key(1)), Some(marker(1)));
        drop(view);
        purge.join().expect("no panic").expect("purged");
    });
    assert_eq!(holders(directory.path(), &marker(1)), [""; 0]);
}

/// It would hold an engine that has to be closed and opened again.
#[test]
fn a_purge_gives_up_waiting_when_a_write_has_failed() {
    let directory = directory();
    let engine = open_plain(directory.path());
    put(&engine, Table::Bodies, &key(1), &marker(1));
    let view = engine.view();
    delete(&engine, Table::Bodies, &key(1));
    let failure = EngineError::Failed("the disk failed".to_owned());
    thread::scope(|threads| {
        let purge = threads.spawn(|| engine.purge(&[all_of(Table::Bodies)]));
        engine.failed.get_or_init(|| failure.clone());
        let given_up = purge.join().expect("no panic").expect_err("it was not done");
        assert_eq!(given_up.to_string(), failure.to_string());
    });
    assert_eq!(get(&*view, Table::Bodies, &key(1)), Some(marker(1)));
}

#[test]
fn writes_go_on_during_purges() {
    let directory = directory();
    let engine = open_plain(directory.path());
    thread::scope(|threads| {
        let writer = threads.spawn(|| {
            for number in 0..300 {
                put(&engine, Table::Bodies, &key(number), &marker(number));
                put(&engine, Table::Index, &key(number), &marker(number));
                if number > 0 {
                    delete(&engine, Table::Bodies, &key(number - 1));
                }
            }
        });
        while !writer.is_finished() {
            engine.purge(&[all_of(Table::Bodies)]).expect("purged");
        }
    });
    engine.purge(&[all_of(Table::Bodies)]).expect("purged");
    for number in 0..299 {
        assert_eq!(get(&engine, Table::Bodies, &key(number)), None);
        assert_eq!(get(&engine, Table::Index, &key(number)), Some(marker(number)));
        assert_eq!(holders(directory.path(), &marker(number)).len(), 1, "only in the index");
    }
}

/// A space with thousands of erased messages has as many ranges.
#[test]
fn ranges_that_share_a_table_file_are_purged_at_once() {
    let directory = directory();
    let engine = open_plain(directory.path());
    for number in 0..100 {
        put(&engine, Table::Bodies, &key(number), &marker(number));
    }
    let range = |number| (Table::Bodies, key(number), [&key(number)[..], &[0]].concat());
    let ranges: Vec<_> = (0..100).step_by(3).map(range).collect();
    engine.purge(&ranges).expect("purged");
    let files = engine.table_files(Table::Bodies).expect("listed");
    assert!(files.iter().all(|file| file.level > 0), "{files:?}");
    assert_eq!(purge::merged(Table::Bodies, &ranges, &files).len(), 1);
    assert_eq!(purge::merged(Table::Bodies, &ranges, &[]).len(), ranges.len());
    assert!(purge::merged(Table::Log, &ranges, &files).is_empty());
}
