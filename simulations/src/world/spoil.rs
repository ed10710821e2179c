//! What the disks of mutants make of batches.
//!
//! The core is not touched: what it wrote is changed on its way to the disk. Invariant: without a
//! mutant every batch reaches the disk as it was sealed.

use warbler_store::engine::{Batch, Table};
use warbler_store::record::MessageState;
use warbler_store::replica::Sealed;
use warbler_store::seal;
use warbler_store::tables::{self, RowType, SettingRow, TimelineRow};

use super::World;
use crate::mutant::Mutant;

/// One write of a batch.
type Write<'a> = (Table, &'a [u8], Option<&'a [u8]>);

/// What becomes of a write.
enum Fate {
    Kept,
    Lost,
    Changed(Vec<u8>),
}

impl World<'_> {
    /// What a mutant's disk makes of a batch.
    pub(super) fn spoil(&self, at: usize, sealed: &Sealed, dying: bool) -> Option<Batch> {
        let mutant = self.plan.mutant?;
        let writes: Vec<Write<'_>> = sealed.batch.iter().collect();
        let in_timeline =
            |(table, _, value): &Write<'_>| *table == Table::Timeline && value.is_some();
        let lost = if mutant == Mutant::DisksDropARow {
            Some(writes.iter().position(in_timeline)?)
        } else if mutant == Mutant::DisksTearBatches && dying {
            writes.len().checked_sub(1)
        } else {
            None
        };
        let mut batch = Batch::default();
        for (place, write) in writes.iter().enumerate() {
            let (table, key, value) = *write;
            let fate = if lost == Some(place) {
                Fate::Lost
            } else {
                self.fate(mutant, at, sealed, *write)
            };
            match (fate, value) {
                (Fate::Lost, _) => {}
                (Fate::Changed(value), _) => batch.put(table, key.to_vec(), value),
                (Fate::Kept, Some(value)) => batch.put(table, key.to_vec(), value.to_vec()),
                (Fate::Kept, None) => batch.delete(table, key.to_vec()),
            }
        }
        Some(batch)
    }

    fn fate(&self, mutant: Mutant, at: usize, sealed: &Sealed, write: Write<'_>) -> Fate {
        let (table, key, value) = write;
        let forgets = sealed.batch.table(Table::Erasures).next().is_some();
        match (mutant, table, value) {
            (Mutant::ForgetsErasures, Table::Erasures, _) => Fate::Lost,
            (Mutant::KeepsErasedWords, Table::Bodies, None) if forgets => Fate::Lost,
            (Mutant::ForgetsRedactions, Table::Timeline, Some(value)) => {
                changed::<TimelineRow>(key, value, |row| row.state.withdrawal.take().is_some())
            }
            (Mutant::EditsByTheClock, Table::Timeline, Some(value)) => {
                self.keep_newer_words(at, key, value)
            }
            (Mutant::EditsByTheClock, Table::Bodies, _) => {
                let shown = sealed.batch.get(Table::Timeline, key).flatten();
                match shown.map(|value| self.keep_newer_words(at, key, value)) {
                    Some(Fate::Changed(_)) => Fate::Lost,
                    _ => Fate::Kept,
                }
            }
            (Mutant::KeepsReplacedSettings, Table::Index, Some(value)) => {
                self.keep_replaced(at, key, value)
            }
            _ => Fate::Kept,
        }
    }

    /// Of two edits the one that was said later by the clock shows.
    fn keep_newer_words(&self, at: usize, key: &[u8], value: &[u8]) -> Fate {
        let held: Option<TimelineRow> = self.held(at, key);
        let clock = |state: &MessageState| state.revision.as_ref().map(|held| held.rank.front);
        changed::<TimelineRow>(key, value, |row| {
            let Some(held) = held.filter(|held| clock(&held.state) > clock(&row.state)) else {
                return false;
            };
            row.state.revision = held.state.revision;
            true
        })
    }

    /// A setting stands for ever, whatever replaces it.
    fn keep_replaced(&self, at: usize, key: &[u8], value: &[u8]) -> Fate {
        if key.first() != Some(&SettingRow::LETTER) {
            return Fate::Kept;
        }
        let held: Option<SettingRow> = self.held(at, key);
        changed::<SettingRow>(key, value, |row| {
            let held = held.map(|held| held.standing).unwrap_or_default();
            let count = row.standing.len();
            let lacks = |rank| row.standing.iter().all(|(other, _)| *other != rank);
            let more: Vec<_> = held.into_iter().filter(|(rank, _)| lacks(*rank)).collect();
            row.standing.extend(more);
            row.standing.sort_by_key(|(rank, _)| *rank);
            row.standing.len() > count
        })
    }

    /// The row on the disk of a node.
    fn held<R: RowType>(&self, at: usize, key: &[u8]) -> Option<R> {
        let value =
            warbler_store::engine::View::get(&self.nodes[at].engine, R::TABLE, key).ok()??;
        tables::open(key, &value).ok()
    }
}

/// A row with something changed in it; kept as it is if `change` says that nothing was.
fn changed<R: RowType>(key: &[u8], value: &[u8], change: impl FnOnce(&mut R) -> bool) -> Fate {
    let Ok(mut row) = tables::open::<R>(key, value) else { return Fate::Kept };
    match change(&mut row) {
        true => Fate::Changed(seal::seal(R::TABLE, key, R::VERSION, &tables::content(&row))),
        false => Fate::Kept,
    }
}
