//! `warbler react`: an emoji under a message, or taken back.

use warbler_store::id::MessageId;
use warbler_store::name::Name;

use super::write::{Write, tell};
use crate::failure::Failure;
use crate::options::NodeOptions;

/// Arguments of `warbler react`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The conversation
    conversation: Name,
    /// The message
    id: MessageId,
    /// The emoji, or a word
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
    let done = space
        .react(
            conversation.as_str(),
            &id.to_string(),
            (user.as_str(), emoji.as_str()),
            !remove,
            &wait,
        )
        .await?;
    tell(write.format, &done, if remove { "taken back" } else { "reacted" })
}
