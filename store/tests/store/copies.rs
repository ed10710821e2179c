//! Copies of one message, and messages that share an id: in every order of arrival all regions
//! show the same.

use warbler_store::entry::Parcel;
use warbler_store::id::{ConversationId, Front, Identity};
use warbler_store::reader::Range;
use warbler_store::record::Body;
use warbler_store::replica::{NewMessage, Placing};

use crate::forge::Liar;
use crate::node::{State, imported, keyed, name, node, nodes, space};
use crate::posting::split;

#[test]
fn a_retry_that_went_to_another_region_shows_once() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    let first = oslo.post(keyed("k", "hello"));
    tokyo.clock += 50;
    let retry = tokyo.try_post(keyed("k", "hello")).expect("is accepted");
    assert!(!retry.retried, "tokyo has not heard of it");
    assert!(first < retry.id);
    oslo.persist();
    tokyo.persist();
    oslo.pull(tokyo);
    tokyo.pull(oslo);
    oslo.persist();
    let sealed = tokyo.persist().expect("a batch");

    assert_eq!(oslo.state(), tokyo.state());
    assert_eq!(oslo.texts("general"), ["hello"]);
    for node in [&*oslo, &*tokyo] {
        for id in [first, retry.id] {
            let found = node.reader.message(&name("general"), id).expect("reads");
            assert_eq!(found.expect("either id finds it").id, first, "the lower one counts");
        }
    }
    let aliases: Vec<_> = sealed.applied.iter().flat_map(|applied| &applied.aliases).collect();
    assert_eq!(aliases.len(), 1, "followers in tokyo hear that it has another id now");
    assert_eq!((aliases[0].1, aliases[0].2), (retry.id, first));
    let again = tokyo.try_post(keyed("k", "hello")).expect("is accepted");
    assert_eq!((again.id, again.retried), (first, true));
}

/// The copy with the lower id comes into the very batch that holds our own: followers must hear
/// of the message once, under the id that counts.
#[test]
fn a_copy_that_meets_another_in_one_batch_is_told_once() {
    for oslo_first in [true, false] {
        let mut both = nodes(2);
        let (oslo, tokyo) = split(&mut both);
        let later = if oslo_first { &mut *tokyo } else { &mut *oslo };
        later.clock += 50;
        let there = tokyo.post(keyed("k", "hello"));
        tokyo.persist();
        let here = oslo.post(keyed("k", "hello"));
        oslo.pull(tokyo);
        let sealed = oslo.persist().expect("a batch");

        let told = sealed.applied.iter().flat_map(|applied| &applied.messages);
        let told: Vec<_> = told.map(|message| message.id).collect();
        assert_eq!(told, [here.min(there)]);
        assert_eq!(sealed.applied.len(), 3, "tokyo's record and post, our entry");
        assert_eq!(sealed.applied[1].messages.len(), 1, "before what may answer tokyo's copy");
        let aliases = sealed.applied.iter().flat_map(|applied| &applied.aliases);
        let aliases: Vec<_> = aliases.map(|(_, alias, canonical)| (*alias, *canonical)).collect();
        assert!(!aliases.is_empty());
        let alias = (here.max(there), here.min(there));
        assert!(aliases.iter().all(|told| *told == alias), "{aliases:?}");
        assert_eq!(oslo.texts("general"), ["hello"]);
        tokyo.pull(oslo);
        tokyo.persist();
        assert_eq!(tokyo.state(), oslo.state());
    }
}

/// Equal ids, other salts, and even another body: one of them counts, the same one everywhere.
#[test]
fn one_import_made_in_two_regions_shows_once_everywhere() {
    for bodies in [["same", "same"], ["one", "other"]] {
        let mut both = nodes(2);
        let (oslo, tokyo) = split(&mut both);
        let message = |text: &str| NewMessage {
            key: Some(b"export line 7".to_vec()),
            ..imported(5_000, text)
        };
        assert_eq!(oslo.post(message(bodies[0])), tokyo.post(message(bodies[1])));
        oslo.persist();
        tokyo.persist();
        oslo.pull(tokyo);
        tokyo.pull(oslo);
        oslo.persist();
        tokyo.persist();
        assert_eq!(oslo.state(), tokyo.state());
        assert_eq!(oslo.messages("general").len(), 1);
        // Every entry still goes on with the body it was written with.
        assert_eq!(oslo.parcels(), tokyo.parcels());
    }
}

fn general() -> ConversationId {
    ConversationId::of(space(), &name("general"), 0)
}

fn permutations(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for shorter in permutations(count - 1) {
        for place in 0..count {
            let mut longer = shorter.clone();
            longer.insert(place, count - 1);
            all.push(longer);
        }
    }
    all
}

/// One entry each of several liars, taken in in every order; with and without a flush between.
fn same_in_every_order(sayings: &[(Front, Identity, &str)]) -> State {
    let entries: Vec<[Parcel; 2]> = sayings
        .iter()
        .zip(0xc0..)
        .map(|((front, identity, text), number)| {
            let (mut liar, record) = Liar::new(number);
            let body = Body { salt: [number; 8], bytes: text.as_bytes().to_vec() };
            [record, liar.says(general(), (*front, *identity), body)]
        })
        .collect();
    let mut expected: Option<(State, Vec<Parcel>)> = None;
    for order in permutations(sayings.len()) {
        for flush in [false, true] {
            let mut oslo = node();
            for place in &order {
                for parcel in &entries[*place] {
                    oslo.take(parcel).expect("is accepted");
                }
                if flush {
                    oslo.persist();
                }
            }
            oslo.persist();
            let found = (oslo.state(), oslo.parcels());
            let expected = expected.get_or_insert_with(|| found.clone());
            assert_eq!(found, *expected, "in the order {order:?}");
            oslo.restart();
            assert_eq!(oslo.state(), expected.0, "and after a restart");
        }
    }
    expected.expect("there is at least one order").0
}

fn at(millis: u64) -> Front {
    Front { millis, counter: 0 }
}

#[test]
fn copies_of_one_message_converge_in_every_order_of_arrival() {
    let identity = Identity([5; 16]);
    for choice in 0..16_u32 {
        let sayings: Vec<_> = (0..4)
            .map(|place| (at(1_000 + u64::from(choice >> place & 1)), identity, "the words"))
            .collect();
        let state = same_in_every_order(&sayings);
        let messages = &state.shown.conversations[0].1;
        assert_eq!(messages.len(), 1);
        let least = sayings.iter().map(|(front, ..)| *front).min();
        assert_eq!(Some(messages[0].id.front()), least);
    }
}

#[test]
fn copies_with_other_words_converge_in_every_order_of_arrival() {
    let identity = Identity([5; 16]);
    let sayings = [
        (at(1_000), identity, "a"),
        (at(1_000), identity, "b"),
        (at(1_000), identity, "c"),
        (at(900), identity, "d"),
    ];
    let state = same_in_every_order(&sayings);
    assert_eq!(state.shown.conversations[0].1[0].body, b"d");
    same_in_every_order(&sayings[..3]);
}

/// Two identities that share their first half can be made on purpose. They are two messages, and
/// no region may show only one of them, or another one than its neighbour.
#[test]
fn messages_that_share_an_id_are_both_shown_in_every_order_of_arrival() {
    let identity = |last| {
        let mut bytes = [5; 16];
        bytes[15] = last;
        Identity(bytes)
    };
    let sayings = [
        (at(1_000), identity(1), "one"),
        (at(1_000), identity(2), "two"),
        (at(1_000), identity(1), "one, copied"),
        (at(1_001), identity(2), "two, later"),
    ];
    let state = same_in_every_order(&sayings);
    let messages = &state.shown.conversations[0].1;
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0].id, messages[1].id);
    assert_ne!(messages[0].identity, messages[1].identity);
    assert_eq!(messages[1].body, b"two");
}

/// No bound can name the place between two messages of one id, so no page ends there.
#[test]
fn a_page_does_not_end_between_messages_that_share_an_id() {
    let mut oslo = node();
    oslo.post(NewMessage { placing: Placing::At(500), ..keyed("0", "before") });
    for last in 1..=3 {
        let mut identity = [5; 16];
        identity[15] = last;
        let (mut liar, record) = Liar::new(0xc0 + last);
        let body = Body { salt: [last; 8], bytes: vec![last] };
        oslo.take(&record).expect("is accepted");
        let said = liar.says(general(), (at(1_000), Identity(identity)), body);
        oslo.take(&said).expect("is accepted");
    }
    oslo.post(keyed("9", "after"));
    oslo.persist();
    let page = |range| {
        let page = oslo.reader.page(&name("general"), range, 2).expect("reads");
        page.messages.into_iter().map(|message| message.id).collect::<Vec<_>>()
    };
    let all: Vec<_> = oslo.messages("general").into_iter().map(|message| message.id).collect();
    assert_eq!(page(Range::Last), all[1..]);
    assert_eq!(page(Range::Before(all[4])), all[1..4]);
    assert_eq!(page(Range::Before(all[1])), all[..1]);
    assert_eq!(page(Range::After(all[0])), all[1..4]);
    assert_eq!(page(Range::After(all[1])), all[4..]);
}

/// A key whose identity shares its half with another message's is refused where that is known.
#[test]
fn a_post_whose_identity_collides_here_is_refused() {
    let mut oslo = node();
    let mut identity = Identity::of(general(), &name("ada"), b"k");
    identity.0[15] ^= 1;
    let (mut liar, record) = Liar::new(0xc0);
    let body = Body { salt: [1; 8], bytes: b"made on purpose".to_vec() };
    oslo.take(&record).expect("is accepted");
    oslo.take(&liar.says(general(), (at(1_000), identity), body)).expect("is accepted");
    oslo.persist();
    let before = oslo.state();
    let error = oslo.try_post(keyed("k", "hello")).expect_err("a collision");
    let why = "the idempotency key collides with that of another message: use another key";
    assert_eq!(error.to_string(), why);
    assert!(!oslo.replica.has_work());
    assert_eq!(oslo.state(), before);
}
