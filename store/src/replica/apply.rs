//! Taking in entries of other origins.
//!
//! Everything is checked before anything is changed: the chain, the depth, the causal past, the
//! Automerge change, and that every record and body is what the entry says. Invariant: a refused
//! entry changes nothing.

use super::building::Applied;
use super::documents::{CONVERSATION_DOCUMENT, Which};
use super::place::{Placement, read_body, timeline_row};
use super::write::record_bytes;
use super::{Replica, ReplicaError};
use crate::document::{ChangeError, Checked, DocumentError, GENESIS, Scalar};
use crate::entry::{
    Entry, EntryKind, MAX_ENTRY_BYTES, Parcel, chain_digest, chain_link, chain_mark,
};
use crate::id::{ConversationId, Identity, Millis, OriginId, SegmentId};
use crate::name::Name;
use crate::record::{Body, Header, MAX_HEADER_BYTES, Message, Record, RecordKey};
use crate::tables::{ConversationRow, OriginRow};
use crate::vector::VersionVector;

/// Whether an entry can be applied now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Its causal past is held and it is the origin's next.
    Ready,
    /// It is held already.
    Held,
    /// Something before it is missing: of this origin, up to this seq.
    Waits(OriginId, u64),
}

/// Why an entry of a peer is refused. Nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// It cannot be applied yet.
    #[error("its causal past is not held: {0:?}")]
    NotReady(Readiness),
    /// It does not follow the origin's last entry.
    #[error("it does not continue its origin's chain")]
    Chain,
    /// Its bytes are not the ones that its origin put into the chain.
    #[error("its bytes do not have the chain digest that came with them")]
    Digest,
    /// It is larger than an entry may be.
    #[error("it has {0} bytes with its bodies, at most {MAX_ENTRY_BYTES} are allowed")]
    Size(usize),
    /// Its depth does not follow from what it has seen.
    #[error("its depth {found} is not above {above} and at most {most}")]
    Depth {
        /// Its depth.
        found: u64,
        /// The depth of the origin's previous entry.
        above: u64,
        /// 1 + the greatest depth held.
        most: u64,
    },
    /// It is not what must stand at its place in the log.
    #[error("{0}")]
    Misplaced(&'static str),
    /// Its change cannot be accepted.
    #[error("its change is refused: {0}")]
    Change(#[from] ChangeError),
    /// Automerge refused or panicked although the change passed the checks.
    #[error("its change cannot be applied: {0}")]
    Document(#[from] DocumentError),
    /// A record is not what its key or its entry says.
    #[error("record {index}: {why}")]
    Record {
        /// Which record, from 0.
        index: usize,
        /// What is wrong.
        why: String,
    },
    /// Beyond a refusal: the replica must be opened again.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
}

impl Replica {
    /// Whether entry `seq` of `origin` can be applied now.
    #[must_use]
    pub fn readiness(&self, origin: OriginId, seq: u64, saw: &VersionVector) -> Readiness {
        let held = self.applied.get(origin);
        if seq <= held {
            return Readiness::Held;
        }
        if seq > held + 1 {
            return Readiness::Waits(origin, seq - 1);
        }
        let mut missing = saw.above(&self.applied);
        missing.next().map_or(Readiness::Ready, |(origin, seq)| Readiness::Waits(origin, seq))
    }

    /// Applies `entry`, read from the bytes of `parcel`, of another origin. `allowed` says whether
    /// a node of this region may write in the space.
    ///
    /// # Errors
    /// When the entry is refused; then nothing was changed.
    pub fn apply(
        &mut self,
        now: Millis,
        parcel: &Parcel,
        entry: Entry,
        allowed: impl Fn(&crate::id::NodeId, &Name) -> bool,
    ) -> Result<(), Refusal> {
        let (origin, seq) = (parcel.origin, parcel.seq);
        match self.readiness(origin, seq, &entry.saw) {
            Readiness::Ready => {}
            other @ (Readiness::Held | Readiness::Waits(..)) => {
                return Err(Refusal::NotReady(other));
            }
        }
        if origin == self.writer.origin {
            return Err(Refusal::Misplaced("it claims to be of this node's own run"));
        }
        if origin == GENESIS {
            return Err(Refusal::Misplaced("its origin is the one that begins every document"));
        }
        if parcel.bytes() > MAX_ENTRY_BYTES {
            return Err(Refusal::Size(parcel.bytes()));
        }
        let previous = self.chain(origin);
        if chain_link(previous) != entry.previous {
            return Err(Refusal::Chain);
        }
        if chain_mark(chain_digest(previous, &parcel.entry)) != parcel.chain {
            return Err(Refusal::Digest);
        }
        let above = self.origins.get(&origin).map_or(0, |row| row.depth);
        let most = self.depth + 1;
        if entry.depth <= above || entry.depth > most {
            return Err(Refusal::Depth { found: entry.depth, above, most });
        }
        if (seq == 1) != matches!(entry.kind, EntryKind::Origin { .. }) {
            return Err(Refusal::Misplaced("an origin record stands at seq 1, and only there"));
        }
        let carries = matches!(entry.kind, EntryKind::Segment { .. });
        if !carries && !parcel.bodies.is_empty() {
            return Err(Refusal::Misplaced("an entry without posts came with bodies"));
        }
        let place = (origin, seq, entry.depth);
        let (document, applied) = match entry.kind {
            EntryKind::Origin { node, region, started } => {
                if !allowed(&node, &region) {
                    return Err(Refusal::Misplaced("its node or region is not in the space"));
                }
                let row = OriginRow { node, region, started, seq: 0, depth: 0, digest: previous };
                self.origins.insert(origin, row);
                (None, Applied { origin, seq, messages: Vec::new(), aliases: Vec::new() })
            }
            EntryKind::Conversation { name, incarnation, change } => {
                self.apply_creation(place, &name, incarnation, &change)?
            }
            EntryKind::Segment { conversation, ordinal, change } => {
                let segment = SegmentId { conversation, ordinal };
                self.apply_segment(now, place, segment, &change, &parcel.bodies)?
            }
        };
        self.record_entry((origin, seq), entry.depth, &parcel.entry, document);
        self.building.applied.push(applied);
        Ok(())
    }

    fn apply_creation(
        &mut self,
        (origin, seq, _): (OriginId, u64, u64),
        name: &Name,
        incarnation: u32,
        change: &[u8],
    ) -> Result<(Option<SegmentId>, Applied), Refusal> {
        if incarnation != 0 {
            return Err(Refusal::Misplaced("an incarnation above 0 without a retirement"));
        }
        let checked = Checked::parse(change, origin)?;
        let access = ("access".to_owned(), Scalar::Text("open".to_owned()));
        if checked.writes != [access] {
            return Err(Refusal::Misplaced("a conversation begins with its access, `open`"));
        }
        let id = ConversationId::of(self.space, name, incarnation);
        let new = self.conversation(id)?.is_none();
        let document = SegmentId { conversation: id, ordinal: CONVERSATION_DOCUMENT };
        self.apply_change(Which::Conversation(document, name), checked)?;
        if new {
            self.add_conversation(id, name);
        }
        // Created here too, but not written yet: this entry's change will do for both, and a
        // second one on top of it would write nothing new.
        self.building.created.retain(|(created, _)| *created != id);
        let applied = Applied { origin, seq, messages: Vec::new(), aliases: Vec::new() };
        Ok((Some(document), applied))
    }

    fn apply_segment(
        &mut self,
        now: Millis,
        (origin, seq, depth): (OriginId, u64, u64),
        segment: SegmentId,
        change: &[u8],
        bodies: &[Body],
    ) -> Result<(Option<SegmentId>, Applied), Refusal> {
        let id = segment.conversation;
        let row = self.conversation(id)?;
        let mut row = row.ok_or(Refusal::Misplaced("it posts in an unknown conversation"))?;
        if segment.ordinal > row.ordinal.saturating_add(1) {
            return Err(Refusal::Misplaced("it skips a segment"));
        }
        let checked = Checked::parse(change, origin)?;
        let records = records_of(&checked, (origin, depth), bodies)?;
        self.apply_change(Which::Segment(segment), checked)?;
        count_records(&mut row, segment.ordinal, &records);
        let mut applied = Applied { origin, seq, messages: Vec::new(), aliases: Vec::new() };
        for (record, body) in records.into_iter().zip(bodies) {
            let placement = self.place(now, (id, &mut row), &record, body)?;
            if placement != Placement::New {
                applied.messages.extend(self.announce(id, record.identity)?);
            }
            match placement {
                Placement::New => applied.messages.push(Message::new(id, record, body)),
                Placement::Alias(canonical) => {
                    applied.aliases.push((id, record.id(), canonical));
                }
                Placement::Canonical(before) => applied.aliases.push((id, before, record.id())),
                Placement::Same => {}
            }
        }
        self.building.conversations.insert(id, row);
        self.building.bytes += bodies.iter().map(|body| body.bytes.len()).sum::<usize>();
        Ok((Some(segment), applied))
    }

    /// The message under `identity`, if it was posted here in this very batch and followers have
    /// not heard of it: they must, before an entry that has seen the copy which came just now.
    fn announce(
        &mut self,
        conversation: ConversationId,
        identity: Identity,
    ) -> Result<Option<Message>, ReplicaError> {
        if !self.building.unannounced.remove(&(conversation, identity)) {
            return Ok(None);
        }
        let Some(canonical) = self.canonical(conversation, identity)? else { return Ok(None) };
        let header = timeline_row(&self.overlay, canonical)?.header;
        let body = read_body(&self.overlay, canonical, header.body)?;
        let record = Record { identity, header };
        Ok(body.map(|body| Message::new(conversation, record, &body)))
    }

    /// Checks the change against its document, then applies it.
    fn apply_change(&mut self, which: Which<'_>, checked: Checked) -> Result<(), Refusal> {
        let outcome: Result<Result<(), ChangeError>, Refusal> =
            self.documents.with(&self.overlay, self.space, which, |document| {
                if let Err(refused) = document.check(&checked.change) {
                    return Ok(Err(refused));
                }
                document.apply(vec![checked.change])?;
                Ok(Ok(()))
            });
        Ok(outcome??)
    }
}

/// Counts a remote entry's records against the conversation's current segment.
fn count_records(row: &mut ConversationRow, ordinal: u32, records: &[Record]) {
    if ordinal < row.ordinal {
        return;
    }
    if ordinal > row.ordinal {
        row.ordinal = ordinal;
        row.records = 0;
        row.record_bytes = 0;
    }
    row.records += records.len() as u32;
    row.record_bytes += records.iter().map(record_bytes).sum::<u32>();
}

/// Reads the records that a change writes, and checks each against entry and body.
fn records_of(
    checked: &Checked,
    (origin, depth): (OriginId, u64),
    bodies: &[Body],
) -> Result<Vec<Record>, Refusal> {
    if checked.writes.len() != bodies.len() {
        return Err(Refusal::Misplaced("it has not as many bodies as records"));
    }
    let places = checked.writes.iter().zip(bodies).enumerate();
    places
        .map(|(index, ((key, scalar), body))| {
            let refuse = |why: String| Refusal::Record { index, why };
            let key = RecordKey::from_text(key).map_err(|source| refuse(source.to_string()))?;
            if key.origin != origin || key.depth != depth {
                return Err(refuse("its key names another origin or depth".to_owned()));
            }
            let Scalar::Bytes(header) = scalar else {
                return Err(refuse("it is no header".to_owned()));
            };
            if header.len() > MAX_HEADER_BYTES {
                return Err(refuse(format!("a header of {} bytes", header.len())));
            }
            let header = Header::decode(header).map_err(|source| refuse(source.to_string()))?;
            if body.bytes.is_empty() || body.reference() != header.body {
                return Err(refuse("its body is not the one it refers to".to_owned()));
            }
            Ok(Record { identity: key.identity, header })
        })
        .collect()
}
