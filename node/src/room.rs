//! Whether the device has room enough to take writes.
//!
//! Decides from numbers alone; it measures nothing. A node turns read-only while some room is
//! left, because what it took in must still be written to table files, and turns back only well
//! above that, so that it does not flutter. Invariant: a node that takes writes has as much free
//! room as its reserve, and the reserve besides.

use std::fmt;

use warbler_store::engine::Room;

/// Too little room is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom {
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes that must be free before writes are taken again.
    pub needed_bytes: u64,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes / (1 << 20);
        write!(
            f,
            "{} MiB are free on the device, {} MiB are needed",
            mib(self.free_bytes),
            mib(self.needed_bytes)
        )
    }
}

/// Whether `room` is too little, with a reserve of `reserve_bytes` that is kept (and so counted as
/// taken) or not, for a node that is read-only already or not.
pub(crate) fn judge(
    room: Room,
    reserve_bytes: u64,
    is_kept: bool,
    is_read_only: bool,
) -> Option<NoRoom> {
    let to_keep = if is_kept { 0 } else { reserve_bytes };
    let enough = to_keep + reserve_bytes + reserve_bytes / 2;
    let least = if is_read_only || !is_kept { enough } else { reserve_bytes };
    (room.free_bytes < least)
        .then_some(NoRoom { free_bytes: room.free_bytes, needed_bytes: enough })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVE: u64 = 100;

    fn is_read_only(free_bytes: u64, is_kept: bool, was: bool) -> bool {
        let room = Room { total_bytes: 10_000, free_bytes };
        judge(room, RESERVE, is_kept, was).is_some()
    }

    #[test]
    fn a_node_turns_read_only_below_its_reserve_and_back_well_above_it() {
        assert!(!is_read_only(100, true, false));
        assert!(is_read_only(99, true, false));
        assert!(is_read_only(149, true, true), "no fluttering");
        assert!(!is_read_only(150, true, true));
    }

    #[test]
    fn a_reserve_that_was_given_up_must_have_room_to_be_made_again() {
        assert!(is_read_only(249, false, true));
        assert!(is_read_only(249, false, false));
        assert!(!is_read_only(250, false, true));
    }

    #[test]
    fn without_a_reserve_only_a_failed_write_tells_that_there_is_no_room() {
        let room = Room { total_bytes: 10, free_bytes: 0 };
        assert_eq!(judge(room, 0, true, false), None);
        assert_eq!(judge(room, 0, true, true), None);
    }
}
