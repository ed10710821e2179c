//! Whether the disk in memory fails as it is told to, and not otherwise.

use super::*;

fn batch(key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::default();
    batch.put(Table::Log, key.to_vec(), value.to_vec());
    batch
}

fn value(view: &dyn View, key: &[u8]) -> Option<Vec<u8>> {
    view.get(Table::Log, key).expect("memory can be read")
}

#[test]
fn a_lying_disk_shows_a_batch_and_forgets_it_at_the_crash() {
    let engine = MemoryEngine::new();
    engine.persist(&batch(b"a", b"1")).expect("honest");
    engine.lose_flushes(true);
    engine.persist(&batch(b"a", b"2")).expect("a lie");
    engine.persist(&batch(b"b", b"2")).expect("a lie");
    assert_eq!(value(&engine, b"a"), Some(b"2".to_vec()));

    engine.crash();
    assert_eq!(value(&engine, b"a"), Some(b"1".to_vec()));
    assert_eq!(value(&engine, b"b"), None);
    assert_eq!(engine.disk_bytes(), 2);
}

#[test]
fn a_disk_that_stops_lying_makes_earlier_lies_true_with_the_next_batch() {
    let engine = MemoryEngine::new();
    engine.lose_flushes(true);
    engine.persist(&batch(b"a", b"1")).expect("a lie");
    engine.lose_flushes(false);
    engine.persist(&batch(b"b", b"1")).expect("honest");

    engine.crash();
    assert_eq!(value(&engine, b"a"), Some(b"1".to_vec()));
    assert_eq!(value(&engine, b"b"), Some(b"1".to_vec()));
}

#[test]
fn a_lying_disk_forgets_nothing_when_it_is_reopened_with_the_power_on() {
    let engine = MemoryEngine::new();
    engine.lose_flushes(true);
    engine.persist(&batch(b"a", b"1")).expect("a lie");

    engine.reopen();
    assert_eq!(value(&engine, b"a"), Some(b"1".to_vec()));
    engine.crash();
    assert_eq!(value(&engine, b"a"), None);
}

#[test]
fn a_torn_batch_that_is_kept_shows_as_a_whole_after_the_crash_and_not_before() {
    let engine = MemoryEngine::new();
    let mut torn = batch(b"a", b"1");
    torn.put(Table::Meta, b"b".to_vec(), b"1".to_vec());
    engine.tear_next(true);
    engine.persist(&torn).expect_err("torn");
    assert_eq!(value(&engine, b"a"), None);

    engine.crash();
    assert_eq!(value(&engine, b"a"), Some(b"1".to_vec()));
    let other = engine.get(Table::Meta, b"b").expect("memory can be read");
    assert_eq!(other, Some(b"1".to_vec()));
}

#[test]
fn a_torn_batch_that_is_kept_takes_along_everything_before_it() {
    let engine = MemoryEngine::new();
    engine.lose_flushes(true);
    engine.persist(&batch(b"a", b"1")).expect("a lie");
    engine.tear_next(true);
    engine.persist(&batch(b"b", b"1")).expect_err("torn");

    engine.crash();
    assert_eq!(value(&engine, b"a"), Some(b"1".to_vec()));
    assert_eq!(value(&engine, b"b"), Some(b"1".to_vec()));
}

#[test]
fn a_torn_batch_that_is_not_kept_leaves_nothing() {
    let engine = MemoryEngine::new();
    engine.persist(&batch(b"a", b"1")).expect("honest");
    engine.tear_next(false);
    engine.persist(&batch(b"a", b"2")).expect_err("torn");

    engine.crash();
    assert_eq!(value(&engine, b"a"), Some(b"1".to_vec()));
}

/// The write path relies on it: after a failure all later batches must fail as well, or a
/// batch would be durable without the one it rests on.
#[test]
fn after_a_failed_write_every_batch_is_refused_until_the_disk_is_reopened() {
    let engine = MemoryEngine::new();
    engine.tear_next(false);
    engine.persist(&batch(b"a", b"1")).expect_err("torn");
    engine.persist(&batch(b"b", b"1")).expect_err("still shut");
    engine.persist(&Batch::default()).expect_err("still shut");
    engine.check_sound().expect_err("still shut");

    engine.reopen();
    engine.persist(&batch(b"b", b"1")).expect("open again");
    assert_eq!(value(&engine, b"a"), None);
}

#[test]
fn a_crash_disarms_a_tear_that_has_not_happened() {
    let engine = MemoryEngine::new();
    engine.tear_next(false);
    engine.persist(&Batch::default()).expect("nothing to write");
    engine.crash();
    engine.persist(&batch(b"a", b"1")).expect("disarmed");
}

#[test]
fn a_full_disk_writes_nothing_and_says_so() {
    let engine = MemoryEngine::new();
    engine.fill_up(Some(4));
    engine.persist(&batch(b"a", b"123")).expect("just fits");
    let error = engine.persist(&batch(b"b", b"")).expect_err("full");
    assert!(matches!(error, EngineError::Full(_)), "{error}");
    assert_eq!(value(&engine, b"b"), None);

    engine.fill_up(None);
    engine.reopen();
    engine.persist(&batch(b"b", b"")).expect("room again");
}

#[test]
fn space_comes_back_when_rows_are_overwritten_or_deleted() {
    let engine = MemoryEngine::new();
    engine.persist(&batch(b"a", b"12345")).expect("honest");
    engine.persist(&batch(b"a", b"1")).expect("honest");
    assert_eq!(engine.disk_bytes(), 2);

    let mut delete = Batch::default();
    delete.delete(Table::Log, b"a".to_vec());
    delete.delete(Table::Log, b"never there".to_vec());
    engine.persist(&delete).expect("honest");
    assert_eq!(engine.disk_bytes(), 0);
}

#[test]
fn a_flipped_bit_damages_one_value_for_good_and_no_earlier_view() {
    let engine = MemoryEngine::new();
    engine.persist(&batch(b"a", &[0, 0])).expect("honest");
    let before = engine.view();

    assert!(engine.flip_bit(Table::Log, b"a", 9));
    assert_eq!(value(&engine, b"a"), Some(vec![0, 2]));
    assert_eq!(value(&*before, b"a"), Some(vec![0, 0]));
    engine.crash();
    assert_eq!(value(&engine, b"a"), Some(vec![0, 2]));
}

#[test]
fn a_bit_flips_also_in_what_only_a_crash_will_show() {
    let engine = MemoryEngine::new();
    engine.persist(&batch(b"a", &[0])).expect("honest");
    engine.lose_flushes(true);
    engine.persist(&batch(b"a", &[4])).expect("a lie");

    assert!(engine.flip_bit(Table::Log, b"a", 0));
    assert_eq!(value(&engine, b"a"), Some(vec![5]));
    engine.crash();
    assert_eq!(value(&engine, b"a"), Some(vec![1]));
}

#[test]
fn a_bit_of_nothing_cannot_be_flipped() {
    let engine = MemoryEngine::new();
    engine.persist(&batch(b"empty", b"")).expect("honest");
    assert!(!engine.flip_bit(Table::Log, b"empty", 0));
    assert!(!engine.flip_bit(Table::Log, b"absent", 0));
    assert!(!engine.flip_bit(Table::Meta, b"empty", 0));
}

#[test]
fn a_copy_and_its_original_go_separate_ways() {
    let engine = MemoryEngine::new();
    engine.lose_flushes(true);
    engine.persist(&batch(b"a", b"1")).expect("a lie");
    let backup = engine.copy();
    engine.persist(&batch(b"a", b"2")).expect("a lie");
    backup.persist(&batch(b"b", b"1")).expect("honest");

    backup.crash();
    assert_eq!(value(&backup, b"a"), Some(b"1".to_vec()));
    assert_eq!(value(&backup, b"b"), Some(b"1".to_vec()));
    assert_eq!(value(&engine, b"a"), Some(b"2".to_vec()));
    assert_eq!(value(&engine, b"b"), None);
}

#[test]
fn a_clone_is_a_handle_to_the_same_disk() {
    let engine = MemoryEngine::new();
    let handle = engine.clone();
    engine.persist(&batch(b"a", b"1")).expect("honest");
    assert_eq!(value(&handle, b"a"), Some(b"1".to_vec()));
}

/// The simulator runs thousands of batches a second: a copy of the table for each would make
/// it quadratic.
#[test]
fn a_table_is_copied_only_while_a_view_holds_it() {
    let engine = MemoryEngine::new();
    engine.persist(&batch(b"a", b"1")).expect("honest");
    let address = |engine: &MemoryEngine| Arc::as_ptr(&engine.disk().visible.sorted[0]);

    let first = address(&engine);
    engine.persist(&batch(b"b", b"1")).expect("honest");
    assert_eq!(address(&engine), first);

    let view = engine.view();
    engine.persist(&batch(b"c", b"1")).expect("honest");
    assert_ne!(address(&engine), first);
    assert_eq!(value(&*view, b"c"), None);
}

#[test]
fn room_is_what_the_limit_leaves() {
    let engine = MemoryEngine::new();
    assert_eq!(engine.room().expect("told").total_bytes, u64::MAX);
    engine.persist(&batch(b"a", b"123")).expect("honest");
    engine.fill_up(Some(10));
    assert_eq!(engine.room().expect("told"), Room { total_bytes: 10, free_bytes: 6 });
    engine.fill_up(Some(2));
    assert_eq!(engine.room().expect("told"), Room { total_bytes: 2, free_bytes: 0 });
}

/// What a checker of erasures asks: a delete alone does not take the bytes off the disk.
#[test]
fn old_values_remain_until_they_are_purged() {
    let engine = MemoryEngine::new();
    let remains = || engine.remains(Table::Log, b"a", b"c");
    for key in [b"a", b"b", b"c"] {
        engine.persist(&batch(key, b"1")).expect("honest");
    }
    assert_eq!(remains(), 0);
    engine.persist(&batch(b"a", b"2")).expect("honest");
    let mut delete = Batch::default();
    for key in [&b"b"[..], b"c", b"never there"] {
        delete.delete(Table::Log, key.to_vec());
    }
    engine.persist(&delete).expect("honest");
    assert_eq!(remains(), 2);
    engine.reopen();
    assert_eq!(remains(), 2);

    engine.purge(&[(Table::Log, b"a".to_vec(), b"b".to_vec())]).expect("purged");
    assert_eq!(remains(), 1);
    engine.purge(&[(Table::Log, b"b".to_vec(), b"c".to_vec())]).expect("purged");
    assert_eq!(remains(), 0);
    assert_eq!(engine.remains(Table::Log, b"c", b"d"), 1);
    assert_eq!(value(&engine, b"a"), Some(b"2".to_vec()));
}

#[test]
fn a_disk_that_refuses_batches_purges_nothing() {
    let engine = MemoryEngine::new();
    engine.persist(&batch(b"a", b"1")).expect("honest");
    engine.persist(&batch(b"a", b"2")).expect("honest");
    engine.tear_next(false);
    engine.persist(&batch(b"b", b"1")).expect_err("torn");
    let all = (Table::Log, vec![], vec![0xff]);
    engine.purge(std::slice::from_ref(&all)).expect_err("shut");
    assert_eq!(engine.remains(Table::Log, b"a", b"b"), 1);
    engine.reopen();
    engine.purge(&[all]).expect("open again");
    assert_eq!(engine.remains(Table::Log, b"a", b"b"), 0);
}
