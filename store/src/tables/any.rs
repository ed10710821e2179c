//! Rows of any kind: whose a row is, as its key alone says, and whether it can be read.
//!
//! Serves those who walk whole tables. Invariant: a key of any bytes is told apart without a
//! panic; what a key does not say is left open.

use super::{
    ConversationRow, EditRow, FormatRow, IdentityRow, LateRow, LogRow, MarkerRow, MembershipRow,
    NameRow, NodeRow, OriginRow, QuarantineRow, ReactionRow, SettingRow, SnapshotRow, SpaceRow,
    StagingRow, SuccessorRow, SweepRow, ThreadRow, TimelineRow, UpgradeRow, open,
};
use crate::document::ChangeFact;
use crate::engine::{EngineError, Table};
use crate::erasure::Erasure;
use crate::id::{ConversationId, OriginId, SegmentId, SpaceId};
use crate::record::Body;
use crate::seal;

/// What a row's key says of whose it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Whose {
    /// The space.
    pub space: Option<SpaceId>,
    /// The conversation.
    pub conversation: Option<ConversationId>,
    /// The entry: its origin and seq.
    pub entry: Option<(OriginId, u64)>,
}

impl Whose {
    /// Reads it from the key of a row.
    #[must_use]
    pub fn of(table: Table, key: &[u8]) -> Self {
        let mut whose = Self::default();
        match table {
            Table::Log => {
                whose.space = part(key, 0).map(SpaceId);
                whose.entry = entry_at(key, 16);
            }
            Table::Segments => {
                whose.conversation = part(key, 0).map(ConversationId);
                whose.entry = entry_at(key, SegmentId::BYTES);
            }
            Table::Timeline | Table::Bodies => {
                whose.conversation = part(key, 0).map(ConversationId);
            }
            Table::Erasures => {
                whose.space = part(key, 0).map(SpaceId);
                // An author's row is of no conversation: its letter is followed by a name.
                if key.get(16) != Some(&b'a') {
                    whose.conversation = part(key, 17).map(ConversationId);
                }
            }
            Table::Index => match key.first() {
                Some(&NameRow::LETTER) => whose.space = part(key, 1).map(SpaceId),
                Some(&MembershipRow::LETTER) => {
                    whose.space = part(key, 1).map(SpaceId);
                    let last = key.last_chunk::<16>().copied();
                    whose.conversation = last.map(ConversationId);
                }
                Some(_) | None => whose.conversation = part(key, 1).map(ConversationId),
            },
            Table::Meta => {
                whose.space = part(key, 1).map(SpaceId);
                match key.first() {
                    Some(&QuarantineRow::LETTER) => whose.entry = entry_at(key, 17),
                    Some(&SweepRow::LETTER) => {
                        whose.conversation = part(key, 17).map(ConversationId);
                    }
                    Some(_) | None => {}
                }
            }
        }
        whose
    }
}

fn part(key: &[u8], start: usize) -> Option<[u8; 16]> {
    key.get(start..).and_then(<[u8]>::first_chunk::<16>).copied()
}

fn entry_at(key: &[u8], start: usize) -> Option<(OriginId, u64)> {
    let seq = key.get(start + 16..).and_then(<[u8]>::first_chunk::<8>)?;
    Some((OriginId(part(key, start)?), u64::from_be_bytes(*seq)))
}

/// Whether the row can be read: its checksum fits, and its content is of its kind.
///
/// # Errors
/// When it cannot.
pub fn check(table: Table, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
    match table {
        Table::Log => open::<LogRow>(key, value).map(drop),
        Table::Segments if key.len() == SegmentId::BYTES => {
            open::<SnapshotRow>(key, value).map(drop)
        }
        Table::Segments => open::<ChangeFact>(key, value).map(drop),
        Table::Timeline => {
            TimelineRow::parse(key)?;
            open::<TimelineRow>(key, value).map(drop)
        }
        Table::Bodies => open::<Body>(key, value).map(drop),
        Table::Erasures => open::<Erasure>(key, value).map(drop),
        Table::Index => check_index(key, value),
        Table::Meta => check_meta(key, value),
    }
}

fn check_index(key: &[u8], value: &[u8]) -> Result<(), EngineError> {
    match key.first() {
        Some(&ConversationRow::LETTER) => open::<ConversationRow>(key, value).map(drop),
        Some(&EditRow::LETTER) => open::<EditRow>(key, value).map(drop),
        Some(&IdentityRow::LETTER) => open::<IdentityRow>(key, value).map(drop),
        Some(&LateRow::LETTER) => open::<LateRow>(key, value).map(drop),
        Some(&MarkerRow::LETTER) => open::<MarkerRow>(key, value).map(drop),
        Some(&MembershipRow::LETTER) => open::<MembershipRow>(key, value).map(drop),
        Some(&NameRow::LETTER) => open::<NameRow>(key, value).map(drop),
        Some(&ReactionRow::LETTER) => open::<ReactionRow>(key, value).map(drop),
        Some(&SettingRow::LETTER) => open::<SettingRow>(key, value).map(drop),
        Some(&ThreadRow::LETTER) => open::<ThreadRow>(key, value).map(drop),
        Some(_) | None => Err(seal::damaged(Table::Index, key, "a row of no known kind")),
    }
}

fn check_meta(key: &[u8], value: &[u8]) -> Result<(), EngineError> {
    match key.first() {
        Some(&FormatRow::LETTER) => open::<FormatRow>(key, value).map(drop),
        Some(&NodeRow::LETTER) => open::<NodeRow>(key, value).map(drop),
        Some(&OriginRow::LETTER) => open::<OriginRow>(key, value).map(drop),
        Some(&QuarantineRow::LETTER) => open::<QuarantineRow>(key, value).map(drop),
        Some(&SpaceRow::LETTER) => open::<SpaceRow>(key, value).map(drop),
        Some(&StagingRow::LETTER) => open::<StagingRow>(key, value).map(drop),
        Some(&SuccessorRow::LETTER) => {
            SuccessorRow::parse(key)?;
            open::<SuccessorRow>(key, value).map(drop)
        }
        Some(&SweepRow::LETTER) => open::<SweepRow>(key, value).map(drop),
        Some(&UpgradeRow::LETTER) => open::<UpgradeRow>(key, value).map(drop),
        Some(_) | None => Err(seal::damaged(Table::Meta, key, "a row of no known kind")),
    }
}
