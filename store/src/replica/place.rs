//! Placing posts in the timeline: the one path for local posts and remote entries.
//!
//! Invariant: the timeline is a function of the set of records placed and of the erasure table,
//! whatever their order. Of several copies of one identity (a retry that reached two regions) the
//! least by front, then by header bytes, is canonical and the only one with a row; the bodies of
//! all copies are kept, so that every entry can be sent on whole.

use super::{Replica, ReplicaError};
use crate::digest::RowSum;
use crate::engine::{EngineError, View};
use crate::erasure::Words;
use crate::id::{ConversationId, Front, Identity, MessageId, Millis};
use crate::record::{Body, BodyReference, Header, MessageState, Record};
use crate::seal;
use crate::tables::{
    self, BodyKey, ConversationRow, IdentityRow, MessageKey, RowType, ThreadKey, ThreadRow,
    TimelineRow,
};

/// What placing a record did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Placement {
    /// A message nobody had seen.
    New,
    /// Another copy of a message; its id is an alias of the canonical one.
    Alias(MessageId),
    /// The copy is the canonical one from now on; the id given was it before.
    Canonical(MessageId),
    /// The very same id again.
    Same,
    /// A message that has expired already.
    Expired,
}

impl Replica {
    /// Adds a row to the batch, visible at once to later lookups.
    pub(super) fn put<R: RowType>(&mut self, key: &R::Key, row: &R) {
        tables::put(self.overlay.building(), key, row);
    }

    pub(super) fn delete<R: RowType>(&mut self, key: &R::Key) {
        tables::delete::<R>(self.overlay.building(), key);
    }

    /// Writes a row that digests count, in the place of `old`; `None` removes it.
    pub(super) fn replace<R: RowType>(
        &mut self,
        conversation: &mut ConversationRow,
        key: &R::Key,
        old: Option<&R>,
        new: Option<&R>,
    ) {
        let key = R::key(key);
        if let Some(old) = old {
            let sum = self.hasher.row(R::TABLE, &key, &tables::content(old));
            conversation.sum.subtract(&sum);
            self.state.sum.subtract(&sum);
        }
        let Some(new) = new else {
            return self.overlay.building().delete(R::TABLE, key);
        };
        let content = tables::content(new);
        let sum = self.hasher.row(R::TABLE, &key, &content);
        self.add(conversation, &sum);
        let value = seal::seal(R::TABLE, &key, R::VERSION, &content);
        self.overlay.building().put(R::TABLE, key, value);
    }

    fn add(&mut self, conversation: &mut ConversationRow, sum: &RowSum) {
        conversation.sum.add(sum);
        self.state.sum.add(sum);
    }

    /// The row of a conversation, as it will be after the batch.
    pub(super) fn conversation(
        &self,
        id: ConversationId,
    ) -> Result<Option<ConversationRow>, ReplicaError> {
        let held = self.building.conversations.get(&id).or_else(|| self.directory.row(id));
        match held {
            Some(row) => Ok(Some(row.clone())),
            None => Ok(tables::get(&self.overlay, &id)?),
        }
    }

    /// The identities that share a tail with `identity`.
    pub(super) fn identities(
        &self,
        conversation: ConversationId,
        identity: Identity,
    ) -> Result<IdentityRow, ReplicaError> {
        let row: Option<IdentityRow> =
            tables::get(&self.overlay, &(conversation, identity.tail()))?;
        Ok(row.unwrap_or_default())
    }

    /// Places `record` in the timeline of `conversation`, given the identities that share its
    /// tail. `body` is none if it is covered by an erasure.
    pub(super) fn place(
        &mut self,
        now: Millis,
        (id, row): (ConversationId, &mut ConversationRow),
        record: &Record,
        body: Option<&Body>,
        mut identities: IdentityRow,
    ) -> Result<Placement, ReplicaError> {
        if !self.clock.observe(now, record.header.front) {
            self.state.ahead += 1;
        }
        let is_covered = self.covers_post(id, row, record);
        self.building.forgets |= is_covered && body.is_some();
        let body = body.filter(|_| !is_covered);
        let placement = match identities.front(record.identity) {
            None => self.place_first(id, row, record, body)?,
            Some(front) => {
                let held = MessageKey { conversation: id, front, identity: record.identity };
                self.place_copy(row, record, body, held)?
            }
        };
        if identities.place(record.identity, record.header.front) {
            self.put(&(id, record.identity.tail()), &identities);
        }
        Ok(placement)
    }

    /// Whether the words of a post are to be forgotten.
    pub(super) fn covers_post(
        &self,
        id: ConversationId,
        row: &ConversationRow,
        record: &Record,
    ) -> bool {
        self.covers(
            row,
            &Words {
                conversation: id,
                message: Some(record.identity),
                author: &record.header.author,
                front: Some(record.header.front),
            },
        )
    }

    /// Places a message of which no copy was seen.
    fn place_first(
        &mut self,
        id: ConversationId,
        row: &mut ConversationRow,
        record: &Record,
        body: Option<&Body>,
    ) -> Result<Placement, ReplicaError> {
        if row.has_expired(record.header.front) {
            return Ok(Placement::Expired);
        }
        let key = MessageKey::of(id, record);
        let state = MessageState {
            erased: self.is_erased(key, &record.header.author),
            ..MessageState::default()
        };
        let late = row.last.is_some_and(|last| last > record.id());
        self.show(row, key, &TimelineRow { state, header: record.header.clone() });
        if let Some(body) = body {
            self.put(&BodyKey::Shown(key), body);
        }
        row.messages += 1;
        self.state.messages += 1;
        row.last = row.last.max(Some(record.id()));
        if late {
            self.note_late(id, row, record.id())?;
        }
        Ok(Placement::New)
    }

    /// Places a copy of a message whose canonical copy stood at `held`.
    fn place_copy(
        &mut self,
        row: &mut ConversationRow,
        record: &Record,
        body: Option<&Body>,
        held: MessageKey,
    ) -> Result<Placement, ReplicaError> {
        let front = record.header.front;
        let there = match row.has_expired(held.front) {
            true => None,
            false => Some(timeline_row(&self.overlay, held)?),
        };
        let order = |header: &Header| (header.front, header.encode());
        let canonical = match &there {
            Some(there) => order(&record.header) < order(&there.header),
            None => front < held.front,
        };
        if let (Some(there), false) = (&there, canonical)
            && there.header == record.header
        {
            return Ok(Placement::Same);
        }
        if let Some(body) = body {
            self.put(&behind(held.conversation, record.identity, front, record.header.body), body);
        }
        if !canonical {
            let same = held.front == front;
            return Ok(if same { Placement::Same } else { Placement::Alias(held.id()) });
        }
        let key = MessageKey::of(held.conversation, record);
        if let Some(there) = there {
            self.hide(row, held, &there);
            self.unshow_body(held, &there)?;
            if row.has_expired(front) {
                self.forget_deeds(row, held)?;
                row.messages -= 1;
                self.state.messages -= 1;
            } else {
                let erased = self.is_erased(key, &record.header.author);
                let state = MessageState { erased, ..there.state };
                let moved = TimelineRow { state, header: record.header.clone() };
                self.show(row, key, &moved);
                self.show_body(key, &moved)?;
            }
            self.renew_last(row, held, (!row.has_expired(front)).then(|| record.id()))?;
        }
        let same = held.front == front;
        Ok(if same { Placement::Same } else { Placement::Canonical(held.id()) })
    }

    /// Adds the rows by which readers find a message.
    pub(super) fn show(&mut self, row: &mut ConversationRow, key: MessageKey, there: &TimelineRow) {
        self.replace(row, &key, None, Some(there));
        if let Some(thread) = thread_key(key, &there.header) {
            self.put(&thread, &ThreadRow);
        }
    }

    /// Removes them.
    pub(super) fn hide(&mut self, row: &mut ConversationRow, key: MessageKey, there: &TimelineRow) {
        self.replace(row, &key, Some(there), None);
        if let Some(thread) = thread_key(key, &there.header) {
            self.delete::<ThreadRow>(&thread);
        }
    }

    /// Moves the words that show behind all that show, if they are held.
    pub(super) fn unshow_body(
        &mut self,
        key: MessageKey,
        there: &TimelineRow,
    ) -> Result<(), ReplicaError> {
        if let Some(body) = tables::get::<Body>(&self.overlay, &BodyKey::Shown(key))? {
            self.put(&shown_behind(key, there), &body);
            self.delete::<Body>(&BodyKey::Shown(key));
        }
        Ok(())
    }

    /// Brings the words that are to show to where they show, if they are held.
    pub(super) fn show_body(
        &mut self,
        key: MessageKey,
        there: &TimelineRow,
    ) -> Result<(), ReplicaError> {
        let behind = shown_behind(key, there);
        if !there.state.erased
            && let Some(body) = tables::get::<Body>(&self.overlay, &behind)?
        {
            self.put(&BodyKey::Shown(key), &body);
            self.delete::<Body>(&behind);
        }
        Ok(())
    }

    /// Finds the greatest message again after that at `gone` moved or went away.
    pub(super) fn renew_last(
        &self,
        row: &mut ConversationRow,
        gone: MessageKey,
        other: Option<MessageId>,
    ) -> Result<(), ReplicaError> {
        if row.last != Some(gone.id()) {
            return Ok(());
        }
        row.last = self.greatest(gone.conversation)?.max(other);
        Ok(())
    }

    pub(super) fn greatest(&self, id: ConversationId) -> Result<Option<MessageId>, ReplicaError> {
        let end = tables::behind(&id.0);
        let backward = crate::engine::Direction::Backward;
        let row = self.overlay.scan(TimelineRow::TABLE, &id.0, &end, backward).next();
        Ok(match row {
            Some(row) => Some(TimelineRow::parse(&row?.0)?.id()),
            None => None,
        })
    }

    /// Where the canonical copy of `identity` stands.
    pub(super) fn canonical(
        &self,
        conversation: ConversationId,
        identity: Identity,
    ) -> Result<Option<MessageKey>, ReplicaError> {
        let front = self.identities(conversation, identity)?.front(identity);
        Ok(front.map(|front| MessageKey { conversation, front, identity }))
    }
}

/// The thread row of the message at `key`, if it belongs to one.
fn thread_key(key: MessageKey, header: &Header) -> Option<ThreadKey> {
    let MessageKey { conversation, front, identity } = key;
    header.thread.map(|root| ThreadKey { conversation, root, front, identity })
}

/// Where words that do not show stand.
pub(super) fn behind(
    conversation: ConversationId,
    identity: Identity,
    front: Front,
    reference: BodyReference,
) -> BodyKey {
    BodyKey::Behind { conversation, front, identity, digest: reference.digest }
}

/// Where the words that show at `key` stand when they do not.
fn shown_behind(key: MessageKey, there: &TimelineRow) -> BodyKey {
    let revised = there.state.revision.as_ref();
    let front = revised.map_or(there.header.front, |revision| revision.rank.front);
    behind(key.conversation, key.identity, front, there.body())
}

/// The timeline row that an index says stands at `key`.
///
/// # Errors
/// When the engine fails, or the row is damaged or missing.
pub(super) fn timeline_row(
    view: &(impl View + ?Sized),
    key: MessageKey,
) -> Result<TimelineRow, EngineError> {
    let row: Option<TimelineRow> = tables::get(view, &key)?;
    row.ok_or_else(|| {
        let key = TimelineRow::key(&key);
        seal::damaged(TimelineRow::TABLE, &key, "no message where an identity stands")
    })
}

/// Finds the words that a record about `identity` with its own `front` refers to: where they
/// show, or behind.
///
/// # Errors
/// When the engine fails or a row is damaged.
pub(crate) fn read_body(
    view: &(impl View + ?Sized),
    conversation: ConversationId,
    (identity, front): (Identity, Front),
    reference: BodyReference,
) -> Result<Option<Body>, EngineError> {
    let fits = |body: &Body| body.reference() == reference;
    let shown = |front| BodyKey::Shown(MessageKey { conversation, front, identity });
    let first: Option<Body> = tables::get(view, &shown(front))?;
    if first.as_ref().is_some_and(fits) {
        return Ok(first);
    }
    let held: Option<Body> = tables::get(view, &behind(conversation, identity, front, reference))?;
    if held.as_ref().is_some_and(fits) {
        return Ok(held);
    }
    // An edit that shows stands under its message's place.
    let row: Option<IdentityRow> = tables::get(view, &(conversation, identity.tail()))?;
    match row.and_then(|row| row.front(identity)) {
        Some(canonical) if canonical != front => {
            let body: Option<Body> = tables::get(view, &shown(canonical))?;
            Ok(body.filter(fits))
        }
        Some(_) | None => Ok(None),
    }
}
