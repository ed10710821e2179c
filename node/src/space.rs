//! A space on this node, as the API sees it: commands in, reads past the replica thread,
//! followers told of what became durable.
//!
//! Knows no HTTP and no QUIC. Invariant: what is published or answered is durable.

mod published;
mod thread;
mod upkeep;

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use tokio::sync::{broadcast, oneshot, watch};
use warbler_replication::replicator::{Command, Outcome, PeerProgress};
use warbler_store::id::SpaceId;
use warbler_store::name::Name;
use warbler_store::reader::Reader;
use warbler_store::replica::{Counts, Point};

pub(crate) use published::{Forgetting, Published};
pub(crate) use thread::{SpaceThread, ThreadInput, Wiring};
pub use upkeep::UpkeepProgress;
pub(crate) use upkeep::{Finished, Policy};

/// How many inputs may wait for a replica thread before clients are told to come again.
pub(crate) const MAILBOX: usize = 4096;
/// How many batches a follower may lag behind before it must resume from its token.
const FOLLOWER_BATCHES: usize = 256;

/// What the replica thread says of itself after every batch.
#[derive(Debug, Clone)]
pub struct Progress {
    /// What is durable: the vector and its digest, from one batch.
    pub point: Point,
    /// Counts.
    pub counts: Counts,
    /// How each connected peer stands.
    pub peers: Vec<PeerProgress>,
    /// What an operator must know, newest last.
    pub alarms: Vec<String>,
    /// How upkeep stands.
    pub upkeep: UpkeepProgress,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too much waits already.
    #[error("the node is busy: {MAILBOX} requests wait for the space")]
    Busy,
    /// The node stopped before it knew the outcome.
    #[error("the outcome is unknown: the node stopped before it was written")]
    OutcomeUnknown,
}

/// A space that runs. Clones are the same space.
#[derive(Clone)]
pub struct Space {
    shared: Arc<Shared>,
}

struct Shared {
    name: Name,
    id: SpaceId,
    regions: Vec<Name>,
    reader: Reader,
    inputs: SyncSender<ThreadInput>,
    published: broadcast::Sender<Published>,
    forgetting: Forgetting,
    progress: watch::Receiver<Progress>,
}

impl Space {
    pub(crate) fn new(
        (name, regions): (Name, Vec<Name>),
        reader: Reader,
        inputs: SyncSender<ThreadInput>,
        (published, forgetting): (broadcast::Sender<Published>, Forgetting),
        progress: watch::Receiver<Progress>,
    ) -> Self {
        let id = SpaceId::of(&name);
        let shared = Shared { name, id, regions, reader, inputs, published, forgetting, progress };
        Self { shared: Arc::new(shared) }
    }

    /// The channel that followers listen on.
    pub(crate) fn follower_channel() -> broadcast::Sender<Published> {
        broadcast::Sender::new(FOLLOWER_BATCHES)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.shared.name
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> SpaceId {
        self.shared.id
    }

    /// Its regions, in the order of the cluster file.
    #[must_use]
    pub fn regions(&self) -> &[Name] {
        &self.shared.regions
    }

    /// Reads it; every call may block on the disk.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.shared.reader
    }

    /// What the replica thread says of itself.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.shared.progress.clone()
    }

    /// What becomes durable from now on, batch by batch.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Published> {
        self.shared.published.subscribe()
    }

    /// How often words that followers were shown, or are about to be, have changed or gone.
    pub(crate) fn forgetting(&self) -> &Forgetting {
        &self.shared.forgetting
    }

    /// Carries out a command, and waits until its outcome is durable.
    ///
    /// # Errors
    /// When the mailbox is full, or the node stops.
    pub async fn submit(&self, command: Command) -> Result<Outcome, SubmitError> {
        let (answer, outcome) = oneshot::channel();
        let input = ThreadInput::Command { command, answer };
        self.shared.inputs.try_send(input).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Busy,
            TrySendError::Disconnected(_) => SubmitError::OutcomeUnknown,
        })?;
        outcome.await.map_err(|_| SubmitError::OutcomeUnknown)
    }

    /// Makes the bytes of all that was erased before this call leave the files, at once, and waits
    /// for it. Wait no longer than you like: it goes on.
    ///
    /// # Errors
    /// When the engine fails at it, in its own words, or the node stops.
    pub async fn sweep_now(&self) -> Result<(), String> {
        let mut progress = self.progress();
        let (before, failed_before) = {
            let now = &progress.borrow().upkeep;
            (now.rounds, now.failures)
        };
        if self.shared.inputs.try_send(ThreadInput::Hurry).is_err() {
            return Err("the node is busy or stops".to_owned());
        }
        let over = |now: &Progress| {
            let UpkeepProgress { rounds, sweeps, failures, .. } = now.upkeep;
            rounds > before && (sweeps == 0 || failures > failed_before)
        };
        match progress.wait_for(over).await {
            Ok(now) if now.upkeep.sweeps == 0 => Ok(()),
            Ok(now) => Err(now.upkeep.purge_error.clone().unwrap_or_default()),
            Err(_) => Err("the node stops".to_owned()),
        }
    }

    /// Hands in what the transport or the node reports. Blocks while the mailbox is full, and so
    /// holds a peer back; the replica thread never waits for whoever calls this.
    pub(crate) fn deliver(&self, input: ThreadInput) {
        let full = match self.shared.inputs.try_send(input) {
            Ok(()) => return,
            Err(TrySendError::Full(input)) => input,
            Err(TrySendError::Disconnected(_)) => return,
        };
        let inputs = &self.shared.inputs;
        let sent = tokio::task::block_in_place(|| inputs.send(full).is_ok());
        if !sent {
            tracing::debug!(space = %self.shared.name, "the replica thread has ended");
        }
    }

    /// Whether the replica thread takes inputs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.shared.progress.has_changed().is_ok()
    }
}
