//! Sealing: what was accepted becomes entries, and the batch leaves to be persisted.
//!
//! One change for each document touched; each change one entry of the own log. Invariant: an
//! entry's depth is above that of all that is applied when it is written, so what was done here
//! last counts last.

use std::sync::Arc;

use super::building::{Applied, Building, Staged};
use super::documents::{CONVERSATION_DOCUMENT, Which};
use super::{Point, Replica, ReplicaError};
use crate::document::{ChangeFact, Scalar};
use crate::engine::Batch;
use crate::entry::{
    Carried, Entry, EntryKind, MAX_ENTRY_MARKERS, Marker, Parcel, chain_digest, chain_link,
    chain_mark,
};
use crate::id::{ConversationId, MessageId, OriginId, SegmentId};
use crate::name::Name;
use crate::overlay::Ticket;
use crate::record::{Body, Message, Rank, Record, RecordKey, SettingRecord, Statement};
use crate::tables::{ChangeRow, ConversationRow, LogRow, OriginRow};

/// The most records in one entry.
const MAX_ENTRY_RECORDS: usize = 512;
/// Bytes of bodies after which an entry is full: with headers it stays well below 1 MiB.
const ENTRY_BODY_BYTES: usize = 768 * 1024;

/// A batch on its way to the disk, and what may be said once it is durable.
#[derive(Debug)]
pub struct Sealed {
    /// Its number; batches become durable in this order.
    pub ticket: Ticket,
    /// The rows.
    pub batch: Arc<Batch>,
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
        self.flush()?;
        self.withhold()?;
        self.write_rows();
        let building = std::mem::take(&mut self.building);
        Ok(Some(self.finish(building)))
    }

    /// Writes entries of all that waits for one, within the batch.
    pub(super) fn flush(&mut self) -> Result<(), ReplicaError> {
        for (id, name, incarnation) in std::mem::take(&mut self.building.created) {
            self.write_creation(id, name, incarnation)?;
        }
        for (segment, records) in std::mem::take(&mut self.building.records) {
            for records in entries_of(records) {
                self.write_records(segment, records)?;
            }
        }
        let mut markers: Vec<Marker> = std::mem::take(&mut self.building.markers)
            .into_iter()
            .map(|((conversation, user), message)| Marker { conversation, user, message })
            .collect();
        while !markers.is_empty() {
            let rest = markers.split_off(markers.len().min(MAX_ENTRY_MARKERS));
            markers.iter().try_for_each(|marker| self.take_marker(marker))?;
            self.write_own(EntryKind::Markers(markers), None, Vec::new(), |_| {})?;
            markers = rest;
        }
        Ok(())
    }

    fn write_creation(
        &mut self,
        id: ConversationId,
        name: Name,
        incarnation: u32,
    ) -> Result<(), ReplicaError> {
        let document = SegmentId { conversation: id, ordinal: CONVERSATION_DOCUMENT };
        let writes = vec![("access".to_owned(), Scalar::Text("open".to_owned()))];
        let which = Which::Conversation(document, &name);
        self.write_origin()?;
        let (change, fact) =
            self.documents.append(&self.overlay, which, self.writer.origin, writes)?;
        let kind = EntryKind::Conversation { name, incarnation, change };
        self.write_own(kind, Some((document, fact)), Vec::new(), |applied| {
            applied.settings.push(id);
        })
    }

    /// Writes settings of a conversation that was created before, and lets them take effect. Up
    /// to [`MAX_ENTRY_RECORDS`] stand in one entry; more make several, in one batch.
    pub(super) fn write_settings(
        &mut self,
        id: ConversationId,
        mut records: Vec<(SettingRecord, Option<Body>)>,
    ) -> Result<(), ReplicaError> {
        while !records.is_empty() {
            let rest = records.split_off(records.len().min(MAX_ENTRY_RECORDS));
            self.write_entry_of_settings(id, records)?;
            records = rest;
        }
        Ok(())
    }

    fn write_entry_of_settings(
        &mut self,
        id: ConversationId,
        records: Vec<(SettingRecord, Option<Body>)>,
    ) -> Result<(), ReplicaError> {
        let Some(mut row) = self.conversation(id)? else { return Ok(()) };
        let document = SegmentId { conversation: id, ordinal: CONVERSATION_DOCUMENT };
        self.write_origin()?;
        let (depth, origin) = (self.depth + 1, self.writer.origin);
        let writes = records.iter().map(|(record, _)| {
            let key = RecordKey { depth, origin, identity: record.setting.key(id).identity };
            (key.to_text(), Scalar::Bytes(record.encode()))
        });
        let writes = writes.collect();
        let (name, incarnation) = (row.name.clone(), row.incarnation);
        let which = Which::Conversation(document, &name);
        let (change, fact) = self.documents.append(&self.overlay, which, origin, writes)?;
        let rank = Rank { depth, origin, front: crate::id::Front::default() };
        let mut bodies = Vec::new();
        for (record, body) in records {
            self.take_setting((id, &mut row), rank, record, body.as_ref())?;
            bodies.extend(body);
        }
        self.building.conversations.insert(id, row);
        let kind = EntryKind::Conversation { name, incarnation, change };
        self.write_own(kind, Some((document, fact)), bodies, |applied| {
            applied.settings.push(id);
        })
    }

    fn write_records(
        &mut self,
        segment: SegmentId,
        records: Vec<Staged>,
    ) -> Result<(), ReplicaError> {
        self.write_origin()?;
        let (depth, origin) = (self.depth + 1, self.writer.origin);
        let SegmentId { conversation, ordinal } = segment;
        let writes = records.iter().map(|staged| {
            let key = RecordKey { depth, origin, identity: staged.identity };
            (key.to_text(), Scalar::Bytes(staged.statement.encode()))
        });
        let (change, fact) = self.documents.append(
            &self.overlay,
            Which::Segment(segment),
            origin,
            writes.collect(),
        )?;
        let mut seen = Applied::nothing(origin, 0);
        let mut bodies = Vec::with_capacity(records.len());
        // A conversation that was erased meanwhile has no row: what was accepted for it is
        // written, and shows nowhere.
        let mut row = self.conversation(conversation)?;
        for (place, Staged { identity, statement, body }) in records.into_iter().enumerate() {
            match (statement, &mut row) {
                (Statement::Post(header), _) => {
                    let record = Record { identity, header };
                    let (said, body) = ((place, record), body.as_ref());
                    self.see_post((conversation, row.as_ref()), said, body, &mut seen)?;
                }
                (deed, Some(row)) => {
                    let rank = Rank { depth, origin, front: front_of(&deed) };
                    let body = body.as_ref();
                    let changed = self.take_deed((conversation, row), rank, &deed, body)?;
                    seen.changed.extend(changed.map(|id| (conversation, id)));
                }
                (_, None) => {}
            }
            bodies.extend(body);
        }
        if let Some(row) = row {
            self.building.conversations.insert(conversation, row);
        }
        let kind = EntryKind::Segment { conversation, ordinal, change };
        self.write_own(kind, Some((segment, fact)), bodies, |applied| {
            *applied = Applied { seq: applied.seq, ..seen };
        })
    }

    /// What followers hear of an own post when its entry is written.
    fn see_post(
        &mut self,
        (conversation, row): (ConversationId, Option<&ConversationRow>),
        (place, record): (usize, Record),
        body: Option<&Body>,
        seen: &mut Applied,
    ) -> Result<(), ReplicaError> {
        // An entry of a peer may have erased it before it was written.
        let body =
            body.filter(|_| row.is_some_and(|row| !self.covers_post(conversation, row, &record)));
        let unannounced = self.building.unannounced.remove(&(conversation, record.identity));
        if unannounced && let Some(body) = body {
            seen.bring(place, Message::new(conversation, record, body));
        } else if let Some(canonical) = self.canonical(conversation, record.identity)?
            && canonical.id() != record.id()
        {
            let (alias, canonical): (MessageId, MessageId) = (record.id(), canonical.id());
            seen.aliases.push((conversation, alias, canonical));
        }
        Ok(())
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
        let start = self.chain(writer.origin);
        let row = OriginRow {
            node: writer.node,
            region: writer.region,
            started: writer.started,
            seq: 0,
            depth: 0,
            digest: start,
            trimmed: 0,
            base: start,
        };
        self.origins.insert(writer.origin, row);
        self.write_own(kind, None, Vec::new(), |_| {})
    }

    /// Writes an entry of the own log. `see` says what followers see of it.
    pub(super) fn write_own(
        &mut self,
        kind: EntryKind,
        document: Option<(SegmentId, ChangeFact)>,
        bodies: Vec<Body>,
        see: impl FnOnce(&mut Applied),
    ) -> Result<(), ReplicaError> {
        self.write_origin()?;
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
        if seq == 1 {
            self.note_successor(origin, &entry.saw);
        }
        self.seen = self.applied.clone();
        let chain = chain_mark(self.chain(origin));
        let bodies = bodies.into_iter().map(Carried::Body).collect();
        self.building.own.push(Parcel { origin, seq, entry: bytes, chain, bodies });
        let mut applied = Applied::nothing(origin, seq);
        see(&mut applied);
        self.building.applied.push(applied);
        Ok(())
    }

    /// Takes an entry, own or remote, into log, chain and vector.
    pub(super) fn record_entry(
        &mut self,
        (origin, seq): (OriginId, u64),
        depth: u64,
        bytes: &[u8],
        document: Option<(SegmentId, ChangeFact)>,
    ) {
        let digest = chain_digest(self.chain(origin), bytes);
        self.building.bytes += bytes.len();
        let log = LogRow { digest, entry: bytes.to_vec() };
        self.put(&(self.space, origin, seq), &log);
        if let Some((document, fact)) = document {
            self.put(&ChangeRow { document, origin, seq }, &fact);
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
            self.directory.keep(id, row);
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
        let sealed = Arc::new(Sealed {
            ticket: self.sealed,
            batch: self.overlay.seal(self.sealed),
            applied: Arc::new(building.applied),
            own: building.own,
        });
        self.pending.push_back((Arc::clone(&sealed), self.point()));
        sealed
    }

    fn point(&self) -> Point {
        Point {
            vector: self.applied.clone(),
            digest: self.state.sum.digest(),
            erasures: self.state.erasures.digest(),
            quarantine: self.state.quarantine.digest(),
        }
    }
}

/// The place in time by which a record is told from others of its entry.
pub(crate) fn front_of(statement: &Statement) -> crate::id::Front {
    match statement {
        Statement::Post(header) => header.front,
        Statement::Edit(edit) => edit.front,
        Statement::Redaction(redaction) => redaction.front,
        // One word a person and emoji in an entry.
        Statement::Reaction(_) => crate::id::Front::default(),
    }
}

/// Cuts the records of one segment into entries of bounded size.
fn entries_of(posts: Vec<Staged>) -> Vec<Vec<Staged>> {
    let mut entries: Vec<Vec<Staged>> = Vec::new();
    let mut bytes = 0;
    for post in posts {
        let length = post.body.as_ref().map_or(0, |body| body.bytes.len());
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
