//! The exchange between regions that are up: partitions, losses, doublings, relays, causality.

use proptest::prelude::*;
use warbler_replication::frame::Frame;
use warbler_replication::greeting::PROTOCOL_VERSION;
use warbler_store::id::MessageId;
use warbler_store::replica::NewMessage;

use crate::station::says;
use crate::world::{World, minutes};

#[test]
fn a_message_posted_during_a_partition_reaches_the_other_side_after_it_heals() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.cut("oslo", "tokyo");
    world.post("oslo", "hello");
    world.run_for(minutes(5));
    assert_eq!(world.texts("oslo"), ["hello"], "a region takes posts on its own");
    assert_eq!(world.texts("tokyo"), [""; 0]);

    world.connect("oslo", "tokyo");
    world.settle();
    assert_eq!(world.texts("tokyo"), ["hello"]);
    assert!(world.alarms().is_empty());
}

#[test]
fn both_sides_of_a_partition_take_posts_and_converge() {
    let mut world = World::of(["oslo", "tokyo", "lima"]);
    world.cut("oslo", "tokyo");
    world.cut("oslo", "lima");
    for round in 0..30 {
        world.post("oslo", &format!("oslo {round}"));
        world.post("tokyo", &format!("tokyo {round}"));
        world.post("lima", &format!("lima {round}"));
    }
    world.connect("oslo", "lima");
    world.connect("oslo", "tokyo");
    world.settle();
    assert_eq!(world.texts("oslo").len(), 90);
}

#[test]
fn a_post_reaches_a_connected_peer_in_one_hop_and_two_writes() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.post("oslo", "warm up: the origin record is written");
    world.settle();
    let begun = world.now;
    world.post("oslo", "hello");
    world.run_until("it is there", |world| world.texts("tokyo").len() == 2);
    assert_eq!(world.now - begun, 2 + 20 + 2);
    let asked = world.frames("tokyo", "oslo");
    assert!(asked.iter().all(|frame| matches!(frame, Frame::Vector { .. })), "{asked:?}");
}

#[test]
fn a_push_that_is_lost_is_repaired_by_a_pull() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.drop_next("oslo", "tokyo");
    world.post("oslo", "lost at first");
    world.run_until("the loss is noticed", |world| world.texts("tokyo").len() == 1);
    let pulls = world.frames("tokyo", "oslo");
    assert!(pulls.iter().any(|frame| matches!(frame, Frame::Pull { .. })), "{pulls:?}");

    world.drop_next("oslo", "tokyo");
    world.post("oslo", "lost too");
    world.post("oslo", "but this one shows that something is missing");
    world.settle();
    assert_eq!(world.texts("tokyo").len(), 3);
}

#[test]
fn a_pull_whose_answer_is_lost_is_asked_again() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.cut("oslo", "tokyo");
    (0..200).for_each(|place| {
        world.post("oslo", &place.to_string());
    });
    for _ in 0..3 {
        world.drop_next("oslo", "tokyo");
    }
    world.connect("oslo", "tokyo");
    world.settle();
    assert_eq!(world.texts("tokyo").len(), 200);
}

/// Lima is cut off from Oslo; what Oslo said still comes, through Tokyo.
#[test]
fn a_region_cut_off_from_another_gets_its_messages_through_a_third() {
    let mut world = World::of(["oslo", "tokyo", "lima"]);
    world.cut("oslo", "lima");
    world.post("oslo", "hello");
    world.run_until("it is there", |world| world.texts("lima") == ["hello"]);
}

#[test]
fn the_messages_of_a_dead_region_reach_those_who_had_not_heard_of_them() {
    let mut world = World::of(["oslo", "tokyo", "lima"]);
    world.cut("oslo", "lima");
    world.cut("tokyo", "lima");
    world.post("oslo", "its last words");
    world.run_until("tokyo has it", |world| world.texts("tokyo").len() == 1);
    world.cut("oslo", "tokyo");
    world.connect("tokyo", "lima");
    world.settle();
    assert_eq!(world.texts("lima"), ["its last words"]);
}

/// Who is connected to both gets each entry from its origin, once: the other has it first, but
/// is not asked while the push may be under way.
#[test]
fn what_comes_by_push_is_not_pulled_from_a_third_as_well() {
    let mut world = World::of(["oslo", "tokyo", "lima"]);
    world.post("oslo", "warm up");
    world.settle();
    world.slow_down("oslo", "lima", 200);
    for place in 0..20 {
        world.post("oslo", &place.to_string());
    }
    world.run_for(1_000);
    for (from, to) in [("lima", "tokyo"), ("tokyo", "lima"), ("lima", "oslo"), ("tokyo", "oslo")] {
        let frames = world.frames(from, to);
        assert!(!frames.iter().any(|frame| matches!(frame, Frame::Pull { .. })), "{from} {to}");
    }
}

/// The answer comes to Lima at once, the question over a link that is down: it must wait. Each
/// station checks what it publishes.
#[test]
fn an_answer_never_shows_before_its_message() {
    let mut world = World::of(["oslo", "tokyo", "lima"]);
    world.cut("oslo", "lima");
    let question = world.post("oslo", "how are you?");
    world.run_until("tokyo has the question", |world| world.texts("tokyo").len() == 1);
    let answer = NewMessage { reply_to: Some(question), ..says("fine") };
    world.post_message("tokyo", answer);
    world.run_until("lima shows something", |world| !world.texts("lima").is_empty());
    assert_eq!(world.texts("lima")[0], "how are you?");
    world.settle();
    assert_eq!(world.texts("lima"), ["how are you?", "fine"]);
}

/// Also when the one who answered is the only one to reach, and went down before it could be
/// asked for the question.
#[test]
fn an_answer_whose_message_is_nowhere_to_be_had_waits() {
    let mut world = World::of(["oslo", "tokyo", "lima"]);
    world.cut("oslo", "lima");
    let question = world.post("oslo", "how are you?");
    // Tokyo hears the question only by push; its frames to Lima after that are let through once.
    world.run_until("tokyo has the question", |world| world.texts("tokyo").len() == 1);
    let lima = world.id("lima");
    let tokyo = world.id("tokyo");
    let now = crate::station::at(world.now);
    let answer = NewMessage { reply_to: Some(question), ..says("fine") };
    let reply = world.at("tokyo").post(now, answer, (1, 0));
    world.at("tokyo").drain(now);
    world.at("tokyo").write(now);
    let wants = world.at("tokyo").drain(now);
    assert!(world.at("tokyo").answers.contains_key(&reply));
    let push = wants.frames.into_iter().find(|(to, _)| *to == lima).expect("a push").1;
    world.cut("tokyo", "lima");
    world.input(lima, |station, now| {
        station.replicator.handle_connected(now, tokyo, PROTOCOL_VERSION)
    });
    world.inject("tokyo", "lima", push);
    world.run_for(minutes(1));
    assert_eq!(world.texts("lima"), [""; 0]);
    assert_eq!(world.at("lima").replicator.peers()[0].waiting, 2, "origin record and answer");

    world.connect("tokyo", "lima");
    world.settle();
    assert_eq!(world.texts("lima"), ["how are you?", "fine"]);
}

#[test]
fn a_restarted_region_catches_up_and_goes_on_under_a_new_origin() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.post("tokyo", "before");
    world.settle();
    world.restart("tokyo");
    world.post("oslo", "while it was away");
    world.post("tokyo", "on its own");
    world.connect("oslo", "tokyo");
    world.settle();
    assert_eq!(world.texts("tokyo"), ["before", "while it was away", "on its own"]);
    let origins = world.at("oslo").reader.origins().expect("reads");
    let tokyo = world.id("tokyo");
    assert_eq!(origins.values().filter(|row| row.node == tokyo).count(), 2);
    assert!(world.alarms().is_empty());
}

#[test]
fn a_batch_that_a_crash_took_was_sent_to_nobody() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.hold_writes("oslo", true);
    let command = world.ask("oslo", says("never on disk"), (1, 0));
    world.run_for(minutes(1));
    assert!(!world.at("oslo").answers.contains_key(&command));
    world.hold_writes("oslo", false);
    world.restart("oslo");
    world.connect("oslo", "tokyo");
    world.settle();
    assert_eq!(world.texts("tokyo"), [""; 0]);
    world.post("oslo", "and on");
    world.settle();
    assert_eq!(world.texts("tokyo"), ["and on"]);
}

#[test]
fn frames_that_come_twice_change_nothing() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.post("oslo", "hello");
    world.post("tokyo", "hi");
    world.run_for(1_000);
    let sent = world.sent.clone();
    world.settle();
    let before = world.at("tokyo").replicator.replica().durable().clone();
    for (from, to, frame) in sent {
        world.input(to, |station, now| station.replicator.handle_frame(now, from, &frame));
    }
    world.settle();
    assert_eq!(*world.at("tokyo").replicator.replica().durable(), before);
    assert!(world.alarms().is_empty());
    assert!(world.disconnects("oslo").is_empty() && world.disconnects("tokyo").is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Post(usize, Option<usize>),
    Wait(u64),
    Cut(usize, usize),
    Connect(usize, usize),
    Restart(usize),
}

const NAMES: [&str; 3] = ["oslo", "tokyo", "lima"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let two = || (0..3_usize, 1..3_usize).prop_map(|(one, ahead)| (one, (one + ahead) % 3));
    let step = prop_oneof![
        8 => (0..3_usize, any::<Option<usize>>()).prop_map(|(node, reply)| Step::Post(node, reply)),
        4 => (1..3_000_u64).prop_map(Step::Wait),
        2 => two().prop_map(|(one, other)| Step::Cut(one, other)),
        2 => two().prop_map(|(one, other)| Step::Connect(one, other)),
        1 => (0..3_usize).prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Loss, doubling and reordering on every link, cuts and crashes: nothing is lost but time.
    #[test]
    fn whatever_the_links_do_all_converge_after_they_are_calm(steps in steps(), unrest: u64) {
        let mut world = World::of(NAMES);
        world.unrest = unrest;
        let mut posted: Vec<MessageId> = Vec::new();
        for (place, step) in steps.into_iter().enumerate() {
            match step {
                Step::Post(node, reply) => {
                    let text = format!("message {place}");
                    let asked = reply.filter(|_| !posted.is_empty());
                    let question = asked.map(|reply| posted[reply % posted.len()]);
                    let held = question.filter(|id| {
                        let general = crate::station::name("general");
                        let reader = &world.at(NAMES[node]).reader;
                        reader.message(&general, *id).expect("reads").is_some()
                    });
                    let message = NewMessage { reply_to: held, ..says(&text) };
                    let id = world.post_message(NAMES[node], message);
                    prop_assert!(held.is_none_or(|held| held < id));
                    posted.push(id);
                }
                Step::Wait(span) => world.run_for(span),
                Step::Cut(one, other) => world.cut(NAMES[one], NAMES[other]),
                Step::Connect(one, other) => {
                    if !world.is_connected(NAMES[one], NAMES[other]) {
                        world.connect(NAMES[one], NAMES[other]);
                    }
                }
                Step::Restart(node) => world.restart(NAMES[node]),
            }
        }
        world.unrest = 0;
        for (one, other) in [(0, 1), (1, 2), (2, 0)] {
            if !world.is_connected(NAMES[one], NAMES[other]) {
                world.connect(NAMES[one], NAMES[other]);
            }
        }
        world.settle();
        prop_assert_eq!(world.texts("oslo").len(), posted.len());
        prop_assert!(world.alarms().is_empty(), "{:?}", world.alarms());
    }
}
