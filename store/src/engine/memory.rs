//! The engine that lives in memory and fails on demand, for the simulator and for tests.
//!
//! Responsible for being a disk that a test can hold in its hand: it keeps, forgets, tears, fills
//! up and rots exactly when told to. It must not know what the bytes mean, read a clock, or draw
//! random numbers: a run that repeats its calls repeats its bytes.
//! Invariant: a batch is in a state of the disk as a whole or not at all, whatever fault is on.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    Batch, CheckProgress, Direction, Engine, EngineError, KeyRange, Room, Row, Rows, Table, View,
};

/// A handle to a disk in memory. Clones are handles to the same disk, so that a simulator can keep
/// one while a replica uses another, and crash it under the replica's feet.
///
/// After a failed [`Engine::persist`] the disk answers reads but refuses every later batch with the
/// same error, until [`crash`](Self::crash) or [`reopen`](Self::reopen). RocksDB's engine does the
/// same until it is opened again.
#[derive(Clone, Default)]
pub struct MemoryEngine {
    disk: Arc<Mutex<Disk>>,
}

impl MemoryEngine {
    /// An empty disk without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Turns the lying disk on or off. While it is on, `persist` returns `Ok` and the batch is
    /// visible, but [`crash`](Self::crash) forgets it. The next honest `persist` makes everything
    /// before it durable too, as the flush of a log does.
    pub fn lose_flushes(&self, lose: bool) {
        self.disk().lies = lose;
    }

    /// Cuts the power and opens the disk again: forgets whatever was not flushed, shows what a
    /// torn write left behind, takes batches again, and disarms [`tear_next`](Self::tear_next).
    /// Lying and the size limit stay as they are: they belong to the disk.
    pub fn crash(&self) {
        self.disk().crash();
    }

    /// Closes the disk and opens it again with the power on: like [`crash`](Self::crash), but
    /// nothing visible is forgotten, since the operating system still holds it.
    pub fn reopen(&self) {
        self.disk().reopen();
    }

    /// Makes the next `persist` of a batch that is not empty fail. With `keep` the whole batch has
    /// reached the disk, with everything before it, and shows after [`crash`](Self::crash) or
    /// [`reopen`](Self::reopen); without, nothing of it has. Until then readers see none of it.
    pub fn tear_next(&self, keep: bool) {
        self.disk().tear = Some(keep);
    }

    /// Limits the disk to `limit_bytes` of keys and values, or lifts the limit. A batch that has
    /// no room fails with [`EngineError::Full`] and writes nothing. Deletes need room too while
    /// they are written, as they do in a log.
    pub fn fill_up(&self, limit_bytes: Option<u64>) {
        self.disk().limit = limit_bytes;
    }

    /// Flips one bit of the value under `key`, wherever the disk holds it; views taken before keep
    /// the old value. Bits count from the lowest of the first byte and wrap around at the value's
    /// end, so any number will do. False if there is no value or it is empty.
    #[must_use]
    pub fn flip_bit(&self, table: Table, key: &[u8], bit: usize) -> bool {
        self.disk().flip_bit(table, key, bit)
    }

    /// How many keys from `start` to before `end` have an old value on the disk: one that was
    /// deleted or overwritten and not purged since. A disk that is looked at byte by byte shows it.
    #[must_use]
    pub fn remains(&self, table: Table, start: &[u8], end: &[u8]) -> usize {
        let bounds = (Bound::Included(start), Bound::Excluded(end.max(start)));
        self.disk().remains[table as usize].range::<[u8], _>(bounds).count()
    }

    /// An independent copy of what is visible now: a cloned disk, or a backup to restore later.
    /// All of it is durable and no fault is on.
    #[must_use]
    pub fn copy(&self) -> Self {
        let disk = Disk { visible: self.disk().visible.clone(), ..Disk::default() };
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // A panic under the lock could only come from a failed allocation, which aborts: there is
        // no half-done change to be protected from.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View for MemoryEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.disk().visible.get(table, key)
    }

    fn scan<'a>(
        &'a self,
        table: Table,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Rows<'a> {
        Box::new(self.disk().visible.cursor(table, start, end, direction))
    }
}

impl Engine for MemoryEngine {
    fn view(&self) -> Box<dyn View + '_> {
        Box::new(self.disk().visible.clone())
    }

    fn persist(&self, batch: &Batch) -> Result<(), EngineError> {
        self.disk().persist(batch)
    }

    fn disk_bytes(&self) -> u64 {
        self.disk().visible.bytes
    }

    fn room(&self) -> Result<Room, EngineError> {
        Ok(self.disk().room())
    }

    fn check_sound(&self) -> Result<(), EngineError> {
        self.disk().refuses.clone().map_or(Ok(()), Err)
    }

    fn purge(&self, ranges: &[KeyRange]) -> Result<(), EngineError> {
        self.disk().purge(ranges)
    }

    /// Finds nothing: a value with a flipped bit is read like any other, and refused above.
    fn check_files(
        &self,
        go_on: &mut dyn FnMut(CheckProgress) -> bool,
    ) -> Result<Vec<String>, EngineError> {
        for table in Table::ALL {
            let bytes = self.disk_bytes();
            if !go_on(CheckProgress { table, bytes }) {
                break;
            }
        }
        Ok(Vec::new())
    }
}

/// What is stored, and which faults are on.
#[derive(Default)]
struct Disk {
    /// What readers see.
    visible: Tables,
    /// What a crash leaves, where that is not all of `visible`.
    durable: Option<Tables>,
    /// What is on the disk after a torn write that survived. No reader sees it before reopening.
    survived: Option<Tables>,
    /// Why no batch is taken until the disk is reopened.
    refuses: Option<EngineError>,
    lies: bool,
    tear: Option<bool>,
    limit: Option<u64>,
    /// Keys with an old value that was not purged, by table.
    remains: [BTreeSet<Arc<[u8]>>; Table::ALL.len()],
}

impl Disk {
    fn persist(&mut self, batch: &Batch) -> Result<(), EngineError> {
        if let Some(error) = &self.refuses {
            return Err(error.clone());
        }
        if batch.is_empty() {
            return Ok(());
        }
        let outcome = self.write(batch);
        self.refuses = outcome.clone().err();
        outcome
    }

    fn write(&mut self, batch: &Batch) -> Result<(), EngineError> {
        if let Some(keep) = self.tear.take() {
            return Err(self.tear(batch, keep));
        }
        self.check_room(batch)?;
        if self.lies {
            self.durable.get_or_insert_with(|| self.visible.clone());
        } else {
            self.durable = None;
        }
        let remains = &mut self.remains;
        self.visible.apply(batch, |table, key| {
            remains[table as usize].insert(key);
        });
        Ok(())
    }

    fn purge(&mut self, ranges: &[KeyRange]) -> Result<(), EngineError> {
        if let Some(error) = &self.refuses {
            return Err(error.clone());
        }
        for (table, start, end) in ranges {
            let is_inside = |key: &[u8]| (start.as_slice()..end.as_slice()).contains(&key);
            self.remains[*table as usize].retain(|key| !is_inside(key));
        }
        Ok(())
    }

    fn room(&self) -> Room {
        let total_bytes = self.limit.unwrap_or(u64::MAX);
        Room { total_bytes, free_bytes: total_bytes.saturating_sub(self.visible.bytes) }
    }

    fn tear(&mut self, batch: &Batch, keep: bool) -> EngineError {
        if keep {
            let mut survived = self.visible.clone();
            survived.apply(batch, |_, _| ());
            self.survived = Some(survived);
        }
        EngineError::Failed("the write was torn".to_owned())
    }

    fn check_room(&self, batch: &Batch) -> Result<(), EngineError> {
        let Some(limit) = self.limit else {
            return Ok(());
        };
        let used = self.visible.bytes;
        let needed = count(batch.bytes());
        if used.saturating_add(needed) <= limit {
            return Ok(());
        }
        Err(EngineError::Full(format!(
            "{used} of {limit} bytes are taken, the batch needs {needed}"
        )))
    }

    fn crash(&mut self) {
        if let Some(durable) = self.durable.take() {
            self.visible = durable;
        }
        self.reopen();
    }

    fn reopen(&mut self) {
        if let Some(survived) = self.survived.take() {
            self.visible = survived;
            self.durable = None;
        }
        self.refuses = None;
        self.tear = None;
    }

    fn flip_bit(&mut self, table: Table, key: &[u8], bit: usize) -> bool {
        let hidden = [&mut self.durable, &mut self.survived];
        let mut flipped = self.visible.flip_bit(table, key, bit);
        for tables in hidden.into_iter().flatten() {
            flipped |= tables.flip_bit(table, key, bit);
        }
        flipped
    }
}

/// One table. Keys and values are shared with the states copied from it.
type Sorted = BTreeMap<Arc<[u8]>, Arc<[u8]>>;

/// One state of all tables. A clone costs one count a table; a table is copied when it is written
/// to while a clone still holds it.
#[derive(Clone, Default)]
struct Tables {
    /// In the order of [`Table::ALL`].
    sorted: [Arc<Sorted>; Table::ALL.len()],
    /// Bytes of all keys and values.
    bytes: u64,
}

impl Tables {
    /// Tells `replaced` the keys whose old values are no longer visible.
    fn apply(&mut self, batch: &Batch, mut replaced: impl FnMut(Table, Arc<[u8]>)) {
        for (table, key, value) in batch.iter() {
            let had_another = match value {
                Some(value) => self.put(table, key, value),
                None => self.delete(table, key),
            };
            if had_another {
                replaced(table, key.into());
            }
        }
    }

    /// Whether there was an old value.
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> bool {
        let old = Arc::make_mut(&mut self.sorted[table as usize]).insert(key.into(), value.into());
        self.bytes += count(value.len());
        match &old {
            Some(old) => self.bytes -= count(old.len()),
            None => self.bytes += count(key.len()),
        }
        old.is_some()
    }

    /// Whether there was an old value.
    fn delete(&mut self, table: Table, key: &[u8]) -> bool {
        let old = Arc::make_mut(&mut self.sorted[table as usize]).remove(key);
        if let Some(old) = &old {
            self.bytes -= count(key.len() + old.len());
        }
        old.is_some()
    }

    fn flip_bit(&mut self, table: Table, key: &[u8], bit: usize) -> bool {
        let Some(value) = Arc::make_mut(&mut self.sorted[table as usize]).get_mut(key) else {
            return false;
        };
        if value.is_empty() {
            return false;
        }
        let mut damaged = value.to_vec();
        let byte = bit / 8 % damaged.len();
        damaged[byte] ^= 1 << (bit % 8);
        *value = damaged.into();
        true
    }

    fn cursor(&self, table: Table, start: &[u8], end: &[u8], direction: Direction) -> Cursor {
        Cursor {
            sorted: Arc::clone(&self.sorted[table as usize]),
            from: Bound::Included(start.into()),
            // A map refuses a range whose end lies before its start.
            to: Bound::Excluded(end.max(start).into()),
            direction,
        }
    }
}

impl View for Tables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let value = self.sorted[table as usize].get(key);
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan<'a>(
        &'a self,
        table: Table,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Rows<'a> {
        Box::new(self.cursor(table, start, end, direction))
    }
}

/// A scan that owns its table: it looks up each row when asked for, so it holds no lock between
/// rows and sees the moment it began at.
struct Cursor {
    sorted: Arc<Sorted>,
    from: Bound<Arc<[u8]>>,
    to: Bound<Arc<[u8]>>,
    direction: Direction,
}

impl Iterator for Cursor {
    type Item = Result<Row, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let from = self.from.as_ref().map(AsRef::as_ref);
        let to = self.to.as_ref().map(AsRef::as_ref);
        let mut left = self.sorted.range::<[u8], _>((from, to));
        let (key, value) = match self.direction {
            Direction::Forward => left.next(),
            Direction::Backward => left.next_back(),
        }?;
        let row = (key.to_vec(), value.to_vec());
        let passed = Bound::Excluded(Arc::clone(key));
        match self.direction {
            Direction::Forward => self.from = passed,
            Direction::Backward => self.to = passed,
        }
        Some(Ok(row))
    }
}

/// A length as a number of bytes on a disk.
fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
