//! A space's replica: the one writer of its documents, log, timeline and indexes.
//!
//! It takes local posts and remote entries alike into the batch it is building, and hands that
//! out sealed, to be persisted elsewhere; it never writes to the engine itself, never reads a
//! clock and knows no network. Invariants: the applied set is a causal cut, so the version vector
//! describes the state exactly; an entry, its timeline rows, bodies, indexes and vector stand in
//! one batch; batches become durable in the order in which they were sealed.
//!
//! What a driver does:
//! ```text
//!   loop {
//!       replica.post(…) / replica.create_conversation(…) / replica.apply(…)     many times
//!       if nothing is being flushed { if let Some(sealed) = replica.seal()? {
//!           hand sealed.batch to the committer
//!       } }
//!       when the committer is done: replica.written(ticket)
//!           only now: answer clients, show readers `sealed.applied`, push `sealed.own`
//!   }
//! ```

mod apply;
mod building;
mod documents;
mod place;
mod seal;
mod write;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub use apply::{Readiness, Refusal};
pub use building::Applied;
pub(crate) use place::read_body;
pub use seal::Sealed;
pub use write::{MAX_KEY_BYTES, NewMessage, Placing, PostError, Posted};

use self::building::Building;
use self::documents::Documents;
use crate::clock::HybridClock;
use crate::digest::RowHasher;
use crate::engine::{Direction, EngineError, SharedEngine, View};
use crate::entropy::Entropy;
use crate::entry::chain_start;
use crate::id::{Digest, Millis, NodeId, OriginId, SpaceId};
use crate::name::Name;
use crate::overlay::{Overlay, Ticket};
use crate::tables::{self, OriginRow, SpaceRow};
use crate::vector::VersionVector;

/// Who writes: one run of one node.
#[derive(Debug, Clone)]
pub struct Writer {
    /// The node.
    pub node: NodeId,
    /// Its region.
    pub region: Name,
    /// The run: random, new at every start.
    pub origin: OriginId,
    /// When the run started.
    pub started: Millis,
}

/// A version vector with the digest of the state that it describes, from one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// What is held.
    pub vector: VersionVector,
    /// The digest of the space.
    pub digest: Digest,
}

/// Counts of a space, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Conversations.
    pub conversations: u64,
    /// Messages in timelines.
    pub messages: u64,
    /// The greatest depth applied.
    pub depth: u64,
    /// Ids met that lay too far ahead of the clock.
    pub ahead: u64,
}

/// Why an operation of the replica failed beyond a refusal: the replica must be opened again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReplicaError {
    /// The engine failed or holds damaged rows.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The log and the documents do not fit together.
    #[error("the stored documents are damaged: {0}")]
    Damaged(String),
    /// The store belongs to a space of another name.
    #[error("the store holds space `{found}` under the id of `{expected}`")]
    Space {
        /// Whose it is.
        found: Name,
        /// Whose it should be.
        expected: Name,
    },
}

/// See the module's comment.
pub struct Replica {
    space: SpaceId,
    writer: Writer,
    overlay: Overlay,
    hasher: RowHasher,
    entropy: Entropy,
    clock: HybridClock,
    state: SpaceRow,
    origins: BTreeMap<OriginId, OriginRow>,
    applied: VersionVector,
    depth: u64,
    /// What the last own entry had seen, itself included.
    seen: VersionVector,
    documents: Documents,
    building: Building,
    sealed: Ticket,
    written: Ticket,
    pending: VecDeque<(Arc<Sealed>, Point)>,
    durable: Point,
}

impl Replica {
    /// Reads a space's state back from `engine`, for a new run.
    ///
    /// # Errors
    /// When the engine fails or its rows are damaged.
    pub fn open(
        engine: SharedEngine,
        name: &Name,
        writer: Writer,
        entropy: Entropy,
        document_cache_bytes: usize,
    ) -> Result<Self, ReplicaError> {
        let space = SpaceId::of(name);
        let state = match tables::get::<SpaceRow>(&*engine, &space)? {
            Some(row) if row.name != *name => {
                return Err(ReplicaError::Space { found: row.name, expected: name.clone() });
            }
            Some(row) => row,
            None => SpaceRow::empty(name.clone()),
        };
        let origins = read_origins(&*engine, space)?;
        let applied = vector_of(&origins);
        let depth = origins.values().map(|row| row.depth).max().unwrap_or(0);
        let durable = Point { vector: applied.clone(), digest: state.sum.digest() };
        Ok(Self {
            space,
            overlay: Overlay::over(engine),
            hasher: RowHasher::of(space),
            entropy,
            clock: HybridClock::starting_after(state.clock),
            state,
            origins,
            applied,
            depth,
            seen: VersionVector::default(),
            documents: Documents::new(writer.origin, document_cache_bytes),
            writer,
            building: Building::default(),
            sealed: 0,
            written: 0,
            pending: VecDeque::new(),
            durable,
        })
    }

    /// The space.
    #[must_use]
    pub fn space(&self) -> SpaceId {
        self.space
    }

    /// Who writes here.
    #[must_use]
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// The engine below.
    #[must_use]
    pub fn engine(&self) -> &SharedEngine {
        self.overlay.engine()
    }

    /// What is applied, durable or not.
    #[must_use]
    pub fn applied(&self) -> &VersionVector {
        &self.applied
    }

    /// What is durable.
    #[must_use]
    pub fn durable(&self) -> &Point {
        &self.durable
    }

    /// What is known of `origin`, durable or not.
    #[must_use]
    pub fn origin(&self, origin: OriginId) -> Option<&OriginRow> {
        self.origins.get(&origin)
    }

    /// The chain digest of what is applied of `origin`.
    #[must_use]
    pub fn chain(&self, origin: OriginId) -> Digest {
        let held = self.origins.get(&origin).map(|row| row.digest);
        held.unwrap_or_else(|| chain_start(self.space, origin))
    }

    /// Counts, for people.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            conversations: self.state.conversations,
            messages: self.state.messages,
            depth: self.depth,
            ahead: self.state.ahead,
        }
    }

    /// The ticket that must be durable before an answer that rests on the present state may be
    /// given.
    #[must_use]
    pub fn barrier(&self) -> Ticket {
        if self.building.is_empty() { self.sealed } else { self.sealed + 1 }
    }

    /// The last ticket that is durable.
    #[must_use]
    pub fn last_written(&self) -> Ticket {
        self.written
    }

    /// Takes note that the batch of `ticket` and all before it are durable. Returns those that
    /// became so, in order.
    pub fn written(&mut self, ticket: Ticket) -> Vec<Arc<Sealed>> {
        let mut done = Vec::new();
        while self.pending.front().is_some_and(|(sealed, _)| sealed.ticket <= ticket) {
            if let Some((sealed, point)) = self.pending.pop_front() {
                self.overlay.lift(sealed.ticket, &sealed.batch);
                self.written = sealed.ticket;
                self.durable = point;
                done.push(sealed);
            }
        }
        done
    }
}

impl SpaceRow {
    fn empty(name: Name) -> Self {
        Self {
            name,
            clock: crate::id::Front::default(),
            conversations: 0,
            messages: 0,
            ahead: 0,
            sum: crate::digest::RowSum::default(),
        }
    }
}

/// The origins of `space`, with what is held of each.
///
/// # Errors
/// When the engine fails or a row is damaged.
pub fn read_origins(
    view: &(impl View + ?Sized),
    space: SpaceId,
) -> Result<BTreeMap<OriginId, OriginRow>, EngineError> {
    let prefix = OriginRow::prefix(space);
    let end = tables::behind(&prefix);
    let rows = view.scan(crate::engine::Table::Meta, &prefix, &end, Direction::Forward);
    rows.map(|row| {
        let (key, value) = row?;
        Ok((OriginRow::parse(&key)?, tables::open(&key, &value)?))
    })
    .collect()
}

/// The version vector that rows of origins make.
#[must_use]
pub fn vector_of(origins: &BTreeMap<OriginId, OriginRow>) -> VersionVector {
    origins.iter().map(|(origin, row)| (*origin, row.seq)).collect()
}
