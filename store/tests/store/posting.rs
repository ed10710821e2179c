//! Posting: what is shown when, retries, imports, answers, and what is refused.

use proptest::prelude::*;
use warbler_store::clock::MAX_AHEAD_MILLIS;
use warbler_store::id::{Front, MessageId};
use warbler_store::record::MAX_BODY_BYTES;
use warbler_store::replica::{CommandError, MAX_KEY_BYTES, NewMessage, Placing};

use crate::node::{NOON, Node, imported, keyed, name, node, nodes, says};

#[test]
fn a_post_is_shown_only_after_it_is_on_disk() {
    let mut oslo = node();
    let before = (oslo.replica.durable().clone(), oslo.messages("general"));
    let id = oslo.post(says("hello"));
    let now = |oslo: &Node| (oslo.replica.durable().clone(), oslo.messages("general"));
    assert_eq!(now(&oslo), before, "taken in, not sealed");

    let sealed = oslo.seal().expect("a batch");
    assert_eq!(now(&oslo), before, "sealed, not written");

    oslo.write(&sealed);
    assert_eq!(oslo.texts("general"), ["hello"]);
    assert_eq!(oslo.messages("general")[0].id, id);
    assert_eq!(sealed.applied[0].messages[0].id, id, "and followers are told");
}

#[test]
fn an_answer_rests_on_the_batch_that_holds_the_post() {
    let mut oslo = node();
    let idle = oslo.replica.barrier();
    assert_eq!(idle, oslo.replica.last_written(), "nothing to wait for");
    oslo.post(keyed("k", "hello"));
    let barrier = oslo.replica.barrier();
    assert_eq!(barrier, idle + 1);

    let sealed = oslo.seal().expect("a batch");
    assert_eq!(sealed.ticket, barrier);
    let retry = oslo.try_post(keyed("k", "hello")).expect("is accepted");
    assert!(retry.retried);
    assert_eq!(oslo.replica.barrier(), barrier, "a retry rests on the batch of the first");
    oslo.write(&sealed);
    assert_eq!(oslo.replica.last_written(), barrier);
}

#[test]
fn a_retry_with_the_same_key_has_the_same_id_and_shows_once() {
    let mut oslo = node();
    let first = oslo.try_post(keyed("k", "hello")).expect("is accepted");
    let in_batch = oslo.try_post(keyed("k", "hello")).expect("is accepted");
    let sealed = oslo.seal().expect("a batch");
    let in_flight = oslo.try_post(keyed("k", "hello")).expect("is accepted");
    oslo.write(&sealed);
    oslo.restart();
    let restarted = oslo.try_post(keyed("k", "hello")).expect("is accepted");
    oslo.persist();

    assert!(!first.retried);
    for retry in [in_batch, in_flight, restarted] {
        assert_eq!((retry.id, retry.retried), (first.id, true));
    }
    assert_eq!(oslo.texts("general"), ["hello"]);
}

#[test]
fn one_key_of_two_authors_or_conversations_makes_two_messages() {
    let mut oslo = node();
    oslo.create("random");
    oslo.post(keyed("k", "by ada"));
    oslo.post(NewMessage { author: name("bob"), ..keyed("k", "by bob") });
    oslo.post(NewMessage { conversation: name("random"), ..keyed("k", "elsewhere") });
    oslo.persist();
    assert_eq!(oslo.texts("general"), ["by ada", "by bob"]);
    assert_eq!(oslo.texts("random"), ["elsewhere"]);
}

#[test]
fn a_key_used_for_another_body_is_refused_and_changes_nothing() {
    let mut oslo = node();
    let id = oslo.post(keyed("k", "hello"));
    oslo.persist();
    let before = oslo.state();

    let error = oslo.try_post(keyed("k", "goodbye")).expect_err("another body");
    assert!(matches!(error, CommandError::KeyReused(used) if used == id), "{error}");
    assert!(!oslo.replica.has_work());
    assert_eq!(oslo.state(), before);
}

#[test]
fn imported_messages_keep_their_time_and_equal_times_keep_their_order() {
    let mut oslo = node();
    oslo.post(says("now"));
    let times = [5_000, 9_000, 5_000, 1_000, 5_000, 9_000];
    for (place, at) in times.into_iter().enumerate() {
        oslo.post(imported(at, &format!("{at}-{place}")));
        if place == 2 {
            oslo.persist();
        }
    }
    oslo.persist();
    let expected = ["1000-3", "5000-0", "5000-2", "5000-4", "9000-1", "9000-5", "now"];
    assert_eq!(oslo.texts("general"), expected);
    let fronts = oslo.messages("general").into_iter().map(|message| message.id.front());
    let at = |millis, counter| Front { millis, counter };
    let expected = [at(1_000, 0), at(5_000, 0), at(5_000, 1), at(5_000, 2), at(9_000, 0)];
    assert_eq!(fronts.take(5).collect::<Vec<_>>(), expected);
}

/// A 16-bit counter orders what has one time; the import of a burst that is larger must not mix
/// it up.
#[test]
fn more_imports_of_one_millisecond_than_it_has_places_keep_their_order() {
    const BURST: usize = 65_536 + 3;
    let mut oslo = node();
    let ids: Vec<MessageId> = (0..BURST).map(|_| oslo.post(imported(5_000, "x"))).collect();
    assert!(ids.is_sorted());
    assert_eq!(ids[BURST - 1].front(), Front { millis: 5_001, counter: 2 });
}

#[test]
fn an_answer_comes_after_its_message_also_when_the_clock_jumps_back() {
    let mut oslo = node();
    let question = oslo.post(says("how are you?"));
    oslo.clock = NOON - MAX_AHEAD_MILLIS / 2;
    let answer = oslo.post(NewMessage { reply_to: Some(question), ..says("fine") });
    let thread = oslo.post(NewMessage { thread: Some(question), ..says("me too") });
    assert!(question < answer && answer < thread);

    oslo.persist();
    oslo.clock = NOON - MAX_AHEAD_MILLIS / 2;
    oslo.restart();
    let good = oslo.post(says("good"));
    let later = oslo.post(NewMessage { reply_to: Some(thread), ..says("bye") });
    oslo.persist();
    assert!(thread < good && good < later, "also after a restart");
    assert_eq!(oslo.texts("general"), ["how are you?", "fine", "me too", "good", "bye"]);
    let messages = oslo.messages("general");
    assert_eq!(messages[1].header.reply_to, Some(messages[0].identity));
    assert_eq!(messages[2].header.thread, Some(messages[0].identity));
}

/// A region whose clock is days ahead must not take everybody's messages there.
#[test]
fn a_wild_clock_elsewhere_is_counted_and_not_followed() {
    let mut nodes = nodes(2);
    let (oslo, tokyo) = split(&mut nodes);
    tokyo.clock = NOON + 24 * 3_600_000;
    tokyo.post(says("from tomorrow"));
    tokyo.persist();
    oslo.pull(tokyo);
    let today = oslo.post(says("from today"));
    oslo.persist();
    assert_eq!(today.front().millis, oslo.clock);
    assert_eq!(oslo.replica.counts().ahead, 1);
    assert_eq!(oslo.texts("general"), ["from today", "from tomorrow"]);
}

/// Too far ahead to be followed when it came; near enough when it is answered.
#[test]
fn an_answer_comes_after_a_message_that_was_too_far_ahead_when_it_came() {
    let mut nodes = nodes(2);
    let (oslo, tokyo) = split(&mut nodes);
    tokyo.clock = NOON + 2 * MAX_AHEAD_MILLIS;
    let question = tokyo.post(says("how are you?"));
    tokyo.persist();
    oslo.pull(tokyo);
    let unrelated = oslo.post(says("lunch?"));
    oslo.clock = NOON + 3 * MAX_AHEAD_MILLIS / 2;
    let answer = oslo.post(NewMessage { reply_to: Some(question), ..says("fine") });
    assert!(unrelated < question && question < answer);
}

#[test]
fn an_answer_to_a_message_of_another_region_comes_after_it() {
    let mut nodes = nodes(2);
    let (oslo, tokyo) = split(&mut nodes);
    tokyo.clock = NOON + MAX_AHEAD_MILLIS / 2;
    let question = tokyo.post(says("how are you?"));
    tokyo.persist();
    oslo.pull(tokyo);
    let answer = oslo.post(NewMessage { reply_to: Some(question), ..says("fine") });
    assert!(question < answer);
}

#[test]
fn what_is_out_of_bounds_is_refused_and_changes_nothing() {
    let mut oslo = node();
    oslo.post(says("hello"));
    oslo.persist();
    let before = oslo.state();
    let nobody = MessageId([7; 16]);
    let ahead = NOON + MAX_AHEAD_MILLIS;
    let cases = [
        (says(""), "the body is empty"),
        (
            says(&"x".repeat(MAX_BODY_BYTES + 1)),
            "the body has 65537 bytes, at most 65536 are allowed",
        ),
        (keyed("", "x"), "the idempotency key has 0 bytes, 1 to 256 are allowed"),
        (
            keyed(&"k".repeat(MAX_KEY_BYTES + 1), "x"),
            "the idempotency key has 257 bytes, 1 to 256 are allowed",
        ),
        (imported(ahead + 1_000, "x"), "the time given lies in the future"),
        (imported(u64::MAX, "x"), "the time given lies in the future"),
        (
            NewMessage { conversation: name("secret"), ..says("x") },
            "there is no conversation `secret`",
        ),
        (
            NewMessage { reply_to: Some(nobody), ..says("x") },
            "there is no message 070W3GE1R70W3GE1R70W3GE1R7 in the conversation",
        ),
        (
            NewMessage { thread: Some(nobody), ..says("x") },
            "there is no message 070W3GE1R70W3GE1R70W3GE1R7 in the conversation",
        ),
    ];
    for (message, why) in cases {
        let error = oslo.try_post(message).expect_err(why);
        assert_eq!(error.to_string(), why);
        assert!(!oslo.replica.has_work(), "{why}");
        assert_eq!(oslo.state(), before, "{why}");
    }
}

#[test]
fn what_is_just_within_bounds_is_accepted() {
    let mut oslo = node();
    let long = "x".repeat(MAX_BODY_BYTES);
    oslo.post(says(&long));
    oslo.post(keyed(&"k".repeat(MAX_KEY_BYTES), "long key"));
    let ahead = NOON + MAX_AHEAD_MILLIS;
    let id = oslo.post(NewMessage { placing: Placing::At(ahead), ..says("soon") });
    assert_eq!(id.front(), Front { millis: ahead, counter: 0 });
    oslo.persist();
    assert_eq!(oslo.texts("general"), [&long, "long key", "soon"]);
}

pub(crate) fn split(nodes: &mut [Node]) -> (&mut Node, &mut Node) {
    let [first, second, ..] = nodes else { panic!("two nodes were expected") };
    (first, second)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever the clock does within its limit, a node's own messages show as they were posted.
    #[test]
    fn messages_of_one_node_show_in_the_order_in_which_they_were_posted(
        jumps in prop::collection::vec((-3_000..3_000_i64, any::<bool>()), 1..40),
    ) {
        let mut oslo = node();
        let mut said = Vec::new();
        let mut wall = NOON;
        for (place, (jump, persist)) in jumps.into_iter().enumerate() {
            wall = wall.saturating_add_signed(jump).clamp(NOON - 20_000, NOON + 20_000);
            oslo.clock = wall;
            oslo.post(says(&place.to_string()));
            said.push(place.to_string());
            if persist {
                oslo.persist();
            }
        }
        oslo.persist();
        prop_assert_eq!(oslo.texts("general"), said);
    }
}
