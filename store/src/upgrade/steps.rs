//! How each kind of row is converted.
//!
//! Invariant: a step reads rows of earlier steps as format 2 has them, its own and later ones' as
//! format 1 had them.

use super::{Conversion, first};
use crate::digest::{RowHasher, RowSum};
use crate::document::{Change, ChangeFact};
use crate::engine::{Direction, EngineError, Row, Table};
use crate::entry::chain_start;
use crate::id::{ConversationId, Front, Identity, SpaceId};
use crate::record::{Access, Body, MessageState};
use crate::replica::change_of;
use crate::seal;
use crate::tables::{
    self, BodyKey, ChangeRow, ConversationRow, IdentityRow, MessageKey, NameRow, OriginRow,
    RowType, SpaceRow, ThreadKey, ThreadRow, TimelineRow,
};

/// `segments`: a row that named an entry becomes what must be known of the entry's change.
pub(super) fn change(
    conversion: &mut Conversion<'_>,
    key: &[u8],
    _: &[u8],
) -> Result<(), EngineError> {
    let damaged = |why: &dyn std::fmt::Display| seal::damaged(Table::Segments, key, why);
    let row = ChangeRow::parse(key)?.ok_or_else(|| damaged(&"a key without an entry"))?;
    let space = space_of(conversion, row.document.conversation)?;
    let bytes = change_of(conversion.view, space, row).map_err(|error| damaged(&error))?;
    let (change, hash) = Change::decode(&bytes).map_err(|error| damaged(&error))?;
    tables::put(&mut conversion.batch, &row, &ChangeFact::of(&change, hash));
    Ok(())
}

/// The space that a conversation of format 1 is in.
fn space_of(
    conversion: &Conversion<'_>,
    conversation: ConversationId,
) -> Result<SpaceId, EngineError> {
    let key = ConversationRow::key(&conversation);
    let damaged = |why: &str| seal::damaged(Table::Index, &key, why);
    let value = conversion.view.get(Table::Index, &key)?;
    let value = value.ok_or_else(|| damaged("no conversation where a document is"))?;
    let row = first::read(Table::Index, &key, &value, first::Conversation::decode)?;
    for space in space_rows(conversion) {
        let id = SpaceRow::parse(&space?.0)?;
        if ConversationId::of(id, &row.name, row.incarnation) == conversation {
            return Ok(id);
        }
    }
    Err(damaged("a conversation of no space that is held"))
}

fn space_rows<'a>(
    conversion: &Conversion<'a>,
) -> impl Iterator<Item = Result<Row, EngineError>> + use<'a> {
    let end = tables::behind(&SpaceRow::PREFIX);
    conversion.view.scan(Table::Meta, &SpaceRow::PREFIX, &end, Direction::Forward)
}

/// `timeline`: nothing had become of any message yet.
pub(super) fn message(
    conversion: &mut Conversion<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<(), EngineError> {
    let header = first::read(Table::Timeline, key, value, first::header)?;
    let place = TimelineRow::parse(key)?;
    let MessageKey { conversation, front, identity } = place;
    if let Some(root) = header.thread {
        let key = ThreadKey { conversation, root, front, identity };
        tables::put(&mut conversion.batch, &key, &ThreadRow);
    }
    let state = MessageState::default();
    tables::put(&mut conversion.batch, &place, &TimelineRow { state, header });
    Ok(())
}

/// `index`, `i`: the canonical copy's place; those of the others are found with their words.
pub(super) fn identity(
    conversion: &mut Conversion<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<(), EngineError> {
    let mut row = IdentityRow::default();
    for (identity, front) in first::read(Table::Index, key, value, first::identities)? {
        row.place(identity, front);
    }
    let value = seal::seal(Table::Index, key, IdentityRow::VERSION, &tables::content(&row));
    conversion.batch.put(Table::Index, key.to_vec(), value);
    Ok(())
}

/// `bodies`: those that show stay; those of other copies move behind all that show.
pub(super) fn body(
    conversion: &mut Conversion<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<(), EngineError> {
    if BodyKey::behind_at(key).is_some() {
        return Ok(());
    }
    let body: Body = tables::open(key, value)?;
    let reference = body.reference();
    let place = TimelineRow::parse(key.get(..MessageKey::BYTES).unwrap_or(key))?;
    let MessageKey { conversation, front, identity } = place;
    let row = conversion.get(Table::Timeline, &TimelineRow::key(&place))?;
    let row: Option<TimelineRow> =
        row.map(|value| tables::open(&TimelineRow::key(&place), &value)).transpose()?;
    let to = match row {
        Some(row) if row.header.body == reference => BodyKey::Shown(place),
        Some(_) | None => {
            BodyKey::Behind { conversation, front, identity, digest: reference.digest }
        }
    };
    note_copy(conversion, conversation, identity, front)?;
    if Body::key(&to) != key {
        conversion.batch.delete(Table::Bodies, key.to_vec());
        tables::put(&mut conversion.batch, &to, &body);
    }
    Ok(())
}

/// Notes where a copy stands.
fn note_copy(
    conversion: &mut Conversion<'_>,
    conversation: ConversationId,
    identity: Identity,
    front: Front,
) -> Result<(), EngineError> {
    let key = (conversation, identity.tail());
    let bytes = IdentityRow::key(&key);
    let held = conversion.get(Table::Index, &bytes)?;
    let held = held.map(|value| tables::open::<IdentityRow>(&bytes, &value)).transpose()?;
    let mut row = held.unwrap_or_default();
    if row.place(identity, front) {
        tables::put(&mut conversion.batch, &key, &row);
    }
    Ok(())
}

/// `index`, `c`: the sum of rows as they are now; nothing was forgotten, set or read yet.
pub(super) fn conversation(
    conversion: &mut Conversion<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<(), EngineError> {
    let row = first::read(Table::Index, key, value, first::Conversation::decode)?;
    let id = tables::Whose::of(Table::Index, key).conversation;
    let id = id.ok_or_else(|| seal::damaged(Table::Index, key, "a key that is too short"))?;
    let hasher = RowHasher::of(space_of(conversion, id)?);
    let mut sum = hasher.row(NameRow::TABLE, &id.0, row.name.as_str().as_bytes());
    for there in tables::rows::<TimelineRow, _>(conversion.view, &id.0) {
        let (key, there) = there?;
        sum.add(&hasher.row(Table::Timeline, &key, &tables::content(&there)));
    }
    let first::Conversation { name, incarnation, ordinal, records, record_bytes, .. } = row;
    let first::Conversation { messages, last, .. } = row;
    let row = ConversationRow {
        name,
        incarnation,
        ordinal,
        records,
        record_bytes,
        messages,
        last,
        cut: None,
        read: None,
        access: Access::Open,
        quarantined: 0,
        sum,
    };
    tables::put(&mut conversion.batch, &id, &row);
    Ok(())
}

/// `meta`, `o`: no log was trimmed.
pub(super) fn origin(
    conversion: &mut Conversion<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<(), EngineError> {
    let row = first::read(Table::Meta, key, value, first::Origin::decode)?;
    let origin = OriginRow::parse(key)?;
    let space = tables::Whose::of(Table::Meta, key).space;
    let space = space.ok_or_else(|| seal::damaged(Table::Meta, key, "a key without a space"))?;
    let first::Origin { node, region, started, seq, depth, digest } = row;
    let base = chain_start(space, origin);
    let row = OriginRow { node, region, started, seq, depth, digest, trimmed: 0, base };
    tables::put(&mut conversion.batch, &(space, origin), &row);
    Ok(())
}

/// `meta`, `s`: all at once, as the last.
pub(super) fn spaces(conversion: &mut Conversion<'_>) -> Result<(), EngineError> {
    for row in space_rows(conversion) {
        let (key, value) = row?;
        let space = SpaceRow::parse(&key)?;
        let row = first::read(Table::Meta, &key, &value, first::Space::decode)?;
        let mut sum = RowSum::default();
        for held in tables::rows::<ConversationRow, _>(conversion.view, &ConversationRow::PREFIX) {
            let (key, held) = held?;
            let id = ConversationId::of(space, &held.name, held.incarnation);
            if ConversationRow::key(&id) == key {
                sum.add(&held.sum);
            }
        }
        let first::Space { name, clock, conversations, messages, ahead } = row;
        let row = SpaceRow {
            name,
            clock,
            conversations,
            messages,
            ahead,
            sum,
            erasures: RowSum::default(),
            erased_messages: 0,
            quarantine: RowSum::default(),
        };
        tables::put(&mut conversion.batch, &space, &row);
    }
    Ok(())
}
