//! Sizes as people write them: `64MiB`.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// The units, the greatest first.
const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a size: a whole number and one of B, KiB, MiB, GiB, TiB expected, such as 64MiB"
)]
pub struct InvalidSize(String);

impl FromStr for Size {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let parse = || {
            if text == "0" {
                return Some(0);
            }
            let (unit, bytes) = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit))?;
            let number = text.strip_suffix(unit)?.trim_end();
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            number.parse::<u64>().ok().filter(|_| digits)?.checked_mul(bytes)
        };
        parse().map(Self).ok_or_else(|| InvalidSize(text.to_owned()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, bytes): &(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*bytes);
        let (unit, bytes) = UNITS.into_iter().find(fits).unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_whole_number_with_a_unit() {
        let size = |text: &str| text.parse::<Size>().map(|size| size.0).ok();
        assert_eq!(size("64MiB"), Some(64 << 20));
        assert_eq!(size("1 GiB"), Some(1 << 30));
        assert_eq!(size("512B"), Some(512));
        assert_eq!(size("0"), Some(0));
        for text in ["", "64", "MiB", "64MB", "64mib", "-1MiB", "+1MiB", "1.5GiB", "99999999TiB"] {
            assert_eq!(size(text), None, "{text:?}");
        }
        let refused = "64MB".parse::<Size>().expect_err("no size").to_string();
        assert!(refused.contains("`64MB`") && refused.contains("64MiB"), "{refused}");
    }

    #[test]
    fn a_size_is_shown_as_it_is_read() {
        for text in ["64MiB", "1GiB", "1537KiB", "7B", "0B"] {
            assert_eq!(text.parse::<Size>().expect("a size").to_string(), text);
        }
    }
}
