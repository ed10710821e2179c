//! Entries whose causal past is not held yet.
//!
//! The buffer belongs to a session and dies with it; the peer's log is the truth, so what is
//! dropped here is pulled later. Invariants: it is bounded in bytes; the greatest depth is
//! dropped first, so what can be delivered soonest stays.

use std::collections::BTreeMap;

use warbler_store::entry::{Entry, Parcel};
use warbler_store::id::OriginId;

/// The most bytes that wait in one session: 4 MiB.
pub(crate) const MAX_WAITING_BYTES: usize = 4 << 20;

/// See the module's comment.
#[derive(Default)]
pub(crate) struct Waiting {
    entries: BTreeMap<(u64, OriginId, u64), (Parcel, Entry)>,
    bytes: usize,
}

impl Waiting {
    /// Keeps an entry until its past is held. Returns how many were dropped for want of room.
    pub(crate) fn add(&mut self, parcel: Parcel, entry: Entry) -> usize {
        let key = (entry.depth, parcel.origin, parcel.seq);
        if self.entries.contains_key(&key) {
            return 0;
        }
        self.bytes += cost(&parcel);
        self.entries.insert(key, (parcel, entry));
        let mut dropped = 0;
        while self.bytes > MAX_WAITING_BYTES {
            let Some((_, (parcel, _))) = self.entries.pop_last() else { break };
            self.bytes -= cost(&parcel);
            dropped += 1;
        }
        dropped
    }

    /// Takes out, least depth first, all entries that `is_wanted` says can go: to be applied, or
    /// dropped because they are held by now.
    pub(crate) fn take_first(
        &mut self,
        mut is_wanted: impl FnMut(&Parcel, &Entry) -> bool,
    ) -> Option<(Parcel, Entry)> {
        let key = self.entries.iter().find(|(_, (parcel, entry))| is_wanted(parcel, entry));
        let key = *key?.0;
        let (parcel, entry) = self.entries.remove(&key)?;
        self.bytes -= cost(&parcel);
        Some((parcel, entry))
    }

    /// How many entries wait.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// What an entry costs: its bytes are held twice, as they came and as they were read.
fn cost(parcel: &Parcel) -> usize {
    parcel.bytes() + parcel.entry.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use warbler_store::entry::{Carried, EntryKind};
    use warbler_store::id::NodeId;
    use warbler_store::record::Body;
    use warbler_store::vector::VersionVector;

    fn entry(depth: u64, body_bytes: usize) -> (Parcel, Entry) {
        let kind = EntryKind::Origin {
            node: NodeId([1; 32]),
            region: "oslo".parse().expect("a name"),
            started: 0,
        };
        let entry = Entry { depth, saw: VersionVector::default(), previous: [0; 16], kind };
        let bodies = vec![Carried::Body(Body { salt: [0; 8], bytes: vec![0; body_bytes] })];
        let origin = OriginId([1; 16]);
        (Parcel { origin, seq: depth, entry: entry.encode(), chain: [0; 8], bodies }, entry)
    }

    #[test]
    fn the_greatest_depth_is_dropped_first_and_the_bound_holds() {
        let mut waiting = Waiting::default();
        let quarter = MAX_WAITING_BYTES / 4;
        for depth in [4, 1, 3, 2] {
            let (parcel, entry) = entry(depth, quarter);
            waiting.add(parcel, entry);
        }
        assert!(waiting.bytes <= MAX_WAITING_BYTES);
        let left: Vec<u64> = waiting.entries.keys().map(|(depth, ..)| *depth).collect();
        assert_eq!(left, [1, 2, 3]);
    }

    #[test]
    fn entries_are_taken_out_in_the_order_of_their_depth() {
        let mut waiting = Waiting::default();
        for depth in [7, 5, 6] {
            let (parcel, entry) = entry(depth, 10);
            waiting.add(parcel, entry);
        }
        let taken = waiting.take_first(|_, entry| entry.depth > 5).expect("one fits");
        assert_eq!(taken.1.depth, 6);
        assert_eq!(waiting.len(), 2);
    }
}
