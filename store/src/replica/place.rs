//! Placing a record in the timeline: the one path for local posts and remote entries.
//!
//! Invariant: the timeline is a function of the set of records placed, whatever their order. Of
//! several copies of one identity (a retry that reached two regions) the least by front, then by
//! header bytes, is canonical and the only one with a row; the bodies of all copies are kept, so
//! that every entry can be sent on whole.

use super::{Replica, ReplicaError};
use crate::digest::RowSum;
use crate::engine::{EngineError, View};
use crate::id::{ConversationId, Identity, MessageId, Millis};
use crate::record::{Body, BodyReference, Header, Record};
use crate::seal;
use crate::tables::{
    self, BodyKey, ConversationRow, IdentityRow, MessageKey, RowType, TimelineRow,
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
}

impl Replica {
    /// Adds a row to the batch, visible at once to later lookups.
    pub(super) fn put<R: RowType>(&mut self, key: &R::Key, row: &R) {
        let (key, value) = tables::sealed(key, row);
        self.lay(|batch| batch.put(R::TABLE, key, value));
    }

    fn delete<R: RowType>(&mut self, key: &R::Key) {
        let key = R::key(key);
        self.lay(|batch| batch.delete(R::TABLE, key));
    }

    fn lay(&mut self, write: impl FnOnce(&mut crate::engine::Batch)) {
        let mut one = crate::engine::Batch::default();
        write(&mut one);
        self.overlay.lay(self.sealed + 1, &one);
        self.building.batch.append(one);
    }

    /// The row of a conversation, as it will be after the batch.
    pub(super) fn conversation(
        &self,
        id: ConversationId,
    ) -> Result<Option<ConversationRow>, ReplicaError> {
        match self.building.conversations.get(&id) {
            Some(row) => Ok(Some(row.clone())),
            None => Ok(tables::get(&self.overlay, &id)?),
        }
    }

    /// Places `record` with its `body` in the timeline of `conversation`.
    pub(super) fn place(
        &mut self,
        now: Millis,
        conversation: (ConversationId, &mut ConversationRow),
        record: &Record,
        body: &Body,
    ) -> Result<Placement, ReplicaError> {
        let (id, row) = conversation;
        let front = record.header.front;
        if !self.clock.observe(now, front) {
            self.state.ahead += 1;
        }
        let place = MessageKey::of(id, record);
        self.keep_body(place, record, body)?;
        let key = (id, record.identity.tail());
        let mut identities: IdentityRow = tables::get(&self.overlay, &key)?.unwrap_or_default();
        let (placement, added) = match identities.front(record.identity) {
            None => {
                row.messages += 1;
                self.state.messages += 1;
                row.last = row.last.max(Some(record.id()));
                (Placement::New, true)
            }
            Some(front) => self.place_copy(row, record, MessageKey { front, ..place })?,
        };
        if added {
            let timeline = TimelineRow { header: record.header.clone() };
            let sum = self.row_sum(place, &timeline);
            row.sum.add(&sum);
            self.state.sum.add(&sum);
            self.put(&place, &timeline);
            identities.place(record.identity, front);
            self.put(&key, &identities);
        }
        Ok(placement)
    }

    /// Where the canonical copy of `identity` stands.
    pub(super) fn canonical(
        &self,
        conversation: ConversationId,
        identity: Identity,
    ) -> Result<Option<MessageKey>, ReplicaError> {
        let key = (conversation, identity.tail());
        let row: Option<IdentityRow> = tables::get(&self.overlay, &key)?;
        let front = row.and_then(|row| row.front(identity));
        Ok(front.map(|front| MessageKey { conversation, front, identity }))
    }

    /// Places a copy of a message that stands at `held`. True if the copy takes its place.
    fn place_copy(
        &mut self,
        row: &mut ConversationRow,
        record: &Record,
        held: MessageKey,
    ) -> Result<(Placement, bool), ReplicaError> {
        let there = timeline_row(&self.overlay, held)?;
        let same = held.front == record.header.front;
        let key = |header: &Header| (header.front, header.encode());
        if key(&there.header) <= key(&record.header) {
            let placement = if same { Placement::Same } else { Placement::Alias(held.id()) };
            return Ok((placement, false));
        }
        let sum = self.row_sum(held, &there);
        row.sum.subtract(&sum);
        self.state.sum.subtract(&sum);
        if same {
            return Ok((Placement::Same, true));
        }
        self.delete::<TimelineRow>(&held);
        if row.last == Some(held.id()) {
            row.last = self.greatest(held.conversation)?.max(Some(record.id()));
        }
        Ok((Placement::Canonical(held.id()), true))
    }

    /// Keeps the body of a copy: under its id, or under id and digest where another copy has
    /// that place.
    fn keep_body(
        &mut self,
        message: MessageKey,
        record: &Record,
        body: &Body,
    ) -> Result<(), ReplicaError> {
        let mut key = BodyKey { message, copy: None };
        if let Some(held) = tables::get::<Body>(&self.overlay, &key)? {
            if held.reference() == record.header.body {
                return Ok(());
            }
            key.copy = Some(record.header.body.digest);
        }
        self.put(&key, body);
        Ok(())
    }

    fn greatest(&self, id: ConversationId) -> Result<Option<MessageId>, ReplicaError> {
        let end = tables::behind(&id.0);
        let backward = crate::engine::Direction::Backward;
        let row = self.overlay.scan(TimelineRow::TABLE, &id.0, &end, backward).next();
        Ok(match row {
            Some(row) => Some(TimelineRow::parse(&row?.0)?.id()),
            None => None,
        })
    }

    /// The digest of a timeline row.
    fn row_sum(&self, key: MessageKey, row: &TimelineRow) -> RowSum {
        let place = [key.conversation.0, key.identity.0].concat();
        self.hasher.row(&place, &row.header.encode())
    }
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

/// Finds the body with `reference` among the copies kept for a message.
///
/// # Errors
/// When the engine fails or a row is damaged.
pub(crate) fn read_body(
    view: &(impl View + ?Sized),
    message: MessageKey,
    reference: BodyReference,
) -> Result<Option<Body>, EngineError> {
    let key = BodyKey { message, copy: None };
    let first: Option<Body> = tables::get(view, &key)?;
    if first.as_ref().is_some_and(|body| body.reference() == reference) {
        return Ok(first);
    }
    tables::get(view, &BodyKey { copy: Some(reference.digest), ..key })
}
