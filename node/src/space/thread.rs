//! The replica thread of a space: the driver of its replicator.
//!
//! It drains its mailbox a batch at a time, gives every input to the replicator, and carries out
//! the outputs. Invariant: it is the only one that touches the replicator, and it never blocks
//! but on its mailbox.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use warbler_replication::replicator::{Command, CommandId, Now, Outcome, Output, Replicator};
use warbler_store::engine::EngineError;
use warbler_store::id::{Digest, Millis, NodeId};
use warbler_store::name::Name;
use warbler_store::overlay::Ticket;
use warbler_store::replica::Sealed;

use super::upkeep::Upkeeping;
use super::{Finished, Forgetting, Policy, Progress, Published, UpkeepProgress};
use crate::caretaker::Caretaker;
use crate::committer::{Committer, Job};

/// Inputs taken in before a batch is ended, so that a flood cannot hold back its own answers.
const MAX_INPUTS: usize = 1024;
/// Alarms kept for the status page.
const MAX_ALARMS: usize = 32;
/// How often the state of peers is reported when nothing is written: 500 ms.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// What comes into the mailbox.
pub(crate) enum ThreadInput {
    /// A client's command.
    Command {
        /// What it asks for.
        command: Command,
        /// Where the answer goes.
        answer: oneshot::Sender<Outcome>,
    },
    /// A peer's greeting was agreed.
    Connected(NodeId),
    /// A peer is gone.
    Disconnected(NodeId),
    /// A frame of a peer.
    Frame(NodeId, Vec<u8>),
    /// The committer is done with a batch.
    Written(Ticket, Result<(), EngineError>),
    /// The caretaker is done with something.
    Finished(Finished),
    /// Sweep up after erasures at once.
    Hurry,
    /// Write what was taken in, and end.
    Stop,
}

/// Ends the connection to a peer, with a reason for both sides.
type Disconnect = Box<dyn Fn(NodeId, &str) + Send>;

/// Where the thread's outputs go.
pub(crate) struct Wiring {
    /// For log lines.
    pub(crate) space: Name,
    /// Writes batches.
    pub(crate) committer: Committer,
    /// The thread's own mailbox, for the committer's answers.
    pub(crate) inputs: SyncSender<ThreadInput>,
    /// Followers.
    pub(crate) published: broadcast::Sender<Published>,
    /// Tells followers that words they hold are old.
    pub(crate) forgetting: Forgetting,
    /// The status page.
    pub(crate) progress: watch::Sender<Progress>,
    /// Sends a frame to a peer; never blocks.
    pub(crate) send: Box<dyn Fn(NodeId, Vec<u8>) + Send>,
    /// Ends the connection to a peer.
    pub(crate) disconnect: Disconnect,
    /// Told once, when the replica cannot go on.
    pub(crate) failed: mpsc::UnboundedSender<String>,
    /// What upkeep is to do, and who does what is slow.
    pub(crate) upkeep: (Policy, Caretaker),
}

/// See the module's comment.
pub(crate) struct SpaceThread {
    replicator: Replicator,
    wiring: Wiring,
    mailbox: Receiver<ThreadInput>,
    answers: BTreeMap<CommandId, oneshot::Sender<Outcome>>,
    last_command: u64,
    begun: Instant,
    /// The digest of the erasure table when something was published last.
    erasures: Digest,
    upkeep: Upkeeping,
    alarms: VecDeque<String>,
    flushing: bool,
    stopping: bool,
    failed: bool,
}

impl SpaceThread {
    /// Starts the thread. It ends after [`ThreadInput::Stop`], when all it took in is written.
    pub(crate) fn start(
        replicator: Replicator,
        wiring: Wiring,
        mailbox: Receiver<ThreadInput>,
    ) -> std::io::Result<JoinHandle<()>> {
        let upkeep = upkeeping(&replicator, &wiring);
        let thread = Self {
            upkeep,
            erasures: replicator.replica().durable().erasures,
            replicator,
            wiring,
            mailbox,
            answers: BTreeMap::new(),
            last_command: 0,
            begun: Instant::now(),
            alarms: VecDeque::new(),
            flushing: false,
            stopping: false,
            failed: false,
        };
        let name = format!("space-{}", thread.wiring.space);
        std::thread::Builder::new().name(name).spawn(move || thread.run())
    }

    /// The state before anything happened.
    pub(crate) fn first_progress(replicator: &Replicator) -> Progress {
        Progress {
            point: replicator.replica().durable().clone(),
            counts: replicator.replica().counts(),
            peers: Vec::new(),
            alarms: Vec::new(),
            upkeep: UpkeepProgress::default(),
        }
    }

    fn run(mut self) {
        let mut wake = self.drain();
        while !self.failed && (!self.stopping || self.flushing) {
            self.take_inputs(wake);
            let now = self.now();
            if wake <= now.elapsed {
                self.replicator.handle_wake(now);
            }
            self.replicator.handle_idle(now);
            self.upkeep.round(now, &mut self.replicator);
            // Before the answers go out: who has one finds what it says in the state, too.
            self.report();
            wake = self.drain();
        }
        tracing::debug!(space = %self.wiring.space, "the replica thread ends");
    }

    /// Waits for an input until `wake`, then takes in what else is there.
    fn take_inputs(&mut self, wake: Millis) {
        let wake = wake.min(self.upkeep.due());
        let until_wake = Duration::from_millis(wake.saturating_sub(self.now().elapsed));
        match self.mailbox.recv_timeout(until_wake.min(REPORT_INTERVAL)) {
            Ok(input) => self.take(input),
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => self.stopping = true,
        }
        for _ in 1..MAX_INPUTS {
            match self.mailbox.try_recv() {
                Ok(input) => self.take(input),
                Err(_) => break,
            }
        }
    }

    fn take(&mut self, input: ThreadInput) {
        let now = self.now();
        match input {
            ThreadInput::Command { command, answer } => {
                self.last_command += 1;
                let id = CommandId(self.last_command);
                self.answers.insert(id, answer);
                self.replicator.handle_command(now, id, command);
            }
            ThreadInput::Connected(peer) => self.replicator.handle_connected(now, peer),
            ThreadInput::Disconnected(peer) => self.replicator.handle_disconnected(now, peer),
            ThreadInput::Frame(peer, frame) => self.replicator.handle_frame(now, peer, &frame),
            ThreadInput::Written(ticket, Ok(())) => {
                self.flushing = false;
                self.replicator.handle_written(now, ticket);
            }
            ThreadInput::Written(_, Err(error)) => self.fail(&error.to_string()),
            ThreadInput::Finished(it) => self.upkeep.finish(now, &mut self.replicator, it),
            ThreadInput::Hurry => self.upkeep.hurry(now),
            ThreadInput::Stop => self.stopping = true,
        }
    }

    /// Carries out all outputs. Returns when to wake.
    fn drain(&mut self) -> Millis {
        loop {
            match self.replicator.poll_output() {
                Output::Persist(sealed) => self.persist(sealed),
                Output::Send { peer, frame } => (self.wiring.send)(peer, frame),
                Output::Answer { command, outcome } => {
                    if let Some(answer) = self.answers.remove(&command) {
                        // The client may have gone; what it asked for is done all the same.
                        let _ = answer.send(outcome);
                    }
                }
                Output::Publish(sealed) => self.publish(&sealed),
                Output::Disconnect { peer, reason } => {
                    tracing::warn!(space = %self.wiring.space, peer = %peer.short(), reason,
                        "ending the connection");
                    (self.wiring.disconnect)(peer, &reason);
                }
                Output::Alarm(alarm) => {
                    tracing::error!(space = %self.wiring.space, %alarm, "alarm");
                    self.note_alarm(alarm.to_string());
                }
                Output::Failed(error) => self.fail(&error.to_string()),
                Output::WakeAt(wake) => return wake,
            }
        }
    }

    fn persist(&mut self, sealed: Arc<Sealed>) {
        self.flushing = true;
        let ticket = sealed.ticket;
        let inputs = self.wiring.inputs.clone();
        let done = Box::new(move |result| {
            // The thread ends only when nothing is being flushed, or after a failure.
            let _ = inputs.send(ThreadInput::Written(ticket, result));
        });
        self.wiring.committer.write(Job { sealed, done });
    }

    fn publish(&mut self, sealed: &Sealed) {
        let now = self.replicator.replica().durable().erasures;
        let before = std::mem::replace(&mut self.erasures, now);
        let published = self.wiring.forgetting.publish(&sealed.applied, (before, now));
        // Nobody may be following.
        let _ = self.wiring.published.send(published);
    }

    /// The outcome of what was not answered is unknown: its clients learn it from the closing of
    /// their channels. The node ends, as after a crash, and begins again with a new origin.
    fn fail(&mut self, reason: &str) {
        self.failed = true;
        tracing::error!(space = %self.wiring.space, reason, "the replica cannot go on");
        let _ = self.wiring.failed.send(format!("space `{}`: {reason}", self.wiring.space));
    }

    fn note_alarm(&mut self, alarm: String) {
        if self.alarms.back() == Some(&alarm) {
            return;
        }
        if self.alarms.len() == MAX_ALARMS {
            self.alarms.pop_front();
        }
        self.alarms.push_back(alarm);
    }

    fn report(&self) {
        let replica = self.replicator.replica();
        self.wiring.progress.send_replace(Progress {
            point: replica.durable().clone(),
            counts: replica.counts(),
            peers: self.replicator.peers(),
            alarms: self.alarms.iter().cloned().collect(),
            upkeep: self.upkeep.progress().clone(),
        });
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            wall: wall.as_millis() as Millis,
            elapsed: self.begun.elapsed().as_millis() as Millis,
        }
    }
}

/// The upkeep of a thread: what the caretaker finishes comes back as an input.
fn upkeeping(replicator: &Replicator, wiring: &Wiring) -> Upkeeping {
    let inputs = wiring.inputs.clone();
    let finished = Box::new(move || -> Box<dyn FnOnce(Finished) + Send> {
        let inputs = inputs.clone();
        Box::new(move |finished| {
            // The thread may have ended meanwhile: then nobody needs to know.
            let _ = inputs.send(ThreadInput::Finished(finished));
        })
    });
    Upkeeping::new(replicator.replica().space(), wiring.upkeep.clone(), finished)
}
