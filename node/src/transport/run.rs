//! The run in whose name the transport greets, and the pause between two runs.
//!
//! After a failed write the node goes on under another origin. Invariant: no connection outlives
//! the run in whose name it was greeted, so a peer never takes a frame of one run for another's.

use warbler_store::id::OriginId;

use super::reason::{Code, Refusal};
use super::{Shared, Transport};

/// What peers are told who come in between.
const BETWEEN_RUNS: &str = "the node is opening its store again";

impl Transport {
    /// Ends all connections, telling the peers `reason`, and lets none come to be before
    /// [`Transport::resume`].
    pub fn pause(&self, reason: &str) {
        self.shared.run.send_replace(None);
        // Who sits down from here on finds that the run is over.
        self.shared.peers.values().for_each(|peer| peer.end_sitting(Code::GoingAway, reason));
    }

    /// Connects to the peers again, as the run `origin`.
    pub fn resume(&self, origin: OriginId) {
        self.shared.run.send_replace(Some(origin));
    }
}

impl Shared {
    /// The run that greets now.
    pub(super) fn run(&self) -> Result<OriginId, Refusal> {
        let run = *self.run.borrow();
        run.ok_or_else(|| Refusal::Ours(Code::Refused, BETWEEN_RUNS.to_owned()))
    }

    /// Refuses what was greeted in the name of another run than the present one.
    pub(super) fn check_still_runs(&self, greeted_as: OriginId) -> Result<(), Refusal> {
        if self.run()? == greeted_as {
            return Ok(());
        }
        Err(Refusal::Ours(Code::GoingAway, BETWEEN_RUNS.to_owned()))
    }

    /// Waits until there is a run.
    pub(super) async fn runs(&self) {
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = self.run.subscribe().wait_for(Option::is_some).await;
    }
}
