//! `warbler erase`: words are destroyed, in all regions: those of a message, of a person, or of a
//! whole conversation.
//!
//! Invariant: what is to be erased is said in full: leaving out an argument never erases more.

use std::time::Duration;

use warbler_store::id::MessageId;
use warbler_store::name::Name;

use super::write::{Write, tell};
use crate::failure::{Failure, Kind};
use crate::options::NodeOptions;
use crate::output;
use warbler_client::Space;

/// How long `--now` waits for the files: ten minutes, the most a node waits.
const SWEEP_PATIENCE: Duration = Duration::from_secs(600);

/// Arguments of `warbler erase`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").multiple(true).required(true))]
pub(crate) struct Args {
    /// The conversation of the message
    #[arg(value_name = "CONVERSATION", requires = "id", group = "what")]
    of: Option<Name>,
    /// The message whose words are destroyed
    #[arg(value_name = "ID")]
    id: Option<MessageId>,
    /// Destroy all that this user wrote in the space, also what arrives later
    #[arg(long, value_name = "USER", conflicts_with_all = ["of", "conversation"], group = "what")]
    author: Option<Name>,
    /// With --author: only up to this message
    #[arg(
        long,
        value_name = "ID",
        requires = "author",
        conflicts_with_all = ["of", "conversation"]
    )]
    up_to: Option<MessageId>,
    /// Destroy this conversation; its name may be used again
    #[arg(long, value_name = "NAME", conflicts_with = "of", group = "what")]
    conversation: Option<Name>,
    /// Wait until the bytes have left the files of this node; alone, for all that was erased before
    #[arg(long, group = "what")]
    now: bool,
    #[command(flatten)]
    write: Write,
}

/// Erases what is asked for, and waits for the files if asked to.
///
/// # Errors
/// When the node refuses or cannot be reached, the durability was not reached in time, or bytes
/// are still in files.
pub(crate) async fn run(node: &NodeOptions, args: Args) -> Result<(), Failure> {
    let space = node.space(&args.write.space).await?;
    let erased = erase(&space, &args).await;
    match &erased {
        Ok(()) if args.now => sweep(node, args.write.format.json).await,
        // It is done here, if not yet where it was asked for.
        Err(failure) if args.now && failure.kind() == Kind::NotDurable => {
            sweep(node, args.write.format.json).await?;
            erased
        }
        Ok(()) | Err(_) => erased,
    }
}

async fn erase(space: &Space, args: &Args) -> Result<(), Failure> {
    let (user, wait) = (args.write.who.user()?, args.write.safety.wait());
    let done = match (&args.of, args.id, &args.author, &args.conversation) {
        (Some(of), Some(id), _, _) => {
            space.erase(of.as_str(), &id.to_string(), user.as_str(), &wait).await?
        }
        (_, _, Some(author), _) => {
            let up_to = args.up_to.map(|id| id.to_string());
            space.erase_author(author.as_str(), up_to.as_deref(), user.as_str(), &wait).await?
        }
        (_, _, _, Some(name)) => {
            space.erase_conversation(name.as_str(), user.as_str(), &wait).await?
        }
        (_, _, None, None) => return Ok(()),
    };
    tell(args.write.format, &done, "erased")
}

/// Waits until the node's files hold nothing that was erased.
async fn sweep(node: &NodeOptions, as_json: bool) -> Result<(), Failure> {
    let swept = node.client()?.sweep(SWEEP_PATIENCE).await?;
    if as_json {
        output::json(&swept)?;
    }
    if swept.pending.is_empty() {
        return if as_json {
            Ok(())
        } else {
            output::line("the files hold nothing of it any more")
        };
    }
    Err(Failure::refused("erased bytes are still in files of the node")
        .cause(format!("spaces that are not done: {}", swept.pending.join(", ")))
        .hint("it goes on by itself: `warbler erase --now` waits for it again"))
}
