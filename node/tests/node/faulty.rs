//! An engine that fails on demand, over a real one.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use warbler_node::node::Opener;
use warbler_store::engine::{
    Batch, CheckProgress, Direction, Engine, EngineError, KeyRange, RocksEngine, Room, Rows,
    SharedEngine, Table, View,
};

/// What becomes of a batch whose write fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is lost.
    Lost,
    /// It is on the disk all the same.
    Kept,
    /// There was no room for it.
    NoRoom,
}

/// The faults of one disk, over all the engines that are opened on it.
#[derive(Default)]
pub(crate) struct Faults {
    next: Mutex<Option<Fate>>,
    refuse_to_open: AtomicU32,
    opened: AtomicU32,
    room: Mutex<Option<Room>>,
    damaged: Mutex<Option<Vec<u8>>>,
    looks: AtomicU32,
    unsound: AtomicBool,
    blocked: Mutex<bool>,
    unblocked: Condvar,
}

impl Faults {
    /// Fails the next write.
    pub(crate) fn fail_next(&self, fate: Fate) {
        *self.next.lock().expect("a lock") = Some(fate);
    }

    /// Fails so many of the next attempts to open the engine.
    pub(crate) fn refuse_to_open(&self, times: u32) {
        self.refuse_to_open.store(times, Ordering::SeqCst);
    }

    /// How often the engine was opened.
    pub(crate) fn opened(&self) -> u32 {
        self.opened.load(Ordering::SeqCst)
    }

    /// How often the room was asked for.
    pub(crate) fn looks(&self) -> u32 {
        self.looks.load(Ordering::SeqCst)
    }

    /// Says that so many bytes are free, whatever is true.
    pub(crate) fn claim_free(&self, free_bytes: Option<u64>) {
        let room = free_bytes.map(|free_bytes| Room { total_bytes: u64::MAX, free_bytes });
        *self.room.lock().expect("a lock") = room;
    }

    /// Rows of the index whose keys hold these bytes are damaged from now on.
    pub(crate) fn damage(&self, within_key: &[u8]) {
        *self.damaged.lock().expect("a lock") = Some(within_key.to_vec());
    }

    /// Lets writing behind the scenes have failed, until the engine is opened again.
    pub(crate) fn make_unsound(&self) {
        self.unsound.store(true, Ordering::SeqCst);
    }

    /// Holds all writes, or lets them go on.
    pub(crate) fn block(&self, block: bool) {
        *self.blocked.lock().expect("a lock") = block;
        self.unblocked.notify_all();
    }

    fn wait_while_blocked(&self) {
        let mut blocked = self.blocked.lock().expect("a lock");
        while *blocked {
            blocked = self.unblocked.wait(blocked).expect("a lock");
        }
    }

    fn may_open(&self) -> Result<(), EngineError> {
        let left = |left: u32| left.checked_sub(1);
        if self.refuse_to_open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok() {
            return Err(EngineError::Failed("the disk does not answer".to_owned()));
        }
        self.opened.fetch_add(1, Ordering::SeqCst);
        self.unsound.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn check(&self, table: Table, key: &[u8]) -> Result<(), EngineError> {
        let damaged = self.damaged.lock().expect("a lock");
        let holds = |part: &Vec<u8>| key.windows(part.len()).any(|window| window == part);
        if table == Table::Index && damaged.as_ref().is_some_and(holds) {
            return Err(EngineError::Damaged("a row of the index is rotten".to_owned()));
        }
        Ok(())
    }
}

/// Opens RocksDB in `directory`, with these faults.
pub(crate) fn opener(directory: std::path::PathBuf, faults: Arc<Faults>) -> Opener {
    Arc::new(move || {
        faults.may_open()?;
        let engine = RocksEngine::open(&directory)?;
        let failed = Mutex::new(None);
        Ok(Arc::new(Faulty { engine, faults: Arc::clone(&faults), failed }) as SharedEngine)
    })
}

struct Faulty {
    engine: RocksEngine,
    faults: Arc<Faults>,
    /// Like RocksDB's engine: nothing is written after the first failure.
    failed: Mutex<Option<EngineError>>,
}

impl View for Faulty {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.faults.check(table, key)?;
        self.engine.get(table, key)
    }

    fn scan<'a>(
        &'a self,
        table: Table,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Rows<'a> {
        self.engine.scan(table, start, end, direction)
    }
}

impl Engine for Faulty {
    fn view(&self) -> Box<dyn View + '_> {
        self.engine.view()
    }

    fn persist(&self, batch: &Batch) -> Result<(), EngineError> {
        self.faults.wait_while_blocked();
        let mut failed = self.failed.lock().expect("a lock");
        if let Some(error) = &*failed {
            return Err(error.clone());
        }
        let Some(fate) = self.faults.next.lock().expect("a lock").take() else {
            return self.engine.persist(batch);
        };
        let error = match fate {
            Fate::Lost => EngineError::Failed("the disk failed".to_owned()),
            Fate::Kept => {
                self.engine.persist(batch)?;
                EngineError::Failed("the disk failed after it had written".to_owned())
            }
            Fate::NoRoom => EngineError::Full("no space left".to_owned()),
        };
        *failed = Some(error.clone());
        Err(error)
    }

    fn disk_bytes(&self) -> u64 {
        self.engine.disk_bytes()
    }

    fn room(&self) -> Result<Room, EngineError> {
        self.faults.looks.fetch_add(1, Ordering::SeqCst);
        match *self.faults.room.lock().expect("a lock") {
            Some(room) => Ok(room),
            None => self.engine.room(),
        }
    }

    fn check_sound(&self) -> Result<(), EngineError> {
        if self.faults.unsound.load(Ordering::SeqCst) {
            return Err(EngineError::Failed("a buffer was not written out".to_owned()));
        }
        self.engine.check_sound()
    }

    fn purge(&self, ranges: &[KeyRange]) -> Result<(), EngineError> {
        self.engine.purge(ranges)
    }

    fn check_files(
        &self,
        go_on: &mut dyn FnMut(CheckProgress) -> bool,
    ) -> Result<Vec<String>, EngineError> {
        self.engine.check_files(go_on)
    }
}
