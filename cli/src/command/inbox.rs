//! `warbler inbox`: the conversations a user is a member of, with what is unread.
//!
//! Invariant: a listing ends, whatever cursors the node gives.

use warbler_store::name::Name;

use super::read::words;
use super::write::As;
use crate::failure::Failure;
use crate::options::{Format, NodeOptions, SpaceOption};
use crate::output::{json, line, one_line};
use warbler_client::InboxConversation;

/// How much is shown of the last message, characters.
const LAST_WIDTH: usize = 60;

/// Arguments of `warbler inbox`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    who: As,
    #[command(flatten)]
    space: SpaceOption,
    #[command(flatten)]
    format: Format,
}

/// Prints the inbox, the conversation with the latest message first.
///
/// # Errors
/// When the node refuses or cannot be reached.
pub(crate) async fn run(node: &NodeOptions, args: Args) -> Result<(), Failure> {
    let user: Name = args.who.user()?;
    let space = node.space(&args.space).await?;
    let mut after: Option<String> = None;
    loop {
        let page = space.inbox(user.as_str(), after.as_deref()).await?;
        if args.format.json {
            page.conversations.iter().try_for_each(json)?;
        } else {
            page.conversations.iter().try_for_each(|one| line(shown(one)))?;
        }
        match page.after {
            // A cursor that does not move would never end.
            Some(next) if after.as_ref() != Some(&next) => after = Some(next),
            Some(_) | None => return Ok(()),
        }
    }
}

fn shown(one: &InboxConversation) -> String {
    let more = if one.more { "+" } else { "" };
    let late = match one.late.len() {
        0 => String::new(),
        late => format!(", {late} late"),
    };
    let last = one.last.as_ref().map_or_else(
        || "no message yet".to_owned(),
        |last| {
            let text = one_line(&format!("{}: {}", last.author, words(last)));
            let cut: String = text.chars().take(LAST_WIDTH).collect();
            if cut.len() < text.len() { format!("{cut}…") } else { cut }
        },
    );
    format!("{}  {}{more} unread{late}  {last}", one_line(&one.conversation.name), one.unread)
}
