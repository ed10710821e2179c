//! Taking in entries of other origins.
//!
//! Everything is checked before anything is changed: the chain, the depth, the causal past, the
//! change, and that every record and body is what the entry says. What is the fault of whoever
//! brought an entry is refused, and changes nothing; what is the fault of the entry itself goes
//! into quarantine: the entry is held and passed on, and shows nowhere. Invariant: which of the
//! two it is, and what an entry does, depends on its causal past alone.

use super::building::Applied;
use super::documents::{CONVERSATION_DOCUMENT, Which};
use super::place::{Placement, read_body, timeline_row};
use super::seal::front_of;
use super::write::record_bytes;
use super::{Replica, ReplicaError};
use crate::document::{Change, ChangeError, ChangeFact, GENESIS, Scalar};
use crate::entry::{
    Carried, Entry, EntryKind, MAX_ENTRY_BYTES, Parcel, chain_digest, chain_link, chain_mark,
};
use crate::erasure::{Erasure, Words};
use crate::id::{ConversationId, Front, Identity, Millis, OriginId, SegmentId};
use crate::name::Name;
use crate::record::{
    Body, MAX_RECORD_BYTES, Message, Rank, Record, RecordKey, SettingRecord, Statement,
};
use crate::tables::{BodyKey, ConversationRow, OriginRow, QuarantineRow};
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
    /// The bodies that came with it are not those it refers to, and no erasure covers them:
    /// another peer may have them.
    #[error("body {index}: {why}")]
    Body {
        /// Which body, from 0.
        index: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// Beyond a refusal: the replica must be opened again.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
}

/// What became of an entry that was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is applied.
    Applied,
    /// It is held, passed on, and shows nowhere: it says what cannot be applied here. The rest
    /// goes on.
    Quarantined(String),
}

/// What makes an entry one that cannot be applied, whoever brings it.
enum Fault {
    /// It is put into quarantine.
    Content(Option<ConversationId>, String),
    /// It is refused, or worse.
    Refusal(Refusal),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<ReplicaError> for Fault {
    fn from(error: ReplicaError) -> Self {
        Self::Refusal(Refusal::Replica(error))
    }
}

/// An entry's document with what is stored of its change, and what followers see.
type Outcome = (Option<(SegmentId, ChangeFact)>, Applied);

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

    /// Takes in `entry`, read from the bytes of `parcel`, of another origin. `allowed` says whether
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
    ) -> Result<Taken, Refusal> {
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
        if let EntryKind::Origin { node, region, .. } = &entry.kind
            && !allowed(node, region)
        {
            return Err(Refusal::Misplaced("its node or region is not in the space"));
        }
        let dishonest = |carried: &Carried| match carried {
            Carried::Erased(row) => !self.is_honest(row),
            Carried::Body(_) => false,
        };
        if let Some(index) = parcel.bodies.iter().position(dishonest) {
            let why = "it came with the erasure of a conversation under the name of another";
            return Err(Refusal::Body { index, why });
        }
        let place = (origin, seq, entry.depth);
        let outcome = self.apply_kind(now, place, entry.kind, parcel);
        let (document, applied, taken) = match outcome {
            Ok((document, applied)) => (document, applied, Taken::Applied),
            Err(Fault::Refusal(refusal)) => return Err(refusal),
            Err(Fault::Content(conversation, why)) => {
                self.quarantine((origin, seq), conversation, &why, &parcel.bodies)?;
                (None, Applied::nothing(origin, seq), Taken::Quarantined(why))
            }
        };
        self.record_entry((origin, seq), entry.depth, &parcel.entry, document);
        if seq == 1 {
            self.note_successor(origin, &entry.saw);
        }
        self.building.applied.push(applied);
        Ok(taken)
    }

    fn apply_kind(
        &mut self,
        now: Millis,
        place: (OriginId, u64, u64),
        kind: EntryKind,
        parcel: &Parcel,
    ) -> Result<Outcome, Fault> {
        let (origin, seq, _) = place;
        let carries = matches!(kind, EntryKind::Segment { .. } | EntryKind::Conversation { .. });
        if !carries && !parcel.bodies.is_empty() {
            let refusal = Refusal::Misplaced("an entry without records came with bodies");
            return Err(refusal.into());
        }
        let mut applied = Applied::nothing(origin, seq);
        match kind {
            EntryKind::Origin { node, region, started } => {
                let start = self.chain(origin);
                let row = OriginRow {
                    node,
                    region,
                    started,
                    seq: 0,
                    depth: 0,
                    digest: start,
                    trimmed: 0,
                    base: start,
                };
                self.origins.insert(origin, row);
                Ok((None, applied))
            }
            EntryKind::Conversation { name, incarnation, change } => {
                self.apply_conversation(now, place, (&name, incarnation), &change, &parcel.bodies)
            }
            EntryKind::Segment { conversation, ordinal, change } => {
                let segment = SegmentId { conversation, ordinal };
                self.apply_segment(now, place, segment, &change, &parcel.bodies)
            }
            EntryKind::Markers(markers) => {
                markers.iter().try_for_each(|marker| self.take_marker(marker))?;
                Ok((None, applied))
            }
            EntryKind::Erasures { rows, .. } => {
                if !rows.iter().all(|row| self.is_honest(row)) {
                    let why = "it erases a conversation under the name of another";
                    return Err(Fault::Content(None, why.to_owned()));
                }
                for row in rows {
                    self.take_erasure(now, &row)?;
                    applied.erased.push(row);
                }
                Ok((None, applied))
            }
            EntryKind::Unknown { kind, .. } => {
                Err(Fault::Content(None, format!("entries of kind {kind} are not known here")))
            }
        }
    }

    /// A conversation's id follows from its name: a row that says otherwise would retire another.
    fn is_honest(&self, row: &Erasure) -> bool {
        match row {
            Erasure::Conversation { name, incarnation, conversation } => {
                ConversationId::of(self.space, name, *incarnation) == *conversation
            }
            Erasure::Message { .. } | Erasure::Author { .. } | Erasure::Cut { .. } => true,
        }
    }

    /// Holds an entry that cannot be applied, and says so where readers meet it.
    fn quarantine(
        &mut self,
        (origin, seq): (OriginId, u64),
        conversation: Option<ConversationId>,
        why: &str,
        carried: &[Carried],
    ) -> Result<(), ReplicaError> {
        for (index, carried) in carried.iter().enumerate() {
            if let Carried::Body(body) = carried {
                self.put(&BodyKey::quarantined(conversation, (origin, seq), index), body);
            }
        }
        let key = (self.space, origin, seq);
        let sum = self.hasher.row(crate::engine::Table::Meta, &origin.0, &seq.to_be_bytes());
        self.state.quarantine.add(&sum);
        self.put(&key, &QuarantineRow::new(conversation, why));
        if let Some(id) = conversation
            && let Some(mut row) = self.conversation(id)?
        {
            row.quarantined += 1;
            self.building.conversations.insert(id, row);
        }
        Ok(())
    }

    fn apply_conversation(
        &mut self,
        now: Millis,
        (origin, seq, depth): (OriginId, u64, u64),
        (name, incarnation): (&Name, u32),
        change: &[u8],
        carried: &[Carried],
    ) -> Result<Outcome, Fault> {
        let id = ConversationId::of(self.space, name, incarnation);
        let mut applied = Applied::nothing(origin, seq);
        if self.retired.contains(&id) {
            return Ok((None, applied));
        }
        let fault = |why: String| Fault::Content(Some(id), why);
        let (change, hash) = decode_change(change, origin).map_err(|e| fault(e.to_string()))?;
        let (creates, settings) = settings_of(&change, id, (origin, depth)).map_err(fault)?;
        let references: Vec<_> = settings
            .iter()
            .filter_map(|record| {
                let reference = record.setting.body()?;
                Some((
                    reference,
                    Words { conversation: id, message: None, author: &record.by, front: None },
                ))
            })
            .collect();
        let bodies = pair_bodies(&references, carried)?;
        let known = self.conversation(id)?.is_some();
        if !creates && !known {
            return Err(fault("it sets something of an unknown conversation".to_owned()));
        }
        let document = SegmentId { conversation: id, ordinal: CONVERSATION_DOCUMENT };
        let which = Which::Conversation(document, name);
        let accepted = self.documents.accept(&self.overlay, which, &change, hash)?;
        let fact = accepted.map_err(|error| fault(error.to_string()))?;
        if !known {
            self.add_conversation(id, name, incarnation)?;
        }
        // Created here too, but not written yet: this entry's change will do for both.
        self.building.created.retain(|(created, ..)| *created != id);
        self.take_covers(now, carried)?;
        let Some(mut row) = self.conversation(id)? else { return Ok((None, applied)) };
        let mut bodies = bodies.into_iter();
        for record in settings {
            let body = record.setting.body().and_then(|_| bodies.next().flatten());
            let rank = Rank { depth, origin, front: Front::default() };
            self.take_setting((id, &mut row), rank, record, body)?;
        }
        self.building.conversations.insert(id, row);
        applied.settings.push(id);
        Ok((Some((document, fact)), applied))
    }

    fn apply_segment(
        &mut self,
        now: Millis,
        (origin, seq, depth): (OriginId, u64, u64),
        segment: SegmentId,
        change: &[u8],
        carried: &[Carried],
    ) -> Result<Outcome, Fault> {
        let id = segment.conversation;
        let mut applied = Applied::nothing(origin, seq);
        if self.retired.contains(&id) {
            return Ok((None, applied));
        }
        let fault = |why: String| Fault::Content(Some(id), why);
        let row = self.conversation(id)?;
        let row = row.ok_or_else(|| fault("it writes in an unknown conversation".to_owned()))?;
        if segment.ordinal > row.ordinal.saturating_add(1) {
            return Err(fault("it skips a segment".to_owned()));
        }
        let (change, hash) = decode_change(change, origin).map_err(|e| fault(e.to_string()))?;
        let records = records_of(&change, (origin, depth)).map_err(fault)?;
        self.check_targets(id, &records)?;
        let references: Vec<_> = records
            .iter()
            .filter_map(|(identity, statement)| {
                Some((statement.body()?, words_of(id, *identity, statement)?))
            })
            .collect();
        let bodies = pair_bodies(&references, carried)?;
        let which = Which::Segment(segment);
        let accepted = self.documents.accept(&self.overlay, which, &change, hash)?;
        let fact = accepted.map_err(|error| fault(error.to_string()))?;
        self.take_covers(now, carried)?;
        // A row that came along may have erased the conversation.
        let Some(mut row) = self.conversation(id)? else { return Ok((None, applied)) };
        let last = row.ordinal;
        count_records(&mut row, segment.ordinal, &records);
        if last != segment.ordinal {
            // One of them takes no more appends here: the last one, or the one of a late entry.
            let ordinal = last.min(segment.ordinal);
            self.full.insert(SegmentId { conversation: id, ordinal });
        }
        let mut bodies = bodies.into_iter();
        for (place, (identity, statement)) in records.into_iter().enumerate() {
            let body = statement.body().and_then(|_| bodies.next().flatten());
            self.building.bytes += body.map_or(0, |body| body.bytes.len());
            match statement {
                Statement::Post(header) => {
                    let record = Record { identity, header };
                    self.apply_post(now, (id, &mut row), (place, record), body, &mut applied)?;
                }
                deed @ (Statement::Edit(_) | Statement::Reaction(_) | Statement::Redaction(_)) => {
                    let rank = Rank { depth, origin, front: front_of(&deed) };
                    let changed = self.take_deed((id, &mut row), rank, &deed, body)?;
                    applied.changed.extend(changed.map(|message| (id, message)));
                }
            }
        }
        self.building.conversations.insert(id, row);
        Ok((Some((segment, fact)), applied))
    }

    fn apply_post(
        &mut self,
        now: Millis,
        (id, row): (ConversationId, &mut ConversationRow),
        (place, record): (usize, Record),
        body: Option<&Body>,
        applied: &mut Applied,
    ) -> Result<(), ReplicaError> {
        // Followers must not see what is to be forgotten, though the peer did not know of it.
        let body = body.filter(|_| !self.covers_post(id, row, &record));
        let identities = self.identities(id, record.identity)?;
        let placement = self.place(now, (id, row), &record, body, identities)?;
        if placement != Placement::New
            && let Some(message) = self.announce(id, row, record.identity)?
        {
            applied.bring(place, message);
        }
        match placement {
            Placement::New => {
                if let Some(body) = body {
                    applied.bring(place, Message::new(id, record, body));
                }
            }
            Placement::Alias(canonical) => applied.aliases.push((id, record.id(), canonical)),
            Placement::Canonical(before) => applied.aliases.push((id, before, record.id())),
            Placement::Same | Placement::Expired => {}
        }
        Ok(())
    }

    /// What is done to messages must be done to messages that are here, since its writer had seen
    /// them, or that stand before it in the entry; and an edit is younger than its message, or an
    /// erasure by time could cover the words that show of a message which it does not cover.
    fn check_targets(
        &self,
        id: ConversationId,
        records: &[(Identity, Statement)],
    ) -> Result<(), Fault> {
        let fault = |why: String| Err(Fault::Content(Some(id), why));
        for (index, (_, statement)) in records.iter().enumerate() {
            let Some(target) = statement.target() else { continue };
            let fronts = records[..index].iter().filter_map(|(identity, other)| match other {
                Statement::Post(header) => Some(header.front).filter(|_| *identity == target),
                Statement::Edit(_) | Statement::Reaction(_) | Statement::Redaction(_) => None,
            });
            let held = self.canonical(id, target)?.map(|place| place.front);
            let Some(front) = fronts.chain(held).min() else {
                return fault(format!("it is about message {target}, which is not here"));
            };
            if let Statement::Edit(edit) = statement
                && edit.front <= front
            {
                return fault(format!("it edits message {target} before it was posted"));
            }
        }
        Ok(())
    }

    /// Applies the rows that came in the place of bodies.
    fn take_covers(&mut self, now: Millis, carried: &[Carried]) -> Result<(), ReplicaError> {
        for carried in carried {
            if let Carried::Erased(row) = carried {
                self.take_erasure(now, row)?;
            }
        }
        Ok(())
    }

    /// The message under `identity`, if it was posted here in this very batch and followers have
    /// not heard of it: they must, before an entry that has seen the copy which came just now.
    fn announce(
        &mut self,
        conversation: ConversationId,
        row: &ConversationRow,
        identity: Identity,
    ) -> Result<Option<Message>, ReplicaError> {
        if !self.building.unannounced.remove(&(conversation, identity)) {
            return Ok(None);
        }
        let Some(canonical) = self.canonical(conversation, identity)? else { return Ok(None) };
        if row.has_expired(canonical.front) {
            return Ok(None);
        }
        let header = timeline_row(&self.overlay, canonical)?.header;
        let place = (identity, canonical.front);
        let body = read_body(&self.overlay, conversation, place, header.body)?;
        let record = Record { identity, header };
        Ok(body.map(|body| Message::new(conversation, record, &body)))
    }
}

fn decode_change(
    bytes: &[u8],
    origin: OriginId,
) -> Result<(Change, crate::document::ChangeHash), ChangeError> {
    let (change, hash) = Change::decode(bytes)?;
    if change.actor != origin {
        return Err(ChangeError::Actor { actor: change.actor, origin });
    }
    Ok((change, hash))
}

/// Counts a remote entry's records against the conversation's current segment.
fn count_records(row: &mut ConversationRow, ordinal: u32, records: &[(Identity, Statement)]) {
    if ordinal < row.ordinal {
        return;
    }
    if ordinal > row.ordinal {
        row.ordinal = ordinal;
        row.records = 0;
        row.record_bytes = 0;
    }
    row.records += records.len() as u32;
    row.record_bytes += records.iter().map(|(_, statement)| record_bytes(statement)).sum::<u32>();
}

/// The words that a record of a segment refers to, as erasures see them.
pub(crate) fn words_of(
    conversation: ConversationId,
    identity: Identity,
    statement: &Statement,
) -> Option<Words<'_>> {
    match statement {
        Statement::Post(header) => Some(Words {
            conversation,
            message: Some(identity),
            author: &header.author,
            front: Some(header.front),
        }),
        Statement::Edit(edit) => Some(Words {
            conversation,
            message: Some(edit.target),
            author: &edit.editor,
            front: Some(edit.front),
        }),
        Statement::Reaction(_) | Statement::Redaction(_) => None,
    }
}

/// Reads the records that a change writes in a segment, and checks each against its entry.
pub(crate) fn records_of(
    change: &Change,
    place: (OriginId, u64),
) -> Result<Vec<(Identity, Statement)>, String> {
    let read = |(index, (key, scalar)): (usize, &(String, Scalar))| {
        let refuse = |why: String| format!("record {index}: {why}");
        let (identity, bytes) = record_at(key, scalar, place).map_err(refuse)?;
        let statement = Statement::decode(bytes).map_err(|error| refuse(error.to_string()))?;
        if statement.identity().is_some_and(|own| own != identity) {
            return Err(refuse("its key is not that of what it says".to_owned()));
        }
        if statement.body().is_some_and(|body| body.length == 0) {
            return Err(refuse("it refers to an empty body".to_owned()));
        }
        Ok((identity, statement))
    };
    change.writes.iter().enumerate().map(read).collect()
}

/// Reads what a change writes in a conversation's document: whether it begins it, and settings.
pub(crate) fn settings_of(
    change: &Change,
    conversation: ConversationId,
    place: (OriginId, u64),
) -> Result<(bool, Vec<SettingRecord>), String> {
    let access = ("access".to_owned(), Scalar::Text("open".to_owned()));
    let creates = change.writes.first() == Some(&access);
    let records = change.writes.iter().enumerate().skip(usize::from(creates));
    let read = |(index, (key, scalar)): (usize, &(String, Scalar))| {
        let refuse = |why: String| format!("setting {index}: {why}");
        let (identity, bytes) = record_at(key, scalar, place).map_err(refuse)?;
        let record = SettingRecord::decode(bytes).map_err(|error| refuse(error.to_string()))?;
        if record.setting.key(conversation).identity != identity {
            return Err(refuse("its key is not that of what it says".to_owned()));
        }
        if record.setting.body().is_some_and(|body| body.length == 0) {
            return Err(refuse("it refers to an empty body".to_owned()));
        }
        Ok(record)
    };
    Ok((creates, records.map(read).collect::<Result<_, String>>()?))
}

/// The identity in a record's key, and the record's bytes.
fn record_at<'a>(
    key: &str,
    scalar: &'a Scalar,
    (origin, depth): (OriginId, u64),
) -> Result<(Identity, &'a [u8]), String> {
    let key = RecordKey::from_text(key).map_err(|error| error.to_string())?;
    if key.origin != origin || key.depth != depth {
        return Err("its key names another origin or depth".to_owned());
    }
    match scalar {
        Scalar::Bytes(bytes) if bytes.len() <= MAX_RECORD_BYTES => Ok((key.identity, bytes)),
        Scalar::Bytes(bytes) => Err(format!("a record of {} bytes", bytes.len())),
        Scalar::Text(_) => Err("it is no record".to_owned()),
    }
}

/// Pairs what records refer to with what came: a body that fits, or a row that covers it. This
/// is the peer's to get right, not the origin's: bodies stand outside the chain.
fn pair_bodies<'a>(
    references: &[(crate::record::BodyReference, Words<'_>)],
    carried: &'a [Carried],
) -> Result<Vec<Option<&'a Body>>, Refusal> {
    if references.len() != carried.len() {
        return Err(Refusal::Misplaced("it has not as many bodies as its records refer to"));
    }
    let pair = |(index, ((reference, words), carried)): (usize, (&(_, Words<'_>), &'a Carried))| {
        match carried {
            Carried::Body(body) if body.reference() == *reference => Ok(Some(body)),
            Carried::Body(_) => {
                Err(Refusal::Body { index, why: "it is not the one that is referred to" })
            }
            Carried::Erased(row) if row.covers(words) => Ok(None),
            Carried::Erased(_) => {
                Err(Refusal::Body { index, why: "the erasure in its place does not cover it" })
            }
        }
    };
    references.iter().zip(carried).enumerate().map(pair).collect()
}
