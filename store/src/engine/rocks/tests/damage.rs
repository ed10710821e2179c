//! Damage on the device: found, named, never passed over, never a value.

use super::*;

fn assert_damaged(path: &Path) {
    match RocksEngine::open(path) {
        Err(EngineError::Damaged(_)) => {}
        other => panic!("expected damage, got {other:?}"),
    }
}

#[test]
fn a_write_that_broke_off_at_the_end_of_the_log_costs_only_itself() {
    let directory = directory();
    let engine = open(directory.path());
    put(&engine, Table::Log, b"a", b"1");
    put(&engine, Table::Meta, b"b", b"1");
    put(&engine, Table::Log, b"c", &[7; 100]);
    drop(engine);
    let logs = with_extension(directory.path(), "log");
    cut_off(logs.last().expect("a log"), 50);

    let engine = open(directory.path());
    assert_eq!(get(&engine, Table::Log, b"a"), Some(b"1".to_vec()));
    assert_eq!(get(&engine, Table::Meta, b"b"), Some(b"1".to_vec()));
    assert_eq!(get(&engine, Table::Log, b"c"), None);
    put(&engine, Table::Log, b"c", b"2");
}

/// RocksDB's default would open it, without the damaged batch and all after it.
#[test]
fn a_damaged_batch_with_others_behind_it_is_not_passed_over() {
    let directory = directory();
    let engine = open(directory.path());
    put(&engine, Table::Log, b"a", &[7; 100]);
    put(&engine, Table::Log, b"b", &[7; 100]);
    drop(engine);
    flip_byte(with_extension(directory.path(), "log").last().expect("a log"), 60);
    assert_damaged(directory.path());
}

/// Two logs: the older one is finished, and held by a table that was not written since.
fn with_two_logs(path: &Path) -> Vec<PathBuf> {
    let engine = open(path);
    put(&engine, Table::Meta, b"a", &[7; 100]);
    put(&engine, Table::Log, b"a", &[7; 100]);
    let family = engine.column_family(Table::Log).expect("the table");
    engine.db.flush_cf(family).expect("a new log is begun");
    put(&engine, Table::Log, b"b", &[7; 100]);
    drop(engine);
    let logs = with_extension(path, "log");
    assert_eq!(logs.len(), 2);
    logs
}

/// A store whose one row lies in a table file.
fn with_table_file(path: &Path) -> PathBuf {
    put(&open(path), Table::Log, b"a", &[7; 100]);
    drop(open(path));
    with_extension(path, "sst").pop().expect("a table file")
}

#[test]
fn a_damaged_byte_in_a_table_file_is_an_error_and_never_a_value() {
    let directory = directory();
    flip_byte(&with_table_file(directory.path()), 20);
    let engine = open(directory.path());
    let read = engine.get(Table::Log, b"a");
    assert!(matches!(read, Err(EngineError::Damaged(_))), "{read:?}");
    let mut rows = engine.scan(Table::Log, b"", b"z", Direction::Forward);
    assert!(matches!(rows.next(), Some(Err(EngineError::Damaged(_)))));
    assert!(rows.next().is_none());
}

/// What is done to a store, and the file that the refusal must name.
type Ruin = (&'static str, fn(&Path) -> PathBuf);

fn first(path: &Path, extension: &str) -> PathBuf {
    with_extension(path, extension).remove(0)
}

fn manifest(path: &Path) -> PathBuf {
    let mut names = files(path).expect("the directory is read").into_keys();
    path.join(names.find(|name| name.starts_with("MANIFEST-")).expect("a manifest"))
}

fn current(path: &Path) -> PathBuf {
    path.join("CURRENT")
}

fn length(file: &Path) -> usize {
    fs::read(file).expect("the file is read").len()
}

/// Does something to a file, and names it.
fn ruin(file: PathBuf, how: impl Fn(&Path)) -> PathBuf {
    how(&file);
    file
}

fn remove(file: &Path) {
    fs::remove_file(file).expect("the file is removed");
}

/// As after a power cut on some file systems: the length is there, the bytes are not.
fn zero_the_end(file: &Path) {
    let mut bytes = fs::read(file).expect("the file is read");
    let from = bytes.len() - 40;
    bytes[from..].fill(0);
    fs::write(file, bytes).expect("the file is written");
}

const RUINS: [Ruin; 13] = [
    ("a byte of the newest log", |path| {
        ruin(with_extension(path, "log").remove(1), |file| flip_byte(file, 60))
    }),
    ("its last byte", |path| {
        ruin(with_extension(path, "log").remove(1), |file| flip_byte(file, length(file) - 3))
    }),
    ("its end, which is zeros", |path| ruin(with_extension(path, "log").remove(1), zero_the_end)),
    ("a byte of a finished log", |path| ruin(first(path, "log"), |file| flip_byte(file, 60))),
    ("the end of a finished log", |path| ruin(first(path, "log"), |file| cut_off(file, 50))),
    ("a finished log", |path| ruin(first(path, "log"), remove)),
    ("a table file", |path| ruin(first(path, "sst"), remove)),
    ("the end of a table file", |path| ruin(first(path, "sst"), |file| cut_off(file, 50))),
    ("a byte near the end of a table file", |path| {
        ruin(first(path, "sst"), |file| flip_byte(file, length(file) - 20))
    }),
    ("the manifest", |path| ruin(manifest(path), remove)),
    ("a byte of the manifest", |path| ruin(manifest(path), |file| flip_byte(file, 100))),
    ("CURRENT, which is empty", |path| {
        ruin(current(path), |file| fs::write(file, "").expect("written"))
    }),
    ("CURRENT", |path| ruin(current(path), remove)),
];

#[test]
fn a_store_that_lost_something_does_not_open_and_says_where_and_what_to_do() {
    for (what, ruin) in RUINS {
        let directory = directory();
        with_two_logs(directory.path());
        let ruined = name_of(&ruin(directory.path()));
        let before = contents(directory.path());
        let error = RocksEngine::open(directory.path()).expect_err(what);
        assert!(matches!(error, EngineError::Damaged(_)), "{what}: {error}");
        let text = error.to_string();
        assert!(text.contains(&ruined), "{what}: `{ruined}` is not named: {text}");
        assert!(error.hint().is_some_and(|hint| hint.contains("warbler init")));
        // Whoever repairs it finds it as it was.
        let after = contents(directory.path());
        for (name, bytes) in before.iter().filter(|(name, _)| *name != "LOG") {
            assert_eq!(after.get(name), Some(bytes), "{what}: {name} was changed");
        }
    }
}

#[test]
fn a_store_without_any_log_is_damaged() {
    let directory = directory();
    with_two_logs(directory.path());
    with_extension(directory.path(), "log").iter().for_each(|log| remove(log));
    let error = RocksEngine::open(directory.path()).expect_err("damaged");
    assert!(matches!(&error, EngineError::Damaged(why) if why.contains("log")), "{error}");
}

fn damage_of(engine: &RocksEngine) -> Vec<String> {
    engine.check_files(&mut |_| true).expect("the files are read")
}

fn name_of(file: &Path) -> String {
    file.file_name().expect("a name").to_string_lossy().into_owned()
}

/// Rows in several table files, which do not overlap, and in the log.
fn with_many_files(engine: &RocksEngine, table: Table) {
    for file in 0..4_u8 {
        for row in 0..200_u8 {
            put(engine, table, &[file, row], &[row; 200]);
        }
        let family = engine.column_family(table).expect("the table");
        engine.db.flush_cf(family).expect("the buffer is written out");
    }
    put(engine, table, &[9], &[9; 200]);
}

#[test]
fn a_whole_store_has_no_damage_and_all_of_it_is_read() {
    let directory = directory();
    let engine = open(directory.path());
    assert_eq!(damage_of(&engine), [""; 0]);
    Table::ALL.into_iter().for_each(|table| with_many_files(&engine, table));

    let mut seen = Vec::new();
    let damage = engine.check_files(&mut |progress| {
        seen.push(progress);
        true
    });
    assert_eq!(damage.expect("read"), [""; 0]);
    let tables: Vec<_> =
        Table::ALL.into_iter().filter(|table| seen.iter().any(|it| it.table == *table)).collect();
    assert_eq!(tables, Table::ALL);
    assert!(seen.last().is_some_and(|last| last.bytes > 7 * 3 * 200 * 200), "{seen:?}");
}

#[test]
fn a_check_ends_when_it_is_told_to() {
    let directory = directory();
    let engine = open(directory.path());
    Table::ALL.into_iter().for_each(|table| with_many_files(&engine, table));
    let mut asked = 0;
    let damage = engine.check_files(&mut |_| {
        asked += 1;
        asked < 3
    });
    assert_eq!(damage.expect("read"), [""; 0]);
    assert_eq!(asked, 3);
}

/// The rows were read before and lie in the cache: only the device has the damage.
#[test]
fn a_check_finds_a_damaged_byte_that_readers_do_not_meet() {
    let directory = directory();
    let engine = open(directory.path());
    with_many_files(&engine, Table::Timeline);
    let read = || engine.scan(Table::Timeline, b"", b"z", Direction::Forward).count();
    assert_eq!(read(), 801);
    let files = with_extension(directory.path(), "sst");
    for file in [&files[0], &files[2]] {
        let middle = usize::try_from(fs::metadata(file).expect("its size").len()).expect("small");
        flip_in_place(file, middle / 3);
    }
    let damage = damage_of(&engine);
    assert_eq!(damage.len(), 2, "{damage:?}");
    for (damage, file) in damage.iter().zip([&files[0], &files[2]]) {
        assert!(damage.starts_with("table `timeline`: "), "{damage}");
        assert!(damage.contains(&name_of(file)), "{damage}");
    }
}

/// RocksDB keeps table files open: a new file under the name would leave it the old one.
fn flip_in_place(file: &Path, at: usize) {
    use std::os::unix::fs::FileExt;
    let file = File::options().read(true).write(true).open(file).expect("the file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).expect("read");
    file.write_all_at(&[byte[0] ^ 0x10], at as u64).expect("written");
}

#[test]
fn a_check_finds_two_damaged_blocks_of_one_file() {
    let directory = directory();
    let engine = open(directory.path());
    let noise = |row: u64| blake3::hash(&row.to_be_bytes()).as_bytes().repeat(30);
    for row in 0..200_u64 {
        put(&engine, Table::Bodies, &row.to_be_bytes(), &noise(row));
    }
    let family = engine.column_family(Table::Bodies).expect("the table");
    engine.db.flush_cf(family).expect("the buffer is written out");
    let file = &with_extension(directory.path(), "sst")[0];
    let bytes = usize::try_from(fs::metadata(file).expect("its size").len()).expect("small");
    flip_in_place(file, bytes / 4);
    flip_in_place(file, bytes / 2);
    let damage = damage_of(&engine);
    assert_eq!(damage.len(), 2, "{damage:?}");
    assert!(damage.iter().all(|damage| damage.contains(&name_of(file))), "{damage:?}");
}

#[test]
fn a_check_finds_a_table_file_that_is_gone_or_cut_off_while_it_is_open() {
    let directory = directory();
    let engine = open(directory.path());
    with_many_files(&engine, Table::Segments);
    let files = with_extension(directory.path(), "sst");
    fs::remove_file(&files[1]).expect("removed");
    cut_off(&files[3], 7);
    let damage = damage_of(&engine);
    let about = |file: &Path, why: &str| {
        damage.iter().any(|damage| {
            damage.starts_with("table `segments`: ")
                && damage.contains(&name_of(file))
                && damage.contains(why)
        })
    };
    assert!(about(&files[1], "is missing"), "{damage:?}");
    assert!(about(&files[3], "bytes where"), "{damage:?}");
    assert!(!about(&files[0], "") && !about(&files[2], ""), "{damage:?}");
}

/// Until its rows are in a table file, the log is the only place that has them.
#[test]
fn a_check_finds_damage_in_the_log_before_a_restart_does() {
    let directory = directory();
    let engine = open(directory.path());
    for number in 0..50 {
        put(&engine, Table::Log, &[number], &[7; 100]);
    }
    assert_eq!(damage_of(&engine), [""; 0]);
    let log = with_extension(directory.path(), "log").pop().expect("a log");
    for at in [1_000, 10] {
        flip_in_place(&log, at);
        let damage = damage_of(&engine);
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert!(damage[0].starts_with("the write-ahead log: "), "{damage:?}");
    }
    // The rows are still in memory: written out, they need no log, and a restart finds them.
    engine.purge(&[(Table::Log, vec![], vec![1])]).expect("the buffers are written out");
    assert_eq!(damage_of(&engine), [""; 0]);
    drop(engine);
    let engine = open(directory.path());
    assert_eq!(get(&engine, Table::Log, &[49]), Some(vec![7; 100]));
}
