//! P5: nobody sees a post before everything that its author's node had seen.
//!
//! Checked with unique writes (after Bouajjani et al., "On Verifying Causal Consistency", 2017):
//! when a node accepts a post, the set of all posts visible there is its past; wherever the post
//! shows up, its past must be there. Independent of vectors, depths and `saw`. Invariant kept of
//! tokens: a node whose vector covers a token shows every post that the token stands for.

use std::collections::BTreeMap;

use warbler_store::id::{MessageId, OriginId};
use warbler_store::replica::{Applied, Sealed};

use super::{Broken, Ledger, PostSet, Promise};

/// The place in the timeline that a new post must lie behind.
pub(crate) type Floor = Option<MessageId>;

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
    /// Whether clocks are close enough for ids to follow what was seen.
    sane_clocks: bool,
}

impl Causality {
    pub(crate) fn new(nodes: usize, sane_clocks: bool) -> Self {
        Self { sights: vec![Sight::default(); nodes], pasts: BTreeMap::new(), sane_clocks }
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

    /// A batch is on the disk of `node`: readers see it as a whole.
    pub(crate) fn durable(
        &mut self,
        node: usize,
        sealed: &Sealed,
        ledger: &Ledger,
    ) -> Result<(), Broken> {
        for applied in sealed.applied.iter() {
            for message in &applied.messages {
                let post = ledger.place_of(message.id)?;
                let sight = &mut self.sights[node];
                sight.greatest = sight.greatest.max(Some(message.id));
                if !sight.readable.insert(post) {
                    let how = format!("node {node} shows {} as new a second time", message.id);
                    return Err(Broken::new(Promise::Uniqueness, how));
                }
                ledger
                    .compare(post, message)
                    .map_err(|how| Broken::new(Promise::Durability, how))?;
            }
        }
        for applied in sealed.applied.iter() {
            self.check_past(node, applied, &self.sights[node].readable, ledger)?;
        }
        Ok(())
    }

    /// What followers of `node` are shown, entry by entry.
    pub(crate) fn published(
        &mut self,
        node: usize,
        applied: &[&Applied],
        ledger: &Ledger,
    ) -> Result<(), Broken> {
        for applied in applied {
            for message in &applied.messages {
                let post = ledger.place_of(message.id)?;
                let sight = &mut self.sights[node];
                sight.followed.insert(post);
                if !sight.readable.contains(post) {
                    let how = format!("node {node} shows {} before it is durable", message.id);
                    return Err(Broken::new(Promise::Durability, how));
                }
            }
            self.check_past(node, applied, &self.sights[node].followed, ledger)?;
        }
        Ok(())
    }

    /// A new run of `node` begins: followers resume with all that is on the disk.
    pub(crate) fn restarted(&mut self, node: usize) {
        let sight = &mut self.sights[node];
        sight.followed = sight.readable.clone();
    }

    /// A follower with a token that stands for `covered` resumed at `node` and was shown this.
    pub(crate) fn resumed(
        &self,
        node: usize,
        covered: &PostSet,
        applied: &[Applied],
        ledger: &Ledger,
    ) -> Result<(), Broken> {
        let mut seen = covered.clone();
        for applied in applied {
            let messages = applied.messages.iter().map(|message| message.id);
            for id in messages.chain(applied.aliases.iter().map(|(_, alias, _)| *alias)) {
                seen.insert(ledger.place_of(id)?);
            }
            self.check_past(node, applied, &seen, ledger)?;
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
        ledger: &Ledger,
    ) -> Result<(), Broken> {
        let origin = applied.origin;
        let messages = applied.messages.iter().map(|message| message.id);
        for id in messages.chain(applied.aliases.iter().map(|(_, alias, _)| *alias)) {
            let post = ledger.place_of(id)?;
            let Some(past) = self.pasts.get(&(origin, post)) else {
                return broken(format!(
                    "{id} is in the log of {origin}, which was never asked for it"
                ));
            };
            if let Some(missing) = past.first_missing_in(seen) {
                let words = &ledger.post(missing).key;
                return broken(format!(
                    "node {node} shows {id} of {origin}/{} without `{}`, which its author's node \
                     had seen",
                    applied.seq,
                    String::from_utf8_lossy(words)
                ));
            }
        }
        Ok(())
    }
}

fn broken<T>(how: String) -> Result<T, Broken> {
    Err(Broken::new(Promise::Causality, how))
}
