//! Automerge documents: flat maps of write-once scalars under the root.
//!
//! Nobody who writes needs a document in memory. To append to one, and to check what a peer
//! appended, its [`Tips`] are enough: heads, each actor's last change, and how far operations
//! have counted. Changes have one restricted form, which [`Change`] encodes and decodes to the
//! same bytes as Automerge. Automerge itself makes and reads [`Snapshot`]s, off the hot path.
//!
//! Knows nothing of entries, tables or messages. Invariant: no change is taken in that is not
//! its actor's next one on top of what is held, so that Automerge never meets one that it would
//! have to refuse.

mod change;
mod snapshot;
mod tips;

pub use change::{Change, ChangeError, ChangeHash, MAX_CHANGE_OPS};
pub(crate) use snapshot::MAX_SAVED_BYTES;
pub use snapshot::{Snapshot, SnapshotError};
pub use tips::{ChangeFact, Tips};

use crate::id::OriginId;

/// The actor of the first change of every conversation's document: no run has it.
pub const GENESIS: OriginId = OriginId([0; 16]);

/// A scalar that a document holds; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// A packed record.
    Bytes(Vec<u8>),
    /// A setting.
    Text(String),
}

impl Scalar {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Text(text) => text.as_bytes(),
        }
    }
}
