//! Reading: pages of a conversation, single messages, lists of conversations.
//!
//! Works on one moment of the engine, never passes the replica thread and never loads a
//! document. Invariant: the token of an answer was read in the same moment as its rows.

use std::collections::BTreeMap;

use crate::engine::{Direction, EngineError, EngineSlot, Row, Rows, Table, View};
use crate::id::{ConversationId, Front, Identity, MessageId, OriginId, SpaceId};
use crate::name::Name;
use crate::record::{Access, Body, Message};
use crate::replica::{read_origins, vector_of};
use crate::seal;
use crate::tables::{
    self, BodyKey, ConversationRow, IdentityRow, MessageKey, NameRow, OriginRow, RowType,
    ThreadRow, TimelineRow,
};
use crate::vector::VersionVector;

mod follow;
mod history;
mod people;

pub use follow::FollowError;
pub use history::{History, Revised};
pub use people::{Member, Settings, Unread};

/// Reads a space. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    engine: EngineSlot,
    space: SpaceId,
}

/// Which messages of a conversation to read. All bounds are exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// The newest.
    Last,
    /// The newest before this id.
    Before(MessageId),
    /// The oldest after this id.
    After(MessageId),
}

/// A page of messages, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The messages.
    pub messages: Vec<Message>,
    /// Whether there are older ones before the first.
    pub older: bool,
    /// Whether there are newer ones after the last.
    pub newer: bool,
    /// What the node held when the page was read.
    pub vector: VersionVector,
}

/// A conversation as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Its name.
    pub name: Name,
    /// Messages in its timeline.
    pub messages: u64,
    /// The greatest message id.
    pub last: Option<MessageId>,
    /// Who may read and write.
    pub access: Access,
    /// Whether entries about it could not be applied here, so that it may lack something.
    pub damaged: bool,
}

/// Why something cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// There is no such conversation here.
    #[error("there is no conversation `{0}`")]
    UnknownConversation(Name),
    /// The engine failed or holds damaged rows.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Reader {
    /// A reader of `space`, from an engine or from the slot where the node keeps its engine.
    #[must_use]
    pub fn new(engine: impl Into<EngineSlot>, space: SpaceId) -> Self {
        Self { engine: engine.into(), space }
    }

    /// Reads a page of at most `limit` messages, and those that share the id of the last.
    ///
    /// # Errors
    /// When the conversation is unknown, the engine fails or a row is damaged.
    pub fn page(&self, name: &Name, range: Range, limit: usize) -> Result<Page, ReadError> {
        let engine = self.engine.current()?;
        let view = engine.view();
        let view = &*view;
        let (id, _) = self.lookup(view, name)?;
        let end = tables::behind(&id.0);
        let at = |message: MessageId| MessageKey::id_prefix(id, message);
        let first = at(MessageId::MIN);
        let past = |message: MessageId| tables::behind(&at(message));
        let (start, stop, direction) = match range {
            Range::Last => (first.clone(), end.clone(), Direction::Backward),
            Range::Before(message) => (first.clone(), at(message), Direction::Backward),
            Range::After(message) => (past(message), end.clone(), Direction::Forward),
        };
        let rows = view.scan(Table::Timeline, &start, &stop, direction);
        let (mut rows, more) = take(rows, limit)?;
        if direction == Direction::Backward {
            rows.reverse();
        }
        let messages = read_messages(view, id, &rows)?;
        let (older, newer) = match range {
            Range::Last => (more, false),
            Range::Before(message) => {
                (more, has_any(view, &at(message), &end, Direction::Forward)?)
            }
            // Backward, so that it looks beside the page and not at the other end of the
            // conversation, where nothing is in any cache.
            Range::After(message) => {
                (has_any(view, &first, &past(message), Direction::Backward)?, more)
            }
        };
        let vector = vector_of(&read_origins(view, self.space)?);
        Ok(Page { messages, older, newer, vector })
    }

    /// Reads a page of a thread: at most `limit` messages after `after`, the oldest first. The
    /// root itself is not among them.
    ///
    /// # Errors
    /// When the conversation is unknown, the engine fails or a row is damaged.
    pub fn thread(
        &self,
        name: &Name,
        root: MessageId,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Option<Page>, ReadError> {
        let engine = self.engine.current()?;
        let view = engine.view();
        let view = &*view;
        let (id, _) = self.lookup(view, name)?;
        let Some(root) = place_of(view, id, root)? else { return Ok(None) };
        let prefix = ThreadRow::prefix(id, root.identity);
        let start = match after {
            Some(after) => [&prefix[..], &after.front().next().to_bytes()].concat(),
            None => prefix.clone(),
        };
        let end = tables::behind(&prefix);
        let mut rows = view.scan(Table::Index, &start, &end, Direction::Forward);
        let mut messages = Vec::new();
        let mut newer = false;
        for row in rows.by_ref() {
            if messages.len() >= limit {
                newer = true;
                break;
            }
            let place = ThreadRow::parse(&row?.0)?;
            let key = MessageKey { conversation: id, front: place.front, identity: place.identity };
            messages.extend(read_message(view, key)?);
        }
        let vector = vector_of(&read_origins(view, self.space)?);
        Ok(Some(Page { messages, older: after.is_some(), newer, vector }))
    }

    /// Reads one message; an id of any copy of it finds it.
    ///
    /// # Errors
    /// When the conversation is unknown, the engine fails or a row is damaged.
    pub fn message(&self, name: &Name, id: MessageId) -> Result<Option<Message>, ReadError> {
        let engine = self.engine.current()?;
        let view = engine.view();
        let (conversation, row) = self.lookup(&*view, name)?;
        let key = place_of(&*view, conversation, id)?;
        let Some(key) = key.filter(|key| !row.has_expired(key.front)) else { return Ok(None) };
        Ok(read_message(&*view, key)?)
    }

    /// The canonical id of a message, given the id of any copy.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub fn canonical(
        &self,
        conversation: ConversationId,
        identity: crate::id::Identity,
    ) -> Result<Option<MessageId>, EngineError> {
        let key = (conversation, identity.tail());
        let row = tables::get::<tables::IdentityRow>(&*self.engine.current()?, &key)?;
        let front = row.and_then(|row| row.front(identity));
        Ok(front.map(|front| MessageId::new(front, identity)))
    }

    /// Reads a conversation's row.
    ///
    /// # Errors
    /// When it is unknown, the engine fails or a row is damaged.
    pub fn conversation(&self, name: &Name) -> Result<Conversation, ReadError> {
        let (id, row) = self.lookup(&*self.engine.current()?, name)?;
        Ok(listed(id, row))
    }

    /// The name of a conversation.
    ///
    /// # Errors
    /// When the engine fails or the row is damaged.
    pub fn name_of(&self, id: ConversationId) -> Result<Option<Name>, EngineError> {
        Ok(tables::get::<ConversationRow>(&*self.engine.current()?, &id)?.map(|row| row.name))
    }

    /// Lists at most `limit` conversations by name, those after `after`.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub fn conversations(
        &self,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<Conversation>, EngineError> {
        let engine = self.engine.current()?;
        let view = engine.view();
        let prefix = NameRow::prefix(self.space);
        let start = match after {
            Some(name) => [&NameRow::key(&(self.space, name.clone()))[..], &[0]].concat(),
            None => prefix.clone(),
        };
        let rows = view.scan(Table::Index, &start, &tables::behind(&prefix), Direction::Forward);
        rows.take(limit)
            .map(|row| {
                let (key, value) = row?;
                let id = tables::open::<NameRow>(&key, &value)?.conversation;
                let row = tables::get::<ConversationRow>(&*view, &id)?;
                let row = row.ok_or_else(|| {
                    seal::damaged(Table::Index, &key, "a name without a conversation")
                })?;
                Ok(listed(id, row))
            })
            .collect()
    }

    /// What the node holds.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub fn vector(&self) -> Result<VersionVector, EngineError> {
        Ok(vector_of(&self.origins()?))
    }

    /// The origins known, with what is held of each.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub fn origins(&self) -> Result<BTreeMap<OriginId, OriginRow>, EngineError> {
        read_origins(&*self.engine.current()?, self.space)
    }

    fn lookup(
        &self,
        view: &(impl View + ?Sized),
        name: &Name,
    ) -> Result<(ConversationId, ConversationRow), ReadError> {
        // Not by the id of the first incarnation, though most names were used once: of several
        // that live the name means the latest, for readers as for writers.
        let unknown = || ReadError::UnknownConversation(name.clone());
        let named: Option<NameRow> = tables::get(view, &(self.space, name.clone()))?;
        let id = named.ok_or_else(unknown)?.conversation;
        let row = tables::get::<ConversationRow>(view, &id)?;
        row.map(|row| (id, row)).ok_or_else(unknown)
    }
}

fn listed(id: ConversationId, row: ConversationRow) -> Conversation {
    let ConversationRow { name, messages, last, access, quarantined, .. } = row;
    Conversation { id, name, messages, last, access, damaged: quarantined > 0 }
}

/// Whether there is a message between two keys, looked for from the end that `direction` says.
fn has_any(
    view: &dyn View,
    start: &[u8],
    end: &[u8],
    direction: Direction,
) -> Result<bool, EngineError> {
    Ok(view.scan(Table::Timeline, start, end, direction).next().transpose()?.is_some())
}

/// Where the canonical copy of a message stands, given the id of any copy.
fn place_of(
    view: &dyn View,
    conversation: ConversationId,
    id: MessageId,
) -> Result<Option<MessageKey>, EngineError> {
    let row: Option<IdentityRow> = tables::get(view, &(conversation, id.tail()))?;
    Ok(row.as_ref().and_then(|row| row.find(id)).map(|placed| {
        let (front, identity): (Front, Identity) = (placed.canonical(), placed.identity);
        MessageKey { conversation, front, identity }
    }))
}

/// The message at a place, if it shows.
fn read_message(view: &dyn View, place: MessageKey) -> Result<Option<Message>, EngineError> {
    let key = TimelineRow::key(&place);
    let Some(value) = view.get(Table::Timeline, &key)? else { return Ok(None) };
    Ok(read_messages(view, place.conversation, &[(key, value)])?.pop())
}

/// Joins timeline rows, in the order of their ids, with their bodies: one scan of each table.
fn read_messages(
    view: &dyn View,
    conversation: ConversationId,
    rows: &[Row],
) -> Result<Vec<Message>, EngineError> {
    let (Some((first, _)), Some((last, _))) = (rows.first(), rows.last()) else {
        return Ok(Vec::new());
    };
    let bodies = view.scan(Table::Bodies, first, &tables::behind(last), Direction::Forward);
    let mut bodies = bodies.peekable();
    let mut messages = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        let place = TimelineRow::parse(key)?;
        let row: TimelineRow = tables::open(key, value)?;
        while bodies.next_if(|body| body.as_ref().is_ok_and(|(other, _)| other < key)).is_some() {}
        let held = bodies.next_if(|body| body.as_ref().is_ok_and(|(other, _)| other == key));
        let body = match held.transpose()? {
            Some(_) if !row.state.is_visible() => Vec::new(),
            Some((key, value)) => shown_body(&key, &value, &row)?,
            None if row.state.is_visible() => {
                let key = Body::key(&BodyKey::Shown(place));
                return Err(seal::damaged(Table::Bodies, &key, "no body where a message shows"));
            }
            None => Vec::new(),
        };
        let (id, identity) = (place.id(), place.identity);
        let TimelineRow { state, header } = row;
        messages.push(Message { conversation, id, identity, header, state, body });
    }
    Ok(messages)
}

fn shown_body(key: &[u8], value: &[u8], row: &TimelineRow) -> Result<Vec<u8>, EngineError> {
    let body: Body = tables::open(key, value)?;
    if body.reference() != row.body() {
        let why = "a body that is not the one its message refers to";
        return Err(seal::damaged(Table::Bodies, key, why));
    }
    Ok(body.bytes)
}

/// The first `limit` rows, and whether there are more. Rows of one id are not parted: no bound
/// could name the place between them.
fn take(rows: Rows<'_>, limit: usize) -> Result<(Vec<Row>, bool), EngineError> {
    let mut taken: Vec<Row> = Vec::new();
    for row in rows {
        let row = row?;
        let id = |row: &Row| row.0.get(..MessageKey::ID_PREFIX_BYTES).map(<[u8]>::to_vec);
        if taken.len() >= limit && taken.last().is_none_or(|last| id(last) != id(&row)) {
            return Ok((taken, true));
        }
        taken.push(row);
    }
    Ok((taken, false))
}
