//! Randomness of a run: streams of numbers that the seed determines.
//!
//! Each concern has a stream of its own, so that one more draw for the network does not change
//! what clients do. Invariant: equal seed and stream, equal numbers, on every machine and with
//! every version of the libraries below; so numbers are scaled here and nowhere else.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Which concern draws.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    /// Which kinds of trouble the seed has.
    Mix,
    /// When trouble strikes and whom.
    Trouble,
    /// Delays and losses on links.
    Network,
    /// Times of flushes, and what a crash leaves.
    Disk,
    /// What people do.
    Clients,
    /// Origins and the entropy of replicas.
    Identity,
    /// When upkeep is due, and how long it takes.
    Upkeep,
}

/// A stream of random numbers.
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    pub(crate) fn new(seed: u64, stream: Stream) -> Self {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        dice.set_stream(stream as u64);
        Self(dice)
    }

    /// A number below `end`; 0 if there is none.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        let scaled = u128::from(self.0.next_u64()) * u128::from(end);
        (scaled >> 64) as u64
    }

    /// A number from `least` to `greatest`, both possible.
    pub(crate) fn between(&mut self, least: u64, greatest: u64) -> u64 {
        least + self.below(greatest - least + 1)
    }

    /// An index into something of `length` items.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// True `per_mille` times in a thousand.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    /// A number from `-most` to `most`.
    pub(crate) fn around_zero(&mut self, most: u64) -> i64 {
        self.below(2 * most + 1) as i64 - most as i64
    }

    /// Random bytes.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_for_ever_and_differs_from_its_neighbours() {
        let draw = |seed, stream| {
            let mut dice = Dice::new(seed, stream);
            [dice.below(1_000), dice.below(1_000), dice.below(1_000)]
        };
        assert_eq!(draw(7, Stream::Mix), draw(7, Stream::Mix));
        assert_ne!(draw(7, Stream::Mix), draw(7, Stream::Network));
        assert_ne!(draw(7, Stream::Mix), draw(8, Stream::Mix));
        // Golden: kept seeds lose their meaning if this changes.
        assert_eq!(draw(1, Stream::Mix), [402, 80, 596]);
    }

    #[test]
    fn chances_come_about_as_often_as_they_say() {
        let mut dice = Dice::new(3, Stream::Disk);
        let hits = (0..10_000).filter(|_| dice.chance(250)).count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
        assert!((0..1_000).all(|_| (5..=9).contains(&dice.between(5, 9))));
        assert!((0..1_000).all(|_| dice.around_zero(3).abs() <= 3));
    }
}
