//! `warbler redact`: a message is hidden for good; its place stays.

use warbler_store::id::MessageId;
use warbler_store::name::Name;

use super::write::{Write, tell};
use crate::failure::Failure;
use crate::options::NodeOptions;

/// Arguments of `warbler redact`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The conversation
    conversation: Name,
    /// The message
    id: MessageId,
    #[command(flatten)]
    write: Write,
}

/// Hides the message.
///
/// # Errors
/// When the node refuses or cannot be reached, or the durability was not reached in time.
pub(crate) async fn run(node: &NodeOptions, args: Args) -> Result<(), Failure> {
    let Args { conversation, id, write } = args;
    let (user, wait) = (write.who.user()?, write.safety.wait());
    let space = node.space(&write.space).await?;
    let done = space.redact(conversation.as_str(), &id.to_string(), user.as_str(), &wait).await?;
    tell(write.format, &done, "redacted")
}
