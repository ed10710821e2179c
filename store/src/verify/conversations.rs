//! Conversations: their documents, and the rows that readers see, which must follow from them.
//!
//! Invariant: a row that cannot be read was named by the walk of all rows; here it is passed
//! over, so that one damaged row is one finding.

use super::rows::in_quarantine;
use super::{Damage, Slice, documents, spaces_of};
use crate::digest::{RowHasher, RowSum};
use crate::engine::{Direction, Table, View};
use crate::erasure::Erasure;
use crate::id::{ConversationId, MessageId, SpaceId};
use crate::name::Name;
use crate::projection::{
    Expected, Forgotten, MessageClaims, SettingClaims, Share, documents_of, erased_authors,
    records_in,
};
use crate::record::Body;
use crate::replica::CONVERSATION_DOCUMENT;
use crate::tables::{
    self, BodyKey, ConversationRow, EditRow, ErasureKey, IdentityRow, MarkerRow, MembershipRow,
    NameRow, QuarantineRow, ReactionRow, RowType, SettingRow, ThreadRow, TimelineRow,
};

/// The last conversation's row that was done, and which share of the next comes.
type Place = (Vec<u8>, Option<Share>);

pub(super) fn step(
    view: &dyn View,
    only: Option<SpaceId>,
    (after, share): Place,
    slice: &mut Slice,
) -> Option<Place> {
    let start = [&after[..], &[0]].concat();
    let end = tables::behind(&ConversationRow::PREFIX);
    let (key, value) = view.scan(Table::Index, &start, &end, Direction::Forward).next()?.ok()?;
    let Ok(row) = tables::open::<ConversationRow>(&key, &value) else { return Some((key, None)) };
    let Some(id) = tables::Whose::of(Table::Index, &key).conversation else {
        slice.found(Damage::of(Table::Index, &key, "a key that is too short"));
        return Some((key, None));
    };
    let owns = |space: &SpaceId| ConversationId::of(*space, &row.name, row.incarnation) == id;
    if only.is_some_and(|only| !owns(&only)) {
        return Some((key, None));
    }
    let Some(space) = spaces_of(view).into_iter().find(owns) else {
        let why = "a conversation whose id is not that of its name in any space";
        slice.found(Damage::of(Table::Index, &key, why));
        return Some((key, None));
    };
    let share = share.unwrap_or(Share::first_of(row.messages));
    check(view, space, (id, &row), share, slice);
    match share.next() {
        Some(next) => Some((after, Some(next))),
        None => Some((key, None)),
    }
}

/// Checks a share of a conversation; with the first one also what is of the whole of it.
pub(super) fn check(
    view: &dyn View,
    space: SpaceId,
    (id, row): (ConversationId, &ConversationRow),
    share: Share,
    slice: &mut Slice,
) {
    let known = slice.damage.len();
    let Ok(documents) = documents_of(view, id) else { return };
    let mut whole = true;
    if share.part == 0 {
        for document in &documents {
            whole &= documents::check(view, space, *document, slice);
        }
        check_row(view, space, (id, row), slice);
        whole &= check_settings(view, space, (id, row), slice);
        let last = documents.iter().rfind(|it| it.ordinal != CONVERSATION_DOCUMENT);
        if last.is_some_and(|last| last.ordinal > row.ordinal) {
            let why = "segments behind the one that takes appends";
            slice.found(Damage::at::<ConversationRow>(&id, why).within(space));
        }
    }
    if whole {
        check_messages(view, space, id, share, slice);
    }
    slice.damage[known..].iter_mut().for_each(|damage| {
        damage.space = Some(space);
    });
}

/// Sums and counts of the conversation's row, against the rows that they count.
fn check_row(
    view: &dyn View,
    space: SpaceId,
    (id, row): (ConversationId, &ConversationRow),
    slice: &mut Slice,
) {
    let Some(totals) = Totals::of(view, space, (id, &row.name)) else { return };
    slice.rows += totals.rows;
    let erased: Option<Erasure> =
        slice.read::<Erasure>(view, &(space, ErasureKey::Cut(id))).whole();
    let cut = match erased {
        Some(Erasure::Cut { up_to, .. }) => Some(up_to),
        Some(_) | None => None,
    };
    let checks = [
        (totals.sum == row.sum, "the sum of its rows"),
        (totals.messages == row.messages, "the number of its messages"),
        (totals.last == row.last, "the last of its messages"),
        (totals.read == row.read, "the greatest read marker"),
        (cut == row.cut, "up to where it has expired"),
        (u64::from(row.quarantined) <= totals.quarantined, "the entries in quarantine"),
    ];
    for (_, what) in checks.iter().filter(|(fits, _)| !fits) {
        let why = format!("a conversation that states something else than {what}");
        slice.found(Damage::at::<ConversationRow>(&id, why));
    }
}

/// What a conversation's row states, computed from the rows.
pub(crate) struct Totals {
    pub(crate) sum: RowSum,
    pub(crate) messages: u64,
    pub(crate) last: Option<MessageId>,
    pub(crate) read: Option<MessageId>,
    pub(crate) quarantined: u64,
    rows: u64,
}

impl Totals {
    /// None if a row cannot be read.
    pub(crate) fn of(
        view: &dyn View,
        space: SpaceId,
        (id, name): (ConversationId, &Name),
    ) -> Option<Self> {
        let hasher = RowHasher::of(space);
        let mut totals = Self {
            sum: RowSum::default(),
            messages: 0,
            last: None,
            read: None,
            quarantined: 0,
            rows: 0,
        };
        totals.sum.add(&hasher.row(NameRow::TABLE, &id.0, name.as_str().as_bytes()));
        let prefix = |letter: u8| [&[letter][..], &id.0].concat();
        let (mut sum, mut rows) = (totals.sum, 0);
        let mut add = |row: RowSum| {
            sum.add(&row);
            rows += 1;
        };
        summed::<TimelineRow>(view, &id.0, &hasher, |key, _, row| {
            add(row);
            totals.messages += 1;
            totals.last = totals.last.max(TimelineRow::parse(key).ok().map(|key| key.id()));
        })?;
        summed::<EditRow>(view, &prefix(EditRow::LETTER), &hasher, |_, _, row| add(row))?;
        summed::<ReactionRow>(view, &prefix(ReactionRow::LETTER), &hasher, |_, _, row| add(row))?;
        summed::<SettingRow>(view, &prefix(SettingRow::LETTER), &hasher, |_, _, row| add(row))?;
        summed::<MarkerRow>(view, &MarkerRow::prefix(id), &hasher, |_, marker, row| {
            add(row);
            totals.read = totals.read.max(Some(marker.message));
        })?;
        (totals.sum, totals.rows) = (sum, rows);
        for row in tables::rows::<QuarantineRow, _>(view, &QuarantineRow::prefix(space)) {
            totals.quarantined += u64::from(row.ok()?.1.conversation == Some(id));
        }
        Some(totals)
    }
}

/// Hands out all rows under `prefix` with their digests. None if one cannot be read.
fn summed<R: RowType>(
    view: &dyn View,
    prefix: &[u8],
    hasher: &RowHasher,
    mut take: impl FnMut(&[u8], &R, RowSum),
) -> Option<()> {
    for row in tables::rows::<R, _>(view, prefix) {
        let (key, row) = row.ok()?;
        take(&key, &row, hasher.row(R::TABLE, &key, &tables::content(&row)));
    }
    Some(())
}

/// Settings, titles, and that the conversation's own document is there. False if that cannot be
/// read.
fn check_settings(
    view: &dyn View,
    space: SpaceId,
    (id, row): (ConversationId, &ConversationRow),
    slice: &mut Slice,
) -> bool {
    let document = crate::id::SegmentId { conversation: id, ordinal: CONVERSATION_DOCUMENT };
    let Ok(records) = records_in(view, space, document) else { return true };
    if records.is_empty() {
        let why = "a conversation without a document of its own";
        slice.found(Damage::at::<ConversationRow>(&id, why));
        return true;
    }
    let mut claims = SettingClaims::new(id);
    records.iter().for_each(|(key, scalar)| claims.take(key, scalar));
    let expected = claims.expected(space);
    if claims.access != row.access {
        let why = "a conversation that states another access than its settings";
        slice.found(Damage::at::<ConversationRow>(&id, why));
    }
    if claims.name.as_deref().is_some_and(|name| name != row.name.as_str()) {
        let why = "a conversation that states another name than its document";
        slice.found(Damage::at::<ConversationRow>(&id, why));
    }
    let members = |table: Table, key: &[u8]| {
        table == Table::Index && key.first() == Some(&MembershipRow::LETTER)
    };
    for ((table, key), _) in expected.rows.iter().filter(|((table, key), _)| members(*table, key)) {
        if matches!(view.get(*table, key), Ok(None)) {
            slice.found(Damage::of(*table, key, "a member who is not listed as one"));
        }
    }
    let mut compared = Comparison { view, expected, slice };
    compared.expected.rows.retain(|(table, key), _| !members(*table, key));
    compared.rows(Table::Index, &SettingRow::prefix(id, None), |_| true);
    compared.words(id, |key| BodyKey::identity_in(key).is_none_or(|(_, title)| title));
    compared.end();
    true
}

/// What readers see of messages.
fn check_messages(
    view: &dyn View,
    space: SpaceId,
    id: ConversationId,
    share: Share,
    slice: &mut Slice,
) {
    let Ok(documents) = documents_of(view, id) else { return };
    let mut claims = MessageClaims::new(id, share);
    for document in documents.into_iter().filter(|it| it.ordinal != CONVERSATION_DOCUMENT) {
        // A document that cannot be read was named when it was checked.
        let Ok(records) = records_in(view, space, document) else { return };
        slice.rows += records.len() as u64;
        records.iter().for_each(|(key, scalar)| claims.take(key, scalar));
    }
    let Ok(authors) = erased_authors(view, space) else { return };
    let Ok(forgotten) = Forgotten::of(view, space, id, &authors) else { return };
    let Ok(expected) = claims.expected(&forgotten) else { return };
    for fault in &expected.faults {
        slice.found(Damage::at::<ConversationRow>(&id, fault));
    }
    let tail_at = |place: usize| {
        move |key: &[u8]| {
            let tail = key.get(place..).and_then(<[u8]>::first_chunk::<8>);
            tail.is_none_or(|tail| share.holds(*tail))
        }
    };
    let prefix = |letter: u8| [&[letter][..], &id.0].concat();
    let mut compared = Comparison { view, expected, slice };
    compared.rows(Table::Timeline, &id.0, tail_at(24));
    compared.rows(Table::Index, &prefix(EditRow::LETTER), tail_at(17));
    compared.rows(Table::Index, &prefix(IdentityRow::LETTER), tail_at(17));
    compared.rows(Table::Index, &prefix(ReactionRow::LETTER), tail_at(17));
    compared.rows(Table::Index, &prefix(ThreadRow::LETTER), tail_at(41));
    compared.words(id, |key| {
        BodyKey::identity_in(key)
            .is_some_and(|(identity, title)| !title && share.holds(identity.tail()))
    });
    compared.end();
}

/// Rows as they are, against rows as they must be.
struct Comparison<'a> {
    view: &'a dyn View,
    expected: Expected,
    slice: &'a mut Slice,
}

impl Comparison<'_> {
    /// Compares the rows under `prefix` that `ours` holds.
    fn rows(&mut self, table: Table, prefix: &[u8], ours: impl Fn(&[u8]) -> bool) {
        let rows = self.view.scan(table, prefix, &tables::behind(prefix), Direction::Forward);
        for (key, value) in rows.flatten().filter(|(key, _)| ours(key)) {
            self.slice.rows += 1;
            let place = (table, key);
            let expected = self.expected.rows.remove(&place);
            let (table, key) = place;
            if expected.as_ref() == Some(&value) || tables::check(table, &key, &value).is_err() {
                continue;
            }
            let why = match expected {
                Some(_) => "a row that says something else than the documents",
                None => "a row that follows from no document",
            };
            self.slice.found(Damage::of(table, &key, why));
        }
    }

    /// Compares the words of a conversation that `ours` holds.
    fn words(&mut self, id: ConversationId, ours: impl Fn(&[u8]) -> bool) {
        let rows = self.view.scan(Table::Bodies, &id.0, &tables::behind(&id.0), Direction::Forward);
        for (key, value) in rows.flatten().filter(|(key, _)| ours(key)) {
            self.slice.rows += 1;
            let expected = self.expected.words.remove(&key);
            let Ok(body) = tables::open::<Body>(&key, &value) else { continue };
            let why = match expected {
                Some(reference) if reference == body.reference() => continue,
                Some(_) => "words that are not those their record refers to",
                None if in_quarantine(self.view, &key) => continue,
                None => "words that are erased, or of no record",
            };
            self.slice.found(Damage::of(Table::Bodies, &key, why));
        }
    }

    /// What is left must be there, and is not.
    fn end(self) {
        for (table, key) in self.expected.rows.into_keys() {
            self.slice.found(Damage::of(table, &key, "no row where the documents ask for one"));
        }
        for key in self.expected.words.into_keys() {
            let why = "no words where a record refers to some that nothing erased";
            self.slice.found(Damage::of(Table::Bodies, &key, why));
        }
    }
}
