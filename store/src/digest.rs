//! Digests that grow with the data: a sum of the digests of rows.
//!
//! A sum, not an exclusive or, so that a row counted twice does not vanish; four lanes of 64
//! bits, each wrapping. Invariant: the sum depends on the set of rows alone, not on the order in
//! which they came or went.
//!
//! After Bellare and Micciancio, "A New Paradigm for Collision-Free Hashing: Incrementality at
//! Reduced Cost" (1997).

use crate::engine::Table;
use crate::id::{Digest, SpaceId};

/// The version of what is summed; nodes compare sums of equal versions only.
pub const PROJECTION_VERSION: u8 = 2;

/// A sum of row digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowSum([u64; 4]);

impl RowSum {
    /// Adds a row.
    pub fn add(&mut self, row: &Self) {
        for (lane, other) in self.0.iter_mut().zip(row.0) {
            *lane = lane.wrapping_add(other);
        }
    }

    /// Takes a row back.
    pub fn subtract(&mut self, row: &Self) {
        for (lane, other) in self.0.iter_mut().zip(row.0) {
            *lane = lane.wrapping_sub(other);
        }
    }

    /// The 32 bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, lane) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&lane.to_be_bytes());
        }
        bytes
    }

    /// The sum with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut lanes = [0; 4];
        for (lane, chunk) in lanes.iter_mut().zip(bytes.chunks_exact(8)) {
            *lane = chunk.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
        }
        Self(lanes)
    }

    /// The digest that stands for the sum.
    #[must_use]
    pub fn digest(self) -> Digest {
        Digest(self.to_bytes())
    }
}

/// Hashes rows of one space; the key keeps equal rows of two spaces apart.
#[derive(Debug, Clone)]
pub struct RowHasher {
    key: [u8; 32],
}

impl RowHasher {
    /// The hasher of `space`.
    #[must_use]
    pub fn of(space: SpaceId) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("warbler 2026 row digest");
        hasher.update(&[PROJECTION_VERSION]).update(&space.0);
        Self { key: *hasher.finalize().as_bytes() }
    }

    /// The digest of a row: its place is table and key.
    #[must_use]
    pub fn row(&self, table: Table, key: &[u8], content: &[u8]) -> RowSum {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&[table as u8]).update(&(key.len() as u32).to_be_bytes());
        hasher.update(key).update(content);
        RowSum::from_bytes(*hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_sum_forgets_order_and_what_was_taken_back(
            rows in prop::collection::vec((any::<[u8; 4]>(), any::<[u8; 4]>()), 0..20),
            turn: usize,
        ) {
            let hasher = RowHasher::of(SpaceId([1; 16]));
            let mut forward = RowSum::default();
            rows.iter().for_each(|(place, content)| forward.add(&hasher.row(Table::Index, place, content)));
            let mut turned = rows.clone();
            turned.rotate_left(turn % rows.len().max(1));
            let mut other = RowSum::default();
            let guest = hasher.row(Table::Index, b"guest", b"row");
            other.add(&guest);
            turned.iter().for_each(|(place, content)| other.add(&hasher.row(Table::Index, place, content)));
            prop_assert_ne!(other, forward);
            other.subtract(&guest);
            prop_assert_eq!(other, forward);
            prop_assert_eq!(RowSum::from_bytes(forward.to_bytes()), forward);
        }
    }

    #[test]
    fn equal_rows_of_two_spaces_have_different_digests() {
        let row =
            |space| RowHasher::of(SpaceId([space; 16])).row(Table::Index, b"place", b"content");
        assert_ne!(row(1), row(2));
    }

    #[test]
    fn a_row_counted_twice_does_not_vanish() {
        let row = RowHasher::of(SpaceId([1; 16])).row(Table::Index, b"place", b"content");
        let mut sum = RowSum::default();
        sum.add(&row);
        sum.add(&row);
        assert_ne!(sum, RowSum::default());
    }
}
