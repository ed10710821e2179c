//! What a change must be before Automerge sees it.
//!
//! Hostile changes panic Automerge, or pass silently and ruin the document later. So every
//! change, also our own, is read and checked here first: that it is whole and uncompressed, that
//! it is its origin's next one, that it stands on what is held, and that all it does is write
//! new scalars under the root.

use std::collections::BTreeSet;

use automerge::legacy::{Key, ObjectId, Op, OpType};
use automerge::{Change, ScalarValue};

use super::{Document, DocumentError, Scalar, actor, contained, refused};
use crate::id::OriginId;

/// The most operations that one change may hold.
pub const MAX_CHANGE_OPS: usize = 4096;
/// The greatest operation counter: far below Automerge's own limit of 2^32, above which every
/// later write would panic.
const MAX_OP: u64 = 1 << 31;
/// What every Automerge chunk begins with.
const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
/// The chunk type of an uncompressed change. Compressed ones inflate without limit.
const CHANGE_CHUNK: u8 = 1;

/// Why a change is refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChangeError {
    /// The bytes are no uncompressed change, or not only one.
    #[error("not an uncompressed Automerge change: {0}")]
    Malformed(String),
    /// The change is by another actor than its entry's origin.
    #[error("the change is by actor {actor}, its entry by origin {origin}")]
    Actor {
        /// Who made the change.
        actor: String,
        /// Who made the entry.
        origin: OriginId,
    },
    /// It does something other than writing a new scalar under the root.
    #[error("operation {index} does more than write a new scalar under the root")]
    Operation {
        /// Which operation, from 0.
        index: usize,
    },
    /// It writes one key twice.
    #[error("operation {index} writes a key that an earlier one wrote")]
    Twice {
        /// Which operation, from 0.
        index: usize,
    },
    /// It has no operation, or too many.
    #[error("a change of {0} operations")]
    Operations(usize),
    /// It does not follow its actor's last change.
    #[error("the change has number {found}, the next of its actor is {expected}")]
    Sequence {
        /// Its number.
        found: u64,
        /// What it should be.
        expected: u64,
    },
    /// A change it depends on is not held, or its own actor's last one is not among them.
    #[error("a change it depends on is not held: {0}")]
    Dependency(String),
    /// Its operation counter does not follow those it depends on, or is out of range.
    #[error("operations begin at {start}, {least} was expected")]
    Counter {
        /// Where they begin.
        start: u64,
        /// Where they must.
        least: u64,
    },
}

/// A change that was read, with what it writes, in order.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The change.
    pub change: Change,
    /// Keys and scalars.
    pub writes: Vec<(String, Scalar)>,
}

impl Checked {
    /// Reads a change by `origin` and checks all that can be checked without its document.
    ///
    /// # Errors
    /// When it is not a whole uncompressed change by `origin` that only writes new scalars.
    pub fn parse(bytes: &[u8], origin: OriginId) -> Result<Self, ChangeError> {
        if bytes.get(..4) != Some(&MAGIC) || bytes.get(8) != Some(&CHANGE_CHUNK) {
            return Err(ChangeError::Malformed("another magic number or chunk type".to_owned()));
        }
        let parse = || Change::from_bytes(bytes.to_vec()).map_err(refused);
        let change = contained(parse).map_err(|error| ChangeError::Malformed(text(&error)))?;
        if change.raw_bytes() != bytes || change.hash().0[..4] != bytes[4..8] {
            return Err(ChangeError::Malformed("its checksum does not fit".to_owned()));
        }
        if *change.actor_id() != actor(origin) {
            return Err(ChangeError::Actor { actor: change.actor_id().to_string(), origin });
        }
        if change.is_empty() || change.len() > MAX_CHANGE_OPS {
            return Err(ChangeError::Operations(change.len()));
        }
        let decode = || Ok(change.decode().operations);
        let operations = contained(decode).map_err(|error| ChangeError::Malformed(text(&error)))?;
        let writes = operations
            .into_iter()
            .enumerate()
            .map(|(index, op)| write_of(op).ok_or(ChangeError::Operation { index }))
            .collect::<Result<Vec<_>, _>>()?;
        let mut keys = BTreeSet::new();
        if let Some(index) = writes.iter().position(|(key, _)| !keys.insert(key)) {
            return Err(ChangeError::Twice { index });
        }
        Ok(Self { change, writes })
    }
}

/// The key and scalar of an operation that writes a new one under the root.
fn write_of(op: Op) -> Option<(String, Scalar)> {
    let new = op.obj == ObjectId::Root && op.pred.is_empty() && !op.insert;
    match (op.key, op.action) {
        (Key::Map(key), OpType::Put(ScalarValue::Bytes(bytes))) if new => {
            Some((key.to_string(), Scalar::Bytes(bytes)))
        }
        (Key::Map(key), OpType::Put(ScalarValue::Str(value))) if new => {
            Some((key.to_string(), Scalar::Text(value.to_string())))
        }
        (Key::Map(_) | Key::Seq(_), _) => None,
    }
}

fn text(error: &DocumentError) -> String {
    error.to_string()
}

impl Document {
    /// Checks that `change` is its actor's next one here and stands on what is held.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(&self, change: &Change) -> Result<(), ChangeError> {
        let last = self.last.get(change.actor_id());
        let expected = last.map_or(1, |(seq, _)| seq + 1);
        if change.seq() != expected {
            return Err(ChangeError::Sequence { found: change.seq(), expected });
        }
        let mut least = 1;
        for dependency in change.deps() {
            let held = self.greatest_op(dependency);
            let held = held.ok_or_else(|| ChangeError::Dependency(dependency.to_string()))?;
            least = least.max(held + 1);
        }
        if let Some((_, hash)) = last
            && !change.deps().contains(hash)
        {
            return Err(ChangeError::Dependency(format!("{hash}, its actor's last change")));
        }
        // An honest change stands on all that its writer held, so it begins right behind that.
        // Taking no more keeps a hostile counter from being driven up to where writing fails.
        let start = change.start_op().get();
        if start != least || start > MAX_OP {
            return Err(ChangeError::Counter { start, least });
        }
        Ok(())
    }
}
