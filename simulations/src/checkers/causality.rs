//! P5: nobody sees a post before everything that its author's node had seen.
//!
//! Checked with unique writes (after Bouajjani et al., "On Verifying Causal Consistency", 2017):
//! when a node accepts a post, the set of all posts visible there is its past; wherever the post
//! shows up, its past must be there. Independent of vectors, depths and `saw`. Invariant kept of
//! tokens: a node whose vector covers a token shows every post that the token stands for.

use std::collections::BTreeMap;

use warbler_store::id::{MessageId, OriginId};
use warbler_store::record::Statement;
use warbler_store::replica::{Applied, Sealed};

use super::archive::{Archive, Saying};
use super::rows::Rows;
use super::{Broken, Ledger, PostSet, Promise};

/// The place in the timeline that a new post must lie behind.
pub(crate) type Floor = Option<MessageId>;

/// What was asked for, and what was written: the truth that sights are measured by.
#[derive(Clone, Copy)]
pub(crate) struct Truth<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) archive: &'a Archive,
}

impl Truth<'_> {
    /// What an entry says in segments.
    fn sayings(&self, applied: &Applied) -> &[Saying] {
        let written = self.archive.get(applied.origin, applied.seq);
        written.filter(|written| !written.is_poisoned).map_or(&[], |written| &written.sayings)
    }

    /// The post that a record is or is about.
    fn post_of(&self, saying: &Saying) -> Result<usize, Broken> {
        self.ledger.place_of(MessageId::new(saying.rank.front, saying.message()))
    }
}

/// What is seen at one node.
#[derive(Debug, Clone, Default)]
struct Sight {
    /// By who reads pages: what is on the disk.
    readable: PostSet,
    /// By who follows: what was published, and what was there when the run began.
    followed: PostSet,
    /// The greatest id on the disk.
    greatest: Option<MessageId>,
}

/// See the module's comment.
pub(crate) struct Causality {
    sights: Vec<Sight>,
    /// What was visible where and when an origin accepted a post.
    pasts: BTreeMap<(OriginId, usize), PostSet>,
    /// What was visible where an entry was written, when it went to the disk.
    pasts_of_entries: BTreeMap<(OriginId, u64), PostSet>,
    /// Whether clocks are close enough for ids to follow what was seen.
    sane_clocks: bool,
}

impl Causality {
    pub(crate) fn new(nodes: usize, sane_clocks: bool) -> Self {
        Self {
            sights: vec![Sight::default(); nodes],
            pasts: BTreeMap::new(),
            pasts_of_entries: BTreeMap::new(),
            sane_clocks,
        }
    }

    /// What who reads at `node` sees.
    pub(crate) fn readable(&self, node: usize) -> &PostSet {
        &self.sights[node].readable
    }

    /// What who follows at `node` has seen.
    pub(crate) fn followed(&self, node: usize) -> &PostSet {
        &self.sights[node].followed
    }

    /// A run of `node` accepts a post for the first time. Returns what its id must lie behind.
    pub(crate) fn accepted(&mut self, node: usize, origin: OriginId, post: usize) -> Floor {
        let sight = &self.sights[node];
        self.pasts.entry((origin, post)).or_insert_with(|| sight.readable.clone());
        sight.greatest.filter(|_| self.sane_clocks)
    }

    /// `node` hands entries of its own to the disk: whoever sees one of them sees all that was
    /// readable there before.
    pub(crate) fn written(&mut self, node: usize, own: impl Iterator<Item = (OriginId, u64)>) {
        let past = &self.sights[node].readable;
        self.pasts_of_entries.extend(own.map(|place| (place, past.clone())));
    }

    /// A batch is on the disk of `node`: readers see it as a whole.
    pub(crate) fn durable(
        &mut self,
        node: usize,
        sealed: &Sealed,
        truth: Truth<'_>,
        rows: &Rows,
    ) -> Result<(), Broken> {
        for applied in sealed.applied.iter() {
            let sight = &mut self.sights[node];
            for saying in truth.sayings(applied) {
                if let Statement::Post(header) = &saying.statement {
                    sight.readable.insert(truth.post_of(saying)?);
                    // What was said in a conversation that is gone is not seen here.
                    let id = Some(header.id(saying.identity));
                    let id = id.filter(|_| !rows.retires(saying.conversation));
                    sight.greatest = sight.greatest.max(id);
                }
            }
            for message in &applied.messages {
                let post = truth.ledger.place_of(message.id)?;
                let compared = truth.ledger.compare(post, message);
                compared.map_err(|how| Broken::new(Promise::Durability, how))?;
            }
        }
        for applied in sealed.applied.iter() {
            self.check_past(node, applied, &self.sights[node].readable, truth)?;
        }
        Ok(())
    }

    /// What followers of `node` are shown, entry by entry. `rows` says what they must not be.
    pub(crate) fn published(
        &mut self,
        node: usize,
        applied: &[&Applied],
        truth: Truth<'_>,
        rows: &Rows,
    ) -> Result<(), Broken> {
        for applied in applied {
            let mut followed = std::mem::take(&mut self.sights[node].followed);
            let told = tell(&mut followed, applied, truth, rows);
            self.sights[node].followed = followed;
            told.or_else(|how| broken(format!("node {node} {how}")))?;
            let sight = &self.sights[node];
            for message in &applied.messages {
                let post = truth.ledger.place_of(message.id)?;
                if !sight.readable.contains(post) {
                    let how = format!("node {node} shows {} before it is durable", message.id);
                    return Err(Broken::new(Promise::Durability, how));
                }
            }
            self.check_past(node, applied, &self.sights[node].followed, truth)?;
        }
        Ok(())
    }

    /// A new run of `node` begins: followers resume with all that is on the disk.
    pub(crate) fn restarted(&mut self, node: usize) {
        let sight = &mut self.sights[node];
        sight.followed = sight.readable.clone();
    }

    /// The disk of `node` was lost: nothing is seen there any more.
    pub(crate) fn wiped(&mut self, node: usize) {
        self.sights[node] = Sight::default();
    }

    /// A follower with a token that stands for `covered` resumed at `node` and was shown this.
    pub(crate) fn resumed(
        &self,
        node: usize,
        covered: &PostSet,
        applied: &[Applied],
        truth: Truth<'_>,
        rows: &Rows,
    ) -> Result<(), Broken> {
        let mut seen = covered.clone();
        for applied in applied {
            let told = tell(&mut seen, applied, truth, rows);
            told.or_else(|how| broken(format!("node {node} {how} for who resumes")))?;
            self.check_past(node, applied, &seen, truth)?;
        }
        let readable = self.readable(node);
        match (readable.first_missing_in(&seen), seen.first_missing_in(readable)) {
            (None, None) => Ok(()),
            (Some(post), _) => broken(format!("node {node} skips post {post} for who resumes")),
            (_, Some(post)) => broken(format!("node {node} shows post {post} to who resumes only")),
        }
    }

    /// A new post got this id.
    pub(crate) fn answered(&self, id: MessageId, floor: Floor) -> Result<(), Broken> {
        match floor {
            Some(floor) if id.front() <= floor.front() && self.sane_clocks => {
                broken(format!("the new message {id} lies before {floor}, which its node had seen"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A reader at `node`, whose vector covers the reader's token, must see what that stands for.
    pub(crate) fn honours(&self, node: usize, covered: &PostSet) -> Result<(), Broken> {
        match covered.first_missing_in(&self.sights[node].readable) {
            None => Ok(()),
            Some(post) => broken(format!(
                "node {node} covers a token and lacks post {post} that it stands for"
            )),
        }
    }

    fn check_past(
        &self,
        node: usize,
        applied: &Applied,
        seen: &PostSet,
        truth: Truth<'_>,
    ) -> Result<(), Broken> {
        let Applied { origin, seq, .. } = applied;
        let lacks = |missing: usize| {
            let words = &truth.ledger.post(missing).key;
            let words = String::from_utf8_lossy(words);
            broken(format!(
                "node {node} shows entry {origin}/{seq} without `{words}`, which its author's node \
                 had seen"
            ))
        };
        let past = self.pasts_of_entries.get(&(*origin, *seq));
        if let Some(missing) = past.and_then(|past| past.first_missing_in(seen)) {
            return lacks(missing);
        }
        for saying in truth.sayings(applied) {
            let post = truth.post_of(saying)?;
            if !matches!(saying.statement, Statement::Post(_)) {
                // Something is done to a message that nobody sees yet.
                if !seen.contains(post) {
                    return lacks(post);
                }
                continue;
            }
            let Some(past) = self.pasts.get(&(*origin, post)) else {
                let id = MessageId::new(saying.rank.front, saying.identity);
                return broken(format!(
                    "{id} is in the log of {origin}, which was never asked for it"
                ));
            };
            if let Some(missing) = past.first_missing_in(seen) {
                return lacks(missing);
            }
        }
        Ok(())
    }
}

/// Takes note of the posts that followers hear of with an entry: each that it brings, unless it
/// must not be seen any more.
fn tell(
    seen: &mut PostSet,
    applied: &Applied,
    truth: Truth<'_>,
    rows: &Rows,
) -> Result<(), String> {
    let told = |error: Broken| error.to_string();
    let messages = applied.messages.iter().map(|message| message.id);
    for id in messages.chain(applied.aliases.iter().map(|(_, alias, _)| *alias)) {
        seen.insert(truth.ledger.place_of(id).map_err(told)?);
    }
    for saying in truth.sayings(applied) {
        let (Statement::Post(header), Some(words)) = (&saying.statement, saying.as_words()) else {
            continue;
        };
        let post = truth.post_of(saying).map_err(told)?;
        if seen.contains(post) {
            continue;
        }
        // The copy of a message that expired by another copy's place need not be shown.
        let first = truth.archive.front(saying.conversation, saying.identity);
        let has_expired = first.is_some_and(|front| rows.expires(saying.conversation, front));
        if !rows.covers(&words) && !has_expired {
            let id = header.id(saying.identity);
            return Err(format!("does not show {id} when it shows the entry that brings it"));
        }
        seen.insert(post);
    }
    Ok(())
}

fn broken<T>(how: String) -> Result<T, Broken> {
    Err(Broken::new(Promise::Causality, how))
}
