//! People: what they post, read and try again.
//!
//! A client draws what it wants; it knows no node's inside, only what pages and answers told it.
//! Invariant: every body is unique, so that what is read tells who wrote it; a retry has the same
//! key, conversation, author and body as the post that it repeats.

use warbler_replication::replicator::CommandId;
use warbler_store::id::MessageId;
use warbler_store::name::Name;
use warbler_store::vector::VersionVector;

use crate::checkers::PostSet;
use crate::dice::Dice;

/// Operations that a run of the usual length is meant to have.
const OPERATIONS: u64 = 400;
/// Seconds that a run of the usual length has.
const USUAL_SECONDS: u64 = 20;
/// Messages that a client remembers to answer.
const MEMORY: usize = 32;
/// After so many attempts a client gives up.
pub(crate) const MOST_ATTEMPTS: u32 = 5;

/// What a client waits for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// The post, by its place in the ledger; a conversation to be created if there is none.
    pub(crate) post: Option<usize>,
    pub(crate) conversation: usize,
    /// In how many regions it is to be durable.
    pub(crate) regions: usize,
    pub(crate) attempts: u32,
    /// The command of the last attempt.
    pub(crate) command: CommandId,
}

/// What a client does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whim {
    /// Says something new.
    Say,
    /// Answers something it has read.
    Answer,
    /// Brings in something old.
    Import,
    /// Reads a conversation.
    Read,
    /// Asks what has happened since its token.
    Resume,
}

/// One person.
pub(crate) struct Client {
    pub(crate) name: Name,
    /// The node it talks to unless that does not answer.
    pub(crate) home: usize,
    /// The node it talks to now.
    pub(crate) at: usize,
    pub(crate) wish: Option<Wish>,
    /// Counts its attempts of all time.
    pub(crate) attempt: u64,
    /// Posts it has made.
    pub(crate) said: u64,
    /// What it has seen, as nodes told it.
    pub(crate) token: VersionVector,
    /// The posts that were held by the states its token stands for.
    pub(crate) covered: PostSet,
    /// Messages it has read: conversation, post, id.
    pub(crate) read: Vec<(usize, usize, MessageId)>,
}

impl Client {
    pub(crate) fn new(number: usize, home: usize) -> Self {
        Self {
            name: format!("person-{number}").parse().expect("a name"),
            home,
            at: home,
            wish: None,
            attempt: 0,
            said: 0,
            token: VersionVector::default(),
            covered: PostSet::default(),
            read: Vec::new(),
        }
    }

    /// Remembers a message to answer it later; forgets the oldest.
    pub(crate) fn remember(&mut self, conversation: usize, post: usize, id: MessageId) {
        if self.read.iter().any(|(_, known, _)| *known == post) {
            return;
        }
        if self.read.len() >= MEMORY {
            self.read.remove(0);
        }
        self.read.push((conversation, post, id));
    }

    pub(crate) fn whim(&self, dice: &mut Dice) -> Whim {
        match dice.below(100) {
            0..35 => Whim::Say,
            35..65 if self.read.is_empty() => Whim::Say,
            35..65 => Whim::Answer,
            65..71 => Whim::Import,
            71..93 => Whim::Read,
            _ => Whim::Resume,
        }
    }

    /// Words that nobody else says and that it has not said before; `long` per mille are long.
    pub(crate) fn words(&mut self, dice: &mut Dice, long: u64) -> Vec<u8> {
        self.said += 1;
        let mut words = format!("{} says its word {}", self.name, self.said).into_bytes();
        let length = if dice.chance(long) {
            dice.between(1_000, 60_000)
        } else if dice.chance(300) {
            0
        } else {
            dice.between(20, 240)
        };
        words.extend((0..length).map(|place| b'a' + (place % 26) as u8));
        words
    }
}

/// Microseconds between two whims of each of `clients`, on average, who do so many times as much
/// as usual.
pub(crate) fn pace(clients: usize, hurry: u64) -> u64 {
    USUAL_SECONDS * 1_000_000 * clients as u64 / (OPERATIONS * hurry)
}
