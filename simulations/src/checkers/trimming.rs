//! No entry leaves a log before every node of the space has held it durably.
//!
//! Looks at the batches that reach disks: whatever they remove from a log. Invariant: a node that
//! is down holds what it held when it was heard of last; nobody may assume more of it.

use warbler_store::engine::{Batch, Table};
use warbler_store::id::OriginId;

use super::{Broken, Durability, Promise};

/// Bytes of a log row's key before the origin, and before the seq.
const ORIGIN: usize = 16;
const SEQ: usize = 32;

/// See the module's comment.
pub(crate) struct Trimming {
    nodes: usize,
}

impl Trimming {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { nodes }
    }

    /// A batch is on the disk of `node`.
    pub(crate) fn written(
        &self,
        node: usize,
        batch: &Batch,
        durability: &Durability,
    ) -> Result<(), Broken> {
        let removed = batch.table(Table::Log).filter(|(_, value)| value.is_none());
        for (origin, seq) in removed.filter_map(|(key, _)| place_of(key)) {
            let lacks = |other: &usize| durability.held(*other).get(origin) < seq;
            if let Some(other) = (0..self.nodes).find(lacks) {
                let how = format!("node {node} trims {origin}/{seq}, which node {other} lacks");
                return Err(Broken::new(Promise::Trimming, how));
            }
        }
        Ok(())
    }
}

/// Origin and seq in the key of a log row.
fn place_of(key: &[u8]) -> Option<(OriginId, u64)> {
    let origin = key.get(ORIGIN..SEQ)?.try_into().ok()?;
    let seq = key.get(SEQ..)?.try_into().ok()?;
    Some((OriginId(origin), u64::from_be_bytes(seq)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_may_be_trimmed_once_all_hold_it() {
        let mut durability = Durability::new(2);
        let origin = OriginId([7; 16]);
        let held = |seq| [(origin, seq)].into_iter().collect();
        let mut batch = Batch::default();
        let key = [&[1; 16][..], &origin.0, &2_u64.to_be_bytes()].concat();
        batch.delete(Table::Log, key);
        let checker = Trimming::new(2);
        durability.durable(0, &held(2)).expect("more");
        durability.durable(1, &held(1)).expect("more");
        checker.written(0, &batch, &durability).expect_err("the other lacks it");
        durability.durable(1, &held(2)).expect("more");
        checker.written(0, &batch, &durability).expect("both hold it");
    }
}
