//! The one thread that writes to the engine.
//!
//! It merges the batches of all spaces that wait for it into one write with one fsync, and tells
//! each replica thread when its batch is durable. Invariant: batches of one space become durable
//! in the order in which they came; after a failed write nothing is written any more, because
//! its outcome is unknown.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use warbler_store::engine::{Batch, EngineError, SharedEngine};
use warbler_store::replica::Sealed;

/// How many batches may wait: each space has at most one under way.
const MAX_WAITING: usize = 1024;
/// Bytes of one merged write, about, above which no further batch is added: 16 MiB.
const MAX_MERGED_BYTES: usize = 16 << 20;

/// A batch to write, and whom to tell.
pub(crate) struct Job {
    /// The batch.
    pub(crate) sealed: Arc<Sealed>,
    /// Called once, from the committer's thread.
    pub(crate) done: Box<dyn FnOnce(Result<(), EngineError>) + Send>,
}

/// A handle for handing in batches. The thread ends when the last handle is dropped.
#[derive(Clone)]
pub(crate) struct Committer {
    jobs: SyncSender<Job>,
}

impl Committer {
    /// Starts the thread over `engine`.
    pub(crate) fn start(engine: SharedEngine) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, waiting) = sync_channel(MAX_WAITING);
        let thread = std::thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || write_all(&engine, &waiting))?;
        Ok((Self { jobs }, thread))
    }

    /// Hands in a batch. If the thread is gone, the job is dropped and its caller learns it from
    /// the closing of whatever `done` holds.
    pub(crate) fn write(&self, job: Job) {
        if self.jobs.send(job).is_err() {
            tracing::error!("the committer has ended; a batch is lost");
        }
    }
}

fn write_all(engine: &SharedEngine, waiting: &Receiver<Job>) {
    let mut failed: Option<EngineError> = None;
    while let Ok(first) = waiting.recv() {
        let jobs = gather(first, waiting);
        if failed.is_none() {
            let begun = Instant::now();
            failed = persist(engine, &jobs).err();
            tracing::debug!(batches = jobs.len(), took = ?begun.elapsed(), "persisted");
        }
        if let Some(error) = &failed {
            tracing::error!(%error, "a write failed; nothing is written any more");
        }
        for job in jobs {
            (job.done)(failed.clone().map_or(Ok(()), Err));
        }
    }
}

/// Takes what waits behind `first`, as far as it fits into one write.
fn gather(first: Job, waiting: &Receiver<Job>) -> Vec<Job> {
    let mut bytes = first.sealed.batch.bytes();
    let mut jobs = vec![first];
    while bytes < MAX_MERGED_BYTES {
        let Ok(job) = waiting.try_recv() else { break };
        bytes += job.sealed.batch.bytes();
        jobs.push(job);
    }
    jobs
}

fn persist(engine: &SharedEngine, jobs: &[Job]) -> Result<(), EngineError> {
    if let [job] = jobs {
        return engine.persist(&job.sealed.batch);
    }
    let mut merged = Batch::default();
    jobs.iter().for_each(|job| merged.append((*job.sealed.batch).clone()));
    engine.persist(&merged)
}
