//! Rows of entries: the log itself, and which entries changed which document.
//!
//! Knows nothing of what entries say.

use super::RowType;
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::engine::{EngineError, Table};
use crate::id::{Digest, OriginId, SegmentId, SpaceId};
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

/// `segments`: one row for each entry that changed a document, under document, origin and seq.
/// The document is loaded from those entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentEntryRow;

impl DocumentEntryRow {
    /// The prefix of the rows of `document`.
    #[must_use]
    pub fn prefix(document: SegmentId) -> Vec<u8> {
        document.to_bytes().to_vec()
    }

    /// Origin and seq of a row's key.
    ///
    /// # Errors
    /// When the key is not one of this table.
    pub fn parse(key: &[u8]) -> Result<(OriginId, u64), EngineError> {
        let mut decoder = Decoder::new(key);
        let mut parse = || {
            decoder.raw("document", SegmentId::BYTES)?;
            Ok((OriginId(decoder.array("origin")?), decoder.u64("seq")?))
        };
        parse().map_err(|source: DecodeError| seal::damaged(Self::TABLE, key, source))
    }
}

impl RowType for DocumentEntryRow {
    const TABLE: Table = Table::Segments;
    type Key = (SegmentId, OriginId, u64);

    fn key((document, origin, seq): &Self::Key) -> Vec<u8> {
        [&document.to_bytes()[..], &origin.0, &seq.to_be_bytes()].concat()
    }

    fn encode(&self, _: &mut Encoder) {}

    fn decode(_: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}
