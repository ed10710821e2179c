//! A replica with a committer of its own, as a node has them: the next batch is built while the
//! last one is being flushed.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use warbler_store::engine::{EngineError, SharedEngine};
use warbler_store::overlay::Ticket;
use warbler_store::replica::{Replica, Sealed};

/// See the module's comment.
pub struct Pipeline {
    /// The replica.
    pub replica: Replica,
    jobs: SyncSender<Arc<Sealed>>,
    done: Receiver<(Ticket, Result<(), EngineError>)>,
    flushing: bool,
    committer: JoinHandle<Duration>,
    /// Time spent waiting for the committer.
    pub waited: Duration,
}

impl Pipeline {
    /// Starts the committer of `replica`, over `engine`.
    #[must_use]
    pub fn over(replica: Replica, engine: SharedEngine) -> Self {
        let (jobs, waiting) = sync_channel::<Arc<Sealed>>(1);
        let (answers, done) = sync_channel(1);
        let committer = std::thread::spawn(move || {
            let mut busy = Duration::ZERO;
            while let Ok(sealed) = waiting.recv() {
                let begun = Instant::now();
                let outcome = engine.persist(&sealed.batch);
                busy += begun.elapsed();
                if answers.send((sealed.ticket, outcome)).is_err() {
                    break;
                }
            }
            busy
        });
        let waited = Duration::ZERO;
        Self { replica, jobs, done, flushing: false, committer, waited }
    }

    /// Seals what was taken in, and hands it on as soon as the last batch is durable.
    ///
    /// # Errors
    /// When there is nothing to seal, or the engine fails.
    pub fn turn(&mut self) -> Result<Arc<Sealed>> {
        let sealed = self.replica.seal()?.context("there is nothing to seal")?;
        self.settle()?;
        self.jobs.send(Arc::clone(&sealed)).map_err(|_| anyhow!("the committer has ended"))?;
        self.flushing = true;
        Ok(sealed)
    }

    /// Waits until all that was handed on is durable.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn settle(&mut self) -> Result<()> {
        if std::mem::take(&mut self.flushing) {
            let begun = Instant::now();
            let (ticket, outcome) = self.done.recv()?;
            self.waited += begun.elapsed();
            outcome?;
            self.replica.written(ticket);
        }
        Ok(())
    }

    /// Ends the committer. Returns the replica, and how long the committer was busy.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn end(mut self) -> Result<(Replica, Duration)> {
        self.settle()?;
        drop(self.jobs);
        let busy = self.committer.join().map_err(|_| anyhow!("the committer panicked"))?;
        Ok((self.replica, busy))
    }
}
