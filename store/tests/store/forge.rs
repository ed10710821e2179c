//! What a lying peer may send: entries with a proper chain that say what no honest node says.

use std::collections::BTreeMap;

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId, Automerge, Change, ExpandedChange, ROOT, ScalarValue};
use warbler_store::entry::{
    Entry, EntryKind, Parcel, chain_digest, chain_link, chain_mark, chain_start,
};
use warbler_store::id::{ConversationId, Digest, Front, Identity, NodeId, OriginId};
use warbler_store::record::{Body, ContentType, Header, RecordKey};
use warbler_store::vector::VersionVector;

use crate::node::{name, space};

/// An origin that writes what it likes.
pub(crate) struct Liar {
    origin: OriginId,
    seq: u64,
    digest: Digest,
    documents: BTreeMap<u32, Automerge>,
}

impl Liar {
    /// The liar `number`, with its origin record.
    pub(crate) fn new(number: u8) -> (Self, Parcel) {
        let origin = OriginId([number; 16]);
        let digest = chain_start(space(), origin);
        let mut liar = Self { origin, seq: 0, digest, documents: BTreeMap::new() };
        let node = NodeId([number; 32]);
        let record = EntryKind::Origin { node, region: name("oslo"), started: 0 };
        let parcel = liar.entry(record, Vec::new());
        (liar, parcel)
    }

    fn entry(&mut self, kind: EntryKind, bodies: Vec<Body>) -> Parcel {
        self.seq += 1;
        let previous = chain_link(self.digest);
        let saw = VersionVector::default();
        let entry = Entry { depth: self.seq, saw, previous, kind }.encode();
        self.digest = chain_digest(self.digest, &entry);
        let chain = chain_mark(self.digest);
        Parcel { origin: self.origin, seq: self.seq, entry, chain, bodies }
    }

    /// An entry with one record: `body` at `front` under `identity`.
    pub(crate) fn says(
        &mut self,
        conversation: ConversationId,
        (front, identity): (Front, Identity),
        body: Body,
    ) -> Parcel {
        let header = Header {
            front,
            author: name("mallory"),
            content_type: ContentType::default(),
            reply_to: None,
            thread: None,
            body: body.reference(),
        };
        let key = RecordKey { depth: self.seq + 1, origin: self.origin, identity };
        let new = || Automerge::new().with_actor(ActorId::from(&self.origin.0[..]));
        let document = self.documents.entry(0).or_insert_with(new);
        let mut transaction = document.transaction();
        let scalar = ScalarValue::Bytes(header.encode());
        transaction.put(ROOT, key.to_text(), scalar).expect("writes");
        transaction.commit_with(CommitOptions::default().with_time(0));
        let change = document.get_last_local_change().expect("was written");
        let change = change.raw_bytes().to_vec();
        self.entry(EntryKind::Segment { conversation, ordinal: 0, change }, vec![body])
    }
}

/// `parcel` as its origin would have written it with another entry; `previous` is the chain
/// digest before it.
pub(crate) fn retold(
    parcel: &Parcel,
    previous: Digest,
    tell: impl FnOnce(&mut Entry, &mut Vec<Body>),
) -> Parcel {
    let mut entry = Entry::decode(&parcel.entry).expect("an honest entry");
    let mut bodies = parcel.bodies.clone();
    tell(&mut entry, &mut bodies);
    let bytes = entry.encode();
    let chain = chain_mark(chain_digest(previous, &bytes));
    Parcel { entry: bytes, chain, bodies, ..parcel.clone() }
}

/// The bytes of a change after it was rewritten, with a checksum that fits.
pub(crate) fn rewritten(bytes: &[u8], rewrite: impl FnOnce(&mut ExpandedChange)) -> Vec<u8> {
    let change = Change::from_bytes(bytes.to_vec()).expect("an honest change");
    let mut expanded = change.decode();
    expanded.hash = None;
    rewrite(&mut expanded);
    Change::from(expanded).raw_bytes().to_vec()
}

/// A change that was compressed, as Automerge's own storage does it.
pub(crate) fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut change = Change::from_bytes(bytes.to_vec()).expect("an honest change");
    let compressed = change.bytes().into_owned();
    assert_ne!(compressed, bytes, "large enough to be compressed");
    compressed
}
