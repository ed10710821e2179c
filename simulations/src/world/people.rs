//! What people do to nodes, and what they are answered.
//!
//! Invariant: a client gives up on an attempt, never on the truth: an answer that comes later is
//! held against the node all the same.

use warbler_replication::replicator::{Command, CommandId, Durability, Outcome, Reached};
use warbler_store::id::{MessageId, Millis};
use warbler_store::name::Name;
use warbler_store::reader::{FollowError, Range, ReadError};
use warbler_store::record::ContentType;
use warbler_store::replica::{CommandError, NewMessage, Placing, Posted};
use warbler_store::vector::VersionVector;

use super::deeds::command_of;
use super::{Step, World};
use crate::agenda::{Event, Micros};
use crate::checkers::{Acknowledgement, Broken, Checkers, Floor, Post, Promise, Truth};
use crate::clients::{Deed, MOST_ATTEMPTS, Want, Whim, Wish, pace};
use crate::faults::Faults;
use crate::mutant::Mutant;
use crate::node::EPOCH_MILLIS;

/// Messages on a page.
const PAGE: usize = 20;

/// A command that was sent and is not answered.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) client: usize,
    pub(super) node: usize,
    pub(super) want: Want,
    pub(super) conversation: usize,
    regions: usize,
    /// How long the node may wait for other regions, in milliseconds.
    patience: Millis,
    /// Which attempt of the client's wish it is.
    attempt: u32,
    /// When the node took it in.
    taken: Micros,
    /// What a new id must lie behind.
    floor: Floor,
    /// The node holds all that the command refers to: it has no reason to refuse.
    must_accept: bool,
}

impl Asked {
    /// Whether it was in the memory of this node.
    pub(super) fn was_taken_by(&self, node: usize) -> bool {
        self.node == node && self.taken > 0
    }
}

impl World<'_> {
    pub(super) fn act(&mut self, client: usize) -> Step {
        if self.is_calm() || self.clients[client].wish.is_some() {
            return Ok(());
        }
        self.choose_node(client);
        let node = &self.nodes[self.clients[client].at];
        if !node.is_running() || node.is_damaged {
            self.act_later(client);
            return Ok(());
        }
        let Faults { deeds, forgets, .. } = self.faults;
        match self.clients[client].whim(&mut self.dice.clients, deeds, forgets) {
            Whim::Say => {
                let conversation = self.dice.clients.index(self.faults.conversations);
                self.say(client, conversation, None, Placing::Now);
            }
            Whim::Import => {
                let conversation = self.dice.clients.index(self.faults.conversations);
                // Few different times, so that several messages want the same place.
                let ago = self.dice.clients.between(1, 9) * 86_400_000;
                self.say(client, conversation, None, Placing::At(EPOCH_MILLIS - ago));
            }
            Whim::Answer => {
                let place = self.dice.clients.index(self.clients[client].read.len());
                let (conversation, post, id) = self.clients[client].read[place];
                self.say(client, conversation, Some((post, id)), Placing::Now);
            }
            Whim::Read => {
                self.read(client)?;
                self.act_later(client);
            }
            Whim::Resume => {
                self.resume(client)?;
                self.act_later(client);
            }
            Whim::Do => self.do_something(client),
            Whim::Set => self.set_something(client),
            Whim::Forget => self.forget_something(client),
        }
        Ok(())
    }

    pub(super) fn act_later(&mut self, client: usize) {
        let pace = pace(self.clients.len(), self.faults.hurry);
        let later = self.now + self.dice.clients.between(pace / 4, pace * 7 / 4);
        self.agenda.enter(later, Event::Act { client });
    }

    /// Clients stay where they are, go home, or go on elsewhere when their node is down.
    fn choose_node(&mut self, client: usize) {
        let Self { clients, nodes, dice, .. } = self;
        let client = &mut clients[client];
        if nodes[client.home].is_running() && dice.clients.chance(500) {
            client.at = client.home;
        } else if !nodes[client.at].is_running() && dice.clients.chance(300) {
            client.at = dice.clients.index(nodes.len());
        }
    }

    /// Posts; or creates the conversation first, where it is unknown.
    fn say(
        &mut self,
        client: usize,
        conversation: usize,
        answers: Option<(usize, MessageId)>,
        placing: Placing,
    ) {
        let at = self.clients[client].at;
        let name = self.checkers.ledger.name(conversation);
        let is_known = self.nodes[at].reader.conversation(name).is_ok();
        let want = if is_known {
            let body = self.clients[client].words(&mut self.dice.clients, self.faults.long_bodies);
            let author = self.clients[client].name.clone();
            let key = format!("{author}/{}", self.clients[client].said).into_bytes();
            self.story.posts += 1;
            let threaded = answers.is_some() && self.dice.clients.chance(300);
            Want::Post(self.checkers.ledger.enter(Post {
                conversation,
                author,
                key,
                body,
                answers,
                threaded,
                placing,
                attempts: 0,
                edits: Vec::new(),
            }))
        } else {
            Want::Create
        };
        self.wish(client, conversation, want);
    }

    /// Wishes for something, and asks for it.
    pub(super) fn wish(&mut self, client: usize, conversation: usize, want: Want) {
        let wide = self.dice.clients.chance(self.faults.wide);
        let regions = match self.dice.clients.below(100) {
            _ if !wide => 1,
            0..80 => 2,
            _ => self.plan.nodes,
        };
        let command = CommandId(0);
        let wish = Wish { want, conversation, regions, attempts: 0, command };
        self.clients[client].wish = Some(wish);
        self.ask(client);
    }

    /// Sends the client's wish to the node that it talks to.
    fn ask(&mut self, client: usize) {
        self.commands += 1;
        let id = CommandId(self.commands);
        let dice = &mut self.dice.clients;
        let patience = dice.between(200, 3_000);
        let way = dice.between(100, 5_000);
        let node = self.clients[client].at;
        let Some(wish) = &mut self.clients[client].wish else { return };
        wish.attempts += 1;
        wish.command = id;
        if let Want::Post(post) = wish.want {
            self.checkers.ledger.attempted(post);
        }
        let asked = Asked {
            client,
            node,
            want: wish.want.clone(),
            conversation: wish.conversation,
            regions: wish.regions,
            patience,
            attempt: wish.attempts,
            taken: 0,
            floor: None,
            must_accept: false,
        };
        self.clients[client].attempt += 1;
        let attempt = self.clients[client].attempt;
        self.asked.insert(id, asked);
        self.agenda.enter(self.now + way, Event::Command { node, command: id });
        let limit = self.now + self.dice.clients.between(100_000, 2_500_000);
        self.agenda.enter(limit, Event::Impatient { client, attempt });
    }

    pub(super) fn take_command(&mut self, at: usize, id: CommandId) -> Step {
        if !self.nodes[at].is_running() {
            self.asked.remove(&id);
            return Ok(());
        }
        let Some(mut asked) = self.asked.remove(&id) else { return Ok(()) };
        let name = self.checkers.ledger.name(asked.conversation).clone();
        let durability = Durability { regions: asked.regions, wait: asked.patience };
        let command = match &asked.want {
            Want::Create => {
                asked.must_accept = true;
                Command::Create { name }
            }
            Want::Post(place) => {
                let (place, attempt) = (*place, asked.attempt);
                let post = self.checkers.ledger.post(place).clone();
                let knows = |(answered, _): (usize, MessageId)| {
                    self.checkers.causality.readable(at).contains(answered)
                };
                asked.must_accept = self.nodes[at].reader.conversation(&name).is_ok()
                    && !self.checkers.ledger.is_upset(asked.conversation)
                    && post.answers.is_none_or(knows);
                let message = NewMessage {
                    conversation: name,
                    author: post.author.clone(),
                    body: post.body.clone(),
                    content_type: ContentType::default(),
                    reply_to: post.answers.map(|(_, id)| id),
                    thread: post.answers.filter(|_| post.threaded).map(|(_, id)| id),
                    placing: post.placing,
                    key: Some(self.key_of(place, attempt)),
                };
                let origin = self.nodes[at].origin;
                asked.floor = self.checkers.causality.accepted(at, origin, place);
                Command::Post { message, durability }
            }
            Want::Do(deed) => {
                let user = self.clients[asked.client].name.clone();
                command_of(deed, user, name, durability)
            }
        };
        asked.taken = self.now;
        self.tell(at, || format!("command {}: {}", id.0, describe(&command)));
        self.asked.insert(id, asked);
        let now = self.nodes[at].now(self.now);
        if let Some(process) = &mut self.nodes[at].process {
            process.replicator.handle_command(now, id, command);
        }
        self.after_input(at)
    }

    fn key_of(&mut self, post: usize, attempt: u32) -> Vec<u8> {
        let key = self.checkers.ledger.post(post).key.clone();
        if self.plan.mutant != Some(Mutant::ForgetsKeys) || attempt == 1 {
            return key;
        }
        let forged = [&key[..], b"/", &attempt.to_be_bytes()].concat();
        self.checkers.ledger.forge(post, &forged);
        forged
    }

    pub(super) fn take_answer(&mut self, at: usize, id: CommandId, outcome: Outcome) -> Step {
        let unsound = |how: String| Err(Broken::new(Promise::Soundness, how));
        let Some(asked) = self.asked.remove(&id).filter(|asked| asked.node == at) else {
            return unsound(format!("node {at} answers command {}, which was not asked", id.0));
        };
        match outcome {
            Outcome::Created { vector, .. } => {
                let name = self.checkers.ledger.name(asked.conversation);
                let is_excused =
                    self.checkers.ledger.is_upset(asked.conversation) || !self.is_sound(at);
                if let Err(error) = self.nodes[at].reader.conversation(name)
                    && !is_excused
                {
                    let how = format!("node {at} said that `{name}` is created: {error}");
                    return Err(Broken::new(Promise::Durability, how));
                }
                self.content(&asked, id, &vector, None);
                Ok(())
            }
            Outcome::Posted { posted, reached, vector } => {
                self.chronicle.note(self.now, b'a', at, &posted.id.0);
                self.take_acknowledgement(&asked, posted, &reached)?;
                self.content(&asked, id, &vector, Some(posted.id));
                Ok(())
            }
            Outcome::Operated { operated, reached, vector } => {
                self.take_done(&asked, operated, &reached)?;
                self.content(&asked, id, &vector, None);
                Ok(())
            }
            Outcome::Refused(error) => {
                self.tell(at, || format!("command {} is refused: {error}", id.0));
                let does = matches!(asked.want, Want::Do(_));
                let has_cause = match &error {
                    CommandError::UnknownConversation(_) | CommandError::UnknownMessage(_) => {
                        !asked.must_accept
                    }
                    CommandError::Gone(_) => does && self.faults.forgets + self.faults.deeds > 0,
                    // A place of a message from a wild clock, or of one that is ahead.
                    CommandError::FutureTime => {
                        matches!(asked.want, Want::Do(Deed::EraseAuthor { .. }))
                    }
                    CommandError::Forbidden { .. } => {
                        does || self.checkers.ledger.is_upset(asked.conversation)
                    }
                    CommandError::EmptyBody
                    | CommandError::BodyTooLarge(_)
                    | CommandError::KeyLength(_)
                    | CommandError::KeyReused(_)
                    | CommandError::TailTaken
                    | CommandError::EmojiTooLong(_)
                    | CommandError::TooManyEmojis(_)
                    | CommandError::NotTogether
                    | CommandError::Replica(_) => false,
                };
                if !has_cause {
                    return unsound(format!("node {at} refuses without cause: {error}"));
                }
                self.be_done(asked.client, id);
                Ok(())
            }
        }
    }

    fn take_acknowledgement(&mut self, asked: &Asked, posted: Posted, reached: &Reached) -> Step {
        let Want::Post(post) = asked.want else {
            let how = "a conversation was asked for, and a post answered".to_owned();
            return Err(Broken::new(Promise::Soundness, how));
        };
        let (at, id) = (asked.node, posted.id);
        self.story.acknowledged += 1;
        self.story.acknowledged_wider += u64::from(reached.regions.len() > 1);
        self.tell(at, || {
            let again = if posted.retried { ", a retry" } else { "" };
            format!("acknowledges {id} in {} regions{again}", reached.regions.len())
        });
        if !self.is_sound(at) {
            return Ok(());
        }
        let holders = self.places_of(&reached.regions);
        let answer = Acknowledgement {
            node: at,
            post,
            id,
            asked: asked.regions.min(self.plan.nodes),
            holders,
            took: self.now / 1_000 - asked.taken / 1_000,
            patience: asked.patience,
        };
        let readers = self.readers();
        let sound: Vec<bool> = (0..self.plan.nodes).map(|node| self.is_sound(node)).collect();
        let Checkers { ledger, archive, erasures, durability, .. } = &mut self.checkers;
        let truth = Truth { ledger, archive };
        durability.acknowledged(&readers, truth, erasures, answer, |node| sound[node])?;
        if posted.retried && self.checkers.ledger.post(post).attempts == 1 {
            let how = format!("node {at} takes the only attempt at {id} for a retry");
            return Err(Broken::new(Promise::Soundness, how));
        }
        match self.checkers.ledger.post(post).placing {
            Placing::Now if !posted.retried => self.checkers.causality.answered(id, asked.floor),
            Placing::Now | Placing::At(_) => Ok(()),
        }
    }

    /// The nodes of some regions.
    pub(super) fn places_of(&self, regions: &[Name]) -> Vec<usize> {
        let place = |region: &Name| self.nodes.iter().position(|node| node.region == *region);
        regions.iter().filter_map(place).collect()
    }

    /// Those of the nodes of some regions whose disks can be believed.
    pub(super) fn sound_places_of(&self, regions: &[Name]) -> Vec<usize> {
        let mut places = self.places_of(regions);
        places.retain(|place| self.is_sound(*place));
        places
    }

    /// The client is told that its wish came true, if it still waits for that.
    fn content(
        &mut self,
        asked: &Asked,
        command: CommandId,
        vector: &VersionVector,
        id: Option<MessageId>,
    ) {
        let client = &mut self.clients[asked.client];
        if client.wish.as_ref().is_none_or(|wish| wish.command != command) {
            return;
        }
        client.token.merge(vector);
        client.covered.merge(self.checkers.causality.followed(asked.node));
        if let (Want::Post(post), Some(id)) = (&asked.want, id) {
            client.remember(asked.conversation, *post, id);
        }
        self.be_done(asked.client, command);
    }

    fn be_done(&mut self, client: usize, command: CommandId) {
        let wish = &mut self.clients[client].wish;
        if wish.take_if(|wish| wish.command == command).is_some() {
            self.act_later(client);
        }
    }

    /// No answer came: the same again, here or elsewhere.
    pub(super) fn grow_impatient(&mut self, client: usize, attempt: u64) -> Step {
        let waiting = &mut self.clients[client];
        if waiting.attempt != attempt {
            return Ok(());
        }
        let Some(wish) = &waiting.wish else { return Ok(()) };
        if wish.attempts >= MOST_ATTEMPTS || self.calm.is_some() {
            waiting.wish = None;
            self.act_later(client);
            return Ok(());
        }
        self.story.retries += 1;
        if self.dice.clients.chance(350) {
            waiting.at = self.dice.clients.index(self.plan.nodes);
        }
        self.ask(client);
        Ok(())
    }

    /// Reads the last pages of a conversation.
    fn read(&mut self, client: usize) -> Step {
        let at = self.clients[client].at;
        let conversation = self.dice.clients.index(self.faults.conversations);
        let name = self.checkers.ledger.name(conversation).clone();
        let Checkers { causality, erasures, ledger, uniqueness, models, .. } = &self.checkers;
        let readable = causality.readable(at);
        let broken = |how: String| Err(Broken::new(Promise::Causality, how));
        let mut range = Range::Last;
        for _ in 0..self.dice.clients.between(1, 4) {
            let page = match self.nodes[at].reader.page(&name, range, PAGE) {
                Ok(page) => page,
                Err(ReadError::UnknownConversation(_)) => break,
                Err(error) => return broken(format!("node {at} cannot read `{name}`: {error}")),
            };
            self.story.pages += 1;
            uniqueness.shown(at, &page.messages, ledger)?;
            for message in &page.messages {
                let post = ledger.place_of(message.id)?;
                erasures.shown(at, &message.body, "shows")?;
                if !readable.contains(post) {
                    return broken(format!(
                        "node {at} shows {}, which came in no batch",
                        message.id
                    ));
                }
                self.clients[client].remember(conversation, post, message.id);
            }
            if page.vector.covers(&self.clients[client].token) {
                causality.honours(at, &self.clients[client].covered)?;
            }
            self.clients[client].token.merge(&page.vector);
            self.clients[client].covered.merge(readable);
            let Some(first) = page.messages.first().filter(|_| page.older) else { break };
            range = Range::Before(first.id);
        }
        let names = [name];
        models[at].compare(at, &self.nodes[at].reader, &names, erasures.rows(at))?;
        self.read_one(client, conversation)
    }

    /// Asks for what has happened since the client's token, as followers do that resume.
    fn resume(&mut self, client: usize) -> Step {
        let Self { nodes, clients, checkers, story, .. } = self;
        let client = &mut clients[client];
        let reader = &nodes[client.at].reader;
        let at = client.at;
        let cannot = |error: &dyn std::fmt::Display| {
            let how = format!("node {at} cannot be followed: {error}");
            Broken::new(Promise::Soundness, how)
        };
        let until = reader.vector().map_err(|error| cannot(&error))?;
        if !until.covers(&client.token) {
            return Ok(());
        }
        let applied = match reader.applied_between(&client.token, &until, usize::MAX) {
            Ok(applied) => {
                story.resumes += 1;
                applied
            }
            Err(FollowError::Trimmed { .. }) if self.faults.trims => {
                // It reads all anew, and goes on from there.
                story.outrun += 1;
                client.token = until;
                client.covered.merge(checkers.causality.readable(at));
                return Ok(());
            }
            Err(error) => return Err(cannot(&error)),
        };
        let Checkers { causality, erasures, ledger, archive, .. } = checkers;
        for message in applied.iter().flat_map(|applied| &applied.messages) {
            erasures.shown(at, &message.body, "shows to who resumes")?;
        }
        let truth = Truth { ledger, archive };
        causality.resumed(at, &client.covered, &applied, truth, erasures.rows(at))?;
        client.token = until;
        client.covered.merge(causality.readable(at));
        Ok(())
    }
}

/// A command in a line.
fn describe(command: &Command) -> String {
    match command {
        Command::Create { name } => format!("create `{name}`"),
        Command::Operate { actor, conversation, operation, .. } => {
            format!("`{}` in `{conversation}`: {operation:?}", actor.user)
        }
        Command::OperateAll { actor, conversation, operations, .. } => {
            format!("`{}` in `{conversation}`: {operations:?}", actor.user)
        }
        Command::EraseAuthor { author, .. } => format!("erase the words of `{author}`"),
        Command::Expire { conversation, up_to } => {
            format!("let {conversation} expire up to {up_to:?}")
        }
        Command::Post { message, durability } => {
            let key = message.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            let NewMessage { conversation, placing, reply_to, .. } = message;
            let answers = reply_to.map(|id| format!(", answers {id}")).unwrap_or_default();
            let regions = durability.regions;
            format!("post `{key}` in `{conversation}` {placing:?} to {regions} regions{answers}")
        }
    }
}
