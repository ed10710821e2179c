//! The one thread that writes to the engine.
//!
//! It merges the batches of all spaces that wait for it into one write with one fsync, and tells
//! each replica thread when its batch is durable. Invariant: batches of one space become durable
//! in the order in which they came; after a failed write nothing of its run is written any more,
//! because its outcome is unknown.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use warbler_store::engine::{Batch, EngineError, EngineSlot};
use warbler_store::replica::Sealed;

use crate::watchdog::Beat;

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

/// What the thread is asked to do.
enum Work {
    Write(Job),
    /// The engine was opened again: what comes from here on is of a new run.
    Begin,
}

/// A handle for handing in batches. The thread ends when the last handle is dropped.
#[derive(Clone)]
pub(crate) struct Committer {
    work: SyncSender<Work>,
}

impl Committer {
    /// Starts the thread over the engine in `slot`.
    pub(crate) fn start(
        slot: EngineSlot,
        beat: Arc<Beat>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (work, waiting) = sync_channel(MAX_WAITING);
        let thread = std::thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || work_off(&slot, &waiting, &beat))?;
        Ok((Self { work }, thread))
    }

    /// Hands in a batch. If the thread is gone, the job is dropped and its caller learns it from
    /// the closing of whatever `done` holds.
    pub(crate) fn write(&self, job: Job) {
        self.hand_in(Work::Write(job));
    }

    /// Lets batches be written again after a failure; those handed in before are not.
    pub(crate) fn begin(&self) {
        self.hand_in(Work::Begin);
    }

    fn hand_in(&self, work: Work) {
        if self.work.send(work).is_err() {
            tracing::error!("the committer has ended; a batch is lost");
        }
    }
}

fn work_off(slot: &EngineSlot, waiting: &Receiver<Work>, beat: &Beat) {
    let mut failed: Option<EngineError> = None;
    while let Ok(first) = waiting.recv() {
        beat.works();
        let (jobs, begins) = gather(first, waiting);
        if failed.is_none() && !jobs.is_empty() {
            let begun = Instant::now();
            failed = persist(slot, &jobs).err();
            tracing::debug!(batches = jobs.len(), took = ?begun.elapsed(), "persisted");
            if let Some(error) = &failed {
                tracing::error!(%error, "a write failed; nothing more of this run is written");
            }
        }
        for job in jobs {
            (job.done)(failed.clone().map_or(Ok(()), Err));
        }
        if begins {
            failed = None;
        }
        beat.rests();
    }
}

/// Takes what waits behind `first`, as far as it fits into one write and belongs to one run. The
/// second says whether a new run begins behind it.
fn gather(first: Work, waiting: &Receiver<Work>) -> (Vec<Job>, bool) {
    let mut bytes = 0;
    let mut jobs = Vec::new();
    let mut next = Some(first);
    while let Some(work) = next {
        match work {
            Work::Write(job) => {
                bytes += job.sealed.batch.bytes();
                jobs.push(job);
            }
            Work::Begin => return (jobs, true),
        }
        next = if bytes < MAX_MERGED_BYTES { waiting.try_recv().ok() } else { None };
    }
    (jobs, false)
}

fn persist(slot: &EngineSlot, jobs: &[Job]) -> Result<(), EngineError> {
    let engine = slot.current()?;
    if let [job] = jobs {
        return engine.persist(&job.sealed.batch);
    }
    let mut merged = Batch::default();
    jobs.iter().for_each(|job| merged.append((*job.sealed.batch).clone()));
    engine.persist(&merged)
}
