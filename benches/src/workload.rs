//! Messages made of words, and replicas to post them to.
//!
//! Everything is drawn from a seed, so that two runs do the same work.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use warbler_store::engine::{RocksEngine, SharedEngine};
use warbler_store::entropy::Entropy;
use warbler_store::id::{Millis, NodeId, OriginId};
use warbler_store::name::Name;
use warbler_store::record::ContentType;
use warbler_store::replica::{NewMessage, Placing, Replica, Sealed, Writer};

/// The length of a body, in bytes: a long chat message.
pub const BODY_BYTES: usize = 120;
/// The wall time of all posts.
pub const NOW: Millis = 1_750_000_000_000;
/// Memory for open documents: 256 MiB, enough for every conversation of a bench.
const DOCUMENT_CACHE_BYTES: usize = 256 << 20;

const WORDS: [&str; 40] = [
    "the", "and", "you", "that", "was", "for", "are", "with", "have", "this", "not", "but", "what",
    "all", "were", "when", "we", "there", "can", "your", "which", "said", "time", "about", "meet",
    "tomorrow", "coffee", "train", "lunch", "please", "thanks", "maybe", "sure", "river", "garden",
    "office", "window", "later", "great", "message",
];

/// Draws messages.
pub struct Workload {
    random: ChaCha8Rng,
    authors: Vec<Name>,
    conversations: Vec<Name>,
}

impl Workload {
    /// Messages in so many conversations, by twenty authors.
    ///
    /// # Errors
    /// Never: the names are valid.
    pub fn new(seed: u64, conversations: usize) -> Result<Self> {
        let names = |prefix: &str, count: usize| -> Result<Vec<Name>> {
            (0..count).map(|n| Ok(format!("{prefix}-{n:04}").parse()?)).collect()
        };
        Ok(Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            authors: names("user", 20)?,
            conversations: names("conversation", conversations)?,
        })
    }

    /// The conversations.
    #[must_use]
    pub fn conversations(&self) -> &[Name] {
        &self.conversations
    }

    /// `count` messages, each in a conversation drawn evenly.
    pub fn messages(&mut self, count: usize) -> Vec<NewMessage> {
        (0..count).map(|_| self.message(None)).collect()
    }

    /// A message, in the conversation of this index if one is given.
    pub fn message(&mut self, conversation: Option<usize>) -> NewMessage {
        let index =
            conversation.unwrap_or_else(|| self.random.random_range(0..self.conversations.len()));
        let author = self.random.random_range(0..self.authors.len());
        NewMessage {
            conversation: self.conversations[index].clone(),
            author: self.authors[author].clone(),
            body: self.body(),
            content_type: ContentType::default(),
            reply_to: None,
            thread: None,
            placing: Placing::Now,
            key: None,
        }
    }

    fn body(&mut self) -> Vec<u8> {
        let mut body = String::with_capacity(BODY_BYTES + 10);
        while body.len() < BODY_BYTES {
            body.push_str(WORDS.choose(&mut self.random).copied().unwrap_or("word"));
            body.push(' ');
        }
        body.truncate(BODY_BYTES);
        body.into_bytes()
    }
}

/// RocksDB in a directory.
///
/// # Errors
/// When it cannot be opened.
pub fn rocks(directory: &Path) -> Result<SharedEngine> {
    Ok(Arc::new(RocksEngine::open(directory)?))
}

/// A replica of the space `bench` on `engine`, as the run `origin`.
///
/// # Errors
/// When it cannot be opened.
pub fn replica(engine: SharedEngine, origin: u8) -> Result<Replica> {
    let writer = Writer {
        node: NodeId([origin; 32]),
        region: format!("region-{origin}").parse()?,
        origin: OriginId([origin; 16]),
        started: NOW,
    };
    let entropy = Entropy::from_seed([origin; 32]);
    Ok(Replica::open(engine, &"bench".parse()?, writer, entropy, DOCUMENT_CACHE_BYTES)?)
}

/// Creates the conversations of a workload, durably.
///
/// # Errors
/// When the engine fails.
pub fn create_all(replica: &mut Replica, workload: &Workload) -> Result<Arc<Sealed>> {
    for name in workload.conversations() {
        replica.create_conversation(name)?;
    }
    persist(replica)
}

/// Posts `messages` as one batch and persists it: what a node does between two fsyncs.
///
/// # Errors
/// When a message is refused or the engine fails.
pub fn post_all(replica: &mut Replica, messages: Vec<NewMessage>) -> Result<Arc<Sealed>> {
    for message in messages {
        replica.post(NOW, message)?;
    }
    persist(replica)
}

/// Seals what was taken in and makes it durable.
///
/// # Errors
/// When there is nothing to seal or the engine fails.
pub fn persist(replica: &mut Replica) -> Result<Arc<Sealed>> {
    let sealed = replica.seal()?.context("there is nothing to seal")?;
    replica.engine().persist(&sealed.batch)?;
    if replica.written(sealed.ticket).is_empty() {
        bail!("the batch of ticket {} was not taken note of", sealed.ticket);
    }
    Ok(sealed)
}
