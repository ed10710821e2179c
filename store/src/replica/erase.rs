//! Forgetting: rows of the erasure table take effect, at once and wherever they come from.
//!
//! Invariant: after a row is applied nothing it covers is read, kept or sent on, and what arrives
//! later and is covered is never kept. Bytes leave the files when they are swept (`maintain.rs`).

use super::apply::words_of;
use super::documents::CONVERSATION_DOCUMENT;
use super::place::timeline_row;
use super::{Replica, ReplicaError};
use crate::engine::{Direction, Table, View};
use crate::erasure::{Erasure, Words};
use crate::id::{ConversationId, Front, Millis};
use crate::log::{self, LogEntry};
use crate::name::Name;
use crate::projection::{documents_of, records_in};
use crate::record::{Body, RecordKey, Statement};
use crate::seal;
use crate::tables::{
    self, BodyKey, ConversationRow, ErasureKey, LogRow, MembershipRow, MessageKey, NameRow,
    RowType, SweepRow, TimelineRow, behind,
};

impl Replica {
    /// Applies a row. Returns false if it was known, or a greater one is.
    pub(super) fn take_erasure(
        &mut self,
        now: Millis,
        erasure: &Erasure,
    ) -> Result<bool, ReplicaError> {
        let key = (self.space, ErasureKey::of(erasure));
        let held: Option<Erasure> = tables::get(&self.overlay, &key)?;
        if held.as_ref().is_some_and(|held| held >= erasure) {
            return Ok(false);
        }
        self.record_erasure(&key, held.as_ref(), erasure);
        self.remember(erasure);
        if let Erasure::Author { up_to, .. } | Erasure::Cut { up_to, .. } = erasure {
            // What is said here from now on is not what was to be forgotten, also where this
            // node's clock is behind that of who wrote the row.
            self.clock.observe(now, *up_to);
        }
        match erasure {
            Erasure::Message { conversation, identity } => {
                let mut row = self.conversation(*conversation)?;
                if let Some(row) = &mut row
                    && let Some(place) = self.canonical(*conversation, *identity)?
                {
                    self.erase_message(row, place)?;
                    self.forget_words(*conversation, *identity)?;
                }
                self.keep_row(*conversation, row);
                self.sweep_later(now, *conversation)?;
            }
            Erasure::Author { author, up_to } => {
                self.erase_words_of(now, author, *up_to)?;
            }
            Erasure::Conversation { name, conversation, .. } => {
                self.retire(name, *conversation)?;
                self.sweep_later(now, *conversation)?;
            }
            Erasure::Cut { conversation, up_to } => {
                let mut row = self.conversation(*conversation)?;
                if let Some(row) = &mut row {
                    self.cut(*conversation, row, *up_to)?;
                }
                self.keep_row(*conversation, row);
                self.sweep_later(now, *conversation)?;
            }
        }
        Ok(true)
    }

    fn record_erasure(
        &mut self,
        key: &(crate::id::SpaceId, ErasureKey),
        held: Option<&Erasure>,
        erasure: &Erasure,
    ) {
        let bytes = Erasure::key(key);
        if let Some(held) = held {
            let sum = self.hasher.row(Table::Erasures, &bytes, &tables::content(held));
            self.state.erasures.subtract(&sum);
        }
        let sum = self.hasher.row(Table::Erasures, &bytes, &tables::content(erasure));
        self.state.erasures.add(&sum);
        if held.is_none() && matches!(erasure, Erasure::Message { .. }) {
            self.state.erased_messages += 1;
        }
        self.put(key, erasure);
        self.building.touched = true;
        self.building.forgets = true;
    }

    fn keep_row(&mut self, id: ConversationId, row: Option<ConversationRow>) {
        if let Some(row) = row {
            self.building.conversations.insert(id, row);
        }
    }

    /// Whether any row covers `words`. The conversation's cut stands in its row.
    pub(super) fn covers(&self, row: &ConversationRow, words: &Words<'_>) -> bool {
        let until = |up_to: Option<Front>| match (words.front, up_to) {
            (Some(front), Some(up_to)) => front <= up_to,
            (None, _) | (_, None) => false,
        };
        until(row.cut)
            || until(self.erased_authors.get(words.author).copied())
            || words
                .message
                .is_some_and(|identity| self.is_message_erased(words.conversation, identity))
    }

    fn is_message_erased(
        &self,
        conversation: ConversationId,
        identity: crate::id::Identity,
    ) -> bool {
        if self.state.erased_messages == 0 {
            return false;
        }
        let key = Erasure::key(&(self.space, ErasureKey::Message(conversation, identity)));
        // A row that cannot be read covers: better to keep too little than what must be gone.
        self.overlay.get(Table::Erasures, &key).map_or(true, |row| row.is_some())
    }

    /// Whether the message at `place`, by `author`, shows as erased.
    pub(super) fn is_erased(&self, place: MessageKey, author: &Name) -> bool {
        let up_to = self.erased_authors.get(author);
        up_to.is_some_and(|up_to| place.front <= *up_to)
            || self.is_message_erased(place.conversation, place.identity)
    }

    /// Shows the message at `place` as erased, if it shows at all.
    fn erase_message(
        &mut self,
        row: &mut ConversationRow,
        place: MessageKey,
    ) -> Result<(), ReplicaError> {
        if row.has_expired(place.front) {
            return Ok(());
        }
        let there = timeline_row(&self.overlay, place)?;
        if there.state.erased {
            return Ok(());
        }
        let mut now = there.clone();
        now.state.erased = true;
        self.replace(row, &place, Some(&there), Some(&now));
        Ok(())
    }

    /// Walks all that the space holds: an author's words stand in no index of their own.
    fn erase_words_of(
        &mut self,
        now: Millis,
        author: &Name,
        up_to: Front,
    ) -> Result<(), ReplicaError> {
        let prefix = NameRow::prefix(self.space);
        let names = tables::rows::<NameRow, _>(&self.overlay, &prefix);
        let ids = names.map(|row| row.map(|(_, row)| row.conversation));
        let ids: Vec<ConversationId> = ids.collect::<Result<_, _>>()?;
        for id in ids {
            let Some(mut row) = self.conversation(id)? else { continue };
            let places = self.places_by(id, author, up_to)?;
            let expired = self.forget_left_words(id, &row, author, up_to)?;
            if places.is_empty() && !expired {
                continue;
            }
            for place in places {
                if place.front <= up_to {
                    self.erase_message(&mut row, place)?;
                }
                self.forget_words_until(place, author, up_to)?;
            }
            self.building.conversations.insert(id, row);
            self.sweep_later(now, id)?;
        }
        Ok(())
    }

    /// Takes out of the batch that is being ended what rows cover: nobody is shown or sent it.
    pub(super) fn withhold(&mut self) -> Result<(), ReplicaError> {
        if !std::mem::take(&mut self.building.forgets) {
            return Ok(());
        }
        for parcel in self.building.own.iter_mut().filter(|parcel| !parcel.bodies.is_empty()) {
            let (origin, seq) = (parcel.origin, parcel.seq);
            let log: Option<LogRow> = tables::get(&self.overlay, &(self.space, origin, seq))?;
            let Some(LogRow { digest, entry: bytes }) = log else { continue };
            let entry = LogEntry { origin, seq, depth: 0, digest, bytes };
            parcel.bodies = log::parcel(&self.overlay, self.space, entry)?.bodies;
        }
        let mut applied = std::mem::take(&mut self.building.applied);
        for applied in &mut applied {
            let places = std::mem::take(&mut applied.places);
            let messages = std::mem::take(&mut applied.messages);
            for (at, mut message) in places.into_iter().zip(messages) {
                let place = self.canonical(message.conversation, message.identity)?;
                let row = self.conversation(message.conversation)?;
                let (Some(place), Some(row)) = (place, row) else { continue };
                if row.has_expired(place.front) {
                    continue;
                }
                if timeline_row(&self.overlay, place)?.state.erased {
                    message.state.erased = true;
                    message.body.clear();
                }
                applied.bring(at as usize, message);
            }
        }
        self.building.applied = applied;
        Ok(())
    }

    /// Where messages by `author` stand in a conversation, up to `up_to`, and later ones that were
    /// edited: where a clock was wild an edit can lie before its message.
    fn places_by(
        &self,
        id: ConversationId,
        author: &Name,
        up_to: Front,
    ) -> Result<Vec<MessageKey>, ReplicaError> {
        let mut places = Vec::new();
        for row in tables::rows::<TimelineRow, _>(&self.overlay, &id.0) {
            let (key, there) = row?;
            let reached = there.header.front <= up_to || there.state.revision.is_some();
            if there.header.author == *author && reached {
                places.push(TimelineRow::parse(&key)?);
            }
        }
        Ok(places)
    }

    /// Removes the words that `author` wrote up to `up_to` and that messages left behind which
    /// have expired: later edits and copies. No row tells any more whose they are, so documents
    /// must. True if there may have been any.
    fn forget_left_words(
        &mut self,
        id: ConversationId,
        row: &ConversationRow,
        author: &Name,
        up_to: Front,
    ) -> Result<bool, ReplicaError> {
        let Some(cut) = row.cut.filter(|cut| *cut < up_to) else { return Ok(false) };
        let words = BodyKey::behind_prefix(id);
        let start = [&words[..], &cut.next().to_bytes()].concat();
        let end = [&words[..], &up_to.next().to_bytes()].concat();
        if self.overlay.scan(Body::TABLE, &start, &end, Direction::Forward).next().is_none() {
            return Ok(false);
        }
        let erasure = Erasure::Author { author: author.clone(), up_to };
        for document in documents_of(&self.overlay, id)? {
            if document.ordinal == CONVERSATION_DOCUMENT {
                continue;
            }
            for (key, scalar) in records_in(&self.overlay, self.space, document)? {
                let statement = Statement::decode(scalar.as_bytes());
                let (Ok(key), Ok(statement)) = (RecordKey::from_text(&key), statement) else {
                    continue;
                };
                let words = words_of(id, key.identity, &statement);
                let Some(words) = words.filter(|words| erasure.covers(words)) else { continue };
                if let (Some(front), Some(message)) = (words.front, words.message) {
                    let prefix = BodyKey::record_prefix(id, front, message);
                    self.delete_range(Body::TABLE, &prefix, &behind(&prefix))?;
                }
            }
        }
        Ok(true)
    }

    /// Takes a conversation out of the space. Its rows are removed bit by bit (`maintain.rs`):
    /// nothing finds them from now on.
    fn retire(&mut self, name: &Name, id: ConversationId) -> Result<(), ReplicaError> {
        let Some(row) = self.conversation(id)? else { return Ok(()) };
        self.state.sum.subtract(&row.sum);
        self.state.messages -= row.messages;
        self.state.conversations -= 1;
        for (user, _) in self.members(id)? {
            self.delete::<MembershipRow>(&(self.space, user, id));
        }
        let key = (self.space, name.clone());
        let named: Option<NameRow> = tables::get(&self.overlay, &key)?;
        if named.is_some_and(|named| named.conversation == id) {
            self.delete::<NameRow>(&key);
        }
        self.building.conversations.remove(&id);
        self.directory.forget(name, id);
        self.delete::<ConversationRow>(&id);
        Ok(())
    }

    /// Removes what was said in a conversation up to `up_to`: rows and words, not documents.
    pub(super) fn cut(
        &mut self,
        id: ConversationId,
        row: &mut ConversationRow,
        up_to: Front,
    ) -> Result<(), ReplicaError> {
        let end = [&id.0[..], &up_to.next().to_bytes()].concat();
        let rows = self.overlay.scan(TimelineRow::TABLE, &id.0, &end, Direction::Forward);
        let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
        for (key, value) in rows {
            let place = TimelineRow::parse(&key)?;
            let there: TimelineRow = tables::open(&key, &value)?;
            self.hide(row, place, &there);
            // An edit's own words expire in their own time.
            self.unshow_body(place, &there)?;
            self.forget_deeds(row, place)?;
            row.messages -= 1;
            self.state.messages -= 1;
        }
        row.cut = row.cut.max(Some(up_to));
        if row.last.is_some_and(|last| last.front() <= up_to) {
            row.last = self.greatest(id)?;
        }
        let words = BodyKey::behind_prefix(id);
        let end = [&words[..], &up_to.next().to_bytes()].concat();
        self.delete_range(Body::TABLE, &words, &end)
    }

    /// Removes the rows with `start <= key < end`.
    pub(super) fn delete_range(
        &mut self,
        table: Table,
        start: &[u8],
        end: &[u8],
    ) -> Result<(), ReplicaError> {
        let rows = self.overlay.scan(table, start, end, Direction::Forward);
        let keys: Vec<Vec<u8>> =
            rows.map(|row| row.map(|(key, _)| key)).collect::<Result<_, _>>()?;
        keys.into_iter().for_each(|key| self.overlay.building().delete(table, key));
        Ok(())
    }

    /// Takes note that bytes of a conversation are to leave the files.
    pub(super) fn sweep_later(
        &mut self,
        now: Millis,
        id: ConversationId,
    ) -> Result<(), ReplicaError> {
        let key = (self.space, id);
        let held: Option<SweepRow> = tables::get(&self.overlay, &key)?;
        let SweepRow { since, erasures } = held.unwrap_or(SweepRow { since: now, erasures: 0 });
        self.put(&key, &SweepRow { since, erasures: erasures + 1 });
        self.building.touched = true;
        Ok(())
    }
}

/// The row of the erasure table that covers `words`, if one does; to be sent in their place.
///
/// # Errors
/// When the engine fails or a row is damaged.
pub(crate) fn covering(
    view: &(impl View + ?Sized),
    space: crate::id::SpaceId,
    words: &Words<'_>,
) -> Result<Option<Erasure>, crate::engine::EngineError> {
    let conversation = words.conversation;
    let keys = [
        Some(ErasureKey::Conversation(conversation)),
        words.message.map(|identity| ErasureKey::Message(conversation, identity)),
        Some(ErasureKey::Author(words.author.clone())),
        Some(ErasureKey::Cut(conversation)),
    ];
    for key in keys.into_iter().flatten() {
        let row: Option<Erasure> = tables::get(view, &(space, key))?;
        if let Some(row) = row.filter(|row| row.covers(words)) {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// The error for words that are neither held nor covered.
pub(crate) fn words_missing(table: Table, key: &[u8]) -> crate::engine::EngineError {
    seal::damaged(table, key, "a record whose words are neither held nor covered by an erasure")
}

/// The ranges of keys in which words of a conversation can stand.
pub(super) fn ranges_of(id: ConversationId) -> Vec<super::maintain::KeyRange> {
    [Table::Bodies, Table::Timeline].map(|table| (table, id.0.to_vec(), behind(&id.0))).to_vec()
}

#[cfg(test)]
mod edges;
#[cfg(test)]
mod tests;
