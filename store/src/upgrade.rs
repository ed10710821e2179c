//! Converting a store of format 1 to format 2, in place and step by step.
//!
//! ```text
//!   changes     rows of documents' entries become facts about their changes, read from the log
//!   timeline    headers become rows with a state; threads get their rows
//!   identities  rows hold the places of all copies; here the canonical one's
//!   bodies      words that do not show move behind all that show; their copies' places are noted
//!   conversations, origins    new fields, new sums
//!   spaces      the last batch, with the end of the conversion
//! ```
//! Entries are not touched: their bytes are their origins'. Each batch is bounded, and holds how
//! far it came, so a conversion that is killed goes on where it was. Invariant: from the first
//! batch to the last the store says that it is being converted, and nobody reads it; an earlier
//! version refuses it.

mod first;
mod steps;
#[cfg(test)]
mod tests;

use crate::engine::{Batch, Direction, Engine, EngineError, Table, View};
use crate::tables::{self, FORMAT_VERSION, FormatRow, UpgradeRow};

/// Rows converted in one batch.
const ROWS_AT_ONCE: usize = 1024;
/// The format that can be converted.
pub(crate) const CONVERTED: u32 = 1;

/// The steps, in their order.
const STEPS: [Step; 6] = [
    Step { table: Table::Segments, prefix: &[], convert: steps::change },
    Step { table: Table::Timeline, prefix: &[], convert: steps::message },
    Step { table: Table::Index, prefix: b"i", convert: steps::identity },
    Step { table: Table::Bodies, prefix: &[], convert: steps::body },
    Step { table: Table::Index, prefix: b"c", convert: steps::conversation },
    Step { table: Table::Meta, prefix: b"o", convert: steps::origin },
];

/// Adds to the batch what becomes of a row: its key and its value.
type Convert = fn(&mut Conversion<'_>, &[u8], &[u8]) -> Result<(), EngineError>;

/// One kind of row, and how it is converted.
struct Step {
    table: Table,
    prefix: &'static [u8],
    convert: Convert,
}

/// A batch that is being made, laid over the store.
struct Conversion<'a> {
    view: &'a dyn View,
    batch: Batch,
}

impl Conversion<'_> {
    /// The value under `key`, as it will be after the batch.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        match self.batch.get(table, key) {
            Some(value) => Ok(value.map(<[u8]>::to_vec)),
            None => self.view.get(table, key),
        }
    }
}

/// Whether a conversion was begun and is not done.
///
/// # Errors
/// When the engine fails or the row is damaged.
pub(crate) fn is_going_on(engine: &dyn Engine) -> Result<bool, EngineError> {
    Ok(tables::get::<UpgradeRow>(engine, &())?.is_some())
}

/// Converts the store, or goes on with it.
///
/// # Errors
/// When the engine fails or a row is damaged; what was converted stays so, and it may be tried
/// again.
pub(crate) fn convert(engine: &dyn Engine) -> Result<(), EngineError> {
    while step(engine, ROWS_AT_ONCE)? {}
    Ok(())
}

/// Converts at most `limit` rows. False when nothing is left to do.
fn step(engine: &dyn Engine, limit: usize) -> Result<bool, EngineError> {
    let at: Option<UpgradeRow> = tables::get(engine, &())?;
    let format: Option<FormatRow> = tables::get(engine, &())?;
    let at = match (at, format) {
        (Some(at), _) => at,
        (None, Some(FormatRow { version: CONVERTED })) => {
            UpgradeRow { step: 0, cursor: Vec::new() }
        }
        (None, _) => return Ok(false),
    };
    let view = engine.view();
    let mut conversion = Conversion { view: &*view, batch: Batch::default() };
    let next = match STEPS.get(usize::from(at.step)) {
        Some(step) => Some(run(&mut conversion, step, &at, limit)?),
        None => {
            steps::spaces(&mut conversion)?;
            None
        }
    };
    let mut batch = conversion.batch;
    match &next {
        Some(next) => tables::put(&mut batch, &(), next),
        None => tables::delete::<UpgradeRow>(&mut batch, &()),
    }
    tables::put(&mut batch, &(), &FormatRow { version: FORMAT_VERSION });
    engine.persist(&batch)?;
    Ok(next.is_some())
}

/// Converts the next rows of a step. Returns where to go on.
fn run(
    conversion: &mut Conversion<'_>,
    step: &Step,
    at: &UpgradeRow,
    limit: usize,
) -> Result<UpgradeRow, EngineError> {
    let start = match at.cursor.is_empty() {
        true => step.prefix.to_vec(),
        false => [&at.cursor[..], &[0]].concat(),
    };
    let end = match step.prefix {
        [] => vec![0xff; 1024],
        prefix => tables::behind(prefix),
    };
    let mut cursor = None;
    let view = conversion.view;
    for row in view.scan(step.table, &start, &end, Direction::Forward).take(limit) {
        let (key, value) = row?;
        (step.convert)(conversion, &key, &value)?;
        cursor = Some(key);
    }
    Ok(match cursor {
        Some(cursor) => UpgradeRow { step: at.step, cursor },
        None => UpgradeRow { step: at.step + 1, cursor: Vec::new() },
    })
}
