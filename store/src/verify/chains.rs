//! Logs: each origin's entries from where its log was trimmed to its end.
//!
//! Checks links, digests, density, rising depth, that what an entry saw is held, and that what it
//! says has left its mark: a change in a document, a marker, a row of the erasure table.

use super::documents::Coverage;
use super::{Damage, Held, Slice};
use crate::engine::{Direction, Table, View};
use crate::entry::{Entry, EntryKind, Marker, chain_digest, chain_link, chain_start};
use crate::erasure::Erasure;
use crate::id::{ConversationId, Digest, OriginId, SegmentId, SpaceId};
use crate::replica::{CONVERSATION_DOCUMENT, read_origins, vector_of};
use crate::tables::{
    self, ConversationRow, ErasureKey, LogRow, MarkerRow, OriginRow, QuarantineRow, RowType,
};
use crate::vector::VersionVector;

/// How far the walk of one log has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    seq: u64,
    /// The digest up to there; none behind an entry that cannot be read.
    digest: Option<Digest>,
    depth: u64,
}

/// The key of the origin's row that was walked last, and how far the next one's walk has come.
type Place = (Option<Vec<u8>>, Option<Chain>);

pub(super) fn step(
    view: &dyn View,
    only: Option<SpaceId>,
    (after, at): Place,
    limit: usize,
    slice: &mut Slice,
) -> Option<Place> {
    let (key, value) = next_origin(view, after.as_deref(), slice)?;
    let (Ok(row), Ok(origin)) = (tables::open::<OriginRow>(&key, &value), OriginRow::parse(&key))
    else {
        return Some((Some(key), None));
    };
    let space = tables::Whose::of(Table::Meta, &key).space;
    let Some(space) = space.filter(|space| only.is_none_or(|only| only == *space)) else {
        return Some((Some(key), None));
    };
    let base = Chain { seq: row.trimmed, digest: Some(row.base), depth: 0 };
    // The log may have been trimmed further since the last slice.
    let mut chain = at.filter(|at| at.seq > row.trimmed).unwrap_or(base);
    if chain.seq == 0 && row.base != chain_start(space, origin) {
        let why = "the log begins with another digest than that of space and origin";
        slice.found(Damage::at::<OriginRow>(&(space, origin), why));
    }
    let mut walk = Walk {
        view,
        space,
        origin,
        row: &row,
        vector: vector(view, space),
        coverage: Coverage::default(),
    };
    for _ in 0..limit {
        if chain.seq >= row.seq {
            walk.end(chain, slice);
            return Some((Some(key), None));
        }
        chain = walk.entry(chain, slice);
    }
    Some((after, Some(chain)))
}

fn next_origin(
    view: &dyn View,
    after: Option<&[u8]>,
    slice: &mut Slice,
) -> Option<crate::engine::Row> {
    let prefix = [OriginRow::LETTER];
    let start = after.map_or(prefix.to_vec(), |after| [after, &[0]].concat());
    let mut rows = view.scan(Table::Meta, &start, &tables::behind(&prefix), Direction::Forward);
    match rows.next()? {
        Ok(row) => Some(row),
        Err(error) => {
            slice.found(Damage::of(
                Table::Meta,
                &start,
                format!("origins cannot be read: {error}"),
            ));
            None
        }
    }
}

/// What is held, as far as the rows can be read.
fn vector(view: &dyn View, space: SpaceId) -> Option<VersionVector> {
    read_origins(view, space).ok().map(|origins| vector_of(&origins))
}

struct Walk<'a> {
    view: &'a dyn View,
    space: SpaceId,
    origin: OriginId,
    row: &'a OriginRow,
    vector: Option<VersionVector>,
    coverage: Coverage,
}

impl Walk<'_> {
    /// Checks the entry behind `chain`.
    fn entry(&mut self, chain: Chain, slice: &mut Slice) -> Chain {
        let seq = chain.seq + 1;
        let key = (self.space, self.origin, seq);
        let mut found = |why: String| slice.found(Damage::at::<LogRow>(&key, why));
        let held = match tables::get::<LogRow>(self.view, &key) {
            Ok(Some(held)) => held,
            Ok(None) => {
                found("no entry where one is held".to_owned());
                return Chain { seq, digest: None, depth: chain.depth };
            }
            Err(_) => return Chain { seq, digest: None, depth: chain.depth },
        };
        let entry = match Entry::decode(&held.entry) {
            Ok(entry) => entry,
            Err(error) => {
                found(format!("an entry that cannot be read: {error}"));
                return Chain { seq, digest: Some(held.digest), depth: chain.depth };
            }
        };
        if let Some(previous) = chain.digest {
            if entry.previous != chain_link(previous) {
                found("an entry that does not continue its origin's chain".to_owned());
            }
            if held.digest != chain_digest(previous, &held.entry) {
                found("an entry under a digest that is not its own".to_owned());
            }
        }
        if entry.depth <= chain.depth {
            found(format!("depth {} behind depth {}", entry.depth, chain.depth));
        }
        if (seq == 1) != matches!(entry.kind, EntryKind::Origin { .. }) {
            found("an origin record elsewhere than at seq 1, or another entry there".to_owned());
        }
        if self.vector.as_ref().is_some_and(|vector| !vector.covers(&entry.saw)) {
            found("an entry that has seen what is not held".to_owned());
        }
        slice.rows += 1;
        self.kind((seq, held.digest), &entry, slice);
        Chain { seq, digest: Some(held.digest), depth: entry.depth }
    }

    /// Checks that what an entry says has left its mark.
    fn kind(&mut self, (seq, _): (u64, Digest), entry: &Entry, slice: &mut Slice) {
        let key = (self.space, self.origin, seq);
        let in_quarantine = !slice.read::<QuarantineRow>(self.view, &key).is_missing();
        if in_quarantine {
            return;
        }
        let mut found = |why: &str| slice.found(Damage::at::<LogRow>(&key, why));
        match &entry.kind {
            EntryKind::Origin { node, region, started } => {
                let row = self.row;
                if (node, region, started) != (&row.node, &row.region, &row.started) {
                    found("an origin record that is not what is held of the origin");
                }
            }
            EntryKind::Conversation { name, incarnation, .. } => {
                let conversation = ConversationId::of(self.space, name, *incarnation);
                self.change(seq, SegmentId { conversation, ordinal: CONVERSATION_DOCUMENT }, slice);
            }
            EntryKind::Segment { conversation, ordinal, .. } => {
                let document = SegmentId { conversation: *conversation, ordinal: *ordinal };
                self.change(seq, document, slice);
            }
            EntryKind::Markers(markers) => {
                markers.iter().for_each(|marker| self.marker(seq, marker, slice));
            }
            EntryKind::Erasures { rows, .. } => {
                rows.iter().for_each(|row| self.erasure(seq, row, slice));
            }
            EntryKind::Unknown { kind, .. } => {
                found(&format!("an entry of the unknown kind {kind} that is not in quarantine"));
            }
        }
    }

    /// A change lies in its document, unless the conversation was erased.
    fn change(&mut self, seq: u64, document: SegmentId, slice: &mut Slice) {
        let erased = ErasureKey::Conversation(document.conversation);
        if self.coverage.has(self.view, document, (self.origin, seq), slice)
            || !slice.read::<Erasure>(self.view, &(self.space, erased)).is_missing()
        {
            return;
        }
        let why = "an entry whose change no document holds";
        let damage = Damage::at::<LogRow>(&(self.space, self.origin, seq), why);
        let conversation = Some(document.conversation);
        slice.found(Damage { conversation, ..damage });
    }

    fn marker(&self, seq: u64, marker: &Marker, slice: &mut Slice) {
        let Marker { conversation, user, message } = marker;
        let key = (*conversation, user.clone());
        let stands = match slice.read::<MarkerRow>(self.view, &key) {
            Held::Whole(row) => row.message >= *message,
            Held::Unreadable => true,
            Held::Missing => slice.read::<ConversationRow>(self.view, conversation).is_missing(),
        };
        if !stands {
            let why = format!("`{user}` has read further than the marker says (entry {seq})");
            slice.found(Damage::at::<MarkerRow>(&key, why).within(self.space));
        }
    }

    fn erasure(&self, seq: u64, row: &Erasure, slice: &mut Slice) {
        let key = (self.space, ErasureKey::of(row));
        let stands = match slice.read::<Erasure>(self.view, &key) {
            Held::Whole(held) => held >= *row,
            Held::Unreadable => true,
            Held::Missing => false,
        };
        if !stands {
            let why = format!("an erasure of entry {seq} is not in the table");
            slice.found(Damage::at::<Erasure>(&key, why));
        }
    }

    /// Checks the end of the log against what is held of the origin, and that nothing lies
    /// outside.
    fn end(&self, chain: Chain, slice: &mut Slice) {
        let (space, origin) = (self.space, self.origin);
        let whole = chain.digest.is_none_or(|digest| digest == self.row.digest);
        if !whole || (self.row.seq > self.row.trimmed && chain.depth > self.row.depth) {
            let why = "the log ends elsewhere than is held of the origin";
            slice.found(Damage::at::<OriginRow>(&(space, origin), why));
        }
        let prefix = [space.0, origin.0].concat();
        let first = LogRow::key(&(space, origin, self.row.trimmed.saturating_add(1)));
        let behind = LogRow::key(&(space, origin, self.row.seq.saturating_add(1)));
        let outside = [(prefix.clone(), first), (behind, tables::behind(&prefix))];
        for (start, end) in outside {
            let rows = self.view.scan(Table::Log, &start, &end, Direction::Forward);
            for (key, _) in rows.flatten() {
                slice.found(Damage::of(Table::Log, &key, "an entry outside of what is held"));
            }
        }
    }
}
