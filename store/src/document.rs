//! One Automerge document: a flat map of write-once scalars under the root.
//!
//! The only file, with `document/check.rs`, that touches Automerge. Knows nothing of entries,
//! tables or messages. Invariant: Automerge is given no change that [`check`](Document::check)
//! did not pass, and no change whose dependencies it lacks; a panic of its is caught and makes
//! the document unusable, to be loaded again.

mod check;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId, Automerge, Change, ChangeHash, ROOT, ScalarValue};

pub use check::{ChangeError, Checked, MAX_CHANGE_OPS};

use crate::id::OriginId;

/// What an empty document takes in memory, about, in bytes.
const EMPTY_BYTES: usize = 11_000;
/// What a record takes in memory beside its header, about, in bytes.
const RECORD_BYTES: usize = 300;

/// The actor of the first change of every conversation's document: no run has it.
pub const GENESIS: OriginId = OriginId([0; 16]);

/// Why Automerge could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DocumentError {
    /// It refused.
    #[error("automerge refused: {0}")]
    Refused(String),
    /// It panicked; the document is dropped.
    #[error("automerge panicked: {0}")]
    Panicked(String),
}

/// A scalar that a document holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// A packed header.
    Bytes(Vec<u8>),
    /// A setting.
    Text(String),
}

impl From<Scalar> for ScalarValue {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Bytes(bytes) => Self::Bytes(bytes),
            Scalar::Text(text) => Self::Str(text.into()),
        }
    }
}

/// A document in memory.
pub struct Document {
    automerge: Automerge,
    /// Each actor's last change, for the check that the next one follows it.
    last: BTreeMap<ActorId, (u64, ChangeHash)>,
    bytes: usize,
}

impl Document {
    /// An empty document that `origin` will write.
    #[must_use]
    pub fn new(origin: OriginId) -> Self {
        let automerge = Automerge::new().with_actor(actor(origin));
        Self { automerge, last: BTreeMap::new(), bytes: EMPTY_BYTES }
    }

    /// A document that begins with one change which is the same wherever it is made: a fixed
    /// actor ([`GENESIS`]), time 0, these scalars. So what two regions begin at once merges.
    ///
    /// # Errors
    /// When Automerge refuses.
    pub fn with_genesis(
        origin: OriginId,
        scalars: Vec<(String, Scalar)>,
    ) -> Result<Self, DocumentError> {
        let mut document = Self::new(GENESIS);
        document.append(scalars)?;
        document.automerge.set_actor(actor(origin));
        Ok(document)
    }

    /// Writes `scalars` in one change of the document's origin and returns the change's bytes.
    ///
    /// # Errors
    /// When Automerge refuses.
    pub fn append(&mut self, scalars: Vec<(String, Scalar)>) -> Result<Vec<u8>, DocumentError> {
        let mut transaction = self.automerge.transaction();
        for (key, scalar) in scalars {
            if let Scalar::Bytes(header) = &scalar {
                self.bytes += RECORD_BYTES + header.len();
            }
            transaction.put(ROOT, key, ScalarValue::from(scalar)).map_err(refused)?;
        }
        let (hash, _) = transaction.commit_with(CommitOptions::default().with_time(0));
        let written = hash.and_then(|_| self.automerge.get_last_local_change());
        let change = written.ok_or_else(|| refused("nothing was written"))?;
        self.last.insert(change.actor_id().clone(), (change.seq(), change.hash()));
        Ok(change.raw_bytes().to_vec())
    }

    /// Applies changes that were checked, in one go.
    ///
    /// # Errors
    /// When Automerge refuses or panics. Either way the document may be ruined: drop it.
    pub fn apply(&mut self, changes: Vec<Change>) -> Result<(), DocumentError> {
        let bytes: usize = changes.iter().map(|change| change.raw_bytes().len()).sum();
        let records: usize = changes.iter().map(Change::len).sum();
        self.bytes += bytes + records * RECORD_BYTES;
        for change in &changes {
            self.last.insert(change.actor_id().clone(), (change.seq(), change.hash()));
        }
        contained(|| self.automerge.apply_changes(changes).map_err(refused))
    }

    /// Bytes of memory it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All scalars under the root, by key. For rebuilding and for tests.
    #[must_use]
    pub fn scalars(&self) -> Vec<(String, Scalar)> {
        use automerge::{ReadDoc, ScalarValueRef, ValueRef};
        let items = self.automerge.map_range(ROOT, ..);
        items
            .filter_map(|item| {
                let key = item.key.to_string();
                if let ValueRef::Scalar(ScalarValueRef::Bytes(bytes)) = &item.value {
                    return Some((key, Scalar::Bytes(bytes.to_vec())));
                }
                let ValueRef::Scalar(ScalarValueRef::Str(text)) = &item.value else { return None };
                Some((key, Scalar::Text(text.to_string())))
            })
            .collect()
    }

    fn greatest_op(&self, change: &ChangeHash) -> Option<u64> {
        self.automerge.get_change_meta_by_hash(change).map(|meta| meta.max_op)
    }
}

/// Runs what may panic on hostile input.
fn contained<T>(run: impl FnOnce() -> Result<T, DocumentError>) -> Result<T, DocumentError> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(DocumentError::Panicked(text.unwrap_or_else(|| "no message".to_owned())))
        }
    }
}

fn refused(error: impl std::fmt::Display) -> DocumentError {
    DocumentError::Refused(error.to_string())
}

fn actor(origin: OriginId) -> ActorId {
    ActorId::from(&origin.0[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Scalar {
        Scalar::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn two_regions_that_begin_the_same_document_have_begun_one() {
        let begin = |origin: u8| {
            let name = vec![("name".to_owned(), Scalar::Text("general".to_owned()))];
            Document::with_genesis(OriginId([origin; 16]), name).expect("begins")
        };
        let (mut oslo, mut tokyo) = (begin(1), begin(2));
        assert_eq!(oslo.automerge.get_heads(), tokyo.automerge.get_heads());

        let from_oslo = oslo.append(vec![("a".to_owned(), bytes("from oslo"))]).expect("writes");
        let from_tokyo = tokyo.append(vec![("b".to_owned(), bytes("from tokyo"))]).expect("writes");
        let parse = |bytes: &[u8], origin: u8| {
            Checked::parse(bytes, OriginId([origin; 16])).expect("own change")
        };
        oslo.apply(vec![parse(&from_tokyo, 2).change]).expect("applies");
        tokyo.apply(vec![parse(&from_oslo, 1).change]).expect("applies");
        assert_eq!(oslo.scalars(), tokyo.scalars());
        assert_eq!(oslo.scalars().len(), 3);
    }
}
