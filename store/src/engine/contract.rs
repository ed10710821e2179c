//! What every engine promises, written once and run on each.
//!
//! Responsible for the claims that the rest of the store rests on. It must not know how an engine
//! keeps them; what only one engine can show (locks, torn logs, faults) is tested beside it.
//! Invariant: a claim listed in [`contract`] runs on all engines.

use std::collections::BTreeMap;
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{Batch, Direction, Engine, EngineError, MemoryEngine, RocksEngine, Row, Table, View};

/// Greater than every key used here.
pub(super) const END: &[u8] = &[0xff; 64];

/// A disk, which outlives the engines opened on it.
trait Disk: Sized {
    type Engine: Engine;

    fn new() -> Self;

    fn open(&self) -> Self::Engine;

    /// Ends `engine`'s run with nothing but its flushed bytes left, and opens the next.
    fn restart(&self, engine: Self::Engine) -> Self::Engine;
}

struct Directory(TempDir);

impl Disk for Directory {
    type Engine = RocksEngine;

    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn open(&self) -> RocksEngine {
        RocksEngine::open(self.0.path()).expect("the store opens")
    }

    fn restart(&self, engine: RocksEngine) -> RocksEngine {
        drop(engine);
        self.open()
    }
}

impl Disk for MemoryEngine {
    type Engine = Self;

    fn new() -> Self {
        Self::new()
    }

    fn open(&self) -> Self {
        self.clone()
    }

    fn restart(&self, engine: Self) -> Self {
        engine.crash();
        engine
    }
}

/// Makes a test of each claim for each engine.
macro_rules! contract {
    ($($claim:ident)*) => {
        mod rocks {
            $(#[test] fn $claim() { super::$claim::<super::Directory>(); })*
        }
        mod memory {
            $(#[test] fn $claim() { super::$claim::<super::MemoryEngine>(); })*
        }
    };
}

contract! {
    an_absent_key_has_no_value
    an_empty_value_is_not_an_absent_one
    an_empty_key_is_a_key_like_any_other
    the_last_write_of_a_batch_wins
    a_delete_removes_the_row_and_nothing_else
    deleting_what_is_absent_is_no_error
    an_empty_batch_changes_nothing
    equal_keys_in_different_tables_do_not_meet
    a_scan_yields_its_rows_in_either_order
    a_scan_includes_its_start_and_excludes_its_end
    an_empty_or_reversed_range_has_no_rows
    a_scan_across_prefixes_misses_no_row
    a_scan_within_a_prefix_sees_no_other_prefix
    keys_of_all_ones_are_scanned_like_others
    a_view_does_not_see_later_writes
    a_scan_under_way_does_not_see_later_writes
    no_reader_ever_sees_half_a_batch
    what_was_persisted_survives_a_restart
    a_large_batch_survives_a_restart_as_a_whole
    a_store_takes_some_of_the_disk
    a_purge_changes_nothing_that_can_be_read
    a_purge_of_nothing_is_done_at_once
    a_sound_store_has_no_damage_to_report
    writing_takes_room
}

fn put(engine: &dyn Engine, table: Table, key: &[u8], value: &[u8]) {
    let mut batch = Batch::default();
    batch.put(table, key.to_vec(), value.to_vec());
    engine.persist(&batch).expect("the batch is persisted");
}

fn get(view: &dyn View, table: Table, key: &[u8]) -> Option<Vec<u8>> {
    view.get(table, key).expect("the value is read")
}

fn scan(view: &dyn View, table: Table, start: &[u8], end: &[u8], direction: Direction) -> Vec<Row> {
    view.scan(table, start, end, direction)
        .collect::<Result<_, EngineError>>()
        .expect("the rows are read")
}

/// The least key greater than all that begin with `prefix`.
fn behind(prefix: &[u8]) -> Vec<u8> {
    let ones = prefix.iter().rev().take_while(|byte| **byte == 0xff).count();
    match prefix[..prefix.len() - ones].split_last() {
        Some((last, head)) => [head, &[last + 1]].concat(),
        None => END.to_vec(),
    }
}

/// The keys of a range, after a check that both directions agree.
fn keys(view: &dyn View, table: Table, start: &[u8], end: &[u8]) -> Vec<Vec<u8>> {
    let rows = scan(view, table, start, end, Direction::Forward);
    let mut backward = scan(view, table, start, end, Direction::Backward);
    backward.reverse();
    assert_eq!(rows, backward);
    rows.into_iter().map(|(key, _)| key).collect()
}

fn an_absent_key_has_no_value<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    assert_eq!(get(&engine, Table::Log, b"a"), None);
    put(&engine, Table::Log, b"ab", b"1");
    assert_eq!(get(&engine, Table::Log, b"a"), None);
    assert_eq!(get(&engine, Table::Log, b"abc"), None);
}

fn an_empty_value_is_not_an_absent_one<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    put(&engine, Table::Index, b"a", b"");
    assert_eq!(get(&engine, Table::Index, b"a"), Some(vec![]));
    assert_eq!(keys(&engine, Table::Index, b"", END), [b"a"]);
}

fn an_empty_key_is_a_key_like_any_other<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    put(&engine, Table::Log, b"", b"1");
    assert_eq!(get(&engine, Table::Log, b""), Some(b"1".to_vec()));
    assert_eq!(keys(&engine, Table::Log, b"", b"a"), [b""]);
}

fn the_last_write_of_a_batch_wins<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    let mut batch = Batch::default();
    batch.put(Table::Log, b"put twice".to_vec(), b"1".to_vec());
    batch.put(Table::Log, b"put twice".to_vec(), b"2".to_vec());
    batch.put(Table::Log, b"deleted last".to_vec(), b"1".to_vec());
    batch.delete(Table::Log, b"deleted last".to_vec());
    batch.delete(Table::Log, b"put last".to_vec());
    batch.put(Table::Log, b"put last".to_vec(), b"3".to_vec());
    engine.persist(&batch).expect("the batch is persisted");

    assert_eq!(get(&engine, Table::Log, b"put twice"), Some(b"2".to_vec()));
    assert_eq!(get(&engine, Table::Log, b"deleted last"), None);
    assert_eq!(get(&engine, Table::Log, b"put last"), Some(b"3".to_vec()));
}

fn a_delete_removes_the_row_and_nothing_else<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    for key in [b"a", b"b", b"c"] {
        put(&engine, Table::Timeline, key, b"1");
    }
    let mut batch = Batch::default();
    batch.delete(Table::Timeline, b"b".to_vec());
    engine.persist(&batch).expect("the batch is persisted");

    assert_eq!(get(&engine, Table::Timeline, b"b"), None);
    assert_eq!(keys(&engine, Table::Timeline, b"", END), [b"a", b"c"]);
}

fn deleting_what_is_absent_is_no_error<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    let mut batch = Batch::default();
    batch.delete(Table::Bodies, b"a".to_vec());
    engine.persist(&batch).expect("the batch is persisted");
    assert_eq!(get(&engine, Table::Bodies, b"a"), None);
}

fn an_empty_batch_changes_nothing<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    engine.persist(&Batch::default()).expect("nothing to do");
    for table in Table::ALL {
        assert!(keys(&engine, table, b"", END).is_empty());
    }
}

fn equal_keys_in_different_tables_do_not_meet<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    for table in Table::ALL {
        put(&engine, table, b"key", table.name().as_bytes());
    }
    for table in Table::ALL {
        let row = (b"key".to_vec(), table.name().as_bytes().to_vec());
        assert_eq!(scan(&engine, table, b"", END, Direction::Forward), [row]);
    }

    let mut batch = Batch::default();
    batch.delete(Table::Log, b"key".to_vec());
    engine.persist(&batch).expect("the batch is persisted");
    assert_eq!(get(&engine, Table::Log, b"key"), None);
    assert_eq!(get(&engine, Table::Meta, b"key"), Some(b"meta".to_vec()));
}

fn a_scan_yields_its_rows_in_either_order<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    for key in [b"b", b"c", b"a"] {
        put(&engine, Table::Log, key, key);
    }
    let row = |key: &[u8]| (key.to_vec(), key.to_vec());
    assert_eq!(
        scan(&engine, Table::Log, b"", END, Direction::Forward),
        [row(b"a"), row(b"b"), row(b"c")]
    );
    assert_eq!(
        scan(&engine, Table::Log, b"", END, Direction::Backward),
        [row(b"c"), row(b"b"), row(b"a")]
    );
}

fn a_scan_includes_its_start_and_excludes_its_end<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    for key in [b"a", b"b", b"c", b"d"] {
        put(&engine, Table::Log, key, b"");
    }
    assert_eq!(keys(&engine, Table::Log, b"b", b"d"), [b"b", b"c"]);
    assert_eq!(keys(&engine, Table::Log, b"b", b"c\0"), [b"b", b"c"]);
    assert_eq!(keys(&engine, Table::Log, b"a\0", b"c"), [b"b"]);
    assert!(keys(&engine, Table::Log, b"d\0", END).is_empty());
    assert!(keys(&engine, Table::Log, b"", b"a").is_empty());
}

fn an_empty_or_reversed_range_has_no_rows<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    let long = |last: u8| [[7; 40].as_slice(), &[last]].concat();
    for key in [b"a".to_vec(), b"b".to_vec(), long(1), long(2)] {
        put(&engine, Table::Log, &key, b"");
    }
    assert!(keys(&engine, Table::Log, b"a", b"a").is_empty());
    assert!(keys(&engine, Table::Log, b"b", b"a").is_empty());
    assert!(keys(&engine, Table::Log, b"", b"").is_empty());
    assert!(keys(&engine, Table::Log, END, b"").is_empty());
    assert!(keys(&engine, Table::Log, &long(2), &long(1)).is_empty());
    assert!(keys(&engine, Table::Log, &long(1), &long(1)).is_empty());
}

/// Rows in each of four prefixes, on a disk that was restarted between writes, so that they lie
/// in several files. A filter can only mislead where there are files.
fn with_prefixes<D: Disk>(disk: &D, table: Table) -> (D::Engine, Vec<Vec<u8>>) {
    let mut engine = disk.open();
    let mut all = Vec::new();
    for suffix in [0, 1, 0xff] {
        for prefix in [0, 1, 2, 0xff] {
            let key = [[prefix; 32].as_slice(), &[suffix; 8]].concat();
            put(&engine, table, &key, b"");
            all.push(key);
        }
        engine = disk.restart(engine);
    }
    all.sort();
    (engine, all)
}

fn a_scan_across_prefixes_misses_no_row<D: Disk>() {
    for table in Table::ALL {
        let disk = D::new();
        let (engine, all) = with_prefixes(&disk, table);
        assert_eq!(keys(&engine, table, b"", END), all);
        // A filter asked about the first key alone would say that nothing is there.
        assert_eq!(keys(&engine, table, &[3; 40], END), all[9..], "{table}");
        // From and to prefixes, and keys shorter than a prefix, that no row has.
        for gap in [16, 20, 32, 40] {
            let (start, end) = ([[0; 16].as_slice(), &vec![9; gap - 15]].concat(), [1; 16]);
            assert!(keys(&engine, table, &start, &end).is_empty(), "{table}");
            let (start, end) = (vec![0, 5], vec![3; gap]);
            assert_eq!(keys(&engine, table, &start, &end), all[3..9], "{table}");
            assert_eq!(keys(&engine, table, &all[2], &end), all[2..9], "{table}");
            assert_eq!(keys(&engine, table, &[0; 41], &all[7]), all[1..7], "{table}");
        }
    }
}

fn a_scan_within_a_prefix_sees_no_other_prefix<D: Disk>() {
    for table in Table::ALL {
        let disk = D::new();
        let (engine, all) = with_prefixes(&disk, table);
        let end = [[1; 32].as_slice(), &[0xff; 9]].concat();
        assert_eq!(keys(&engine, table, &[1; 32], &end), all[3..6], "{table}");
        assert_eq!(keys(&engine, table, &all[3], &all[5]), all[3..5], "{table}");
        assert_eq!(keys(&engine, table, &all[4], &[2; 32]), all[4..6], "{table}");
        for length in [1, 16, 20, 32] {
            let (start, end) = (vec![1; length], behind(&vec![1; length]));
            assert_eq!(keys(&engine, table, &start, &end), all[3..6], "{table}");
            assert_eq!(keys(&engine, table, &all[4], &end), all[4..6], "{table}");
            assert_eq!(
                keys(&engine, table, &[0xff; 32], &behind(&start[..0])),
                all[9..],
                "{table}"
            );
        }
        let absent = [[3; 32].as_slice(), &[0xff; 9]].concat();
        assert!(keys(&engine, table, &[3; 32], &absent).is_empty(), "{table}");
    }
}

fn keys_of_all_ones_are_scanned_like_others<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    let ones = |length| vec![0xff; length];
    for length in [1, 16, 17, 32, 33] {
        put(&engine, Table::Log, &ones(length), b"");
    }
    let all = [1, 16, 17, 32, 33].map(ones);
    assert_eq!(keys(&engine, Table::Log, b"", END), all);
    assert_eq!(keys(&engine, Table::Log, &ones(2), &ones(33)), all[1..4]);
    assert_eq!(keys(&engine, Table::Log, &ones(32), END), all[3..]);
}

fn a_view_does_not_see_later_writes<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    put(&engine, Table::Log, b"changed", b"1");
    put(&engine, Table::Log, b"deleted", b"1");
    let view = engine.view();
    let mut batch = Batch::default();
    batch.put(Table::Log, b"added".to_vec(), b"2".to_vec());
    batch.put(Table::Log, b"changed".to_vec(), b"2".to_vec());
    batch.delete(Table::Log, b"deleted".to_vec());
    engine.persist(&batch).expect("the batch is persisted");

    assert_eq!(get(&*view, Table::Log, b"added"), None);
    assert_eq!(get(&*view, Table::Log, b"changed"), Some(b"1".to_vec()));
    assert_eq!(keys(&*view, Table::Log, b"", END), [b"changed", b"deleted"]);
    assert_eq!(keys(&engine, Table::Log, b"", END), [&b"added"[..], b"changed"]);
}

fn a_scan_under_way_does_not_see_later_writes<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    for key in [b"a", b"c"] {
        put(&engine, Table::Log, key, b"");
    }
    let mut rows = engine.scan(Table::Log, b"", END, Direction::Forward);
    assert!(matches!(rows.next(), Some(Ok((key, _))) if key == b"a"));
    put(&engine, Table::Log, b"b", b"");

    let rest: Vec<_> = rows.map(|row| row.expect("the row is read").0).collect();
    assert_eq!(rest, [b"c"]);
}

fn no_reader_ever_sees_half_a_batch<D: Disk>() {
    const ROUNDS: u8 = 100;
    let disk = D::new();
    let engine = disk.open();
    thread::scope(|threads| {
        let writer = threads.spawn(|| {
            for round in 1..=ROUNDS {
                let mut batch = Batch::default();
                batch.put(Table::Log, b"a".to_vec(), vec![round]);
                batch.put(Table::Log, b"z".to_vec(), vec![round]);
                batch.put(Table::Meta, b"m".to_vec(), vec![round]);
                engine.persist(&batch).expect("the batch is persisted");
            }
        });
        while !writer.is_finished() {
            let view = engine.view();
            let round = get(&*view, Table::Meta, b"m");
            assert_eq!(get(&*view, Table::Log, b"z"), round);
            assert_eq!(get(&*view, Table::Log, b"a"), round);
        }
    });
}

fn what_was_persisted_survives_a_restart<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    for table in Table::ALL {
        put(&engine, table, b"kept", b"1");
        put(&engine, table, b"deleted", b"1");
    }
    let engine = disk.restart(engine);
    let mut batch = Batch::default();
    for table in Table::ALL {
        batch.put(table, b"kept".to_vec(), b"2".to_vec());
        batch.delete(table, b"deleted".to_vec());
    }
    engine.persist(&batch).expect("the batch is persisted");

    let engine = disk.restart(engine);
    for table in Table::ALL {
        let row = (b"kept".to_vec(), b"2".to_vec());
        assert_eq!(scan(&engine, table, b"", END, Direction::Forward), [row]);
    }
}

fn a_large_batch_survives_a_restart_as_a_whole<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    let mut batch = Batch::default();
    for number in 0_u32..3_000 {
        batch.put(Table::Bodies, number.to_be_bytes().to_vec(), vec![7; 1_000]);
    }
    engine.persist(&batch).expect("the batch is persisted");

    let engine = disk.restart(engine);
    let rows = scan(&engine, Table::Bodies, b"", END, Direction::Backward);
    assert_eq!(rows.len(), 3_000);
    assert!(rows.iter().all(|(_, value)| *value == [7; 1_000]));
}

fn a_store_takes_some_of_the_disk<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    let before = engine.disk_bytes();
    put(&engine, Table::Log, b"a", &[7; 2 << 20]);
    // RocksDB removes some hundred kilobytes of its own after it was created.
    assert!(engine.disk_bytes() >= before + (1 << 20));
}

fn a_purge_changes_nothing_that_can_be_read<D: Disk>() {
    let disk = D::new();
    let (engine, all) = with_prefixes(&disk, Table::Bodies);
    for key in &all {
        put(&engine, Table::Timeline, key, b"untouched");
    }
    let mut batch = Batch::default();
    batch.delete(Table::Bodies, all[3].clone());
    batch.put(Table::Bodies, all[4].clone(), b"new".to_vec());
    engine.persist(&batch).expect("the batch is persisted");
    let read =
        |view: &dyn View| Table::ALL.map(|table| scan(view, table, b"", END, Direction::Forward));
    let before = read(&engine);
    let ranges = [
        (Table::Bodies, all[2].clone(), all[6].clone()),
        (Table::Bodies, all[4].clone(), END.to_vec()),
        (Table::Bodies, all[5].clone(), all[1].clone()),
        (Table::Erasures, vec![], END.to_vec()),
    ];
    engine.purge(&ranges).expect("purged");
    assert_eq!(read(&engine), before);
    engine.purge(&ranges).expect("purged again");

    let engine = disk.restart(engine);
    assert_eq!(read(&engine), before);
    put(&engine, Table::Bodies, &all[3], b"back");
    assert_eq!(get(&engine, Table::Bodies, &all[3]), Some(b"back".to_vec()));
}

fn a_purge_of_nothing_is_done_at_once<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    put(&engine, Table::Bodies, b"a", b"1");
    let _view = engine.view();
    put(&engine, Table::Bodies, b"a", b"2");
    engine.purge(&[]).expect("nothing to do");
}

fn a_sound_store_has_no_damage_to_report<D: Disk>() {
    let disk = D::new();
    let (engine, _) = with_prefixes(&disk, Table::Log);
    put(&engine, Table::Meta, b"a", b"1");
    let mut reports = Vec::new();
    let damage = engine.check_files(&mut |progress| {
        reports.push(progress.bytes);
        true
    });
    assert_eq!(damage.expect("read"), [""; 0]);
    assert!(reports.is_sorted() && reports.last().is_some_and(|bytes| *bytes > 0), "{reports:?}");
}

fn writing_takes_room<D: Disk>() {
    let disk = D::new();
    let engine = disk.open();
    let before = engine.room().expect("told");
    put(&engine, Table::Log, b"a", &[7; 2 << 20]);
    let after = engine.room().expect("told");
    assert_eq!(after.total_bytes, before.total_bytes);
    assert!(after.free_bytes <= after.total_bytes);
    // Others write to the same device, so a disk can only be asked whether it has any.
    assert!(after.free_bytes > 0);
}

/// The plainest engine there is.
type Model = BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Something that happens to an engine, and is then true of its model too.
#[derive(Debug, Clone)]
enum Step {
    Persist(Vec<Write>),
    Restart,
    Scan(Table, Vec<u8>, Vec<u8>),
}

/// Keys that agree in many leading bytes and differ around the lengths of prefixes.
fn any_key() -> impl Strategy<Value = Vec<u8>> {
    let byte = || prop::sample::select(vec![0, 1, 0xff]);
    let length = prop::sample::select(vec![0, 1, 15, 16, 17, 20, 31, 32, 33]);
    (byte(), length, vec(byte(), 0..3))
        .prop_map(|(byte, length, tail)| [vec![byte; length], tail].concat())
}

fn any_table() -> impl Strategy<Value = Table> {
    prop::sample::select(vec![Table::Log, Table::Segments, Table::Timeline, Table::Index])
}

/// A key with its new value, or with none to be removed.
type Write = (Table, Vec<u8>, Option<Vec<u8>>);

fn any_write() -> impl Strategy<Value = Write> {
    prop_oneof![
        3 => (any_table(), any_key(), vec(any::<u8>(), 0..4))
            .prop_map(|(table, key, value)| (table, key, Some(value))),
        1 => (any_table(), any_key()).prop_map(|(table, key)| (table, key, None)),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => vec(any_write(), 0..12).prop_map(Step::Persist),
        1 => Just(Step::Restart),
        6 => (any_table(), any_key(), any_key())
            .prop_map(|(table, start, end)| Step::Scan(table, start, end)),
        6 => (any_table(), any_key(), any_key(), 0_usize..40)
            .prop_map(|(table, start, other, length)| {
                let end = behind(&start[..length.min(start.len())]);
                Step::Scan(table, start.min(other), end)
            }),
    ]
}

fn rows_of(model: &Model, table: Table, start: &[u8], end: &[u8]) -> Vec<Row> {
    let is_inside = |key: &[u8]| start <= key && key < end;
    let rows = model.get(&table).into_iter().flatten();
    rows.filter(|(key, _)| is_inside(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn apply(model: &mut Model, writes: &[Write]) {
    for (table, key, value) in writes.iter().cloned() {
        let rows = model.entry(table).or_default();
        match value {
            Some(value) => rows.insert(key, value),
            None => rows.remove(&key),
        };
    }
}

fn assert_agrees(view: &dyn View, model: &Model, table: Table, start: &[u8], end: &[u8]) {
    let mut expected = rows_of(model, table, start, end);
    assert_eq!(scan(view, table, start, end, Direction::Forward), expected);
    for (key, value) in &expected {
        assert_eq!(get(view, table, key).as_ref(), Some(value));
    }
    expected.reverse();
    assert_eq!(scan(view, table, start, end, Direction::Backward), expected);
}

fn assert_agrees_in_all(view: &dyn View, model: &Model) {
    for table in Table::ALL {
        assert_agrees(view, model, table, b"", END);
    }
}

/// Persists, and checks that a view from before stays with the state from before.
fn persist(engine: &dyn Engine, model: &mut Model, writes: &[Write]) {
    let (view, before) = (engine.view(), model.clone());
    let mut batch = Batch::default();
    for (table, key, value) in writes.iter().cloned() {
        match value {
            Some(value) => batch.put(table, key, value),
            None => batch.delete(table, key),
        }
    }
    engine.persist(&batch).expect("the batch is persisted");
    apply(model, writes);
    assert_agrees_in_all(&*view, &before);
}

fn run<D: Disk>(steps: &[Step]) {
    let disk = D::new();
    let mut engine = disk.open();
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Persist(writes) => persist(&engine, &mut model, writes),
            Step::Restart => engine = disk.restart(engine),
            Step::Scan(table, start, end) => {
                assert_agrees(&engine, &model, *table, start, end);
                assert_agrees(&*engine.view(), &model, *table, start, end);
            }
        }
    }
    assert_agrees_in_all(&engine, &model);
    assert_agrees_in_all(&disk.restart(engine), &model);
}

// Each case opens RocksDB a few times, at some tens of milliseconds.
const STEPS: std::ops::Range<usize> = 1..40;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn on_disk_any_steps_have_the_outcome_of_a_plain_map(steps in vec(any_step(), STEPS)) {
        run::<Directory>(&steps);
    }
}

proptest! {
    #[test]
    fn in_memory_any_steps_have_the_outcome_of_a_plain_map(steps in vec(any_step(), STEPS)) {
        run::<MemoryEngine>(&steps);
    }
}
