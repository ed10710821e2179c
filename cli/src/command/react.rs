//! `warbler react`: an emoji under a message, or taken back.

use warbler_store::id::MessageId;
use warbler_store::name::Name;

use super::write::{Write, tell};
use crate::client::conversation_name;
use crate::failure::Failure;
use crate::options::NodeOptions;

/// Arguments of `warbler react`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The conversation
    #[arg(value_parser = conversation_name)]
    conversation: Name,
    /// The message
    id: MessageId,
    /// The emoji, or a word
    #[arg(value_parser = conversation_name)]
    emoji: Name,
    /// Take it back
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    write: Write,
}

/// Sets the reaction, or takes it back.
///
/// # Errors
/// When the node refuses or cannot be reached, or the durability was not reached in time.
pub(crate) async fn run(node: &NodeOptions, args: Args) -> Result<(), Failure> {
    let Args { conversation, id, emoji, remove, write } = args;
    let (user, wait) = (write.who.user()?, write.safety.wait());
    let space = node.space(&write.space).await?;
    let done = space.react(&conversation, id, (&user, &emoji), !remove, &wait).await?;
    tell(write.format, &done, if remove { "taken back" } else { "reacted" })
}
