//! Wiping what is left of an import that did not end.
//!
//! Invariant: the mark of staging goes last, and a conversation's own row after its others, so a
//! wipe that is killed can be gone on with.

use super::export::{of_space, strays};
use super::{Prefix, conversation_behind, prefixes_of};
use crate::engine::{Batch, Direction, Engine, EngineError, Table, View};
use crate::id::SpaceId;
use crate::tables::{self, StagingRow, SuccessorRow};

/// Rows removed in one batch.
const ROWS_AT_ONCE: usize = 4096;

/// Whether an import of `space` was begun and did not end.
///
/// # Errors
/// When the engine fails or the mark is damaged.
pub fn is_unfinished(view: &dyn View, space: SpaceId) -> Result<bool, EngineError> {
    Ok(tables::get::<StagingRow>(view, &space)?.is_some())
}

/// Removes what an import of `space` that did not end has left.
///
/// # Errors
/// When the engine fails; what was removed stays so, and it may be tried again.
pub fn wipe(engine: &dyn Engine, space: SpaceId) -> Result<(), EngineError> {
    if !is_unfinished(engine, space)? {
        return Ok(());
    }
    while let Some(id) = conversation_behind(engine, space, None)? {
        let mut prefixes = prefixes_of(id);
        // Its own row came first and goes last: it tells whose the others are.
        prefixes.rotate_left(1);
        prefixes.iter().try_for_each(|range| remove(engine, range))?;
    }
    strays(engine, space)?.iter().try_for_each(|range| remove(engine, range))?;
    of_space(space).iter().try_for_each(|range| remove(engine, range))?;
    remove(engine, &(Table::Meta, SuccessorRow::prefix(space)))?;
    let mut batch = Batch::default();
    tables::delete::<StagingRow>(&mut batch, &space);
    engine.persist(&batch)
}

/// Wipes every space whose import did not end.
///
/// # Errors
/// When the engine fails.
pub fn wipe_unfinished(engine: &dyn Engine) -> Result<(), EngineError> {
    let marks = tables::rows::<StagingRow, _>(engine, &StagingRow::PREFIX);
    let spaces = marks.map(|row| StagingRow::parse(&row?.0));
    let spaces: Vec<SpaceId> = spaces.collect::<Result<_, _>>()?;
    spaces.into_iter().try_for_each(|space| wipe(engine, space))
}

fn remove(engine: &dyn Engine, (table, prefix): &Prefix) -> Result<(), EngineError> {
    loop {
        let mut batch = Batch::default();
        let rows = engine.scan(*table, prefix, &tables::behind(prefix), Direction::Forward);
        for row in rows.take(ROWS_AT_ONCE) {
            batch.delete(*table, row?.0);
        }
        if batch.is_empty() {
            return Ok(());
        }
        engine.persist(&batch)?;
    }
}
