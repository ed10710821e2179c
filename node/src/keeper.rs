//! The keeper of the store: closes it after a failed write, opens it again, and watches its room.
//!
//! ```text
//!   a write fails ─▶ peers are let go, replicas dropped, the engine closed
//!                 ─▶ opened again, everything read back, a new origin, spaces begin, peers return
//!   little room   ─▶ read-only, until there is room again
//! ```
//!
//! It must not know what is written. Invariant: a run's engine is closed before the next is
//! opened, and no space begins a run before all of its state was read back.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use warbler_store::engine::{EngineError, EngineSlot, Room};

use crate::config::ClusterSpace;
use crate::node::StartError;
use crate::opening::{Opening, give_up};
use crate::reserve::Reserve;
use crate::room::{NoRoom, judge};
use crate::space::{Space, ThreadInput};
use crate::standing::{Run, Standings};
use crate::transport::Transport;
use crate::watchdog::Beat;

/// How often the room is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long who still reads from a closed engine is waited for, before it is tried again.
const CLOSING_PATIENCE: Duration = Duration::from_secs(5);
/// The pause before the second attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A run that lasted so long was not a failed attempt.
const STEADY_AFTER: Duration = Duration::from_secs(60);
/// So many attempts in a row raise an alarm.
const ALARM_AFTER: u32 = 3;

/// What the keeper is told.
pub(crate) enum Event {
    /// A write of this run failed, or a replica cannot go on over its engine.
    RunOver {
        /// Which.
        run: u64,
        /// Why.
        error: EngineError,
    },
    /// The node stops.
    Stop,
}

/// The node stops, so the store stays closed.
struct Stopped;

/// See the module's comment.
pub(crate) struct Keeper {
    pub(crate) slot: EngineSlot,
    pub(crate) opening: Opening,
    pub(crate) reserve: Reserve,
    pub(crate) spaces: Vec<(ClusterSpace, Space)>,
    pub(crate) transport: Arc<OnceLock<Transport>>,
    pub(crate) standings: Standings,
    pub(crate) events: Receiver<Event>,
    pub(crate) beat: Arc<Beat>,
}

impl Keeper {
    /// Starts the thread. It ends after [`Event::Stop`].
    pub(crate) fn start(self) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("keeper".to_owned()).spawn(move || {
            let begun = Instant::now();
            Keeping { keeper: self, begun, attempts: 0 }.run();
        })
    }
}

/// A keeper at work.
struct Keeping {
    keeper: Keeper,
    /// When the present run began.
    begun: Instant,
    /// How often the store was opened since a run lasted.
    attempts: u32,
}

impl Keeping {
    fn run(mut self) {
        loop {
            if let Err(error) = self.look_at_engine()
                && self.reopen(&error).is_err()
            {
                return;
            }
            self.look_whether_steady();
            match self.keeper.events.recv_timeout(LOOK_EVERY) {
                // Each space tells of the same failure.
                Ok(Event::RunOver { run, .. }) if run != self.present().number => {}
                Ok(Event::RunOver { error, .. }) => {
                    if let Err(Stopped) = self.reopen(&error) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn present(&self) -> Run {
        self.keeper.standings.get().run
    }

    fn reopen(&mut self, error: &EngineError) -> Result<(), Stopped> {
        tracing::error!(run = self.present().number, %error, "the store is closed and opened again");
        self.end_run(&error.to_string());
        if matches!(error, EngineError::Full(_)) {
            give_up(&self.keeper.reserve);
        }
        loop {
            self.wait(pause(self.attempts))?;
            self.attempts += 1;
            self.keeper.beat.works();
            let opened = self.open();
            self.keeper.beat.rests();
            match opened {
                Ok(run) => {
                    tracing::info!(run = run.number, origin = %run.origin, "the store is open again");
                    self.tell_whether_unsteady("a write failed soon after each");
                    return Ok(());
                }
                Err(error) => {
                    let why = error.whole_text();
                    tracing::error!(attempts = self.attempts, why, "the store cannot be opened");
                    self.keeper.standings.change(|standing| standing.reopening = Some(why.clone()));
                    self.tell_whether_unsteady(&why);
                }
            }
        }
    }

    /// Ends the run everywhere: nobody writes, reads or replicates any more.
    fn end_run(&self, why: &str) {
        let keeper = &self.keeper;
        keeper.standings.change(|standing| standing.reopening = Some(why.to_owned()));
        if let Some(transport) = keeper.transport.get() {
            transport.pause("the node opens its store again, and comes back as another run");
        }
        keeper.spaces.iter().for_each(|(_, space)| space.deliver(ThreadInput::LetGo));
    }

    /// Opens the engine and begins a run.
    fn open(&mut self) -> Result<Run, StartError> {
        let keeper = &self.keeper;
        keeper.slot.close(CLOSING_PATIENCE)?;
        let engine = keeper.opening.engine(&keeper.reserve)?;
        let run = keeper.opening.run(self.present().number + 1)?;
        let opened = keeper.spaces.iter().map(|(config, space)| {
            let replicator = keeper.opening.replicator(&engine, config, run);
            (space, replicator.map_err(|error| error.whole_text()))
        });
        let opened: Vec<_> = opened.collect();

        // From here on nothing can fail.
        keeper.slot.open(engine);
        for (space, replicator) in opened {
            space.deliver(match replicator {
                Ok(replicator) => ThreadInput::Begin(run.number, Box::new(replicator)),
                Err(why) => ThreadInput::StandStill(why),
            });
        }
        keeper.standings.change(|standing| {
            standing.run = run;
            standing.reopening = None;
        });
        if let Some(transport) = keeper.transport.get() {
            transport.resume(run.origin);
        }
        self.begun = Instant::now();
        Ok(run)
    }

    /// Waits, unless the node stops.
    fn wait(&self, pause: Duration) -> Result<(), Stopped> {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.keeper.events.recv_timeout(left) {
                Ok(Event::RunOver { .. }) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return Err(Stopped),
            }
        }
    }

    fn tell_whether_unsteady(&self, why: &str) {
        if self.attempts < ALARM_AFTER {
            return;
        }
        let attempts = self.attempts;
        let text = format!("the store was opened {attempts} times without lasting success: {why}");
        tracing::error!("alarm: {text}");
        self.keeper.standings.change(|standing| standing.unsteady = Some(text));
    }

    fn look_whether_steady(&mut self) {
        if self.attempts > 0 && self.begun.elapsed() >= STEADY_AFTER {
            self.attempts = 0;
            self.keeper.standings.change(|standing| standing.unsteady = None);
        }
    }

    /// Looks at room, and whether the engine is sound where there is room for it to be.
    ///
    /// # Errors
    /// When the engine must be opened again.
    fn look_at_engine(&self) -> Result<(), EngineError> {
        let Ok(engine) = self.keeper.slot.current() else { return Ok(()) };
        let no_room = match engine.room() {
            Ok(room) => self.judge(room),
            Err(error) => {
                tracing::warn!(%error, "the room on the device is not known");
                return Ok(());
            }
        };
        if no_room.is_none() {
            // Also what failed for want of room: first the engine, then the writers.
            engine.check_sound()?;
        }
        self.tell_room(no_room);
        Ok(())
    }

    /// Whether there is too little room. Makes the reserve where there is enough for it.
    fn judge(&self, room: Room) -> Option<NoRoom> {
        let reserve = &self.keeper.reserve;
        let is_read_only = self.keeper.standings.get().no_room.is_some();
        let judged = |room| judge(room, reserve.bytes(), reserve.is_kept(), is_read_only);
        let no_room = judged(room);
        if no_room.is_some() || reserve.is_kept() {
            return no_room;
        }
        let error = reserve.keep().err()?;
        tracing::warn!(%error, "the reserve cannot be made");
        judged(Room { free_bytes: 0, ..room })
    }

    fn tell_room(&self, no_room: Option<NoRoom>) {
        let keeper = &self.keeper;
        let before = keeper.standings.get().no_room;
        if no_room != before {
            keeper.standings.change(|standing| standing.no_room = no_room);
        }
        if no_room.is_some() == before.is_some() {
            return;
        }
        match no_room {
            Some(no_room) => tracing::error!(%no_room, "the node is read-only from now on"),
            None => tracing::info!("there is room again: the node takes writes"),
        }
        let has_room = no_room.is_none();
        keeper.spaces.iter().for_each(|(_, space)| space.deliver(ThreadInput::Room(has_room)));
    }
}

/// The pause before an attempt, after so many others in a row.
fn pause(attempts: u32) -> Duration {
    match attempts.checked_sub(1) {
        None => Duration::ZERO,
        Some(doubled) => FIRST_PAUSE.saturating_mul(1 << doubled.min(16)).min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_is_made_at_once_and_pauses_grow_up_to_the_longest() {
        let pauses: Vec<_> = (0..5).map(|attempts| pause(attempts).as_millis()).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800]);
        assert_eq!(pause(10), LONGEST_PAUSE);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
