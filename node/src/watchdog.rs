//! Notices threads that make no progress.
//!
//! A thread that waits for work rests; one that works must come to its end within a time. It must
//! not know what the work is, and it ends nothing: a disk that takes a minute may come back.
//! Invariant: a thread that works too long is reported once, and once more when it goes on.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::standing::Standings;

/// How long one piece of work may take. A batch takes milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How often is looked.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A thread's sign that it works or rests. The thread holds it, and drops it when it ends.
#[derive(Debug)]
pub(crate) struct Beat {
    name: String,
    working_since: Mutex<Option<Instant>>,
}

impl Beat {
    pub(crate) fn new(name: String) -> Arc<Self> {
        Arc::new(Self { name, working_since: Mutex::new(None) })
    }

    /// A piece of work begins.
    pub(crate) fn works(&self) {
        self.set(Some(Instant::now()));
    }

    /// It is done.
    pub(crate) fn rests(&self) {
        self.set(None);
    }

    fn set(&self, since: Option<Instant>) {
        *self.working_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn works_since(&self) -> Option<Instant> {
        *self.working_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module's comment.
pub(crate) struct Watchdog {
    watched: Vec<(String, Weak<Beat>)>,
    patience: Duration,
    stuck: Vec<String>,
}

impl Watchdog {
    pub(crate) fn over(beats: &[Arc<Beat>], patience: Duration) -> Self {
        let watched = beats.iter().map(|beat| (beat.name.clone(), Arc::downgrade(beat)));
        Self { watched: watched.collect(), patience, stuck: Vec::new() }
    }

    /// Looks at all threads, and says what it found to the log and to the node's standing.
    pub(crate) fn look(&mut self, now: Instant, standings: &Standings) {
        let late = self.watched.iter().filter(|(_, beat)| self.is_late(now, beat));
        let late: Vec<String> = late.map(|(name, _)| name.clone()).collect();
        if late == self.stuck {
            return;
        }
        for name in late.iter().filter(|name| !self.stuck.contains(name)) {
            tracing::error!(thread = name, patience = ?self.patience, "a thread makes no progress");
        }
        for name in self.stuck.iter().filter(|name| !late.contains(name)) {
            tracing::info!(thread = name, "the thread goes on");
        }
        let seconds = self.patience.as_secs_f32();
        let alarms = late.iter().map(|name| {
            format!("the thread `{name}` has made no progress for more than {seconds} s")
        });
        let alarms = alarms.collect();
        standings.change(|standing| standing.stuck = alarms);
        self.stuck = late;
    }

    fn is_late(&self, now: Instant, beat: &Weak<Beat>) -> bool {
        let since = beat.upgrade().and_then(|beat| beat.works_since());
        since.is_some_and(|since| now.saturating_duration_since(since) > self.patience)
    }

    /// A thread that has ended.
    pub(crate) fn ended(&self) -> Option<&str> {
        let ended = self.watched.iter().find(|(_, beat)| beat.strong_count() == 0);
        ended.map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use warbler_store::id::OriginId;

    use super::*;
    use crate::standing::Run;

    fn standings() -> Standings {
        Standings::of(Run { number: 1, origin: OriginId([1; 16]), started: 0 })
    }

    #[test]
    fn a_thread_that_works_too_long_is_reported_until_it_goes_on() {
        let (busy, idle) = (Beat::new("committer".to_owned()), Beat::new("space-main".to_owned()));
        let beats = [Arc::clone(&busy), Arc::clone(&idle)];
        let mut watchdog = Watchdog::over(&beats, PATIENCE);
        let standings = standings();
        let now = Instant::now();
        busy.works();
        watchdog.look(now, &standings);
        assert_eq!(standings.get().alarms(), [""; 0], "it has only begun");

        let later = now + PATIENCE * 2;
        watchdog.look(later, &standings);
        let alarms = standings.get().alarms();
        assert!(matches!(&alarms[..], [alarm] if alarm.contains("`committer`")), "{alarms:?}");

        busy.rests();
        watchdog.look(later, &standings);
        assert_eq!(standings.get().alarms(), [""; 0]);
    }

    #[test]
    fn a_thread_that_ended_is_told_from_one_that_rests() {
        let (one, other) = (Beat::new("one".to_owned()), Beat::new("other".to_owned()));
        let watchdog = Watchdog::over(&[Arc::clone(&one), Arc::clone(&other)], PATIENCE);
        assert_eq!(watchdog.ended(), None);
        drop(other);
        assert_eq!(watchdog.ended(), Some("other"));
    }
}
