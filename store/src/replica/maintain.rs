//! Keeping the store small: snapshots, trimming, and the sweeping up after erasures.
//!
//! Snapshots are built from durable rows alone, on any thread, and installed here. Invariants: an
//! entry leaves the log only after a snapshot that holds its change was read back from the disk;
//! what was erased is remembered until its bytes have left the files.

use std::collections::BTreeSet;

use super::documents::{CONVERSATION_DOCUMENT, Which, read_snapshot};
use super::erase::ranges_of;
use super::{Replica, ReplicaError};
use crate::document::{ChangeFact, Snapshot};
use crate::engine::{Direction, Table, View};
use crate::entry::{Entry, EntryKind};
use crate::id::{ConversationId, Digest, OriginId, SegmentId, SpaceId};
use crate::log;
use crate::seal;
use crate::tables::{
    self, ChangeRow, ConversationRow, EditRow, IdentityRow, LateRow, LogRow, MarkerRow,
    QuarantineRow, ReactionRow, RowType, SettingRow, SnapshotRow, SweepRow, ThreadRow,
};
use crate::vector::VersionVector;

/// A snapshot that was built and is to be installed.
#[derive(Debug, Clone)]
pub struct Built {
    document: SegmentId,
    snapshot: Snapshot,
    changes: Vec<ChangeRow>,
}

/// What trimming came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Entries that left the log.
    pub trimmed: u64,
    /// Documents that need a snapshot before more can go.
    pub wants: BTreeSet<SegmentId>,
}

/// A range of keys of a table.
pub type KeyRange = (Table, Vec<u8>, Vec<u8>);

impl Built {
    /// Builds a snapshot of a document from what `view` holds durably. `None` if there is no
    /// change that a snapshot does not cover.
    ///
    /// # Errors
    /// When rows are damaged or Automerge does not take them; then nothing may be trimmed.
    pub fn of(
        view: &(impl View + ?Sized),
        space: SpaceId,
        document: SegmentId,
    ) -> Result<Option<Self>, ReplicaError> {
        let damaged = |error: &dyn std::fmt::Display| {
            let SegmentId { conversation, ordinal } = document;
            ReplicaError::Damaged(format!("document {conversation}/{ordinal}: {error}"))
        };
        let before = read_snapshot(view, document)?;
        let rows = changes_of(view, document)?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut changes = Vec::with_capacity(rows.len());
        for (row, _) in &rows {
            let change = change_of(view, space, *row)?;
            changes.push((row.origin, row.seq, change));
        }
        let genesis = genesis_of(view, document)?;
        let snapshot = Snapshot::take(genesis, before.as_ref(), &changes);
        let snapshot = snapshot.map_err(|error| damaged(&error))?;
        let changes = rows.into_iter().map(|(row, _)| row).collect();
        Ok(Some(Self { document, snapshot, changes }))
    }

    /// Of which document.
    #[must_use]
    pub fn document(&self) -> SegmentId {
        self.document
    }
}

/// The changes of a document that no snapshot covers.
///
/// # Errors
/// When the engine fails or a row is damaged.
pub(crate) fn changes_of(
    view: &(impl View + ?Sized),
    document: SegmentId,
) -> Result<Vec<(ChangeRow, ChangeFact)>, ReplicaError> {
    let (start, end) = (ChangeRow::first(document), tables::behind(&ChangeRow::prefix(document)));
    let rows = view.scan(Table::Segments, &start, &end, Direction::Forward);
    let mut changes = Vec::new();
    for row in rows {
        let (key, value) = row?;
        if let Some(change) = ChangeRow::parse(&key)? {
            changes.push((change, tables::open(&key, &value)?));
        }
    }
    Ok(changes)
}

/// The bytes of a change, from the entry that carries it.
///
/// # Errors
/// When the entry is damaged, missing, or carries none.
pub(crate) fn change_of(
    view: &(impl View + ?Sized),
    space: SpaceId,
    row: ChangeRow,
) -> Result<Vec<u8>, ReplicaError> {
    let key = (space, row.origin, row.seq);
    let damaged = |why: String| seal::damaged(Table::Log, &LogRow::key(&key), why);
    let row: Option<LogRow> = tables::get(view, &key)?;
    let row = row.ok_or_else(|| damaged("no entry where a document names one".to_owned()))?;
    let entry = Entry::decode(&row.entry).map_err(|source| damaged(source.to_string()))?;
    let change = log::change_in(space, entry.kind).map(|(_, change)| change);
    let none = "an entry without a change where a document names one";
    Ok(change.ok_or_else(|| damaged(none.to_owned()))?)
}

/// What a document begins with, where that is the same everywhere.
pub(crate) fn genesis_of(
    view: &(impl View + ?Sized),
    document: SegmentId,
) -> Result<Option<Vec<(String, crate::document::Scalar)>>, ReplicaError> {
    if document.ordinal != CONVERSATION_DOCUMENT {
        return Ok(None);
    }
    let row: Option<ConversationRow> = tables::get(view, &document.conversation)?;
    let row = row.ok_or_else(|| {
        let key = ConversationRow::key(&document.conversation);
        seal::damaged(Table::Index, &key, "no conversation where a document is")
    })?;
    Ok(Which::Conversation(document, &row.name).genesis())
}

impl Replica {
    /// The segments that take no more appends here and have changes which no snapshot covers.
    pub fn full_segments(&self) -> impl Iterator<Item = SegmentId> {
        self.full.iter().copied()
    }

    /// Puts a snapshot in the place of the changes it covers. False if that is not how the
    /// document stands any more: it is gone, or another snapshot covers them already.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub fn install(&mut self, built: Built) -> Result<bool, ReplicaError> {
        let Built { document, snapshot, changes } = built;
        self.full.remove(&document);
        if self.retired.contains(&document.conversation) {
            return Ok(false);
        }
        for change in &changes {
            if tables::get::<ChangeFact>(&self.overlay, change)?.is_none() {
                return Ok(false);
            }
        }
        self.put(&document, &SnapshotRow(snapshot));
        for change in changes {
            self.delete::<ChangeFact>(&change);
        }
        self.building.touched = true;
        Ok(true)
    }

    /// A snapshot of `document` could not be made: it is not tried again in this run, and its
    /// entries stay in the log.
    pub fn give_up_snapshot(&mut self, document: SegmentId) {
        self.full.remove(&document);
    }

    /// Takes entries out of the log: those that `safe` names, which the caller knows to be held
    /// durably wherever they must be, as far as snapshots that are on the disk cover them. At
    /// most `limit` entries.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub fn trim(&mut self, safe: &VersionVector, limit: usize) -> Result<Kept, ReplicaError> {
        let engine = std::sync::Arc::clone(self.overlay.engine());
        let view = engine.view();
        let mut kept = Kept::default();
        let mut proven = BTreeSet::new();
        for (origin, safe) in safe {
            let safe = safe.min(self.durable.vector.get(origin));
            while (kept.trimmed as usize) < limit {
                let Some(row) = self.origins.get(&origin) else { break };
                let seq = row.trimmed + 1;
                if seq > safe {
                    break;
                }
                match self.expendable(&*view, (origin, seq), &mut proven)? {
                    Expendable::Yes(digest) => self.trim_one(origin, seq, digest),
                    Expendable::Wants(document) => {
                        kept.wants.insert(document);
                        break;
                    }
                    Expendable::No => break,
                }
                kept.trimmed += 1;
            }
        }
        Ok(kept)
    }

    fn trim_one(&mut self, origin: OriginId, seq: u64, digest: Digest) {
        self.delete::<LogRow>(&(self.space, origin, seq));
        if let Some(row) = self.origins.get_mut(&origin) {
            row.trimmed = seq;
            row.base = digest;
        }
        self.building.origins.insert(origin);
        self.building.touched = true;
    }

    /// Whether what an entry did is held by other rows that are on the disk.
    fn expendable(
        &self,
        view: &dyn View,
        (origin, seq): (OriginId, u64),
        proven: &mut BTreeSet<SegmentId>,
    ) -> Result<Expendable, ReplicaError> {
        let key = (self.space, origin, seq);
        let damaged = |why: String| seal::damaged(Table::Log, &LogRow::key(&key), why);
        let row: Option<LogRow> = tables::get(view, &key)?;
        // Not durable yet: the next round will see it.
        let Some(row) = row else { return Ok(Expendable::No) };
        if tables::get::<QuarantineRow>(view, &key)?.is_some() {
            return Ok(Expendable::No);
        }
        let entry = Entry::decode(&row.entry).map_err(|source| damaged(source.to_string()))?;
        if matches!(entry.kind, EntryKind::Unknown { .. }) {
            return Ok(Expendable::No);
        }
        let Some((document, _)) = log::change_in(self.space, entry.kind) else {
            return Ok(Expendable::Yes(row.digest));
        };
        if self.retired.contains(&document.conversation) {
            return Ok(Expendable::Yes(row.digest));
        }
        let change = ChangeRow { document, origin, seq };
        if tables::get::<ChangeFact>(view, &change)?.is_some() {
            return Ok(Expendable::Wants(document));
        }
        if !proven.contains(&document) {
            let snapshot = read_snapshot(view, document)?;
            let covers = snapshot.is_some_and(|snapshot| snapshot.covered.get(origin) >= seq);
            if !covers {
                return Err(damaged("no snapshot where an entry has none left".to_owned()).into());
            }
            // Once a pass: the later entries of the document lie in the same snapshot.
            proven.insert(document);
        }
        Ok(Expendable::Yes(row.digest))
    }

    /// Conversations of which erased bytes may still lie in files, with when that began.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub fn sweeps(&self) -> Result<Vec<(ConversationId, SweepRow)>, ReplicaError> {
        let prefix = SweepRow::prefix(self.space);
        let rows = tables::rows::<SweepRow, _>(&self.overlay, &prefix);
        let rows = rows.map(|row| {
            let (key, row) = row?;
            Ok((SweepRow::parse(&key)?, row))
        });
        rows.collect()
    }

    /// The ranges of keys in which words of a conversation stood.
    #[must_use]
    pub fn sweep_ranges(&self, conversation: ConversationId) -> Vec<KeyRange> {
        ranges_of(conversation)
    }

    /// Removes rows of a conversation that was erased, at most about `limit`. True if none is
    /// left, also for a conversation that was not erased.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn remove_retired(
        &mut self,
        conversation: ConversationId,
        limit: usize,
    ) -> Result<bool, ReplicaError> {
        if !self.retired.contains(&conversation) {
            return Ok(true);
        }
        let mut left = limit;
        for (table, start, end) in all_ranges_of(conversation) {
            let rows = self.overlay.scan(table, &start, &end, Direction::Forward);
            let keys = rows.take(left + 1).map(|row| row.map(|(key, _)| key));
            let keys: Vec<Vec<u8>> = keys.collect::<Result<_, _>>()?;
            let more = keys.len() > left;
            for key in keys.into_iter().take(left) {
                self.overlay.building().delete(table, key);
                self.building.touched = true;
                left -= 1;
            }
            if more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The bytes of a conversation have left the files, as `sweep` saw it: nothing is to be done
    /// unless more was erased since.
    ///
    /// # Errors
    /// When the engine fails or the row is damaged.
    pub fn swept(
        &mut self,
        conversation: ConversationId,
        sweep: SweepRow,
    ) -> Result<(), ReplicaError> {
        let key = (self.space, conversation);
        if tables::get::<SweepRow>(&self.overlay, &key)? == Some(sweep) {
            self.delete::<SweepRow>(&key);
            self.building.touched = true;
        }
        Ok(())
    }
}

enum Expendable {
    /// Yes: its chain digest.
    Yes(Digest),
    /// Once this document has a snapshot.
    Wants(SegmentId),
    /// Not now.
    No,
}

/// Every range of keys that begins with a conversation.
fn all_ranges_of(id: ConversationId) -> Vec<KeyRange> {
    let mut prefixes = vec![
        (Table::Bodies, id.0.to_vec()),
        (Table::Timeline, id.0.to_vec()),
        (Table::Segments, id.0.to_vec()),
    ];
    let letters = [
        EditRow::LETTER,
        IdentityRow::LETTER,
        LateRow::LETTER,
        MarkerRow::LETTER,
        ReactionRow::LETTER,
        SettingRow::LETTER,
        ThreadRow::LETTER,
    ];
    prefixes.extend(letters.map(|letter| (Table::Index, [&[letter][..], &id.0].concat())));
    let range = |(table, prefix): (Table, Vec<u8>)| {
        let end = tables::behind(&prefix);
        (table, prefix, end)
    };
    prefixes.into_iter().map(range).collect()
}
