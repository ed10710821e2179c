//! What must hold, found out over HTTP as anybody could.
//!
//! Waits for regions to agree, and reads back from each of them what was acknowledged. It must not know how nodes do it.
//! Invariant: two answers with equal vector digests and unequal digests are a broken promise, whenever they are seen (P3).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, interval};
use warbler_store::name::Name;

use super::ledger::{Ledger, Tail};
use super::people::parsed;
use super::sample::Sample;
use super::screen::grouped;
use super::stage::PLACES;
use crate::failure::Failure;
use warbler_client::{Client, PAGE_MESSAGES, PageAt, Space};
use warbler_client::{Message, SpaceStatus, Status};

/// How often the regions are asked whether they agree.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// What all regions agree on.
#[derive(Clone, Debug)]
pub(super) struct Agreement {
    pub(super) digest: String,
    pub(super) messages: u64,
    pub(super) conversations: u64,
}

/// Something that was promised, and whether it holds.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Finding {
    pub(super) claim: String,
    /// How it is broken, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) broken: Option<String>,
}

/// Waits until all these nodes hold the same, by vector and by digest.
///
/// # Errors
/// When they do not in time, or hold the same and show something else.
pub(super) async fn converged(
    clients: &[Client],
    patience: Duration,
) -> Result<Agreement, Failure> {
    let deadline = Instant::now() + patience;
    let mut ask = interval(ASK_EVERY);
    let mut digests = BTreeMap::new();
    loop {
        ask.tick().await;
        let asked = futures_util::future::join_all(clients.iter().map(Client::status)).await;
        let statuses = asked.into_iter().collect::<Result<Vec<_>, _>>()?;
        for status in &statuses {
            remember(&mut digests, status)?;
        }
        if let Some(agreement) = agreement_of(&statuses) {
            return Ok(agreement);
        }
        if Instant::now() > deadline {
            return Err(apart(&statuses, patience));
        }
    }
}

/// Equal vectors, equal digests: at every moment, whoever says it.
fn remember(digests: &mut BTreeMap<String, String>, status: &Status) -> Result<(), Failure> {
    for space in &status.spaces {
        let before = digests.entry(space.vector_digest.clone());
        let before = before.or_insert_with(|| space.digest.clone());
        if *before != space.digest {
            let region = &status.node.region;
            let broken = format!("equal vectors with unequal digests in {region}");
            return Err(Failure::bug(broken).cause(format!("{before} and {}", space.digest)));
        }
    }
    Ok(())
}

fn agreement_of(statuses: &[Status]) -> Option<Agreement> {
    let mut spaces = statuses.iter().map(|status| status.spaces.first());
    let first = spaces.next()??;
    let held = |space: &SpaceStatus| (space.vector_digest.clone(), space.digest.clone());
    let agreement = Agreement {
        digest: first.digest.clone(),
        messages: first.messages,
        conversations: first.conversations,
    };
    spaces.all(|space| space.map(held) == Some(held(first))).then_some(agreement)
}

fn apart(statuses: &[Status], patience: Duration) -> Failure {
    let seconds = patience.as_secs();
    let mut failure = Failure::bug(format!("the regions do not agree after {seconds} s"));
    for status in statuses {
        for space in &status.spaces {
            failure = failure.cause(format!(
                "{} holds {} messages, vector {:.16}…, digest {:.16}…",
                status.node.region, space.messages, space.vector_digest, space.digest
            ));
        }
    }
    failure
}

/// Reads everything back from every region and compares it with what was acknowledged.
///
/// # Errors
/// When a region cannot be read. A broken promise is a finding, not an error.
pub(super) async fn all(
    spaces: &[Space],
    conversation: &Name,
    sample: &Sample,
    ledger: &Ledger,
) -> Result<Vec<Finding>, Failure> {
    let live = everywhere(spaces, conversation).await?;
    let posts = grouped(ledger.count());
    Ok(vec![
        Finding {
            claim: format!(
                "all {posts} acknowledged posts are in all three regions, each once, word for word"
            ),
            broken: first_fault(&live, |messages| lost_or_doubled(messages, ledger)),
        },
        Finding {
            claim: "all three regions show them in the same order".to_owned(),
            broken: different_order(&live, conversation),
        },
        imported(spaces, sample).await?,
        followed(ledger),
    ])
}

/// The real conversations are complete everywhere, in one order.
async fn imported(spaces: &[Space], sample: &Sample) -> Result<Finding, Failure> {
    let messages = grouped(sample.messages());
    let claim =
        format!("all {messages} imported messages are in all three regions, in the same order");
    let mut broken = None;
    for (name, said) in sample.conversations() {
        let said = sorted(said.iter().map(|(author, body)| (author.as_str(), body.as_str())));
        let read = everywhere(spaces, name).await?;
        let fault = first_fault(&read, |messages| {
            let read = messages.iter().map(|read| (read.author.as_str(), read.body.as_str()));
            (sorted(read) != said).then(|| format!("{name} is not what was imported"))
        });
        broken = broken.or(fault).or_else(|| different_order(&read, name));
    }
    Ok(Finding { claim, broken })
}

/// What the followers saw while it happened.
fn followed(ledger: &Ledger) -> Finding {
    let claim = "every follower saw every post, nothing twice and no answer before its question, also the one that went \
                 to another region with its token";
    let missed = ledger.unseen().map(|(region, lacking)| {
        format!("the follower of {} missed {lacking} posts", PLACES[region].region)
    });
    Finding { claim: claim.to_owned(), broken: ledger.broken().into_iter().next().or(missed) }
}

/// The fault of the first region that has one.
fn first_fault(
    regions: &[Vec<Message>],
    fault: impl Fn(&[Message]) -> Option<String>,
) -> Option<String> {
    let mut regions = PLACES.iter().zip(regions);
    regions.find_map(|(place, messages)| Some(format!("{}: {}", place.region, fault(messages)?)))
}

fn different_order(regions: &[Vec<Message>], conversation: &Name) -> Option<String> {
    let ids = |messages: &Vec<Message>| {
        messages.iter().map(|message| message.id.clone()).collect::<Vec<_>>()
    };
    let differ = regions.windows(2).any(|pair| ids(&pair[0]) != ids(&pair[1]));
    differ.then(|| format!("the timelines of {conversation} differ"))
}

/// Compares what a region shows with what was acknowledged.
fn lost_or_doubled(messages: &[Message], ledger: &Ledger) -> Option<String> {
    let posts = ledger.posts();
    let mut shown: BTreeSet<Tail> = BTreeSet::new();
    for message in messages {
        let Ok(id) = parsed(&message.id) else {
            return Some(format!("{:?} is no message id", message.id));
        };
        let Some(post) = posts.get(&id.tail()) else {
            return Some(format!("{id} was never acknowledged"));
        };
        if (post.author.as_str(), &post.body) != (message.author.as_str(), &message.body) {
            return Some(format!("{id} has other words than were posted"));
        }
        if !shown.insert(id.tail()) {
            return Some(format!("{id} is shown twice"));
        }
    }
    let lost = posts.len() - shown.len();
    (lost > 0).then(|| format!("{lost} acknowledged posts are lost"))
}

/// A whole conversation, as each region shows it.
async fn everywhere(spaces: &[Space], conversation: &Name) -> Result<Vec<Vec<Message>>, Failure> {
    let mut regions = Vec::new();
    for space in spaces {
        regions.push(whole(space, conversation).await?);
    }
    Ok(regions)
}

/// A whole conversation, oldest first.
async fn whole(space: &Space, conversation: &Name) -> Result<Vec<Message>, Failure> {
    let mut pages = Vec::new();
    let mut at = PageAt::End;
    loop {
        let page = space.page(conversation.as_str(), &at, PAGE_MESSAGES).await?;
        pages.push(page.messages);
        match page.before {
            Some(before) => at = PageAt::Before(before),
            None => return Ok(pages.into_iter().rev().flatten().collect()),
        }
    }
}

fn sorted<'a>(said: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(&'a str, &'a str)> {
    let mut said: Vec<_> = said.collect();
    said.sort_unstable();
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::ledger::{Part, Post};
    use warbler_store::id::MessageId;

    fn id(tail: u8) -> MessageId {
        let mut bytes = [0; 16];
        bytes[15] = tail;
        MessageId(bytes)
    }

    fn message(tail: u8, body: &str) -> Message {
        Message {
            id: id(tail).to_string(),
            conversation: "general".to_owned(),
            author: "user1".to_owned(),
            at: "2026-11-21T10:30:00.000Z".to_owned(),
            content_type: "text/plain".to_owned(),
            body: body.to_owned(),
            ..Message::default()
        }
    }

    fn ledger_of(tails: &[u8]) -> Ledger {
        let ledger = Ledger::new();
        for tail in tails {
            let now = Instant::now();
            let post = Post {
                author: "user1".parse().expect("a name"),
                body: format!("words {tail}"),
                home: 0,
                taken_by: 0,
                sent: now,
                acknowledged: now,
                part: Part::AllUp,
                seen: Default::default(),
            };
            ledger.acknowledged(id(*tail), post);
        }
        ledger
    }

    #[test]
    fn a_lost_a_doubled_a_changed_and_an_unknown_message_are_each_found() {
        let ledger = ledger_of(&[1, 2]);
        let (one, two) = (message(1, "words 1"), message(2, "words 2"));
        let fault = |messages: &[&Message]| {
            let messages: Vec<Message> = messages.iter().copied().cloned().collect();
            lost_or_doubled(&messages, &ledger).unwrap_or_default()
        };
        assert_eq!(fault(&[&one, &two]), "");
        assert_eq!(fault(&[&one]), "1 acknowledged posts are lost");
        assert!(fault(&[&one, &one, &two]).ends_with("is shown twice"));
        assert!(fault(&[&one, &message(2, "x")]).ends_with("other words than were posted"));
        assert!(fault(&[&one, &two, &message(3, "x")]).ends_with("never acknowledged"));
    }

    fn status(region: &str, vector_digest: &str, digest: &str) -> Status {
        let node = serde_json::json!({
            "name": "n", "id": "", "region": region, "origin": "", "started_at": "",
        });
        let space = serde_json::json!({
            "name": "main", "conversations": 1, "messages": 2, "depth": 3,
            "vector_digest": vector_digest, "digest": digest,
        });
        let status = serde_json::json!({
            "version": "0", "node": node, "spaces": [space], "peers": [], "disk_bytes": 0,
        });
        serde_json::from_value(status).expect("a status")
    }

    #[test]
    fn regions_agree_when_vector_and_digest_are_equal_everywhere() {
        let agreed = [status("a", "v1", "d1"), status("b", "v1", "d1")];
        assert_eq!(agreement_of(&agreed).expect("they agree").digest, "d1");
        assert!(agreement_of(&[status("a", "v1", "d1"), status("b", "v2", "d1")]).is_none());
    }

    #[test]
    fn equal_vectors_with_unequal_digests_are_a_broken_promise_also_at_different_times() {
        let mut digests = BTreeMap::new();
        remember(&mut digests, &status("a", "v1", "d1")).expect("first");
        remember(&mut digests, &status("b", "v2", "d2")).expect("another vector");
        let broken = remember(&mut digests, &status("b", "v1", "d9")).expect_err("P3 is broken");
        assert!(broken.to_string().contains("equal vectors with unequal digests in b"));
    }
}
