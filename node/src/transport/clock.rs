//! What peers' clocks say, to find out whose clock is wrong.
//!
//! Every now and then each side tells the other its time on the control stream. It must not know
//! what the times are good for. Invariant: a reading is of the connection that stands now, and
//! not older than [`SHOWN_FOR`].

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often each side tells its time.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);
/// How long a reading counts: several may be lost or late.
pub(super) const SHOWN_FOR: Duration = Duration::from_secs(60);
/// Bytes of a time on the control stream: milliseconds since the Unix epoch, big-endian.
pub(super) const BYTES: usize = 8;

/// How a peer's clock stood to ours when it was heard last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    ahead_millis: i64,
    heard: Instant,
}

impl Reading {
    /// What a time says that was under way for half of `rtt`.
    pub(super) fn of(theirs: [u8; BYTES], rtt: Duration) -> Self {
        let arrives = u64::from_be_bytes(theirs).saturating_add(half_millis(rtt));
        Self { ahead_millis: ahead(arrives, millis(SystemTime::now())), heard: Instant::now() }
    }

    /// By how many milliseconds the peer's clock is ahead of ours, if that is known of late.
    pub(super) fn ahead(self) -> Option<i64> {
        (self.heard.elapsed() < SHOWN_FOR).then_some(self.ahead_millis)
    }
}

/// Our time, as it is sent.
pub(super) fn now() -> [u8; BYTES] {
    millis(SystemTime::now()).to_be_bytes()
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

fn half_millis(rtt: Duration) -> u64 {
    (rtt / 2).as_millis() as u64
}

/// A peer may claim any time at all.
fn ahead(theirs: u64, ours: u64) -> i64 {
    let difference = i128::from(theirs) - i128::from(ours);
    difference.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_counts_for_half_the_round_trip_and_no_claim_overflows() {
        assert_eq!(ahead(1_000, 400), 600);
        assert_eq!(ahead(400, 1_000), -600);
        assert_eq!(ahead(u64::MAX, 0), i64::MAX);
        assert_eq!(half_millis(Duration::from_millis(80)), 40);
        let reading = Reading::of(now(), Duration::ZERO);
        assert!(reading.ahead().is_some_and(|ahead| ahead.abs() < 5_000), "{reading:?}");
        assert_eq!(Reading::of([0xff; BYTES], Duration::MAX).ahead(), Some(i64::MAX));
    }
}
