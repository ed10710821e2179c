//! How the node stands: which run it is, whether it takes writes, and what an operator must know.
//!
//! One place that the keeper, the watchdog, the API and the spaces share. Invariant: while writes
//! are not taken it says why, in words for people.

use std::sync::Arc;

use tokio::sync::watch;
use warbler_store::id::{Millis, OriginId};

use crate::room::NoRoom;

/// One run of the node, as a writer: it ends with the process, or with a failed write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Counts the runs of this process, from 1.
    pub number: u64,
    /// Under what the run writes.
    pub origin: OriginId,
    /// When it began.
    pub started: Millis,
}

/// See the module's comment.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The run; while the store is being opened again, the one that ended.
    pub run: Run,
    /// Why the store is being opened again, while it is.
    pub reopening: Option<String>,
    /// Why the node is read-only, while it is.
    pub no_room: Option<NoRoom>,
    /// That opening fails or does not last.
    pub unsteady: Option<String>,
    /// Threads that make no progress.
    pub stuck: Vec<String>,
}

impl Standing {
    /// What is wrong, for the status page.
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        let reopening =
            self.reopening.iter().map(|why| format!("the store is being opened again: {why}"));
        let no_room = self.no_room.iter().map(|why| format!("the node is read-only: {why}"));
        let unsteady = self.unsteady.iter().cloned();
        reopening.chain(no_room).chain(unsteady).chain(self.stuck.iter().cloned()).collect()
    }
}

/// The node's standing, for those who change it. Clones are the same.
#[derive(Clone)]
pub(crate) struct Standings {
    sender: Arc<watch::Sender<Standing>>,
}

impl Standings {
    pub(crate) fn of(run: Run) -> Self {
        let (reopening, no_room, unsteady, stuck) = (None, None, None, Vec::new());
        let standing = Standing { run, reopening, no_room, unsteady, stuck };
        Self { sender: Arc::new(watch::Sender::new(standing)) }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Standing> {
        self.sender.subscribe()
    }

    pub(crate) fn get(&self) -> Standing {
        self.sender.borrow().clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Standing)) {
        self.sender.send_modify(change);
    }
}
