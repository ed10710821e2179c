//! Reading every file of a store, to find damage before somebody needs what it took.
//!
//! Responsible for reading what reading alone would not touch for months, and for naming the
//! damaged files. It must not repair, and not know what rows mean. Invariant: it changes nothing,
//! and what it reports is damage on the device, not a file that a compaction removed meanwhile.
//!
//! A table is read in stretches that begin where a table file begins, so that damage in one file
//! hides little of the others. RocksDB cannot read past a damaged block: a stretch that has one is
//! read from its other end too, and only what lies between its first and its last damaged block
//! stays unread until the first is repaired.
//!
//! Logs are not read. What they hold is in memory as well, and reaches table files from there; a
//! log is read at the next start, and then refuses damage (`tests/damage.rs`).

use std::collections::BTreeSet;
use std::io;

use rocksdb::properties::NUM_ENTRIES_ACTIVE_MEM_TABLE;
use rocksdb::{DBRawIterator, ReadOptions};

use super::purge::file_name;
use super::{RocksEngine, error};
use crate::engine::{CheckProgress, EngineError, Table};

/// Rows read between two reports.
const ROWS_BETWEEN_REPORTS: u32 = 1_024;

/// Bytes asked of the device at a time: the files are read from one end to the other.
const READ_AHEAD_BYTES: usize = 2 << 20;

/// See [`crate::engine::Engine::check_files`].
pub(super) fn check_files(
    engine: &RocksEngine,
    go_on: &mut dyn FnMut(CheckProgress) -> bool,
) -> Result<Vec<String>, EngineError> {
    // A block in the cache would hide what became of it on the device. After this, what is in the
    // cache was read, and so checked, after the check began.
    let mut cache = engine.cache.clone();
    cache.set_capacity(0);
    cache.set_capacity(engine.memory.cache);

    let mut check = Check { engine, go_on, bytes: 0, cancelled: false, damage: Vec::new() };
    check.logs()?;
    for table in Table::ALL {
        check.missing_files(table)?;
        check.table(table)?;
    }
    Ok(check.damage)
}

struct Check<'a> {
    engine: &'a RocksEngine,
    go_on: &'a mut dyn FnMut(CheckProgress) -> bool,
    bytes: u64,
    cancelled: bool,
    damage: Vec<String>,
}

impl RocksEngine {
    /// Whether there are rows in buffers that are in no table file yet.
    fn has_unwritten_rows(&self) -> Result<bool, EngineError> {
        for table in Table::ALL {
            let family = self.column_family(table)?;
            let rows = self.db.property_int_value_cf(family, NUM_ENTRIES_ACTIVE_MEM_TABLE);
            if rows.map_err(error)?.is_some_and(|rows| rows > 0) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Check<'_> {
    /// The write-ahead logs: rows that are in no table file yet lie nowhere else.
    fn logs(&mut self) -> Result<(), EngineError> {
        // A log that is no longer needed can be removed while it is read, but not each time.
        let damage = match self.read_logs()? {
            Some(_) => self.read_logs()?,
            None => None,
        };
        if let Some(why) = damage {
            self.report("the write-ahead log", &why);
        }
        Ok(())
    }

    /// What is wrong with the logs, if anything. RocksDB says no more about it than that it finds
    /// no more batches, but they are numbered.
    fn read_logs(&mut self) -> Result<Option<String>, EngineError> {
        let db = &self.engine.db;
        let (unwritten, last) = (self.engine.has_unwritten_rows()?, db.latest_sequence_number());
        let mut next = None;
        for batch in db.get_updates_since(0).map_err(error)? {
            let (number, batch) = match batch.map_err(error) {
                Ok(batch) => batch,
                Err(EngineError::Damaged(why)) => return Ok(Some(why)),
                Err(other) => return Err(other),
            };
            if next.is_some_and(|next| next != number) {
                return Ok(Some(format!("what lies before row {number} cannot be read")));
            }
            next = Some(number + batch.len() as u64);
            self.bytes += batch.size_in_bytes() as u64;
        }
        Ok(match next {
            Some(next) if next <= last => {
                Some(format!("rows {next} to {last} cannot be read; keep this process running"))
            }
            None if unwritten => Some("none of it can be read".to_owned()),
            Some(_) | None => None,
        })
    }

    /// Files that the store rests on and that are gone or have another size. An open file could
    /// still be read, until the next start.
    fn missing_files(&mut self, table: Table) -> Result<(), EngineError> {
        for file in self.engine.table_files(table)? {
            let path = self.engine.db.path().join(file_name(&file));
            let why = match std::fs::metadata(&path) {
                Ok(found) if found.len() == file.size as u64 => continue,
                Ok(found) => format!("has {} bytes where {} were written", found.len(), file.size),
                Err(error) if error.kind() == io::ErrorKind::NotFound => "is missing".to_owned(),
                Err(error) => error.to_string(),
            };
            // A compaction may have replaced it since.
            let live = self.engine.table_files(table)?;
            if live.iter().any(|other| other.name == file.name) {
                self.report_in(table, &format!("{} {why}", path.display()));
            }
        }
        Ok(())
    }

    fn table(&mut self, table: Table) -> Result<(), EngineError> {
        let files = self.engine.table_files(table)?;
        let firsts: BTreeSet<_> =
            files.iter().filter_map(|file| file.start_key.as_deref()).collect();
        let mut ends = firsts.iter().skip(1).map(|first| Some(*first)).chain([None]);
        for first in &firsts {
            let end = ends.next().flatten();
            if self.cancelled {
                break;
            }
            self.stretch(table, first, end)?;
        }
        Ok(())
    }

    fn stretch(
        &mut self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> Result<(), EngineError> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(start);
        if let Some(end) = end {
            options.set_iterate_upper_bound(end);
        }
        options.set_total_order_seek(true);
        options.set_verify_checksums(true);
        options.fill_cache(false);
        options.set_readahead_size(READ_AHEAD_BYTES);
        let family = self.engine.column_family(table)?;
        let mut rows = self.engine.db.raw_iterator_cf_opt(family, options);
        rows.seek_to_first();
        if self.walk(table, &mut rows, DBRawIterator::next)? {
            rows.seek_to_last();
            self.walk(table, &mut rows, DBRawIterator::prev)?;
        }
        Ok(())
    }

    /// Reads rows until their end or to the first damage; says whether there was damage.
    fn walk<'a>(
        &mut self,
        table: Table,
        rows: &mut DBRawIterator<'a>,
        step: impl Fn(&mut DBRawIterator<'a>),
    ) -> Result<bool, EngineError> {
        let mut until_report = 0;
        while let Some((key, value)) = rows.item() {
            self.bytes += (key.len() + value.len()) as u64;
            if until_report == 0 {
                until_report = ROWS_BETWEEN_REPORTS;
                self.cancelled |= !(self.go_on)(CheckProgress { table, bytes: self.bytes });
            }
            if self.cancelled {
                return Ok(false);
            }
            until_report -= 1;
            step(rows);
        }
        match rows.status().map_err(error) {
            Ok(()) => Ok(false),
            Err(EngineError::Damaged(why)) => {
                self.report_in(table, &why);
                Ok(true)
            }
            Err(other) => Err(other),
        }
    }

    fn report_in(&mut self, table: Table, why: &str) {
        self.report(&format!("table `{table}`"), why);
    }

    fn report(&mut self, place: &str, why: &str) {
        let damage = format!("{place}: {why}");
        if !self.damage.contains(&damage) {
            self.damage.push(damage);
        }
    }
}
