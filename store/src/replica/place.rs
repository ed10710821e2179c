//! Placing a record in the timeline: the one path for local posts and remote entries.
//!
//! Invariant: the timeline is a function of the set of records placed, whatever their order. Of
//! several copies of one identity (a retry that reached two regions) the least by front, then by
//! header bytes, is canonical and the only one with a row; the bodies of all copies are kept, so
//! that every entry can be sent on whole.

use super::{Replica, ReplicaError};
use crate::digest::RowSum;
use crate::engine::View;
use crate::id::{ConversationId, MessageId, Millis};
use crate::record::{Body, BodyReference, Record};
use crate::tables::{self, BodyKey, ConversationRow, IdentityRow, RowType, TimelineRow};

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
        self.keep_body(id, record, body)?;
        let key = (id, record.identity.tail());
        let mut identities: IdentityRow = tables::get(&self.overlay, &key)?.unwrap_or_default();
        let (placement, added) = match identities.front(record.identity) {
            None => {
                row.messages += 1;
                self.state.messages += 1;
                row.last = row.last.max(Some(record.id()));
                (Placement::New, true)
            }
            Some(held) => self.place_copy((id, row), record, MessageId::new(held, record.identity))?,
        };
        if added {
            let timeline =
                TimelineRow { identity: record.identity, header: record.header.clone() };
            let sum = self.row_sum(id, &timeline);
            row.sum.add(&sum);
            self.state.sum.add(&sum);
            self.put(&(id, record.id()), &timeline);
            identities.place(record.identity, front);
            self.put(&key, &identities);
        }
        Ok(placement)
    }

    /// Places a copy of a message that stands at `held`. True if the copy takes its place.
    fn place_copy(
        &mut self,
        conversation: (ConversationId, &mut ConversationRow),
        record: &Record,
        held: MessageId,
    ) -> Result<(Placement, bool), ReplicaError> {
        let (id, row) = conversation;
        let there: Option<TimelineRow> = tables::get(&self.overlay, &(id, held))?;
        let there = there
            .ok_or_else(|| ReplicaError::Damaged(format!("message {held} has no timeline row")))?;
        let key = |header: &crate::record::Header| (header.front, header.encode());
        if key(&there.header) <= key(&record.header) {
            let same = held == record.id();
            let placement = if same { Placement::Same } else { Placement::Alias(held) };
            return Ok((placement, false));
        }
        let sum = self.row_sum(id, &there);
        row.sum.subtract(&sum);
        self.state.sum.subtract(&sum);
        if held == record.id() {
            return Ok((Placement::Same, true));
        }
        self.delete::<TimelineRow>(&(id, held));
        if row.last == Some(held) {
            row.last = self.greatest(id)?.max(Some(record.id()));
        }
        Ok((Placement::Canonical(held), true))
    }

    /// Keeps the body of a copy: under its id, or under id and digest where another copy has
    /// that place.
    fn keep_body(
        &mut self,
        conversation: ConversationId,
        record: &Record,
        body: &Body,
    ) -> Result<(), ReplicaError> {
        let mut key = BodyKey { conversation, message: record.id(), copy: None };
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
            Some(row) => Some(TimelineRow::parse(&row?.0)?),
            None => None,
        })
    }

    /// The digest of a timeline row.
    fn row_sum(&self, conversation: ConversationId, row: &TimelineRow) -> RowSum {
        let place = [&conversation.0[..], &row.identity.0].concat();
        self.hasher.row(&place, &row.header.encode())
    }
}

/// Finds the body with `reference` among the copies kept for a message.
///
/// # Errors
/// When the engine fails or a row is damaged.
pub(crate) fn read_body(
    view: &(impl View + ?Sized),
    conversation: ConversationId,
    message: MessageId,
    reference: BodyReference,
) -> Result<Option<Body>, crate::engine::EngineError> {
    let key = BodyKey { conversation, message, copy: None };
    let first: Option<Body> = tables::get(view, &key)?;
    if first.as_ref().is_some_and(|body| body.reference() == reference) {
        return Ok(first);
    }
    tables::get(view, &BodyKey { copy: Some(reference.digest), ..key })
}
