//! Local commands: creating conversations and posting.

use super::building::Staged;
use super::place::{read_body, timeline_row};
use super::{Replica, ReplicaError};
use crate::clock::is_ahead;
use crate::engine::{Direction, View};
use crate::id::{ConversationId, Front, Identity, MessageId, Millis, SegmentId};
use crate::name::Name;
use crate::record::{Body, ContentType, Header, MAX_BODY_BYTES, Record};
use crate::seal;
use crate::tables::{
    self, BodyKey, ConversationRow, IdentityRow, MessageKey, NameRow, Placed, RowType, TimelineRow,
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

/// Why a post is refused. Nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PostError {
    /// There is no such conversation here.
    #[error("there is no conversation `{0}`")]
    UnknownConversation(Name),
    /// The message it answers or whose thread it joins is not here.
    #[error("there is no message {0} in the conversation")]
    UnknownMessage(MessageId),
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
    /// Beyond a refusal.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
}

impl From<crate::engine::EngineError> for PostError {
    fn from(source: crate::engine::EngineError) -> Self {
        Self::Replica(source.into())
    }
}

impl Replica {
    /// Creates the conversation called `name`. Returns its id and whether it is new.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn create_conversation(
        &mut self,
        name: &Name,
    ) -> Result<(ConversationId, bool), ReplicaError> {
        let id = ConversationId::of(self.space, name, 0);
        if self.conversation(id)?.is_some() {
            return Ok((id, false));
        }
        self.add_conversation(id, name);
        self.building.created.push((id, name.clone()));
        Ok((id, true))
    }

    /// Adds a conversation's rows and counts; its document is the caller's to write.
    pub(super) fn add_conversation(&mut self, id: ConversationId, name: &Name) {
        let sum = self.hasher.row(&id.0, name.as_str().as_bytes());
        self.state.sum.add(&sum);
        self.state.conversations += 1;
        let row = ConversationRow {
            name: name.clone(),
            incarnation: 0,
            ordinal: 0,
            records: 0,
            record_bytes: 0,
            messages: 0,
            last: None,
            sum,
        };
        self.building.conversations.insert(id, row);
        self.put(&(self.space, name.clone()), &NameRow { conversation: id });
    }

    /// Posts a message. The answer may be given to the client when [`Replica::barrier`]'s ticket
    /// is durable.
    ///
    /// # Errors
    /// When the message is refused; then nothing was changed.
    pub fn post(&mut self, now: Millis, message: NewMessage) -> Result<Posted, PostError> {
        check(now, &message)?;
        let id = ConversationId::of(self.space, &message.conversation, 0);
        let mut row = self
            .conversation(id)?
            .ok_or_else(|| PostError::UnknownConversation(message.conversation.clone()))?;
        let key = message.key.clone().unwrap_or_else(|| self.entropy.bytes::<16>().to_vec());
        let identity = Identity::of(id, &message.author, &key);
        let held = tables::get::<IdentityRow>(&self.overlay, &(id, identity.tail()))?;
        if let Some(held) = held {
            let front = held.front(identity).ok_or(PostError::TailTaken)?;
            let held = MessageKey { conversation: id, front, identity };
            return self.retry(held, &message.body);
        }
        let reply_to = self.referred(id, message.reply_to)?;
        let thread = self.referred(id, message.thread)?;
        let above = [reply_to, thread].into_iter().flatten().map(|placed| placed.front).max();
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
        self.place(now, (id, &mut row), &record, &body)?;
        let posted = Posted { id: record.id(), retried: false };
        self.stage(id, row, Staged { record, body });
        Ok(posted)
    }

    /// The answer to a post whose identity is held.
    fn retry(&self, held: MessageKey, body: &[u8]) -> Result<Posted, PostError> {
        let row = timeline_row(&self.overlay, held)?;
        let kept = read_body(&self.overlay, held, row.header.body)?;
        let kept = kept.ok_or_else(|| {
            let key = Body::key(&BodyKey { message: held, copy: None });
            seal::damaged(Body::TABLE, &key, "no body where the timeline has a message")
        })?;
        let id = held.id();
        if kept.bytes != body {
            return Err(PostError::KeyReused(id));
        }
        Ok(Posted { id, retried: true })
    }

    /// Where a message stands that a post refers to.
    fn referred(
        &self,
        conversation: ConversationId,
        id: Option<MessageId>,
    ) -> Result<Option<Placed>, PostError> {
        let Some(id) = id else { return Ok(None) };
        let held = tables::get::<IdentityRow>(&self.overlay, &(conversation, id.tail()))?;
        let placed = held.as_ref().and_then(|row| row.find(id));
        placed.map(Some).ok_or(PostError::UnknownMessage(id))
    }

    /// The first place at `millis` behind all messages of that millisecond; where its 65,536
    /// places are used up, the next millisecond's.
    fn free_front(&self, id: ConversationId, mut millis: Millis) -> Result<Front, PostError> {
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
    fn stage(&mut self, id: ConversationId, mut row: ConversationRow, staged: Staged) {
        if row.records >= SEGMENT_RECORDS || row.record_bytes >= SEGMENT_BYTES {
            row.ordinal += 1;
            row.records = 0;
            row.record_bytes = 0;
        }
        row.records += 1;
        row.record_bytes += record_bytes(&staged.record);
        let segment = SegmentId { conversation: id, ordinal: row.ordinal };
        self.building.conversations.insert(id, row);
        self.building.bytes += staged.body.bytes.len();
        self.building.unannounced.insert((id, staged.record.identity));
        self.building.posts.entry(segment).or_default().push(staged);
    }
}

/// What a record counts against [`SEGMENT_BYTES`].
pub(super) fn record_bytes(record: &Record) -> u32 {
    const KEY: usize = 51;
    (KEY + record.header.encode().len()) as u32
}

fn check(now: Millis, message: &NewMessage) -> Result<(), PostError> {
    let length = message.body.len();
    if length == 0 {
        return Err(PostError::EmptyBody);
    }
    if length > MAX_BODY_BYTES {
        return Err(PostError::BodyTooLarge(length));
    }
    if let Some(key) = &message.key
        && !(1..=MAX_KEY_BYTES).contains(&key.len())
    {
        return Err(PostError::KeyLength(key.len()));
    }
    match message.placing {
        Placing::At(millis) if is_ahead(now, Front { millis, counter: 0 }) => {
            Err(PostError::FutureTime)
        }
        Placing::At(_) | Placing::Now => Ok(()),
    }
}
