//! The people of the demo: they write at a steady rate, read along, and go elsewhere when their region is gone.
//!
//! They are clients as anybody can be one, and know nothing of nodes but URLs. Invariant: a person who gets an error posts the
//! same words under the same key again, at the next region, until they are acknowledged.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;
use warbler_store::id::MessageId;
use warbler_store::name::Name;

use super::ledger::Ledger;
use super::sample::Sample;
use super::stage::{PLACES, Stage, others_by_distance};
use crate::failure::Failure;
use warbler_client::Space;

mod follower;
mod writer;

use follower::Follower;
pub(super) use writer::POSTS_PER_SECOND;
use writer::WRITERS;
use writer::Writer;

/// Where everybody writes.
const CONVERSATION: &str = "general";

/// The people, and what they share.
pub(super) struct People {
    shared: Arc<Shared>,
}

struct Shared {
    spaces: Vec<Space>,
    conversation: Name,
    /// Who lives where: by region.
    authors: Vec<Vec<Name>>,
    sayings: Vec<String>,
    ledger: Ledger,
}

impl People {
    /// Gathers the people, and creates their conversation in all regions at once: it is one conversation.
    ///
    /// # Errors
    /// When a region refuses.
    pub(super) async fn new(
        stage: &Stage,
        sample: &Sample,
        ledger: &Ledger,
    ) -> Result<Self, Failure> {
        let conversation: Name = CONVERSATION
            .parse()
            .map_err(|_| Failure::bug("the conversation of the demo has no valid name"))?;
        let mut authors = sample.authors().into_iter();
        let mut inhabitants = || authors.by_ref().take(WRITERS).collect();
        let authors = PLACES.iter().map(|_| inhabitants()).collect();
        let spaces = stage.spaces().to_vec();
        let create = spaces.iter().map(|space| space.create(conversation.as_str()));
        for created in futures_util::future::join_all(create).await {
            created?;
        }
        let (sayings, ledger) = (sample.sayings(), ledger.clone());
        Ok(Self { shared: Arc::new(Shared { spaces, conversation, authors, sayings, ledger }) })
    }

    pub(super) fn conversation(&self) -> &Name {
        &self.shared.conversation
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// How many people write.
    pub(super) fn count(&self) -> usize {
        self.shared.authors.iter().map(Vec::len).sum()
    }
}

/// Everybody writes until `end`. A task ends when its last post is acknowledged, or fails when one never is.
pub(super) fn write_all(people: &People, end: Instant) -> JoinSet<Result<(), Failure>> {
    let mut writers = JoinSet::new();
    for (home, authors) in people.shared.authors.iter().enumerate() {
        for seat in 0..authors.len() {
            let writer = Writer::new(Arc::clone(&people.shared), home, seat);
            writers.spawn(writer.write_until(end));
        }
    }
    writers
}

/// A follower in each region, which sees everything from now on.
///
/// # Errors
/// When a region does not let itself be followed.
pub(super) async fn follow_all(people: &People) -> Result<JoinSet<Result<(), Failure>>, Failure> {
    let mut followers = JoinSet::new();
    for (home, space) in people.shared.spaces.iter().enumerate() {
        let mut stream = space.open(&[people.shared.conversation.as_str()], None).await?;
        let token = stream.ready().await?;
        followers.spawn(Follower::new(Arc::clone(&people.shared), home, token).follow(stream));
    }
    Ok(followers)
}

/// The regions in the order in which somebody tries them: home first, then the nearest.
fn regions_from(home: usize) -> Vec<usize> {
    let mut regions = vec![home];
    regions.extend(others_by_distance(home));
    regions
}

/// An id as a node writes it.
///
/// # Errors
/// When it is none, which is a bug of the node.
pub(super) fn parsed(id: &str) -> Result<MessageId, Failure> {
    id.parse()
        .map_err(|_| Failure::bug(format!("a node gave the message id {id:?}, which is none")))
}
