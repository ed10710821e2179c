//! What clients ask for, and when they may be answered.
//!
//! Invariant: an answer waits for the fsync of everything it rests on, and says no more regions
//! than have said that they hold the post durably.

use std::collections::BTreeMap;

use warbler_store::id::{ConversationId, Front, Millis};
use warbler_store::name::Name;
use warbler_store::overlay::Ticket;
use warbler_store::replica::{
    Actor, CommandError, NewMessage, Operated, Operation, Posted, Replica,
};
use warbler_store::vector::VersionVector;

use super::{Now, Output, Replicator};

/// Names a command, by its driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// In how many regions a post is to be durable before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durability {
    /// So many regions, this one included.
    pub regions: usize,
    /// How long to wait for them, in milliseconds from now.
    pub wait: Millis,
}

impl Default for Durability {
    fn default() -> Self {
        Self { regions: 1, wait: 0 }
    }
}

/// What a client asks for.
#[derive(Debug, Clone)]
pub enum Command {
    /// Create a conversation.
    Create {
        /// Its name.
        name: Name,
    },
    /// Post a message.
    Post {
        /// The message.
        message: NewMessage,
        /// How safe it is to be.
        durability: Durability,
    },
    /// Do something in a conversation.
    Operate {
        /// Who asks.
        actor: Actor,
        /// Where.
        conversation: Name,
        /// What.
        operation: Operation,
        /// How safe it is to be.
        durability: Durability,
    },
    /// Change settings of a conversation: all, or none where one is refused.
    OperateAll {
        /// Who asks.
        actor: Actor,
        /// Where.
        conversation: Name,
        /// What, in this order; settings only.
        operations: Vec<Operation>,
        /// How safe it is to be.
        durability: Durability,
    },
    /// Erase an author's words everywhere.
    EraseAuthor {
        /// Who asks.
        actor: Actor,
        /// Whose words.
        author: Name,
        /// Up to when; now if none.
        up_to: Option<Front>,
        /// How safe it is to be.
        durability: Durability,
    },
    /// Let messages of a conversation expire up to a place in time.
    Expire {
        /// The conversation.
        conversation: ConversationId,
        /// Up to here.
        up_to: Front,
    },
}

/// In which regions a post is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// So many were asked for.
    pub asked: usize,
    /// The regions, this one first.
    pub regions: Vec<Name>,
}

/// What became of a command.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The conversation is there.
    Created {
        /// Its id.
        id: ConversationId,
        /// Whether it is new.
        new: bool,
        /// What the node held when it answered.
        vector: VersionVector,
    },
    /// The message is kept; `reached` says how safe.
    Posted {
        /// The message.
        posted: Posted,
        /// In which regions it is durable by now.
        reached: Reached,
        /// What the node held when it answered.
        vector: VersionVector,
    },
    /// It is done; `reached` says how safe.
    Operated {
        /// Whether there was anything to do.
        operated: Operated,
        /// In which regions it is durable by now.
        reached: Reached,
        /// What the node held when it answered.
        vector: VersionVector,
    },
    /// It was refused, and nothing was changed.
    Refused(CommandError),
}

/// What an answer will say, and from when on.
enum Answer {
    Created { id: ConversationId, new: bool },
    Posted { posted: Posted, asked: usize, give_up: Millis },
    Operated { operated: Operated, asked: usize, give_up: Millis },
    Refused(CommandError),
}

impl Answer {
    /// How many regions are waited for, and until when.
    fn waits(&self) -> Option<(usize, Millis)> {
        match self {
            Self::Posted { asked, give_up, .. } | Self::Operated { asked, give_up, .. } => {
                Some((*asked, *give_up))
            }
            Self::Created { .. } | Self::Refused(_) => None,
        }
    }

    /// Whether what was asked for had been done before, maybe by another region.
    fn was_done_before(&self) -> bool {
        match self {
            Self::Posted { posted, .. } => posted.retried,
            Self::Operated { operated, .. } => *operated == Operated::Unchanged,
            Self::Created { .. } | Self::Refused(_) => false,
        }
    }
}

struct Asked {
    answer: Answer,
    /// What the answer rests on, once it is durable here.
    rests: Option<Rests>,
}

/// What another region must hold for the post to be durable there.
enum Rests {
    /// Our log up to this seq: the post was made here.
    Own(u64),
    /// All this: the post was a retry, and which origin's log holds it is not known.
    All(VersionVector),
}

/// The commands that are not answered yet, by the ticket that must be durable first.
#[derive(Default)]
pub(super) struct Commands {
    asked: BTreeMap<(Ticket, CommandId), Asked>,
}

impl Commands {
    /// When the first command that waits for other regions gives up.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        let give_up = |asked: &Asked| {
            asked.rests.as_ref()?;
            asked.answer.waits().map(|(_, give_up)| give_up)
        };
        self.asked.values().filter_map(give_up).min()
    }
}

impl Replicator {
    pub(super) fn on_command(&mut self, now: Now, id: CommandId, command: Command) {
        let answer = match command {
            Command::Create { name } => match self.replica.create_conversation(&name) {
                Ok((id, new)) => Answer::Created { id, new },
                Err(error) => return self.fail(error),
            },
            Command::Post { message, durability } => match self.replica.post(now.wall, message) {
                Ok(posted) => Answer::Posted {
                    posted,
                    asked: durability.regions,
                    give_up: now.elapsed.saturating_add(durability.wait),
                },
                Err(CommandError::Replica(error)) => return self.fail(error),
                Err(refused) => Answer::Refused(refused),
            },
            Command::Operate { actor, conversation, operation, durability } => {
                let done = self.replica.operate(now.wall, &actor, &conversation, operation);
                match self.operated(now, done, durability) {
                    Some(answer) => answer,
                    None => return,
                }
            }
            Command::OperateAll { actor, conversation, operations, durability } => {
                let done = self.replica.operate_all(&actor, &conversation, operations);
                match self.operated(now, done, durability) {
                    Some(answer) => answer,
                    None => return,
                }
            }
            Command::EraseAuthor { actor, author, up_to, durability } => {
                let done = self.replica.erase_author(now.wall, &actor, author, up_to);
                match self.operated(now, done, durability) {
                    Some(answer) => answer,
                    None => return,
                }
            }
            Command::Expire { conversation, up_to } => {
                let done = self.replica.expire(now.wall, conversation, up_to);
                match self.operated(now, done, Durability::default()) {
                    Some(answer) => answer,
                    None => return,
                }
            }
        };
        let barrier = self.replica.barrier();
        self.commands.asked.insert((barrier, id), Asked { answer, rests: None });
        if barrier <= self.replica.last_written() {
            self.answer_commands(now);
        }
    }

    /// The answer to an operation; `None` if the replica cannot go on.
    fn operated(
        &mut self,
        now: Now,
        done: Result<Operated, CommandError>,
        durability: Durability,
    ) -> Option<Answer> {
        match done {
            Ok(operated) => {
                let give_up = now.elapsed.saturating_add(durability.wait);
                Some(Answer::Operated { operated, asked: durability.regions, give_up })
            }
            Err(CommandError::Replica(error)) => {
                self.fail(error);
                None
            }
            Err(refused) => Some(Answer::Refused(refused)),
        }
    }

    /// Answers what can be answered by now.
    pub(super) fn answer_commands(&mut self, now: Now) {
        let written = self.replica.last_written();
        let own = self.replica.writer().origin;
        let held = &self.replica.durable().vector;
        let mut ready = Vec::new();
        let durable = (0, CommandId(0))..(written + 1, CommandId(0));
        for (key, asked) in self.commands.asked.range_mut(durable) {
            let Asked { answer, rests } = asked;
            let rests = rests.get_or_insert_with(|| match answer.was_done_before() {
                true => Rests::All(held.clone()),
                false => Rests::Own(held.get(own)),
            });
            let complete = answer.waits().is_none_or(|(asked, give_up)| {
                asked <= 1
                    || give_up <= now.elapsed
                    || reached(&self.replica, &self.roster, &self.sessions, rests).len() >= asked
            });
            if complete {
                ready.push(*key);
            }
        }
        for key in ready {
            if let Some(asked) = self.commands.asked.remove(&key) {
                self.answer(key.1, asked);
            }
        }
    }

    fn answer(&mut self, command: CommandId, asked: Asked) {
        let vector = self.replica.durable().vector.clone();
        let rests = asked.rests.unwrap_or_else(|| Rests::All(vector.clone()));
        let outcome = match asked.answer {
            Answer::Created { id, new } => Outcome::Created { id, new, vector },
            Answer::Posted { posted, asked, .. } => {
                let regions = reached(&self.replica, &self.roster, &self.sessions, &rests);
                Outcome::Posted { posted, reached: Reached { asked, regions }, vector }
            }
            Answer::Operated { operated, asked, .. } => {
                let regions = reached(&self.replica, &self.roster, &self.sessions, &rests);
                Outcome::Operated { operated, reached: Reached { asked, regions }, vector }
            }
            Answer::Refused(error) => Outcome::Refused(error),
        };
        self.outputs.push_back(Output::Answer { command, outcome });
    }
}

/// The regions that hold what an answer rests on durably, this one first.
fn reached(
    replica: &Replica,
    roster: &super::Roster,
    sessions: &BTreeMap<warbler_store::id::NodeId, crate::session::Session>,
    rests: &Rests,
) -> Vec<Name> {
    let own = replica.writer().origin;
    let mut regions = vec![replica.writer().region.clone()];
    for (peer, session) in sessions {
        let holds = match rests {
            Rests::Own(seq) => session.holds.get(own) >= *seq,
            Rests::All(vector) => session.holds.covers(vector),
        };
        if let Some(region) = roster.nodes.get(peer).filter(|_| holds)
            && !regions.contains(region)
        {
            regions.push(region.clone());
        }
    }
    regions
}
