//! What people do to what was said, and to conversations; and what they are answered.
//!
//! Invariant: what was said to be done is done on the disk of every node that was named.

use warbler_replication::replicator::{Command, Durability, Reached};
use warbler_store::id::{Front, MessageId};
use warbler_store::name::Name;
use warbler_store::reader::History;
use warbler_store::record::Access;
use warbler_store::replica::{Actor, Operated, Operation};

use super::people::Asked;
use super::{Step, World};
use crate::checkers::{Broken, Checkers, Promise};
use crate::clients::{Client, Deed, Want};

/// Of deeds, those done in the name of who administers the space, per mille.
const ADMIN: u64 = 500;

/// The command that asks for a deed.
pub(super) fn command_of(
    deed: &Deed,
    user: Name,
    conversation: Name,
    durability: Durability,
) -> Command {
    match deed.clone() {
        Deed::Operate { operation, admin, .. } => {
            let actor = Actor { user, admin };
            Command::Operate { actor, conversation, operation, durability }
        }
        Deed::EraseAuthor { author, up_to } => {
            let actor = Actor { user, admin: true };
            Command::EraseAuthor { actor, author, up_to, durability }
        }
        Deed::Expire { id, up_to } => Command::Expire { conversation: id, up_to },
    }
}

impl World<'_> {
    /// Does something to a message that was read.
    pub(super) fn do_something(&mut self, client: usize) {
        let Self { dice, clients, checkers, nodes, .. } = self;
        let dice = &mut dice.clients;
        let Client { name, read, at, .. } = &mut clients[client];
        let is_own = |place: usize| checkers.ledger.post(read[place].1).author == *name;
        // What was read last is talked about most, and what one said oneself is edited.
        let back = dice.index(read.len()).min(dice.index(read.len()));
        let mut place = read.len() - 1 - back;
        if dice.chance(400)
            && let Some(own) = (0..read.len()).rev().find(|place| is_own(*place))
        {
            place = own;
            // On the telephone, which may talk to another region than the desk.
            let other = dice.index(nodes.len());
            if nodes[other].is_running() {
                *at = other;
            }
        }
        let (conversation, post, id) = read[place];
        let operation = self.clients[client].operation(&mut self.dice.clients, id);
        if let Operation::Edit { body, .. } = &operation {
            self.checkers.ledger.edited(post, body.clone());
        }
        self.operate(client, conversation, operation, Some(post));
    }

    /// Sets something of a conversation.
    pub(super) fn set_something(&mut self, client: usize) {
        let conversation = self.dice.clients.index(self.faults.conversations);
        let people = self.clients.len();
        let operation = self.clients[client].setting(&mut self.dice.clients, people);
        if matches!(operation, Operation::SetAccess(Access::Members)) {
            self.checkers.ledger.upset(conversation);
        }
        self.operate(client, conversation, operation, None);
    }

    /// Has a message, what it was told, an author or a conversation forgotten.
    pub(super) fn forget_something(&mut self, client: usize) {
        let dice = &mut self.dice.clients;
        let read = &self.clients[client].read;
        let Some((conversation, post, id)) = read.get(dice.index(read.len())).copied() else {
            self.act_later(client);
            return;
        };
        let around = |id: MessageId, step: u64| {
            let Front { millis, counter } = id.front();
            Front { millis: millis + step, counter }
        };
        match dice.below(100) {
            0..65 => {
                self.operate(client, conversation, Operation::Erase { message: id }, Some(post))
            }
            65..75 => {
                let whose = dice.index(self.clients.len());
                let up_to = dice.chance(600).then(|| around(id, dice.below(400)));
                let author = self.clients[whose].name.clone();
                let want = Want::Do(Deed::EraseAuthor { author, up_to });
                self.wish(client, conversation, want);
            }
            75..93 => {
                let up_to = around(id, dice.below(400));
                let name = self.checkers.ledger.name(conversation);
                let at = self.clients[client].at;
                let Ok(found) = self.nodes[at].reader.conversation(name) else {
                    self.act_later(client);
                    return;
                };
                let want = Want::Do(Deed::Expire { id: found.id, up_to });
                self.wish(client, conversation, want);
            }
            _ => {
                self.checkers.ledger.upset(conversation);
                self.operate(client, conversation, Operation::EraseConversation, None);
            }
        }
    }

    fn operate(
        &mut self,
        client: usize,
        conversation: usize,
        operation: Operation,
        post: Option<usize>,
    ) {
        self.story.deeds += 1;
        let admin = self.dice.clients.chance(ADMIN);
        self.wish(client, conversation, Want::Do(Deed::Operate { operation, admin, post }));
    }

    /// A deed was said to be done: it is, wherever it was said to be.
    pub(super) fn take_done(&mut self, asked: &Asked, done: Operated, reached: &Reached) -> Step {
        let at = asked.node;
        let Want::Do(deed) = &asked.want else {
            let how = format!("node {at} answers an operation that was not asked for");
            return Err(Broken::new(Promise::Soundness, how));
        };
        self.story.done += u64::from(done == Operated::Done);
        self.tell(at, || format!("{done:?} in {} regions", reached.regions.len()));
        for holder in self.sound_places_of(&reached.regions) {
            if !self.is_done(holder, asked, deed) {
                let how = format!("node {at} said that node {holder} has done {deed:?}");
                return Err(Broken::new(Promise::Durability, how));
            }
        }
        Ok(())
    }

    /// Whether the disk of a node shows that something was done. Of what may be undone since,
    /// only the model speaks.
    fn is_done(&self, node: usize, asked: &Asked, deed: &Deed) -> bool {
        let Checkers { erasures, models, ledger, .. } = &self.checkers;
        let rows = erasures.rows(node);
        let ids = ledger.incarnations(asked.conversation);
        let is_gone = || ids.iter().any(|id| rows.retires(*id));
        match deed {
            Deed::EraseAuthor { author, up_to } => rows.forgets(author, *up_to),
            Deed::Expire { id, up_to } => rows.expires(*id, *up_to),
            Deed::Operate { operation, post, .. } => match (operation, post) {
                (Operation::EraseConversation, _) => is_gone(),
                (Operation::Erase { .. }, Some(post)) => {
                    let mut identities = ids.iter().zip(ledger.identities(*post));
                    is_gone() || identities.any(|(id, identity)| rows.names(*id, identity))
                }
                (Operation::Edit { body, .. }, Some(post)) => {
                    // Words that were erased in the batch that said them were never written.
                    let author = &ledger.post(*post).author;
                    let mut identities = ids.iter().zip(ledger.identities(*post));
                    let is_erased = rows.forgets(author, None)
                        || identities.any(|(id, identity)| {
                            rows.names(*id, identity) || rows.expires(*id, Front::default())
                        });
                    is_gone() || is_erased || models[node].holds_edit(body)
                }
                (Operation::Redact { .. }, Some(post)) => {
                    let mut identities = ids.iter().zip(ledger.identities(*post));
                    is_gone()
                        || identities.any(|(id, identity)| models[node].redacts(*id, identity))
                }
                _ => true,
            },
        }
    }

    /// Reads one message, its history and who reacted, by an id that was read before.
    pub(super) fn read_one(&mut self, client: usize, conversation: usize) -> Step {
        let at = self.clients[client].at;
        let Checkers { erasures, models, ledger, .. } = &self.checkers;
        let (reader, rows) = (&self.nodes[at].reader, erasures.rows(at));
        let name = ledger.name(conversation);
        let known = self.clients[client].read.iter().filter(|(place, ..)| *place == conversation);
        let known: Vec<MessageId> = known.map(|(_, _, id)| *id).collect();
        if known.is_empty() {
            return Ok(());
        }
        let id = known[self.dice.clients.index(known.len())];
        let broken = |how: String| Err(Broken::new(Promise::Model, how));
        let due = models[at].message(name, id, rows);
        let found = reader.message(name, id).unwrap_or_default();
        if found != due {
            return broken(format!("node {at} shows {id} as {found:?}, not as {due:?}"));
        }
        let history = reader.history(name, id).unwrap_or_default();
        let is_visible = due.as_ref().is_some_and(|due| due.state.is_visible());
        if history.is_some() != is_visible {
            return broken(format!("node {at} has a history of {id}: {}", history.is_some()));
        }
        let Some(History { first, edits: revised }) = history else { return Ok(()) };
        erasures.shown(at, &first, "remembers")?;
        for revised in &revised {
            erasures.shown(at, &revised.body, "remembers")?;
        }
        let shows = revised.last().map_or(&first, |revised| &revised.body);
        match due.is_none_or(|due| due.body == *shows) {
            true => Ok(()),
            false => broken(format!("the history of {id} at node {at} ends with other words")),
        }
    }
}
