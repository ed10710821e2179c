//! Local commands: creating conversations and posting.

use super::building::Staged;
use super::place::{read_body, timeline_row};
use super::{CommandError, Replica, ReplicaError};
use crate::clock::is_ahead;
use crate::engine::{Direction, View};
use crate::erasure::Erasure;
use crate::id::{ConversationId, Front, Identity, MessageId, Millis, SegmentId};
use crate::name::Name;
use crate::record::{Access, Body, ContentType, Header, MAX_BODY_BYTES, Record, Role, Statement};
use crate::tables::{
    self, ConversationRow, ErasureKey, IdentityRow, MessageKey, NameRow, Placed, RowType,
    TimelineRow,
};

/// Records after which a segment is full.
pub(super) const SEGMENT_RECORDS: u32 = 512;
/// Bytes of keys and headers after which a segment is full: 128 KiB.
pub(super) const SEGMENT_BYTES: u32 = 128 * 1024;
/// The greatest length of an idempotency key, in bytes.
pub const MAX_KEY_BYTES: usize = 256;

/// Where a new message goes in the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placing {
    /// Now: behind all that was seen.
    Now,
    /// At its original time: it is imported.
    At(Millis),
}

/// A message to post.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// Where.
    pub conversation: Name,
    /// Who says it.
    pub author: Name,
    /// What.
    pub body: Vec<u8>,
    /// Its MIME type.
    pub content_type: ContentType,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
    /// The message whose thread it belongs to.
    pub thread: Option<MessageId>,
    /// When.
    pub placing: Placing,
    /// Makes retries one message; random if none is given.
    pub key: Option<Vec<u8>>,
}

/// What became of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posted {
    /// The message's id.
    pub id: MessageId,
    /// Whether it was there already: the post was a retry.
    pub retried: bool,
}

impl Replica {
    /// Creates the conversation called `name`, open to the space. Returns its id and whether it
    /// is new.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn create_conversation(
        &mut self,
        name: &Name,
    ) -> Result<(ConversationId, bool), ReplicaError> {
        if let Some(id) = self.find(name)? {
            return Ok((id, false));
        }
        // An erased conversation's id is retired for ever; the name may be used again.
        let retired = self.incarnations.get(name);
        let incarnation = retired.map_or(0, |incarnation| incarnation + 1);
        let id = ConversationId::of(self.space, name, incarnation);
        self.add_conversation(id, name, incarnation)?;
        self.building.created.push((id, name.clone(), incarnation));
        Ok((id, true))
    }

    /// The conversation that is called `name` today.
    pub(super) fn find(&mut self, name: &Name) -> Result<Option<ConversationId>, ReplicaError> {
        if let Some(id) = self.directory.named(name) {
            return Ok(Some(id));
        }
        let row: Option<NameRow> = tables::get(&self.overlay, &(self.space, name.clone()))?;
        let Some(NameRow { conversation }) = row else { return Ok(None) };
        self.directory.keep_name(name.clone(), conversation);
        Ok(Some(conversation))
    }

    /// The conversation that is called `name` today, with its row.
    pub(super) fn named(
        &mut self,
        name: &Name,
    ) -> Result<(ConversationId, ConversationRow), CommandError> {
        let unknown = || CommandError::UnknownConversation(name.clone());
        let id = self.find(name)?.ok_or_else(unknown)?;
        Ok((id, self.conversation(id)?.ok_or_else(unknown)?))
    }

    /// Adds a conversation's rows and counts; its document is the caller's to write.
    pub(super) fn add_conversation(
        &mut self,
        id: ConversationId,
        name: &Name,
        incarnation: u32,
    ) -> Result<(), ReplicaError> {
        let cut: Option<Erasure> = tables::get(&self.overlay, &(self.space, ErasureKey::Cut(id)))?;
        let cut = match cut {
            Some(Erasure::Cut { up_to, .. }) => Some(up_to),
            Some(_) | None => None,
        };
        let mut row = ConversationRow {
            name: name.clone(),
            incarnation,
            ordinal: 0,
            records: 0,
            record_bytes: 0,
            messages: 0,
            last: None,
            cut,
            read: None,
            access: Access::Open,
            quarantined: 0,
            sum: crate::digest::RowSum::default(),
        };
        let sum = self.hasher.row(NameRow::TABLE, &id.0, name.as_str().as_bytes());
        row.sum.add(&sum);
        self.state.sum.add(&sum);
        self.state.conversations += 1;
        self.building.conversations.insert(id, row);
        // Where two incarnations are known, the name means the later one.
        let named = self.find(name)?;
        let other = match named {
            Some(named) => self.conversation(named)?.map(|row| row.incarnation),
            None => None,
        };
        if other.is_none_or(|other| other < incarnation) {
            self.put(&(self.space, name.clone()), &NameRow { conversation: id });
            self.directory.keep_name(name.clone(), id);
        }
        Ok(())
    }

    /// Posts a message. The answer may be given to the client when [`Replica::barrier`]'s ticket
    /// is durable.
    ///
    /// # Errors
    /// When the message is refused; then nothing was changed.
    pub fn post(&mut self, now: Millis, message: NewMessage) -> Result<Posted, CommandError> {
        check(now, &message)?;
        let (id, mut row) = self.named(&message.conversation)?;
        self.permit((id, &row), &message.author, Role::Member)?;
        let key = message.key.clone().unwrap_or_else(|| self.entropy.bytes::<16>().to_vec());
        let identity = Identity::of(id, &message.author, &key);
        let identities = self.identities(id, identity)?;
        if !identities.placed.is_empty() {
            let front = identities.front(identity).ok_or(CommandError::TailTaken)?;
            let held = MessageKey { conversation: id, front, identity };
            return self.retry(&row, held, &message.body);
        }
        let reply_to = self.referred(id, message.reply_to)?;
        let thread = self.referred(id, message.thread)?;
        let above = [&reply_to, &thread].into_iter().flatten().map(Placed::canonical).max();
        let front = match message.placing {
            Placing::Now => self.clock.tick(now, above),
            Placing::At(millis) => self.free_front(id, millis)?,
        };
        let body = Body { salt: self.entropy.bytes(), bytes: message.body };
        let header = Header {
            front,
            author: message.author,
            content_type: message.content_type,
            reply_to: reply_to.map(|placed| placed.identity),
            thread: thread.map(|placed| placed.identity),
            body: body.reference(),
        };
        let record = Record { identity, header };
        self.place(now, (id, &mut row), &record, Some(&body), identities)?;
        let posted = Posted { id: record.id(), retried: false };
        self.building.unannounced.insert((id, identity));
        let statement = Statement::Post(record.header);
        self.stage(id, row, Staged { identity, statement, body: Some(body) });
        Ok(posted)
    }

    /// The answer to a post whose identity is held. Words that are gone cannot be compared.
    fn retry(
        &self,
        row: &ConversationRow,
        held: MessageKey,
        body: &[u8],
    ) -> Result<Posted, CommandError> {
        let id = held.id();
        if !row.has_expired(held.front) {
            let there = timeline_row(&self.overlay, held)?;
            let place = (held.identity, held.front);
            let kept = read_body(&self.overlay, held.conversation, place, there.header.body)?;
            if kept.is_some_and(|kept| kept.bytes != body) {
                return Err(CommandError::KeyReused(id));
            }
        }
        Ok(Posted { id, retried: true })
    }

    /// Where a message stands that a command refers to.
    pub(super) fn referred(
        &self,
        conversation: ConversationId,
        id: Option<MessageId>,
    ) -> Result<Option<Placed>, CommandError> {
        let Some(id) = id else { return Ok(None) };
        let held = tables::get::<IdentityRow>(&self.overlay, &(conversation, id.tail()))?;
        let placed = held.as_ref().and_then(|row| row.find(id).cloned());
        placed.map(Some).ok_or(CommandError::UnknownMessage(id))
    }

    /// The first place at `millis` behind all messages of that millisecond; where its 65,536
    /// places are used up, the next millisecond's.
    fn free_front(&self, id: ConversationId, mut millis: Millis) -> Result<Front, CommandError> {
        loop {
            let first = Front { millis, counter: 0 };
            let start = [&id.0[..], &first.to_bytes()].concat();
            let end = [&id.0[..], &Front { millis: millis + 1, counter: 0 }.to_bytes()].concat();
            let backward = Direction::Backward;
            let last = self.overlay.scan(TimelineRow::TABLE, &start, &end, backward).next();
            let Some(last) = last else { return Ok(first) };
            let next = TimelineRow::parse(&last?.0)?.front.next();
            if next.millis == millis {
                return Ok(next);
            }
            millis = next.millis;
        }
    }

    /// Puts a record into the conversation's current segment, to be written when the batch is
    /// sealed.
    pub(super) fn stage(&mut self, id: ConversationId, mut row: ConversationRow, staged: Staged) {
        if row.records >= SEGMENT_RECORDS || row.record_bytes >= SEGMENT_BYTES {
            self.full.insert(SegmentId { conversation: id, ordinal: row.ordinal });
            row.ordinal += 1;
            row.records = 0;
            row.record_bytes = 0;
        }
        row.records += 1;
        row.record_bytes += record_bytes(&staged.statement);
        let segment = SegmentId { conversation: id, ordinal: row.ordinal };
        self.building.conversations.insert(id, row);
        self.building.bytes += staged.body.as_ref().map_or(0, |body| body.bytes.len());
        self.building.records.entry(segment).or_default().push(staged);
    }
}

/// What a record counts against [`SEGMENT_BYTES`].
pub(super) fn record_bytes(statement: &Statement) -> u32 {
    const KEY: usize = 51;
    (KEY + statement.encode().len()) as u32
}

/// Whether words may be kept.
pub(super) fn check_body(body: &[u8]) -> Result<(), CommandError> {
    match body.len() {
        0 => Err(CommandError::EmptyBody),
        length if length > MAX_BODY_BYTES => Err(CommandError::BodyTooLarge(length)),
        _ => Ok(()),
    }
}

fn check(now: Millis, message: &NewMessage) -> Result<(), CommandError> {
    check_body(&message.body)?;
    if let Some(key) = &message.key
        && !(1..=MAX_KEY_BYTES).contains(&key.len())
    {
        return Err(CommandError::KeyLength(key.len()));
    }
    match message.placing {
        Placing::At(millis) if is_ahead(now, Front { millis, counter: 0 }) => {
            Err(CommandError::FutureTime)
        }
        Placing::At(_) | Placing::Now => Ok(()),
    }
}
