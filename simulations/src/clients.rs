//! People: what they post, read and try again.
//!
//! A client draws what it wants; it knows no node's inside, only what pages and answers told it.
//! Invariant: every body is unique, so that what is read tells who wrote it; a retry has the same
//! key, conversation, author and body as the post that it repeats.

use warbler_replication::replicator::CommandId;
use warbler_store::id::{ConversationId, Front, MessageId};
use warbler_store::name::Name;
use warbler_store::record::{Access, Role};
use warbler_store::replica::Operation;
use warbler_store::vector::VersionVector;

use crate::checkers::{PostSet, planted};
use crate::dice::Dice;

/// Operations that a run of the usual length is meant to have.
const OPERATIONS: u64 = 400;
/// Seconds that a run of the usual length has.
const USUAL_SECONDS: u64 = 20;
/// Messages that a client remembers to answer.
const MEMORY: usize = 32;
/// After so many attempts a client gives up.
pub(crate) const MOST_ATTEMPTS: u32 = 5;

/// Something done to what was said, or to a conversation.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    /// In a conversation; the post is the one that it is about, if it is about one.
    Operate {
        /// What.
        operation: Operation,
        /// Whether it is done in the name of who administers the space.
        admin: bool,
        /// To which post.
        post: Option<usize>,
    },
    /// The erasure of somebody's words.
    EraseAuthor {
        /// Whose.
        author: Name,
        /// Up to where.
        up_to: Option<Front>,
    },
    /// The expiry of what was said.
    Expire {
        /// In which conversation.
        id: ConversationId,
        /// Up to where.
        up_to: Front,
    },
}

/// What is asked of a node.
#[derive(Debug, Clone)]
pub(crate) enum Want {
    /// That a conversation be created.
    Create,
    /// That a post be kept, by its place in the ledger.
    Post(usize),
    /// That something be done.
    Do(Deed),
}

/// What a client waits for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) want: Want,
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
    /// Does something to what it has read.
    Do,
    /// Sets something of a conversation.
    Set,
    /// Has something forgotten.
    Forget,
}

/// One person.
pub(crate) struct Client {
    pub(crate) name: Name,
    number: u64,
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
            number: number as u64,
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

    /// What it does next; `deeds` and `forgets` per mille of what it does are to what was said.
    pub(crate) fn whim(&self, dice: &mut Dice, deeds: u64, forgets: u64) -> Whim {
        if dice.chance(forgets) {
            return Whim::Forget;
        }
        if dice.chance(deeds) {
            return if dice.chance(200) || self.read.is_empty() { Whim::Set } else { Whim::Do };
        }
        match dice.below(100) {
            0..35 => Whim::Say,
            35..65 if self.read.is_empty() => Whim::Say,
            35..65 => Whim::Answer,
            65..71 => Whim::Import,
            71..93 => Whim::Read,
            _ => Whim::Resume,
        }
    }

    /// Something to do to a message it has read.
    pub(crate) fn operation(&mut self, dice: &mut Dice, message: MessageId) -> Operation {
        match dice.below(100) {
            0..35 => Operation::Edit {
                message,
                body: self.words(dice, 4),
                content_type: warbler_store::record::ContentType::default(),
            },
            35..70 => Operation::React {
                message,
                emoji: format!("emoji-{}", dice.below(3)).parse().expect("a name"),
                on: dice.chance(600),
            },
            70..76 => Operation::Redact { message },
            76..84 => Operation::Pin { message, on: dice.chance(600) },
            _ => Operation::MarkRead { message },
        }
    }

    /// A setting to set; `people` is how many there are.
    pub(crate) fn setting(&mut self, dice: &mut Dice, people: usize) -> Operation {
        let text =
            |client: &mut Self, dice: &mut Dice| dice.chance(800).then(|| client.words(dice, 0));
        match dice.below(100) {
            0..55 => Operation::SetMember {
                user: format!("person-{}", dice.index(people)).parse().expect("a name"),
                role: match dice.below(5) {
                    0 => Some(Role::Reader),
                    1 => Some(Role::Member),
                    2 => Some(Role::Admin),
                    3 => Some(Role::Owner),
                    _ => None,
                },
            },
            55..70 => Operation::SetTitle(text(self, dice)),
            70..80 => Operation::SetTopic(text(self, dice)),
            80..90 => Operation::SetRetention(dice.chance(700).then(|| dice.below(100_000))),
            _ => {
                Operation::SetAccess(if dice.chance(250) { Access::Members } else { Access::Open })
            }
        }
    }

    /// Words that nobody else says and that it has not said before; `long` per mille are long.
    pub(crate) fn words(&mut self, dice: &mut Dice, long: u64) -> Vec<u8> {
        self.said += 1;
        let mut words = format!("{} says its word {} ", self.name, self.said).into_bytes();
        words.extend(planted(self.number * 1_000_000 + self.said));
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
