//! What was ever written: each entry, read once when its origin hands it to the disk.
//!
//! Knows what entries say, not who holds them, nor what becomes of it. Invariant: an entry is
//! here before any node can hold it durably.

use std::collections::BTreeMap;

use warbler_store::document::{Change, Scalar};
use warbler_store::entry::{Carried, Entry, EntryKind, Marker, Parcel};
use warbler_store::erasure::{Erasure, Words};
use warbler_store::id::{ConversationId, Front, Identity, OriginId, SpaceId};
use warbler_store::name::Name;
use warbler_store::record::{Rank, RecordKey, SettingRecord, Statement};

/// A record of a segment, with its words as their author meant them.
#[derive(Debug, Clone)]
pub(crate) struct Saying {
    pub(crate) conversation: ConversationId,
    pub(crate) rank: Rank,
    pub(crate) identity: Identity,
    pub(crate) statement: Statement,
    pub(crate) words: Option<Vec<u8>>,
}

impl Saying {
    /// The message it is or is about.
    pub(crate) fn message(&self) -> Identity {
        self.statement.target().unwrap_or(self.identity)
    }

    /// What erasures see of its words, if it has any.
    pub(crate) fn as_words(&self) -> Option<Words<'_>> {
        let (author, front) = match &self.statement {
            Statement::Post(header) => (&header.author, header.front),
            Statement::Edit(edit) => (&edit.editor, edit.front),
            Statement::Reaction(_) | Statement::Redaction(_) => return None,
        };
        let (conversation, message) = (self.conversation, Some(self.message()));
        Some(Words { conversation, message, author, front: Some(front) })
    }
}

/// A setting of a conversation, with its words.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    pub(crate) conversation: ConversationId,
    pub(crate) rank: Rank,
    pub(crate) record: SettingRecord,
    pub(crate) words: Option<Vec<u8>>,
}

/// What an entry says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    /// The conversation whose document it changes: its id, name and incarnation.
    pub(crate) conversation: Option<(ConversationId, Name, u32)>,
    pub(crate) sayings: Vec<Saying>,
    pub(crate) settings: Vec<Set>,
    pub(crate) markers: Vec<Marker>,
    pub(crate) erasures: Vec<Erasure>,
    /// Whether it is one that nobody can apply: made so on purpose.
    pub(crate) is_poisoned: bool,
    /// The conversation that reads as damaged for it.
    pub(crate) damages: Option<ConversationId>,
}

/// See the module's comment.
pub(crate) struct Archive {
    space: SpaceId,
    written: BTreeMap<(OriginId, u64), Written>,
    /// The least front of all copies of a message.
    fronts: BTreeMap<(ConversationId, Identity), Front>,
    /// The bodies of entries as they were written, for the mutant that puts them back.
    bodies: BTreeMap<(OriginId, u64), Vec<Carried>>,
}

impl Archive {
    pub(crate) fn new(space: SpaceId) -> Self {
        Self { space, written: BTreeMap::new(), fronts: BTreeMap::new(), bodies: BTreeMap::new() }
    }

    /// The least front of all copies of a message, whoever holds them.
    pub(crate) fn front(&self, conversation: ConversationId, identity: Identity) -> Option<Front> {
        self.fronts.get(&(conversation, identity)).copied()
    }

    /// Enters what an origin has written.
    pub(crate) fn enter(&mut self, parcel: &Parcel) -> Result<&Written, String> {
        let written = self.read(parcel)?;
        let place = (parcel.origin, parcel.seq);
        for saying in &written.sayings {
            if let Statement::Post(header) = &saying.statement {
                let key = (saying.conversation, saying.identity);
                let least = self.fronts.entry(key).or_insert(header.front);
                *least = (*least).min(header.front);
            }
        }
        if !parcel.bodies.is_empty() {
            self.bodies.insert(place, parcel.bodies.clone());
        }
        self.written.insert(place, written);
        Ok(&self.written[&place])
    }

    /// Enters an entry that nobody can apply, about a conversation perhaps.
    pub(crate) fn enter_poisoned(&mut self, parcel: &Parcel, damages: Option<ConversationId>) {
        let place = (parcel.origin, parcel.seq);
        let poisoned = Written { is_poisoned: true, damages, ..Written::default() };
        self.written.insert(place, poisoned);
        self.bodies.insert(place, parcel.bodies.clone());
    }

    /// The bodies of an entry as they were written.
    pub(crate) fn bodies(&self, origin: OriginId, seq: u64) -> &[Carried] {
        self.bodies.get(&(origin, seq)).map_or(&[], Vec::as_slice)
    }

    /// Puts the bodies of an entry back where rows stand in their place.
    pub(crate) fn restore(&self, parcel: &mut Parcel) {
        if let Some(bodies) = self.bodies.get(&(parcel.origin, parcel.seq)) {
            parcel.bodies.clone_from(bodies);
        }
    }

    pub(crate) fn get(&self, origin: OriginId, seq: u64) -> Option<&Written> {
        self.written.get(&(origin, seq))
    }

    /// All entries, by origin and seq.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&(OriginId, u64), &Written)> {
        self.written.iter()
    }

    fn read(&self, parcel: &Parcel) -> Result<Written, String> {
        let entry = Entry::decode(&parcel.entry).map_err(|error| error.to_string())?;
        let mut bodies = parcel.bodies.iter().map(|carried| match carried {
            Carried::Body(body) => Some(body.bytes.clone()),
            Carried::Erased(_) => None,
        });
        let place = (parcel.origin, entry.depth);
        let mut written = Written::default();
        match entry.kind {
            EntryKind::Origin { .. } => {}
            EntryKind::Unknown { .. } => written.is_poisoned = true,
            EntryKind::Markers(markers) => written.markers = markers,
            EntryKind::Erasures { rows, .. } => written.erasures = rows,
            EntryKind::Segment { conversation, change, .. } => {
                for (identity, bytes) in records(&change, place)? {
                    let statement = Statement::decode(&bytes).map_err(|error| error.to_string())?;
                    let front = match &statement {
                        Statement::Post(header) => header.front,
                        Statement::Edit(edit) => edit.front,
                        Statement::Redaction(redaction) => redaction.front,
                        Statement::Reaction(_) => Front::default(),
                    };
                    let rank = Rank { depth: place.1, origin: place.0, front };
                    let words = statement.body().and_then(|_| bodies.next().flatten());
                    let saying = Saying { conversation, rank, identity, statement, words };
                    written.sayings.push(saying);
                }
            }
            EntryKind::Conversation { name, incarnation, change } => {
                let conversation = ConversationId::of(self.space, &name, incarnation);
                written.conversation = Some((conversation, name, incarnation));
                for (_, bytes) in records(&change, place)? {
                    let record =
                        SettingRecord::decode(&bytes).map_err(|error| error.to_string())?;
                    let front = Front::default();
                    let rank = Rank { depth: place.1, origin: place.0, front };
                    let words = record.setting.body().and_then(|_| bodies.next().flatten());
                    written.settings.push(Set { conversation, rank, record, words });
                }
            }
        }
        Ok(written)
    }
}

/// The records that a change writes; what begins a document is none.
fn records(change: &[u8], place: (OriginId, u64)) -> Result<Vec<(Identity, Vec<u8>)>, String> {
    let (change, _) = Change::decode(change).map_err(|error| error.to_string())?;
    let mut records = Vec::new();
    for (key, scalar) in change.writes {
        let Scalar::Bytes(bytes) = scalar else { continue };
        let key = RecordKey::from_text(&key).map_err(|error| error.to_string())?;
        if (key.origin, key.depth) != place {
            return Err("a record's key names another origin or depth".to_owned());
        }
        records.push((key.identity, bytes));
    }
    Ok(records)
}
