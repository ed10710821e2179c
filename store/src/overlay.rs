//! What was written but is not durable yet, laid over the engine.
//!
//! The replica thread builds its next batch while the last one is being flushed, so every lookup
//! of its must see pending writes too. Invariant: reading through the overlay gives what the
//! engine will give once every pending batch is durable.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::iter::Peekable;

use crate::engine::{Batch, Direction, EngineError, Row, Rows, SharedEngine, Table, View, Write};

/// Numbers batches in the order in which they become durable, from 1.
pub type Ticket = u64;

/// A pending write: the batch it belongs to, and the value (`None`: removed).
type Pending = (Ticket, Option<Vec<u8>>);

/// See the module's comment.
pub struct Overlay {
    engine: SharedEngine,
    pending: BTreeMap<(Table, Vec<u8>), Pending>,
}

impl Overlay {
    /// An overlay with nothing pending.
    #[must_use]
    pub fn over(engine: SharedEngine) -> Self {
        Self { engine, pending: BTreeMap::new() }
    }

    /// The engine below.
    #[must_use]
    pub fn engine(&self) -> &SharedEngine {
        &self.engine
    }

    /// Lays the writes of `batch` over what is there.
    pub fn lay(&mut self, ticket: Ticket, batch: &Batch) {
        for write in batch.writes() {
            let (table, key, value) = match write {
                Write::Put { table, key, value } => (*table, key, Some(value.clone())),
                Write::Delete { table, key } => (*table, key, None),
            };
            self.pending.insert((table, key.clone()), (ticket, value));
        }
    }

    /// Drops what the engine holds by now: the writes of `batch`, unless a later batch wrote
    /// them again.
    pub fn lift(&mut self, durable: Ticket, batch: &Batch) {
        for write in batch.writes() {
            let (Write::Put { table, key, .. } | Write::Delete { table, key }) = write;
            let place = (*table, key.clone());
            if self.pending.get(&place).is_some_and(|(ticket, _)| *ticket <= durable) {
                self.pending.remove(&place);
            }
        }
    }

    /// How many writes are pending.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

impl View for Overlay {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        if !self.pending.is_empty()
            && let Some((_, value)) = self.pending.get(&(table, key.to_vec()))
        {
            return Ok(value.clone());
        }
        self.engine.get(table, key)
    }

    fn scan<'a>(
        &'a self,
        table: Table,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Rows<'a> {
        let below = self.engine.scan(table, start, end, direction);
        if start >= end {
            return below;
        }
        let range = self.pending.range((table, start.to_vec())..(table, end.to_vec()));
        let above = range.map(|((_, key), (_, value))| (key, value));
        match direction {
            Direction::Forward => Box::new(merged(below, above, |a, b| a.cmp(b))),
            Direction::Backward => Box::new(merged(below, above.rev(), |a, b| b.cmp(a))),
        }
    }
}

/// Merges the engine's rows with pending writes, both in the order of `compare`; a pending write
/// hides the engine's row of the same key.
fn merged<'a>(
    below: impl Iterator<Item = Result<Row, EngineError>> + 'a,
    above: impl Iterator<Item = (&'a Vec<u8>, &'a Option<Vec<u8>>)> + 'a,
    compare: impl Fn(&[u8], &[u8]) -> Ordering + 'a,
) -> impl Iterator<Item = Result<Row, EngineError>> + 'a {
    let mut below = below.peekable();
    let mut above = above.peekable();
    std::iter::from_fn(move || {
        loop {
            match next_side(&mut below, &mut above, &compare) {
                Side::Below => return below.next(),
                Side::Hidden => drop(below.next()),
                Side::Above => {
                    let (key, value) = above.next()?;
                    if let Some(value) = value {
                        return Some(Ok((key.clone(), value.clone())));
                    }
                }
            }
        }
    })
}

/// Whose row is next.
enum Side {
    /// The engine's; also an error, and the end of both.
    Below,
    /// The engine's, but a pending write hides it.
    Hidden,
    /// The pending write.
    Above,
}

fn next_side<'a>(
    below: &mut Peekable<impl Iterator<Item = Result<Row, EngineError>>>,
    above: &mut Peekable<impl Iterator<Item = (&'a Vec<u8>, &'a Option<Vec<u8>>)>>,
    compare: &impl Fn(&[u8], &[u8]) -> Ordering,
) -> Side {
    match (below.peek(), above.peek()) {
        (Some(Ok((low, _))), Some((high, _))) => match compare(low, high) {
            Ordering::Less => Side::Below,
            Ordering::Equal => Side::Hidden,
            Ordering::Greater => Side::Above,
        },
        (None, Some(_)) => Side::Above,
        (Some(_), None) | (Some(Err(_)), Some(_)) | (None, None) => Side::Below,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::{Engine, MemoryEngine};

    /// A write of one of few keys, so that batches meet.
    fn write() -> impl Strategy<Value = (u8, Option<u8>)> {
        (0..12_u8, any::<Option<u8>>())
    }

    fn batch_of(writes: &[(u8, Option<u8>)]) -> Batch {
        let mut batch = Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.put(Table::Index, vec![*key], vec![*value]),
                None => batch.delete(Table::Index, vec![*key]),
            }
        }
        batch
    }

    fn rows(view: &dyn View, direction: Direction) -> Vec<Row> {
        view.scan(Table::Index, &[2], &[10], direction).map(|row| row.expect("reads")).collect()
    }

    proptest! {
        #[test]
        fn the_overlay_reads_like_the_engine_after_all_pending_batches(
            batches in prop::collection::vec(prop::collection::vec(write(), 0..6), 1..6),
            durable in 0..6_usize,
        ) {
            let engine = Arc::new(MemoryEngine::new());
            let model = MemoryEngine::new();
            let mut overlay = Overlay::over(engine.clone());
            let batches: Vec<_> = batches.iter().map(|writes| batch_of(writes)).collect();
            for (index, batch) in batches.iter().enumerate() {
                overlay.lay(index as u64 + 1, batch);
                model.persist(batch).expect("memory persists");
            }
            for (index, batch) in batches.iter().enumerate().take(durable) {
                engine.persist(batch).expect("memory persists");
                overlay.lift(index as u64 + 1, batch);
            }
            for key in 0..12_u8 {
                let read = |view: &dyn View| view.get(Table::Index, &[key]).expect("reads");
                prop_assert_eq!(read(&overlay), read(&model));
            }
            for direction in [Direction::Forward, Direction::Backward] {
                prop_assert_eq!(rows(&overlay, direction), rows(&model, direction));
            }
            prop_assert!(durable < batches.len() || overlay.is_empty());
        }
    }
}
