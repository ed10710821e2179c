//! Stories of verifying: whatever is damaged is found and named, and nothing else is.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{Damage, Slice, Verification, conversations, verify};
use crate::engine::{Batch, Direction, Engine, Table, View};
use crate::entry::{
    Carried, Entry, EntryKind, Parcel, chain_digest, chain_link, chain_mark, chain_start,
};
use crate::id::{NodeId, OriginId};
use crate::projection::Share;
use crate::record::{Body, ContentType, Role};
use crate::replica::{Actor, Operation};
use crate::scene::{NOON, Node, conversation, event, name, space, world};
use crate::tables::{
    self, BodyKey, ConversationRow, LateRow, MessageKey, SweepRow, TimelineRow, Whose,
};
use crate::vector::VersionVector;

/// A store with rows of every kind: two regions wrote in it, some documents have snapshots, part
/// of the log is trimmed, a message and a person were erased, and an entry is in quarantine.
pub(crate) fn rich() -> Node {
    let (mut oslo, mut tokyo) = (Node::new(1), Node::new(2));
    oslo.create("general");
    tokyo.pull(&oslo);
    oslo.create("news");
    let first = oslo.post_keyed("general", "ada", "said twice", Some("key"), None);
    tokyo.now += 50;
    tokyo.post_keyed("general", "ada", "said twice", Some("key"), None);
    oslo.persist();
    tokyo.persist();
    oslo.pull(&tokyo);
    let react = |emoji: &str| Operation::React { message: first, emoji: name(emoji), on: true };
    oslo.operate("general", "bob", react("🐦"));
    let body = b"edited".to_vec();
    let edit = Operation::Edit { message: first, body, content_type: ContentType::default() };
    oslo.operate("general", "ada", edit);
    oslo.post_keyed("general", "bob", "an answer", None, Some(first));
    oslo.persist();
    oslo.snapshot();
    let half = oslo.replica.applied().clone();
    oslo.trim(&half);
    oslo.operate("general", "ada", Operation::Pin { message: first, on: true });
    oslo.operate("general", "ada", Operation::SetTitle(Some(b"a title".to_vec())));
    let member = Operation::SetMember { user: name("bob"), role: Some(Role::Member) };
    oslo.operate("general", "ada", member);
    let gone = oslo.post("news", "cleo", "to be erased");
    let hidden = oslo.post("news", "cleo", "to be hidden");
    oslo.persist();
    oslo.operate("news", "cleo", Operation::Erase { message: gone });
    oslo.operate("news", "cleo", Operation::Redact { message: hidden });
    let last = oslo.post("general", "ada", "the last word");
    oslo.operate("general", "ada", Operation::MarkRead { message: last });
    let actor = Actor { user: name("root"), admin: true };
    oslo.replica.erase_author(oslo.now, &actor, name("dora"), None).expect("erases");
    oslo.persist();
    tokyo.now = oslo.now - 1;
    tokyo.post("general", "bob", "said before, heard late");
    tokyo.persist();
    oslo.pull(&tokyo);
    take_strange(&mut oslo);
    oslo
}

/// Takes in an origin whose second entry is about `general` and says nothing that can be read.
fn take_strange(node: &mut Node) {
    let origin = OriginId([9; 16]);
    let mut digest = chain_start(space(), origin);
    let (id, nobody) = (conversation("general"), NodeId([9; 32]));
    let kinds = [
        EntryKind::Origin { node: nobody, region: name("lima"), started: NOON },
        EntryKind::Segment { conversation: id, ordinal: 0, change: b"no change".to_vec() },
    ];
    for (seq, kind) in (1..).zip(kinds) {
        let saw = VersionVector::default();
        let entry = Entry { depth: seq, saw, previous: chain_link(digest), kind };
        let bytes = entry.encode();
        digest = chain_digest(digest, &bytes);
        let body = Body { salt: [7; 8], bytes: b"words".to_vec() };
        let bodies = if seq == 2 { vec![Carried::Body(body)] } else { Vec::new() };
        let parcel = Parcel { origin, seq, entry: bytes, chain: chain_mark(digest), bodies };
        node.replica.apply(node.now, &parcel, entry, |_, _| true).expect("is held");
    }
    node.persist();
}

/// Rows that nothing else in the store tells of: this node's alone, what is yet to be done, and
/// the words of an entry that nobody could read.
fn is_unproven(table: Table, key: &[u8]) -> bool {
    let letter = key.first().copied();
    match table {
        Table::Index => letter == Some(LateRow::LETTER),
        Table::Meta => letter == Some(SweepRow::LETTER),
        Table::Bodies => BodyKey::quarantined_entry(key).is_some_and(|(it, _)| it.0 == [9; 16]),
        Table::Log | Table::Segments | Table::Timeline | Table::Erasures => false,
    }
}

#[test]
fn a_store_of_every_kind_of_row_has_nothing_to_find() {
    let node = rich();
    let mut kinds = BTreeSet::new();
    for (table, (key, _)) in node.rows() {
        let lettered = matches!(table, Table::Index | Table::Meta);
        kinds.insert((table, key.first().copied().filter(|_| lettered)));
    }
    let letters = |table| kinds.iter().filter(|(of, _)| *of == table).count();
    assert_eq!(letters(Table::Index), 10, "every letter of the index: {kinds:?}");
    assert_eq!(letters(Table::Meta), 6, "format, node, origins, quarantine, space, sweeps");
    let damage: Vec<String> = node.damage().iter().map(ToString::to_string).collect();
    assert_eq!(damage, Vec::<String>::new());
}

#[test]
fn a_flipped_bit_in_any_row_is_found_and_named() {
    let whole = rich();
    for (place, (table, (key, value))) in whole.rows().into_iter().enumerate() {
        let engine = whole.engine.copy();
        assert!(engine.flip_bit(table, &key, place * 7 % (value.len() * 8)));
        let mut found = Vec::new();
        verify(&*engine.view(), |slice| found.extend(slice.damage));
        let damage = found.first().unwrap_or_else(|| panic!("{table} {key:02x?}"));
        assert_eq!((damage.table, &damage.key), (table, &key), "{damage}");
        let Whose { space, conversation, entry } = Whose::of(table, &key);
        assert_eq!((damage.conversation, damage.entry), (conversation, entry));
        assert!(damage.space == space, "{damage}");
        // What is read of a damaged row elsewhere is not said again.
        assert!(found.len() <= 2, "{table} {found:?}");
    }
}

#[test]
fn a_row_that_is_gone_is_missed_whichever_it_is() {
    let whole = rich();
    for (table, (key, _)) in whole.rows() {
        let engine = whole.engine.copy();
        let mut batch = Batch::default();
        batch.delete(table, key.clone());
        engine.persist(&batch).expect("persists");
        let mut found = Vec::new();
        verify(&*engine.view(), |slice| found.extend(slice.damage));
        assert_eq!(found.is_empty(), is_unproven(table, &key), "{table} {key:02x?} {found:?}");
        let Whose { conversation, entry, .. } = Whose::of(table, &key);
        let near = |damage: &Damage| {
            conversation.is_some_and(|id| damage.conversation == Some(id))
                || entry.is_some_and(|entry| damage.entry == Some(entry))
                || (conversation, entry) == (None, None)
        };
        assert!(found.is_empty() || found.iter().any(near), "{table} {key:02x?} {found:?}");
    }
}

#[test]
fn two_values_that_changed_places_are_found() {
    let whole = rich();
    let rows = whole.rows();
    for pair in rows.windows(2) {
        let [(table, (key, value)), (other_table, (other_key, other_value))] = pair else {
            continue;
        };
        if table != other_table || value == other_value {
            continue;
        }
        let engine = whole.engine.copy();
        let mut batch = Batch::default();
        batch.put(*table, key.clone(), other_value.clone());
        batch.put(*table, other_key.clone(), value.clone());
        engine.persist(&batch).expect("persists");
        let mut found = Vec::new();
        verify(&*engine.view(), |slice| found.extend(slice.damage));
        for key in [key, other_key] {
            assert!(found.iter().any(|damage| damage.key == *key), "{table} {key:02x?}");
        }
    }
}

/// A row that is sealed well and says something else, as a fault of our own would leave it.
#[test]
fn a_row_that_says_something_else_is_found_though_its_checksum_fits() {
    let whole = rich();
    let id = conversation("general");
    let rewrite = |change: &dyn Fn(&mut Batch)| -> Vec<Damage> {
        let engine = whole.engine.copy();
        let mut batch = Batch::default();
        change(&mut batch);
        engine.persist(&batch).expect("persists");
        let mut found = Vec::new();
        verify(&*engine.view(), |slice| found.extend(slice.damage));
        found
    };
    let row: ConversationRow = tables::get(&whole.engine, &id).expect("reads").expect("is held");
    let counted = ConversationRow { messages: row.messages + 1, ..row.clone() };
    let found = rewrite(&|batch| tables::put(batch, &id, &counted));
    assert!(found[0].to_string().contains("the number of its messages"), "{found:?}");
    assert_eq!(found[0].conversation, Some(id));

    let (key, value) = whole
        .engine
        .scan(Table::Timeline, &id.0, &[0xff; 41], Direction::Forward)
        .next()
        .expect("a message")
        .expect("reads");
    let mut there: TimelineRow = tables::open(&key, &value).expect("reads");
    there.state.reactions.clear();
    let place = TimelineRow::parse(&key).expect("a place");
    let found = rewrite(&|batch| tables::put(batch, &place, &there));
    let says = |what: &str| found.iter().any(|damage| damage.why.contains(what));
    assert!(says("something else than the documents") && says("the sum of its rows"), "{found:?}");

    let words = Body { salt: [0; 8], bytes: b"other words".to_vec() };
    let found = rewrite(&|batch| tables::put(batch, &BodyKey::Shown(place), &words));
    assert!(found[0].why.contains("not those their record refers to"), "{found:?}");

    let erased = whole.page("news").into_iter().find(|message| message.state.erased);
    let erased = erased.expect("one was erased");
    let place = MessageKey {
        conversation: erased.conversation,
        front: erased.id.front(),
        identity: erased.identity,
    };
    let found = rewrite(&|batch| tables::put(batch, &BodyKey::Shown(place), &words));
    assert!(found[0].why.contains("erased, or of no record"), "{found:?}");
    assert_eq!(found.len(), 1);
}

#[test]
fn a_scrub_of_one_row_at_a_time_finds_what_a_walk_at_once_does() {
    let node = rich();
    let (table, (key, _)) = node.rows().swap_remove(40);
    assert!(node.engine.flip_bit(table, &key, 99));
    let mut verification = Verification::new();
    let (mut found, mut slices) = (Vec::new(), 0);
    while !verification.is_done() {
        found.extend(verification.step(&*node.engine.view(), 1).damage);
        slices += 1;
    }
    assert_eq!(found, node.damage());
    assert!(slices > node.rows().len(), "a slice a row, and some for the rest");
}

#[test]
fn a_conversation_in_many_shares_is_judged_like_one_in_one() {
    let node = rich();
    let id = conversation("general");
    let row: ConversationRow = tables::get(&node.engine, &id).expect("reads").expect("is held");
    let messages = tables::rows::<TimelineRow, _>(&node.engine, &id.0);
    let (key, _) = messages.last().expect("a message").expect("reads");
    let mut batch = Batch::default();
    batch.delete(Table::Timeline, key.clone());
    node.engine.persist(&batch).expect("persists");
    let view = node.engine.view();
    let found = |parts| {
        let mut slice = Slice::default();
        for part in 0..parts {
            conversations::check(&*view, space(), (id, &row), Share { part, parts }, &mut slice);
        }
        slice.damage.sort_by(|one, other| one.key.cmp(&other.key));
        slice.damage
    };
    assert!(found(1).iter().any(|damage| damage.key == key));
    assert_eq!(found(1), found(7));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn whatever_happens_leaves_nothing_to_find(events in prop::collection::vec(event(), 1..60)) {
        for node in world(&events) {
            let damage: Vec<String> = node.damage().iter().map(ToString::to_string).collect();
            prop_assert_eq!(damage, Vec::<String>::new());
        }
    }
}
