//! The replica thread of a space: the driver of its replicator.
//!
//! It drains its mailbox a batch at a time, gives every input to the replicator, and carries out
//! the outputs. After a failed write it lets go of the replicator, and waits for the one of the
//! next run. Invariant: it is the only one that touches the replicator, and it never blocks but on
//! its mailbox.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{oneshot, watch};
use warbler_replication::replicator::{Command, CommandId, Now, Outcome, Output, Replicator};
use warbler_store::engine::EngineError;
use warbler_store::id::{Digest, Millis, NodeId};
use warbler_store::name::Name;
use warbler_store::overlay::Ticket;
use warbler_store::replica::{ReplicaError, Sealed};

use super::upkeep::Upkeeping;
use super::{
    Channel, Finished, Forgetting, Policy, Progress, Published, SubmitError, UpkeepProgress,
};
use crate::caretaker::Caretaker;
use crate::committer::{Committer, Job};
use crate::keeper::Event;
use crate::watchdog::Beat;

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
        answer: oneshot::Sender<Result<Outcome, SubmitError>>,
    },
    /// A peer's greeting was agreed, on this protocol version.
    Connected(NodeId, u16),
    /// A peer is gone.
    Disconnected(NodeId),
    /// A frame of a peer.
    Frame(NodeId, Vec<u8>),
    /// The committer is done with a batch of a run.
    Written(u64, Ticket, Result<(), EngineError>),
    /// The caretaker is done with something of a run.
    Finished(u64, Finished),
    /// Sweep up after erasures at once.
    Hurry,
    /// The device has room for more entries, or has not.
    Room(bool),
    /// A write failed: the engine is about to be closed.
    LetGo,
    /// A run begins, over the engine that was opened again.
    Begin(u64, Box<Replicator>),
    /// In this run the replica could not be opened.
    StandStill(String),
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
    pub(crate) published: Channel<Published>,
    /// Tells followers that words they hold are old.
    pub(crate) forgetting: Forgetting,
    /// The status page.
    pub(crate) progress: watch::Sender<Progress>,
    /// Sends a frame to a peer; never blocks.
    pub(crate) send: Box<dyn Fn(NodeId, Vec<u8>) + Send>,
    /// Ends the connection to a peer.
    pub(crate) disconnect: Disconnect,
    /// What upkeep is to do, and who does what is slow.
    pub(crate) upkeep: (Policy, Caretaker),
    /// Told when a run is over for the replica.
    pub(crate) keeper: Sender<Event>,
    /// Shows that the thread makes progress.
    pub(crate) beat: Arc<Beat>,
}

/// Why there is no replicator.
enum Without {
    /// The engine is being opened again.
    Reopening,
    /// The replica could not be opened, or met damage.
    StandsStill(String),
}

/// See the module's comment.
pub(crate) struct SpaceThread {
    replicator: Result<Replicator, Without>,
    run: u64,
    wiring: Wiring,
    mailbox: Receiver<ThreadInput>,
    answers: BTreeMap<CommandId, oneshot::Sender<Result<Outcome, SubmitError>>>,
    last_command: u64,
    begun: Instant,
    /// The digest of the erasure table when something was published last.
    erasures: Digest,
    upkeep: Upkeeping,
    alarms: VecDeque<String>,
    flushing: bool,
    stopping: bool,
    has_room: bool,
}

impl SpaceThread {
    /// Starts the thread. It ends after [`ThreadInput::Stop`], when all it took in is written.
    pub(crate) fn start(
        (run, replicator): (u64, Replicator),
        wiring: Wiring,
        mailbox: Receiver<ThreadInput>,
    ) -> std::io::Result<JoinHandle<()>> {
        let upkeep = upkeeping(run, &replicator, &wiring);
        let thread = Self {
            upkeep,
            erasures: replicator.replica().durable().erasures,
            replicator: Ok(replicator),
            run,
            wiring,
            mailbox,
            answers: BTreeMap::new(),
            last_command: 0,
            begun: Instant::now(),
            alarms: VecDeque::new(),
            flushing: false,
            stopping: false,
            has_room: true,
        };
        let name = format!("space-{}", thread.wiring.space);
        std::thread::Builder::new().name(name).spawn(move || thread.run())
    }

    /// The state before anything happened.
    pub(crate) fn first_progress(replicator: &Replicator) -> Progress {
        Progress {
            point: replicator.replica().durable().clone(),
            succession: Arc::clone(replicator.replica().succession()),
            counts: replicator.replica().counts(),
            peers: Vec::new(),
            alarms: Vec::new(),
            upkeep: UpkeepProgress::default(),
            stands_still: None,
        }
    }

    fn run(mut self) {
        let mut wake = self.drain();
        while !self.stopping || self.flushing {
            self.wiring.beat.rests();
            self.take_inputs(wake);
            let now = self.now();
            if let Ok(replicator) = &mut self.replicator {
                if wake <= now.elapsed {
                    replicator.handle_wake(now);
                }
                replicator.handle_idle(now);
                self.upkeep.round(now, replicator);
            }
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
        let first = self.mailbox.recv_timeout(until_wake.min(REPORT_INTERVAL));
        self.wiring.beat.works();
        match first {
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
        match (input, &mut self.replicator) {
            (ThreadInput::Command { command, answer }, Ok(replicator)) => {
                self.last_command += 1;
                let id = CommandId(self.last_command);
                self.answers.insert(id, answer);
                replicator.handle_command(now, id, command);
            }
            (ThreadInput::Command { answer, .. }, Err(without)) => {
                // The client may have gone; nothing was done.
                let _ = answer.send(Err(without.refusal()));
            }
            (ThreadInput::Connected(peer, version), Ok(replicator)) => {
                replicator.handle_connected(now, peer, version);
            }
            (ThreadInput::Disconnected(peer), Ok(replicator)) => {
                replicator.handle_disconnected(now, peer);
            }
            (ThreadInput::Frame(peer, frame), Ok(replicator)) => {
                replicator.handle_frame(now, peer, &frame);
            }
            (ThreadInput::Written(run, ticket, result), Ok(replicator)) if run == self.run => {
                match result {
                    Ok(()) => {
                        self.flushing = false;
                        replicator.handle_written(now, ticket);
                    }
                    Err(error) => self.end_run(error),
                }
            }
            (ThreadInput::Room(has_room), replicator) => {
                self.has_room = has_room;
                if let Ok(replicator) = replicator {
                    replicator.handle_room(now, has_room);
                }
            }
            (ThreadInput::Finished(run, it), Ok(replicator)) if run == self.run => {
                self.upkeep.finish(now, replicator, it);
            }
            (ThreadInput::Hurry, _) => self.upkeep.hurry(now),
            (ThreadInput::LetGo, _) => self.let_go(Without::Reopening),
            (ThreadInput::Begin(run, replicator), _) => self.begin(now, run, *replicator),
            (ThreadInput::StandStill(why), _) => self.stand_still(why),
            (ThreadInput::Stop, _) => self.stopping = true,
            // Without a replicator there is nobody to tell; what a peer says is said again to the
            // next one, and nobody waits for what belongs to an earlier run.
            (
                ThreadInput::Connected(..)
                | ThreadInput::Disconnected(_)
                | ThreadInput::Frame(..)
                | ThreadInput::Written(..)
                | ThreadInput::Finished(..),
                _,
            ) => {}
        }
    }

    /// Carries out all outputs. Returns when to wake.
    fn drain(&mut self) -> Millis {
        loop {
            let Ok(replicator) = &mut self.replicator else { return Millis::MAX };
            match replicator.poll_output() {
                Output::Persist(sealed) => self.persist(sealed),
                Output::Send { peer, frame } => (self.wiring.send)(peer, frame),
                Output::Answer { command, outcome } => {
                    if let Some(answer) = self.answers.remove(&command) {
                        // The client may have gone; what it asked for is done all the same.
                        let _ = answer.send(Ok(outcome));
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
                Output::Failed(error) => self.fail(error),
                Output::WakeAt(wake) => return wake,
            }
        }
    }

    fn persist(&mut self, sealed: Arc<Sealed>) {
        let Ok(replicator) = &self.replicator else { return };
        let engine = Arc::clone(replicator.replica().engine());
        self.flushing = true;
        let (run, ticket) = (self.run, sealed.ticket);
        let inputs = self.wiring.inputs.clone();
        let done = Box::new(move |result| {
            // The thread ends only when nothing is being flushed, or after a failure.
            let _ = inputs.send(ThreadInput::Written(run, ticket, result));
        });
        self.wiring.committer.write(Job { engine, sealed, done });
    }

    fn publish(&mut self, sealed: &Sealed) {
        let Ok(replicator) = &self.replicator else { return };
        let now = replicator.replica().durable().erasures;
        let before = std::mem::replace(&mut self.erasures, now);
        let published = self.wiring.forgetting.publish(&sealed.applied, (before, now));
        self.wiring.published.send(published);
    }

    /// What the replica cannot go on after. Damage stays where it is when the engine is opened
    /// again, and would end every run of all spaces; anything else may be over then.
    fn fail(&mut self, error: ReplicaError) {
        match error {
            ReplicaError::Engine(EngineError::Damaged(why)) | ReplicaError::Damaged(why) => {
                self.stand_still(why);
            }
            ReplicaError::Engine(error) => self.end_run(error),
            ReplicaError::Unfinished(_) | ReplicaError::Space { .. } => {
                self.stand_still(error.to_string());
            }
        }
    }

    fn end_run(&mut self, error: EngineError) {
        tracing::error!(space = %self.wiring.space, run = self.run, %error, "the run is over");
        self.let_go(Without::Reopening);
        // The keeper is gone only when the node stops.
        let _ = self.wiring.keeper.send(Event::RunOver { run: self.run, error });
    }

    fn stand_still(&mut self, why: String) {
        tracing::error!(space = %self.wiring.space, why, "the space stands still");
        self.note_alarm(format!("the space stands still: {why}"));
        self.let_go(Without::StandsStill(why));
    }

    /// Lets go of the engine. The outcome of what was not answered is unknown: its clients learn
    /// it from the closing of their channels.
    fn let_go(&mut self, without: Without) {
        self.replicator = Err(without);
        self.answers.clear();
        self.flushing = false;
    }

    fn begin(&mut self, now: Now, run: u64, mut replicator: Replicator) {
        replicator.handle_room(now, self.has_room);
        self.run = run;
        self.upkeep = upkeeping(run, &replicator, &self.wiring);
        self.erasures = replicator.replica().durable().erasures;
        self.replicator = Ok(replicator);
        // What became durable of the last batch, if anything did, was not published; it may have
        // changed words that are on their way to followers.
        self.wiring.forgetting.begin_anew();
        self.wiring.published.begin_anew();
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
        self.wiring.progress.send_modify(|progress| {
            progress.alarms = self.alarms.iter().cloned().collect();
            progress.upkeep = self.upkeep.progress().clone();
            progress.stands_still = match &self.replicator {
                Err(Without::StandsStill(why)) => Some(why.clone()),
                Err(Without::Reopening) | Ok(_) => None,
            };
            match &self.replicator {
                Ok(replicator) => {
                    progress.point = replicator.replica().durable().clone();
                    progress.succession = Arc::clone(replicator.replica().succession());
                    progress.counts = replicator.replica().counts();
                    progress.peers = replicator.peers();
                }
                Err(_) => progress.peers.clear(),
            }
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
fn upkeeping(run: u64, replicator: &Replicator, wiring: &Wiring) -> Upkeeping {
    let inputs = wiring.inputs.clone();
    let finished = Box::new(move || -> Box<dyn FnOnce(Finished) + Send> {
        let inputs = inputs.clone();
        Box::new(move |finished| {
            // The thread may have ended meanwhile: then nobody needs to know.
            let _ = inputs.send(ThreadInput::Finished(run, finished));
        })
    });
    Upkeeping::new(replicator.replica().space(), wiring.upkeep.clone(), finished)
}

impl Without {
    fn refusal(&self) -> SubmitError {
        match self {
            Self::Reopening => SubmitError::Reopening,
            Self::StandsStill(why) => SubmitError::StandsStill(why.clone()),
        }
    }
}
