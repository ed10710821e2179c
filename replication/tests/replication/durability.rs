//! What is said when: nothing leaves before it is on disk, and an answer says the level that was
//! really reached.

use warbler_replication::replicator::{CommandId, Outcome, Reached};
use warbler_store::replica::{NewMessage, Posted};

use crate::station::{Said, name, says};
use crate::world::{World, minutes};

fn keyed(key: &str, text: &str) -> NewMessage {
    NewMessage { key: Some(key.as_bytes().to_vec()), ..says(text) }
}

fn answer(world: &mut World, node: &str, command: CommandId) -> (Posted, Reached) {
    world.run_until("it is answered", |world| world.at(node).answers.contains_key(&command));
    let outcome = &world.at(node).answers[&command];
    let Outcome::Posted { posted, reached, .. } = outcome else { panic!("{outcome:?}") };
    (*posted, reached.clone())
}

fn regions(reached: &Reached) -> Vec<&str> {
    reached.regions.iter().map(warbler_store::name::Name::as_str).collect()
}

#[test]
fn acknowledgement_push_and_publication_come_after_the_persist() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.post("oslo", "warm up");
    world.settle();
    world.hold_writes("oslo", true);
    let from = world.at("oslo").said.len();
    let command = world.ask("oslo", says("hello"), (1, 0));
    world.run_for(minutes(1));
    let tokyo = world.id("tokyo");
    let relevant = |world: &mut World| -> Vec<Said> {
        let said = world.at("oslo").said[from..].iter();
        said.filter(|said| !matches!(said, Said::Other(_))).cloned().collect()
    };
    let persist = relevant(&mut world);
    assert_eq!(persist.len(), 1, "{persist:?}");
    let Said::Persist(ticket) = persist[0] else { panic!("{persist:?}") };
    assert_eq!(world.texts("oslo"), ["warm up"], "and readers see nothing");

    world.hold_writes("oslo", false);
    world.run_for(10);
    let said = relevant(&mut world);
    let expected =
        [Said::Persist(ticket), Said::Entries(tokyo), Said::Publish(ticket), Said::Answer(command)];
    assert_eq!(said, expected);
}

#[test]
fn a_peer_acknowledges_only_what_it_has_on_disk() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.post("oslo", "warm up");
    world.settle();
    world.hold_writes("tokyo", true);
    let from = world.at("tokyo").said.len();
    world.post("oslo", "hello");
    world.run_for(1_000);
    let oslo = world.id("oslo");
    let said = world.at("tokyo").said[from..].to_vec();
    assert!(!said.contains(&Said::Vector(oslo)), "{said:?}");
    assert_eq!(world.at("oslo").replicator.peers()[0].behind, 1);

    world.hold_writes("tokyo", false);
    world.run_for(50);
    let said = world.at("tokyo").said[from..].to_vec();
    let place = |wanted: fn(&Said) -> bool| said.iter().position(wanted);
    let persist = place(|said| matches!(said, Said::Persist(_)));
    let vector = place(|said| matches!(said, Said::Vector(_)));
    assert!(persist.is_some() && persist < vector, "{said:?}");
    assert_eq!(world.at("oslo").replicator.peers()[0].behind, 0);
}

#[test]
fn what_waits_for_the_disk_goes_out_in_the_next_batch_after_it() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.hold_writes("oslo", true);
    let commands: Vec<_> =
        (0..50).map(|place| world.ask("oslo", says(&place.to_string()), (1, 0))).collect();
    world.run_for(100);
    assert!(world.at("oslo").answers.len() == 1, "only the creation was answered");
    world.hold_writes("oslo", false);
    world.run_for(10);
    let station = world.at("oslo");
    assert!(commands.iter().all(|command| station.answers.contains_key(command)));
    let batches = station.said.iter().filter(|said| matches!(said, Said::Publish(_))).count();
    assert_eq!(batches, 3, "the creation, the first post, and all the others");
    world.settle();
}

#[test]
fn a_post_at_durability_two_is_answered_when_the_other_region_says_that_it_has_it() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.hold_writes("tokyo", true);
    let command = world.ask("oslo", says("hello"), (2, 60_000));
    world.run_for(1_000);
    assert_eq!(world.texts("oslo"), ["hello"], "durable and shown at home");
    assert!(!world.at("oslo").answers.contains_key(&command));

    world.hold_writes("tokyo", false);
    let (posted, reached) = answer(&mut world, "oslo", command);
    assert!(!posted.retried);
    assert_eq!((reached.asked, regions(&reached)), (2, vec!["oslo", "tokyo"]));
    assert_eq!(world.texts("tokyo"), ["hello"]);
}

#[test]
fn a_post_whose_level_is_not_reached_in_time_says_so_and_is_kept() {
    let mut world = World::of(["oslo", "tokyo", "lima"]);
    world.cut("oslo", "tokyo");
    world.cut("tokyo", "lima");
    let asked = world.now;
    let command = world.ask("oslo", says("hello"), (3, 5_000));
    let (_, reached) = answer(&mut world, "oslo", command);
    assert_eq!(world.now, asked + 5_000);
    assert_eq!((reached.asked, regions(&reached)), (3, vec!["oslo", "lima"]));

    world.connect("oslo", "tokyo");
    world.settle();
    assert_eq!(world.texts("tokyo"), ["hello"]);
}

#[test]
fn a_region_that_went_away_after_it_acknowledged_nothing_is_not_counted() {
    let mut world = World::of(["oslo", "tokyo"]);
    let command = world.ask("oslo", says("hello"), (2, 5_000));
    world.cut("oslo", "tokyo");
    let (_, reached) = answer(&mut world, "oslo", command);
    assert_eq!(regions(&reached), ["oslo"]);
}

/// The post is Oslo's; Tokyo answers a retry of it. That Lima holds all of Tokyo's own log says
/// nothing about Oslo's.
#[test]
fn a_retry_elsewhere_counts_only_regions_that_hold_the_first_post() {
    let mut world = World::of(["oslo", "tokyo", "lima"]);
    world.cut("oslo", "lima");
    world.hold_writes("lima", true);
    let first = world.post_message("oslo", keyed("k", "hello"));
    world.run_until("tokyo has it", |world| world.texts("tokyo").len() == 1);

    let command = world.ask("tokyo", keyed("k", "hello"), (3, 2_000));
    let (posted, reached) = answer(&mut world, "tokyo", command);
    assert_eq!((posted.id, posted.retried), (first, true));
    assert!(!regions(&reached).contains(&"lima"), "lima's disk hangs: {reached:?}");

    world.hold_writes("lima", false);
    let command = world.ask("tokyo", keyed("k", "hello"), (3, 60_000));
    let (_, reached) = answer(&mut world, "tokyo", command);
    assert_eq!(reached.regions.len(), 3);
    assert_eq!(reached.regions[0], name("tokyo"), "the answering region comes first");
    assert_eq!(world.texts("lima"), ["hello"]);
}

#[test]
fn a_refusal_is_answered_at_once_and_with_its_reason() {
    let mut world = World::of(["oslo"]);
    let command = world.ask("oslo", says(""), (1, 0));
    let Some(Outcome::Refused(error)) = world.at("oslo").answers.get(&command) else {
        panic!("it was not refused")
    };
    assert_eq!(error.to_string(), "the body is empty");
}

/// A refusal may rest on a message that is not durable yet: it waits for it.
#[test]
fn a_refusal_that_rests_on_a_pending_post_waits_for_it() {
    let mut world = World::of(["oslo"]);
    world.hold_writes("oslo", true);
    world.ask("oslo", keyed("k", "hello"), (1, 0));
    let command = world.ask("oslo", keyed("k", "goodbye"), (1, 0));
    world.run_for(1_000);
    assert!(!world.at("oslo").answers.contains_key(&command));
    world.hold_writes("oslo", false);
    world.run_for(10);
    let outcome = &world.at("oslo").answers[&command];
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
}
