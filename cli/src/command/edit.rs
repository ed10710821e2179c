//! `warbler edit`: new words for a message of one's own.

use warbler_store::id::MessageId;
use warbler_store::name::Name;

use super::post::body;
use super::write::{Write, tell};
use crate::failure::Failure;
use crate::options::NodeOptions;
use warbler_client::EditedMessage;

/// Arguments of `warbler edit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The conversation
    conversation: Name,
    /// The message, which must be the user's own
    id: MessageId,
    /// The new words; `-` or none reads standard input, whose last line end is dropped
    text: Option<String>,
    #[command(flatten)]
    write: Write,
}

/// Edits the message.
///
/// # Errors
/// When the node refuses or cannot be reached, or the durability was not reached in time.
pub(crate) async fn run(node: &NodeOptions, args: Args) -> Result<(), Failure> {
    let Args { conversation, id, text, write } = args;
    let (author, body) = (write.who.user()?, body(text)?);
    let edited = EditedMessage { body: &body, author: author.as_str(), ..EditedMessage::default() };
    let space = node.space(&write.space).await?;
    let done =
        space.edit(conversation.as_str(), &id.to_string(), &edited, &write.safety.wait()).await?;
    tell(write.format, &done, "edited")
}
