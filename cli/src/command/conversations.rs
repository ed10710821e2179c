//! `warbler conversations`: list, create, show and change them.
//!
//! Invariant: a listing ends, whatever cursors the node gives.

use clap::Subcommand;
use warbler_store::name::Name;

use self::settings::{Access, Role, Setting, member};
use crate::failure::Failure;
use crate::options::{Format, NodeOptions, SpaceOption};
use crate::output::{json, line, one_line};
use warbler_client::Space;
use warbler_client::{Conversation, NewConversation};

mod settings;

/// How wide the column of names gets at most, characters.
const NAME_WIDTH_MAX: usize = 40;

/// Arguments of `warbler conversations`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    shared: Shared,
}

#[derive(Debug, clap::Args)]
struct Shared {
    #[command(flatten)]
    space: SpaceOption,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all conversations of the space (the default)
    List {
        #[command(flatten)]
        shared: Shared,
    },
    /// Create a conversation; one that exists is left as it is
    Create {
        /// Its name, which never changes
        name: Name,
        /// Who may read and write [default: open]
        #[arg(long)]
        access: Option<Access>,
        /// Who owns it
        #[arg(long, value_name = "USER")]
        owner: Option<Name>,
        /// Who else is a member; may be given again, and takes an owner
        #[arg(long, value_name = "USER=ROLE", value_parser = member, requires = "owner")]
        member: Vec<(Name, Role)>,
        #[command(flatten)]
        shared: Shared,
    },
    #[command(flatten)]
    Change(Setting),
    /// Show one conversation
    Show {
        /// Its name
        name: Name,
        #[command(flatten)]
        shared: Shared,
    },
}

/// Lists, creates or shows.
///
/// # Errors
/// When the node refuses or cannot be reached.
pub(crate) async fn run(node: &NodeOptions, args: Args) -> Result<(), Failure> {
    match args.action.unwrap_or(Action::List { shared: args.shared }) {
        Action::List { shared } => {
            let space = node.space(&shared.space).await?;
            list(&space, shared.format.json).await
        }
        Action::Change(setting) => settings::run(node, setting).await,
        Action::Create { name, access, owner, member, shared } => {
            let begins = NewConversation {
                name: name.as_str(),
                access: access.map(Access::word),
                owner: owner.as_ref().map(Name::as_str),
                members: member
                    .iter()
                    .map(|(user, role)| (user.to_string(), role.word().to_owned()))
                    .collect(),
            };
            let space = node.space(&shared.space).await?;
            let (conversation, new) = space.create_as(&begins).await?;
            if shared.format.json {
                return json(&conversation);
            }
            let done = if new { "created" } else { "existed already" };
            let (name, id) = (one_line(&conversation.name), one_line(&conversation.id));
            line(format_args!("{name} {done} ({id})"))
        }
        Action::Show { name, shared } => {
            let conversation = node.space(&shared.space).await?.conversation(name.as_str()).await?;
            if shared.format.json { json(&conversation) } else { line(description(&conversation)) }
        }
    }
}

async fn list(space: &Space, as_json: bool) -> Result<(), Failure> {
    let mut after: Option<String> = None;
    loop {
        let page = space.conversations(after.as_deref()).await?;
        if as_json {
            page.conversations.iter().try_for_each(json)?;
        } else if !page.conversations.is_empty() {
            line(table(&page.conversations, after.is_none()))?;
        }
        match page.after {
            // A cursor that does not move would never end.
            Some(next) if after.as_ref() != Some(&next) => after = Some(next),
            Some(_) | None => return Ok(()),
        }
    }
}

/// One page of the list, with a heading if it is the first.
fn table(conversations: &[Conversation], first: bool) -> String {
    let names: Vec<String> = conversations.iter().map(|it| one_line(&it.name)).collect();
    let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let width = widest.clamp("CONVERSATION".len(), NAME_WIDTH_MAX);
    let mut lines = Vec::new();
    if first {
        lines.push(format!("{:width$}  {:>10}  LAST MESSAGE", "CONVERSATION", "MESSAGES"));
    }
    for (name, conversation) in names.iter().zip(conversations) {
        let last = conversation.last_at.as_deref().map_or_else(|| "-".to_owned(), one_line);
        lines.push(format!("{name:width$}  {:>10}  {last}", conversation.messages));
    }
    lines.join("\n")
}

fn description(conversation: &Conversation) -> String {
    let last = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), one_line);
    let mut lines = vec![
        format!("conversation  {}", one_line(&conversation.name)),
        format!("id            {}", one_line(&conversation.id)),
        format!("messages      {}", conversation.messages),
        format!("last message  {}", last(&conversation.last_message)),
        format!("last at       {}", last(&conversation.last_at)),
    ];
    let texts = [
        ("access", &conversation.access),
        ("title", &conversation.title),
        ("topic", &conversation.topic),
    ];
    let given = texts.into_iter().filter_map(|(what, text)| Some((what, text.as_deref()?)));
    lines.extend(given.map(|(what, text)| format!("{what:12}  {}", one_line(text))));
    if let Some(millis) = conversation.retention_ms {
        lines.push(format!("retention     {}", span(millis)));
    }
    lines.extend(conversation.pins.iter().map(|id| format!("pinned        {}", one_line(id))));
    let members = conversation.members.iter().flatten();
    lines.extend(members.map(|(user, role)| format!("{:12}  {}", one_line(role), one_line(user))));
    if conversation.damaged {
        lines.push("damaged       entries about it could not be applied here".to_owned());
    }
    lines.join("\n")
}

/// A span of time in the greatest unit that fits.
fn span(millis: u64) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let fits = units.into_iter().find(|(_, unit)| millis.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{millis}ms"), |(name, unit)| format!("{}{name}", millis / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_aligned_and_an_empty_conversation_has_no_last_message() {
        let conversation = |name: &str, messages, last: Option<&str>| Conversation {
            name: name.to_owned(),
            id: "00".repeat(16),
            messages,
            last_message: None,
            last_at: last.map(str::to_owned),
            ..Conversation::default()
        };
        let page = [
            conversation("general", 12, Some("2026-11-21T10:00:00.000Z")),
            conversation("größe", 0, None),
        ];
        assert_eq!(
            table(&page, true),
            "CONVERSATION    MESSAGES  LAST MESSAGE\n\
             general               12  2026-11-21T10:00:00.000Z\n\
             größe                  0  -"
        );
    }
}
