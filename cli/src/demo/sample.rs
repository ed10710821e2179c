//! The real conversations that the demo imports, and whose words its people say.
//!
//! Knows the file in `demo/`; imports nothing. Invariant: the file is part of the program, so the demo runs from anywhere.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use warbler_store::name::Name;

use crate::failure::Failure;

/// Real conversations as JSON Lines; see `demo/README.md` for their source and licence.
const LINES: &str = include_str!("../../../demo/sample.jsonl");

/// The longest body that people in the demo say, in characters: longer ones would not fit on a line of the screen.
const MAX_SAID: usize = 120;

/// The sample, understood.
pub(super) struct Sample {
    /// By name, with (author, body) in the order in which they were said.
    conversations: BTreeMap<Name, Vec<(Name, String)>>,
}

#[derive(Deserialize)]
struct Line {
    conversation: String,
    author: String,
    body: String,
}

impl Sample {
    /// The sample that is part of the program.
    ///
    /// # Errors
    /// When it is not what it should be, which is a bug.
    pub(super) fn embedded() -> Result<Self, Failure> {
        let broken = |number: usize, cause: String| {
            Failure::bug(format!("line {} of the demo's sample cannot be read", number + 1))
                .cause(cause)
        };
        let mut conversations: BTreeMap<Name, Vec<(Name, String)>> = BTreeMap::new();
        for (number, text) in LINES.lines().enumerate() {
            let line: Line =
                serde_json::from_str(text).map_err(|error| broken(number, error.to_string()))?;
            let name = |text: &str| {
                text.parse::<Name>().map_err(|error| broken(number, error.to_string()))
            };
            let said = (name(&line.author)?, line.body);
            conversations.entry(name(&line.conversation)?).or_default().push(said);
        }
        Ok(Self { conversations })
    }

    /// The file itself.
    pub(super) fn lines(&self) -> &'static str {
        LINES
    }

    /// By name, with (author, body) in the order in which they were said.
    pub(super) fn conversations(&self) -> &BTreeMap<Name, Vec<(Name, String)>> {
        &self.conversations
    }

    /// How many messages there are.
    pub(super) fn messages(&self) -> u64 {
        self.conversations.values().map(|said| said.len() as u64).sum()
    }

    /// Who speaks, each once.
    pub(super) fn authors(&self) -> BTreeSet<Name> {
        self.conversations.values().flatten().map(|(author, _)| author.clone()).collect()
    }

    /// Bodies that fit on a line.
    pub(super) fn sayings(&self) -> Vec<String> {
        let bodies = self.conversations.values().flatten().map(|(_, body)| body);
        bodies.filter(|body| body.chars().count() <= MAX_SAID).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_part_of_the_program_and_is_what_its_readme_says() {
        let sample = Sample::embedded().expect("it can be read");
        assert_eq!(sample.conversations().len(), 24);
        assert_eq!(sample.messages(), 2_136);
        assert_eq!(sample.authors().len(), 38);
        assert!(sample.sayings().len() > 1_000);
    }
}
