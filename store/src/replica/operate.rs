//! Local commands beside posting: editing, reacting, redacting, marking, erasing.
//!
//! Who may do what is decided here, by the node that accepts a command, from what it has seen;
//! entries are not judged again elsewhere, so all regions agree. Invariant: a refused command
//! changes nothing.

use super::building::Staged;
use super::place::{read_body, timeline_row};
use super::write::{MAX_KEY_BYTES, check_body};
use super::{Replica, ReplicaError};
use crate::clock::is_ahead;
use crate::entry::EntryKind;
use crate::erasure::Erasure;
use crate::id::{ConversationId, Front, Identity, MessageId, Millis};
use crate::name::Name;
use crate::record::{
    Access, Body, ContentType, Edit, MAX_BODY_BYTES, MAX_EMOJI_BYTES, Reaction, Redaction, Role,
    Statement,
};
use crate::tables::{self, ConversationRow, MarkerRow, MessageKey, ReactionKey, ReactionRow};

/// The most different emojis that one message may bear.
pub const MAX_MESSAGE_EMOJIS: usize = 64;

/// Who asks for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// As whom.
    pub user: Name,
    /// Whether it may administer the space: then no role is asked for.
    pub admin: bool,
}

/// What can be asked for in a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// New words for a message of one's own.
    Edit {
        /// Which.
        message: MessageId,
        /// The words.
        body: Vec<u8>,
        /// Their MIME type.
        content_type: ContentType,
    },
    /// Set a reaction, or take it back.
    React {
        /// To which message.
        message: MessageId,
        /// What, at most [`MAX_EMOJI_BYTES`].
        emoji: Name,
        /// Set, or taken back.
        on: bool,
    },
    /// Hide a message for good; its place stays.
    Redact {
        /// Which.
        message: MessageId,
    },
    /// Destroy the words of a message.
    Erase {
        /// Which.
        message: MessageId,
    },
    /// Pin a message, or take the pin away.
    Pin {
        /// Which.
        message: MessageId,
        /// Pinned or not.
        on: bool,
    },
    /// Give a user a role, or remove it.
    SetMember {
        /// Whom.
        user: Name,
        /// As what; none removes.
        role: Option<Role>,
    },
    /// Say who may read and write.
    SetAccess(Access),
    /// Set or remove the title.
    SetTitle(Option<Vec<u8>>),
    /// Set or remove the topic.
    SetTopic(Option<Vec<u8>>),
    /// Say after how many milliseconds messages expire.
    SetRetention(Option<Millis>),
    /// Move the user's read marker to a message; it never moves back.
    MarkRead {
        /// The last message read.
        message: MessageId,
    },
    /// Destroy the conversation.
    EraseConversation,
}

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operated {
    /// It is done.
    Done,
    /// There was nothing to do: it is so already.
    Unchanged,
}

/// Why a command is refused. Nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommandError {
    /// There is no such conversation here.
    #[error("there is no conversation `{0}`")]
    UnknownConversation(Name),
    /// The message it is about is not here.
    #[error("there is no message {0} in the conversation")]
    UnknownMessage(MessageId),
    /// The message it is about was redacted, erased or expired.
    #[error("message {0} is gone: it was redacted or erased, or has expired")]
    Gone(MessageId),
    /// The user may not do it.
    #[error("`{user}` may not do this in `{conversation}`: it takes the role of {needs}")]
    Forbidden {
        /// Who asked.
        user: Name,
        /// Where.
        conversation: Name,
        /// What would be needed.
        needs: &'static str,
    },
    /// The body is empty.
    #[error("the body is empty")]
    EmptyBody,
    /// The body is too long.
    #[error("the body has {0} bytes, at most {MAX_BODY_BYTES} are allowed")]
    BodyTooLarge(usize),
    /// The idempotency key is empty or too long.
    #[error("the idempotency key has {0} bytes, 1 to {MAX_KEY_BYTES} are allowed")]
    KeyLength(usize),
    /// The key was used for another message.
    #[error("the idempotency key was used before, for message {0} with another body")]
    KeyReused(MessageId),
    /// Another identity has the same tail: astronomically unlikely unless made on purpose.
    #[error("the idempotency key collides with that of another message: use another key")]
    TailTaken,
    /// The time given lies in the future.
    #[error("the time given lies in the future")]
    FutureTime,
    /// The emoji is too long.
    #[error("the emoji has {0} bytes, at most {MAX_EMOJI_BYTES} are allowed")]
    EmojiTooLong(usize),
    /// The message bears too many different emojis already.
    #[error("message {0} bears {MAX_MESSAGE_EMOJIS} different emojis already")]
    TooManyEmojis(MessageId),
    /// Something beside settings was asked for together with them.
    #[error("only settings can be changed together")]
    NotTogether,
    /// Beyond a refusal.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
}

impl CommandError {
    /// `user` has not the role that it takes.
    pub(super) fn lacks_role(user: &Name, row: &ConversationRow, least: Role) -> Self {
        let (user, conversation) = (user.clone(), row.name.clone());
        Self::Forbidden { user, conversation, needs: title(least) }
    }
}

impl From<crate::engine::EngineError> for CommandError {
    fn from(source: crate::engine::EngineError) -> Self {
        Self::Replica(source.into())
    }
}

impl Replica {
    /// Carries out an operation. The answer may be given to the client when
    /// [`Replica::barrier`]'s ticket is durable.
    ///
    /// # Errors
    /// When it is refused; then nothing was changed.
    pub fn operate(
        &mut self,
        now: Millis,
        actor: &Actor,
        conversation: &Name,
        operation: Operation,
    ) -> Result<Operated, CommandError> {
        let (id, row) = self.named(conversation)?;
        match operation {
            Operation::Edit { message, body, content_type } => {
                self.edit(now, actor, (id, row), message, (body, content_type))
            }
            Operation::React { message, emoji, on } => {
                self.react(actor, (id, row), message, emoji, on)
            }
            Operation::Redact { message } => self.redact(now, actor, (id, row), message),
            Operation::Erase { message } => self.erase_one(now, actor, (id, row), message),
            Operation::MarkRead { message } => self.mark(actor, (id, row), message),
            Operation::EraseConversation => {
                self.require(actor, (id, &row), Role::Owner)?;
                let ConversationRow { name, incarnation, .. } = row;
                let erasure = Erasure::Conversation { name, incarnation, conversation: id };
                self.erase(now, &actor.user, erasure)
            }
            setting @ (Operation::Pin { .. }
            | Operation::SetMember { .. }
            | Operation::SetAccess(_)
            | Operation::SetTitle(_)
            | Operation::SetTopic(_)
            | Operation::SetRetention(_)) => self.operate_all(actor, conversation, vec![setting]),
        }
    }

    /// Erases what `author` wrote anywhere in the space up to `up_to`, now if it is none: what is
    /// held, and what arrives later. Takes the right to administer the space, or is of one's own
    /// words.
    ///
    /// # Errors
    /// When it is refused; then nothing was changed.
    pub fn erase_author(
        &mut self,
        now: Millis,
        actor: &Actor,
        author: Name,
        up_to: Option<Front>,
    ) -> Result<Operated, CommandError> {
        if !actor.admin && actor.user != author {
            let needs = "an administrator of the space";
            let (user, conversation) = (actor.user.clone(), self.state.name.clone());
            return Err(CommandError::Forbidden { user, conversation, needs });
        }
        let wall = Front { millis: now, counter: u16::MAX };
        let up_to = up_to.unwrap_or(self.clock.last().max(wall));
        if is_ahead(now, up_to) {
            return Err(CommandError::FutureTime);
        }
        self.erase(now, &actor.user, Erasure::Author { author, up_to })
    }

    /// Lets messages of a conversation expire up to `up_to`. Only a node whose clock agrees with
    /// a majority of regions may do this: what it cuts is gone everywhere.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn expire(
        &mut self,
        now: Millis,
        conversation: ConversationId,
        up_to: Front,
    ) -> Result<Operated, CommandError> {
        let by = self.writer.region.clone();
        self.erase(now, &by, Erasure::Cut { conversation, up_to })
    }

    /// Writes and applies a row of the erasure table.
    fn erase(
        &mut self,
        now: Millis,
        by: &Name,
        erasure: Erasure,
    ) -> Result<Operated, CommandError> {
        // What was said before is written before, so that its words are covered like any others.
        self.flush()?;
        if !self.take_erasure(now, &erasure)? {
            return Ok(Operated::Unchanged);
        }
        let kind = EntryKind::Erasures { by: by.clone(), rows: vec![erasure.clone()] };
        self.write_own(kind, None, Vec::new(), |applied| applied.erased.push(erasure))?;
        Ok(Operated::Done)
    }

    fn edit(
        &mut self,
        now: Millis,
        actor: &Actor,
        (id, row): (ConversationId, ConversationRow),
        message: MessageId,
        (body, content_type): (Vec<u8>, ContentType),
    ) -> Result<Operated, CommandError> {
        check_body(&body)?;
        let place = self.visible((id, &row), message)?;
        let there = timeline_row(&self.overlay, place)?;
        if there.header.author != actor.user {
            return Err(forbidden(actor, &row, "the message's author"));
        }
        self.permit((id, &row), &actor.user, Role::Member)?;
        let revised = there.state.revision.as_ref();
        let shown = revised.map_or(&there.header.content_type, |revision| &revision.content_type);
        let front = revised.map_or(there.header.front, |revision| revision.rank.front);
        let held = read_body(&self.overlay, id, (place.identity, front), there.body())?;
        if *shown == content_type && held.is_some_and(|held| held.bytes == body) {
            return Ok(Operated::Unchanged);
        }
        let body = Body { salt: self.entropy.bytes(), bytes: body };
        let statement = Statement::Edit(Edit {
            target: place.identity,
            // Also above a message that is too far ahead for the clock to follow: words that an
            // erasure covers by their time must not show in a message that it does not cover.
            front: self.clock.tick(now, Some(front)).max(front.next()),
            editor: actor.user.clone(),
            content_type,
            body: body.reference(),
        });
        self.stage_deed(id, row, statement, Some(body));
        Ok(Operated::Done)
    }

    fn react(
        &mut self,
        actor: &Actor,
        (id, row): (ConversationId, ConversationRow),
        message: MessageId,
        emoji: Name,
        on: bool,
    ) -> Result<Operated, CommandError> {
        if emoji.as_str().len() > MAX_EMOJI_BYTES {
            return Err(CommandError::EmojiTooLong(emoji.as_str().len()));
        }
        let place = self.visible((id, &row), message)?;
        self.permit((id, &row), &actor.user, Role::Member)?;
        let target = place.identity;
        let reaction = Reaction::identity_of(target, &actor.user, &emoji);
        let staged = self.staged_reaction(id, reaction);
        let held: Option<ReactionRow> = tables::get(
            &self.overlay,
            &ReactionKey { conversation: id, message: target, reaction },
        )?;
        if staged.unwrap_or(held.is_some_and(|held| held.on)) == on {
            return Ok(Operated::Unchanged);
        }
        let borne = timeline_row(&self.overlay, place)?.state.reactions;
        if on
            && borne.len() >= MAX_MESSAGE_EMOJIS
            && !borne.iter().any(|(known, _)| *known == emoji)
        {
            return Err(CommandError::TooManyEmojis(place.id()));
        }
        let user = actor.user.clone();
        let said = Statement::Reaction(Reaction { target, user, emoji, on });
        if staged.is_some() {
            self.restage(id, reaction, said);
        } else {
            self.stage_deed(id, row, said, None);
        }
        Ok(Operated::Done)
    }

    /// What a reaction that waits for its entry says.
    fn staged_reaction(&self, id: ConversationId, reaction: Identity) -> Option<bool> {
        let segments = self.building.records.iter();
        let mut staged = segments.filter(|(segment, _)| segment.conversation == id);
        staged.find_map(|(_, records)| {
            let record = records.iter().find(|record| record.identity == reaction)?;
            match &record.statement {
                Statement::Reaction(reaction) => Some(reaction.on),
                Statement::Post(_) | Statement::Edit(_) | Statement::Redaction(_) => None,
            }
        })
    }

    /// Says something else in a record that waits for its entry: what is toggled within a batch
    /// is written once.
    fn restage(&mut self, id: ConversationId, identity: Identity, statement: Statement) {
        let segments = self.building.records.iter_mut();
        let records = segments.filter(|(segment, _)| segment.conversation == id);
        let mut records = records.flat_map(|(_, records)| records);
        if let Some(staged) = records.find(|record| record.identity == identity) {
            staged.statement = statement;
        }
    }

    fn redact(
        &mut self,
        now: Millis,
        actor: &Actor,
        (id, row): (ConversationId, ConversationRow),
        message: MessageId,
    ) -> Result<Operated, CommandError> {
        let place = self.present((id, &row), message)?;
        let there = timeline_row(&self.overlay, place)?;
        self.require_own_or(actor, (id, &row), &there.header.author)?;
        let statement = Statement::Redaction(Redaction {
            target: place.identity,
            front: self.clock.tick(now, Some(place.front)),
            by: actor.user.clone(),
        });
        let waits = statement.identity().is_some_and(|identity| self.is_staged(id, identity));
        if there.state.withdrawal.is_some() || waits {
            return Ok(Operated::Unchanged);
        }
        self.stage_deed(id, row, statement, None);
        Ok(Operated::Done)
    }

    fn is_staged(&self, id: ConversationId, identity: Identity) -> bool {
        let segments = self.building.records.iter();
        let staged = segments.filter(|(segment, _)| segment.conversation == id);
        staged.flat_map(|(_, records)| records).any(|record| record.identity == identity)
    }

    fn erase_one(
        &mut self,
        now: Millis,
        actor: &Actor,
        (id, row): (ConversationId, ConversationRow),
        message: MessageId,
    ) -> Result<Operated, CommandError> {
        let place = self.present((id, &row), message)?;
        let author = timeline_row(&self.overlay, place)?.header.author;
        self.require_own_or(actor, (id, &row), &author)?;
        let erasure = Erasure::Message { conversation: id, identity: place.identity };
        self.erase(now, &actor.user, erasure)
    }

    fn mark(
        &mut self,
        actor: &Actor,
        (id, row): (ConversationId, ConversationRow),
        message: MessageId,
    ) -> Result<Operated, CommandError> {
        // A marker may name a message that has expired meanwhile, but none that never was.
        let placed = self.referred(id, Some(message))?;
        let placed = placed.ok_or(CommandError::UnknownMessage(message))?;
        self.permit((id, &row), &actor.user, Role::Reader)?;
        let message = MessageId::new(placed.canonical(), placed.identity);
        let key = (id, actor.user.clone());
        let held: Option<MarkerRow> = tables::get(&self.overlay, &key)?;
        let waits = self.building.markers.get(&key).copied();
        if held.map(|held| held.message).max(waits).is_some_and(|held| held >= message) {
            return Ok(Operated::Unchanged);
        }
        self.building.markers.insert(key, message);
        Ok(Operated::Done)
    }

    fn stage_deed(
        &mut self,
        id: ConversationId,
        row: ConversationRow,
        statement: Statement,
        body: Option<Body>,
    ) {
        if let Some(identity) = statement.identity() {
            self.stage(id, row, Staged { identity, statement, body });
        }
    }

    /// Where a message stands that has not expired; an id of any copy finds it.
    pub(super) fn present(
        &self,
        (id, row): (ConversationId, &ConversationRow),
        message: MessageId,
    ) -> Result<MessageKey, CommandError> {
        let placed = self.referred(id, Some(message))?;
        let placed = placed.ok_or(CommandError::UnknownMessage(message))?;
        let front = placed.canonical();
        if row.has_expired(front) {
            return Err(CommandError::Gone(message));
        }
        Ok(MessageKey { conversation: id, front, identity: placed.identity })
    }

    /// Where a message stands whose words readers can see.
    fn visible(
        &self,
        conversation: (ConversationId, &ConversationRow),
        message: MessageId,
    ) -> Result<MessageKey, CommandError> {
        let place = self.present(conversation, message)?;
        if !timeline_row(&self.overlay, place)?.state.is_visible() {
            return Err(CommandError::Gone(message));
        }
        Ok(place)
    }

    /// Refuses a user whose role is less than `least`.
    pub(super) fn permit(
        &self,
        (id, row): (ConversationId, &ConversationRow),
        user: &Name,
        least: Role,
    ) -> Result<(), CommandError> {
        if self.may((id, row), user, least)? {
            return Ok(());
        }
        Err(CommandError::lacks_role(user, row, least))
    }

    /// Refuses an actor that neither administers the space nor has the role.
    fn require(
        &self,
        actor: &Actor,
        conversation: (ConversationId, &ConversationRow),
        least: Role,
    ) -> Result<(), CommandError> {
        if actor.admin {
            return Ok(());
        }
        self.permit(conversation, &actor.user, least)
    }

    /// As [`Replica::require`] for an admin, but lets anybody have their way with their own.
    fn require_own_or(
        &self,
        actor: &Actor,
        conversation: (ConversationId, &ConversationRow),
        author: &Name,
    ) -> Result<(), CommandError> {
        if actor.user == *author {
            return Ok(());
        }
        self.require(actor, conversation, Role::Admin)
    }
}

fn forbidden(actor: &Actor, row: &ConversationRow, needs: &'static str) -> CommandError {
    let (user, conversation) = (actor.user.clone(), row.name.clone());
    CommandError::Forbidden { user, conversation, needs }
}

fn title(role: Role) -> &'static str {
    match role {
        Role::Owner => "owner",
        Role::Admin => "admin",
        Role::Member => "member",
        Role::Reader => "reader",
    }
}
