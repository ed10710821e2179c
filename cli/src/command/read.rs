//! `warbler read`: pages of a conversation, oldest first, and what arrives from then on.
//!
//! Invariant: words that people wrote reach the terminal with nothing in them that it obeys.

use warbler_store::id::MessageId;
use warbler_store::name::Name;

use crate::failure::Failure;
use crate::options::{Format, NodeOptions, SpaceOption};
use crate::output::{self, many_lines, one_line};
use warbler_client::{Erased, Message};
use warbler_client::{PAGE_MESSAGES, PageAt, Space};

mod follow;

/// The most messages one command prints before it follows: more are read in several commands.
const MAX_MESSAGES: u64 = 10_000;
/// What stands before the second and each further line of a message.
const INDENT: &str = "    ";

/// Arguments of `warbler read`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The conversation
    conversation: Name,
    #[command(flatten)]
    space: SpaceOption,
    /// How many messages, at most
    #[arg(
        long,
        value_name = "N",
        default_value_t = 50,
        value_parser = clap::value_parser!(u64).range(..=MAX_MESSAGES)
    )]
    limit: u64,
    /// The messages just before this one
    #[arg(long, value_name = "ID", conflicts_with_all = ["after", "follow"])]
    before: Option<MessageId>,
    /// The messages just after this one
    #[arg(long, value_name = "ID", conflicts_with = "follow")]
    after: Option<MessageId>,
    /// Only the thread of this message, from its beginning
    #[arg(long, value_name = "ID", conflicts_with_all = ["before", "after", "follow"])]
    thread: Option<MessageId>,
    /// Go on with what arrives, in this node's arrival order, until interrupted
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    format: Format,
}

/// Prints the messages asked for, and follows if asked to.
///
/// # Errors
/// When there is no such conversation, or the node refuses or cannot be reached.
pub(crate) async fn run(node: &NodeOptions, args: Args) -> Result<(), Failure> {
    let space = node.space(&args.space).await?;
    let reading = Reading { space, conversation: args.conversation, format: args.format };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    if let Some(root) = args.thread {
        return reading.print_on(PageAt::Thread(root.to_string(), None), limit).await;
    }
    match (args.follow, args.after, args.before) {
        (true, _, _) => follow::run(&reading, limit).await,
        (false, Some(after), _) => reading.print_on(PageAt::After(after.to_string()), limit).await,
        (false, None, before) => {
            let from = before.map_or(PageAt::End, |id| PageAt::Before(id.to_string()));
            let messages = reading.newest(from, limit).await?;
            messages.iter().try_for_each(|message| reading.print(message))
        }
    }
}

/// What is read, and how it is printed.
struct Reading {
    space: Space,
    conversation: Name,
    format: Format,
}

impl Reading {
    /// The last `limit` messages up to `from`, oldest first. Asks at least once, so that an unknown conversation is found out.
    async fn newest(&self, mut from: PageAt, limit: usize) -> Result<Vec<Message>, Failure> {
        if limit == 0 {
            self.space.conversation(self.conversation.as_str()).await?;
        }
        let mut newest_first: Vec<Message> = Vec::new();
        while newest_first.len() < limit {
            let wanted = limit - newest_first.len();
            let page = self.space.page(self.conversation.as_str(), &from, wanted).await?;
            newest_first.extend(page.messages.into_iter().rev());
            match page.before.map(PageAt::Before) {
                // A cursor that does not move would never end.
                Some(next) if next != from => from = next,
                Some(_) | None => break,
            }
        }
        newest_first.truncate(limit);
        newest_first.reverse();
        Ok(newest_first)
    }

    /// Prints up to `limit` messages from a place on, each page as it comes.
    async fn print_on(&self, mut from: PageAt, limit: usize) -> Result<(), Failure> {
        let mut left = limit;
        while left > 0 {
            let wanted = left.min(PAGE_MESSAGES);
            let page = self.space.page(self.conversation.as_str(), &from, wanted).await?;
            for message in page.messages.iter().take(wanted) {
                self.print(message)?;
                left -= 1;
            }
            let next = page.after.map(|after| match &from {
                PageAt::Thread(root, _) => PageAt::Thread(root.clone(), Some(after)),
                PageAt::End | PageAt::Before(_) | PageAt::After(_) => PageAt::After(after),
            });
            match next {
                Some(next) if next != from => from = next,
                Some(_) | None => break,
            }
        }
        Ok(())
    }

    /// Prints a message once more, since something was done to it.
    fn print_changed(&self, message: &Message) -> Result<(), Failure> {
        if self.format.json {
            output::json(&serde_json::json!({"changed": message}))
        } else {
            output::line(format_args!("~ {}", shown(message)))
        }
    }

    /// Says what was erased.
    fn print_erased(&self, erased: &Erased) -> Result<(), Failure> {
        if self.format.json {
            output::json(&serde_json::json!({"erased": erased}))
        } else {
            output::line(format_args!("~ {}", erased_text(erased)))
        }
    }

    fn print(&self, message: &Message) -> Result<(), Failure> {
        if self.format.json { output::json(message) } else { output::line(shown(message)) }
    }
}

/// A message as people read it: id, time, author, words, and what became of it.
fn shown(message: &Message) -> String {
    let reply = message.reply_to.as_deref().map(|id| format!("(to {}) ", one_line(id)));
    format!(
        "{}  {}  {}: {}{}{}{}",
        one_line(&message.id),
        one_line(&message.at),
        one_line(&message.author),
        reply.unwrap_or_default(),
        many_lines(&words(message), INDENT),
        if message.edited.is_some() && is_visible(message) { " (edited)" } else { "" },
        reactions(message),
    )
}

/// The words of a message, or what stands in their place.
pub(crate) fn words(message: &Message) -> String {
    match &message.redacted {
        _ if message.erased => "(erased)".to_owned(),
        Some(redaction) => format!("(redacted by {})", redaction.by),
        None => message.body.clone(),
    }
}

fn is_visible(message: &Message) -> bool {
    !message.erased && message.redacted.is_none()
}

/// The reactions, each with how many people set it.
fn reactions(message: &Message) -> String {
    let one = |(emoji, people): (&String, &u64)| format!("{} {people}", one_line(emoji));
    let all: Vec<String> = message.reactions.iter().map(one).collect();
    if all.is_empty() { String::new() } else { format!("  [{}]", all.join(", ")) }
}

/// What was erased, as people read it.
fn erased_text(erased: &Erased) -> String {
    let word = |text: &Option<String>| text.as_deref().map_or_else(|| "?".to_owned(), one_line);
    match erased.what.as_str() {
        "message" => format!("{}  (erased)", word(&erased.id)),
        "author" => {
            let (author, up_to) = (word(&erased.author), word(&erased.up_to));
            format!("{up_to}  (all that {author} wrote up to here was erased)")
        }
        "expired" => format!("{}  (everything up to here has expired)", word(&erased.up_to)),
        _ => format!("{}  (the conversation was erased)", word(&erased.conversation)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_a_message_is_said_behind_its_words_or_in_their_place() {
        let message = |rest: serde_json::Value| -> Message {
            let mut whole = serde_json::json!({
                "id": "ID", "conversation": "general", "author": "ann", "at": "AT",
                "content_type": "text/plain", "body": "hello",
            });
            let rest = rest.as_object().expect("fields").clone();
            whole.as_object_mut().expect("fields").extend(rest);
            serde_json::from_value(whole).expect("a message")
        };
        let by = serde_json::json!({"by": "bob\u{9b}", "at": "AT"});
        let edited = message(serde_json::json!({"edited": by, "reactions": {"x": 1, "👍": 2}}));
        assert_eq!(shown(&edited), "ID  AT  ann: hello (edited)  [x 1, 👍 2]");
        let redacted = message(serde_json::json!({"edited": by, "redacted": by, "body": ""}));
        assert_eq!(shown(&redacted), "ID  AT  ann: (redacted by bob\\u{9b})");
        let erased = message(serde_json::json!({"redacted": by, "erased": true, "body": ""}));
        assert_eq!(shown(&erased), "ID  AT  ann: (erased)");
    }

    #[test]
    fn a_message_is_shown_with_what_it_answers_and_cannot_pass_for_two() {
        let message = Message {
            id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
            conversation: "general".to_owned(),
            author: "ann".to_owned(),
            at: "2026-11-21T10:00:00.000Z".to_owned(),
            content_type: "text/plain".to_owned(),
            body: "yes\n01BX5ZZKBKACTAV9WEVGEMMVRZ  2026-11-21T10:00:01.000Z  bob: forged\x1b[2J"
                .to_owned(),
            reply_to: Some("01BX5ZZKBKACTAV9WEVGEMMVRY".to_owned()),
            ..Message::default()
        };
        assert_eq!(
            shown(&message),
            "01ARZ3NDEKTSV4RRFFQ69G5FAV  2026-11-21T10:00:00.000Z  ann: \
             (to 01BX5ZZKBKACTAV9WEVGEMMVRY) yes\n    \
             01BX5ZZKBKACTAV9WEVGEMMVRZ  2026-11-21T10:00:01.000Z  bob: forged\\u{1b}[2J"
        );
    }
}
