//! A TOML file as its readers see it: values with the line they stand on, and the errors that
//! name file, line and field.
//!
//! It must not know what any field means. Its one invariant: every refusal of something that a
//! person wrote says where they wrote it.

use std::fmt::Display;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::DeserializeOwned;
use toml::Spanned;

/// The greatest length of a configuration file, in bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is too long to be one.
    #[error("the configuration file {path} is longer than {MAX_FILE_BYTES} bytes")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It is not TOML, a field is unknown, missing or of another type.
    #[error("{path}:{line}: {problem}")]
    Form {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there; names the field.
        problem: String,
    },
    /// A field has a value that it may not have.
    #[error("{path}:{line}: `{field}`: {problem}")]
    Field {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The field, with its section.
        field: String,
        /// What is wrong with the value; names it.
        problem: String,
    },
    /// An environment variable has a value that it may not have.
    #[error("the environment variable {variable}: {problem}")]
    Variable {
        /// The variable.
        variable: &'static str,
        /// What is wrong with the value; names it.
        problem: String,
    },
}

/// Reads the text of a configuration file of at most [`MAX_FILE_BYTES`].
///
/// # Errors
/// It cannot be read, is too long or is not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, ConfigError> {
    let read = || {
        let mut text = String::new();
        std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::TooLong { path: path.to_owned() });
    }
    Ok(text)
}

/// The text of a file and its path.
pub(crate) struct Source<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: &'a str,
}

impl Source<'_> {
    /// The file as a `T`.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(self.text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            let mut problem = error.message().trim().replace('\n', "; ");
            if let Some(key) =
                self.key_at(&span).filter(|key| !problem.contains(&format!("`{key}`")))
            {
                problem = format!("`{key}`: {problem}");
            }
            ConfigError::Form { path: self.path.to_owned(), line: self.line(&span), problem }
        })
    }

    /// The value of a field as a `T`.
    pub(crate) fn value<T>(&self, field: &str, given: &Spanned<String>) -> Result<T, ConfigError>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text = given.get_ref();
        text.parse().map_err(|problem| self.refuse(field, &given.span(), &problem))
    }

    /// The refusal of what stands at `span` as the value of `field`.
    pub(crate) fn refuse(
        &self,
        field: &str,
        span: &Range<usize>,
        problem: &dyn Display,
    ) -> ConfigError {
        ConfigError::Field {
            path: self.path.to_owned(),
            line: self.line(span),
            field: field.to_owned(),
            problem: problem.to_string(),
        }
    }

    fn line(&self, span: &Range<usize>) -> usize {
        1 + self.text.bytes().take(span.start).filter(|&byte| byte == b'\n').count()
    }

    /// The key before `=` on the line of a value: the parser's own messages leave it out.
    fn key_at(&self, span: &Range<usize>) -> Option<&str> {
        let before = self.text.get(..span.start)?;
        let line = &before[before.rfind('\n').map_or(0, |end| end + 1)..];
        line.split_once('=').map(|(key, _)| key.trim())
    }
}
