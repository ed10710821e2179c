//! Repairing an entry of the log from what its document kept of it.
//!
//! A snapshot gives changes back as they were made, and records name their depth. What else an
//! entry holds is tried: what its writer had seen in between is mostly nothing, or one other
//! origin. The chain says which of the tries is the entry. Invariant: nothing is written that the
//! chain does not prove, byte for byte.

use super::super::{Replica, ReplicaError};
use crate::document::Change;
use crate::engine::View;
use crate::entry::{Entry, EntryKind, chain_digest, chain_link};
use crate::id::{ConversationId, Digest, OriginId};
use crate::log::chain_at;
use crate::projection::documents_of;
use crate::record::RecordKey;
use crate::replica::{CONVERSATION_DOCUMENT, read_snapshot};
use crate::seal;
use crate::tables::{self, ConversationRow, LogRow, RowType};
use crate::vector::VersionVector;

/// The most tries for one entry: some seconds.
const MAX_TRIES: usize = 1 << 20;
/// The most depths that are tried where nothing names it.
const MAX_DEPTHS: u64 = 64;

/// What stands on both sides of a lost entry.
struct Gap {
    origin: OriginId,
    previous: Digest,
    /// The depths that it can have.
    depths: std::ops::RangeInclusive<u64>,
    /// The entry behind it, or the digest that it must have.
    proof: Proof,
}

enum Proof {
    Digest(Digest),
    Next(LogRow),
}

impl Gap {
    fn proves(&self, digest: Digest) -> bool {
        match &self.proof {
            Proof::Digest(expected) => *expected == digest,
            Proof::Next(next) => chain_digest(digest, &next.entry) == next.digest,
        }
    }
}

impl Replica {
    /// Repairs an entry of the log that is damaged or missing. False if that takes a peer: entries
    /// that no snapshot holds, and those of markers and erasures.
    ///
    /// # Errors
    /// When the engine fails, or the rows around the entry are damaged too.
    pub fn repair_entry(&mut self, origin: OriginId, seq: u64) -> Result<bool, ReplicaError> {
        let key = (self.space, origin, seq);
        let Some(gap) = self.gap(origin, seq)? else { return Ok(false) };
        let bytes = LogRow::key(&key);
        let stored = self.overlay.get(LogRow::TABLE, &bytes)?;
        let mended = stored.and_then(|value| match tables::open::<LogRow>(&bytes, &value) {
            Ok(row) => Some(row),
            Err(_) => {
                let value = seal::mend(LogRow::TABLE, &bytes, &value)?;
                tables::open(&bytes, &value).ok()
            }
        });
        let fits = |row: &LogRow| {
            row.digest == chain_digest(gap.previous, &row.entry) && gap.proves(row.digest)
        };
        let row = match mended.filter(fits) {
            Some(row) => Some(row),
            None => self.reconstruct(&gap)?,
        };
        let Some(row) = row else { return Ok(false) };
        self.put(&key, &row);
        self.building.touched = true;
        Ok(true)
    }

    fn gap(&self, origin: OriginId, seq: u64) -> Result<Option<Gap>, ReplicaError> {
        let Some(held) = self.origins.get(&origin) else { return Ok(None) };
        if seq <= held.trimmed || seq > held.seq {
            return Ok(None);
        }
        let Some(previous) = (match seq {
            1 => Some(crate::entry::chain_start(self.space, origin)),
            _ => chain_at(&self.overlay, self.space, origin, seq - 1)?,
        }) else {
            return Ok(None);
        };
        let depth_at = |seq: u64| -> Result<Option<(u64, LogRow)>, ReplicaError> {
            let row: Option<LogRow> = tables::get(&self.overlay, &(self.space, origin, seq))?;
            let depth = |row: LogRow| Some((Entry::decode(&row.entry).ok()?.depth, row));
            Ok(row.and_then(depth))
        };
        let least = depth_at(seq.saturating_sub(1))?.map_or(1, |(depth, _)| depth + 1);
        let (depths, proof) = match depth_at(seq + 1)? {
            Some((depth, row)) => (least..=depth - 1, Proof::Next(row)),
            None if seq == held.seq => (held.depth..=held.depth, Proof::Digest(held.digest)),
            None => return Ok(None),
        };
        Ok(Some(Gap { origin, previous, depths, proof }))
    }

    /// Tries what the entry can have been.
    fn reconstruct(&self, gap: &Gap) -> Result<Option<LogRow>, ReplicaError> {
        let mut tries = 0;
        if let Some(row) = self.origins.get(&gap.origin) {
            let (node, region, started) = (row.node, row.region.clone(), row.started);
            let kind = EntryKind::Origin { node, region, started };
            if let Some(row) = self.fit(gap, None, kind, &mut tries) {
                return Ok(Some(row));
            }
        }
        for row in tables::rows::<ConversationRow, _>(&self.overlay, &ConversationRow::PREFIX) {
            let Ok((key, row)) = row else { continue };
            let id = ConversationId::of(self.space, &row.name, row.incarnation);
            if ConversationRow::key(&id) != key {
                continue;
            }
            for (depth, kind) in self.changes_by(gap.origin, id, &row)? {
                if let Some(row) = self.fit(gap, depth, kind, &mut tries) {
                    return Ok(Some(row));
                }
            }
        }
        Ok(None)
    }

    /// What the snapshots of a conversation hold of an origin's changes, each as an entry says it,
    /// with its depth if a record names it.
    fn changes_by(
        &self,
        origin: OriginId,
        id: ConversationId,
        row: &ConversationRow,
    ) -> Result<Vec<(Option<u64>, EntryKind)>, ReplicaError> {
        let mut kinds = Vec::new();
        for document in documents_of(&self.overlay, id)? {
            let Ok(Some(snapshot)) = read_snapshot(&self.overlay, document) else { continue };
            if snapshot.covered.get(origin) == 0 {
                continue;
            }
            let Ok(changes) = snapshot.changes() else { continue };
            for (_, _, change) in changes.into_iter().filter(|(actor, ..)| *actor == origin) {
                let Ok((decoded, _)) = Change::decode(&change) else { continue };
                let mut keys = decoded.writes.iter().map(|(key, _)| RecordKey::from_text(key));
                let depth = keys.find_map(Result::ok).map(|key| key.depth);
                let kind = match document.ordinal {
                    CONVERSATION_DOCUMENT => {
                        let (name, incarnation) = (row.name.clone(), row.incarnation);
                        EntryKind::Conversation { name, incarnation, change }
                    }
                    ordinal => EntryKind::Segment { conversation: id, ordinal, change },
                };
                kinds.push((depth, kind));
            }
        }
        Ok(kinds)
    }

    /// The entry that says `kind` and continues the chain, if there is one.
    fn fit(
        &self,
        gap: &Gap,
        depth: Option<u64>,
        kind: EntryKind,
        tries: &mut usize,
    ) -> Option<LogRow> {
        let last = gap.depths.end().min(&(gap.depths.start() + MAX_DEPTHS)).to_owned();
        let depths = match depth {
            Some(depth) if gap.depths.contains(&depth) => depth..=depth,
            Some(_) => return None,
            None => *gap.depths.start()..=last,
        };
        let previous = chain_link(gap.previous);
        let mut entry = Entry { depth: 1, saw: VersionVector::default(), previous, kind };
        for depth in depths {
            entry.depth = depth;
            for saw in self.sights(gap.origin) {
                *tries += 1;
                if *tries > MAX_TRIES {
                    return None;
                }
                entry.saw = saw;
                let bytes = entry.encode();
                let digest = chain_digest(gap.previous, &bytes);
                if gap.proves(digest) {
                    return Some(LogRow { digest, entry: bytes });
                }
            }
        }
        None
    }

    /// What a writer can have seen between two entries: nothing, or something of one other origin.
    fn sights(&self, origin: OriginId) -> impl Iterator<Item = VersionVector> {
        let others = self.applied.iter().filter(move |(other, _)| *other != origin);
        let one = others.flat_map(|(other, held)| (1..=held).map(move |seq| (other, seq)));
        let one = one.map(|seen| std::iter::once(seen).collect());
        std::iter::once(VersionVector::default()).chain(one)
    }
}
