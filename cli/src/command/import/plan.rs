//! Reading and checking a file of conversations before any of it is posted.
//!
//! Knows no node. Invariant: a [`Plan`] holds only messages that a node takes, in the order of the
//! file within each conversation, and the same file always gives the same keys.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read as _};

use serde::Deserialize;
use warbler_store::name::Name;

use crate::command::post::check_body;
use crate::time::Moment;

/// The most bytes of one line: a body of 64 KiB with every byte escaped for JSON, and the rest.
const MAX_LINE_BYTES: u64 = 512 * 1024;
/// The most bytes of a file, once decompressed: it is held in memory until it has been checked.
const MAX_FILE_BYTES: u64 = 1024 * 1024 * 1024;
/// How far a time may lie ahead of this machine's clock, milliseconds: clocks differ a little.
const MAX_AHEAD_MS: u64 = 60_000;
/// The domain of the keys' hash: a change of it would post every file again.
const KEY_DOMAIN: &str = "warbler 2026 import key";

/// Why a file is not sound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// It cannot be read to its end.
    #[error("after line {after_line}: {source}")]
    Read {
        /// The last line that could be read.
        after_line: u64,
        /// What the system, or the decompressor, says.
        source: io::Error,
    },
    /// A line is wrong.
    #[error("line {number}: {reason}")]
    Line {
        /// From 1.
        number: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// It is greater than what is held in memory.
    #[error("it has more than {MAX_FILE_BYTES} bytes (1 GiB)")]
    TooLarge,
}

/// A file that was found sound.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    conversations: BTreeMap<Name, Vec<Planned>>,
    messages: u64,
}

/// A message to post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Who said it.
    pub(crate) author: Name,
    /// When.
    pub(crate) at: Moment,
    /// What.
    pub(crate) body: String,
    /// The idempotency key: 64 hex digits.
    pub(crate) key: String,
}

/// A line as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    conversation: String,
    author: String,
    at: String,
    body: String,
}

impl Plan {
    /// The messages of each conversation, in the order of the file.
    pub(crate) fn conversations(&self) -> &BTreeMap<Name, Vec<Planned>> {
        &self.conversations
    }

    /// How many messages there are in all.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }
}

/// Reads a whole file. Lines that hold nothing but white space are passed over.
///
/// # Errors
/// At the first line that is wrong, or when the file cannot be read or is too large.
pub(crate) fn read(mut input: impl BufRead, now: Moment) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    let mut occurrences: BTreeMap<[u8; 32], u64> = BTreeMap::new();
    let mut bytes = Vec::new();
    let mut total = 0;
    for number in 1.. {
        bytes.clear();
        let taken = (&mut input).take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut bytes);
        let taken =
            taken.map_err(|source| PlanError::Read { after_line: number - 1, source })? as u64;
        if taken == 0 {
            break;
        }
        total += taken;
        if total > MAX_FILE_BYTES {
            return Err(PlanError::TooLarge);
        }
        let wrong = |reason| PlanError::Line { number, reason };
        if taken > MAX_LINE_BYTES {
            return Err(wrong(format!("it has more than {MAX_LINE_BYTES} bytes")));
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let (conversation, mut message) = understand(&bytes, now).map_err(wrong)?;
        let tuple = hash_of_tuple(&conversation, &message);
        let occurrence = occurrences.entry(tuple).or_default();
        message.key = key(&tuple, *occurrence);
        *occurrence += 1;
        plan.messages += 1;
        plan.conversations.entry(conversation).or_default().push(message);
    }
    Ok(plan)
}

/// The conversation and the message of a line, with no key yet.
fn understand(bytes: &[u8], now: Moment) -> Result<(Name, Planned), String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("it is not UTF-8: {error}"))?;
    let text = text.trim_start_matches('\u{feff}');
    let line: Line = serde_json::from_str(text).map_err(|error| json_reason(&error))?;
    let conversation =
        line.conversation.parse::<Name>().map_err(|why| format!("conversation: {why}"))?;
    let author = line.author.parse::<Name>().map_err(|why| format!("author: {why}"))?;
    let at = line.at.parse::<Moment>().map_err(|why| format!("at: {why}"))?;
    if at.millis() > now.millis() + MAX_AHEAD_MS {
        return Err(format!("at: {at} lies ahead of this machine's clock ({now})"));
    }
    check_body(&line.body)?;
    Ok((conversation, Planned { author, at, body: line.body, key: String::new() }))
}

/// What the JSON parser says, without its own count of lines, which is always 1.
fn json_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    format!("{what} (column {})", error.column())
}

fn hash_of_tuple(conversation: &Name, message: &Planned) -> [u8; 32] {
    let at = message.at.to_string();
    let parts = [conversation.as_str(), message.author.as_str(), &at, &message.body];
    let mut hasher = blake3::Hasher::new_derive_key(KEY_DOMAIN);
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// People do say the same twice in a second: the occurrence keeps such messages apart.
fn key(tuple: &[u8; 32], occurrence: u64) -> String {
    let mut hasher = blake3::Hasher::new_derive_key(KEY_DOMAIN);
    hasher.update(tuple);
    hasher.update(&occurrence.to_be_bytes());
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-21T10:00:00Z";
    const AT: &str = "2018-04-10T18:49:14Z";

    fn plan(text: &str) -> Result<Plan, PlanError> {
        read(text.as_bytes(), NOW.parse().expect("a time"))
    }

    fn keys(text: &str) -> Vec<String> {
        let plan = plan(text).expect("a sound file");
        plan.conversations().values().flatten().map(|it| it.key.clone()).collect()
    }

    fn line(conversation: &str, author: &str, at: &str, body: &str) -> String {
        let line = serde_json::json!({
            "conversation": conversation, "author": author, "at": at, "body": body
        });
        format!("{line}\n")
    }

    fn hello(conversation: &str) -> String {
        line(conversation, "ann", AT, "hello")
    }

    #[test]
    fn messages_keep_the_order_of_the_file_within_their_conversation() {
        let text = [
            line("b", "ann", AT, "one"),
            line("a", "bob", AT, "two"),
            "  \n".to_owned(),
            line("b", "bob", "2018-04-10T18:49:13Z", "three"),
        ];
        let plan = plan(&text.concat()).expect("a sound file");
        let bodies = |posts: &[Planned]| posts.iter().map(|it| it.body.clone()).collect::<Vec<_>>();
        let conversations: Vec<_> =
            plan.conversations().iter().map(|(name, it)| (name.as_str(), bodies(it))).collect();
        let expected =
            [("a", vec!["two".to_owned()]), ("b", vec!["one".to_owned(), "three".to_owned()])];
        assert_eq!(conversations, expected);
        assert_eq!(plan.messages(), 3);
    }

    #[test]
    fn duplicates_are_kept_apart_and_the_same_file_gives_the_same_keys() {
        let text = hello("a") + &hello("a") + &hello("b");
        let first = keys(&text);
        let mut distinct = first.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), 3);
        assert_eq!(keys(&text), first);
    }

    #[test]
    fn keys_never_change_or_files_would_be_imported_twice() {
        assert_eq!(
            keys(&hello("a")),
            ["5ac2e9edbc7f8087c1af0cc6a71b9aeea1a0c40e413e14c2415bba08a8b52d69"]
        );
    }

    #[test]
    fn the_way_a_time_is_written_does_not_change_the_key() {
        let key_at = |at: &str| keys(&line("a", "ann", at, "hello"));
        assert_eq!(key_at(AT), key_at("2018-04-10T20:49:14.000+02:00"));
        assert_ne!(key_at(AT), key_at("2018-04-10T18:49:14.001Z"));
    }

    #[test]
    fn a_wrong_line_is_named_with_its_number_and_what_is_wrong() {
        let extra = line("a", "b", AT, "c").replace('}', ",\"reply_to\":\"d\"}");
        let large = line("a", "ann", AT, &"x".repeat(65_537));
        let cases: [(&str, &str); 11] = [
            ("{\"conversation\": \"a\"}", "missing field `author` (column 21)"),
            ("hello", "expected value"),
            ("{\"conversation\"", "EOF while parsing"),
            (&line("a/b", "ann", AT, "x"), "conversation: a name may not hold '/'"),
            (&line("..", "ann", AT, "x"), "conversation: a name may not be `.`"),
            (&line("a", "", AT, "x"), "author: a name may not be empty"),
            (&line("a", "ann", "noon", "x"), "at: `noon` is not a time"),
            (&line("a", "ann", "2026-11-21T10:02:00Z", "x"), "at: 2026-11-21T10:02:00.000Z lies"),
            (&line("a", "ann", AT, ""), "its body is empty"),
            (&large, "its body has 65537 bytes"),
            (&extra, "unknown field `reply_to`"),
        ];
        for (text, expected) in cases {
            let refused = plan(&(hello("a") + text)).expect_err(expected).to_string();
            assert!(refused.starts_with(&format!("line 2: {expected}")), "{refused}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let endless = io::repeat(b'x').take(u64::from(u32::MAX));
        let refused = read(io::BufReader::new(endless), NOW.parse().expect("a time"));
        let refused = refused.expect_err("endless").to_string();
        assert_eq!(refused, "line 1: it has more than 524288 bytes");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        let refused = read(&b"{\"body\": \"\xff\"}"[..], NOW.parse().expect("a time"));
        let refused = refused.expect_err("no text").to_string();
        assert!(refused.starts_with("line 1: it is not UTF-8"), "{refused}");
    }
}
