//! Peers that are far behind: they pull, in bounded frames, and nobody's memory grows for them.

use warbler_replication::frame::{Frame, MAX_FRAME_BYTES};
use warbler_store::entry::Parcel;

use crate::station::says;
use crate::world::{World, minutes};

fn bytes_of(frames: &[Frame]) -> Vec<usize> {
    frames
        .iter()
        .filter_map(|frame| match frame {
            Frame::Entries(parcels) => Some(parcels.iter().map(Parcel::bytes).sum()),
            Frame::Vector { .. }
            | Frame::Heartbeat { .. }
            | Frame::AskVector
            | Frame::Pull { .. }
            | Frame::PullEnd { .. } => None,
        })
        .collect()
}

/// Sends `count` messages of `size` bytes in Oslo, each an entry of its own.
fn fill(world: &mut World, count: usize, size: usize) {
    for place in 0..count {
        let text = format!("{place:0>size$}");
        world.post("oslo", &text);
    }
}

#[test]
fn a_peer_that_is_thousands_of_entries_behind_pulls_in_bounded_frames() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.cut("oslo", "tokyo");
    fill(&mut world, 3_000, 400);
    world.sent.clear();
    world.connect("oslo", "tokyo");
    world.run_for(30);
    assert!(world.at("oslo").replicator.peers()[0].catching_up, "it is not pushed to");
    world.post("oslo", "said meanwhile");
    assert_eq!(world.frames("oslo", "tokyo").iter().filter(|f| is_push(f, 3_003)).count(), 0);
    world.run_until("it has caught up", |world| world.texts("tokyo").len() == 3_001);
    let frames = world.frames("oslo", "tokyo");
    let entries = bytes_of(&frames);
    assert!(entries.len() > 3, "{entries:?}");
    assert!(entries.iter().all(|bytes| *bytes <= 256 * 1024 + 1_000), "{entries:?}");
    let pulls = world.frames("tokyo", "oslo");
    let pulls = pulls.iter().filter(|frame| matches!(frame, Frame::Pull { .. })).count();
    assert!((2..10).contains(&pulls), "a megabyte at a time: {pulls}");

    world.run_for(1_000);
    assert!(!world.at("oslo").replicator.peers()[0].catching_up, "and then it is");
    world.settle();
}

/// Whether it brings the entry `seq` of its origin.
fn is_push(frame: &Frame, seq: u64) -> bool {
    match frame {
        Frame::Entries(parcels) => parcels.iter().any(|parcel| parcel.seq == seq),
        Frame::Vector { .. }
        | Frame::Heartbeat { .. }
        | Frame::AskVector
        | Frame::Pull { .. }
        | Frame::PullEnd { .. } => false,
    }
}

#[test]
fn a_pull_that_is_cut_off_goes_on_where_it_was() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.cut("oslo", "tokyo");
    fill(&mut world, 2_000, 1_000);
    world.connect("oslo", "tokyo");
    world.run_until("it is half way", |world| world.texts("tokyo").len() > 500);
    world.cut("oslo", "tokyo");
    world.run_for(100);
    let half = world.texts("tokyo").len();
    assert!(half < 2_000);
    world.sent.clear();
    world.connect("oslo", "tokyo");
    world.run_until("it is there", |world| world.texts("tokyo").len() == 2_000);
    let entries: usize = bytes_of(&world.frames("oslo", "tokyo")).iter().sum();
    assert!(entries < (2_000 - half) * 1_400, "what was there was not sent again: {entries}");
    world.settle();
}

/// The server of a range goes silent: another one takes over.
#[test]
fn a_pull_from_a_peer_that_falls_silent_goes_on_with_another() {
    let mut world = World::of(["oslo", "tokyo", "lima"]);
    world.cut("oslo", "lima");
    world.cut("tokyo", "lima");
    fill(&mut world, 1_500, 1_000);
    world.run_until("tokyo has it", |world| world.texts("tokyo").len() == 1_500);
    world.connect("oslo", "lima");
    world.connect("tokyo", "lima");
    world.run_until("it is half way", |world| world.texts("lima").len() > 300);
    world.cut("oslo", "lima");
    let cut_at = world.now;
    world.run_until("it is there", |world| world.texts("lima").len() == 1_500);
    assert!(world.now - cut_at < 10_000, "after {} ms", world.now - cut_at);
}

#[test]
fn a_peer_that_never_acknowledges_is_pushed_a_bounded_amount() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.post("oslo", "warm up");
    world.settle();
    world.hold_writes("tokyo", true);
    fill(&mut world, 60, 60_000);
    let pushed: usize = bytes_of(&world.frames("oslo", "tokyo")).iter().sum();
    assert!(pushed > 3 << 20, "it is pushed to while there is room: {pushed}");
    assert!(!world.at("oslo").replicator.peers()[0].catching_up);
    fill(&mut world, 60, 60_000);
    assert!(world.at("oslo").replicator.peers()[0].catching_up, "and then no more");

    // What it pulls while its disk hangs is bounded too: it would only grow in memory.
    fill(&mut world, 400, 60_000);
    world.run_for(minutes(1));
    let taken: usize = bytes_of(&world.frames("oslo", "tokyo")).iter().sum();
    assert!(taken <= 14 << 20, "{taken}");
    world.hold_writes("tokyo", false);
    world.settle();
    assert_eq!(world.texts("tokyo").len(), 521);
}

/// Large entries make large frames, but never one that a peer refuses.
#[test]
fn a_batch_of_large_messages_travels_in_frames_within_the_limit() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.hold_writes("oslo", true);
    let text = "x".repeat(64 * 1024);
    for _ in 0..60 {
        world.ask("oslo", says(&text), (1, 0));
    }
    world.hold_writes("oslo", false);
    world.run_until("all are there", |world| world.texts("tokyo").len() == 60);
    let sizes: Vec<usize> = world.sent.iter().map(|(.., frame)| frame.len()).collect();
    assert!(sizes.iter().any(|size| *size > 512 * 1024), "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= MAX_FRAME_BYTES), "{sizes:?}");
    assert!(world.disconnects("tokyo").is_empty());
    world.settle();
}

/// An hour of a region that is down costs the others nothing.
#[test]
fn a_dead_region_costs_nothing_while_it_is_away() {
    let mut world = World::of(["oslo", "tokyo", "lima"]);
    world.cut("oslo", "lima");
    world.cut("tokyo", "lima");
    fill(&mut world, 50, 100);
    world.run_for(minutes(1));
    world.sent.clear();
    world.run_for(minutes(60));
    let heartbeats = |frame: &Frame| matches!(frame, Frame::Heartbeat { .. });
    let frames = world.frames("oslo", "tokyo");
    assert!(frames.iter().all(heartbeats), "nothing flows between the living but heartbeats");
    assert_eq!(frames.len(), 60 * 30, "one in two seconds");
}

/// A device that is full is no reason to ask for what cannot be kept, again and again.
#[test]
fn a_station_without_room_asks_for_nothing_and_takes_nothing_until_there_is_room() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.post("tokyo", "said before");
    world.settle();
    let has_room = |world: &mut World, has_room| {
        let id = world.id("tokyo");
        world.input(id, |station, now| station.replicator.handle_room(now, has_room));
    };
    has_room(&mut world, false);
    world.sent.clear();
    world.post("oslo", "pushed");
    world.cut("oslo", "tokyo");
    world.post("oslo", "to be pulled");
    world.connect("oslo", "tokyo");
    world.run_for(30_000);
    assert_eq!(world.texts("tokyo"), ["said before"]);
    let asked = world.frames("tokyo", "oslo");
    let pulls = asked.iter().filter(|frame| matches!(frame, Frame::Pull { .. })).count();
    assert_eq!(pulls, 0, "{asked:?}");

    has_room(&mut world, true);
    world.settle();
    assert_eq!(world.texts("tokyo").len(), 3);
}
