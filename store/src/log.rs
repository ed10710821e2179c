//! Reading the log: ranges of entries in causal order, each with its bodies.
//!
//! Serves pull and the followers that resume. Invariant: entries come in the order of (depth,
//! origin), which is causal, and an entry comes whole or not at all.

use std::collections::BTreeMap;

use crate::document::Change;
use crate::engine::{EngineError, Table, View};
use crate::entry::{Carried, Entry, EntryKind, Parcel, chain_mark};
use crate::erasure::{Erasure, Words};
use crate::id::{ConversationId, Digest, Identity, OriginId, SegmentId, SpaceId};
use crate::record::{Body, Statement};
use crate::replica::{
    CONVERSATION_DOCUMENT, covering, read_body, records_of, settings_of, words_missing, words_of,
};
use crate::seal;
use crate::tables::{self, BodyKey, ErasureKey, LogRow, OriginRow, QuarantineRow, RowType};
use crate::vector::VersionVector;

/// Walks the log of a space in causal order.
pub struct LogWalk<'a> {
    view: &'a dyn View,
    space: SpaceId,
    until: VersionVector,
    /// The next entry of each origin: its row is read already.
    next: BTreeMap<(u64, OriginId), (u64, LogRow)>,
}

/// Why the log cannot be walked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WalkError {
    /// It does not go back that far.
    #[error("the log of {origin} was trimmed up to {trimmed}")]
    Trimmed {
        /// Whose log.
        origin: OriginId,
        /// Up to which seq.
        trimmed: u64,
    },
    /// The engine failed or holds damaged rows.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A step of the walk.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// Whose entry.
    pub origin: OriginId,
    /// Its seq.
    pub seq: u64,
    /// Its depth.
    pub depth: u64,
    /// The chain digest up to and with it.
    pub digest: Digest,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
}

impl<'a> LogWalk<'a> {
    /// Walks what lies above `from`, up to `until`.
    ///
    /// # Errors
    /// When the log was trimmed above `from`, the engine fails or a row is damaged.
    pub fn between(
        view: &'a dyn View,
        space: SpaceId,
        from: &VersionVector,
        until: &VersionVector,
    ) -> Result<Self, WalkError> {
        let mut walk = Self { view, space, until: until.clone(), next: BTreeMap::new() };
        for (origin, _) in until.above(from) {
            let row: Option<OriginRow> = tables::get(view, &(space, origin))?;
            let trimmed = row.map_or(0, |row| row.trimmed);
            if trimmed > from.get(origin) {
                return Err(WalkError::Trimmed { origin, trimmed });
            }
            walk.step(origin, from.get(origin) + 1)?;
        }
        Ok(walk)
    }

    fn step(&mut self, origin: OriginId, seq: u64) -> Result<(), EngineError> {
        if seq > self.until.get(origin) {
            return Ok(());
        }
        let key = (self.space, origin, seq);
        let row: Option<LogRow> = tables::get(self.view, &key)?;
        let row = row.ok_or_else(|| {
            seal::damaged(Table::Log, &LogRow::key(&key), "no entry where one is held")
        })?;
        let entry = decode(&key, &row)?;
        self.next.insert((entry.depth, origin), (seq, row));
        Ok(())
    }
}

impl Iterator for LogWalk<'_> {
    type Item = Result<LogEntry, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let ((depth, origin), (seq, row)) = self.next.pop_first()?;
        if let Err(error) = self.step(origin, seq + 1) {
            self.next.clear();
            return Some(Err(error));
        }
        Some(Ok(LogEntry { origin, seq, depth, digest: row.digest, bytes: row.entry }))
    }
}

fn decode(key: &<LogRow as RowType>::Key, row: &LogRow) -> Result<Entry, EngineError> {
    Entry::decode(&row.entry).map_err(|source| seal::damaged(Table::Log, &LogRow::key(key), source))
}

/// What an entry of the log carries, decoded.
///
/// # Errors
/// When the row is damaged.
pub fn decoded(space: SpaceId, entry: &LogEntry) -> Result<Entry, EngineError> {
    Entry::decode(&entry.bytes).map_err(|source| damaged(space, entry, source))
}

/// The document that an entry changes, with the change, if it changes one.
pub(crate) fn change_in(space: SpaceId, kind: EntryKind) -> Option<(SegmentId, Vec<u8>)> {
    match kind {
        EntryKind::Segment { conversation, ordinal, change } => {
            Some((SegmentId { conversation, ordinal }, change))
        }
        EntryKind::Conversation { name, incarnation, change } => {
            let conversation = ConversationId::of(space, &name, incarnation);
            Some((SegmentId { conversation, ordinal: CONVERSATION_DOCUMENT }, change))
        }
        EntryKind::Origin { .. }
        | EntryKind::Markers(_)
        | EntryKind::Erasures { .. }
        | EntryKind::Unknown { .. } => None,
    }
}

/// What the records of an entry say, with their identities.
pub type Statements = Vec<(Identity, Statement)>;

/// The statements of an entry that changed a segment, with their identities, in its order; none
/// of any other entry.
///
/// # Errors
/// When the row is damaged.
pub fn statements(
    space: SpaceId,
    entry: &LogEntry,
) -> Result<Option<(ConversationId, Statements)>, EngineError> {
    let Entry { depth, kind, .. } = decoded(space, entry)?;
    let EntryKind::Segment { conversation, change, .. } = kind else { return Ok(None) };
    let (change, _) = Change::decode(&change).map_err(|source| damaged(space, entry, source))?;
    let records = records_of(&change, (entry.origin, depth));
    Ok(Some((conversation, records.map_err(|source| damaged(space, entry, source))?)))
}

/// The entry as it travels: with each body that its records refer to, or the row that covers it.
///
/// # Errors
/// When a row is damaged, or a body is neither held nor covered.
pub fn parcel(
    view: &(impl View + ?Sized),
    space: SpaceId,
    entry: LogEntry,
) -> Result<Parcel, EngineError> {
    let key = (space, entry.origin, entry.seq);
    let bodies = match carried(view, space, &entry) {
        Ok(bodies) => bodies,
        Err(error) => match tables::get::<QuarantineRow>(view, &key)? {
            Some(row) => quarantined(view, &entry, row)?,
            // Nobody read what it says: it came when its conversation was erased.
            None if retires(view, space, &entry)? => Vec::new(),
            None => return Err(error),
        },
    };
    let LogEntry { origin, seq, digest, bytes, .. } = entry;
    Ok(Parcel { origin, seq, entry: bytes, chain: chain_mark(digest), bodies })
}

fn carried(
    view: &(impl View + ?Sized),
    space: SpaceId,
    entry: &LogEntry,
) -> Result<Vec<Carried>, EngineError> {
    let Entry { depth, kind, .. } = decoded(space, entry)?;
    let place = (entry.origin, depth);
    let decode =
        |change: &[u8]| Change::decode(change).map_err(|source| damaged(space, entry, source));
    let mut carried = Vec::new();
    match kind {
        EntryKind::Segment { conversation, change, .. } => {
            let retired = retirement(view, space, conversation)?;
            let (change, _) = decode(&change)?;
            let records = records_of(&change, place);
            for (identity, statement) in records.map_err(|why| damaged(space, entry, why))? {
                let (Some(reference), Some(words)) =
                    (statement.body(), words_of(conversation, identity, &statement))
                else {
                    continue;
                };
                if let Some(row) = &retired {
                    carried.push(Carried::Erased(row.clone()));
                    continue;
                }
                let message = words.message.unwrap_or(identity);
                let place = (message, words.front.unwrap_or_default());
                let body = read_body(view, conversation, place, reference)?;
                carried.push(body_or_cover(view, space, entry, body, &words)?);
            }
        }
        EntryKind::Conversation { name, incarnation, change } => {
            let conversation = ConversationId::of(space, &name, incarnation);
            let (change, _) = decode(&change)?;
            let settings = settings_of(&change, conversation, place);
            let retired = retirement(view, space, conversation)?;
            for record in settings.map_err(|why| damaged(space, entry, why))?.1 {
                let Some(reference) = record.setting.body() else { continue };
                if let Some(row) = &retired {
                    carried.push(Carried::Erased(row.clone()));
                    continue;
                }
                let setting = record.setting.key(conversation).identity;
                let key = BodyKey::title(conversation, setting, reference.digest);
                let body = tables::get::<Body>(view, &key)?;
                let body = body.filter(|body| body.reference() == reference);
                let words = Words { conversation, message: None, author: &record.by, front: None };
                carried.push(body_or_cover(view, space, entry, body, &words)?);
            }
        }
        EntryKind::Origin { .. }
        | EntryKind::Markers(_)
        | EntryKind::Erasures { .. }
        | EntryKind::Unknown { .. } => {}
    }
    Ok(carried)
}

/// The row that erased a conversation, if it was. Its words leave the tables bit by bit: they are
/// not sent from there meanwhile.
fn retirement(
    view: &(impl View + ?Sized),
    space: SpaceId,
    conversation: ConversationId,
) -> Result<Option<Erasure>, EngineError> {
    tables::get(view, &(space, ErasureKey::Conversation(conversation)))
}

/// Whether an entry is about a conversation that was erased.
fn retires(
    view: &(impl View + ?Sized),
    space: SpaceId,
    entry: &LogEntry,
) -> Result<bool, EngineError> {
    let Some((document, _)) = change_in(space, decoded(space, entry)?.kind) else {
        return Ok(false);
    };
    Ok(retirement(view, space, document.conversation)?.is_some())
}

fn body_or_cover(
    view: &(impl View + ?Sized),
    space: SpaceId,
    entry: &LogEntry,
    body: Option<Body>,
    words: &Words<'_>,
) -> Result<Carried, EngineError> {
    if let Some(body) = body {
        return Ok(Carried::Body(body));
    }
    let cover = covering(view, space, words)?;
    let key = LogRow::key(&(space, entry.origin, entry.seq));
    cover.map(Carried::Erased).ok_or_else(|| words_missing(Table::Log, &key))
}

/// The bodies of an entry in quarantine, kept as they came.
fn quarantined(
    view: &(impl View + ?Sized),
    entry: &LogEntry,
    row: QuarantineRow,
) -> Result<Vec<Carried>, EngineError> {
    let mut carried = Vec::new();
    loop {
        let place = (entry.origin, entry.seq);
        let key = BodyKey::quarantined(row.conversation, place, carried.len());
        match tables::get::<Body>(view, &key)? {
            Some(body) => carried.push(Carried::Body(body)),
            None => return Ok(carried),
        }
    }
}

fn damaged(space: SpaceId, entry: &LogEntry, why: impl std::fmt::Display) -> EngineError {
    seal::damaged(Table::Log, &LogRow::key(&(space, entry.origin, entry.seq)), why)
}

/// The chain digest of an entry that is held, or was trimmed last.
///
/// # Errors
/// When the engine fails or the row is damaged.
pub fn chain_at(
    view: &(impl View + ?Sized),
    space: SpaceId,
    origin: OriginId,
    seq: u64,
) -> Result<Option<Digest>, EngineError> {
    if let Some(row) = tables::get::<LogRow>(view, &(space, origin, seq))? {
        return Ok(Some(row.digest));
    }
    let row: Option<OriginRow> = tables::get(view, &(space, origin))?;
    Ok(row.filter(|row| row.trimmed == seq).map(|row| row.base))
}
