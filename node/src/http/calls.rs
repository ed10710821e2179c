//! Where calls wait: for the replica thread, and for the disk.
//!
//! Invariant: nothing here blocks a thread of the runtime, and no call waits for ever.

use std::time::Duration;

use warbler_replication::replicator::{Command, Outcome};
use warbler_store::id::Millis;
use warbler_store::reader::Reader;

use super::Api;
use super::problem::{Kind, Problem};
use crate::space::Space;

/// How long the replica thread may take for a command, beyond what the command itself waits: 30 s.
const COMMAND_PATIENCE: Duration = Duration::from_secs(30);
/// How long reading may take: 30 s.
const READING_PATIENCE: Duration = Duration::from_secs(30);
/// How long commands under way may take once the server shuts down: 2 s.
const CLOSING_PATIENCE: Duration = Duration::from_secs(2);

/// Carries out a command, which may wait for other regions for `wait` milliseconds.
pub(super) async fn submit(
    api: &Api,
    space: &Space,
    command: Command,
    wait: Millis,
) -> Result<Outcome, Problem> {
    let patience = COMMAND_PATIENCE + Duration::from_millis(wait);
    let mut closing = api.closing.clone();
    let closed = async {
        super::closed(&mut closing).await;
        tokio::time::sleep(CLOSING_PATIENCE).await;
    };
    tokio::select! {
        outcome = space.submit(command) => Ok(outcome?),
        () = tokio::time::sleep(patience) => {
            Err(Problem::outcome_unknown(format!("the node did not answer within {patience:?}")))
        }
        () = closed => Err(Problem::outcome_unknown("the node shuts down")),
    }
}

/// Reads the space, off the runtime's threads.
pub(super) async fn reading<T: Send + 'static>(
    space: &Space,
    read: impl FnOnce(&Reader) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let reader = space.reader().clone();
    blocking(move || read(&reader)).await
}

/// Does what may wait for the disk, off the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::time::timeout(READING_PATIENCE, tokio::task::spawn_blocking(work)).await {
        Ok(done) => done.map_err(Problem::internal)?,
        Err(_) => {
            let detail = format!("reading took longer than {READING_PATIENCE:?}");
            Err(Problem::new(Kind::Busy, detail))
        }
    }
}
