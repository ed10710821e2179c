//! Everything that a peer may send and no honest node writes: it is refused, by name, and leaves
//! no trace; the honest entry at the same place is still taken.

use automerge::legacy::{Key, ObjectId, OpId, OpType, SortedVec};
use automerge::{ActorId, ChangeHash, ExpandedChange, ObjType, ScalarValue};
use warbler_store::document::GENESIS;
use warbler_store::entry::{
    Entry, EntryKind, MAX_ENTRY_BYTES, Parcel, chain_digest, chain_link, chain_mark, chain_start,
};
use warbler_store::id::{ConversationId, Digest, Identity, NodeId, OriginId};
use warbler_store::record::{Body, Header, MAX_BODY_BYTES, MAX_DEPTH, RecordKey};

use crate::forge::{compressed, retold, rewritten};
use crate::node::{Node, keyed, name, nodes, says, space};
use crate::posting::split;

/// Oslo holds all that Tokyo wrote but the last entry, with two messages.
struct Scene {
    oslo: Node,
    good: Parcel,
    previous: Digest,
}

fn scene() -> Scene {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    tokyo.post(keyed("1", "one"));
    tokyo.persist();
    oslo.pull(tokyo);
    oslo.post(keyed("0", "from oslo"));
    oslo.persist();
    tokyo.pull(oslo);
    tokyo.post(keyed("2", "two"));
    tokyo.post(keyed("3", "three"));
    let good = tokyo.persist().expect("a batch").own.last().expect("an entry").clone();
    let oslo = both.remove(0);
    let previous = oslo.replica.chain(good.origin);
    Scene { oslo, good, previous }
}

impl Scene {
    fn retold(&self, tell: impl FnOnce(&mut Entry, &mut Vec<Body>)) -> Parcel {
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

    fn rewritten(&self, rewrite: impl FnOnce(&mut ExpandedChange)) -> Parcel {
        self.changed(|bytes| rewritten(bytes, rewrite))
    }

    /// The good entry with another header in its first record.
    fn headed(&self, head: impl FnOnce(Header) -> Vec<u8>) -> Parcel {
        self.rewritten(|change| {
            let OpType::Put(ScalarValue::Bytes(bytes)) = &mut change.operations[0].action else {
                panic!("a header was expected")
            };
            *bytes = head(Header::decode(bytes).expect("an honest header"));
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
    bad.bodies[0].bytes[1] ^= 4;
    scene.refuses(&bad, "record 0: its body is not the one it refers to");
    let mut bad = scene.good.clone();
    bad.bodies[1].salt[7] ^= 0x80;
    scene.refuses(&bad, "record 1: its body is not the one it refers to");
    let mut bad = scene.good.clone();
    bad.bodies.swap(0, 1);
    scene.refuses(&bad, "record 0: its body is not the one it refers to");
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
    let bad = retold(&own[0], start, |_, bodies| bodies.push(body("x")));
    scene.refuses(&bad, "an entry without posts came with bodies");
    scene.still_takes_the_good_entry();
}

fn body(text: &str) -> Body {
    Body { salt: [1; 8], bytes: text.as_bytes().to_vec() }
}

#[test]
fn a_change_that_is_not_a_plain_one_is_refused() {
    let mut scene = scene();
    let malformed = "not an uncompressed Automerge change";
    let bad = scene.changed(compressed);
    scene.refuses(&bad, "another magic number or chunk type");
    let bad = scene.changed(|_| Vec::new());
    scene.refuses(&bad, malformed);
    let bad = scene.changed(|bytes| bytes[..bytes.len() - 1].to_vec());
    scene.refuses(&bad, malformed);
    let bad = scene.changed(|bytes| [bytes, bytes].concat());
    scene.refuses(&bad, malformed);
    let length = scene.changed(<[u8]>::to_vec).entry.len();
    for place in 0..length.min(200) {
        let bad = scene.changed(|bytes| {
            let mut bytes = bytes.to_vec();
            let place = place % bytes.len();
            bytes[place] ^= 0x10;
            bytes
        });
        scene.refuses(&bad, malformed);
    }
    scene.still_takes_the_good_entry();
}

#[test]
fn a_change_of_another_actor_is_refused() {
    let mut scene = scene();
    let bad = scene.rewritten(|change| change.actor_id = ActorId::from(&[0xee; 16][..]));
    scene.refuses(&bad, "the change is by actor eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee, its entry by");
    scene.still_takes_the_good_entry();
}

#[test]
fn a_change_that_does_not_follow_what_is_held_is_refused() {
    let mut scene = scene();
    for seq in [1, 3, u64::from(u32::MAX)] {
        let bad = scene.rewritten(|change| change.seq = seq);
        scene.refuses(&bad, &format!("the change has number {seq}, the next of its actor is 2"));
    }
    let bad = scene.rewritten(|change| change.deps.push(ChangeHash([7; 32])));
    scene.refuses(&bad, "a change it depends on is not held: 0707");
    let bad = scene.rewritten(|change| change.deps.clear());
    scene.refuses(&bad, "its actor's last change");
    for start in [1, 40, 1 << 31, (1 << 32) - 1] {
        let bad = scene.rewritten(|change| {
            change.start_op = std::num::NonZeroU64::new(start).expect("above zero");
        });
        scene.refuses(&bad, &format!("operations begin at {start}"));
    }
    scene.still_takes_the_good_entry();
}

#[test]
fn a_change_that_does_more_than_write_new_records_is_refused() {
    let mut scene = scene();
    let more = "operation 0 does more than write a new scalar under the root";
    let bad = scene.rewritten(|change| change.operations[0].action = OpType::Make(ObjType::Map));
    scene.refuses(&bad, more);
    let earlier = OpId(1, ActorId::from(&[2; 16][..]));
    let bad = scene.rewritten(|change| {
        change.operations[0].pred = SortedVec::from(vec![earlier.clone()]);
    });
    scene.refuses(&bad, more);
    let bad = scene.rewritten(|change| {
        change.operations[0].action = OpType::Delete;
        change.operations[0].pred = SortedVec::from(vec![earlier.clone()]);
    });
    scene.refuses(&bad, more);
    let bad = scene.rewritten(|change| {
        change.operations[0].obj = ObjectId::Id(earlier.clone());
    });
    scene.refuses(&bad, more);
    let bad = scene.rewritten(|change| {
        change.operations[0].action = OpType::Put(ScalarValue::Counter(5.into()));
    });
    scene.refuses(&bad, more);
    let bad = scene.rewritten(|change| {
        change.operations[0].action = OpType::Put(ScalarValue::Str("header".into()));
    });
    scene.refuses(&bad, "record 0: it is no header");
    let bad = scene.rewritten(|change| change.operations.clear());
    scene.refuses(&bad, "a change of 0 operations");
    let bad = scene.rewritten(|change| {
        let one = change.operations[0].clone();
        change.operations = vec![one; 4097];
    });
    scene.refuses(&bad, "a change of 4097 operations");
    scene.still_takes_the_good_entry();
}

#[test]
fn a_record_written_twice_is_refused() {
    let mut scene = scene();
    let bad = scene.rewritten(|change| change.operations[1] = change.operations[0].clone());
    let bad = Parcel { bodies: vec![bad.bodies[0].clone(); 2], ..bad };
    scene.refuses(&bad, "operation 1 writes a key that an earlier one wrote");
    scene.still_takes_the_good_entry();
}

#[test]
fn a_record_under_a_key_that_is_not_its_own_is_refused() {
    let mut scene = scene();
    let depth = Entry::decode(&scene.good.entry).expect("a good entry").depth;
    let origin = scene.good.origin;
    let identity = Identity([5; 16]);
    for (key, why) in [
        (RecordKey { depth, origin: OriginId([1; 16]), identity }, "names another origin or depth"),
        (RecordKey { depth: depth + 1, origin, identity }, "names another origin or depth"),
        (RecordKey { depth: depth - 1, origin, identity }, "names another origin or depth"),
    ] {
        let bad = scene.rewritten(|change| {
            change.operations[0].key = Key::Map(key.to_text().into());
        });
        scene.refuses(&bad, why);
    }
    let bad = scene.rewritten(|change| change.operations[0].key = Key::Map("name".into()));
    scene.refuses(&bad, "record 0: record key: 4 letters");
    scene.still_takes_the_good_entry();
}

#[test]
fn a_header_that_is_not_in_its_only_form_is_refused() {
    let mut scene = scene();
    let bad = scene.headed(|_| vec![2, 0]);
    scene.refuses(&bad, "record 0: header kind: 2 is unknown");
    let bad = scene.headed(|header| [&header.encode()[..], &[0]].concat());
    scene.refuses(&bad, "record 0: 1 bytes left over behind header");
    let bad = scene.headed(|_| vec![1; 1_025]);
    scene.refuses(&bad, "record 0: a header of 1025 bytes");
    let bad = scene.headed(|header| {
        let mut bytes = header.encode();
        bytes[1] |= 0x40;
        bytes
    });
    scene.refuses(&bad, "record 0: header flags");
    let bad = scene.headed(|header| {
        let plain = header.encode();
        let (front, rest) = plain.split_at(2 + 8 + 1 + "ada".len());
        let mut bytes = [front, &[10], b"text/plain", rest].concat();
        bytes[1] |= 4;
        bytes
    });
    scene.refuses(&bad, "record 0: content type: the default is left out");
    scene.still_takes_the_good_entry();
}

#[test]
fn bodies_that_are_missing_surplus_or_empty_are_refused() {
    let mut scene = scene();
    let bad = scene.retold(|_, bodies| drop(bodies.pop()));
    scene.refuses(&bad, "it has not as many bodies as records");
    let bad = scene.retold(|_, bodies| bodies.clear());
    scene.refuses(&bad, "it has not as many bodies as records");
    let bad = scene.retold(|_, bodies| bodies.push(body("surplus")));
    scene.refuses(&bad, "it has not as many bodies as records");
    let empty = body("");
    let reference = empty.reference();
    let bad = scene.headed(|header| Header { body: reference, ..header }.encode());
    let bad = Parcel { bodies: vec![empty, bad.bodies[1].clone()], ..bad };
    scene.refuses(&bad, "record 0: its body is not the one it refers to");
    let many = vec![body(&"x".repeat(MAX_BODY_BYTES)); MAX_ENTRY_BYTES / MAX_BODY_BYTES];
    let bad = Parcel { bodies: many, ..scene.good.clone() };
    scene.refuses(&bad, "at most 1048576 are allowed");
    scene.still_takes_the_good_entry();
}

#[test]
fn an_entry_for_a_place_that_cannot_be_is_refused() {
    let mut scene = scene();
    for ordinal in [2, 1_000, u32::MAX] {
        let bad = scene.retold(|entry, _| {
            if let EntryKind::Segment { ordinal: held, .. } = &mut entry.kind {
                *held = ordinal;
            }
        });
        scene.refuses(&bad, "it skips a segment");
    }
    let bad = scene.retold(|entry, _| {
        if let EntryKind::Segment { conversation, .. } = &mut entry.kind {
            *conversation = ConversationId([7; 16]);
        }
    });
    scene.refuses(&bad, "it posts in an unknown conversation");
    let bad = scene.retold(|entry, bodies| {
        if let EntryKind::Segment { change, .. } = &entry.kind {
            let change = change.clone();
            entry.kind = EntryKind::Conversation { name: name("random"), incarnation: 1, change };
            bodies.clear();
        }
    });
    scene.refuses(&bad, "an incarnation above 0 without a retirement");
    let bad = scene.retold(|entry, bodies| {
        if let EntryKind::Segment { change, .. } = &entry.kind {
            let change = change.clone();
            entry.kind = EntryKind::Conversation { name: name("random"), incarnation: 0, change };
            bodies.clear();
        }
    });
    scene.refuses(&bad, "a conversation begins with its access, `open`");
    scene.still_takes_the_good_entry();
}

#[test]
fn an_entry_of_an_unknown_kind_or_version_is_refused() {
    let mut scene = scene();
    for (place, value, why) in
        [(0, 2, "entry version: 2 is unknown"), (1, 9, "entry kind: 9 is unknown")]
    {
        let mut bad = scene.good.clone();
        bad.entry[place] = value;
        bad.chain = chain_mark(chain_digest(scene.previous, &bad.entry));
        scene.refuses(&bad, why);
    }
    scene.still_takes_the_good_entry();
}
