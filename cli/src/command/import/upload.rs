//! Posting a plan: conversations side by side, the messages of each one after another.
//!
//! Invariant: a message is sent only after the one before it in its conversation was answered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use indicatif::ProgressBar;
use warbler_store::name::Name;

use super::plan::{Plan, Planned};
use warbler_client::NewMessage;
use warbler_client::{ClientError, Space, Taken, Wait};

/// How far an upload has come, shown while it runs and told if it fails.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    bar: &'a ProgressBar,
    done: AtomicU64,
}

impl<'a> Progress<'a> {
    /// Nothing done yet.
    pub(crate) fn new(bar: &'a ProgressBar) -> Self {
        Self { bar, done: AtomicU64::new(0) }
    }

    /// How many messages the node has answered for.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    fn step(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.bar.inc(1);
    }
}

/// What an upload did.
#[derive(Debug, Default)]
pub(crate) struct Uploaded {
    /// Conversations that did not exist before.
    pub(crate) created: u64,
    /// Messages that had been posted under their keys before.
    pub(crate) already_there: u64,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
}

/// Posts the plan, `concurrency` conversations at a time.
///
/// # Errors
/// The first error of any conversation; the others stop where they are.
pub(crate) async fn run(
    space: &Space,
    plan: &Plan,
    concurrency: usize,
    progress: &Progress<'_>,
) -> Result<Uploaded, ClientError> {
    let begun = Instant::now();
    let whole = stream::iter(plan.conversations())
        .map(|(name, posts)| conversation(space, name, posts, progress))
        .buffer_unordered(concurrency)
        .try_fold(Uploaded::default(), async |sum, one| {
            Ok(Uploaded {
                created: sum.created + one.created,
                already_there: sum.already_there + one.already_there,
                elapsed: Duration::ZERO,
            })
        })
        .await?;
    Ok(Uploaded { elapsed: begun.elapsed(), ..whole })
}

async fn conversation(
    space: &Space,
    name: &Name,
    posts: &[Planned],
    progress: &Progress<'_>,
) -> Result<Uploaded, ClientError> {
    let (_, new) = space.create(name.as_str()).await?;
    let mut uploaded = Uploaded { created: u64::from(new), ..Uploaded::default() };
    let wait = Wait { durability: None, timeout: None };
    for post in posts {
        let message = NewMessage {
            body: &post.body,
            author: post.author.as_str(),
            at: Some(post.at.to_string()),
            ..NewMessage::default()
        };
        let (taken, _) = space.post(name.as_str(), &message, &post.key, &wait).await?;
        uploaded.already_there += u64::from(taken == Taken::Before);
        progress.step();
    }
    Ok(uploaded)
}
