//! Everything that a peer may send and no honest node writes. What is the fault of whoever brings
//! an entry is refused, by name, and leaves no trace; the honest entry at the same place is still
//! taken. What is the fault of the entry itself is quarantined: held, passed on whole, shown
//! nowhere, and everything else goes on.

use std::sync::Arc;

use automerge::ExpandedChange;
use automerge::legacy::{ObjectId, OpId, OpType, SortedVec};
use automerge::{ActorId, ObjType, ScalarValue};
use warbler_store::document::{Change, ChangeHash, GENESIS, Scalar};
use warbler_store::engine::MemoryEngine;
use warbler_store::entry::{
    Carried, Entry, EntryKind, MAX_ENTRY_BYTES, Parcel, chain_digest, chain_link, chain_mark,
    chain_start,
};
use warbler_store::id::{ConversationId, Digest, Identity, NodeId, OriginId};
use warbler_store::record::{Body, Header, MAX_BODY_BYTES, MAX_DEPTH, RecordKey};
use warbler_store::replica::Taken;

use crate::forge::{compressed, retold, reworded, rewritten};
use crate::node::{Node, ROOMY, keyed, name, says, space};

/// Oslo holds all that Tokyo wrote but the last entry, with two messages.
struct Scene {
    oslo: Node,
    disk: MemoryEngine,
    good: Parcel,
    previous: Digest,
}

fn scene() -> Scene {
    let disk = MemoryEngine::new();
    let mut oslo = Node::on(Arc::new(disk.clone()), 1, ROOMY);
    let mut tokyo = Node::new(2);
    oslo.create("general");
    oslo.persist();
    tokyo.pull(&oslo);
    tokyo.post(keyed("1", "one"));
    tokyo.persist();
    oslo.pull(&tokyo);
    oslo.post(keyed("0", "from oslo"));
    oslo.persist();
    tokyo.pull(&oslo);
    tokyo.post(keyed("2", "two"));
    tokyo.post(keyed("3", "three"));
    let good = tokyo.persist().expect("a batch").own.last().expect("an entry").clone();
    let previous = oslo.replica.chain(good.origin);
    Scene { oslo, disk, good, previous }
}

/// Whether the conversation `general` may lack something, by what readers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum General {
    Damaged,
    Whole,
}

impl Scene {
    fn retold(&self, tell: impl FnOnce(&mut Entry, &mut Vec<Carried>)) -> Parcel {
        retold(&self.good, self.previous, tell)
    }

    /// The good entry with another change.
    fn changed(&self, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Parcel {
        self.retold(|entry, _| {
            let EntryKind::Segment { change: bytes, .. } = &mut entry.kind else {
                panic!("a segment's entry was expected")
            };
            *bytes = change(bytes);
        })
    }

    /// With a change that only Automerge can write.
    fn rewritten(&self, rewrite: impl FnOnce(&mut ExpandedChange)) -> Parcel {
        self.changed(|bytes| rewritten(bytes, rewrite))
    }

    /// With a change in the only form there is, that says something else.
    fn reworded(&self, reword: impl FnOnce(&mut Change)) -> Parcel {
        self.changed(|bytes| reworded(bytes, reword))
    }

    /// The good entry with another header in its first record.
    fn headed(&self, head: impl FnOnce(Header) -> Vec<u8>) -> Parcel {
        self.reworded(|change| {
            let scalar = &mut change.writes[0].1;
            let header = Header::decode(scalar.as_bytes()).expect("an honest header");
            *scalar = Scalar::Bytes(head(header));
        })
    }

    fn refuses(&mut self, bad: &Parcel, why: &str) {
        self.refuses_where(bad, true, why);
    }

    fn refuses_where(&mut self, bad: &Parcel, allowed: bool, why: &str) {
        let before = self.oslo.state();
        let said = match Entry::decode(&bad.entry) {
            Err(error) => error.to_string(),
            Ok(entry) => {
                let applied = self.oslo.replica.apply(self.oslo.clock, bad, entry, |_, _| allowed);
                applied.expect_err(why).to_string()
            }
        };
        assert!(said.contains(why), "`{why}` was expected, but it said `{said}`");
        assert!(!self.oslo.replica.has_work(), "after `{why}`");
        assert_eq!(*self.oslo.replica.applied(), before.vector, "after `{why}`");
        assert_eq!(self.oslo.state(), before, "after `{why}`");
    }

    /// Takes the entry in on a copy of Oslo's disk. It must be held and passed on as it came, show
    /// nowhere, and stop nothing.
    fn quarantines(&self, bad: &Parcel, general: General, why: &str) {
        let mut oslo = Node::on(Arc::new(self.disk.copy()), 3, ROOMY);
        let before = oslo.state();
        let taken = oslo.take(bad).expect("the entry is not the bringer's fault");
        let Taken::Quarantined(said) = taken else { panic!("`{why}` was expected: {taken:?}") };
        assert!(said.contains(why), "`{why}` was expected, but it said `{said}`");
        oslo.create("elsewhere");
        oslo.post(says("and on"));
        oslo.persist();
        assert_eq!(oslo.texts("general"), ["one", "from oslo", "and on"], "after `{why}`");
        assert_eq!(oslo.state().vector.get(bad.origin), before.vector.get(bad.origin) + 1);
        let damaged = general == General::Damaged;
        let listed = |node: &Node| node.reader.conversation(&name("general")).expect("reads");
        assert_eq!(listed(&oslo).damaged, damaged, "after `{why}`");
        let elsewhere = oslo.reader.conversation(&name("elsewhere")).expect("reads");
        assert!(!elsewhere.damaged, "after `{why}`");

        let mut third = Node::new(9);
        third.pull(&oslo);
        third.persist();
        assert_eq!(third.state(), oslo.state(), "others judge alike: `{why}`");
        assert_eq!(third.replica.durable(), oslo.replica.durable(), "after `{why}`");
        assert_ne!(third.replica.durable().quarantine, before.quarantine);
        let passed = |node: &Node| node.parcels().into_iter().find(|one| one.chain == bad.chain);
        assert_eq!(passed(&third).as_ref(), Some(bad), "passed on as it came: `{why}`");
        oslo.restart();
        assert_eq!(listed(&oslo).damaged, damaged, "also after a restart: `{why}`");
        assert_eq!(oslo.parcels(), third.parcels());
    }

    fn still_takes_the_good_entry(mut self) {
        self.oslo.take(&self.good).expect("the good entry");
        self.oslo.post(says("and on"));
        self.oslo.persist();
        assert_eq!(self.oslo.texts("general"), ["one", "from oslo", "two", "three", "and on"]);
        let mut other = Node::new(9);
        other.pull(&self.oslo);
        other.persist();
        assert_eq!(other.state(), self.oslo.state(), "and others can take it from here");
    }
}

#[test]
fn a_flipped_bit_anywhere_in_an_entry_is_found() {
    let mut scene = scene();
    for place in 0..scene.good.entry.len() {
        let mut bad = scene.good.clone();
        bad.entry[place] ^= 1 << (place % 8);
        scene.refuses(&bad, "");
    }
    let mut bad = scene.good.clone();
    bad.chain[3] ^= 1;
    scene.refuses(&bad, "do not have the chain digest that came with them");
    scene.still_takes_the_good_entry();
}

/// Depth, region and start time of an origin are in no change with a checksum of its own.
#[test]
fn a_flipped_bit_anywhere_in_an_origin_record_is_found() {
    let mut tokyo = Node::new(2);
    tokyo.create("general");
    let record = tokyo.persist().expect("a batch").own[0].clone();
    let mut oslo = Node::new(1);
    for bit in 0..record.entry.len() * 8 {
        let mut bad = record.clone();
        bad.entry[bit / 8] ^= 1 << (bit % 8);
        if let Ok(entry) = Entry::decode(&bad.entry) {
            oslo.replica.apply(oslo.clock, &bad, entry, |_, _| true).expect_err("a flipped bit");
        }
    }
    assert!(!oslo.replica.has_work());
    oslo.pull(&tokyo);
}

#[test]
fn a_flipped_bit_anywhere_in_a_body_is_found() {
    let mut scene = scene();
    let mut bad = scene.good.clone();
    body_of(&mut bad, 0).bytes[1] ^= 4;
    scene.refuses(&bad, "body 0: it is not the one that is referred to");
    let mut bad = scene.good.clone();
    body_of(&mut bad, 1).salt[7] ^= 0x80;
    scene.refuses(&bad, "body 1: it is not the one that is referred to");
    let mut bad = scene.good.clone();
    bad.bodies.swap(0, 1);
    scene.refuses(&bad, "body 0: it is not the one that is referred to");
    scene.still_takes_the_good_entry();
}

#[test]
fn an_entry_at_a_wrong_place_of_its_log_is_refused() {
    let mut scene = scene();
    let bad = scene.retold(|entry, _| entry.previous[0] ^= 1);
    scene.refuses(&bad, "it does not continue its origin's chain");
    let bad = Parcel { seq: scene.good.seq + 1, ..scene.good.clone() };
    scene.refuses(&bad, "its causal past is not held: Waits");
    let bad = Parcel { seq: scene.good.seq - 1, ..scene.good.clone() };
    scene.refuses(&bad, "its causal past is not held: Held");
    let bad = Parcel { seq: u64::MAX, ..scene.good.clone() };
    scene.refuses(&bad, "its causal past is not held: Waits");
    let bad = Parcel { seq: 0, ..scene.good.clone() };
    scene.refuses(&bad, "its causal past is not held: Held");
    let bad = Parcel { origin: OriginId([0xee; 16]), ..scene.good.clone() };
    scene.refuses(&bad, "its causal past is not held: Waits");
    let record = Node::new(0xc0).first_entry();
    let bad = retold(&record, chain_start(space(), GENESIS), |entry, _| {
        entry.previous = chain_link(chain_start(space(), GENESIS));
    });
    let bad = Parcel { origin: GENESIS, ..bad };
    scene.refuses(&bad, "its origin is the one that begins every document");
    let own = scene.oslo.replica.writer().origin;
    let next = scene.oslo.replica.applied().get(own) + 1;
    let bad = Parcel { origin: own, seq: next, ..scene.good.clone() };
    scene.refuses(&bad, "it claims to be of this node's own run");
    scene.still_takes_the_good_entry();
}

#[test]
fn an_entry_that_has_seen_what_is_not_here_waits() {
    let mut scene = scene();
    let unknown = OriginId([0xee; 16]);
    let bad = scene.retold(|entry, _| entry.saw.raise(unknown, 3));
    scene.refuses(&bad, "its causal past is not held: Waits");
    let own = scene.oslo.replica.writer().origin;
    let bad = scene.retold(|entry, _| entry.saw.raise(own, 1_000));
    scene.refuses(&bad, "its causal past is not held: Waits");
    scene.still_takes_the_good_entry();
}

#[test]
fn a_depth_that_does_not_follow_is_refused() {
    let mut scene = scene();
    let depth = scene.oslo.replica.counts().depth;
    for (bad, why) in [
        (depth + 2, "is not above"),
        (MAX_DEPTH, "is not above"),
        (1, "is not above"),
        (0, "depth: 0 is out of range"),
        (MAX_DEPTH + 1, "is out of range"),
    ] {
        let bad = scene.retold(|entry, _| entry.depth = bad);
        scene.refuses(&bad, why);
    }
    scene.still_takes_the_good_entry();
}

#[test]
fn an_origin_record_stands_first_and_only_there() {
    let mut scene = scene();
    let record = EntryKind::Origin { node: NodeId([2; 32]), region: name("oslo"), started: 0 };
    let bad = scene.retold(|entry, bodies| {
        entry.kind = record.clone();
        bodies.clear();
    });
    scene.refuses(&bad, "an origin record stands at seq 1, and only there");

    let mut tokyo = Node::new(7);
    tokyo.create("random");
    let own = tokyo.persist().expect("a batch").own.clone();
    let start = chain_start(space(), own[0].origin);
    let bad = retold(&own[1], start, |entry, _| {
        entry.previous.copy_from_slice(&start.0[..16]);
        entry.depth = 1;
    });
    let bad = Parcel { seq: 1, ..bad };
    scene.refuses(&bad, "an origin record stands at seq 1, and only there");
    scene.refuses_where(&own[0], false, "its node or region is not in the space");
    let bad = retold(&own[0], start, |_, bodies| bodies.push(Carried::Body(body("x"))));
    scene.refuses(&bad, "an entry without records came with bodies");
    scene.still_takes_the_good_entry();
}

fn body(text: &str) -> Body {
    Body { salt: [1; 8], bytes: text.as_bytes().to_vec() }
}

fn body_of(parcel: &mut Parcel, index: usize) -> &mut Body {
    match &mut parcel.bodies[index] {
        Carried::Body(body) => body,
        Carried::Erased(row) => panic!("a body was expected: {row:?}"),
    }
}

/// What every change that is not in the only form is said to be.
const MALFORMED: &str = "not a change of the known form";

#[test]
fn a_change_that_is_not_a_plain_one_is_quarantined() {
    let scene = scene();
    let bad = scene.changed(compressed);
    scene.quarantines(&bad, General::Damaged, "not an uncompressed change");
    let bad = scene.changed(|_| Vec::new());
    scene.quarantines(&bad, General::Damaged, MALFORMED);
    let bad = scene.changed(|bytes| bytes[..bytes.len() - 1].to_vec());
    scene.quarantines(&bad, General::Damaged, MALFORMED);
    let bad = scene.changed(|bytes| [bytes, bytes].concat());
    scene.quarantines(&bad, General::Damaged, MALFORMED);
    let mut length = 0;
    scene.changed(|bytes| {
        length = bytes.len();
        bytes.to_vec()
    });
    for place in 0..length {
        let bad = scene.changed(|bytes| {
            let mut bytes = bytes.to_vec();
            bytes[place] ^= 0x10;
            bytes
        });
        scene.quarantines(&bad, General::Damaged, MALFORMED);
    }
    scene.still_takes_the_good_entry();
}

#[test]
fn a_change_of_another_actor_is_quarantined() {
    let scene = scene();
    let bad = scene.reworded(|change| change.actor = OriginId([0xee; 16]));
    let why = "the change is by actor eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee, its entry by";
    scene.quarantines(&bad, General::Damaged, why);
    let bad = scene.rewritten(|change| change.actor_id = ActorId::from(&[0xee; 7][..]));
    scene.quarantines(&bad, General::Damaged, "actor: not 16 bytes");
    scene.still_takes_the_good_entry();
}

#[test]
fn a_change_that_does_not_follow_what_is_held_is_quarantined() {
    let scene = scene();
    for seq in [1, 3, u64::from(u32::MAX)] {
        let bad = scene.reworded(|change| change.seq = seq);
        let why = format!("the change has number {seq}, the next of its actor is 2");
        scene.quarantines(&bad, General::Damaged, &why);
    }
    let bad = scene.reworded(|change| {
        change.deps.push(ChangeHash([7; 32]));
        change.deps.sort_unstable();
    });
    scene.quarantines(&bad, General::Damaged, "a change it depends on is not held: 0707");
    let bad = scene.reworded(|change| change.deps.clear());
    scene.quarantines(&bad, General::Damaged, "its actor's last change");
    for start in [1, 40, 1 << 31] {
        let bad = scene.reworded(|change| change.start_op = start);
        scene.quarantines(&bad, General::Damaged, &format!("operations begin at {start}"));
    }
    for start in [0, (1 << 31) + 1, (1 << 32) - 1, u64::MAX >> 1] {
        let bad = scene.reworded(|change| change.start_op = start);
        scene.quarantines(&bad, General::Damaged, "a counter that is out of range");
    }
    scene.still_takes_the_good_entry();
}

/// The dependencies of a change have one order, or it would have several hashes.
#[test]
fn a_change_whose_dependencies_are_out_of_order_is_quarantined() {
    let scene = scene();
    let bad = scene.reworded(|change| {
        change.deps.push(ChangeHash([0; 32]));
        change.deps.sort_unstable();
        change.deps.reverse();
    });
    scene.quarantines(&bad, General::Damaged, "dependencies: out of order");
    scene.still_takes_the_good_entry();
}

#[test]
fn a_change_that_does_more_than_write_new_records_is_quarantined() {
    let scene = scene();
    let quarantines = |bad: &Parcel| scene.quarantines(bad, General::Damaged, MALFORMED);
    let bad = scene.rewritten(|change| change.operations[0].action = OpType::Make(ObjType::Map));
    quarantines(&bad);
    let earlier = OpId(1, ActorId::from(&[2; 16][..]));
    let bad = scene.rewritten(|change| {
        change.operations[0].pred = SortedVec::from(vec![earlier.clone()]);
    });
    quarantines(&bad);
    let bad = scene.rewritten(|change| {
        change.operations[0].action = OpType::Delete;
        change.operations[0].pred = SortedVec::from(vec![earlier.clone()]);
    });
    quarantines(&bad);
    let bad = scene.rewritten(|change| {
        change.operations[0].obj = ObjectId::Id(earlier.clone());
    });
    quarantines(&bad);
    let bad = scene.rewritten(|change| {
        change.operations[0].action = OpType::Put(ScalarValue::Counter(5.into()));
    });
    quarantines(&bad);
    let bad = scene.rewritten(|change| change.message = Some("hidden words".to_owned()));
    quarantines(&bad);
    let bad = scene.rewritten(|change| change.time = 7);
    quarantines(&bad);
    let bad = scene.rewritten(|change| change.extra_bytes = b"hidden words".to_vec());
    quarantines(&bad);
    let bad = scene.rewritten(|change| change.operations.clear());
    quarantines(&bad);
    let bad = scene.rewritten(|change| {
        let one = change.operations[0].clone();
        change.operations = vec![one; 4097];
    });
    quarantines(&bad);
    let bad = scene.reworded(|change| change.writes[0].1 = Scalar::Text("header".to_owned()));
    scene.quarantines(&bad, General::Damaged, "record 0: it is no record");
    scene.still_takes_the_good_entry();
}

#[test]
fn a_record_written_twice_is_quarantined() {
    let scene = scene();
    let bad = scene.reworded(|change| change.writes[1] = change.writes[0].clone());
    scene.quarantines(&bad, General::Damaged, "key: written twice");
    let bad = scene.rewritten(|change| change.operations[1] = change.operations[0].clone());
    scene.quarantines(&bad, General::Damaged, MALFORMED);
    scene.still_takes_the_good_entry();
}

#[test]
fn a_record_under_a_key_that_is_not_its_own_is_quarantined() {
    let scene = scene();
    let depth = Entry::decode(&scene.good.entry).expect("a good entry").depth;
    let origin = scene.good.origin;
    let identity = Identity([5; 16]);
    for key in [
        RecordKey { depth, origin: OriginId([1; 16]), identity },
        RecordKey { depth: depth + 1, origin, identity },
        RecordKey { depth: depth - 1, origin, identity },
    ] {
        let bad = scene.reworded(|change| change.writes[0].0 = key.to_text());
        scene.quarantines(
            &bad,
            General::Damaged,
            "record 0: its key names another origin or depth",
        );
    }
    let bad = scene.reworded(|change| change.writes[0].0 = "name".to_owned());
    scene.quarantines(&bad, General::Damaged, "record 0: record key: 4 letters");
    scene.still_takes_the_good_entry();
}

#[test]
fn a_header_that_is_not_in_its_only_form_is_quarantined() {
    let scene = scene();
    let bad = scene.headed(|_| vec![9, 0]);
    scene.quarantines(&bad, General::Damaged, "record 0: record kind: 9 is unknown");
    let bad = scene.headed(|header| [&header.encode()[..], &[0]].concat());
    scene.quarantines(&bad, General::Damaged, "record 0: 1 bytes left over behind header");
    let bad = scene.headed(|_| vec![1; 1_025]);
    scene.quarantines(&bad, General::Damaged, "record 0: a record of 1025 bytes");
    let bad = scene.headed(|header| {
        let mut bytes = header.encode();
        bytes[1] |= 0x40;
        bytes
    });
    scene.quarantines(&bad, General::Damaged, "record 0: header flags");
    let bad = scene.headed(|header| {
        let plain = header.encode();
        let (front, rest) = plain.split_at(2 + 8 + 1 + "ada".len());
        let mut bytes = [front, &[10], b"text/plain", rest].concat();
        bytes[1] |= 4;
        bytes
    });
    scene.quarantines(&bad, General::Damaged, "record 0: content type: the default is left out");
    let reference = body("").reference();
    let bad = scene.headed(|header| Header { body: reference, ..header }.encode());
    scene.quarantines(&bad, General::Damaged, "record 0: it refers to an empty body");
    scene.still_takes_the_good_entry();
}

#[test]
fn bodies_that_are_missing_or_surplus_are_refused() {
    let mut scene = scene();
    let count = "it has not as many bodies as its records refer to";
    let bad = scene.retold(|_, bodies| drop(bodies.pop()));
    scene.refuses(&bad, count);
    let bad = scene.retold(|_, bodies| bodies.clear());
    scene.refuses(&bad, count);
    let bad = scene.retold(|_, bodies| bodies.push(Carried::Body(body("surplus"))));
    scene.refuses(&bad, count);
    let large = Carried::Body(body(&"x".repeat(MAX_BODY_BYTES)));
    let many = vec![large; MAX_ENTRY_BYTES / MAX_BODY_BYTES];
    let bad = Parcel { bodies: many, ..scene.good.clone() };
    scene.refuses(&bad, "at most 1048576 are allowed");
    scene.still_takes_the_good_entry();
}

#[test]
fn an_entry_for_a_place_that_cannot_be_is_quarantined() {
    let scene = scene();
    for ordinal in [2, 1_000, u32::MAX] {
        let bad = scene.retold(|entry, _| {
            if let EntryKind::Segment { ordinal: held, .. } = &mut entry.kind {
                *held = ordinal;
            }
        });
        scene.quarantines(&bad, General::Damaged, "it skips a segment");
    }
    let bad = scene.retold(|entry, _| {
        if let EntryKind::Segment { conversation, .. } = &mut entry.kind {
            *conversation = ConversationId([7; 16]);
        }
    });
    scene.quarantines(&bad, General::Whole, "it writes in an unknown conversation");
    for incarnation in [0, 1] {
        let bad = scene.retold(|entry, _| {
            if let EntryKind::Segment { change, .. } = &entry.kind {
                let change = change.clone();
                let name = name("random");
                entry.kind = EntryKind::Conversation { name, incarnation, change };
            }
        });
        scene.quarantines(&bad, General::Whole, "setting 0: setting kind: 1 is unknown");
    }
    scene.still_takes_the_good_entry();
}

#[test]
fn an_entry_of_an_unknown_version_is_refused_and_of_an_unknown_kind_quarantined() {
    let mut scene = scene();
    let told = |scene: &Scene, place: usize, value: u8| {
        let mut bad = scene.good.clone();
        bad.entry[place] = value;
        bad.chain = chain_mark(chain_digest(scene.previous, &bad.entry));
        bad
    };
    let bad = told(&scene, 0, 2);
    scene.refuses(&bad, "entry version: 2 is unknown");
    let bad = told(&scene, 1, 0);
    scene.refuses(&bad, "no entry has kind 0");
    let bad = told(&scene, 1, 9);
    scene.refuses(&bad, "an entry without records came with bodies");
    let bad = Parcel { bodies: Vec::new(), ..bad };
    scene.quarantines(&bad, General::Whole, "entries of kind 9 are not known here");
    scene.still_takes_the_good_entry();
}
