//! Reading documents: the records in a snapshot, and in the changes that it does not cover.
//!
//! Invariant: a document's records come from the snapshot and the log, never from the rows that
//! are computed from them.

use crate::document::{Change, Scalar};
use crate::engine::{Direction, EngineError, Table, View};
use crate::id::{ConversationId, SegmentId, SpaceId};
use crate::replica::{ReplicaError, change_of, changes_of, read_snapshot};
use crate::seal;
use crate::tables;

/// The documents of a conversation that have rows, in the order of their ordinals: segments, then
/// the conversation's own.
///
/// # Errors
/// When the engine fails.
pub(crate) fn documents_of(
    view: &(impl View + ?Sized),
    conversation: ConversationId,
) -> Result<Vec<SegmentId>, EngineError> {
    let end = tables::behind(&conversation.0);
    let mut start = conversation.0.to_vec();
    let mut documents = Vec::new();
    loop {
        let row = view.scan(Table::Segments, &start, &end, Direction::Forward).next();
        let Some(row) = row else { return Ok(documents) };
        let (key, _) = row?;
        let ordinal = key.get(16..).and_then(<[u8]>::first_chunk::<4>);
        let Some(ordinal) = ordinal else {
            return Err(seal::damaged(Table::Segments, &key, "a key that is too short"));
        };
        let document = SegmentId { conversation, ordinal: u32::from_be_bytes(*ordinal) };
        documents.push(document);
        start = tables::behind(&document.to_bytes());
    }
}

/// Everything that a document holds, by key, in no particular order.
///
/// # Errors
/// When rows are damaged or missing, or Automerge does not take the snapshot.
pub(crate) fn records_in(
    view: &(impl View + ?Sized),
    space: SpaceId,
    document: SegmentId,
) -> Result<Vec<(String, Scalar)>, ReplicaError> {
    let damaged = |error: &dyn std::fmt::Display| {
        let SegmentId { conversation, ordinal } = document;
        ReplicaError::Damaged(format!("document {conversation}/{ordinal}: {error}"))
    };
    let mut records = match read_snapshot(view, document)? {
        Some(snapshot) => snapshot.contents().map_err(|error| damaged(&error))?,
        None => Vec::new(),
    };
    for (row, _) in changes_of(view, document)? {
        let bytes = change_of(view, space, row)?;
        let (change, _) = Change::decode(&bytes).map_err(|error| damaged(&error))?;
        records.extend(change.writes);
    }
    Ok(records)
}
