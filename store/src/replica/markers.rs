//! Read markers: up to where people have read, and what came in below.
//!
//! Markers are registers of the greatest message; unread counts follow from them when they are
//! asked for. Invariant: a message that is applied below a marker is listed as late for its user
//! until the marker moves; that list is this node's own, since it depends on arrival.

use super::{Replica, ReplicaError};
use crate::entry::Marker;
use crate::id::{ConversationId, MessageId};
use crate::name::Name;
use crate::tables::{self, ConversationRow, LateRow, MarkerRow, RowType};

/// The most late messages that are listed for one user in one conversation.
const MAX_LATE: usize = 100;

impl Replica {
    /// Moves a marker, if it moves forward.
    pub(super) fn take_marker(&mut self, marker: &Marker) -> Result<(), ReplicaError> {
        let Marker { conversation, user, message } = marker.clone();
        let Some(mut row) = self.conversation(conversation)? else { return Ok(()) };
        let key = (conversation, user.clone());
        let held: Option<MarkerRow> = tables::get(&self.overlay, &key)?;
        if held.as_ref().is_some_and(|held| held.message >= message) {
            return Ok(());
        }
        let late = LateRow::prefix(conversation, &user);
        self.delete_range(LateRow::TABLE, &late, &tables::behind(&late))?;
        let moved = MarkerRow { user, message };
        self.replace(&mut row, &key, held.as_ref(), Some(&moved));
        row.read = row.read.max(Some(message));
        self.building.conversations.insert(conversation, row);
        Ok(())
    }

    /// Lists a message as late for everybody who has read further.
    pub(super) fn note_late(
        &mut self,
        id: ConversationId,
        row: &ConversationRow,
        message: MessageId,
    ) -> Result<(), ReplicaError> {
        if row.read.is_none_or(|read| read < message) {
            return Ok(());
        }
        let prefix = MarkerRow::prefix(id);
        let mut users: Vec<Name> = Vec::new();
        for marker in tables::rows::<MarkerRow, _>(&self.overlay, &prefix) {
            let (_, marker) = marker?;
            if marker.message > message {
                users.push(marker.user);
            }
        }
        for user in users {
            let late = LateRow::prefix(id, &user);
            let listed = tables::rows::<LateRow, _>(&self.overlay, &late).take(MAX_LATE).count();
            if listed < MAX_LATE {
                self.put(&(id, user, message), &LateRow);
            }
        }
        Ok(())
    }
}
