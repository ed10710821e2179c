//! Reading the log: ranges of entries in causal order, each with its bodies.
//!
//! Serves pull and the followers that resume. Invariant: entries come in the order of (depth,
//! origin), which is causal, and an entry comes whole or not at all.

use std::collections::BTreeMap;

use crate::document::Checked;
use crate::engine::{EngineError, Table, View};
use crate::entry::{Entry, EntryKind, Parcel, chain_mark};
use crate::id::{Digest, OriginId, SpaceId};
use crate::record::{Body, Header, Message, Record, RecordKey};
use crate::replica::read_body;
use crate::seal;
use crate::tables::{self, LogRow, MessageKey, RowType};
use crate::vector::VersionVector;

/// Walks the log of a space in causal order.
pub struct LogWalk<'a> {
    view: &'a dyn View,
    space: SpaceId,
    until: VersionVector,
    /// The next entry of each origin: its row is read already.
    next: BTreeMap<(u64, OriginId), (u64, LogRow)>,
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
    /// When the engine fails or a row is damaged.
    pub fn between(
        view: &'a dyn View,
        space: SpaceId,
        from: &VersionVector,
        until: &VersionVector,
    ) -> Result<Self, EngineError> {
        let mut walk = Self { view, space, until: until.clone(), next: BTreeMap::new() };
        for (origin, _) in until.above(from) {
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

/// The records of an entry of the log, with their bodies.
///
/// # Errors
/// When a row is damaged or missing.
pub fn records(
    view: &(impl View + ?Sized),
    space: SpaceId,
    entry: &LogEntry,
) -> Result<Vec<(Message, Body)>, EngineError> {
    let key = LogRow::key(&(space, entry.origin, entry.seq));
    let damaged = |why: String| seal::damaged(Table::Log, &key, why);
    let decoded = Entry::decode(&entry.bytes).map_err(|source| damaged(source.to_string()))?;
    let EntryKind::Segment { conversation, change, .. } = decoded.kind else {
        return Ok(Vec::new());
    };
    let checked =
        Checked::parse(&change, entry.origin).map_err(|source| damaged(source.to_string()))?;
    let read = |(key, scalar): (String, crate::document::Scalar)| {
        let identity =
            RecordKey::from_text(&key).map_err(|source| damaged(source.to_string()))?.identity;
        let crate::document::Scalar::Bytes(header) = scalar else {
            return Err(damaged("a record that is no header".to_owned()));
        };
        let header = Header::decode(&header).map_err(|source| damaged(source.to_string()))?;
        let record = Record { identity, header };
        let id = record.id();
        let place = MessageKey::of(conversation, &record);
        let body = read_body(view, place, record.header.body)?;
        let body = body.ok_or_else(|| damaged(format!("message {id} has no body")))?;
        Ok((Message::new(conversation, record, &body), body))
    };
    checked.writes.into_iter().map(read).collect()
}

/// The entry as it travels.
///
/// # Errors
/// When a row is damaged or missing.
pub fn parcel(
    view: &(impl View + ?Sized),
    space: SpaceId,
    entry: LogEntry,
) -> Result<Parcel, EngineError> {
    let records = records(view, space, &entry)?;
    let bodies = records.into_iter().map(|(_, body)| body).collect();
    let LogEntry { origin, seq, digest, bytes, .. } = entry;
    Ok(Parcel { origin, seq, entry: bytes, chain: chain_mark(digest), bodies })
}

/// The chain digest of an entry that is held.
///
/// # Errors
/// When the engine fails or the row is damaged.
pub fn chain_at(
    view: &(impl View + ?Sized),
    space: SpaceId,
    origin: OriginId,
    seq: u64,
) -> Result<Option<Digest>, EngineError> {
    Ok(tables::get::<LogRow>(view, &(space, origin, seq))?.map(|row| row.digest))
}
