//! The one thread that writes to the engine.
//!
//! It merges the batches of all spaces that wait for it into one write with one fsync, and tells
//! each replica thread when its batch is durable. Invariant: batches of one space become durable
//! in the order in which they came; after a failed write nothing of its run is written any more,
//! because its outcome is unknown, and no batch reaches another engine than the one it was sealed
//! over.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use warbler_store::engine::{Batch, Engine, EngineError, SharedEngine};
use warbler_store::replica::Sealed;

use crate::watchdog::Beat;

/// How many batches may wait: each space has at most one under way.
const MAX_WAITING: usize = 1024;
/// Bytes of one merged write, about, above which no further batch is added: 16 MiB.
const MAX_MERGED_BYTES: usize = 16 << 20;

/// A batch to write, and whom to tell.
pub(crate) struct Job {
    /// Where it belongs: the engine that its replica was read back from. A job that waits holds
    /// it, so it cannot be opened again before what was sealed over it is written or refused.
    pub(crate) engine: SharedEngine,
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
    /// Starts the thread.
    pub(crate) fn start(beat: Arc<Beat>) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, waiting) = sync_channel(MAX_WAITING);
        let thread = std::thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || write_all(&waiting, &beat))?;
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

/// An engine that failed to write, and how. It is not held: it must be closed.
type Failed = (Weak<dyn Engine>, EngineError);

fn write_all(waiting: &Receiver<Job>, beat: &Beat) {
    let mut failed: Option<Failed> = None;
    let mut next = None;
    while let Some(first) = next.take().or_else(|| waiting.recv().ok()) {
        beat.works();
        let (jobs, of_another) = gather(first, waiting);
        write(jobs, &mut failed);
        next = of_another;
        beat.rests();
    }
}

/// Writes jobs over one engine, unless it failed before, and tells who waits for them.
fn write(jobs: Vec<Job>, failed: &mut Option<Failed>) {
    let Some(engine) = jobs.first().map(|job| Arc::downgrade(&job.engine)) else { return };
    let before = failed.as_ref().filter(|(other, _)| other.ptr_eq(&engine));
    let outcome = match before {
        Some((_, error)) => Err(error.clone()),
        None => {
            let begun = Instant::now();
            let outcome = persist(&jobs);
            tracing::debug!(batches = jobs.len(), took = ?begun.elapsed(), "persisted");
            if let Err(error) = &outcome {
                tracing::error!(%error, "a write failed; nothing more of this run is written");
                *failed = Some((engine, error.clone()));
            }
            outcome
        }
    };
    for job in jobs {
        (job.done)(outcome.clone());
    }
}

/// Takes what waits behind `first`, as far as it fits into one write over the same engine. The
/// second is a job over another one.
fn gather(first: Job, waiting: &Receiver<Job>) -> (Vec<Job>, Option<Job>) {
    let mut bytes = first.sealed.batch.bytes();
    let mut jobs = vec![first];
    while bytes < MAX_MERGED_BYTES {
        let Ok(job) = waiting.try_recv() else { break };
        if !Arc::ptr_eq(&job.engine, &jobs[0].engine) {
            return (jobs, Some(job));
        }
        bytes += job.sealed.batch.bytes();
        jobs.push(job);
    }
    (jobs, None)
}

fn persist(jobs: &[Job]) -> Result<(), EngineError> {
    let [first, others @ ..] = jobs else { return Ok(()) };
    if others.is_empty() {
        return first.engine.persist(&first.sealed.batch);
    }
    let mut merged = Batch::default();
    jobs.iter().for_each(|job| merged.append((*job.sealed.batch).clone()));
    first.engine.persist(&merged)
}

#[cfg(test)]
mod tests {
    use warbler_store::engine::{EngineSlot, MemoryEngine};
    use warbler_store::entropy::Entropy;
    use warbler_store::id::{NodeId, OriginId};
    use warbler_store::replica::{Replica, Writer};

    use super::*;

    /// A batch that creates a conversation of this name, over `engine`.
    fn job(engine: &SharedEngine, conversation: &str) -> (Job, Receiver<Result<(), EngineError>>) {
        let name = |text: &str| text.parse().expect("a name");
        let writer = Writer {
            node: NodeId([1; 32]),
            region: name("eu-west"),
            origin: OriginId([1; 16]),
            started: 0,
        };
        let entropy = Entropy::from_seed([1; 32]);
        let replica = Replica::open(Arc::clone(engine), &name("main"), writer, entropy, 1 << 20);
        let mut replica = replica.expect("opened");
        replica.create_conversation(&name(conversation)).expect("created");
        let sealed = replica.seal().expect("sealed").expect("something to write");
        let (tell, told) = std::sync::mpsc::channel();
        let done = Box::new(move |outcome| tell.send(outcome).expect("somebody listens"));
        (Job { engine: Arc::clone(engine), sealed, done }, told)
    }

    fn engine() -> (MemoryEngine, SharedEngine) {
        let disk = MemoryEngine::new();
        (disk.clone(), Arc::new(disk))
    }

    #[test]
    fn batches_over_one_engine_are_merged_and_never_with_those_over_another() {
        let ((_, one), (_, other)) = (engine(), engine());
        let (handed_in, waiting) = sync_channel(10);
        let told: Vec<_> = [&one, &one, &other, &other]
            .into_iter()
            .map(|engine| {
                let (job, told) = job(engine, "general");
                handed_in.send(job).expect("handed in");
                told
            })
            .collect();
        let first = waiting.recv().expect("a job");
        let (jobs, of_another) = gather(first, &waiting);
        assert!(jobs.len() == 2 && jobs.iter().all(|job| Arc::ptr_eq(&job.engine, &one)));
        let of_another = of_another.expect("one over the other");
        assert!(Arc::ptr_eq(&of_another.engine, &other));
        let (jobs, none) = gather(of_another, &waiting);
        assert!(jobs.len() == 2 && none.is_none());
        drop(told);
    }

    /// A run ends without a failed write when a replica cannot go on, and a batch of another
    /// space may still wait then. In the engine of the next run it would undo what was read back.
    #[test]
    fn a_batch_that_waits_keeps_its_engine_from_being_opened_again_and_goes_nowhere_else() {
        let ((_, old), (_, new)) = (engine(), engine());
        let slot = EngineSlot::from(Arc::clone(&old));
        let (job, told) = job(&old, "general");
        drop(old);
        slot.close(std::time::Duration::ZERO).expect_err("a batch waits");

        let (committer, thread) =
            Committer::start(Beat::new("committer".to_owned())).expect("started");
        committer.write(job);
        told.recv().expect("told").expect("written where it belongs");
        slot.close(std::time::Duration::from_secs(30)).expect("nothing waits any more");
        slot.open(Arc::clone(&new));
        assert_eq!(new.disk_bytes(), 0);
        drop(committer);
        thread.join().expect("it ends with its last handle");
    }

    #[test]
    fn after_a_failed_write_nothing_more_is_written_to_that_engine_and_the_next_is_open() {
        let ((disk, failing), (_, next)) = (engine(), engine());
        let (committer, thread) =
            Committer::start(Beat::new("committer".to_owned())).expect("started");
        let write = |engine: &SharedEngine, name: &str| {
            let (job, told) = job(engine, name);
            committer.write(job);
            told.recv().expect("told")
        };
        write(&failing, "general").expect("sound");
        let bytes = failing.disk_bytes();
        disk.tear_next(false);
        let first = write(&failing, "random").expect_err("it failed").to_string();
        // Even if the disk would take it.
        disk.reopen();
        assert_eq!(write(&failing, "other").expect_err("refused").to_string(), first);
        assert_eq!(failing.disk_bytes(), bytes);
        write(&next, "general").expect("another engine");
        drop(committer);
        thread.join().expect("it ends with its last handle");
    }
}
