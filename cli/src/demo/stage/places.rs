//! The regions of the demo and how far they are apart.
//!
//! Knows geography only. Invariant: every two regions have exactly one round trip.

use std::time::Duration;

/// A region of the demo.
pub(in crate::demo) struct Place {
    pub(in crate::demo) region: &'static str,
    pub(in crate::demo) cloud: &'static str,
    pub(super) node: &'static str,
}

/// Index of the region where the real conversations come in.
pub(in crate::demo) const EU_WEST: usize = 0;
/// Index of the region nearest to it.
pub(in crate::demo) const US_EAST: usize = 1;
/// Index of the region that is killed: the last, so that those before it are the ones that remain.
pub(in crate::demo) const AP_SOUTH: usize = 2;

/// The regions, by index.
pub(in crate::demo) const PLACES: [Place; 3] = [
    Place { region: "eu-west", cloud: "aws", node: "eu-1" },
    Place { region: "us-east", cloud: "gcp", node: "us-1" },
    Place { region: "ap-south", cloud: "azure", node: "ap-1" },
];

/// Round trips between regions, in milliseconds.
pub(super) const ROUND_TRIPS: [(usize, usize, u32); 3] =
    [(EU_WEST, US_EAST, 40), (EU_WEST, AP_SOUTH, 90), (US_EAST, AP_SOUTH, 160)];

/// The other regions of one, nearest first.
pub(in crate::demo) fn others_by_distance(region: usize) -> Vec<usize> {
    let mut others: Vec<usize> = (0..PLACES.len()).filter(|other| *other != region).collect();
    others.sort_by_key(|other| one_way(region, *other));
    others
}

/// The emulated delay from one region to another: half a round trip.
pub(in crate::demo) fn one_way(from: usize, to: usize) -> Duration {
    let between = |(one, other, _): &&(usize, usize, u32)| {
        [(*one, *other), (*other, *one)].contains(&(from, to))
    };
    let trip = ROUND_TRIPS.iter().find(between).map_or(0, |(_, _, trip)| *trip);
    Duration::from_millis(u64::from(trip)) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_fail_over_to_the_nearest_region() {
        assert_eq!(others_by_distance(EU_WEST), [US_EAST, AP_SOUTH]);
        assert_eq!(others_by_distance(US_EAST), [EU_WEST, AP_SOUTH]);
        assert_eq!(others_by_distance(AP_SOUTH), [EU_WEST, US_EAST]);
    }

    #[test]
    fn one_way_is_half_a_round_trip_in_both_directions() {
        assert_eq!(one_way(US_EAST, AP_SOUTH), Duration::from_millis(80));
        assert_eq!(one_way(AP_SOUTH, US_EAST), Duration::from_millis(80));
        assert_eq!(one_way(EU_WEST, EU_WEST), Duration::ZERO);
    }
}
