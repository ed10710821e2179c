//! Words that a message left behind when it expired: of edits and copies that are younger than the
//! cut. Their entries are still sent with them, and no row says whose they are.
//!
//! Knows only how to forget them. Invariant: what an erasure covers goes, and what none covers
//! stays for as long as its entry may be asked for.

use std::collections::BTreeSet;

use super::apply::{records_of, words_of};
use super::{Replica, ReplicaError};
use crate::document::Change;
use crate::engine::{Direction, Table, View};
use crate::entry::{Entry, EntryKind};
use crate::id::{ConversationId, Front, Identity, Millis, OriginId};
use crate::name::Name;
use crate::record::Body;
use crate::tables::{self, BodyKey, LogRow, NameRow, RowType, behind};

/// Whose and when: what the keys of words that do not show say of them.
type Left = BTreeSet<(ConversationId, Front, Identity)>;

impl Replica {
    /// Removes the words that an expired message left behind.
    pub(super) fn forget_left_words_about(
        &mut self,
        conversation: ConversationId,
        message: Identity,
    ) -> Result<(), ReplicaError> {
        let left = self.left_in(conversation, &behind(&BodyKey::behind_prefix(conversation)))?;
        self.forget_left(left.into_iter().filter(|(.., identity)| *identity == message))
    }

    /// Removes what expired messages left behind of an author's words, up to `up_to`. Whose they
    /// are stands in the log alone; what stands there no more, nobody will ask for.
    pub(super) fn forget_left_words_of(
        &mut self,
        now: Millis,
        author: &Name,
        up_to: Front,
    ) -> Result<(), ReplicaError> {
        let mut left = self.left_of_expired(up_to)?;
        if left.is_empty() {
            return Ok(());
        }
        self.keep_those_of_others(author, &mut left)?;
        for (conversation, ..) in &left {
            self.sweep_later(now, *conversation)?;
        }
        self.forget_left(left.into_iter())
    }

    fn forget_left(
        &mut self,
        left: impl Iterator<Item = (ConversationId, Front, Identity)>,
    ) -> Result<(), ReplicaError> {
        for (conversation, front, identity) in left {
            let prefix = BodyKey::record_prefix(conversation, front, identity);
            self.delete_range(Body::TABLE, &prefix, &behind(&prefix))?;
        }
        Ok(())
    }

    /// The words up to `up_to` of messages that have expired, in all conversations.
    fn left_of_expired(&self, up_to: Front) -> Result<Left, ReplicaError> {
        let mut left = Left::new();
        let names = tables::rows::<NameRow, _>(&self.overlay, &NameRow::prefix(self.space));
        for row in names {
            let id = row?.1.conversation;
            let Some(row) = self.conversation(id)?.filter(|row| row.cut.is_some()) else {
                continue;
            };
            let end = [&BodyKey::behind_prefix(id)[..], &up_to.next().to_bytes()].concat();
            for (id, front, identity) in self.left_in(id, &end)? {
                let place = self.canonical(id, identity)?;
                if place.is_some_and(|place| row.has_expired(place.front)) {
                    left.insert((id, front, identity));
                }
            }
        }
        Ok(left)
    }

    /// The words of a conversation that do not show, before the key `end`.
    fn left_in(&self, id: ConversationId, end: &[u8]) -> Result<Left, ReplicaError> {
        let start = BodyKey::behind_prefix(id);
        let mut left = Left::new();
        for row in self.overlay.scan(Body::TABLE, &start, end, Direction::Forward) {
            let parsed = BodyKey::parse_behind(&row?.0);
            left.extend(parsed.map(|(front, identity)| (id, front, identity)));
        }
        Ok(left)
    }

    /// Takes out what the log, or a record that waits for its entry, says to be another's.
    fn keep_those_of_others(&self, author: &Name, left: &mut Left) -> Result<(), ReplicaError> {
        let mut keep = |id, identity, statement: &_| {
            let words = words_of(id, identity, statement).filter(|words| words.author != author);
            if let Some((front, message)) = words.and_then(|words| words.front.zip(words.message)) {
                left.remove(&(id, front, message));
            }
        };
        for (segment, staged) in &self.building.records {
            staged.iter().for_each(|one| keep(segment.conversation, one.identity, &one.statement));
        }
        let prefix = self.space.0;
        for row in self.overlay.scan(Table::Log, &prefix, &behind(&prefix), Direction::Forward) {
            let (key, value) = row?;
            let log: LogRow = tables::open(&key, &value)?;
            // What cannot be read was quarantined, and its words stand elsewhere.
            let Ok(Entry { depth, kind, .. }) = Entry::decode(&log.entry) else { continue };
            let EntryKind::Segment { conversation, change, .. } = kind else { continue };
            let origin = key.get(16..).and_then(|key| key.first_chunk()).copied();
            let (Some(origin), Ok((change, _))) = (origin, Change::decode(&change)) else {
                continue;
            };
            let records = records_of(&change, (OriginId(origin), depth)).unwrap_or_default();
            records.iter().for_each(|(identity, said)| keep(conversation, *identity, said));
        }
        Ok(())
    }
}
