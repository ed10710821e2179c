//! Where regions lie: one-way delays between them.
//!
//! Rounded halves of the round trips that clouds publish between such regions. Invariant: the
//! delay from here to there is the delay from there to here.

/// The regions of a world, in the order in which worlds grow.
pub(crate) const REGIONS: [&str; 8] =
    ["eu-west", "us-east", "ap-south", "sa-east", "ap-northeast", "us-west", "af-south", "au-east"];

/// One-way delays in milliseconds, of each region to those before it.
const DELAYS_MILLIS: [&[u64]; REGIONS.len()] = [
    &[],
    &[38],
    &[62, 95],
    &[92, 57, 150],
    &[105, 78, 62, 128],
    &[65, 31, 110, 87, 52],
    &[78, 112, 120, 165, 175, 142],
    &[130, 100, 73, 155, 52, 70, 200],
];

/// The one-way delay between two different regions, in milliseconds.
pub(crate) fn delay_millis(one: usize, other: usize) -> u64 {
    DELAYS_MILLIS[one.max(other)][one.min(other)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_regions_has_one_delay() {
        for (one, delays) in DELAYS_MILLIS.iter().enumerate() {
            assert_eq!(delays.len(), one);
            for other in 0..one {
                assert_eq!(delay_millis(one, other), delay_millis(other, one));
                assert!(delay_millis(one, other) > 0);
            }
        }
    }
}
