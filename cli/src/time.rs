//! Times as people and the HTTP interface write them: RFC 3339, shown in UTC with milliseconds.
//!
//! Invariant: a [`Moment`] lies between 1970 and the end of what a message id can hold.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use warbler_store::id::{MAX_MILLIS, Millis};

/// A point in time, in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Timestamp);

/// Why a text is not a time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidTime {
    /// It is not written as one.
    #[error("`{0}` is not a time: RFC 3339 expected, such as 2026-11-21T10:30:00Z")]
    Form(String),
    /// It is, but no message can have it.
    #[error("`{0}` is outside of the times a message can have: 1970 and later")]
    Range(String),
}

impl Moment {
    /// The time of this machine.
    pub(crate) fn now() -> Self {
        Self(Timestamp::now())
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn millis(self) -> Millis {
        Millis::try_from(self.0.as_millisecond()).unwrap_or(0)
    }
}

impl FromStr for Moment {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let shown = || text.chars().take(80).collect::<String>();
        let time: Timestamp = text.parse().map_err(|_| InvalidTime::Form(shown()))?;
        let millis = time.as_millisecond();
        if !u64::try_from(millis).is_ok_and(|millis| millis <= MAX_MILLIS) {
            return Err(InvalidTime::Range(shown()));
        }
        Timestamp::from_millisecond(millis).map(Self).map_err(|_| InvalidTime::Range(shown()))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_in_utc_with_milliseconds_whatever_its_offset_was() {
        let shown = |text: &str| text.parse::<Moment>().map(|moment| moment.to_string()).ok();
        let expected = Some("2018-04-10T18:49:14.000Z".to_owned());
        assert_eq!(shown("2018-04-10T18:49:14Z"), expected);
        assert_eq!(shown("2018-04-10T20:49:14.000999+02:00"), expected);
    }

    #[test]
    fn what_is_not_a_time_or_before_1970_is_refused_by_name() {
        let refused = |text: &str| text.parse::<Moment>().expect_err("no time").to_string();
        assert!(refused("yesterday").starts_with("`yesterday` is not a time"));
        assert!(refused("2018-04-10").contains("RFC 3339"));
        assert!(refused("1969-12-31T23:59:59Z").contains("1970 and later"));
    }
}
