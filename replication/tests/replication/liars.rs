//! Peers that lie, forks and divergences: the session ends or the operator is told, and the
//! others go on.

use warbler_replication::frame::{Frame, Held, Wanted};
use warbler_replication::greeting::PROTOCOL_VERSION;
use warbler_replication::replicator::Alarm;
use warbler_store::engine::{Batch, Engine, Table, View};
use warbler_store::entry::{
    Carried, Entry, EntryKind, Parcel, chain_digest, chain_link, chain_mark, chain_start,
};
use warbler_store::id::{Digest, NodeId, OriginId};
use warbler_store::record::Body;
use warbler_store::tables::{self, SpaceRow};
use warbler_store::vector::VersionVector;

use crate::station::{Station, name, says, space};
use crate::world::{World, minutes};

/// A chain of entries by an origin that nobody knows: its record, then records that may not be
/// there. With `body_bytes` of ballast each.
fn made_up(origin: OriginId, region: &str, count: u64, body_bytes: usize) -> Vec<Parcel> {
    let mut digest = chain_start(space(), origin);
    (1..=count)
        .map(|seq| {
            let kind =
                EntryKind::Origin { node: NodeId([2; 32]), region: name(region), started: seq };
            let saw = VersionVector::default();
            let entry = Entry { depth: seq, saw, previous: chain_link(digest), kind }.encode();
            digest = chain_digest(digest, &entry);
            let ballast =
                (body_bytes > 0).then(|| Body { salt: [0; 8], bytes: vec![1; body_bytes] });
            let bodies = ballast.into_iter().map(Carried::Body).collect();
            Parcel { origin, seq, entry, chain: chain_mark(digest), bodies }
        })
        .collect()
}

const STRANGER: OriginId = OriginId([0xee; 16]);

/// Oslo, Tokyo and Lima; Tokyo begins to lie. `why` is what Oslo says to it.
fn ends_the_session(lie: Vec<u8>, why: &str) {
    let mut world = World::of(["oslo", "tokyo", "lima"]);
    world.post("lima", "before");
    world.settle();
    let before = world.at("oslo").replicator.replica().durable().clone();
    world.inject("tokyo", "oslo", lie);
    world.run_for(100);
    let said = world.disconnects("oslo");
    assert_eq!(said.len(), 1, "{why}: {said:?}");
    assert!(said[0].contains(why), "`{why}` was expected, but it said `{}`", said[0]);
    assert!(!world.is_connected("oslo", "tokyo"));
    assert_eq!(*world.at("oslo").replicator.replica().durable(), before);

    world.post("lima", "the others go on");
    world.post("oslo", "as does oslo");
    world.run_for(1_000);
    assert_eq!(world.texts("oslo").len(), 3);
    world.connect("oslo", "tokyo");
    world.settle();
    assert_eq!(world.texts("tokyo"), ["before", "the others go on", "as does oslo"]);
}

#[test]
fn a_malformed_frame_ends_the_session() {
    for (frame, why) in [
        (vec![], "a malformed frame: frame kind"),
        (vec![77], "a malformed frame: frame kind: 77 is unknown"),
        (vec![3, 0], "a malformed frame: 1 bytes left over behind frame"),
        (vec![2, 0], "a malformed frame: vector digest"),
        (vec![1, 2, 0], "a malformed frame: vector extent: 2"),
        (vec![0; (2 << 20) + 1], "a malformed frame: frame: 2097153 bytes"),
    ] {
        ends_the_session(frame, why);
    }
}

#[test]
fn a_refused_entry_ends_the_session_and_raises_an_alarm() {
    let good = made_up(STRANGER, "tokyo", 2, 0);
    let entries = |parcels: &[Parcel]| Frame::Entries(parcels.to_vec()).encode();
    let cases: Vec<(Vec<Parcel>, &str)> = vec![
        (made_up(STRANGER, "mars", 1, 0), "its node or region is not in the space"),
        (made_up(STRANGER, "oslo", 1, 0), "its node or region is not in the space"),
        (made_up(STRANGER, "tokyo", 1, 5), "an entry without records came with bodies"),
        (vec![Parcel { chain: [0; 8], ..good[0].clone() }], "do not have the chain digest"),
        (vec![Parcel { entry: vec![9], ..good[0].clone() }], "entry version: 9 is unknown"),
    ];
    for (parcels, why) in cases {
        ends_the_session(entries(&parcels), why);
    }

    let mut world = World::of(["oslo", "tokyo"]);
    world.inject("tokyo", "oslo", entries(&made_up(STRANGER, "mars", 1, 0)));
    let tokyo = world.id("tokyo");
    let alarms = world.alarms();
    let [Alarm::Refused { peer, origin, seq, .. }] = alarms[..] else { panic!("{alarms:?}") };
    assert_eq!((*peer, *origin, *seq), (tokyo, STRANGER, 1));
}

/// What came before the lie in the same frame was no lie, and stays.
#[test]
fn good_entries_before_a_bad_one_are_kept() {
    let mut world = World::of(["oslo", "tokyo"]);
    let lie = Frame::Entries(made_up(STRANGER, "tokyo", 2, 0)).encode();
    world.inject("tokyo", "oslo", lie);
    world.run_for(100);
    assert_eq!(world.disconnects("oslo").len(), 1);
    assert_eq!(world.at("oslo").reader.vector().expect("reads").get(STRANGER), 1);
    world.connect("oslo", "tokyo");
    world.settle();
}

#[test]
fn a_node_that_is_not_in_the_roster_is_turned_away() {
    let mut world = World::of(["oslo", "tokyo"]);
    let oslo = world.id("oslo");
    let stranger = NodeId([9; 32]);
    let from = world.at("oslo").said.len();
    world.input(oslo, |station, now| {
        station.replicator.handle_connected(now, stranger, PROTOCOL_VERSION)
    });
    assert_eq!(world.disconnects("oslo"), ["its node is not among the space's"]);
    assert_eq!(world.at("oslo").said.len(), from + 1, "it was told nothing");
    let pull = Frame::Pull { request: 1, budget: 1 << 20, wanted: Vec::new() }.encode();
    world.input(oslo, |station, now| station.replicator.handle_frame(now, stranger, &pull));
    assert_eq!(world.at("oslo").said.len(), from + 1, "and gets no answers");
}

#[test]
fn entries_that_wait_for_their_past_are_bounded_in_bytes() {
    let mut world = World::of(["oslo", "tokyo"]);
    let parcels = made_up(STRANGER, "tokyo", 200, 60_000);
    for parcel in &parcels[1..] {
        world.inject("tokyo", "oslo", Frame::Entries(vec![parcel.clone()]).encode());
    }
    let waiting = world.at("oslo").replicator.peers()[0].waiting;
    let bytes = waiting * 60_000;
    assert!(bytes > 3 << 20 && bytes <= 4 << 20, "{waiting} entries wait");

    world.cut("oslo", "tokyo");
    world.connect("oslo", "tokyo");
    assert_eq!(world.at("oslo").replicator.peers()[0].waiting, 0, "they die with the session");
    world.settle();
}

/// Numbers that no honest node says must not end in an overflow, an allocation or a false answer.
#[test]
fn hostile_numbers_do_no_harm() {
    let mut world = World::of(["oslo", "tokyo", "lima"]);
    let own = world.at("oslo").replicator.replica().writer().origin;
    let max = |origin| Held { origin, seq: u64::MAX, chain: [7; 8] };
    let held = vec![max(own), max(STRANGER), max(OriginId([0xef; 16]))];
    world.inject("tokyo", "oslo", Frame::Vector { whole: true, held }.encode());
    let all = |origin| Wanted { origin, after: 0, until: u64::MAX };
    let none = |origin| Wanted { origin, after: u64::MAX, until: 0 };
    let wanted = vec![all(own), none(own), all(STRANGER), none(STRANGER)];
    let pull = Frame::Pull { request: 7, budget: u32::MAX, wanted }.encode();
    world.inject("tokyo", "oslo", pull);
    world.inject("tokyo", "oslo", Frame::PullEnd { request: u32::MAX }.encode());
    let far = Parcel { seq: u64::MAX, ..made_up(STRANGER, "tokyo", 1, 0)[0].clone() };
    world.inject("tokyo", "oslo", Frame::Entries(vec![far]).encode());
    let ahead: Vec<u64> =
        world.at("oslo").replicator.peers().iter().map(|peer| peer.ahead).collect();
    assert!(ahead.contains(&u64::MAX), "it claims to hold that much: {ahead:?}");

    // And a claim to hold what was never said does not acknowledge a post.
    world.hold_writes("tokyo", true);
    world.hold_writes("lima", true);
    let command = world.ask("oslo", says("hello"), (2, 1_000));
    world.run_for(1_100);
    let outcome = format!("{:?}", world.at("oslo").answers[&command]);
    assert!(outcome.contains(r#"regions: ["oslo"]"#), "{outcome}");
    world.hold_writes("tokyo", false);
    world.hold_writes("lima", false);
    world.run_until("lima has it", |world| world.texts("lima").len() == 1);
}

/// Two runs of one origin, as a cloned disk under a reused id would make them.
#[test]
fn a_fork_is_noticed_where_the_branches_meet_and_nothing_is_overwritten() {
    let mut world = World::apart(["oslo", "clone", "tokyo", "lima"]);
    world.create("oslo");
    world.post("oslo", "before");
    world.connect("oslo", "tokyo");
    world.settle();
    let disk = world.at("oslo").disk.copy();
    let origin = world.at("oslo").replicator.replica().writer().origin;
    let clone = world.id("clone");
    let roster = world.at("oslo").roster.clone();
    let station = Station::on(disk, clone, "clone", roster, origin);
    world.stations.insert(clone, station);
    world.connect("clone", "lima");
    world.post("oslo", "one branch");
    world.post("clone", "the other branch");
    world.run_for(1_000);
    world.cut("oslo", "tokyo");
    world.cut("clone", "lima");

    world.connect("tokyo", "lima");
    world.run_for(minutes(1));
    let forked = |peer| Alarm::Forked { peer, origin, seq: 4 };
    let (tokyo, lima) = (world.id("tokyo"), world.id("lima"));
    assert_eq!(world.at("tokyo").alarms, [forked(lima)], "once, not at every heartbeat");
    assert_eq!(world.at("lima").alarms, [forked(tokyo)]);
    assert_eq!(world.texts("tokyo"), ["before", "one branch"]);
    assert_eq!(world.texts("lima"), ["before", "the other branch"]);
}

#[test]
fn a_divergence_at_an_equal_vector_raises_an_alarm() {
    let mut world = World::of(["oslo", "tokyo"]);
    world.post("oslo", "hello");
    world.settle();
    assert!(world.alarms().is_empty());

    let disk = world.at("tokyo").disk.clone();
    let row = tables::get::<SpaceRow>(&disk, &space()).expect("reads").expect("is there");
    let mut sum = row.sum;
    sum.add(&warbler_store::digest::RowHasher::of(space()).row(
        Table::Index,
        b"a row",
        b"that nobody wrote",
    ));
    let mut batch = Batch::default();
    tables::put(&mut batch, &space(), &SpaceRow { sum, ..row.clone() });
    disk.persist(&batch).expect("persists");
    world.restart("tokyo");
    world.connect("oslo", "tokyo");
    world.run_for(minutes(1));
    let (oslo, tokyo) = (world.id("oslo"), world.id("tokyo"));
    let (good, bad): (Digest, Digest) = (row.sum.digest(), sum.digest());
    let alarm = |peer, theirs, ours| Alarm::Diverged { peer, theirs, ours };
    assert_eq!(world.at("oslo").alarms, [alarm(tokyo, bad, good)], "once");
    assert_eq!(world.at("tokyo").alarms, [alarm(oslo, good, bad)]);
}

/// A rotten row stops neither posting nor the exchange of what is whole; the peer gets the entry
/// from another.
#[test]
fn a_damaged_body_is_not_sent_and_comes_from_another_peer() {
    let mut world = World::of(["oslo", "tokyo", "lima"]);
    world.cut("oslo", "lima");
    world.cut("tokyo", "lima");
    world.post("oslo", "hello");
    world.run_until("tokyo has it", |world| world.texts("tokyo").len() == 1);
    let disk = world.at("oslo").disk.clone();
    let direction = warbler_store::engine::Direction::Forward;
    let rows = disk.scan(Table::Bodies, &[], &[0xff; 80], direction);
    let keys: Vec<_> = rows.map(|row| row.expect("reads").0).collect();
    assert!(disk.flip_bit(Table::Bodies, &keys[0], 80));

    world.connect("oslo", "lima");
    world.run_for(5_000);
    assert_eq!(world.texts("lima"), [""; 0], "nothing is better than something else");
    let alarms = world.at("oslo").alarms.clone();
    let [Alarm::Damaged(what)] = &alarms[..] else { panic!("{alarms:?}") };
    assert!(what.contains("table `bodies` holds a value whose checksum does not fit"), "{what}");
    world.connect("tokyo", "lima");
    world.run_until("it comes from tokyo", |world| world.texts("lima") == ["hello"]);
    world.post("lima", "fine");
    world.run_until("and goes on", |world| world.texts("tokyo").len() == 2);
}
