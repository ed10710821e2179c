//! The ceilings: RocksDB alone with the very rows that a batch holds.

use std::path::Path;

use anyhow::Result;
use warbler_store::engine::{Batch, Table};

/// The rows of a batch as RocksDB takes them.
#[must_use]
pub fn rows(batch: &Batch) -> Vec<(Table, Vec<u8>, Option<Vec<u8>>)> {
    let rows = batch.iter();
    rows.map(|(table, key, value)| (table, key.to_vec(), value.map(<[u8]>::to_vec))).collect()
}

/// A directory for a database that is gone when the bench ends.
///
/// # Errors
/// When there is no room for it.
pub fn directory() -> Result<tempfile::TempDir> {
    Ok(tempfile::tempdir_in(base())?)
}

/// Next to the build, where the disk is: a temporary directory may lie in memory.
fn base() -> &'static Path {
    let target = Path::new("target");
    if target.is_dir() { target } else { Path::new(".") }
}
