//! A space on this node, as the API sees it: commands in, reads past the replica thread,
//! followers told of what became durable.
//!
//! Knows no HTTP and no QUIC. Invariant: what is published or answered is durable.

mod channel;
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
use warbler_store::succession::Succession;
use warbler_store::token::Token;
use warbler_store::vector::VersionVector;

use crate::room::NoRoom;
use crate::standing::Standing;
pub(crate) use published::{Forgetting, Published};

pub(crate) use channel::Channel;
pub(crate) use thread::{SpaceThread, ThreadInput, Wiring};
pub use upkeep::UpkeepProgress;
pub(crate) use upkeep::{Finished, Policy};

/// How many inputs may wait for a replica thread before clients are told to come again.
pub(crate) const MAILBOX: usize = 4096;

/// What the replica thread says of itself after every batch.
#[derive(Debug, Clone)]
pub struct Progress {
    /// What is durable: the vector and its digest, from one batch.
    pub point: Point,
    /// Which runs of a node came after which: what tokens need not name.
    pub succession: Arc<Succession>,
    /// Counts.
    pub counts: Counts,
    /// How each connected peer stands.
    pub peers: Vec<PeerProgress>,
    /// What an operator must know, newest last.
    pub alarms: Vec<String>,
    /// How upkeep stands.
    pub upkeep: UpkeepProgress,
    /// Why the space takes nothing in, if its replica could not be opened or met damage.
    pub stands_still: Option<String>,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too much waits already.
    #[error("the node is busy: {MAILBOX} requests wait for the space")]
    Busy,
    /// The node stopped, or a write failed, before the outcome was known.
    #[error("the outcome is unknown: the node stopped, or a write failed, before it was written")]
    OutcomeUnknown,
    /// There is no room for it on the device. Nothing was changed.
    #[error("the node is read-only: {0}")]
    NoRoom(NoRoom),
    /// The store is being opened again. Nothing was changed.
    #[error("the store is being opened again after a failure")]
    Reopening,
    /// The space's replica could not be opened, or met damage. Nothing was changed.
    #[error("the space stands still: {0}")]
    StandsStill(String),
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
    published: Channel<Published>,
    forgetting: Forgetting,
    progress: watch::Receiver<Progress>,
    standing: watch::Receiver<Standing>,
}

impl Space {
    pub(crate) fn new(
        (name, regions): (Name, Vec<Name>),
        reader: Reader,
        inputs: SyncSender<ThreadInput>,
        (published, forgetting): (Channel<Published>, Forgetting),
        progress: watch::Receiver<Progress>,
        standing: watch::Receiver<Standing>,
    ) -> Self {
        let id = SpaceId::of(&name);
        let shared =
            Shared { name, id, regions, reader, inputs, published, forgetting, progress, standing };
        Self { shared: Arc::new(shared) }
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

    /// The text of a token. Runs that have ended are left out where what is named says the same.
    #[must_use]
    pub fn token_text(&self, token: &Token) -> String {
        let keep = token.within.map(|(origin, _)| origin);
        let vector = self.shared.progress.borrow().succession.reduce(&token.vector, keep);
        Token { vector, ..token.clone() }.to_text()
    }

    /// The text of the token of who has seen `vector`.
    #[must_use]
    pub fn token_of(&self, vector: VersionVector) -> String {
        self.token_text(&Token::of(self.id(), vector))
    }

    /// The token with the runs that its text left out. The node must hold what it names.
    #[must_use]
    pub fn whole_token(&self, token: Token) -> Token {
        let vector = self.shared.progress.borrow().succession.complete(&token.vector);
        Token { vector, ..token }
    }

    /// Carries out a command, and waits until its outcome is durable.
    ///
    /// # Errors
    /// When the mailbox is full, the node takes no writes, or it stops.
    pub async fn submit(&self, command: Command) -> Result<Outcome, SubmitError> {
        self.check_standing()?;
        let (answer, outcome) = oneshot::channel();
        let input = ThreadInput::Command { command, answer };
        self.shared.inputs.try_send(input).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Busy,
            TrySendError::Disconnected(_) => SubmitError::OutcomeUnknown,
        })?;
        outcome.await.unwrap_or(Err(SubmitError::OutcomeUnknown))
    }

    /// Refuses what the node would not write, before it waits for anything.
    fn check_standing(&self) -> Result<(), SubmitError> {
        let standing = self.shared.standing.borrow();
        if standing.reopening.is_some() {
            return Err(SubmitError::Reopening);
        }
        standing.no_room.map_or(Ok(()), |no_room| Err(SubmitError::NoRoom(no_room)))
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
