//! Every row of every table: its checksum, its content, and that what owns it is there.
//!
//! Invariant: a row is judged by itself and its owner alone, so a walk can stop at any row.

use super::{Damage, Slice, spaces_of};
use crate::engine::{Direction, Table, View};
use crate::erasure::Erasure;
use crate::id::{ConversationId, OriginId, SpaceId};
use crate::tables::{
    self, BodyKey, ConversationRow, ErasureKey, FormatRow, NodeRow, OriginRow, QuarantineRow,
    RowType, SpaceRow, StagingRow, SweepRow, Whose,
};

/// Where a walk goes on: a table and the last key read.
type Place = (usize, Option<Vec<u8>>);

pub(super) fn step(
    view: &dyn View,
    table: usize,
    after: Option<Vec<u8>>,
    limit: usize,
    slice: &mut Slice,
) -> Option<Place> {
    let which = *Table::ALL.get(table)?;
    if table == 0 && after.is_none() {
        check_store(view, slice);
    }
    let start = after.map_or_else(Vec::new, |after| [&after[..], &[0]].concat());
    let mut owners = Owners::default();
    let mut rows = view.scan(which, &start, &END, Direction::Forward);
    let mut last = start;
    for _ in 0..limit {
        match rows.next() {
            None => return Some((table + 1, None)).filter(|(next, _)| *next < Table::ALL.len()),
            Some(Err(error)) => {
                // Nothing behind it can be reached either.
                slice.found(Damage::of(
                    which,
                    &last,
                    format!("rows behind cannot be read: {error}"),
                ));
                return Some((table + 1, None)).filter(|(next, _)| *next < Table::ALL.len());
            }
            Some(Ok((key, value))) => {
                slice.rows += 1;
                match tables::check(which, &key, &value) {
                    Err(error) => slice.found(Damage::of(which, &key, plain(&error))),
                    Ok(()) => owners.check(view, which, &key, slice),
                }
                last = key;
            }
        }
    }
    Some((table, Some(last)))
}

/// Behind every key there is.
const END: [u8; 1024] = [0xff; 1024];

/// What an error says, without what a finding says anyway.
fn plain(error: &crate::engine::EngineError) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("the store is damaged: ").unwrap_or(&text);
    text.split(" (key ").next().unwrap_or(text).to_owned()
}

/// What every store has.
fn check_store(view: &dyn View, slice: &mut Slice) {
    if slice.read::<FormatRow>(view, &()).is_missing() {
        slice.found(Damage::at::<FormatRow>(&(), "the store names no format"));
    }
    if slice.read::<NodeRow>(view, &()).is_missing() {
        slice.found(Damage::at::<NodeRow>(&(), "the store names no owner"));
    }
}

/// Whose rows were seen last: rows of one owner stand together.
#[derive(Default)]
struct Owners {
    space: Option<(SpaceId, bool)>,
    origin: Option<(SpaceId, OriginId, bool)>,
    conversation: Option<(ConversationId, bool)>,
}

impl Owners {
    fn check(&mut self, view: &dyn View, table: Table, key: &[u8], slice: &mut Slice) {
        let Whose { space, conversation, entry } = Whose::of(table, key);
        match table {
            Table::Log => {
                let (Some(space), Some((origin, _))) = (space, entry) else { return };
                if !self.has_origin(view, space, origin) {
                    let why = "an entry of an origin that the space does not know";
                    slice.found(Damage::of(table, key, why));
                }
            }
            Table::Meta | Table::Erasures => {
                let Some(space) = space else { return };
                let whole = [StagingRow::LETTER, SpaceRow::LETTER];
                let own = table == Table::Meta && key.first().is_some_and(|it| whole.contains(it));
                if !own && !self.has_space(view, space) {
                    slice.found(Damage::of(table, key, "a row of a space that is not held"));
                }
            }
            Table::Index if space.is_some() => {
                let Some(space) = space else { return };
                if !self.has_space(view, space) {
                    slice.found(Damage::of(table, key, "a row of a space that is not held"));
                }
            }
            Table::Index | Table::Segments | Table::Timeline | Table::Bodies => {
                let Some(id) = conversation else { return };
                let is_row = table == Table::Index && key.first() == Some(&ConversationRow::LETTER);
                let kept = table == Table::Bodies && in_quarantine(view, key);
                if !is_row && !kept && !self.has_conversation(view, id) {
                    let why = "a row of a conversation that is not held";
                    slice.found(Damage::of(table, key, why));
                }
            }
        }
    }

    fn has_space(&mut self, view: &dyn View, space: SpaceId) -> bool {
        if let Some((known, held)) = self.space
            && known == space
        {
            return held;
        }
        // A row that cannot be read is damage of its own, and its space is there.
        let held = view.get(Table::Meta, &SpaceRow::key(&space)).map_or(true, |row| row.is_some())
            || is_staging(view, space);
        self.space = Some((space, held));
        held
    }

    fn has_origin(&mut self, view: &dyn View, space: SpaceId, origin: OriginId) -> bool {
        if let Some((known, of, held)) = self.origin
            && (known, of) == (space, origin)
        {
            return held;
        }
        let key = OriginRow::key(&(space, origin));
        let held = view.get(Table::Meta, &key).map_or(true, |row| row.is_some());
        self.origin = Some((space, origin, held));
        held
    }

    /// Whether the conversation is held, or was erased and is still being removed.
    fn has_conversation(&mut self, view: &dyn View, id: ConversationId) -> bool {
        if let Some((known, held)) = self.conversation
            && known == id
        {
            return held;
        }
        let key = ConversationRow::key(&id);
        let held = view.get(Table::Index, &key).map_or(true, |row| row.is_some())
            || spaces_of(view).into_iter().any(|space| is_going(view, space, id));
        self.conversation = Some((id, held));
        held
    }
}

fn is_staging(view: &dyn View, space: SpaceId) -> bool {
    view.get(Table::Meta, &StagingRow::key(&space)).map_or(true, |row| row.is_some())
}

/// Whether the conversation was erased, and its rows are still to be removed.
fn is_going(view: &dyn View, space: SpaceId, id: ConversationId) -> bool {
    let erased = Erasure::key(&(space, ErasureKey::Conversation(id)));
    let sweep = SweepRow::key(&(space, id));
    let has = |table, key: &[u8]| view.get(table, key).map_or(true, |row| row.is_some());
    has(Table::Erasures, &erased) && has(Table::Meta, &sweep) || is_staging(view, space)
}

/// Whether the row holds a body of an entry in quarantine, which may be about a conversation that
/// is not here.
pub(crate) fn in_quarantine(view: &dyn View, key: &[u8]) -> bool {
    let Some((origin, seq)) = BodyKey::quarantined_entry(key) else { return false };
    spaces_of(view).into_iter().any(|space| {
        let key = QuarantineRow::key(&(space, origin, seq));
        view.get(Table::Meta, &key).map_or(true, |row| row.is_some())
    })
}
