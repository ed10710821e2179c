//! Rows of entries: the log itself, and what documents are loaded from.
//!
//! Knows nothing of what entries say.

use super::RowType;
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::document::{ChangeFact, Snapshot};
use crate::engine::{EngineError, Table};
use crate::id::{ConversationId, Digest, OriginId, SegmentId, SpaceId};
use crate::seal;

/// `log`: an entry's exact bytes and its chain digest, under space, origin and seq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// The chain digest up to and with this entry.
    pub digest: Digest,
    /// The bytes as the origin wrote them.
    pub entry: Vec<u8>,
}

impl RowType for LogRow {
    const TABLE: Table = Table::Log;
    type Key = (SpaceId, OriginId, u64);

    fn key((space, origin, seq): &Self::Key) -> Vec<u8> {
        [&space.0[..], &origin.0, &seq.to_be_bytes()].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.raw(&self.digest.0).run(&self.entry);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let digest = Digest(decoder.array("chain digest")?);
        let entry = decoder.run("entry", crate::entry::MAX_ENTRY_BYTES)?.to_vec();
        Ok(Self { digest, entry })
    }
}

/// `segments`: what must be known of a change that no snapshot covers, under the document, and
/// origin and seq of the entry that carries it. The document is loaded from those entries.
impl RowType for ChangeFact {
    const TABLE: Table = Table::Segments;
    const VERSION: u8 = 2;
    type Key = ChangeRow;

    fn key(ChangeRow { document, origin, seq }: &ChangeRow) -> Vec<u8> {
        [&document.to_bytes()[..], &origin.0, &seq.to_be_bytes()].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        self.encode(encoder);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

/// Which change of a document: the entry that carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeRow {
    /// The document.
    pub document: SegmentId,
    /// Whose entry.
    pub origin: OriginId,
    /// Its seq.
    pub seq: u64,
}

impl ChangeRow {
    /// The prefix of the changes of `document`, its snapshot included.
    #[must_use]
    pub fn prefix(document: SegmentId) -> Vec<u8> {
        document.to_bytes().to_vec()
    }

    /// The least key of a change of `document`: right behind its snapshot.
    #[must_use]
    pub fn first(document: SegmentId) -> Vec<u8> {
        [&document.to_bytes()[..], &[0]].concat()
    }

    /// What a row's key says; `None` for a snapshot's.
    ///
    /// # Errors
    /// When the key is not one of this table.
    pub fn parse(key: &[u8]) -> Result<Option<Self>, EngineError> {
        let mut decoder = Decoder::new(key);
        let mut parse = || {
            let conversation = ConversationId(decoder.array("conversation")?);
            let document = SegmentId { conversation, ordinal: decoder.u32("ordinal")? };
            if decoder.is_empty() {
                return Ok(None);
            }
            let origin = OriginId(decoder.array("origin")?);
            Ok(Some(Self { document, origin, seq: decoder.u64("seq")? }))
        };
        parse().map_err(|source: DecodeError| seal::damaged(Table::Segments, key, source))
    }
}

/// `segments`: the snapshot of a document, under its id alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow(pub Snapshot);

impl RowType for SnapshotRow {
    const TABLE: Table = Table::Segments;
    const VERSION: u8 = 2;
    type Key = SegmentId;

    fn key(document: &SegmentId) -> Vec<u8> {
        document.to_bytes().to_vec()
    }

    fn encode(&self, encoder: &mut Encoder) {
        self.0.encode(encoder);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Snapshot::decode(decoder).map(Self)
    }
}
