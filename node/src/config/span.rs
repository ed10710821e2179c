//! Spans of time as people write them: a number and a unit.
//!
//! Invariant: what is read is at least a millisecond and at most a hundred years.

use std::time::Duration;

/// The longest span: a hundred years.
const MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Reads a span such as `90s`, `15m`, `1h` or `30d`.
///
/// # Errors
/// When the text is none, in a sentence for people.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || {
        let shown: String = text.chars().take(80).collect();
        format!(
            "`{shown}` is not a span of time: a number with `ms`, `s`, `m`, `h` or `d` expected, \
             such as 90s, 15m, 1h or 30d"
        )
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let span = number.checked_mul(millis).map(Duration::from_millis);
    match span.filter(|span| !span.is_zero() && *span <= MAX) {
        Some(span) => Ok(span),
        None => Err(format!("`{text}` is out of range: 1ms to 36500d expected")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_with_a_unit() {
        let seconds = |text| parse_span(text).map(|span| span.as_secs());
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("15m"), Ok(900));
        assert_eq!(seconds("1h"), Ok(3_600));
        assert_eq!(seconds("30d"), Ok(2_592_000));
        assert_eq!(parse_span("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "1", "h", "-1h", "1.5h", "1 h", "0s", "36501d", "99999999999999999999d"] {
            assert!(parse_span(bad).is_err(), "{bad:?}");
        }
    }
}
