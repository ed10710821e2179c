//! What people asked for: the truth that nodes are measured by.
//!
//! Invariant: a post is entered before any node hears of it, so a message that is not in the
//! ledger was invented by a node.

use std::collections::BTreeMap;

use warbler_store::id::{ConversationId, Identity, MessageId, SpaceId};
use warbler_store::name::Name;
use warbler_store::record::Message;
use warbler_store::replica::Placing;

use super::{Broken, PostSet, Promise};

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
    pub(crate) placing: Placing,
    pub(crate) identity: Identity,
    /// How often it was sent to a node.
    pub(crate) attempts: u32,
}

/// See the module's comment.
pub(crate) struct Ledger {
    conversations: Vec<(Name, ConversationId)>,
    posts: Vec<Post>,
    by_tail: BTreeMap<[u8; 8], usize>,
    by_conversation: Vec<PostSet>,
}

impl Ledger {
    pub(crate) fn new(space: SpaceId, conversations: usize) -> Self {
        let named = |number| {
            let name: Name = format!("conversation-{number}").parse().expect("a name");
            let id = ConversationId::of(space, &name, 0);
            (name, id)
        };
        Self {
            conversations: (0..conversations).map(named).collect(),
            posts: Vec::new(),
            by_tail: BTreeMap::new(),
            by_conversation: vec![PostSet::default(); conversations],
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

    /// The identity of what `author` posts under `key`.
    pub(crate) fn identity(&self, conversation: usize, author: &Name, key: &[u8]) -> Identity {
        Identity::of(self.conversations[conversation].1, author, key)
    }

    /// Enters a post. Returns its place.
    pub(crate) fn enter(&mut self, post: Post) -> usize {
        let place = self.posts.len();
        self.by_tail.insert(post.identity.tail(), place);
        self.by_conversation[post.conversation].insert(place);
        self.posts.push(post);
        place
    }

    /// A post is sent to a node, again perhaps.
    pub(crate) fn attempted(&mut self, place: usize) {
        self.posts[place].attempts += 1;
    }

    /// Another key under which the same post was sent: a mutant's doing.
    pub(crate) fn forge(&mut self, place: usize, key: &[u8]) {
        let Post { conversation, author, .. } = &self.posts[place];
        let identity = self.identity(*conversation, author, key);
        self.by_tail.insert(identity.tail(), place);
    }

    /// The post at a place.
    pub(crate) fn post(&self, place: usize) -> &Post {
        &self.posts[place]
    }

    /// The posts of a conversation.
    pub(crate) fn posts_of(&self, conversation: usize) -> &PostSet {
        &self.by_conversation[conversation]
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
        if message.body != post.body {
            return Err(format!("message {id} has not the words of its author"));
        }
        if message.header.author != post.author || message.identity != post.identity {
            return Err(format!("message {id} has another author or identity"));
        }
        if message.conversation != self.conversations[post.conversation].1 {
            return Err(format!("message {id} stands in another conversation"));
        }
        let answers = post.answers.map(|(answered, _)| self.post(answered).identity);
        if message.header.reply_to != answers {
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
