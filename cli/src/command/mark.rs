//! `warbler mark`: a user has read a conversation, up to a message.
//!
//! Without a message it marks the newest one that the node shows.

use warbler_store::id::MessageId;
use warbler_store::name::Name;

use super::write::{Write, tell};
use crate::failure::Failure;
use crate::options::NodeOptions;
use warbler_client::PageAt;

/// Arguments of `warbler mark`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The conversation
    conversation: Name,
    /// The last message that was read [default: the newest]
    id: Option<MessageId>,
    #[command(flatten)]
    write: Write,
}

/// Moves the marker; it never moves back.
///
/// # Errors
/// When the node refuses or cannot be reached, or there is nothing to mark.
pub(crate) async fn run(node: &NodeOptions, args: Args) -> Result<(), Failure> {
    let Args { conversation, id, write } = args;
    let (user, wait) = (write.who.user()?, write.safety.wait());
    let space = node.space(&write.space).await?;
    let id = match id {
        Some(id) => id.to_string(),
        None => {
            let newest = space.page(conversation.as_str(), &PageAt::End, 1).await?.messages.pop();
            let newest = newest.ok_or_else(|| Failure::refused("there is no message to mark"))?;
            newest.id
        }
    };
    let done = space.mark(conversation.as_str(), &id, user.as_str(), &wait).await?;
    tell(write.format, &done, "marked as read")
}
