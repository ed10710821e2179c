//! Spaces: counts and sums over conversations, the erasure table and the quarantine; names and
//! memberships, which stand beside their conversations.
//!
//! Invariant: what cannot be read is not counted against what states the count.

use std::collections::BTreeMap;

use super::{Damage, Held, Slice};
use crate::digest::{RowHasher, RowSum};
use crate::engine::{Direction, Table, View};
use crate::erasure::Erasure;
use crate::id::{ConversationId, SpaceId};
use crate::name::Name;
use crate::record::{Setting, SettingKey};
use crate::tables::{
    self, ConversationRow, ErasureKey, MembershipRow, NameRow, QuarantineRow, RowType, SettingRow,
    SpaceRow, StagingRow,
};

pub(super) fn step(
    view: &dyn View,
    only: Option<SpaceId>,
    after: &[u8],
    slice: &mut Slice,
) -> Option<Vec<u8>> {
    let start = [after, &[0]].concat();
    let end = tables::behind(&SpaceRow::PREFIX);
    let (key, value) = view.scan(Table::Meta, &start, &end, Direction::Forward).next()?.ok()?;
    if let (Ok(space), Ok(row)) = (SpaceRow::parse(&key), tables::open::<SpaceRow>(&key, &value)) {
        let chosen = only.is_none_or(|only| only == space);
        if chosen && slice.read::<StagingRow>(view, &space).is_missing() {
            check(view, space, &row, slice);
        }
    }
    Some(key)
}

fn check(view: &dyn View, space: SpaceId, row: &SpaceRow, slice: &mut Slice) {
    if SpaceId::of(&row.name) != space {
        let why = "a space whose id is not that of its name";
        return slice.found(Damage::at::<SpaceRow>(&space, why));
    }
    if let Some(held) = Conversations::of(view, space, slice) {
        held.check_names(view, space, slice);
        let fits = held.messages == row.messages && held.count == row.conversations;
        expect(fits, "the number of its conversations and messages", space, slice);
        expect(held.sum == row.sum, "the sum of its conversations", space, slice);
    }
    let hasher = RowHasher::of(space);
    if let Some((sum, messages)) = erasures(view, space, &hasher, slice) {
        let fits = sum == row.erasures && messages == row.erased_messages;
        expect(fits, "the sum of its erasures", space, slice);
    }
    if let Some(sum) = quarantine(view, space, &hasher, slice) {
        expect(sum == row.quarantine, "the sum of its quarantine", space, slice);
    }
    check_members(view, space, slice);
}

fn expect(fits: bool, what: &str, space: SpaceId, slice: &mut Slice) {
    if !fits {
        let why = format!("a space that states something else than {what}");
        slice.found(Damage::at::<SpaceRow>(&space, why));
    }
}

/// What a space's conversations come to.
struct Conversations {
    sum: RowSum,
    messages: u64,
    count: u64,
    /// The latest conversation of each name.
    named: BTreeMap<Name, (u32, ConversationId)>,
}

impl Conversations {
    /// None if a row cannot be read.
    fn of(view: &dyn View, space: SpaceId, slice: &mut Slice) -> Option<Self> {
        let mut held =
            Self { sum: RowSum::default(), messages: 0, count: 0, named: BTreeMap::new() };
        for row in tables::rows::<ConversationRow, _>(view, &ConversationRow::PREFIX) {
            let (key, row) = row.ok()?;
            slice.rows += 1;
            let id = ConversationId::of(space, &row.name, row.incarnation);
            if tables::Whose::of(Table::Index, &key).conversation != Some(id) {
                continue;
            }
            held.sum.add(&row.sum);
            held.messages = held.messages.wrapping_add(row.messages);
            held.count += 1;
            let named = held.named.entry(row.name).or_insert((row.incarnation, id));
            *named = (*named).max((row.incarnation, id));
        }
        Some(held)
    }

    /// Names lead to the latest of the conversations that bore them, and to no other.
    fn check_names(&self, view: &dyn View, space: SpaceId, slice: &mut Slice) {
        for (name, (_, id)) in &self.named {
            let key = (space, name.clone());
            let damage =
                |why| Damage { conversation: Some(*id), ..Damage::at::<NameRow>(&key, why) };
            match slice.read::<NameRow>(view, &key) {
                Held::Whole(row) if row.conversation == *id => {}
                Held::Whole(_) => slice.found(damage("a name that leads to another conversation")),
                Held::Missing => slice.found(damage("no row for the name of a conversation")),
                Held::Unreadable => {}
            }
        }
        let prefix = NameRow::prefix(space);
        let rows = view.scan(Table::Index, &prefix, &tables::behind(&prefix), Direction::Forward);
        for (key, _) in rows.flatten() {
            let name = std::str::from_utf8(key.get(17..).unwrap_or_default());
            let name = name.ok().and_then(|name| name.parse::<Name>().ok());
            if name.is_none_or(|name| !self.named.contains_key(&name)) {
                let why = "a name without a conversation";
                slice.found(Damage::of(Table::Index, &key, why));
            }
        }
    }
}

/// The sum of the erasure table, and how many messages it names.
fn erasures(
    view: &dyn View,
    space: SpaceId,
    hasher: &RowHasher,
    slice: &mut Slice,
) -> Option<(RowSum, u64)> {
    let mut sum = RowSum::default();
    let mut messages = 0;
    for row in tables::rows::<Erasure, _>(view, &space.0) {
        let (key, row) = row.ok()?;
        slice.rows += 1;
        sum.add(&hasher.row(Table::Erasures, &key, &tables::content(&row)));
        messages += u64::from(matches!(row, Erasure::Message { .. }));
        if key != Erasure::key(&(space, ErasureKey::of(&row))) {
            slice.found(Damage::of(Table::Erasures, &key, "an erasure under the key of another"));
        }
    }
    Some((sum, messages))
}

fn quarantine(
    view: &dyn View,
    space: SpaceId,
    hasher: &RowHasher,
    slice: &mut Slice,
) -> Option<RowSum> {
    let mut sum = RowSum::default();
    for row in tables::rows::<QuarantineRow, _>(view, &QuarantineRow::prefix(space)) {
        let (key, _) = row.ok()?;
        slice.rows += 1;
        let (origin, seq) = QuarantineRow::parse(&key).ok()?;
        sum.add(&hasher.row(Table::Meta, &origin.0, &seq.to_be_bytes()));
        let log = crate::tables::LogRow::key(&(space, origin, seq));
        if matches!(view.get(Table::Log, &log), Ok(None)) {
            slice.found(Damage::of(
                Table::Meta,
                &key,
                "the quarantine of an entry that is not held",
            ));
        }
    }
    Some(sum)
}

/// Everybody who is listed as a member is one.
fn check_members(view: &dyn View, space: SpaceId, slice: &mut Slice) {
    let prefix = [&[MembershipRow::LETTER][..], &space.0].concat();
    let rows = view.scan(Table::Index, &prefix, &tables::behind(&prefix), Direction::Forward);
    for (key, _) in rows.flatten() {
        slice.rows += 1;
        let Some((user, id)) = MembershipRow::parts(&key) else {
            slice.found(Damage::of(Table::Index, &key, "a membership under no key of one"));
            continue;
        };
        let setting = (id, SettingKey::of_member(id, &user));
        let is_member = match slice.read::<SettingRow>(view, &setting) {
            Held::Whole(row) => matches!(
                row.winner().map(|winner| &winner.setting),
                Some(Setting::Member { role: Some(_), .. })
            ),
            Held::Missing => false,
            Held::Unreadable => true,
        };
        if !is_member || slice.read::<ConversationRow>(view, &id).is_missing() {
            slice.found(Damage::of(Table::Index, &key, "somebody listed who is no member"));
        }
    }
}
