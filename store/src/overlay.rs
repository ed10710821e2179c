//! What was written but is not durable yet, laid over the engine.
//!
//! The replica thread builds its next batch while the last one is being flushed, so every lookup
//! of its must see pending writes too. Invariant: reading through the overlay gives what the
//! engine will give once every pending batch is durable.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::iter::Peekable;
use std::sync::Arc;

use crate::engine::{Batch, Direction, EngineError, Row, Rows, SharedEngine, Table, View};

/// Numbers batches in the order in which they become durable, from 1.
pub type Ticket = u64;

/// See the module's comment. Batches are layers: the one that is being built lies on top, those
/// on their way to the disk below it, the engine at the bottom.
pub struct Overlay {
    engine: SharedEngine,
    /// On their way to the disk, the oldest first.
    sealed: VecDeque<(Ticket, Arc<Batch>)>,
    building: Batch,
}

impl Overlay {
    /// An overlay with nothing pending.
    #[must_use]
    pub fn over(engine: SharedEngine) -> Self {
        Self { engine, sealed: VecDeque::new(), building: Batch::default() }
    }

    /// The engine below.
    #[must_use]
    pub fn engine(&self) -> &SharedEngine {
        &self.engine
    }

    /// The batch that is being built, to write into.
    pub fn building(&mut self) -> &mut Batch {
        &mut self.building
    }

    /// Ends the batch that is being built and keeps it until it is durable.
    pub fn seal(&mut self, ticket: Ticket) -> Arc<Batch> {
        let batch = Arc::new(std::mem::take(&mut self.building));
        self.sealed.push_back((ticket, Arc::clone(&batch)));
        batch
    }

    /// Drops the batches that the engine holds by now.
    pub fn lift(&mut self, durable: Ticket) {
        while self.sealed.front().is_some_and(|(ticket, _)| *ticket <= durable) {
            self.sealed.pop_front();
        }
    }

    /// Whether nothing is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.building.is_empty()
    }

    /// The batches, the newest first.
    fn layers(&self) -> impl Iterator<Item = &Batch> {
        let sealed = self.sealed.iter().rev().map(|(_, batch)| &**batch);
        std::iter::once(&self.building).chain(sealed)
    }
}

impl View for Overlay {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        match self.layers().find_map(|layer| layer.get(table, key)) {
            Some(value) => Ok(value.map(<[u8]>::to_vec)),
            None => self.engine.get(table, key),
        }
    }

    fn scan<'a>(
        &'a self,
        table: Table,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Rows<'a> {
        // Layer by layer, and nothing is read before it is asked for: who looks for the last row of
        // a range must not pay for all that is pending in it.
        let mut rows = self.engine.scan(table, start, end, direction);
        let layers: Vec<&Batch> = self.layers().collect();
        for layer in layers.into_iter().rev() {
            let above = layer.range(table, start, end);
            rows = match direction {
                Direction::Forward => Box::new(merged(rows, above, |a, b| a.cmp(b))),
                Direction::Backward => Box::new(merged(rows, above.rev(), |a, b| b.cmp(a))),
            };
        }
        rows
    }
}

/// Merges rows with the pending writes of the layer above, both in the order of `compare`; a
/// pending write hides the row of the same key.
fn merged<'a>(
    below: impl Iterator<Item = Result<Row, EngineError>> + 'a,
    above: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + 'a,
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
                        return Some(Ok((key.to_vec(), value.to_vec())));
                    }
                }
            }
        }
    })
}

/// Whose row is next.
enum Side {
    /// The lower one; also an error, and the end of both.
    Below,
    /// The lower one, but a pending write hides it.
    Hidden,
    /// The pending write.
    Above,
}

fn next_side<'a>(
    below: &mut Peekable<impl Iterator<Item = Result<Row, EngineError>>>,
    above: &mut Peekable<impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>>,
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
                overlay.building().append(batch.clone());
                if index + 1 < batches.len() {
                    overlay.seal(index as u64 + 1);
                }
                model.persist(batch).expect("memory persists");
            }
            for (index, batch) in batches.iter().enumerate().take(durable) {
                if index + 1 == batches.len() {
                    overlay.seal(index as u64 + 1);
                }
                engine.persist(batch).expect("memory persists");
                overlay.lift(index as u64 + 1);
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
