//! What is done beside posting, between regions: operations reach the level that is asked for,
//! what was erased stays gone for a region that was away, and a poisoned entry stops nothing.

use warbler_replication::frame::Frame;
use warbler_replication::replicator::{Alarm, Command, CommandId, Durability, Outcome, TrimPolicy};
use warbler_store::engine::{Direction, MemoryEngine, Table, View};
use warbler_store::entry::{
    Entry, EntryKind, Parcel, chain_digest, chain_link, chain_mark, chain_start,
};
use warbler_store::id::{ConversationId, MessageId, Millis, NodeId, OriginId};
use warbler_store::record::ContentType;
use warbler_store::replica::{Actor, Built, Operated, Operation};
use warbler_store::vector::VersionVector;

use crate::station::{name, space};
use crate::world::{World, minutes};

fn actor(user: &str) -> Actor {
    Actor { user: name(user), admin: user == "root" }
}

fn ask(
    world: &mut World,
    node: &str,
    (user, operation): (&str, Operation),
    (regions, wait): (usize, Millis),
) -> CommandId {
    let id = world.id(node);
    let durability = Durability { regions, wait };
    let (actor, conversation) = (actor(user), name("general"));
    let command = Command::Operate { actor, conversation, operation, durability };
    world.input(id, |station, now| station.command(now, command))
}

/// What became of it, and in which regions it is durable.
fn answer(world: &mut World, node: &str, command: CommandId) -> (Operated, Vec<String>) {
    world.run_until("it is answered", |world| world.at(node).answers.contains_key(&command));
    let outcome = &world.at(node).answers[&command];
    let Outcome::Operated { operated, reached, .. } = outcome else { panic!("{outcome:?}") };
    (*operated, reached.regions.iter().map(ToString::to_string).collect())
}

fn does(world: &mut World, node: &str, user: &str, operation: Operation) {
    let command = ask(world, node, (user, operation), (1, 0));
    assert_eq!(answer(world, node, command).0, Operated::Done);
}

fn edit(message: MessageId, words: &str) -> Operation {
    let content_type = ContentType::default();
    Operation::Edit { message, body: words.as_bytes().to_vec(), content_type }
}

fn traces(disk: &MemoryEngine, words: &str) -> usize {
    let holds = |value: &[u8]| value.windows(words.len()).any(|part| part == words.as_bytes());
    let rows = Table::ALL.into_iter().flat_map(|table| {
        let rows = disk.scan(table, &[], &[0xff; 200], Direction::Forward);
        rows.map(|row| row.expect("reads").1).collect::<Vec<_>>()
    });
    rows.filter(|value| holds(value)).count()
}

#[test]
fn an_operation_is_acknowledged_at_the_level_that_it_reached() {
    let mut world = World::of(["oslo", "tokyo", "lima"]);
    let id = world.post("oslo", "helo");
    world.settle();
    let command = ask(&mut world, "oslo", ("ada", edit(id, "hello")), (3, 10_000));
    let (operated, regions) = answer(&mut world, "oslo", command);
    assert_eq!((operated, regions.len()), (Operated::Done, 3));

    world.hold_writes("tokyo", true);
    world.hold_writes("lima", true);
    let redact = Operation::Redact { message: id };
    let command = ask(&mut world, "oslo", ("ada", redact), (2, 1_000));
    world.run_for(900);
    assert!(!world.at("oslo").answers.contains_key(&command), "it waits for a second region");
    let (operated, regions) = answer(&mut world, "oslo", command);
    assert_eq!((operated, &regions[..]), (Operated::Done, &["oslo".to_owned()][..]));
    world.hold_writes("tokyo", false);
    world.hold_writes("lima", false);
    world.settle();
    assert_eq!(world.texts("lima"), [""]);
}

#[test]
fn a_refused_operation_is_answered_and_changes_nothing() {
    let mut world = World::of(["oslo", "tokyo"]);
    let id = world.post("oslo", "hello");
    world.settle();
    let before = world.at("oslo").replicator.replica().durable().clone();
    let command = ask(&mut world, "oslo", ("bob", edit(id, "mine")), (1, 0));
    world.run_for(100);
    let outcome = format!("{:?}", world.at("oslo").answers[&command]);
    assert!(outcome.starts_with("Refused(Forbidden"), "{outcome}");
    assert_eq!(*world.at("oslo").replicator.replica().durable(), before);
    assert!(world.frames("oslo", "tokyo").iter().all(|frame| !matches!(frame, Frame::Entries(_))));
}

#[test]
fn what_was_erased_while_a_region_was_away_is_gone_there_too_and_never_comes_back() {
    let mut world = World::of(["oslo", "tokyo", "lima"]);
    let id = world.post("oslo", "secret");
    world.settle();
    world.cut("oslo", "lima");
    world.cut("tokyo", "lima");
    does(&mut world, "lima", "ada", edit(id, "secret edit in lima"));
    does(&mut world, "oslo", "ada", Operation::Erase { message: id });
    world.run_for(minutes(1));
    for node in ["oslo", "tokyo"] {
        let disk = world.at(node).disk.clone();
        assert_eq!(traces(&disk, "secret"), 0, "{node}");
    }
    world.connect("tokyo", "lima");
    world.connect("oslo", "lima");
    world.settle();
    for node in ["oslo", "tokyo", "lima"] {
        let disk = world.at(node).disk.clone();
        assert_eq!(traces(&disk, "secret"), 0, "{node}");
        assert_eq!(world.texts(node), [""]);
    }
    assert!(world.alarms().is_empty(), "{:?}", world.alarms());
}

/// A row of the erasure table may be known before the entry that carries it: in the place of a
/// body. Then two nodes with equal vectors show different things, and neither is wrong.
#[test]
fn nodes_that_know_of_different_erasures_do_not_accuse_each_other() {
    let mut world = World::of(["oslo", "tokyo", "lima"]);
    world.run_for(minutes(1));
    world.cut("oslo", "lima");
    for round in 0..8 {
        let id = world.post("oslo", &format!("secret {round}"));
        does(&mut world, "oslo", "ada", Operation::Erase { message: id });
        if round % 2 == 0 {
            world.cut("tokyo", "lima");
            world.run_for(7_000);
            world.connect("tokyo", "lima");
        }
    }
    world.connect("oslo", "lima");
    world.settle();
    assert!(world.alarms().is_empty(), "{:?}", world.alarms());
}

const STRANGER: OriginId = OriginId([0xee; 16]);

/// Its record, an entry that writes where there is nothing, and one that moves a marker.
fn poisoned(node: NodeId, region: &str) -> Vec<Parcel> {
    let mut digest = chain_start(space(), STRANGER);
    let nowhere = ConversationId([7; 16]);
    let kinds = [
        EntryKind::Origin { node, region: name(region), started: 0 },
        EntryKind::Segment { conversation: nowhere, ordinal: 0, change: vec![1, 2, 3] },
        EntryKind::Unknown { kind: 99, content: b"from the future".to_vec() },
        EntryKind::Markers(Vec::new()),
    ];
    let mut parcels = Vec::new();
    for (seq, kind) in (1..).zip(kinds) {
        let saw = VersionVector::default();
        let entry = Entry { depth: seq, saw, previous: chain_link(digest), kind }.encode();
        digest = chain_digest(digest, &entry);
        let chain = chain_mark(digest);
        parcels.push(Parcel { origin: STRANGER, seq, entry, chain, bodies: Vec::new() });
    }
    parcels
}

#[test]
fn a_poisoned_entry_is_told_of_once_passed_on_and_stops_nothing() {
    let mut world = World::of(["oslo", "tokyo", "lima"]);
    world.cut("tokyo", "lima");
    let lie = Frame::Entries(poisoned(world.id("tokyo"), "tokyo")).encode();
    world.inject("tokyo", "oslo", lie);
    world.run_for(minutes(1));
    assert!(world.disconnects("oslo").is_empty(), "it is not the bringer's fault");
    for node in ["oslo", "lima"] {
        assert_eq!(world.at(node).reader.vector().expect("reads").get(STRANGER), 4, "{node}");
        let alarms = world.at(node).alarms.clone();
        let of = |alarm: &Alarm| {
            let Alarm::Quarantined { origin, seq, .. } = alarm else { panic!("{alarm:?}") };
            (*origin, *seq)
        };
        let quarantined: Vec<_> = alarms.iter().map(of).collect();
        assert_eq!(quarantined, [(STRANGER, 2), (STRANGER, 3)], "{node}");
    }
    world.connect("tokyo", "lima");
    world.post("lima", "and on");
    world.settle();
    assert_eq!(world.texts("tokyo"), ["and on"]);
    world.restart("lima");
    world.connect("oslo", "lima");
    world.post("oslo", "also after a restart");
    world.settle();
}

/// Gives a station rounds of upkeep, as a driver does, until there is nothing to do.
fn keep_up(world: &mut World, node: &str, policy: &TrimPolicy) -> u64 {
    let id = world.id(node);
    let mut trimmed = 0;
    loop {
        let upkeep = world.input(id, |station, _| station.replicator.handle_upkeep(policy));
        trimmed += upkeep.trimmed;
        for document in &upkeep.snapshots {
            let disk = world.at(node).disk.clone();
            let built = Built::of(&disk, space(), *document).expect("can be built");
            world.input(id, |station, _| station.replicator.handle_built(*document, built));
        }
        for (conversation, sweep, ranges) in &upkeep.sweeps {
            assert!(!ranges.is_empty());
            world.input(id, |station, _| station.replicator.handle_purged(*conversation, *sweep));
        }
        world.run_for(100);
        let swept = world.at(node).replicator.replica().sweeps().expect("reads").is_empty();
        if upkeep.trimmed == 0 && upkeep.snapshots.is_empty() && swept {
            return trimmed;
        }
    }
}

fn everything(world: &mut World, node: &str) -> TrimPolicy {
    TrimPolicy::HeldByAll(world.at(node).replicator.replica().durable().vector.clone())
}

#[test]
fn what_all_hold_is_trimmed_and_what_one_lacks_is_kept() {
    let mut world = World::of(["oslo", "tokyo", "lima"]);
    for round in 0..5 {
        world.post("oslo", &format!("message {round}"));
    }
    world.settle();
    let policy = everything(&mut world, "oslo");
    assert_eq!(keep_up(&mut world, "oslo", &TrimPolicy::Never), 0);
    assert!(keep_up(&mut world, "oslo", &policy) > 5, "and it goes on under snapshots");
    world.settle();

    world.cut("oslo", "lima");
    world.cut("tokyo", "lima");
    world.post("oslo", "lima lacks this");
    world.run_for(minutes(1));
    let policy = everything(&mut world, "oslo");
    assert_eq!(keep_up(&mut world, "oslo", &policy), 0, "what lima holds is not known");
    world.connect("oslo", "lima");
    world.settle();
    assert_eq!(world.texts("lima").len(), 6);
    assert!(keep_up(&mut world, "oslo", &policy) > 0);
    world.restart("oslo");
    world.connect("oslo", "tokyo");
    world.connect("oslo", "lima");
    world.post("oslo", "after it");
    world.settle();
    assert_eq!(world.texts("lima").len(), 7);
}

/// Lima's disk is lost after all held everything: it is told what it cannot have any more.
#[test]
fn a_node_that_lost_what_was_trimmed_is_named_to_the_operator() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.post("oslo", "hello");
    world.settle();
    let policy = everything(&mut world, "oslo");
    assert!(keep_up(&mut world, "oslo", &policy) > 0);
    let id = world.id("tokyo");
    let roster = world.at("tokyo").roster.clone();
    world.cut("oslo", "tokyo");
    let empty = MemoryEngine::new();
    let origin = OriginId([0x77; 16]);
    let station = crate::station::Station::on(empty, id, "tokyo", roster, origin);
    world.stations.insert(id, station);
    world.connect("oslo", "tokyo");
    world.run_for(minutes(2));
    let alarms = world.at("oslo").alarms.clone();
    let [Alarm::Trimmed { peer, seq, .. }] = alarms[..] else { panic!("{alarms:?}") };
    assert!(peer == id && seq > 0);
    assert_eq!(world.texts("tokyo"), [""; 0], "nothing is better than a part");
}

#[test]
fn the_words_of_an_erased_conversation_leave_the_disk_with_upkeep() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.post("oslo", "secret");
    world.settle();
    does(&mut world, "tokyo", "root", Operation::EraseConversation);
    world.settle();
    for node in ["oslo", "tokyo"] {
        keep_up(&mut world, node, &TrimPolicy::Never);
        let disk = world.at(node).disk.clone();
        assert_eq!(traces(&disk, "secret"), 0, "{node}");
        let sweeps = world.at(node).replicator.replica().sweeps().expect("reads");
        assert!(sweeps.is_empty(), "{node}");
    }
    world.create("oslo");
    world.post("oslo", "a new beginning");
    world.settle();
    assert_eq!(world.texts("tokyo"), ["a new beginning"]);
}
