//! How long a request is made again, and the pauses in between.
//!
//! Knows no request. Invariant: pauses grow, are never longer than [`LONGEST_PAUSE`], and are
//! jittered, so that clients which lost the same region do not come back all at once.

use std::time::{Duration, Instant};

/// The first pause; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause, whatever a node proposes: 5 s.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a client tries. Every request may be made again without harm: posts carry a key, and
/// whatever else is asked twice says the second time that nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long a node may take to answer, beyond what the request itself asked it to wait.
    pub answer: Duration,
    /// How long a request is made again while no region can be reached. Zero asks each once.
    pub away: Duration,
    /// How long it is made again while regions answer that they are busy, or open their store.
    pub busy: Duration,
    /// How long regions may take to catch up with what the session has seen. Then the client goes
    /// on from what the region holds, if it may ([`crate::Builder::adopt`]), and says so.
    pub behind: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let long = Duration::from_secs(30);
        Self {
            answer: Duration::from_secs(10),
            away: long,
            busy: long,
            behind: Duration::from_secs(5),
        }
    }
}

/// What stands in the way of a request and may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// The region cannot be reached, or does not answer.
    Away,
    /// It is there and takes nothing at present.
    Busy,
    /// It lacks what the session has seen.
    Behind,
}

/// One request's tries.
#[derive(Debug)]
pub(crate) struct Effort {
    patience: Patience,
    begun: Instant,
    /// Regions in the list.
    regions: usize,
    /// Tries in this round through the regions.
    tries: usize,
    /// The shortest pause that a node of this round proposed.
    proposed: Option<Duration>,
    pause: Duration,
}

/// What to do after an obstacle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask the next region, after this pause.
    Ask(Duration),
    /// Time is over.
    GiveUp,
}

impl Effort {
    pub(crate) fn new(patience: Patience, regions: usize) -> Self {
        let (begun, pause) = (Instant::now(), FIRST_PAUSE);
        Self { patience, begun, regions, tries: 0, proposed: None, pause }
    }

    /// How long a region may be waited for that is behind, milliseconds: briefly while there are
    /// others to ask.
    pub(crate) fn wait_for_session(&self) -> u64 {
        let left = self.patience.behind.saturating_sub(self.begun.elapsed());
        let share = left / u32::try_from(self.regions).unwrap_or(u32::MAX);
        u64::try_from(share.as_millis()).unwrap_or(u64::MAX).min(60_000)
    }

    /// What to do after an obstacle; `proposed` is the pause that the node asked for.
    pub(crate) fn next(&mut self, obstacle: Obstacle, proposed: Option<Duration>) -> Next {
        self.tries += 1;
        let shorter = |old: Duration| proposed.map_or(old, |new| old.min(new));
        self.proposed = self.proposed.map(shorter).or(proposed);
        if self.tries < self.regions {
            return Next::Ask(Duration::ZERO);
        }
        let pause = self.proposed.unwrap_or_else(|| jittered(self.pause));
        let pause = pause.min(LONGEST_PAUSE);
        let limit = match obstacle {
            Obstacle::Away => self.patience.away,
            Obstacle::Busy => self.patience.busy,
            Obstacle::Behind => self.patience.behind,
        };
        if self.begun.elapsed() + pause > limit {
            return Next::GiveUp;
        }
        (self.tries, self.proposed) = (0, None);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        // The node has waited already for what it lacks.
        Next::Ask(if obstacle == Obstacle::Behind { Duration::ZERO } else { pause })
    }
}

/// Between half of a pause and all of it.
fn jittered(pause: Duration) -> Duration {
    let mut bytes = [0; 2];
    // Without randomness the pause is whole, which is only less polite.
    let share = getrandom::fill(&mut bytes).map_or(u16::MAX, |()| u16::from_be_bytes(bytes));
    pause.mul_f64(0.5 + f64::from(share) / f64::from(u16::MAX) / 2.0)
}

/// Pauses between tries that go on for ever: of a follower.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    /// Before jitter.
    last: Option<Duration>,
    pause: Duration,
}

impl Backoff {
    /// Something was lost: the pause before the next try, which is longer than the last one.
    pub(crate) fn lengthen(&mut self) -> Duration {
        let pause = self.last.map_or(FIRST_PAUSE, |last| (last * 2).min(LONGEST_PAUSE));
        (self.last, self.pause) = (Some(pause), jittered(pause));
        self.pause
    }

    /// The pause before the next try; there is one after each loss.
    pub(crate) fn take(&mut self) -> Duration {
        std::mem::take(&mut self.pause)
    }

    /// Something has worked: the next loss is the first again.
    pub(crate) fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn patience(away: Duration) -> Patience {
        Patience { answer: LONG, away, busy: LONG, behind: LONG }
    }

    #[test]
    fn every_region_is_asked_at_once_before_the_first_pause() {
        let mut effort = Effort::new(patience(LONG), 3);
        assert_eq!(effort.next(Obstacle::Away, None), Next::Ask(Duration::ZERO));
        assert_eq!(effort.next(Obstacle::Busy, None), Next::Ask(Duration::ZERO));
        let Next::Ask(pause) = effort.next(Obstacle::Away, None) else { panic!("gave up") };
        assert!(pause >= FIRST_PAUSE / 2 && pause <= FIRST_PAUSE, "{pause:?}");
    }

    #[test]
    fn without_patience_each_region_is_asked_once() {
        let mut effort = Effort::new(patience(Duration::ZERO), 2);
        assert_eq!(effort.next(Obstacle::Away, None), Next::Ask(Duration::ZERO));
        assert_eq!(effort.next(Obstacle::Away, None), Next::GiveUp);
    }

    #[test]
    fn pauses_grow_and_a_node_may_ask_for_another_one_within_reason() {
        let mut effort = Effort::new(patience(LONG), 1);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let Next::Ask(pause) = effort.next(Obstacle::Away, None) else { panic!("gave up") };
            pauses.push(pause);
        }
        assert!(pauses[11] >= LONGEST_PAUSE / 2, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE), "{pauses:?}");
        let second = Duration::from_secs(1);
        assert_eq!(effort.next(Obstacle::Busy, Some(second)), Next::Ask(second));
        assert_eq!(effort.next(Obstacle::Busy, Some(LONG)), Next::Ask(LONGEST_PAUSE));
    }
}
