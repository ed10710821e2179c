//! What the CLI prints on standard output, and how words that people wrote are made harmless.
//!
//! Invariant: no text from a node or a file reaches the terminal with a character in it that a
//! terminal obeys: control characters, and those that reorder the text around them.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use serde::Serialize;
use warbler_client::Adopted;

use crate::failure::Failure;

/// Prints one line and flushes it, so that a reader at the other end of a pipe sees it at once.
///
/// # Errors
/// When standard output cannot be written. A closed pipe is a failure too, one that ends quietly.
pub(crate) fn line(text: impl fmt::Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(Failure::output)
}

/// Prints `value` as one line of JSON.
///
/// # Errors
/// As [`line`].
pub(crate) fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    line(json_text(value)?)
}

/// Prints a remark on standard error; a remark nobody can read is no reason to stop.
pub(crate) fn remark(text: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Says on standard error that the user goes on with less than was seen before.
pub(crate) fn tell_adopted(adopted: &Adopted) {
    let region = one_line(&adopted.region);
    let places: BTreeSet<&str> =
        adopted.missing.iter().filter_map(|missing| missing.region.as_deref()).collect();
    let of = match places.is_empty() {
        true => format!("{} origins", adopted.missing.len()),
        false => one_line(&places.into_iter().collect::<Vec<_>>().join(", ")),
    };
    let what = if adopted.lost { "is lost" } else { "has not arrived" };
    remark(format_args!(
        "{region} answers without what was seen of {of} before, which {what}; going on from what \
         it holds."
    ));
}

/// `value` as one line of JSON in which what a terminal would obey is written as `\u…`.
///
/// # Errors
/// When a value of ours cannot be written, which is a bug.
pub(crate) fn json_text<T: Serialize>(value: &T) -> Result<String, Failure> {
    let text = serde_json::to_string(value).map_err(Failure::own_json)?;
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        // Such a character can only stand inside a string, where the escape means the same.
        if is_obeyed(character) {
            let _ = write!(safe, "\\u{:04x}", u32::from(character));
        } else {
            safe.push(character);
        }
    }
    Ok(safe)
}

/// `text` on one line, with `\n`, `\u{1b}` and the like in place of what a terminal obeys.
pub(crate) fn one_line(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        push_safe(&mut safe, character);
    }
    safe
}

/// `text` with its line breaks kept, each following line set in by `indent`, so that no line of
/// a message can pass for another message.
pub(crate) fn many_lines(text: &str, indent: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => {
                safe.push('\n');
                safe.push_str(indent);
            }
            other => push_safe(&mut safe, other),
        }
    }
    safe
}

/// `text` as one word of a POSIX shell, for the commands that hints propose.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':');
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        return text.to_owned();
    }
    let quoted = format!("'{}'", text.replace('\'', r"'\''"));
    if text.starts_with('-') { format!("-- {quoted}") } else { quoted }
}

fn push_safe(safe: &mut String, character: char) {
    if is_obeyed(character) {
        safe.extend(character.escape_default());
    } else {
        safe.push(character);
    }
}

/// Whether a terminal does something at this character instead of showing it: C0, C1 and DEL,
/// line and paragraph separators, and the embeddings, overrides and isolates of the
/// bidirectional algorithm. The plain left-to-right and right-to-left marks stay.
fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_drive_the_terminal() {
        assert_eq!(one_line("\x1b[2Jgone\r\n\u{9b}31m"), r"\u{1b}[2Jgone\r\n\u{9b}31m");
        assert_eq!(one_line("abc\u{202e}cba"), r"abc\u{202e}cba");
        assert_eq!(one_line("größe 日本 🐦"), "größe 日本 🐦");
    }

    #[test]
    fn a_second_line_of_a_message_is_set_in_so_that_it_cannot_pass_for_another_message() {
        assert_eq!(many_lines("one\ntwo\x07", "    "), "one\n    two\\u{7}");
    }

    #[test]
    fn json_escapes_what_serde_leaves_and_means_the_same() {
        let body = "\u{9b}31m \u{7f} \u{202e} ok \x1b";
        let text = json_text(&body).expect("a string");
        assert!(text.is_ascii(), "{text}");
        assert_eq!(serde_json::from_str::<String>(&text).expect("JSON"), body);
    }

    #[test]
    fn a_word_for_the_shell_is_quoted_when_it_has_to_be() {
        assert_eq!(shell_word("general"), "general");
        assert_eq!(shell_word("my room"), "'my room'");
        assert_eq!(shell_word("it's; rm -rf"), r"'it'\''s; rm -rf'");
        assert_eq!(shell_word("-x"), "-- '-x'");
        assert_eq!(shell_word(""), "''");
    }
}
