//! The reserve: room on the device that only a node in need may use.
//!
//! A database that ran out of room needs some to be opened again: what is in its log must be
//! written to table files. So a file of a fixed size lies beside the store from the start, is
//! removed when there is no room left, and made again when there is. It must not decide when.
//! Invariant: a reserve that is kept takes its blocks for real: a file with holes would be worth
//! nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};
use warbler_store::entropy::Entropy;

/// Bytes written at a time where blocks cannot be asked for: 1 MiB.
const CHUNK_BYTES: usize = 1 << 20;

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    /// The reserve of `bytes` at `path`, whether it is kept now or not. None is kept of 0 bytes.
    pub(crate) fn new(path: PathBuf, bytes: u64) -> Self {
        Self { path, bytes }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether all of it is there.
    pub(crate) fn is_kept(&self) -> bool {
        self.bytes == 0 || fs::metadata(&self.path).is_ok_and(|file| file.len() == self.bytes)
    }

    /// Makes it, unless it is there.
    ///
    /// # Errors
    /// When there is no room; then none of it is left.
    pub(crate) fn keep(&self) -> io::Result<()> {
        if self.is_kept() {
            return Ok(());
        }
        self.release()?;
        self.make().inspect_err(|_| {
            // A part of a reserve would only take the room that is missing.
            let _ = self.release();
        })
    }

    /// Gives its room back.
    ///
    /// # Errors
    /// When the file is there and cannot be removed.
    pub(crate) fn release(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn make(&self) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            Ok(()) => {}
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.fill(&mut file)?,
            Err(error) => return Err(error.into()),
        }
        file.sync_all()
    }

    /// Writes bytes that no file system can keep in less room.
    fn fill(&self, file: &mut File) -> io::Result<()> {
        let mut noise = Entropy::from_seed([0; 32]);
        let mut left = self.bytes;
        while left > 0 {
            let chunk: Vec<u8> = (0..CHUNK_BYTES / 64).flat_map(|_| noise.bytes::<64>()).collect();
            let length = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            file.write_all(&chunk[..length])?;
            left -= length as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn blocks(reserve: &Reserve) -> u64 {
        fs::metadata(&reserve.path).expect("a file").blocks() * 512
    }

    #[test]
    fn a_reserve_takes_its_room_for_real_and_gives_it_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let reserve = Reserve::new(directory.path().join("reserve"), 3 << 20);
        assert!(!reserve.is_kept());
        reserve.release().expect("nothing to give back");

        reserve.keep().expect("made");
        assert!(reserve.is_kept());
        assert!(blocks(&reserve) >= 3 << 20, "{} bytes of blocks", blocks(&reserve));
        reserve.keep().expect("it is there");

        reserve.release().expect("removed");
        assert!(!reserve.is_kept() && !reserve.path.exists());
    }

    #[test]
    fn where_blocks_cannot_be_asked_for_bytes_are_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let reserve = Reserve::new(directory.path().join("reserve"), (2 << 20) + 77);
        let mut file = File::create(&reserve.path).expect("created");
        reserve.fill(&mut file).expect("filled");
        assert!(reserve.is_kept());
        let bytes = fs::read(&reserve.path).expect("read");
        assert!(bytes.chunks(64).all(|chunk| chunk.iter().any(|byte| *byte != chunk[0])));
    }

    #[test]
    fn a_reserve_of_another_size_is_made_anew_and_one_of_nothing_needs_no_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("reserve");
        Reserve::new(path.clone(), 1 << 20).keep().expect("made");
        let larger = Reserve::new(path.clone(), 2 << 20);
        assert!(!larger.is_kept());
        larger.keep().expect("made");
        assert_eq!(fs::metadata(&path).expect("a file").len(), 2 << 20);

        let none = Reserve::new(directory.path().join("none"), 0);
        none.keep().expect("nothing to make");
        assert!(none.is_kept() && !directory.path().join("none").exists());
    }
}
