//! RocksDB's failures and the system's in our words.
//!
//! RocksDB's errors come as text, so this is where its texts are known, and nowhere else.
//! Invariant: no error is swallowed; what is not recognised is a plain failure in RocksDB's words.

use std::io;
use std::path::Path;

use rocksdb::ErrorKind;

use crate::engine::EngineError;

/// RocksDB's error on opening `path`, in our words.
pub(super) fn opening_error(path: &Path, failure: rocksdb::Error) -> EngineError {
    if is_about_the_lock(failure.as_ref()) {
        return EngineError::Locked { path: path.display().to_string() };
    }
    let failure = error(failure);
    if let EngineError::Damaged(why) = &failure {
        return EngineError::Damaged(place(path, why));
    }
    failure
}

/// RocksDB names the file that is damaged in its error, unless it is a write-ahead log: those it
/// calls by number, or names in its own log of what it does only.
fn place(path: &Path, why: &str) -> String {
    let directory = path.display().to_string();
    if why.contains(&directory) {
        return why.to_owned();
    }
    let number = why.split_once("log number: ").map(|(_, rest)| {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        format!("{:0>6}.log", &rest[..digits])
    });
    let file = number.or_else(|| why.contains("checksum").then(|| dropped_log(path)).flatten());
    match file {
        Some(file) => format!("{why} ({directory}/{file})"),
        None => format!("{why} (in {directory})"),
    }
}

/// The write-ahead log of which the last opening could not read all, by RocksDB's own log.
fn dropped_log(path: &Path) -> Option<String> {
    let log = std::fs::read(path.join("LOG")).ok()?;
    let log = String::from_utf8_lossy(&log);
    let line = log.lines().rev().find(|line| line.contains(".log: dropping "))?;
    let (before, _) = line.split_once(": dropping ")?;
    before.rsplit(['/', ' ']).next().map(str::to_owned)
}

/// Whether RocksDB says that the directory is open: in another process, or in this one. Not any
/// word with "lock" in it will do: a damaged "block" has it, and directories may.
pub(super) fn is_about_the_lock(text: &str) -> bool {
    text.starts_with("IO error: While lock file")
        || text.starts_with("IO error: lock hold by current process")
}

/// RocksDB's error in our words. It comes as text only.
pub(super) fn error(failure: rocksdb::Error) -> EngineError {
    let kind = failure.kind();
    let text = failure.into_string();
    let says = |words: &str| text.contains(words);
    if says("No space left") || says("Disk quota exceeded") {
        EngineError::Full(text)
    } else if kind == ErrorKind::Corruption
        // A file of the store that is gone, or that the device fails to read.
        || (kind == ErrorKind::IOError && (says("No such file") || says("Input/output error")))
    {
        EngineError::Damaged(text)
    } else {
        EngineError::Failed(text)
    }
}

/// The system's error about the directory `path`, in our words.
pub(super) fn io_error(path: &Path, failure: &io::Error) -> EngineError {
    let is = |kind| failure.kind() == kind;
    let text = format!("{}: {failure}", path.display());
    if is(io::ErrorKind::StorageFull) || is(io::ErrorKind::QuotaExceeded) {
        EngineError::Full(text)
    } else if is(io::ErrorKind::NotADirectory) {
        EngineError::Foreign {
            path: path.display().to_string(),
            why: "it is not a directory".to_owned(),
        }
    } else {
        EngineError::Failed(text)
    }
}
