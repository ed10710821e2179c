//! The hybrid logical clock that places messages in the timeline.
//!
//! Knows no wall clock: `now` is always an argument. Invariant: each front it hands out is
//! greater than every front it handed out or observed, except those further ahead of `now` than
//! [`MAX_AHEAD_MILLIS`]: a wild clock somewhere may not drag everybody's ids into the future.
//!
//! After Kulkarni et al., "Logical Physical Clocks" (2014).

use crate::id::{Front, Millis};

/// How far an id may lie ahead of the local wall clock and still be honoured: 60 s.
pub const MAX_AHEAD_MILLIS: Millis = 60_000;

/// See the module's comment.
#[derive(Debug, Clone, Default)]
pub struct HybridClock {
    last: Front,
}

impl HybridClock {
    /// A clock that has seen everything up to `last`.
    #[must_use]
    pub const fn starting_after(last: Front) -> Self {
        Self { last }
    }

    /// The greatest front seen.
    #[must_use]
    pub const fn last(&self) -> Front {
        self.last
    }

    /// A front greater than all seen and than `above`.
    pub fn tick(&mut self, now: Millis, above: Option<Front>) -> Front {
        let wall = Front { millis: now, counter: 0 };
        let seen = [Some(self.last), above];
        let floor = seen.into_iter().flatten().filter(|front| !is_ahead(now, *front)).max();
        let front = match floor {
            Some(floor) if floor >= wall => floor.next(),
            Some(_) | None => wall,
        };
        self.last = front;
        front
    }

    /// Takes note of a front from elsewhere. Returns false, and does nothing, if it lies too far
    /// ahead.
    pub fn observe(&mut self, now: Millis, front: Front) -> bool {
        if is_ahead(now, front) {
            return false;
        }
        self.last = self.last.max(front);
        true
    }
}

/// Whether `front` lies further ahead of `now` than a sane clock can be.
#[must_use]
pub const fn is_ahead(now: Millis, front: Front) -> bool {
    front.millis > now.saturating_add(MAX_AHEAD_MILLIS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front(millis: Millis, counter: u16) -> Front {
        Front { millis, counter }
    }

    #[test]
    fn fronts_follow_the_wall_clock_and_count_within_a_millisecond() {
        let mut clock = HybridClock::default();
        assert_eq!(clock.tick(1_000, None), front(1_000, 0));
        assert_eq!(clock.tick(1_000, None), front(1_000, 1));
        assert_eq!(clock.tick(1_001, None), front(1_001, 0));
    }

    #[test]
    fn a_wall_clock_that_jumps_back_does_not_take_fronts_back() {
        let mut clock = HybridClock::default();
        clock.tick(50_000, None);
        assert_eq!(clock.tick(20_000, None), front(50_000, 1));
    }

    #[test]
    fn a_front_seen_from_a_region_slightly_ahead_is_passed() {
        let mut clock = HybridClock::default();
        assert!(clock.observe(1_000, front(1_500, 7)));
        assert_eq!(clock.tick(1_000, None), front(1_500, 8));
        assert_eq!(clock.tick(1_000, Some(front(2_000, 0))), front(2_000, 1));
    }

    #[test]
    fn a_wild_clock_elsewhere_drags_nobody() {
        let mut clock = HybridClock::default();
        assert!(!clock.observe(1_000, front(1_000 + MAX_AHEAD_MILLIS + 1, 0)));
        assert_eq!(clock.tick(1_000, Some(front(9_000_000, 0))), front(1_000, 0));
    }

    #[test]
    fn a_used_up_counter_takes_the_next_millisecond() {
        let mut clock = HybridClock::starting_after(front(1_000, u16::MAX));
        assert_eq!(clock.tick(1_000, None), front(1_001, 0));
    }
}
