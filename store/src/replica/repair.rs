//! Repairing a conversation from what the store itself holds.
//!
//! ```text
//!   any row of one flipped bit      flipped back: its checksum tells which bit
//!   facts about changes             from the entries in the log, in a lost snapshot's place too if
//!                                   nothing was trimmed
//!   rows that readers see           from the documents and the erasure table
//!   words in a wrong place          moved; words that are lost are named, a peer has them
//! ```
//! What cannot be had without a peer: lost words, documents whose changes are neither in a snapshot
//! nor in the log, read markers of entries that were trimmed. Invariant: a row is changed only if it
//! is not what it must be, and what could not be repaired is said.

mod entries;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::documents::{CONVERSATION_DOCUMENT, read_snapshot};
use super::{Replica, ReplicaError};
use crate::digest::RowSum;
use crate::document::{Change, ChangeFact};
use crate::engine::{Direction, EngineError, Table, View};
use crate::entry::{Entry, EntryKind};
use crate::erasure::Erasure;
use crate::id::{ConversationId, Identity, SegmentId};
use crate::log;
use crate::name::Name;
use crate::projection::{
    Expected, Forgotten, MessageClaims, SettingClaims, Share, documents_of, erased_authors,
    records_in,
};
use crate::record::{Body, BodyReference};
use crate::seal;
use crate::tables::{
    self, BodyKey, ChangeRow, ConversationRow, EditRow, ErasureKey, IdentityRow, LateRow, LogRow,
    MarkerRow, NameRow, QuarantineRow, ReactionRow, RowType, SettingRow, SnapshotRow, ThreadRow,
};
use crate::verify::{Totals, in_quarantine};

/// The most incarnations of a name that are tried to find the one of an id.
const MAX_INCARNATION: u32 = 4096;

/// What repairing a conversation came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Rows that were written, moved or removed.
    pub rows: u64,
    /// Words that are lost here: of which message or setting, and their reference. A peer that
    /// holds the entry has them.
    pub lost: Vec<(Identity, BodyReference)>,
    /// What could not be repaired, for people.
    pub left: Vec<String>,
}

impl Replica {
    /// Repairs a conversation as far as the store itself can. What it changed is in the batch that
    /// is being built.
    ///
    /// # Errors
    /// When the engine fails, or documents are so damaged that nothing can be computed; then
    /// nothing was changed but single rows that are whole again.
    pub fn repair(&mut self, id: ConversationId) -> Result<Repaired, ReplicaError> {
        self.flush()?;
        let mut repaired = Repaired::default();
        if self.retired.contains(&id) {
            return Ok(repaired);
        }
        self.building.touched = true;
        self.mend_rows(id, &mut repaired)?;
        self.drop_snapshots(id, &mut repaired)?;
        self.mend_facts(id, &mut repaired)?;
        self.documents.forget(SegmentId { conversation: id, ordinal: CONVERSATION_DOCUMENT });
        let Some((name, incarnation)) = self.name_of(id)? else {
            let why = "neither its row nor its document says its name".to_owned();
            repaired.left.push(why);
            return Ok(repaired);
        };
        let document = SegmentId { conversation: id, ordinal: CONVERSATION_DOCUMENT };
        let records = records_in(&self.overlay, self.space, document)?;
        let mut settings = SettingClaims::new(id);
        records.iter().for_each(|(key, scalar)| settings.take(key, scalar));
        let expected = settings.expected(self.space);
        self.restore(id, expected, Kind::Settings, &mut repaired)?;
        let messages = self.conversation(id).ok().flatten().map_or(0, |row| row.messages);
        let mut share = Some(Share::first_of(messages));
        while let Some(present) = share {
            let expected = self.expected_messages(id, present)?;
            self.restore(id, expected, Kind::Messages(present), &mut repaired)?;
            share = present.next();
        }
        self.restate(id, (name, incarnation), settings.access, &mut repaired)?;
        Ok(repaired)
    }

    /// Flips back what one flipped bit damaged, in all rows of the conversation.
    fn mend_rows(
        &mut self,
        id: ConversationId,
        repaired: &mut Repaired,
    ) -> Result<(), ReplicaError> {
        let index = |letter: u8| (Table::Index, [&[letter][..], &id.0].concat());
        let mut ranges = vec![
            (Table::Segments, id.0.to_vec()),
            (Table::Timeline, id.0.to_vec()),
            (Table::Bodies, id.0.to_vec()),
        ];
        let letters = [
            ConversationRow::LETTER,
            EditRow::LETTER,
            IdentityRow::LETTER,
            LateRow::LETTER,
            MarkerRow::LETTER,
            ReactionRow::LETTER,
            SettingRow::LETTER,
            ThreadRow::LETTER,
        ];
        ranges.extend(letters.map(index));
        for (table, prefix) in ranges {
            let end = tables::behind(&prefix);
            let rows = self.overlay.scan(table, &prefix, &end, Direction::Forward);
            let mut mended = Vec::new();
            for row in rows {
                let (key, value) = row?;
                if tables::check(table, &key, &value).is_err()
                    && let Some(whole) = seal::mend(table, &key, &value)
                {
                    mended.push((key, whole));
                }
            }
            for (key, value) in mended {
                self.overlay.building().put(table, key, value);
                repaired.rows += 1;
            }
        }
        Ok(())
    }

    /// Removes snapshots that cannot be read, where the log still holds all that they covered.
    fn drop_snapshots(
        &mut self,
        id: ConversationId,
        repaired: &mut Repaired,
    ) -> Result<(), ReplicaError> {
        if self.origins.values().any(|origin| origin.trimmed > 0) {
            return Ok(());
        }
        for document in documents_of(&self.overlay, id)? {
            if tables::get::<SnapshotRow>(&self.overlay, &document).is_err() {
                self.delete::<SnapshotRow>(&document);
                repaired.rows += 1;
            }
        }
        Ok(())
    }

    /// Writes the facts about changes again that no snapshot covers and that cannot be read.
    fn mend_facts(
        &mut self,
        id: ConversationId,
        repaired: &mut Repaired,
    ) -> Result<(), ReplicaError> {
        let end = tables::behind(&self.space.0);
        let mut facts: Vec<(ChangeRow, ChangeFact)> = Vec::new();
        for row in self.overlay.scan(Table::Log, &self.space.0, &end, Direction::Forward) {
            let (key, value) = row?;
            let Some((origin, seq)) = tables::Whose::of(Table::Log, &key).entry else { continue };
            let entry = tables::open::<LogRow>(&key, &value).ok();
            let entry = entry.and_then(|row| Entry::decode(&row.entry).ok());
            let change = entry.and_then(|entry| log::change_in(self.space, entry.kind));
            let Some((document, change)) = change.filter(|(it, _)| it.conversation == id) else {
                continue;
            };
            let row = ChangeRow { document, origin, seq };
            let covered = read_snapshot(&self.overlay, document);
            let covered = covered.ok().flatten().is_some_and(|it| it.covered.get(origin) >= seq);
            let strange = (self.space, origin, seq);
            if covered
                || matches!(tables::get::<ChangeFact>(&self.overlay, &row), Ok(Some(_)))
                || tables::get::<QuarantineRow>(&self.overlay, &strange)?.is_some()
            {
                continue;
            }
            if let Ok((change, hash)) = Change::decode(&change) {
                facts.push((row, ChangeFact::of(&change, hash)));
            }
        }
        for (row, fact) in facts {
            self.put(&row, &fact);
            self.documents.forget(row.document);
            repaired.rows += 1;
        }
        Ok(())
    }

    /// The name of a conversation, and which of that name it is: from its row, its snapshot, or
    /// the entries that made its document.
    fn name_of(&self, id: ConversationId) -> Result<Option<(Name, u32)>, ReplicaError> {
        if let Ok(Some(row)) = self.conversation(id) {
            return Ok(Some((row.name, row.incarnation)));
        }
        let document = SegmentId { conversation: id, ordinal: CONVERSATION_DOCUMENT };
        let mut claims = SettingClaims::new(id);
        for (key, scalar) in records_in(&self.overlay, self.space, document)? {
            claims.take(&key, &scalar);
        }
        let mut name = claims.name.and_then(|name| name.parse::<Name>().ok());
        for (row, _) in super::changes_of(&self.overlay, document)? {
            let log: Option<LogRow> =
                tables::get(&self.overlay, &(self.space, row.origin, row.seq))?;
            let entry = log.and_then(|log| Entry::decode(&log.entry).ok());
            if let Some(EntryKind::Conversation { name: told, .. }) = entry.map(|it| it.kind) {
                name = Some(told);
            }
        }
        let Some(name) = name else { return Ok(None) };
        let mut incarnations = 0..MAX_INCARNATION;
        let found = incarnations.find(|it| ConversationId::of(self.space, &name, *it) == id);
        Ok(found.map(|incarnation| (name, incarnation)))
    }

    fn expected_messages(
        &self,
        id: ConversationId,
        share: Share,
    ) -> Result<Expected, ReplicaError> {
        let mut claims = MessageClaims::new(id, share);
        for document in documents_of(&self.overlay, id)? {
            if document.ordinal != CONVERSATION_DOCUMENT {
                let records = records_in(&self.overlay, self.space, document)?;
                records.iter().for_each(|(key, scalar)| claims.take(key, scalar));
            }
        }
        let authors = erased_authors(&self.overlay, self.space)?;
        let forgotten = Forgotten::of(&self.overlay, self.space, id, &authors)?;
        Ok(claims.expected(&forgotten)?)
    }

    /// Makes rows and words what they must be.
    fn restore(
        &mut self,
        id: ConversationId,
        mut expected: Expected,
        kind: Kind,
        repaired: &mut Repaired,
    ) -> Result<(), ReplicaError> {
        repaired.left.append(&mut expected.faults);
        for (table, prefix) in kind.ranges(id) {
            let end = tables::behind(&prefix);
            let rows = self.overlay.scan(table, &prefix, &end, Direction::Forward);
            let rows: Vec<_> = rows.collect::<Result<_, EngineError>>()?;
            for (key, value) in rows.into_iter().filter(|(key, _)| kind.holds(table, key)) {
                match expected.rows.get(&(table, key.clone())) {
                    Some(must) if *must == value => {
                        expected.rows.remove(&(table, key));
                    }
                    Some(_) => {}
                    None => {
                        self.overlay.building().delete(table, key);
                        repaired.rows += 1;
                    }
                }
            }
        }
        for ((table, key), value) in expected.rows {
            if self.overlay.get(table, &key)?.as_ref() != Some(&value) {
                self.overlay.building().put(table, key, value);
                repaired.rows += 1;
            }
        }
        self.restore_words(id, expected.words, kind, repaired)
    }

    /// Moves words to where they must be; removes those that must be gone.
    fn restore_words(
        &mut self,
        id: ConversationId,
        mut wanted: BTreeMap<Vec<u8>, BodyReference>,
        kind: Kind,
        repaired: &mut Repaired,
    ) -> Result<(), ReplicaError> {
        let end = tables::behind(&id.0);
        let mut elsewhere: BTreeMap<[u8; 16], Body> = BTreeMap::new();
        let mut gone: Vec<Vec<u8>> = Vec::new();
        for row in self.overlay.scan(Table::Bodies, &id.0, &end, Direction::Forward) {
            let (key, value) = row?;
            if !kind.holds_words(&key) || in_quarantine(&self.overlay, &key) {
                continue;
            }
            let body: Option<Body> = tables::open(&key, &value).ok();
            let reference = body.as_ref().map(Body::reference);
            if reference.is_some() && wanted.get(&key) == reference.as_ref() {
                wanted.remove(&key);
                continue;
            }
            if let (Some(body), Some(reference)) = (body, reference) {
                elsewhere.insert(reference.digest, body);
            }
            gone.push(key);
        }
        for key in gone {
            self.overlay.building().delete(Table::Bodies, key);
            repaired.rows += 1;
        }
        for (key, reference) in wanted {
            match elsewhere.get(&reference.digest) {
                Some(body) => {
                    let content = tables::content(body);
                    let value = seal::seal(Table::Bodies, &key, Body::VERSION, &content);
                    self.overlay.building().put(Table::Bodies, key, value);
                    repaired.rows += 1;
                }
                None => {
                    let identity = BodyKey::identity_in(&key).map(|(identity, _)| identity);
                    repaired.lost.push((identity.unwrap_or(Identity([0; 16])), reference));
                }
            }
        }
        Ok(())
    }

    /// Writes the conversation's own row, its name, and the counts of the space.
    fn restate(
        &mut self,
        id: ConversationId,
        (name, incarnation): (Name, u32),
        access: crate::record::Access,
        repaired: &mut Repaired,
    ) -> Result<(), ReplicaError> {
        let held = self.conversation(id).ok().flatten();
        let Some(totals) = Totals::of(&self.overlay, self.space, (id, &name)) else {
            repaired.left.push("a read marker that cannot be read".to_owned());
            return Ok(());
        };
        let cut: Option<Erasure> = tables::get(&self.overlay, &(self.space, ErasureKey::Cut(id)))?;
        let cut = match cut {
            Some(Erasure::Cut { up_to, .. }) => Some(up_to),
            Some(_) | None => None,
        };
        let segment = match &held {
            Some(row) => (row.ordinal, row.records, row.record_bytes),
            None => self.last_segment(id)?,
        };
        let row = ConversationRow {
            name: name.clone(),
            incarnation,
            ordinal: segment.0,
            records: segment.1,
            record_bytes: segment.2,
            messages: totals.messages,
            last: totals.last,
            cut,
            read: totals.read,
            access,
            quarantined: held.as_ref().map_or(totals.quarantined as u32, |row| row.quarantined),
            sum: totals.sum,
        };
        repaired.rows += u64::from(held.as_ref() != Some(&row));
        self.building.conversations.insert(id, row);
        let named = tables::get::<NameRow>(&self.overlay, &(self.space, name.clone()));
        let other = match named {
            Ok(Some(named)) if named.conversation != id => self.conversation(named.conversation),
            Ok(Some(_)) => return self.recount(),
            Ok(None) | Err(_) => Ok(None),
        };
        if other.ok().flatten().is_none_or(|other| other.incarnation < incarnation) {
            self.put(&(self.space, name.clone()), &NameRow { conversation: id });
            self.directory.keep_name(name, id);
            repaired.rows += 1;
        }
        self.recount()
    }

    /// The segment that takes appends, as its document tells: ordinal, records, bytes.
    fn last_segment(&self, id: ConversationId) -> Result<(u32, u32, u32), ReplicaError> {
        const KEY: usize = 51;
        let documents = documents_of(&self.overlay, id)?;
        let last = documents.iter().rfind(|document| document.ordinal != CONVERSATION_DOCUMENT);
        let Some(last) = last else { return Ok((0, 0, 0)) };
        let records = records_in(&self.overlay, self.space, *last)?;
        let bytes: usize = records.iter().map(|(_, scalar)| scalar.as_bytes().len() + KEY).sum();
        Ok((last.ordinal, records.len() as u32, bytes as u32))
    }

    /// Counts the space's conversations and messages, and sums their rows, from their own rows.
    fn recount(&mut self) -> Result<(), ReplicaError> {
        let mut sum = RowSum::default();
        let (mut conversations, mut messages) = (0, 0);
        let mut rows: BTreeMap<ConversationId, ConversationRow> = BTreeMap::new();
        for row in tables::rows::<ConversationRow, _>(&self.overlay, &ConversationRow::PREFIX) {
            // One that cannot be read is to be repaired after this one, and counts then.
            let Ok((key, row)) = row else { continue };
            let id = ConversationId::of(self.space, &row.name, row.incarnation);
            if tables::Whose::of(Table::Index, &key).conversation == Some(id) {
                rows.insert(id, row);
            }
        }
        rows.extend(self.building.conversations.clone());
        for row in rows.values() {
            sum.add(&row.sum);
            messages += row.messages;
            conversations += 1;
        }
        self.state.sum = sum;
        self.state.messages = messages;
        self.state.conversations = conversations;
        Ok(())
    }
}

/// Which rows are repaired at once.
#[derive(Clone, Copy)]
enum Kind {
    Settings,
    Messages(Share),
}

impl Kind {
    fn ranges(self, id: ConversationId) -> Vec<(Table, Vec<u8>)> {
        let index = |letter: u8| (Table::Index, [&[letter][..], &id.0].concat());
        match self {
            Self::Settings => vec![index(SettingRow::LETTER)],
            Self::Messages(_) => {
                let letters =
                    [EditRow::LETTER, IdentityRow::LETTER, ReactionRow::LETTER, ThreadRow::LETTER];
                let mut ranges = vec![(Table::Timeline, id.0.to_vec())];
                ranges.extend(letters.map(index));
                ranges
            }
        }
    }

    /// Whether the row is one of them.
    fn holds(self, table: Table, key: &[u8]) -> bool {
        let Self::Messages(share) = self else { return true };
        let place = match (table, key.first()) {
            (Table::Index, Some(&ThreadRow::LETTER)) => 41,
            (Table::Index, _) => 17,
            (
                Table::Log
                | Table::Segments
                | Table::Timeline
                | Table::Bodies
                | Table::Erasures
                | Table::Meta,
                _,
            ) => 24,
        };
        let tail = key.get(place..).and_then(<[u8]>::first_chunk::<8>);
        tail.is_none_or(|tail| share.holds(*tail))
    }

    fn holds_words(self, key: &[u8]) -> bool {
        let whose = BodyKey::identity_in(key);
        match self {
            Self::Settings => whose.is_none_or(|(_, title)| title),
            Self::Messages(share) => {
                whose.is_some_and(|(identity, title)| !title && share.holds(identity.tail()))
            }
        }
    }
}
