//! What is done to messages: edits, reactions, redactions, threads. Whatever the order in which
//! they arrive, all regions show the same, and followers hear of what changed.

use warbler_store::id::MessageId;
use warbler_store::name::Name;
use warbler_store::reader::History;
use warbler_store::record::{ContentType, Message};
use warbler_store::replica::{
    CommandError, MAX_MESSAGE_EMOJIS, NewMessage, Operated, Operation, Sealed,
};

use crate::node::{Node, keyed, name, node, nodes, says};
use crate::posting::split;

pub(crate) fn edit(message: MessageId, words: &str) -> Operation {
    let content_type = ContentType::default();
    Operation::Edit { message, body: words.as_bytes().to_vec(), content_type }
}

pub(crate) fn react(message: MessageId, emoji: &str, on: bool) -> Operation {
    Operation::React { message, emoji: name(emoji), on }
}

/// Both hold what the other holds.
pub(crate) fn exchange(one: &mut Node, other: &mut Node) {
    one.persist();
    other.persist();
    one.pull(other);
    other.pull(one);
    one.persist();
    other.persist();
    assert_eq!(one.state(), other.state());
}

fn message(node: &Node, id: MessageId) -> Message {
    node.reader.message(&name("general"), id).expect("reads").expect("is there")
}

fn changed(sealed: &Sealed) -> Vec<MessageId> {
    sealed.applied.iter().flat_map(|applied| &applied.changed).map(|(_, id)| *id).collect()
}

/// The words of a message before it was edited, then those of its edits.
fn history(node: &Node, id: MessageId) -> Vec<String> {
    let found = node.reader.history(&name("general"), id).expect("reads");
    let Some(History { first, edits }) = found else { return Vec::new() };
    let words = std::iter::once(first).chain(edits.into_iter().map(|edit| edit.body));
    words.map(|body| String::from_utf8(body).expect("words")).collect()
}

#[test]
fn an_edit_shows_in_the_place_of_the_words_and_the_history_keeps_both() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    let id = oslo.post(says("helo"));
    oslo.persist();
    oslo.does("ada", edit(id, "hello"));
    let sealed = oslo.persist().expect("a batch");
    assert_eq!(changed(&sealed), [id]);
    assert_eq!(oslo.texts("general"), ["hello"]);
    assert_eq!(history(oslo, id), ["helo", "hello"]);

    tokyo.pull(oslo);
    tokyo.does("ada", edit(id, "hello!"));
    exchange(oslo, tokyo);
    assert_eq!(history(oslo, id), ["helo", "hello", "hello!"]);
    let shown = message(oslo, id);
    assert_eq!((shown.id, &shown.body[..]), (id, &b"hello!"[..]), "its place is that of the post");
    oslo.restart();
    assert_eq!(oslo.state(), tokyo.state());
}

#[test]
fn an_edit_may_follow_its_post_in_the_same_batch() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    let id = oslo.post(says("helo"));
    oslo.does("ada", edit(id, "hello"));
    oslo.does("ada", edit(id, "hello!"));
    exchange(oslo, tokyo);
    assert_eq!(tokyo.texts("general"), ["hello!"], "the last of a batch counts");
    assert_eq!(history(tokyo, id), ["helo", "hello", "hello!"]);
}

#[test]
fn an_edit_to_the_words_that_show_changes_nothing() {
    let mut oslo = node();
    let id = oslo.post(says("hello"));
    oslo.persist();
    let same = oslo.try_do("ada", edit(id, "hello")).expect("is accepted");
    assert_eq!(same, Operated::Unchanged);
    assert!(!oslo.replica.has_work());
    oslo.does("ada", edit(id, "bye"));
    oslo.persist();
    assert_eq!(oslo.try_do("ada", edit(id, "bye")).expect("is accepted"), Operated::Unchanged);
    oslo.does("ada", edit(id, "hello"));
    oslo.persist();
    assert_eq!(oslo.texts("general"), ["hello"], "and back again is a change");
}

/// Wall time must not decide: the clock of one region may lie.
#[test]
fn of_two_edits_the_one_that_has_seen_more_shows_whatever_the_clocks_say() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    let id = oslo.post(says("zero"));
    exchange(oslo, tokyo);
    oslo.clock += 50_000;
    oslo.does("ada", edit(id, "one, from a fast clock"));
    oslo.persist();
    tokyo.post(says("something else"));
    tokyo.persist();
    tokyo.post(says("and more"));
    tokyo.persist();
    tokyo.does("ada", edit(id, "two, deeper"));
    exchange(oslo, tokyo);
    assert_eq!(message(oslo, id).body, b"two, deeper");
    assert_eq!(history(oslo, id), ["zero", "one, from a fast clock", "two, deeper"]);
}

#[test]
fn of_two_edits_at_once_the_greater_origin_shows_in_every_order_of_arrival() {
    for oslo_first in [true, false] {
        let mut all = nodes(3);
        let id = all[0].post(says("zero"));
        all[0].persist();
        let (oslo, tokyo) = split(&mut all);
        tokyo.pull(oslo);
        // Tokyo catches up with the depth of Oslo's own entries.
        oslo.does("ada", edit(id, "from oslo"));
        oslo.persist();
        tokyo.does("ada", edit(id, "from tokyo"));
        tokyo.persist();
        let mut lima = all.remove(2);
        let (first, second) = if oslo_first { (0, 1) } else { (1, 0) };
        lima.pull(&all[first]);
        lima.persist();
        lima.pull(&all[second]);
        lima.persist();
        // Tokyo's origin record stands between: it has seen no less, and its edit is deeper.
        assert_eq!(lima.texts("general"), ["from tokyo"], "oslo first: {oslo_first}");
        let (oslo, tokyo) = split(&mut all);
        exchange(oslo, tokyo);
        assert_eq!(oslo.state(), lima.state());
    }
}

#[test]
fn only_the_author_edits_and_only_what_readers_see() {
    let mut oslo = node();
    let id = oslo.post(says("hello"));
    oslo.persist();
    for other in ["bob", "root"] {
        let error = oslo.try_do(other, edit(id, "mine")).expect_err("another's words");
        let why = format!("`{other}` may not do this in `general`: it takes the role of");
        assert!(error.to_string().starts_with(&why), "{error}");
    }
    let error = oslo.try_do("ada", edit(id, "")).expect_err("no words");
    assert!(matches!(error, CommandError::EmptyBody), "{error}");
    let error = oslo.try_do("ada", edit(MessageId::MIN, "x")).expect_err("no message");
    assert!(matches!(error, CommandError::UnknownMessage(_)), "{error}");
    oslo.does("ada", Operation::Redact { message: id });
    oslo.persist();
    for deed in [edit(id, "again"), react(id, "🐦", true)] {
        let error = oslo.try_do("ada", deed).expect_err("it was redacted");
        assert!(matches!(error, CommandError::Gone(gone) if gone == id), "{error}");
    }
    assert!(!oslo.replica.has_work());
}

#[test]
fn a_redaction_hides_words_and_history_for_good_and_keeps_the_place() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    let id = oslo.post(says("secret"));
    let answer = oslo.post(NewMessage { reply_to: Some(id), ..says("what?") });
    oslo.does("ada", edit(id, "secrets"));
    exchange(oslo, tokyo);
    // At once: one region redacts while another edits.
    oslo.does("ada", Operation::Redact { message: id });
    tokyo.does("ada", edit(id, "more secrets"));
    tokyo.does("bob", react(id, "🐦", true));
    exchange(oslo, tokyo);
    for node in [&*oslo, &*tokyo] {
        assert_eq!(node.texts("general"), ["", "what?"]);
        let hidden = message(node, id);
        assert_eq!(hidden.state.withdrawal.expect("redacted").by, name("ada"));
        assert_eq!(message(node, answer).header.reply_to, Some(hidden.identity));
        assert_eq!(history(node, id), [""; 0]);
    }
    let again = tokyo.try_do("ada", Operation::Redact { message: id }).expect("is accepted");
    assert_eq!(again, Operated::Unchanged);
}

#[test]
fn of_two_redactions_at_once_the_same_one_is_named_everywhere() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    let id = oslo.post(says("secret"));
    exchange(oslo, tokyo);
    oslo.does("ada", Operation::Redact { message: id });
    let again = oslo.try_do("ada", Operation::Redact { message: id }).expect("is accepted");
    assert_eq!(again, Operated::Unchanged, "also within the batch");
    tokyo.does("root", Operation::Redact { message: id });
    exchange(oslo, tokyo);
    let by = message(tokyo, id).state.withdrawal.map(|withdrawal| withdrawal.by);
    assert_eq!(by, Some(name("ada")), "the lesser rank");
}

#[test]
fn a_stranger_redacts_nothing_and_an_admin_anything() {
    let mut oslo = node();
    let id = oslo.post(says("hello"));
    oslo.persist();
    let redact = || Operation::Redact { message: id };
    let error = oslo.try_do("bob", redact()).expect_err("another's message");
    assert!(matches!(error, CommandError::Forbidden { .. }), "{error}");
    assert!(!oslo.replica.has_work());
    oslo.does("root", redact());
    oslo.persist();
    assert_eq!(oslo.texts("general"), [""]);
}

fn reactions(node: &Node, id: MessageId) -> Vec<(Name, Name)> {
    node.reader.reactions(&name("general"), id, 100).expect("reads")
}

#[test]
fn reactions_are_counted_by_emoji_and_each_person_counts_once() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    let id = oslo.post(says("hello"));
    exchange(oslo, tokyo);
    oslo.does("ada", react(id, "🐦", true));
    oslo.does("bob", react(id, "🐦", true));
    // The same person, the same emoji, in two regions at once.
    tokyo.does("bob", react(id, "🐦", true));
    tokyo.does("bob", react(id, "🎉", true));
    exchange(oslo, tokyo);
    let counted = message(oslo, id).state.reactions;
    assert_eq!(counted, [(name("🎉"), 1), (name("🐦"), 2)]);
    assert_eq!(reactions(oslo, id).len(), 3);

    oslo.does("bob", react(id, "🐦", false));
    exchange(oslo, tokyo);
    assert_eq!(message(tokyo, id).state.reactions, [(name("🎉"), 1), (name("🐦"), 1)]);
    let again = tokyo.try_do("bob", react(id, "🐦", false)).expect("is accepted");
    assert_eq!(again, Operated::Unchanged);
}

#[test]
fn a_reaction_that_is_toggled_within_a_batch_is_written_once() {
    let mut oslo = node();
    let id = oslo.post(says("hello"));
    oslo.persist();
    for on in [true, false, true, false, true] {
        oslo.does("ada", react(id, "🐦", on));
    }
    let sealed = oslo.persist().expect("a batch");
    assert_eq!(sealed.own.len(), 1);
    assert_eq!(changed(&sealed), [id]);
    assert_eq!(message(&oslo, id).state.reactions, [(name("🐦"), 1)]);
    for on in [false, true] {
        oslo.does("ada", react(id, "🐦", on));
    }
    oslo.persist();
    assert_eq!(message(&oslo, id).state.reactions, [(name("🐦"), 1)], "as before");
}

#[test]
fn of_a_reaction_set_and_taken_back_at_once_the_greater_rank_counts_everywhere() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    let id = oslo.post(says("hello"));
    oslo.does("ada", react(id, "🐦", true));
    tokyo.post(says("so that both origins are known"));
    exchange(oslo, tokyo);
    // Both write at one depth, so the origins decide.
    oslo.does("ada", react(id, "🐦", false));
    tokyo.does("ada", react(id, "🐦", false));
    tokyo.does("ada", react(id, "🎉", true));
    tokyo.does("ada", react(id, "🐦", true));
    exchange(oslo, tokyo);
    let counted = message(oslo, id).state.reactions;
    assert_eq!(counted, [(name("🎉"), 1), (name("🐦"), 1)], "tokyo's origin is greater");
}

#[test]
fn a_message_bears_so_many_emojis_and_no_more() {
    let mut oslo = node();
    let id = oslo.post(says("hello"));
    for place in 0..MAX_MESSAGE_EMOJIS {
        oslo.does("ada", react(id, &format!("e{place}"), true));
        oslo.persist();
    }
    let error = oslo.try_do("bob", react(id, "another", true)).expect_err("too many");
    assert!(matches!(error, CommandError::TooManyEmojis(full) if full == id), "{error}");
    oslo.does("bob", react(id, "e7", true));
    let long = "x".repeat(65);
    let error = oslo.try_do("bob", react(id, &long, true)).expect_err("too long");
    assert!(matches!(error, CommandError::EmojiTooLong(65)), "{error}");
}

fn thread(node: &Node, root: MessageId, after: Option<MessageId>, limit: usize) -> Vec<String> {
    let page = node.reader.thread(&name("general"), root, after, limit).expect("reads");
    let messages = page.expect("the root is there").messages;
    messages.into_iter().map(|found| String::from_utf8(found.body).expect("words")).collect()
}

#[test]
fn a_thread_reads_page_by_page_in_the_order_of_the_timeline() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    let root = oslo.post(says("root"));
    exchange(oslo, tokyo);
    let said = |text: &str| NewMessage { thread: Some(root), ..says(text) };
    let mut ids = Vec::new();
    for round in 0..3 {
        tokyo.clock += 10;
        oslo.clock += 10;
        ids.push(oslo.post(said(&format!("oslo {round}"))));
        tokyo.clock += 5;
        ids.push(tokyo.post(said(&format!("tokyo {round}"))));
    }
    oslo.post(says("elsewhere"));
    exchange(oslo, tokyo);
    let all = ["oslo 0", "tokyo 0", "oslo 1", "tokyo 1", "oslo 2", "tokyo 2"];
    ids.sort_unstable();
    assert_eq!(thread(oslo, root, None, 100), all);
    assert_eq!(thread(oslo, root, None, 2), all[..2]);
    assert_eq!(thread(oslo, root, Some(ids[1]), 3), all[2..5]);
    assert_eq!(thread(oslo, root, Some(ids[5]), 3), [""; 0]);
    assert_eq!(oslo.reader.thread(&name("general"), MessageId::MIN, None, 9).expect("reads"), None);
}

/// A retry in another region moves a message of a thread to its canonical place; the thread must
/// not list it twice.
#[test]
fn a_copy_of_a_message_of_a_thread_stands_in_it_once() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    let root = oslo.post(says("root"));
    exchange(oslo, tokyo);
    let said = || NewMessage { thread: Some(root), ..keyed("k", "once") };
    tokyo.clock += 50;
    tokyo.post(said());
    oslo.post(said());
    exchange(oslo, tokyo);
    assert_eq!(thread(tokyo, root, None, 100), ["once"]);
}

/// What was done to one id of a message is done to the message.
#[test]
fn what_is_done_to_either_copy_shows_on_the_one_message() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    let first = oslo.post(keyed("k", "helo"));
    oslo.does("ada", edit(first, "hello"));
    oslo.does("bob", react(first, "🐦", true));
    tokyo.clock += 50;
    let second = tokyo.post(keyed("k", "helo"));
    tokyo.does("eve", react(second, "🐦", true));
    tokyo.does("ada", react(second, "🎉", true));
    exchange(oslo, tokyo);
    for node in [&*oslo, &*tokyo] {
        assert_eq!(node.texts("general"), ["hello"]);
        for id in [first, second] {
            let shown = message(node, id);
            assert_eq!(shown.id, first);
            assert_eq!(shown.state.reactions, [(name("🎉"), 1), (name("🐦"), 2)]);
            assert_eq!(history(node, id), ["helo", "hello"]);
        }
    }
    oslo.does("ada", edit(second, "hello!"));
    oslo.does("ada", Operation::Redact { message: second });
    exchange(oslo, tokyo);
    assert_eq!(tokyo.texts("general"), [""]);
    let retry = tokyo.try_post(keyed("k", "helo")).expect("is accepted");
    assert_eq!((retry.id, retry.retried), (first, true), "a late retry gets the old id");
}
