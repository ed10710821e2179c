//! What a lying peer may send: entries with a proper chain that say what no honest node says.

use std::collections::BTreeMap;

use automerge::ExpandedChange;
use warbler_store::document::{Change, Scalar, Tips};
use warbler_store::entry::{
    Carried, Entry, EntryKind, Parcel, chain_digest, chain_link, chain_mark, chain_start,
};
use warbler_store::id::{ConversationId, Digest, Front, Identity, NodeId, OriginId, SegmentId};
use warbler_store::record::{Body, ContentType, Header, RecordKey};
use warbler_store::vector::VersionVector;

use crate::node::{Node, name, space};

/// An origin that writes what it likes.
pub(crate) struct Liar {
    origin: OriginId,
    seq: u64,
    depth: u64,
    /// What its next entry says that it has seen since the last.
    saw: VersionVector,
    digest: Digest,
    documents: BTreeMap<SegmentId, Tips>,
}

impl Liar {
    /// The liar `number`, with its origin record.
    pub(crate) fn new(number: u8) -> (Self, Parcel) {
        let origin = OriginId([number; 16]);
        let digest = chain_start(space(), origin);
        let mut liar = Self {
            origin,
            seq: 0,
            depth: 0,
            saw: VersionVector::default(),
            digest,
            documents: BTreeMap::new(),
        };
        let node = NodeId([number; 32]);
        let record = EntryKind::Origin { node, region: name("oslo"), started: 0 };
        let parcel = liar.entry(record, Vec::new());
        (liar, parcel)
    }

    /// Its next entry stands on all that `node` has applied.
    pub(crate) fn sees(&mut self, node: &Node) {
        let own = self.origin;
        let applied = node.replica.applied().iter();
        self.saw = applied.filter(|(origin, _)| *origin != own).collect();
        self.depth = node.replica.counts().depth;
    }

    /// Its next entry.
    pub(crate) fn entry(&mut self, kind: EntryKind, bodies: Vec<Carried>) -> Parcel {
        self.seq += 1;
        let previous = chain_link(self.digest);
        self.depth += 1;
        let saw = std::mem::take(&mut self.saw);
        let entry = Entry { depth: self.depth, saw, previous, kind }.encode();
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
        let bytes = header.encode();
        self.writes((conversation, 0), vec![(identity, bytes)], vec![Carried::Body(body)])
    }

    /// An entry with these records in a segment.
    pub(crate) fn writes(
        &mut self,
        (conversation, ordinal): (ConversationId, u32),
        records: Vec<(Identity, Vec<u8>)>,
        bodies: Vec<Carried>,
    ) -> Parcel {
        let (depth, origin) = (self.depth + 1, self.origin);
        let document = self.documents.entry(SegmentId { conversation, ordinal }).or_default();
        let key = |identity| RecordKey { depth, origin, identity }.to_text();
        let writes = records.into_iter().map(|(of, bytes)| (key(of), Scalar::Bytes(bytes)));
        let (change, _) = document.append(origin, writes.collect());
        self.entry(EntryKind::Segment { conversation, ordinal, change }, bodies)
    }
}

/// `parcel` as its origin would have written it with another entry; `previous` is the chain
/// digest before it.
pub(crate) fn retold(
    parcel: &Parcel,
    previous: Digest,
    tell: impl FnOnce(&mut Entry, &mut Vec<Carried>),
) -> Parcel {
    let mut entry = Entry::decode(&parcel.entry).expect("an honest entry");
    let mut bodies = parcel.bodies.clone();
    tell(&mut entry, &mut bodies);
    let bytes = entry.encode();
    let chain = chain_mark(chain_digest(previous, &bytes));
    Parcel { entry: bytes, chain, bodies, ..parcel.clone() }
}

/// The bytes of an honest change after it was rewritten, in the form that Automerge writes: also
/// what our own form cannot say, with a checksum that fits.
pub(crate) fn rewritten(bytes: &[u8], rewrite: impl FnOnce(&mut ExpandedChange)) -> Vec<u8> {
    let change = automerge::Change::from_bytes(bytes.to_vec()).expect("an honest change");
    let mut expanded = change.decode();
    expanded.hash = None;
    rewrite(&mut expanded);
    automerge::Change::from(expanded).raw_bytes().to_vec()
}

/// The bytes of an honest change after it was rewritten, in our own form.
pub(crate) fn reworded(bytes: &[u8], reword: impl FnOnce(&mut Change)) -> Vec<u8> {
    let (mut change, _) = Change::decode(bytes).expect("an honest change");
    reword(&mut change);
    change.encode().0
}

/// A change that was compressed, as Automerge's own storage does it.
pub(crate) fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut change = automerge::Change::from_bytes(bytes.to_vec()).expect("an honest change");
    let compressed = change.bytes().into_owned();
    assert_ne!(compressed, bytes, "large enough to be compressed");
    compressed
}
