//! The directory of a store: whose it is, what lies in it, and how it is made.
//!
//! Invariant: a directory that is somebody else's is refused before anything in it is touched.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use rocksdb::{DB, DEFAULT_COLUMN_FAMILY_NAME, Options};

use super::failure::io_error;
use crate::engine::{EngineError, Room, Table};

/// The name of the file by which RocksDB finds everything else; a database without it is none.
const CURRENT: &str = "CURRENT";

/// Refuses a directory that is not ours, or lacks what a store cannot be without, before anything
/// in it is touched.
pub(super) fn refuse_foreign(path: &Path) -> Result<(), EngineError> {
    let files = match files(path) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(path, &error)),
    };
    if let Some(missing) = missing(path, &files) {
        let path = path.display();
        return Err(EngineError::Damaged(format!("{path}/{missing} is missing")));
    }
    match strangeness(path, &files) {
        Some(why) => Err(EngineError::Foreign { path: path.display().to_string(), why }),
        None => Ok(()),
    }
}

/// What a database lacks that RocksDB would not miss: without `CURRENT` it would begin a new one,
/// and without a log it would take all that was written to it for never written.
fn missing(path: &Path, files: &BTreeMap<String, u64>) -> Option<&'static str> {
    if !files.contains_key(CURRENT) {
        let began = |name: &String| name.starts_with("MANIFEST-");
        let has_rows = files.iter().any(|(name, bytes)| has_rows(name, *bytes));
        return (has_rows && files.keys().any(began)).then_some(CURRENT);
    }
    // There is one from before our tables are made, and at any moment since.
    let is_log = |name: &String| Path::new(name).extension().is_some_and(|it| it == "log");
    if files.keys().any(is_log) {
        return None;
    }
    let names = DB::list_cf(&Options::default(), path).ok()?;
    names.iter().any(is_ours).then_some("*.log")
}

/// What shows that a directory is not ours, if anything does.
fn strangeness(path: &Path, files: &BTreeMap<String, u64>) -> Option<String> {
    if !files.contains_key(CURRENT) {
        let stranger = files.keys().find(|name| !is_from_unfinished_creation(name))?;
        return Some(format!("it holds `{stranger}` but no database"));
    }
    // Fails for a damaged database, and can fail for one that is in use: opening finds out which.
    let names = DB::list_cf(&Options::default(), path).ok()?;
    let unknown = names.iter().find(|name| *name != DEFAULT_COLUMN_FAMILY_NAME && !is_ours(name));
    if let Some(unknown) = unknown {
        return Some(format!("its database has a table `{unknown}`"));
    }
    // A creation of ours that a crash cut short has no tables either, but then no rows.
    (!names.iter().any(is_ours) && files.iter().any(|(name, bytes)| has_rows(name, *bytes)))
        .then(|| "its database has rows but none of our tables".to_owned())
}

fn is_ours(name: &String) -> bool {
    Table::ALL.iter().any(|table| table.name() == name)
}

/// Whether RocksDB writes a file of this name before it writes `CURRENT`. A crash between the
/// two leaves a directory that we began and must be able to finish.
fn is_from_unfinished_creation(name: &str) -> bool {
    matches!(name, "LOCK" | "IDENTITY" | "LOG")
        || name.starts_with("LOG.old.")
        || name.starts_with("MANIFEST-")
        || name.ends_with(".dbtmp")
}

/// Whether a file of a database (RocksDB's or LevelDB's) holds rows.
fn has_rows(name: &str, bytes: u64) -> bool {
    let is = |extension| Path::new(name).extension().is_some_and(|it| it == extension);
    is("sst") || is("ldb") || (is("log") && bytes > 0)
}

/// Names and sizes in bytes of what is in a directory. RocksDB's files have names in ASCII.
pub(super) fn files(path: &Path) -> io::Result<BTreeMap<String, u64>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match entry.metadata() {
            Ok(metadata) => files.insert(name, metadata.len()),
            // RocksDB removes files while we look.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
    }
    Ok(files)
}

/// Creates `path` and its parents, and flushes each parent's list of names: otherwise a power cut
/// can take the whole directory, with everything flushed inside it.
pub(super) fn create_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    create_directory(parent)?;
    fs::create_dir(path)?;
    File::open(parent)?.sync_all()
}

/// What the file system of the store has.
pub(super) fn room(path: &Path) -> Result<Room, EngineError> {
    let found = rustix::fs::statvfs(path).map_err(|error| io_error(path, &error.into()))?;
    Ok(Room {
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
        // What we may take: some file systems keep blocks for the superuser.
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
    })
}
