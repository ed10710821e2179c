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
mod deeds;
mod directory;
mod documents;
mod erase;
mod maintain;
mod manage;
mod markers;
mod operate;
mod place;
mod repair;
mod seal;
mod settings;
mod succession;
mod write;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub use apply::{Readiness, Refusal, Taken};
pub(crate) use apply::{records_of, settings_of, words_of};
pub use building::Applied;
pub(crate) use documents::{CONVERSATION_DOCUMENT, read_snapshot};
pub(crate) use erase::{covering, words_missing};
pub use maintain::{Built, Kept, KeyRange};
pub(crate) use maintain::{change_of, changes_of, genesis_of};
pub use operate::{Actor, CommandError, MAX_MESSAGE_EMOJIS, Operated, Operation};
pub(crate) use place::read_body;
pub use repair::Repaired;
pub use seal::Sealed;
pub(crate) use seal::front_of;
pub use write::{MAX_KEY_BYTES, NewMessage, Placing, Posted};

use self::building::Building;
use self::directory::Directory;
use self::documents::Documents;
use crate::clock::HybridClock;
use crate::digest::RowHasher;
use crate::engine::{Direction, EngineError, SharedEngine, View};
use crate::entropy::Entropy;
use crate::entry::chain_start;
use crate::erasure::Erasure;
use crate::id::{ConversationId, Digest, Front, Millis, NodeId, OriginId, SegmentId, SpaceId};
use crate::name::Name;
use crate::overlay::{Overlay, Ticket};
use crate::succession::Succession;
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
    /// The digest of the erasure table: rows may be known before the entries that carry them.
    pub erasures: Digest,
    /// The digest of the quarantine: entries that are held and could not be applied.
    pub quarantine: Digest,
}

impl Point {
    /// The digest of what the state depends on beside the vector: what is to be forgotten, and
    /// what could not be applied.
    #[must_use]
    pub fn aside(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.erasures.0).update(&self.quarantine.0);
        Digest(*hasher.finalize().as_bytes())
    }

    /// Whether the two must have equal digests.
    #[must_use]
    pub fn is_comparable(&self, other: &Self) -> bool {
        self.vector == other.vector && self.aside() == other.aside()
    }
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
    /// The space was not taken in to its end: what there is of it must be wiped first.
    #[error("space `{0}` is only there in part, from an import that did not end")]
    Unfinished(Name),
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
    directory: Directory,
    building: Building,
    /// Authors whose words were erased, up to a place in time.
    erased_authors: BTreeMap<Name, Front>,
    /// Conversations that were erased.
    retired: BTreeSet<ConversationId>,
    /// The highest incarnation of each name that was erased.
    incarnations: BTreeMap<Name, u32>,
    /// Which runs came after which.
    succession: Arc<Succession>,
    /// Segments that take no more appends here and have changes that no snapshot covers.
    full: BTreeSet<SegmentId>,
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
        if crate::base::is_unfinished(&*engine, space)? {
            return Err(ReplicaError::Unfinished(name.clone()));
        }
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
        let durable = Point {
            vector: applied.clone(),
            digest: state.sum.digest(),
            erasures: state.erasures.digest(),
            quarantine: state.quarantine.digest(),
        };
        let erasures = tables::erasures_of(&*engine, space)?;
        let mut replica = Self {
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
            documents: Documents::new(document_cache_bytes),
            directory: Directory::new(document_cache_bytes),
            writer,
            building: Building::default(),
            erased_authors: BTreeMap::new(),
            retired: BTreeSet::new(),
            incarnations: BTreeMap::new(),
            succession: Arc::default(),
            full: BTreeSet::new(),
            sealed: 0,
            written: 0,
            pending: VecDeque::new(),
            durable,
        };
        erasures.iter().for_each(|row| replica.remember(row));
        replica.read_successors()?;
        Ok(replica)
    }

    /// Keeps in memory what is asked of the erasure table all the time.
    fn remember(&mut self, erasure: &Erasure) {
        match erasure {
            Erasure::Author { author, up_to } => {
                self.erased_authors.insert(author.clone(), *up_to);
            }
            Erasure::Conversation { name, incarnation, conversation } => {
                self.retired.insert(*conversation);
                let highest = self.incarnations.entry(name.clone()).or_insert(*incarnation);
                *highest = (*highest).max(*incarnation);
            }
            Erasure::Message { .. } | Erasure::Cut { .. } => {}
        }
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
                self.overlay.lift(sealed.ticket);
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
            erasures: crate::digest::RowSum::default(),
            erased_messages: 0,
            quarantine: crate::digest::RowSum::default(),
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
