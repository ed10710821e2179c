//! What people asked for: the truth that nodes are measured by.
//!
//! Invariant: a post is entered before any node hears of it, so a message that is not in the
//! ledger was invented by a node.

use std::collections::BTreeMap;

use warbler_store::id::{ConversationId, Identity, MessageId, SpaceId};
use warbler_store::name::Name;
use warbler_store::record::Message;
use warbler_store::replica::Placing;

use super::{Broken, Promise};

/// A post, as its author means it.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    /// Where, by the conversation's number.
    pub(crate) conversation: usize,
    pub(crate) author: Name,
    pub(crate) key: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// The post it answers, and the id under which the author has read that.
    pub(crate) answers: Option<(usize, MessageId)>,
    /// Whether it belongs to the thread of the post that it answers.
    pub(crate) threaded: bool,
    pub(crate) placing: Placing,
    /// How often it was sent to a node.
    pub(crate) attempts: u32,
    /// The words that people asked for in the place of its own.
    pub(crate) edits: Vec<Vec<u8>>,
}

/// How often a name can come to mean another conversation in a run that anybody waits for.
const INCARNATIONS: u32 = 64;

/// See the module's comment.
pub(crate) struct Ledger {
    /// The names, with the conversations that each may come to mean.
    conversations: Vec<(Name, Vec<ConversationId>)>,
    /// Whether somebody asked for the erasure of a conversation of the name, or closed it.
    upset: Vec<bool>,
    posts: Vec<Post>,
    by_tail: BTreeMap<[u8; 8], usize>,
}

impl Ledger {
    pub(crate) fn new(space: SpaceId, conversations: usize) -> Self {
        let named = |number| {
            let name: Name = format!("conversation-{number}").parse().expect("a name");
            let ids = (0..INCARNATIONS).map(|number| ConversationId::of(space, &name, number));
            let ids = ids.collect();
            (name, ids)
        };
        Self {
            conversations: (0..conversations).map(named).collect(),
            upset: vec![false; conversations],
            posts: Vec::new(),
            by_tail: BTreeMap::new(),
        }
    }

    /// The name of a conversation.
    pub(crate) fn name(&self, conversation: usize) -> &Name {
        &self.conversations[conversation].0
    }

    /// The names of all conversations that may come to be.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Name> {
        self.conversations.iter().map(|(name, _)| name)
    }

    /// The conversations that a name may come to mean.
    pub(crate) fn incarnations(&self, conversation: usize) -> &[ConversationId] {
        &self.conversations[conversation].1
    }

    /// What identities the post at `place` may have: one in each conversation of its name.
    pub(crate) fn identities(&self, place: usize) -> impl Iterator<Item = Identity> {
        let Post { conversation, author, key, .. } = &self.posts[place];
        let ids = self.conversations[*conversation].1.iter();
        ids.map(|id| Identity::of(*id, author, key))
    }

    /// Enters a post. Returns its place.
    pub(crate) fn enter(&mut self, post: Post) -> usize {
        let place = self.posts.len();
        self.posts.push(post);
        let tails: Vec<[u8; 8]> = self.identities(place).map(|identity| identity.tail()).collect();
        self.by_tail.extend(tails.into_iter().map(|tail| (tail, place)));
        place
    }

    /// Somebody asks for other words in the place of a post's.
    pub(crate) fn edited(&mut self, place: usize, words: Vec<u8>) {
        self.posts[place].edits.push(words);
    }

    /// Somebody asks for the erasure of a conversation, or for its closing.
    pub(crate) fn upset(&mut self, conversation: usize) {
        self.upset[conversation] = true;
    }

    /// Whether a node has reason to say that a conversation is not there, or closed.
    pub(crate) fn is_upset(&self, conversation: usize) -> bool {
        self.upset[conversation]
    }

    /// A post is sent to a node, again perhaps.
    pub(crate) fn attempted(&mut self, place: usize) {
        self.posts[place].attempts += 1;
    }

    /// Another key under which the same post was sent: a mutant's doing.
    pub(crate) fn forge(&mut self, place: usize, key: &[u8]) {
        let Post { conversation, author, .. } = &self.posts[place];
        let ids = &self.conversations[*conversation].1;
        let tails = ids.iter().map(|id| Identity::of(*id, author, key).tail());
        self.by_tail.extend(tails.map(|tail| (tail, place)));
    }

    /// The post at a place.
    pub(crate) fn post(&self, place: usize) -> &Post {
        &self.posts[place]
    }

    /// The post that an id belongs to.
    pub(crate) fn place_of(&self, id: MessageId) -> Result<usize, Broken> {
        self.by_tail
            .get(&id.tail())
            .copied()
            .ok_or_else(|| Broken::new(Promise::Uniqueness, format!("nobody posted message {id}")))
    }

    /// Compares a message with the post at `place`: every word must be its author's.
    pub(crate) fn compare(&self, place: usize, message: &Message) -> Result<(), String> {
        let post = self.post(place);
        let id = message.id;
        let is_theirs = match &message.state.revision {
            _ if !message.state.is_visible() => message.body.is_empty(),
            Some(_) => post.edits.contains(&message.body),
            None => message.body == post.body,
        };
        if !is_theirs {
            return Err(format!("message {id} has not the words of its author"));
        }
        let ids = &self.conversations[post.conversation].1;
        if !ids.contains(&message.conversation) {
            return Err(format!("message {id} stands in another conversation"));
        }
        let known = self.by_tail.get(&message.identity.tail()) == Some(&place);
        if message.header.author != post.author || !known {
            return Err(format!("message {id} has another author or identity"));
        }
        let answered = |identity: Identity| {
            let answers = post.answers.map(|(answered, _)| answered);
            answers.is_some_and(|post| self.by_tail.get(&identity.tail()) == Some(&post))
        };
        let (reply_to, thread) = (message.header.reply_to, message.header.thread);
        let fits = |given: Option<Identity>, due: bool| {
            given.is_some() == due && given.is_none_or(answered)
        };
        if !fits(reply_to, post.answers.is_some()) || !fits(thread, post.threaded) {
            return Err(format!("message {id} answers another message"));
        }
        match post.placing {
            Placing::At(millis) if id.front().millis != millis => {
                Err(format!("message {id} was imported at another time than {millis}"))
            }
            Placing::At(_) | Placing::Now => Ok(()),
        }
    }
}
