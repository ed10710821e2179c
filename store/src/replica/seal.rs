//! Sealing: local posts become entries, and the batch leaves to be persisted.
//!
//! One Automerge change for each document touched; each change one entry of the own log.
//! Invariant: an own change passes the same check as a remote one before it is persisted.

use std::sync::Arc;

use super::building::{Applied, Building, Staged};
use super::documents::{CONVERSATION_DOCUMENT, Which};
use super::{Point, Replica, ReplicaError};
use crate::document::{Checked, Scalar};
use crate::engine::Batch;
use crate::entry::{Entry, EntryKind, Parcel, chain_digest, chain_link, chain_mark};
use crate::id::{ConversationId, MessageId, SegmentId};
use crate::name::Name;
use crate::overlay::Ticket;
use crate::record::{Body, Message, RecordKey};
use crate::tables::{DocumentEntryRow, LogRow, OriginRow};

/// The most records in one entry.
const MAX_ENTRY_RECORDS: usize = 512;
/// Bytes of bodies after which an entry is full: with headers it stays well below 1 MiB.
const ENTRY_BODY_BYTES: usize = 768 * 1024;

/// What followers see of an entry: its messages, and ids that are another message's.
type Seen = (Vec<Message>, Vec<(ConversationId, MessageId, MessageId)>);

/// A batch on its way to the disk, and what may be said once it is durable.
#[derive(Debug)]
pub struct Sealed {
    /// Its number; batches become durable in this order.
    pub ticket: Ticket,
    /// The rows.
    pub batch: Batch,
    /// The entries applied, in order, for followers.
    pub applied: Arc<Vec<Applied>>,
    /// The own entries among them, to push to peers.
    pub own: Vec<Parcel>,
}

impl Replica {
    /// Whether there is anything to seal.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.building.is_empty()
    }

    /// Bytes of entries and bodies taken into the batch that is being built.
    #[must_use]
    pub fn building_bytes(&self) -> usize {
        self.building.bytes
    }

    /// Ends the batch. `None` if there is nothing in it.
    ///
    /// # Errors
    /// When the engine or Automerge fails; the replica must be opened again.
    pub fn seal(&mut self) -> Result<Option<Arc<Sealed>>, ReplicaError> {
        if self.building.is_empty() {
            return Ok(None);
        }
        for (id, name) in std::mem::take(&mut self.building.created) {
            self.write_creation(id, name)?;
        }
        for (segment, posts) in std::mem::take(&mut self.building.posts) {
            for records in entries_of(posts) {
                self.write_records(segment, records)?;
            }
        }
        self.write_rows();
        let building = std::mem::take(&mut self.building);
        Ok(Some(self.finish(building)))
    }

    fn write_creation(&mut self, id: ConversationId, name: Name) -> Result<(), ReplicaError> {
        self.write_origin()?;
        let document = SegmentId { conversation: id, ordinal: CONVERSATION_DOCUMENT };
        let scalars = vec![("access".to_owned(), Scalar::Text("open".to_owned()))];
        let change = self.change(Which::Conversation(document, &name), scalars)?;
        let kind = EntryKind::Conversation { name, incarnation: 0, change };
        self.write_entry(kind, Some(document), Seen::default(), Vec::new())
    }

    fn write_records(
        &mut self,
        segment: SegmentId,
        records: Vec<Staged>,
    ) -> Result<(), ReplicaError> {
        self.write_origin()?;
        let (depth, origin) = (self.depth + 1, self.writer.origin);
        let scalars = records.iter().map(|Staged { record, .. }| {
            let key = RecordKey { depth, origin, identity: record.identity };
            (key.to_text(), Scalar::Bytes(record.header.encode()))
        });
        let change = self.change(Which::Segment(segment), scalars.collect())?;
        let SegmentId { conversation, ordinal } = segment;
        let mut messages = Vec::with_capacity(records.len());
        let mut aliases = Vec::new();
        let mut bodies = Vec::with_capacity(records.len());
        for Staged { record, body } in records {
            if self.building.unannounced.remove(&(conversation, record.identity)) {
                messages.push(Message::new(conversation, record, &body));
            } else if let Some(canonical) = self.canonical(conversation, record.identity)?
                && canonical.id() != record.id()
            {
                aliases.push((conversation, record.id(), canonical.id()));
            }
            bodies.push(body);
        }
        let kind = EntryKind::Segment { conversation, ordinal, change };
        self.write_entry(kind, Some(segment), (messages, aliases), bodies)
    }

    /// Writes the origin record before the run's first real entry, so that a run which writes
    /// nothing leaves no origin.
    fn write_origin(&mut self) -> Result<(), ReplicaError> {
        if self.origins.contains_key(&self.writer.origin) {
            return Ok(());
        }
        let writer = self.writer.clone();
        let kind = EntryKind::Origin {
            node: writer.node,
            region: writer.region.clone(),
            started: writer.started,
        };
        let row = OriginRow {
            node: writer.node,
            region: writer.region,
            started: writer.started,
            seq: 0,
            depth: 0,
            digest: self.chain(writer.origin),
        };
        self.origins.insert(writer.origin, row);
        self.write_entry(kind, None, Seen::default(), Vec::new())
    }

    /// Makes an own change, and checks it as if it came from outside.
    fn change(
        &mut self,
        which: Which<'_>,
        scalars: Vec<(String, Scalar)>,
    ) -> Result<Vec<u8>, ReplicaError> {
        let origin = self.writer.origin;
        self.documents.with(&self.overlay, self.space, which, |document| {
            let damaged = |error: &dyn std::error::Error| {
                ReplicaError::Damaged(format!("own change of {:?}: {error}", which.id()))
            };
            let expected = scalars.len();
            let bytes = document.append(scalars).map_err(|error| damaged(&error))?;
            let checked = Checked::parse(&bytes, origin).map_err(|error| damaged(&error))?;
            if checked.writes.len() != expected {
                return Err(ReplicaError::Damaged("own change lost a record".to_owned()));
            }
            Ok(bytes)
        })
    }

    fn write_entry(
        &mut self,
        kind: EntryKind,
        document: Option<SegmentId>,
        (messages, aliases): Seen,
        bodies: Vec<Body>,
    ) -> Result<(), ReplicaError> {
        let origin = self.writer.origin;
        let held = self.origins.get(&origin);
        let seq = held.map_or(0, |row| row.seq) + 1;
        let previous = self.chain(origin);
        let entry = Entry {
            depth: self.depth + 1,
            saw: self.applied.above(&self.seen).filter(|(other, _)| *other != origin).collect(),
            previous: chain_link(previous),
            kind,
        };
        let bytes = entry.encode();
        self.record_entry((origin, seq), entry.depth, &bytes, document);
        self.seen = self.applied.clone();
        let chain = chain_mark(self.chain(origin));
        self.building.own.push(Parcel { origin, seq, entry: bytes, chain, bodies });
        self.building.applied.push(Applied { origin, seq, messages, aliases });
        Ok(())
    }

    /// Takes an entry, own or remote, into log, chain and vector.
    pub(super) fn record_entry(
        &mut self,
        (origin, seq): (crate::id::OriginId, u64),
        depth: u64,
        bytes: &[u8],
        document: Option<SegmentId>,
    ) {
        let digest = chain_digest(self.chain(origin), bytes);
        self.building.bytes += bytes.len();
        let log = LogRow { digest, entry: bytes.to_vec() };
        self.put(&(self.space, origin, seq), &log);
        if let Some(document) = document {
            self.put(&(document, origin, seq), &DocumentEntryRow);
        }
        if let Some(row) = self.origins.get_mut(&origin) {
            row.seq = seq;
            row.depth = depth;
            row.digest = digest;
        }
        self.depth = self.depth.max(depth);
        self.applied.raise(origin, seq);
        self.building.origins.insert(origin);
    }

    /// Writes the rows that changed many times in the batch once, at its end.
    fn write_rows(&mut self) {
        for (id, row) in std::mem::take(&mut self.building.conversations) {
            self.put(&id, &row);
        }
        for origin in std::mem::take(&mut self.building.origins) {
            if let Some(row) = self.origins.get(&origin).cloned() {
                self.put(&(self.space, origin), &row);
            }
        }
        self.state.clock = self.clock.last();
        let state = self.state.clone();
        self.put(&self.space.clone(), &state);
    }

    fn finish(&mut self, building: Building) -> Arc<Sealed> {
        self.sealed += 1;
        let point = Point { vector: self.applied.clone(), digest: self.state.sum.digest() };
        let sealed = Arc::new(Sealed {
            ticket: self.sealed,
            batch: building.batch,
            applied: Arc::new(building.applied),
            own: building.own,
        });
        self.pending.push_back((Arc::clone(&sealed), point));
        sealed
    }
}

/// Cuts the posts of one segment into entries of bounded size.
fn entries_of(posts: Vec<Staged>) -> Vec<Vec<Staged>> {
    let mut entries: Vec<Vec<Staged>> = Vec::new();
    let mut bytes = 0;
    for post in posts {
        let length = post.body.bytes.len();
        match entries.last_mut() {
            Some(last) if last.len() < MAX_ENTRY_RECORDS && bytes + length <= ENTRY_BODY_BYTES => {
                bytes += length;
                last.push(post);
            }
            Some(_) | None => {
                bytes = length;
                entries.push(vec![post]);
            }
        }
    }
    entries
}
