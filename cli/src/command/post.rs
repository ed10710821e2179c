//! `warbler post`: one message into one conversation.
//!
//! Invariant: the message goes out under an idempotency key, given or made here, so that a user
//! who is left in doubt can post it again without showing it twice.

use std::io::{self, IsTerminal as _, Read as _};

use warbler_store::id::MessageId;
use warbler_store::name::Name;

use super::write::{As, Safety, not_durable};
use crate::failure::Failure;
use crate::options::{Format, NodeOptions, SpaceOption};
use crate::output;
use crate::time::Moment;
use warbler_client::NewMessage;
use warbler_client::{Taken, random_key};

/// The greatest body, in bytes of UTF-8; the node refuses greater ones.
pub(crate) const MAX_BODY_BYTES: usize = 64 * 1024;
/// The greatest idempotency key, in bytes.
const MAX_KEY_BYTES: usize = 256;

/// Arguments of `warbler post`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The conversation, which must exist
    conversation: Name,
    /// The message; `-` or none reads standard input, whose last line end is dropped
    text: Option<String>,
    #[command(flatten)]
    who: As,
    #[command(flatten)]
    space: SpaceOption,
    /// The message this one answers
    #[arg(long, value_name = "ID")]
    reply_to: Option<MessageId>,
    /// The message whose thread this one belongs to
    #[arg(long, value_name = "ID")]
    thread: Option<MessageId>,
    #[command(flatten)]
    safety: Safety,
    /// The idempotency key: a message posted again under its key shows once [default: a random one]
    #[arg(long, value_parser = key)]
    key: Option<String>,
    /// When it was said, if not now (RFC 3339)
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
    #[command(flatten)]
    format: Format,
}

/// Posts the message and prints its id.
///
/// # Errors
/// When the message cannot be one, the node refuses or cannot be reached, or the durability was
/// not reached in time.
pub(crate) async fn run(node: &NodeOptions, args: Args) -> Result<(), Failure> {
    let author = args.who.user()?;
    let body = body(args.text)?;
    let key = args.key.map_or_else(random_key, Ok)?;
    let message = NewMessage {
        body: &body,
        author: author.as_str(),
        reply_to: args.reply_to.map(|id| id.to_string()),
        thread: args.thread.map(|id| id.to_string()),
        at: args.at.map(|moment| moment.to_string()),
        content_type: None,
    };
    let wait = args.safety.wait();
    let space = node.space(&args.space).await?;
    let (taken, receipt) = space
        .post(args.conversation.as_str(), &message, &key, &wait)
        .await
        .map_err(|error| Failure::of_post(error, &key))?;
    if args.format.json {
        output::json(&receipt)?;
    } else {
        output::line(output::one_line(&receipt.id))?;
    }
    match taken {
        Taken::Durable | Taken::Before => Ok(()),
        Taken::NotYetDurable => Err(not_durable("the message is kept", &receipt.durability)),
    }
}

/// The words given, or those of standard input.
///
/// # Errors
/// When they cannot be those of a message.
pub(crate) fn body(text: Option<String>) -> Result<String, Failure> {
    let body = match text {
        Some(text) if text != "-" => text,
        Some(_) | None => read_body(io::stdin().lock())?,
    };
    check_body(&body).map_err(|why| Failure::refused("the message cannot be posted").cause(why))?;
    Ok(body)
}

/// Why `body` cannot be the body of a message, if it cannot.
///
/// # Errors
/// When it is empty or greater than [`MAX_BODY_BYTES`].
pub(crate) fn check_body(body: &str) -> Result<(), String> {
    match body.len() {
        0 => Err("its body is empty".to_owned()),
        1..=MAX_BODY_BYTES => Ok(()),
        bytes => {
            Err(format!("its body has {bytes} bytes, and {MAX_BODY_BYTES} (64 KiB) are the most"))
        }
    }
}

fn read_body(input: io::StdinLock<'_>) -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        output::remark("Write the message; end it with Ctrl-D on a line of its own.");
    }
    // One line end more than fits, and one byte to see that there is more.
    let limit = MAX_BODY_BYTES + 3;
    let mut bytes = Vec::new();
    input.take(limit as u64).read_to_end(&mut bytes).map_err(|error| {
        Failure::refused("standard input cannot be read").cause(error.to_string())
    })?;
    let refused = |why: String| Failure::refused("the message cannot be posted").cause(why);
    if bytes.len() == limit {
        return Err(refused(format!("its body has more than {MAX_BODY_BYTES} bytes (64 KiB)")));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| refused(format!("standard input is not UTF-8: {}", error.utf8_error())))?;
    Ok(without_line_end(text))
}

fn without_line_end(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

fn key(text: &str) -> Result<String, String> {
    let visible = text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim() == text;
    if (1..=MAX_KEY_BYTES).contains(&text.len()) && visible {
        return Ok(text.to_owned());
    }
    Err(format!("1 to {MAX_KEY_BYTES} characters of visible ASCII are expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_measured_in_bytes_and_its_limit_is_named() {
        assert_eq!(check_body(&"x".repeat(MAX_BODY_BYTES)), Ok(()));
        let refused = check_body(&"ö".repeat(MAX_BODY_BYTES / 2 + 1)).expect_err("too large");
        assert_eq!(refused, "its body has 65538 bytes, and 65536 (64 KiB) are the most");
        assert!(check_body("").is_err());
    }

    #[test]
    fn only_the_last_line_end_of_standard_input_is_dropped() {
        let drop = |text: &str| without_line_end(text.to_owned());
        assert_eq!(drop("hello\n"), "hello");
        assert_eq!(drop("hello\r\n"), "hello");
        assert_eq!(drop("hello\n\n"), "hello\n");
        assert_eq!(drop("hello\r"), "hello\r");
    }

    #[test]
    fn a_key_that_a_header_cannot_carry_is_refused() {
        assert!(key("order 17/b").is_ok());
        for bad in ["", " x", "a\nb", "größe", &"k".repeat(257)] {
            assert!(key(bad).is_err(), "{bad:?}");
        }
    }
}
