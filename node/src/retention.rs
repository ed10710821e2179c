//! Retention: messages that are older than their conversation keeps them expire.
//!
//! What is cut in one region is cut in all of them, so a clock that is fast would destroy words
//! before their time. Invariant: a node lets messages expire only while its clock agrees with
//! those of a majority of the space's regions, its own included, as heard within the last minute.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use warbler_replication::replicator::{Command, Outcome};
use warbler_store::id::{ConversationId, Front, MessageId, Millis};
use warbler_store::name::Name;
use warbler_store::reader::{Range, ReadError, Reader};

use crate::node::Services;
use crate::space::{Space, SubmitError};
use crate::transport::PeerState;

/// How often it is looked for what has expired: every minute.
const EVERY: Duration = Duration::from_secs(60);
/// By how much clocks may differ and agree: 5 s, far more than a kept clock drifts, far less than
/// any retention.
const AGREEMENT_MILLIS: u64 = 5_000;
/// How long messages stay beyond their time, so that no difference of clocks that agree, nor the
/// way of a message that was said just before, makes it too short: 10 s.
const MARGIN_MILLIS: Millis = 2 * AGREEMENT_MILLIS;
/// How much longer a node waits for each node before it that is there and agrees: usually one
/// cuts for all, and the others find it done: 2 minutes.
const TURN_MILLIS: Millis = 120_000;
/// Messages that one cut takes at most: what it removes is one batch.
const MAX_CUT: usize = 1_000;
/// Cuts of one conversation in one round.
const MAX_CUTS: usize = 64;
/// Conversations listed at once.
const PAGE: usize = 1_000;

/// Why a round was cut short.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The replica does not answer.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The cut was refused.
    #[error("the cut was answered with {0}")]
    Refused(String),
}

/// Lets messages expire until it is dropped.
pub(crate) async fn run(services: Services) {
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        match expire(&services).await {
            Ok(0) => {}
            Ok(cuts) => tracing::info!(cuts, "messages have expired"),
            Err(error) => tracing::warn!(%error, "retention is tried again in a minute"),
        }
    }
}

/// One round over all spaces. Returns how many cuts were made.
///
/// # Errors
/// When the store cannot be read or the node stops.
pub async fn expire(services: &Services) -> Result<usize, RetentionError> {
    let peers = services.transport.peers();
    let mut cuts = 0;
    for space in services.spaces.values() {
        let Some(turn) = turn(services, space, &peers) else {
            tracing::debug!(space = %space.name(), "our clock agrees with no majority of regions");
            continue;
        };
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = (wall.as_millis() as Millis).saturating_sub(MARGIN_MILLIS + turn);
        let reader = space.reader().clone();
        let kept = read(move || conversations_with_retention(&reader)).await?;
        for (name, id, retention) in kept {
            cuts += cut(space, (&name, id), now.saturating_sub(retention)).await?;
        }
    }
    Ok(cuts)
}

/// How much longer this node waits than the first one would; `None` if it must not cut at all.
fn turn(services: &Services, space: &Space, peers: &[PeerState]) -> Option<Millis> {
    let own = &services.about.entry;
    let agrees = |peer: &&PeerState| {
        let ahead = peer.clock_ahead_millis.map(i64::unsigned_abs);
        space.regions().contains(&peer.region) && ahead.is_some_and(|by| by <= AGREEMENT_MILLIS)
    };
    let agreeing: Vec<&PeerState> = peers.iter().filter(agrees).collect();
    let mut regions: BTreeSet<&Name> = agreeing.iter().map(|peer| &peer.region).collect();
    regions.insert(&own.region);
    let before = agreeing.iter().filter(|peer| peer.id < own.id).count();
    is_majority(regions.len(), space.regions().len()).then_some(before as Millis * TURN_MILLIS)
}

fn is_majority(regions: usize, all: usize) -> bool {
    2 * regions > all
}

fn conversations_with_retention(
    reader: &Reader,
) -> Result<Vec<(Name, ConversationId, Millis)>, ReadError> {
    let mut kept = Vec::new();
    let mut after: Option<Name> = None;
    loop {
        let page = reader.conversations(after.as_ref(), PAGE)?;
        let Some(last) = page.last() else { return Ok(kept) };
        after = Some(last.name.clone());
        for conversation in page {
            let settings = match reader.settings(&conversation.name) {
                Ok(settings) => settings,
                // It was erased meanwhile.
                Err(ReadError::UnknownConversation(_)) => continue,
                Err(error) => return Err(error),
            };
            kept.extend(settings.retention.map(|it| (conversation.name, conversation.id, it)));
        }
    }
}

/// Cuts away what lies before `until`, a bounded number of messages at a time.
async fn cut(
    space: &Space,
    (name, conversation): (&Name, ConversationId),
    until: Millis,
) -> Result<usize, RetentionError> {
    for done in 0..MAX_CUTS {
        let (reader, named) = (space.reader().clone(), name.clone());
        let Some(up_to) = read(move || next_cut(&reader, &named, until)).await? else {
            return Ok(done);
        };
        match space.submit(Command::Expire { conversation, up_to }).await? {
            Outcome::Operated { .. } => {}
            Outcome::Refused(error) => return Err(RetentionError::Refused(error.to_string())),
            other @ (Outcome::Created { .. } | Outcome::Posted { .. }) => {
                return Err(RetentionError::Refused(format!("{other:?}")));
            }
        }
    }
    Ok(MAX_CUTS)
}

/// Up to where the next cut goes: the last of the oldest messages that lies before `until`.
fn next_cut(reader: &Reader, name: &Name, until: Millis) -> Result<Option<Front>, ReadError> {
    let oldest = match reader.page(name, Range::After(MessageId::MIN), MAX_CUT) {
        Ok(page) => page.messages,
        Err(ReadError::UnknownConversation(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let expired = oldest.iter().take_while(|message| message.id.front().millis < until);
    Ok(expired.last().map(|message| message.id.front()))
}

async fn read<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, RetentionError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(read) => Ok(read?),
        Err(error) => Err(RetentionError::Refused(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_regions_are_no_majority() {
        assert!(is_majority(1, 1) && is_majority(2, 3) && is_majority(3, 4));
        assert!(!is_majority(1, 2) && !is_majority(1, 3) && !is_majority(2, 4));
    }
}
