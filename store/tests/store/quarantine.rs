//! Poisoned entries with a proper chain: each is held and passed on, shows nowhere, stops nothing
//! and kills nobody.

use std::sync::Arc;

use warbler_store::engine::MemoryEngine;
use warbler_store::entry::{Carried, EntryKind, Parcel};
use warbler_store::id::{ConversationId, Front, Identity};
use warbler_store::record::{Body, ContentType, Edit, Header, Reaction, Redaction, Statement};
use warbler_store::replica::Taken;
use warbler_store::vector::VersionVector;

use crate::forge::Liar;
use crate::node::{Node, ROOMY, name, node, says, space};

fn id_of(conversation: &str) -> ConversationId {
    ConversationId::of(space(), &name(conversation), 0)
}

fn at(millis: u64) -> Front {
    Front { millis, counter: 0 }
}

fn body(text: &str) -> Body {
    Body { salt: [1; 8], bytes: text.as_bytes().to_vec() }
}

const POSTED: Identity = Identity([5; 16]);

fn post(text: &str) -> (Identity, Statement, Option<Body>) {
    let body = body(text);
    let header = Header {
        front: at(1_000),
        author: name("mallory"),
        content_type: ContentType::default(),
        reply_to: None,
        thread: None,
        body: body.reference(),
    };
    (POSTED, Statement::Post(header), Some(body))
}

fn edit(target: Identity, front: Front, text: &str) -> (Identity, Statement, Option<Body>) {
    let body = body(text);
    let (editor, content_type) = (name("mallory"), ContentType::default());
    let edit = Edit { target, front, editor, content_type, body: body.reference() };
    of(Statement::Edit(edit), Some(body))
}

fn of(statement: Statement, body: Option<Body>) -> (Identity, Statement, Option<Body>) {
    (statement.identity().expect("a deed"), statement, body)
}

fn reaction(target: Identity) -> (Identity, Statement, Option<Body>) {
    let (user, emoji) = (name("mallory"), name("🐦"));
    of(Statement::Reaction(Reaction { target, user, emoji, on: true }), None)
}

fn redaction(target: Identity) -> (Identity, Statement, Option<Body>) {
    of(Statement::Redaction(Redaction { target, front: at(2_000), by: name("mallory") }), None)
}

/// An entry with these records in `general`.
fn told(liar: &mut Liar, said: Vec<(Identity, Statement, Option<Body>)>) -> Parcel {
    let bodies = said.iter().filter_map(|(.., body)| body.clone()).map(Carried::Body).collect();
    let records = said.into_iter().map(|(identity, said, _)| (identity, said.encode())).collect();
    liar.writes((id_of("general"), 0), records, bodies)
}

/// A liar says this in `general`, then something honest elsewhere.
fn is_quarantined(said: Vec<(Identity, Statement, Option<Body>)>, why: &str) {
    let mut oslo = node();
    oslo.create("random");
    oslo.post(says("hello"));
    oslo.persist();
    let (mut liar, record) = Liar::new(0xc0);
    oslo.take(&record).expect("is accepted");
    liar.sees(&oslo);
    let bad = told(&mut liar, said);
    let taken = oslo.take(&bad).expect("is held");
    let Taken::Quarantined(reason) = taken else { panic!("`{why}` was expected: {taken:?}") };
    assert!(reason.contains(why), "`{why}` was expected, but it said `{reason}`");
    let elsewhere = liar.says(id_of("random"), (at(3_000), POSTED), body("elsewhere"));
    assert_eq!(oslo.take(&elsewhere).expect("is accepted"), Taken::Applied);
    oslo.persist();
    assert_eq!(oslo.texts("general"), ["hello"]);
    assert_eq!(oslo.texts("random"), ["elsewhere"]);
    let damaged = |node: &Node, conversation| {
        node.reader.conversation(&name(conversation)).expect("reads").damaged
    };
    assert!(damaged(&oslo, "general") && !damaged(&oslo, "random"));

    let mut third = Node::new(9);
    third.pull_shuffled(&oslo, usize::MAX, 3);
    third.persist();
    assert_eq!(third.replica.durable(), oslo.replica.durable());
    assert_eq!(third.state(), oslo.state());
    assert!(third.parcels() == oslo.parcels(), "passed on as it came");
    oslo.snapshot();
    oslo.persist();
    let all = oslo.replica.durable().vector.clone();
    oslo.replica.trim(&all, 100).expect("what is in quarantine is passed over");
    oslo.persist();
    let origins = oslo.reader.origins().expect("reads");
    assert_eq!(origins[&bad.origin].trimmed, bad.seq - 1, "it stays in the log");
    third.restart();
    third.post(says("and on"));
    third.persist();
    oslo.pull(&third);
    oslo.persist();
    assert_eq!(oslo.state(), third.state());
}

#[test]
fn what_is_done_to_a_message_that_is_not_there_is_quarantined() {
    let missing = Identity([7; 16]);
    for said in [edit(missing, at(2_000), "x"), reaction(missing), redaction(missing)] {
        is_quarantined(vec![said], "which is not here");
    }
}

/// Records take effect in their order, so this one would find no message.
#[test]
fn what_is_done_to_a_message_before_its_post_in_an_entry_is_quarantined() {
    for said in [edit(POSTED, at(2_000), "x"), reaction(POSTED), redaction(POSTED)] {
        is_quarantined(vec![said, post("hi")], "which is not here");
    }
}

/// An erasure by time could cover its words and not the message that shows them.
#[test]
fn an_edit_that_is_older_than_its_message_is_quarantined() {
    for front in [at(0), at(999), at(1_000)] {
        let said = vec![post("hi"), edit(POSTED, front, "x")];
        is_quarantined(said, "before it was posted");
    }
}

#[test]
fn a_deed_under_a_key_that_is_not_its_own_is_quarantined() {
    for (_, statement, body) in [edit(POSTED, at(2_000), "x"), reaction(POSTED), redaction(POSTED)]
    {
        let said = vec![post("hi"), (Identity([9; 16]), statement, body)];
        is_quarantined(said, "record 1: its key is not that of what it says");
    }
}

#[test]
fn deeds_that_follow_their_post_in_an_entry_are_applied() {
    let mut oslo = node();
    let (mut liar, record) = Liar::new(0xc0);
    oslo.take(&record).expect("is accepted");
    let said = vec![post("hi"), edit(POSTED, at(2_000), "ho"), reaction(POSTED)];
    assert_eq!(oslo.take(&told(&mut liar, said)).expect("is accepted"), Taken::Applied);
    oslo.persist();
    assert_eq!(oslo.texts("general"), ["ho"]);
}

/// A later version writes what we cannot read: it waits here, goes on to others, and its origin's
/// other entries are read.
#[test]
fn an_entry_of_an_unknown_kind_is_held_and_passed_on_and_the_rest_goes_on() {
    let disk = MemoryEngine::new();
    let mut oslo = Node::on(Arc::new(disk.clone()), 1, ROOMY);
    oslo.create("general");
    oslo.persist();
    let (mut liar, record) = Liar::new(0xc0);
    oslo.take(&record).expect("is accepted");
    let kind = EntryKind::Unknown { kind: 99, content: b"from the future".to_vec() };
    let unknown = liar.entry(kind, Vec::new());
    assert!(matches!(oslo.take(&unknown).expect("is held"), Taken::Quarantined(_)));
    let next = liar.says(id_of("general"), (at(1_000), POSTED), body("known"));
    assert_eq!(oslo.take(&next).expect("is accepted"), Taken::Applied);
    oslo.persist();
    assert_eq!(oslo.texts("general"), ["known"]);
    let mut third = Node::new(9);
    third.pull(&oslo);
    third.persist();
    assert_eq!(third.state(), oslo.state());
    assert!(third.parcels().contains(&unknown));

    // It stays in the log, and with it what comes after: nothing else holds what it says.
    oslo.snapshot();
    oslo.persist();
    let all: VersionVector = oslo.replica.durable().vector.clone();
    oslo.replica.trim(&all, 100).expect("trims");
    oslo.persist();
    let origins = oslo.reader.origins().expect("reads");
    assert_eq!(origins[&unknown.origin].trimmed, unknown.seq - 1);
}
