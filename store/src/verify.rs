//! Verifying a store: every row, every log, every document, and that they agree.
//!
//! ```text
//!   rows           each table, row by row: checksum, content, and that somebody owns the row
//!   logs           each origin's chain from where it was trimmed to its end
//!   conversations  documents against the log, rows against documents, sums against rows
//!   spaces         counts, sums, names and memberships against the rest
//! ```
//! It reads views alone and changes nothing. A scrub takes a slice at a time, each on a view of
//! its own, and may stop between any two; [`verify`] runs all of them. It takes as much memory as
//! one share of a conversation (`projection.rs`) or one origin's step. Invariant: damage is named,
//! never a panic and never an error that ends the walk; entries in quarantine are exempt from what
//! they cannot fulfil. What nothing else in the store tells of cannot be missed: which
//! messages came late here, what is still to be swept, and the words of an entry in quarantine.

mod chains;
mod conversations;
mod documents;
mod rows;
mod spaces;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;

pub(crate) use conversations::Totals;
pub(crate) use rows::in_quarantine;

use crate::engine::{Table, View};
use crate::id::{ConversationId, OriginId, SpaceId};
use crate::projection::Share;
use crate::tables::{self, RowType, SpaceRow, Whose};

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// In which table.
    pub table: Table,
    /// Under which key: of the row that is damaged or missing, or that tells of the damage.
    pub key: Vec<u8>,
    /// In which space, if that is known.
    pub space: Option<SpaceId>,
    /// In which conversation, if it is in one.
    pub conversation: Option<ConversationId>,
    /// In which entry, if it is in one: its origin and seq.
    pub entry: Option<(OriginId, u64)>,
    /// What is wrong, for people.
    pub why: String,
}

impl Damage {
    fn of(table: Table, key: &[u8], why: impl fmt::Display) -> Self {
        let Whose { space, conversation, entry } = Whose::of(table, key);
        Self { table, key: key.to_vec(), space, conversation, entry, why: why.to_string() }
    }

    fn at<R: RowType>(key: &R::Key, why: impl fmt::Display) -> Self {
        Self::of(R::TABLE, &R::key(key), why)
    }

    fn within(mut self, space: SpaceId) -> Self {
        self.space = Some(space);
        self
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table `{}`", self.table)?;
        if let Some(conversation) = self.conversation {
            write!(f, ", conversation {conversation}")?;
        }
        if let Some((origin, seq)) = self.entry {
            write!(f, ", entry {seq} of origin {origin}")?;
        }
        write!(f, ": {} (key ", self.why)?;
        self.key.iter().take(64).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, ")")
    }
}

/// What a slice came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slice {
    /// Rows that were read.
    pub rows: u64,
    /// What was found.
    pub damage: Vec<Damage>,
}

impl Slice {
    fn found(&mut self, damage: Damage) {
        self.damage.push(damage);
    }

    /// The row under `key`; none if there is none, or it cannot be read: the walk of all rows
    /// names that one.
    fn read<R: RowType>(&mut self, view: &dyn View, key: &R::Key) -> Held<R> {
        self.rows += 1;
        match tables::get(view, key) {
            Ok(Some(row)) => Held::Whole(row),
            Ok(None) => Held::Missing,
            Err(_) => Held::Unreadable,
        }
    }
}

/// What stands under a key.
enum Held<R> {
    Whole(R),
    Missing,
    Unreadable,
}

impl<R> Held<R> {
    fn whole(self) -> Option<R> {
        match self {
            Self::Whole(row) => Some(row),
            Self::Missing | Self::Unreadable => None,
        }
    }

    const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }
}

/// Where a walk of the store stands; it can be left and gone on with on any later view.
#[derive(Debug, Clone, Default)]
pub struct Verification {
    stage: Stage,
    /// The only space that is looked at, if it is one.
    only: Option<SpaceId>,
}

#[derive(Debug, Clone)]
enum Stage {
    /// Which table, and the last key that was read.
    Rows {
        table: usize,
        after: Option<Vec<u8>>,
    },
    /// The log that is walked: its origin's row, and how far it has come.
    Logs {
        after: Option<Vec<u8>>,
        at: Option<chains::Chain>,
    },
    /// The last conversation's row, and which share of the next is to be done.
    Conversations {
        after: Vec<u8>,
        share: Option<Share>,
    },
    /// The last space's row.
    Spaces {
        after: Vec<u8>,
    },
    Done,
}

impl Default for Stage {
    fn default() -> Self {
        Self::Rows { table: 0, after: None }
    }
}

impl Verification {
    /// A walk of everything, from its beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A walk of one space, also while it is taken in; its rows were judged one by one before.
    pub(crate) fn of_space(space: SpaceId) -> Self {
        Self { stage: Stage::Logs { after: None, at: None }, only: Some(space) }
    }

    /// Whether everything was walked.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Walks on: about `limit` rows, or one share of a conversation.
    pub fn step(&mut self, view: &dyn View, limit: usize) -> Slice {
        let mut slice = Slice::default();
        let (limit, only) = (limit.max(1), self.only);
        self.stage = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Rows { table, after } => {
                match rows::step(view, table, after, limit, &mut slice) {
                    Some((table, after)) => Stage::Rows { table, after },
                    None => Stage::Logs { after: None, at: None },
                }
            }
            Stage::Logs { after, at } => {
                match chains::step(view, only, (after, at), limit, &mut slice) {
                    Some((after, at)) => Stage::Logs { after, at },
                    None => Stage::Conversations {
                        after: tables::ConversationRow::PREFIX.to_vec(),
                        share: None,
                    },
                }
            }
            Stage::Conversations { after, share } => {
                match conversations::step(view, only, (after, share), &mut slice) {
                    Some((after, share)) => Stage::Conversations { after, share },
                    None => Stage::Spaces { after: SpaceRow::PREFIX.to_vec() },
                }
            }
            Stage::Spaces { after } => match spaces::step(view, only, &after, &mut slice) {
                Some(after) => Stage::Spaces { after },
                None => Stage::Done,
            },
            Stage::Done => Stage::Done,
        };
        slice
    }
}

/// Walks everything that `view` holds. Hands out what each slice came to.
pub fn verify(view: &dyn View, mut seen: impl FnMut(Slice)) {
    const ROWS_AT_ONCE: usize = 4096;
    let mut verification = Verification::new();
    while !verification.is_done() {
        seen(verification.step(view, ROWS_AT_ONCE));
    }
}

/// The spaces that a store holds, also those whose rows are damaged.
pub(crate) fn spaces_of(view: &dyn View) -> Vec<SpaceId> {
    let rows = view.scan(
        SpaceRow::TABLE,
        &SpaceRow::PREFIX,
        &tables::behind(&SpaceRow::PREFIX),
        crate::engine::Direction::Forward,
    );
    rows.filter_map(|row| SpaceRow::parse(&row.ok()?.0).ok()).collect()
}
