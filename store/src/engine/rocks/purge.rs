//! How erased bytes leave the files of a store.
//!
//! A row that is deleted or overwritten goes on lying in the write-ahead log, and in table files
//! until a compaction meets both the row and what replaced it. So a purge writes out the buffers,
//! which lets go of the logs, rewrites the ranges down to the last level, and looks whether the
//! files that held them are gone from the directory. It must not know why rows were erased.
//! Invariant: `Ok` means looked for and not there, never only asked for.
//!
//! What stays are keys, in two places that RocksDB keeps no values in: `MANIFEST` names the first
//! and last key of each table file, and `LOG` those of some compactions; both are replaced in
//! time. The block cache can hold blocks of files that are gone; nothing can ask for them.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use rocksdb::{
    BottommostLevelCompaction, ColumnFamily, CompactOptions, FlushOptions, LiveFile, properties,
};

use super::{RocksEngine, error, files, io_error};
use crate::engine::{EngineError, KeyRange, Table};

/// How long a purge waits for readers to let go of what it replaces.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How often it looks.
const PAUSE: Duration = Duration::from_millis(10);

/// See the module's comment.
pub(super) fn purge(
    engine: &RocksEngine,
    ranges: &[KeyRange],
    patience: Duration,
) -> Result<(), EngineError> {
    if ranges.is_empty() {
        return Ok(());
    }
    let _alone = engine.purging.lock().unwrap_or_else(PoisonError::into_inner);
    let failures = engine.background_failures()?;
    let logs = engine.logs()?;
    engine.await_older_views(patience)?;
    engine.write_out_buffers()?;

    // A compaction that began under an older view keeps what that view saw, and what it leaves is
    // too new for the first pass to touch. The first pass waits for it, the second finds it.
    let passes = if engine.property(properties::NUM_RUNNING_COMPACTIONS)? > 0 { 2 } else { 1 };
    for _ in 0..passes {
        engine.rewrite_all(ranges)?;
    }
    // The rewriting itself returns nothing.
    if engine.background_failures()? != failures {
        return Err(EngineError::Failed("table files could not be rewritten".to_owned()));
    }
    engine.await_removal(logs, patience)
}

impl RocksEngine {
    /// A view keeps what was deleted after it was taken, and compactions leave that alone.
    fn await_older_views(&self, patience: Duration) -> Result<(), EngineError> {
        let now = self.db.latest_sequence_number();
        wait_until(patience, || {
            // After a failed write the engine has to be closed: who waits must let go of it.
            self.check_not_failed()?;
            let views = self.property(properties::NUM_SNAPSHOTS)?;
            let oldest = self.property(c"rocksdb.oldest-snapshot-sequence")?;
            Ok((views > 0 && oldest < now)
                .then(|| "a view from before it is still open".to_owned()))
        })
    }

    fn write_out_buffers(&self) -> Result<(), EngineError> {
        let families = Table::ALL
            .iter()
            .map(|table| self.column_family(*table))
            .collect::<Result<Vec<_>, _>>()?;
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&families, &options).map_err(error)
    }

    fn rewrite_all(&self, ranges: &[KeyRange]) -> Result<(), EngineError> {
        for table in Table::ALL {
            let family = self.column_family(table)?;
            for (start, end) in merged(table, ranges, &self.table_files(table)?) {
                self.rewrite(family, &start, &end);
            }
        }
        Ok(())
    }

    fn rewrite(&self, family: &ColumnFamily, start: &[u8], end: &[u8]) {
        let mut options = CompactOptions::default();
        // Also the last level, where a row may lie beside an older one that a view once needed.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        // Alone, or another compaction could carry rows past the level that is at work.
        options.set_exclusive_manual_compaction(true);
        self.db.compact_range_cf_opt(family, Some(start), Some(end), &options);
    }

    /// Waits for the end of the logs of old, and of all table files that the store no longer rests
    /// on: replaced now or before, they stay for as long as a reader uses them.
    fn await_removal(&self, logs: BTreeSet<String>, patience: Duration) -> Result<(), EngineError> {
        let mut old = logs;
        old.extend(self.files()?.into_iter().filter(|name| name.ends_with(".sst")));
        wait_until(patience, || {
            self.check_not_failed()?;
            let present = self.files()?;
            // Also those that were being written when the old ones were listed.
            for file in self.live_files()? {
                old.remove(file_name(&file));
            }
            let left = old.iter().find(|name| present.contains(*name));
            Ok(left.map(|name| format!("`{name}` is still in use")))
        })
    }

    /// The logs that hold something.
    fn logs(&self) -> Result<BTreeSet<String>, EngineError> {
        Ok(self.files()?.into_iter().filter(|name| name.ends_with(".log")).collect())
    }

    /// What lies in the directory and is not empty.
    fn files(&self) -> Result<BTreeSet<String>, EngineError> {
        let path = self.db.path();
        let files = files(path).map_err(|error| io_error(path, &error))?;
        Ok(files.into_iter().filter(|(_, bytes)| *bytes > 0).map(|(name, _)| name).collect())
    }

    pub(super) fn live_files(&self) -> Result<Vec<LiveFile>, EngineError> {
        self.db.live_files().map_err(error)
    }

    pub(super) fn table_files(&self, table: Table) -> Result<Vec<LiveFile>, EngineError> {
        let mut files = self.live_files()?;
        files.retain(|file| file.column_family_name == table.name());
        Ok(files)
    }

    /// How often writing a table file failed since the store was opened.
    pub(super) fn background_failures(&self) -> Result<u64, EngineError> {
        self.property(properties::BACKGROUND_ERRORS)
    }

    fn property(&self, name: impl rocksdb::CStrLike) -> Result<u64, EngineError> {
        self.db
            .property_int_value(name)
            .map_err(error)?
            .ok_or_else(|| EngineError::Failed("a property is not known".to_owned()))
    }
}

/// The ranges of one table, those that share a table file made one: each would rewrite it anew.
pub(super) fn merged(
    table: Table,
    ranges: &[KeyRange],
    files: &[LiveFile],
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let of_table = ranges.iter().filter(|(of, start, end)| *of == table && start < end);
    let mut sorted: Vec<_> = of_table.map(|(_, start, end)| (start.clone(), end.clone())).collect();
    sorted.sort();
    let mut merged: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (start, end) in sorted {
        match merged.last_mut() {
            Some(last) if last.1 >= start || shares_file(last, &start, files) => {
                last.1 = end.max(std::mem::take(&mut last.1));
            }
            Some(_) | None => merged.push((start, end)),
        }
    }
    merged
}

/// Whether a file below the first level, where all files reach far, has both.
fn shares_file(range: &(Vec<u8>, Vec<u8>), start: &[u8], files: &[LiveFile]) -> bool {
    let below = files.iter().filter(|file| file.level > 0);
    let mut inside = below.filter(|file| overlaps(file, &range.0, &range.1));
    inside.any(|file| file.end_key.as_deref().is_none_or(|last| start <= last))
}

fn overlaps(file: &LiveFile, start: &[u8], end: &[u8]) -> bool {
    file.start_key.as_deref().is_none_or(|first| first <= end)
        && file.end_key.as_deref().is_none_or(|last| start <= last)
}

/// RocksDB puts a slash before it.
pub(super) fn file_name(file: &LiveFile) -> &str {
    file.name.trim_start_matches('/')
}

/// Waits until `obstacle` finds none.
fn wait_until(
    patience: Duration,
    mut obstacle: impl FnMut() -> Result<Option<String>, EngineError>,
) -> Result<(), EngineError> {
    let mut waited = Duration::ZERO;
    while let Some(why) = obstacle()? {
        if waited >= patience {
            return Err(EngineError::Busy(format!("erased bytes are still in the files: {why}")));
        }
        thread::sleep(PAUSE);
        waited += PAUSE;
    }
    Ok(())
}
