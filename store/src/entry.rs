//! Entries: the items of an origin's log, their bytes and their hash chain.
//!
//! The bytes an origin wrote are the entry: they are stored, sent and hashed as they are, and
//! nobody encodes them again. Space, origin and seq stand beside the bytes (in the row's key, in
//! the frame) and are bound to them by the chain, which begins with a digest of space and origin.
//! Invariant: `digest = BLAKE3(previous digest || bytes)`, bodies excluded.

use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::erasure::{Erasure, MAX_ENTRY_ERASURES};
use crate::id::{ConversationId, Digest, MessageId, Millis, NodeId, OriginId, SpaceId};
use crate::name::Name;
use crate::record::{Body, MAX_BODY_BYTES, MAX_DEPTH};
use crate::vector::VersionVector;

/// The greatest size of an entry with its bodies: 1 MiB.
pub const MAX_ENTRY_BYTES: usize = 1 << 20;
/// The most bodies that one entry may carry.
pub const MAX_ENTRY_BODIES: usize = 4096;
/// The most read markers that one entry may move.
pub const MAX_ENTRY_MARKERS: usize = 4096;
/// The version of the entry format.
const ENTRY_VERSION: u8 = 1;
const KIND_ORIGIN: u8 = 1;
const KIND_CONVERSATION: u8 = 2;
const KIND_SEGMENT: u8 = 3;
const KIND_MARKERS: u8 = 4;
const KIND_ERASURES: u8 = 5;

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// Who the origin is. Always seq 1, and only there.
    Origin {
        /// The node whose run it is.
        node: NodeId,
        /// The node's region.
        region: Name,
        /// When the run started, by the node's clock.
        started: Millis,
    },
    /// A change of a conversation document. Carries the conversation's name, from which every
    /// region makes the same first change.
    Conversation {
        /// The conversation's name.
        name: Name,
        /// Which conversation of that name, from 0.
        incarnation: u32,
        /// An Automerge change, uncompressed.
        change: Vec<u8>,
    },
    /// A kind of a later version: held and passed on as it is, and not understood.
    Unknown {
        /// Its number.
        kind: u8,
        /// The bytes behind what all kinds have.
        content: Vec<u8>,
    },
    /// Read markers that moved.
    Markers(Vec<Marker>),
    /// Rows of the erasure table.
    Erasures {
        /// Who asked for it; the node's region, where messages expired.
        by: Name,
        /// The rows.
        rows: Vec<Erasure>,
    },
    /// A change of a segment document.
    Segment {
        /// Whose segment.
        conversation: ConversationId,
        /// Which segment.
        ordinal: u32,
        /// An Automerge change, uncompressed.
        change: Vec<u8>,
    },
}

/// Up to where a user has read a conversation. The greatest counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Marker {
    /// The conversation.
    pub conversation: ConversationId,
    /// Who has read.
    pub user: Name,
    /// The last message read.
    pub message: MessageId,
}

/// One item of an origin's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// 1 + the greatest depth its writer had applied.
    pub depth: u64,
    /// The components of the writer's applied vector that moved since its previous entry.
    pub saw: VersionVector,
    /// The first 16 bytes of the digest of the origin's previous entry.
    pub previous: [u8; 16],
    /// What it says.
    pub kind: EntryKind,
}

impl Entry {
    /// The exact bytes that are stored, sent and hashed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_capacity(320);
        let kind = match &self.kind {
            EntryKind::Origin { .. } => KIND_ORIGIN,
            EntryKind::Conversation { .. } => KIND_CONVERSATION,
            EntryKind::Segment { .. } => KIND_SEGMENT,
            EntryKind::Unknown { kind, .. } => *kind,
            EntryKind::Markers(_) => KIND_MARKERS,
            EntryKind::Erasures { .. } => KIND_ERASURES,
        };
        encoder.u8(ENTRY_VERSION).u8(kind).varint(self.depth);
        self.saw.encode(&mut encoder);
        encoder.raw(&self.previous);
        match &self.kind {
            EntryKind::Origin { node, region, started } => {
                encoder.raw(&node.0).run(region.as_str().as_bytes()).u64(*started);
            }
            EntryKind::Conversation { name, incarnation, change } => {
                encoder.run(name.as_str().as_bytes()).varint(u64::from(*incarnation)).raw(change);
            }
            EntryKind::Segment { conversation, ordinal, change } => {
                encoder.raw(&conversation.0).varint(u64::from(*ordinal)).raw(change);
            }
            EntryKind::Unknown { content, .. } => {
                encoder.raw(content);
            }
            EntryKind::Markers(markers) => {
                encoder.varint(markers.len() as u64);
                for Marker { conversation, user, message } in markers {
                    encoder.raw(&conversation.0).run(user.as_str().as_bytes()).raw(&message.0);
                }
            }
            EntryKind::Erasures { by, rows } => {
                encoder.run(by.as_str().as_bytes()).varint(rows.len() as u64);
                rows.iter().for_each(|row| row.encode(&mut encoder));
            }
        }
        encoder.finish()
    }

    /// Reads what [`Entry::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not an entry of this version within its limits.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(DecodeError::invalid("entry", format!("{} bytes", bytes.len())));
        }
        let mut decoder = Decoder::new(bytes);
        let version = decoder.u8("entry version")?;
        if version != ENTRY_VERSION {
            return Err(DecodeError::invalid("entry version", format!("{version} is unknown")));
        }
        let kind = decoder.u8("entry kind")?;
        let depth = decoder.varint("depth")?;
        if depth == 0 || depth > MAX_DEPTH {
            return Err(DecodeError::invalid("depth", format!("{depth} is out of range")));
        }
        let saw = VersionVector::decode(&mut decoder)?;
        let previous = decoder.array("previous digest")?;
        let kind = decode_kind(kind, decoder)?;
        Ok(Self { depth, saw, previous, kind })
    }
}

fn decode_kind(kind: u8, mut decoder: Decoder<'_>) -> Result<EntryKind, DecodeError> {
    match kind {
        KIND_ORIGIN => {
            let node = NodeId(decoder.array("node")?);
            let region = decoder.name("region")?;
            let started = decoder.u64("start time")?;
            decoder.end("origin record")?;
            Ok(EntryKind::Origin { node, region, started })
        }
        KIND_CONVERSATION => {
            let name = decoder.name("conversation name")?;
            let incarnation = decode_u32(&mut decoder, "incarnation")?;
            Ok(EntryKind::Conversation { name, incarnation, change: decoder.rest().to_vec() })
        }
        KIND_SEGMENT => {
            let conversation = ConversationId(decoder.array("conversation")?);
            let ordinal = decode_u32(&mut decoder, "ordinal")?;
            Ok(EntryKind::Segment { conversation, ordinal, change: decoder.rest().to_vec() })
        }
        KIND_MARKERS => {
            let count = decoder.count("markers", MAX_ENTRY_MARKERS)?;
            let markers = (0..count).map(|_| {
                let conversation = ConversationId(decoder.array("conversation")?);
                let user = decoder.name("user")?;
                let message = MessageId(decoder.array("message")?);
                Ok(Marker { conversation, user, message })
            });
            let markers = markers.collect::<Result<_, DecodeError>>()?;
            decoder.end("markers")?;
            Ok(EntryKind::Markers(markers))
        }
        KIND_ERASURES => {
            let by = decoder.name("who erased")?;
            let count = decoder.count("erasures", MAX_ENTRY_ERASURES)?;
            let rows = (0..count).map(|_| Erasure::decode(&mut decoder));
            let rows = rows.collect::<Result<_, DecodeError>>()?;
            decoder.end("erasures")?;
            Ok(EntryKind::Erasures { by, rows })
        }
        0 => Err(DecodeError::invalid("entry kind", "no entry has kind 0")),
        kind => Ok(EntryKind::Unknown { kind, content: decoder.rest().to_vec() }),
    }
}

fn decode_u32(decoder: &mut Decoder<'_>, what: &'static str) -> Result<u32, DecodeError> {
    decoder.count(what, u32::MAX as usize).map(|number| number as u32)
}

/// The digest before an origin's first entry in a space.
#[must_use]
pub fn chain_start(space: SpaceId, origin: OriginId) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("warbler 2026 log chain");
    hasher.update(&space.0).update(&origin.0);
    Digest(*hasher.finalize().as_bytes())
}

/// The digest of the entry with these bytes, behind `previous`.
#[must_use]
pub fn chain_digest(previous: Digest, bytes: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&previous.0).update(bytes);
    Digest(*hasher.finalize().as_bytes())
}

/// The part of `digest` that the next entry carries.
#[must_use]
pub fn chain_link(digest: Digest) -> [u8; 16] {
    let mut link = [0; 16];
    link.copy_from_slice(&digest.0[..16]);
    link
}

/// The first 8 bytes of a chain digest.
pub type ChainMark = [u8; 8];

/// The mark of `digest`.
#[must_use]
pub fn chain_mark(digest: Digest) -> ChainMark {
    let mut mark = [0; 8];
    mark.copy_from_slice(&digest.0[..8]);
    mark
}

/// What travels in the place of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// The body.
    Body(Body),
    /// The body is gone: a row that covers it. Whoever takes the entry in applies the row.
    Erased(Erasure),
}

impl Carried {
    /// Bytes, about what it takes on the wire.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Body(body) => body.bytes.len() + 10,
            Self::Erased(_) => 40,
        }
    }

    /// Writes the words as a run, then the salt; for a body that is gone an empty run, then the
    /// row that covers it.
    pub fn encode(&self, encoder: &mut Encoder) {
        match self {
            Self::Body(body) => {
                encoder.run(&body.bytes).raw(&body.salt);
            }
            Self::Erased(row) => row.encode(encoder.varint(0)),
        }
    }

    /// Reads what [`Carried::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are cut off, above the limits, or no row.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let bytes = decoder.run("body", MAX_BODY_BYTES)?.to_vec();
        if bytes.is_empty() {
            return Erasure::decode(decoder).map(Self::Erased);
        }
        Ok(Self::Body(Body { salt: decoder.array("body salt")?, bytes }))
    }
}

/// An entry as it travels: where it stands, its exact bytes, and the bodies that its records
/// refer to, in the order of the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// Whose entry.
    pub origin: OriginId,
    /// Its number in the origin's log, from 1.
    pub seq: u64,
    /// The bytes as the origin wrote them.
    pub entry: Vec<u8>,
    /// The part of the chain digest, up to and with this entry, that tells it from all others:
    /// whoever takes the entry in compares it, so a damaged byte is found at once and not by the
    /// next entry's link.
    pub chain: ChainMark,
    /// The bodies, or what covers them.
    pub bodies: Vec<Carried>,
}

impl Parcel {
    /// Bytes of entry and bodies, about what it takes on the wire.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let bodies: usize = self.bodies.iter().map(Carried::bytes).sum();
        self.entry.len() + bodies + 16
    }

    /// Writes the entry, its mark and the bodies; origin and seq stand in the frame.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.run(&self.entry).raw(&self.chain).varint(self.bodies.len() as u64);
        self.bodies.iter().for_each(|body| body.encode(encoder));
    }

    /// Reads what [`Parcel::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are cut off or above the limits.
    pub fn decode(
        decoder: &mut Decoder<'_>,
        origin: OriginId,
        seq: u64,
    ) -> Result<Self, DecodeError> {
        let entry = decoder.run("entry", MAX_ENTRY_BYTES)?.to_vec();
        let chain = decoder.array("chain mark")?;
        let count = decoder.count("bodies", MAX_ENTRY_BODIES)?;
        let bodies = (0..count).map(|_| Carried::decode(decoder)).collect::<Result<_, _>>()?;
        Ok(Self { origin, seq, entry, chain, bodies })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> Entry {
        Entry {
            depth: 300,
            saw: [(OriginId([2; 16]), 5)].into_iter().collect(),
            previous: [9; 16],
            kind: EntryKind::Segment {
                conversation: ConversationId([3; 16]),
                ordinal: 1,
                change: vec![0xaa, 0xbb],
            },
        }
    }

    #[test]
    fn an_entry_has_the_bytes_that_the_format_says() {
        let hex: String = entry().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = [
            "0103ac02",
            "01",
            &"02".repeat(16),
            "05",
            &"09".repeat(16),
            &"03".repeat(16),
            "01aabb",
        ];
        assert_eq!(hex, expected.concat());
    }

    #[test]
    fn the_chain_depends_on_space_origin_and_every_byte_before() {
        let start = chain_start(SpaceId([1; 16]), OriginId([2; 16]));
        assert_ne!(start, chain_start(SpaceId([1; 16]), OriginId([3; 16])));
        assert_ne!(start, chain_start(SpaceId([2; 16]), OriginId([2; 16])));
        let first = chain_digest(start, b"first");
        assert_ne!(chain_digest(first, b"second"), chain_digest(start, b"second"));
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(bytes: Vec<u8>) {
            if let Ok(entry) = Entry::decode(&bytes) {
                prop_assert_eq!(entry.encode(), bytes);
            }
        }

        #[test]
        fn an_entry_with_a_flipped_bit_never_reads_as_the_same_entry(place: usize, bit in 0..8_u8) {
            let mut bytes = entry().encode();
            let place = place % bytes.len();
            bytes[place] ^= 1 << bit;
            prop_assert_ne!(Entry::decode(&bytes).ok(), Some(entry()));
        }

        #[test]
        fn a_parcel_survives_its_bytes(words: Vec<Vec<u8>>) {
            let cut = |up_to| Erasure::Cut { conversation: ConversationId([3; 16]), up_to };
            let bodies = words.into_iter().map(|bytes| match bytes.is_empty() {
                true => Carried::Erased(cut(crate::id::Front::default())),
                false => Carried::Body(Body { salt: [4; 8], bytes }),
            });
            let bodies = bodies.collect();
            let origin = OriginId([2; 16]);
            let parcel = Parcel { origin, seq: 7, entry: entry().encode(), chain: [8; 8], bodies };
            let mut encoder = Encoder::new();
            parcel.encode(&mut encoder);
            let bytes = encoder.finish();
            let mut decoder = Decoder::new(&bytes);
            prop_assert_eq!(Parcel::decode(&mut decoder, origin, 7).expect("own bytes"), parcel);
            prop_assert!(decoder.end("parcel").is_ok());
        }
    }
}
