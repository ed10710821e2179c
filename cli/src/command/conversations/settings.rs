//! `warbler conversations members|title|topic|access|retention|pin`: what may be changed of one.
//!
//! Invariant: a command that changes something names it; one that changes nothing only shows.

use clap::{Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use warbler_node::config::parse_span;
use warbler_store::id::MessageId;
use warbler_store::name::Name;

use super::description;
use crate::command::write::{Write, not_durable};
use crate::failure::Failure;
use crate::options::NodeOptions;
use crate::output::{self, one_line};
use warbler_client::Conversation;

/// What retention is called where there is none.
const NEVER: &str = "never";

#[derive(Debug, Subcommand)]
pub(super) enum Setting {
    /// List members with their roles, or change them
    Members {
        /// The conversation
        name: Name,
        /// Give a user a role: reader, member, admin or owner; may be given again
        #[arg(long, value_name = "USER=ROLE", value_parser = member)]
        set: Vec<(Name, Role)>,
        /// Remove a user; may be given again
        #[arg(long, value_name = "USER")]
        remove: Vec<Name>,
        #[command(flatten)]
        write: Write,
    },
    /// Set the title, or take it away
    Title {
        #[command(flatten)]
        text: Text,
    },
    /// Set the topic, or take it away
    Topic {
        #[command(flatten)]
        text: Text,
    },
    /// Say who may read and write
    Access {
        /// The conversation
        name: Name,
        /// Everybody in the space, or members as their roles say
        access: Access,
        #[command(flatten)]
        write: Write,
    },
    /// Say after what time messages expire
    Retention {
        /// The conversation
        name: Name,
        /// A span of time such as 30d, or never
        #[arg(value_parser = retention, value_name = "SPAN")]
        retention: Retention,
        #[command(flatten)]
        write: Write,
    },
    /// Pin a message, or take the pin away
    Pin {
        /// The conversation
        name: Name,
        /// The message
        id: MessageId,
        /// Take the pin away
        #[arg(long)]
        remove: bool,
        #[command(flatten)]
        write: Write,
    },
}

/// A title or a topic.
#[derive(Debug, clap::Args)]
pub(super) struct Text {
    /// The conversation
    name: Name,
    /// The text
    #[arg(required_unless_present = "clear", conflicts_with = "clear")]
    text: Option<String>,
    /// Take it away
    #[arg(long)]
    clear: bool,
    #[command(flatten)]
    write: Write,
}

/// Who may read and write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Access {
    /// Everybody in the space
    Open,
    /// Members, as their roles say
    Members,
}

impl Access {
    /// As the interface writes it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Members => "members",
        }
    }
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    Reader,
    Member,
    Admin,
    Owner,
}

impl Role {
    /// As the interface writes it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

/// After how many milliseconds messages expire, if they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retention(Option<u64>);

/// A user with a role.
pub(super) fn member(text: &str) -> Result<(Name, Role), String> {
    let (user, role) = text.split_once('=').ok_or("USER=ROLE is expected, such as bob=member")?;
    let user: Name =
        user.parse().map_err(|error: warbler_store::name::InvalidName| error.to_string())?;
    let role = Role::from_str(role, false)
        .map_err(|_| format!("`{role}` is no role: reader, member, admin or owner is expected"))?;
    Ok((user, role))
}

fn retention(text: &str) -> Result<Retention, String> {
    if text == NEVER {
        return Ok(Retention(None));
    }
    let span = parse_span(text).map_err(|why| format!("{why}, or `{NEVER}`"))?;
    Ok(Retention(Some(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))))
}

/// Changes or shows a setting.
///
/// # Errors
/// When the node refuses or cannot be reached, or the durability was not reached in time.
pub(super) async fn run(node: &NodeOptions, setting: Setting) -> Result<(), Failure> {
    match setting {
        Setting::Members { name, set, remove, write } if set.is_empty() && remove.is_empty() => {
            let shown = node.space(&write.space).await?.conversation(name.as_str()).await?;
            tell_members(&shown, write.format.json)
        }
        Setting::Members { name, set, remove, write } => {
            let set = set.into_iter().map(|(user, role)| (user.to_string(), json!(role.word())));
            let removed = remove.into_iter().map(|user| (user.to_string(), Value::Null));
            let members: Map<String, Value> = set.chain(removed).collect();
            let changed = change(node, &name, json!({"members": members}), &write).await?;
            tell_members(&changed, write.format.json)?;
            check(&changed)
        }
        Setting::Title { text } => text.set(node, "title").await,
        Setting::Topic { text } => text.set(node, "topic").await,
        Setting::Access { name, access, write } => {
            tell(node, &name, json!({"access": access.word()}), &write).await
        }
        Setting::Retention { name, retention, write } => {
            tell(node, &name, json!({"retention_ms": retention.0}), &write).await
        }
        Setting::Pin { name, id, remove, write } => {
            let pins: Map<String, Value> = [(id.to_string(), json!(!remove))].into_iter().collect();
            tell(node, &name, json!({"pins": pins}), &write).await
        }
    }
}

impl Text {
    async fn set(self, node: &NodeOptions, field: &str) -> Result<(), Failure> {
        let Self { name, text, clear: _, write } = self;
        tell(node, &name, json!({field: text}), &write).await
    }
}

async fn change(
    node: &NodeOptions,
    name: &Name,
    mut change: Value,
    write: &Write,
) -> Result<Conversation, Failure> {
    change["as"] = json!(write.who.user()?.as_str());
    let space = node.space(&write.space).await?;
    Ok(space.change(name.as_str(), &change, &write.safety.wait()).await?)
}

/// Changes a setting and shows the conversation as it is then.
async fn tell(
    node: &NodeOptions,
    name: &Name,
    setting: Value,
    write: &Write,
) -> Result<(), Failure> {
    let changed = change(node, name, setting, write).await?;
    if write.format.json {
        output::json(&changed)?;
    } else {
        output::line(description(&changed))?;
    }
    check(&changed)
}

fn tell_members(conversation: &Conversation, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return output::json(conversation);
    }
    let members = conversation.members.iter().flatten();
    let mut lines =
        members.map(|(user, role)| format!("{}  {}", one_line(user), one_line(role))).peekable();
    if lines.peek().is_none() {
        return output::line("no members");
    }
    lines.try_for_each(output::line)
}

fn check(changed: &Conversation) -> Result<(), Failure> {
    match &changed.durability {
        Some(durability) if durability.reached < durability.asked => {
            Err(not_durable("it is done", durability))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_a_user_with_a_role() {
        let (user, role) = member("bob=admin").expect("a member");
        assert_eq!((user.as_str(), role), ("bob", Role::Admin));
        for bad in ["bob", "bob=king", "=member", "a/b=member"] {
            assert!(member(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn messages_are_kept_for_a_span_or_for_ever() {
        assert_eq!(retention("30d"), Ok(Retention(Some(2_592_000_000))));
        assert_eq!(retention("never"), Ok(Retention(None)));
        assert!(retention("soon").expect_err("no span").contains("or `never`"));
    }
}
