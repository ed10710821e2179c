//! `warbler read`: pages of a conversation, oldest first, and what arrives from then on.
//!
//! Invariant: words that people wrote reach the terminal with nothing in them that it obeys.

use warbler_store::id::MessageId;
use warbler_store::name::Name;

use crate::client::{PAGE_MESSAGES, PageAt, Space, conversation_name};
use crate::failure::Failure;
use crate::options::{Format, NodeOptions, SpaceOption};
use crate::output::{self, many_lines, one_line};
use crate::wire::Message;

mod follow;

/// The most messages one command prints before it follows: more are read in several commands.
const MAX_MESSAGES: u64 = 10_000;
/// What stands before the second and each further line of a message.
const INDENT: &str = "    ";

/// Arguments of `warbler read`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The conversation
    #[arg(value_parser = conversation_name)]
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
    match (args.follow, args.after, args.before) {
        (true, _, _) => follow::run(&reading, limit).await,
        (false, Some(after), _) => reading.print_after(after.to_string(), limit).await,
        (false, None, before) => {
            let from = before.map_or(PageAt::End, |id| PageAt::Before(id.to_string()));
            let messages = reading.newest(from, limit, None).await?;
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
    /// The last `limit` messages up to `from`, oldest first, from a node that has at least what
    /// `session` has seen. Asks at least once, so that an unknown conversation is found out.
    async fn newest(
        &self,
        mut from: PageAt,
        limit: usize,
        session: Option<&str>,
    ) -> Result<Vec<Message>, Failure> {
        if limit == 0 {
            self.space.conversation(&self.conversation).await?;
        }
        let mut newest_first: Vec<Message> = Vec::new();
        while newest_first.len() < limit {
            let wanted = limit - newest_first.len();
            let page = self.space.page(&self.conversation, &from, wanted, session).await?;
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

    /// Prints up to `limit` messages after an id, each page as it comes.
    async fn print_after(&self, after: String, limit: usize) -> Result<(), Failure> {
        let mut from = PageAt::After(after);
        let mut left = limit;
        while left > 0 {
            let wanted = left.min(PAGE_MESSAGES);
            let page = self.space.page(&self.conversation, &from, wanted, None).await?;
            for message in page.messages.iter().take(wanted) {
                self.print(message)?;
                left -= 1;
            }
            match page.after.map(PageAt::After) {
                Some(next) if next != from => from = next,
                Some(_) | None => break,
            }
        }
        Ok(())
    }

    fn print(&self, message: &Message) -> Result<(), Failure> {
        if self.format.json { output::json(message) } else { output::line(shown(message)) }
    }
}

/// A message as people read it: id, time, author, words.
fn shown(message: &Message) -> String {
    let reply = message.reply_to.as_deref().map(|id| format!("(to {}) ", one_line(id)));
    format!(
        "{}  {}  {}: {}{}",
        one_line(&message.id),
        one_line(&message.at),
        one_line(&message.author),
        reply.unwrap_or_default(),
        many_lines(&message.body, INDENT),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
            thread: None,
        };
        assert_eq!(
            shown(&message),
            "01ARZ3NDEKTSV4RRFFQ69G5FAV  2026-11-21T10:00:00.000Z  ann: \
             (to 01BX5ZZKBKACTAV9WEVGEMMVRY) yes\n    \
             01BX5ZZKBKACTAV9WEVGEMMVRZ  2026-11-21T10:00:01.000Z  bob: forged\\u{1b}[2J"
        );
    }
}
