//! A device without room: what was acknowledged stays, and room brings everything back.

use std::process::Command;

use super::*;

/// A small file system of its own, unmounted at the end.
struct Device(TempDir);

impl Device {
    /// None, with a word about it, where this process may not mount.
    fn of_mib(mib: u32) -> Option<Self> {
        let directory = directory();
        let size = format!("size={mib}m");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "warbler-test"])
            .arg(directory.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(directory)),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                eprintln!("SKIPPED: a test of a full device, which cannot be mounted here: {why}");
                None
            }
            Err(error) => {
                eprintln!("SKIPPED: a test of a full device: there is no `mount`: {error}");
                None
            }
        }
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("store")
    }

    /// Takes all room but about `free` bytes.
    fn fill_but(&self, free: u64) {
        let room = directory::room(self.0.path()).expect("the room");
        let zeros = vec![0; usize::try_from(room.free_bytes.saturating_sub(free)).expect("small")];
        fs::write(self.0.path().join("filler"), zeros).expect("it is filled");
    }

    fn make_room(&self) {
        fs::remove_file(self.0.path().join("filler")).expect("it is removed");
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn noise(number: u32) -> Vec<u8> {
    let mut bytes = vec![0; 64 << 10];
    blake3::Hasher::new().update(&number.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn write(engine: &RocksEngine, number: u32) -> Result<(), EngineError> {
    let mut batch = Batch::default();
    batch.put(Table::Bodies, number.to_be_bytes().to_vec(), noise(number));
    engine.persist(&batch)
}

/// Writes until it fails; returns how many were acknowledged.
fn write_until_full(engine: &RocksEngine, from: u32) -> (u32, EngineError) {
    for number in from..from + 10_000 {
        if let Err(error) = write(engine, number) {
            return (number, error);
        }
    }
    panic!("the device never filled up");
}

fn assert_holds(engine: &RocksEngine, acknowledged: u32) {
    for number in 0..acknowledged {
        assert_eq!(get(engine, Table::Bodies, &number.to_be_bytes()), Some(noise(number)));
    }
}

#[test]
fn what_was_acknowledged_survives_a_full_device_and_room_brings_writing_back() {
    let Some(device) = Device::of_mib(128) else { return };
    let engine = open(&device.store());
    device.fill_but(48 << 20);
    engine.check_sound().expect("nothing has failed");
    let (acknowledged, error) = write_until_full(&engine, 0);
    engine.check_sound().expect_err("a write has failed");
    assert!(matches!(error, EngineError::Full(_)), "{error}");
    assert_holds(&engine, acknowledged);
    drop(engine);
    device.make_room();

    let engine = open(&device.store());
    assert_holds(&engine, acknowledged);
    write(&engine, acknowledged).expect("there is room");
    assert_holds(&engine, acknowledged + 1);
    assert_eq!(engine.check_files(&mut |_| true).expect("read"), [""; 0]);
}

/// The way into a crash loop: what a start must write has no room either.
#[test]
fn a_store_on_a_device_that_is_still_full_says_so_and_loses_nothing() {
    let Some(device) = Device::of_mib(128) else { return };
    let engine = open(&device.store());
    device.fill_but(48 << 20);
    let (acknowledged, _) = write_until_full(&engine, 0);
    drop(engine);
    for _ in 0..3 {
        match RocksEngine::open(&device.store()) {
            Err(EngineError::Full(_)) => {}
            Err(error) => panic!("expected a full device, got {error}"),
            Ok(engine) => assert_holds(&engine, acknowledged),
        }
    }
    device.make_room();
    assert_holds(&open(&device.store()), acknowledged);
}

#[test]
fn the_room_of_a_device_is_told() {
    let Some(device) = Device::of_mib(64) else { return };
    let engine = open(&device.store());
    let before = engine.room().expect("told");
    assert_eq!(before.total_bytes, 64 << 20);
    device.fill_but(1 << 20);
    let after = engine.room().expect("told");
    assert!(after.free_bytes <= 2 << 20, "{after:?} after {before:?}");
    assert_eq!(after.total_bytes, before.total_bytes);
}

/// Nobody waits for a buffer to be written out: without a question nobody would know before the
/// next write.
#[test]
fn a_buffer_that_could_not_be_written_out_makes_the_engine_unsound() {
    let Some(device) = Device::of_mib(128) else { return };
    let engine = open(&device.store());
    // Before the first write: a log takes 64 MiB ahead where it can, and gives back what it did not
    // use when it is finished, which a table file would then find.
    device.fill_but(6 << 20);
    (0..64).for_each(|number| write(&engine, number).expect("there is room"));
    engine.check_sound().expect("nothing has failed");
    let family = engine.column_family(Table::Bodies).expect("the table");
    engine.db.flush_cf(family).expect_err("there is no room");
    engine.check_sound().expect_err("it has failed");
    drop(engine);
    device.make_room();
    let engine = open(&device.store());
    engine.check_sound().expect("it was opened again");
    assert_holds(&engine, 64);
}

/// Otherwise a node would take writes until there is no room for what it took.
#[test]
fn room_that_buffers_will_need_is_not_free() {
    let directory = directory();
    let engine = open(directory.path());
    let owed = || {
        let device = directory::room(directory.path()).expect("told").free_bytes;
        device.saturating_sub(engine.room().expect("told").free_bytes)
    };
    let before = owed();
    for number in 0..64 {
        write(&engine, number).expect("there is room");
    }
    // Others write to the same device: hence some slack.
    assert!(owed() >= before + (3 << 20), "{} after {before}", owed());
    let family = engine.column_family(Table::Bodies).expect("the table");
    engine.db.flush_cf(family).expect("the buffer is written out");
    assert!(owed() < before + (2 << 20), "{} after {before}", owed());
}
