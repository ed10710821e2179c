//! What happened: each acknowledged post, and where and when followers saw it.
//!
//! Writers and followers write it down as it happens, and it is joined afterwards: a follower may see a post before its
//! writer has read the acknowledgement. It must not know of HTTP. Invariant: a post stands here once, under the tail of its
//! id, which all copies of it share; so a retry through another region adds nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use warbler_store::id::MessageId;
use warbler_store::name::Name;

use super::stage::PLACES;

/// The half of a message's identity that all its ids share.
pub(super) type Tail = [u8; 8];

/// Which part of the demo a post belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All regions are up.
    AllUp,
    /// One region is killed in this part.
    OneDown,
}

/// A post that was acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Post {
    pub(super) author: Name,
    pub(super) body: String,
    /// The region of its author.
    pub(super) home: usize,
    /// The region that acknowledged it.
    pub(super) taken_by: usize,
    /// When its author sent it, for the first time.
    pub(super) sent: Instant,
    /// When its author read the acknowledgement.
    pub(super) acknowledged: Instant,
    pub(super) part: Part,
    /// When the follower of each region saw it, if it followed at home then.
    pub(super) seen: [Option<Instant>; PLACES.len()],
}

/// A post that has been seen everywhere, to be shown.
pub(super) struct Glimpse {
    pub(super) author: Name,
    pub(super) body: String,
    pub(super) region: usize,
    /// How long after it was sent it was seen, by region.
    pub(super) seen: Vec<(usize, Duration)>,
}

/// Something that a follower saw.
pub(super) struct Sighting {
    pub(super) id: MessageId,
    /// The message that it answers.
    pub(super) answers: Option<MessageId>,
    /// Whether its author lives in another region.
    pub(super) foreign: bool,
    /// Whether it was seen in the follower's own region.
    pub(super) at_home: bool,
}

/// The ledger; clones write into the same one.
#[derive(Clone)]
pub(super) struct Ledger(Arc<Mutex<Pages>>);

struct Pages {
    part: Part,
    posts: BTreeMap<Tail, Post>,
    /// Tails in the order of their acknowledgement.
    order: Vec<Tail>,
    sights: [Sight; PLACES.len()],
    shown: BTreeSet<Tail>,
    broken: Vec<String>,
}

/// All that one follower has seen.
#[derive(Default)]
struct Sight {
    /// Nothing may come twice under one id.
    ids: BTreeSet<MessageId>,
    /// When it came first, if that was at home.
    tails: BTreeMap<Tail, Option<Instant>>,
    /// The last message of an author of another region.
    heard: Option<MessageId>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Pages {
            part: Part::AllUp,
            posts: BTreeMap::new(),
            order: Vec::new(),
            sights: Default::default(),
            shown: BTreeSet::new(),
            broken: Vec::new(),
        })))
    }

    /// From now on posts belong to the part in which one region is killed.
    pub(super) fn begin_outage(&self) {
        self.pages().part = Part::OneDown;
    }

    /// The part that runs.
    pub(super) fn part(&self) -> Part {
        self.pages().part
    }

    /// A post was acknowledged under this id.
    pub(super) fn acknowledged(&self, id: MessageId, post: Post) {
        let mut pages = self.pages();
        if pages.posts.insert(id.tail(), post).is_some() {
            pages.broken.push(format!("two posts were acknowledged under the id {id}"));
        }
        pages.order.push(id.tail());
    }

    /// The follower of `region` saw a message, now.
    pub(super) fn saw(&self, region: usize, sighting: &Sighting) {
        let now = Instant::now();
        let mut pages = self.pages();
        let Sighting { id, answers, foreign, at_home } = *sighting;
        let sight = &mut pages.sights[region];
        let unknown = answers.filter(|question| !sight.tails.contains_key(&question.tail()));
        let first = sight.ids.insert(id);
        sight.tails.entry(id.tail()).or_insert(at_home.then_some(now));
        if foreign {
            sight.heard = Some(id);
        }
        let follower = format!("the follower of {}", PLACES[region].region);
        if let Some(question) = unknown {
            pages.broken.push(format!("{follower} saw {id} before {question}, which it answers"));
        }
        if !first {
            pages.broken.push(format!("{follower} saw {id} twice"));
        }
    }

    /// The last message that was seen in a region of an author of another one: something to answer.
    pub(super) fn heard(&self, region: usize) -> Option<MessageId> {
        self.pages().sights[region].heard
    }

    /// How many posts are acknowledged.
    pub(super) fn count(&self) -> u64 {
        self.pages().posts.len() as u64
    }

    /// All acknowledged posts by tail, with what is known of where they were seen.
    pub(super) fn posts(&self) -> BTreeMap<Tail, Post> {
        let pages = self.pages();
        let mut posts = pages.posts.clone();
        for (tail, post) in &mut posts {
            post.seen =
                pages.sights.each_ref().map(|sight| sight.tails.get(tail).copied().flatten());
        }
        posts
    }

    /// How many posts were taken by another region than their author's, and of how many authors.
    pub(super) fn moved(&self) -> (u64, u64) {
        let pages = self.pages();
        let moved = || pages.posts.values().filter(|post| post.taken_by != post.home);
        let authors: BTreeSet<&Name> = moved().map(|post| &post.author).collect();
        (moved().count() as u64, authors.len() as u64)
    }

    /// A region whose follower has not seen some acknowledged posts, and how many.
    pub(super) fn unseen(&self) -> Option<(usize, usize)> {
        let pages = self.pages();
        pages.sights.iter().enumerate().find_map(|(region, sight)| {
            let lacks = |tail: &&Tail| !sight.tails.contains_key(*tail);
            let lacking = pages.posts.keys().filter(lacks).count();
            (lacking > 0).then_some((region, lacking))
        })
    }

    /// What followers and writers saw that must not be.
    pub(super) fn broken(&self) -> Vec<String> {
        self.pages().broken.clone()
    }

    /// The newest post of a region's people that all `living` regions have seen and that is newer than all shown before.
    pub(super) fn glimpse(&self, from: usize, living: &[usize]) -> Option<Glimpse> {
        let mut pages = self.pages();
        let fresh = pages.order.iter().rev().take_while(|tail| !pages.shown.contains(*tail));
        let (tail, glimpse) = fresh
            .filter_map(|tail| {
                Some((*tail, pages.posts.get(tail).filter(|post| post.home == from)?))
            })
            .find_map(|(tail, post)| Some((tail, pages.glimpse_of(tail, post, living)?)))?;
        pages.shown.insert(tail);
        Some(glimpse)
    }

    /// A panic elsewhere leaves no half-written page: each call is complete in itself.
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn glimpse_of(&self, tail: Tail, post: &Post, living: &[usize]) -> Option<Glimpse> {
        let elsewhere = living.iter().filter(|region| **region != post.taken_by);
        let seen = elsewhere.map(|region| {
            let at = self.sights[*region].tails.get(&tail).copied().flatten()?;
            Some((*region, at - post.sent))
        });
        Some(Glimpse {
            author: post.author.clone(),
            body: post.body.clone(),
            region: post.taken_by,
            seen: seen.collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(millis: u8, tail: u8) -> MessageId {
        let mut bytes = [0; 16];
        bytes[5] = millis;
        bytes[15] = tail;
        MessageId(bytes)
    }

    fn post(home: usize, taken_by: usize) -> Post {
        let now = Instant::now();
        Post {
            author: "user1".parse().expect("a name"),
            body: "hello".to_owned(),
            home,
            taken_by,
            sent: now,
            acknowledged: now,
            part: Part::AllUp,
            seen: [None; 3],
        }
    }

    fn saw(ledger: &Ledger, region: usize, id: MessageId, answers: Option<MessageId>) {
        ledger.saw(region, &Sighting { id, answers, foreign: true, at_home: true });
    }

    #[test]
    fn a_post_seen_before_its_acknowledgement_is_joined_with_it() {
        let ledger = Ledger::new();
        saw(&ledger, 1, id(1, 1), None);
        ledger.acknowledged(id(1, 1), post(0, 0));
        let posts = ledger.posts();
        let seen = posts[&id(1, 1).tail()].seen;
        assert_eq!(seen.map(|at| at.is_some()), [false, true, false]);
        assert_eq!(ledger.unseen(), Some((0, 1)));
        assert_eq!(ledger.heard(1), Some(id(1, 1)));
    }

    #[test]
    fn a_copy_under_another_id_counts_as_the_post_and_the_same_id_twice_is_a_fault() {
        let ledger = Ledger::new();
        saw(&ledger, 0, id(1, 1), None);
        saw(&ledger, 0, id(2, 1), None);
        assert!(ledger.broken().is_empty());
        saw(&ledger, 0, id(2, 1), None);
        assert_eq!(ledger.broken().len(), 1);
        assert!(ledger.broken()[0].contains("twice"));
    }

    #[test]
    fn an_answer_before_its_question_is_a_fault() {
        let ledger = Ledger::new();
        saw(&ledger, 0, id(1, 1), None);
        saw(&ledger, 0, id(2, 2), Some(id(1, 1)));
        assert!(ledger.broken().is_empty());
        saw(&ledger, 1, id(2, 2), Some(id(1, 1)));
        assert!(ledger.broken()[0].contains("which it answers"));
    }

    #[test]
    fn a_glimpse_is_shown_once_and_only_when_all_living_regions_have_seen_it() {
        let ledger = Ledger::new();
        ledger.acknowledged(id(1, 1), post(0, 0));
        saw(&ledger, 1, id(1, 1), None);
        assert!(ledger.glimpse(0, &[0, 1, 2]).is_none());
        let glimpse = ledger.glimpse(0, &[0, 1]).expect("it was seen in both");
        assert_eq!((glimpse.region, glimpse.seen.len()), (0, 1));
        assert!(ledger.glimpse(0, &[0, 1]).is_none());
    }

    #[test]
    fn posts_taken_elsewhere_are_counted_with_their_authors() {
        let ledger = Ledger::new();
        ledger.acknowledged(id(1, 1), post(2, 0));
        ledger.acknowledged(id(1, 2), post(2, 0));
        ledger.acknowledged(id(1, 3), post(0, 0));
        assert_eq!(ledger.moved(), (2, 1));
    }
}
