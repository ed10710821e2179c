//! Names that people give: of spaces, conversations, users, regions and nodes.
//!
//! Invariant: a [`Name`] is 1 to 128 bytes of UTF-8 without control characters or slashes, and
//! not `.` or `..`, so it can stand in a path, a log line and a terminal as it is.

use std::fmt;
use std::str::FromStr;

/// The greatest length of a name, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 128;

/// A valid name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// It is empty.
    #[error("a name may not be empty")]
    Empty,
    /// It is too long.
    #[error("a name may have at most {MAX_NAME_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// It is `.` or `..`, which paths of URLs swallow.
    #[error("a name may not be `.` or `..`")]
    Dots,
    /// It has a character that a name may not have.
    #[error("a name may not hold {0:?}: no control characters and no slashes")]
    Character(char),
}

impl Name {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() {
            return Err(InvalidName::Empty);
        }
        if text.len() > MAX_NAME_BYTES {
            return Err(InvalidName::TooLong(text.len()));
        }
        if matches!(text, "." | "..") {
            return Err(InvalidName::Dots);
        }
        match text.chars().find(|c| c.is_control() || matches!(c, '/' | '\\')) {
            Some(bad) => Err(InvalidName::Character(bad)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_refused_for_its_length_its_slashes_and_its_control_characters() {
        assert_eq!("".parse::<Name>(), Err(InvalidName::Empty));
        assert_eq!("x".repeat(129).parse::<Name>(), Err(InvalidName::TooLong(129)));
        assert_eq!("a/b".parse::<Name>(), Err(InvalidName::Character('/')));
        assert_eq!("a\nb".parse::<Name>(), Err(InvalidName::Character('\n')));
        assert_eq!("..".parse::<Name>(), Err(InvalidName::Dots));
        assert!("größe 日本".parse::<Name>().is_ok());
        assert!("x".repeat(128).parse::<Name>().is_ok());
    }
}
