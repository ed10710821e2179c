//! Forgetting: what was erased or has expired is read nowhere, sent nowhere and lies nowhere, and
//! never comes back, whatever arrives when.

use std::sync::Arc;

use warbler_store::clock::MAX_AHEAD_MILLIS;
use warbler_store::engine::{Direction, MemoryEngine, Table, View};
use warbler_store::entry::{Carried, EntryKind};
use warbler_store::erasure::Erasure;
use warbler_store::id::{ConversationId, Front, MessageId};
use warbler_store::replica::{CommandError, NewMessage, Operated, Operation, Sealed, Taken};

use crate::deeds::{edit, exchange, react};
use crate::forge::Liar;
use crate::node::{Node, ROOMY, keyed, name, node, nodes, says, space};
use crate::posting::split;

fn erase(message: MessageId) -> Operation {
    Operation::Erase { message }
}

/// How many values of any table hold `words`.
fn traces(node: &Node, words: &str) -> usize {
    let holds = |value: &[u8]| value.windows(words.len()).any(|part| part == words.as_bytes());
    let rows = Table::ALL
        .into_iter()
        .flat_map(|table| node.engine.scan(table, &[], &[0xff; 200], Direction::Forward));
    rows.filter(|row| holds(&row.as_ref().expect("reads").1)).count()
}

fn told(sealed: &Sealed) -> Vec<Vec<u8>> {
    let messages = sealed.applied.iter().flat_map(|applied| &applied.messages);
    messages.map(|message| message.body.clone()).collect()
}

/// A node that hears all from `node`, in an order that `seed` chooses, shows the same.
fn passes_on(node: &Node, seed: u64) -> Node {
    let mut other = Node::new(9);
    other.pull_shuffled(node, usize::MAX, seed);
    other.persist();
    assert_eq!(other.state(), node.state());
    assert!(other.parcels() == node.parcels(), "it can pass all on, too");
    other
}

#[test]
fn a_message_that_is_erased_keeps_its_place_and_loses_all_its_words() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    let first = oslo.post(keyed("k", "secret one"));
    tokyo.clock += 50;
    let copy = tokyo.post(keyed("k", "secret two"));
    oslo.does("ada", edit(first, "secret three"));
    exchange(oslo, tokyo);
    assert!(traces(tokyo, "secret") >= 3);
    // By the id of the copy, while the other region edits once more.
    oslo.does("ada", erase(copy));
    tokyo.does("ada", edit(first, "secret four"));
    exchange(oslo, tokyo);
    for node in [&*oslo, &*tokyo] {
        assert_eq!(traces(node, "secret"), 0);
        let messages = node.messages("general");
        assert_eq!((messages[0].id, messages[0].state.erased), (first, true));
        assert_eq!(messages[0].body, b"");
        assert_eq!(node.reader.history(&name("general"), first).expect("reads"), None);
    }
    for seed in 0..8 {
        assert_eq!(traces(&passes_on(oslo, seed), "secret"), 0);
    }
    let retry = tokyo.try_post(keyed("k", "secret one")).expect("is accepted");
    assert_eq!((retry.id, retry.retried), (first, true), "a late retry gets the old id");
    tokyo.persist();
    assert_eq!(traces(tokyo, "secret"), 0);
    let error = tokyo.try_do("ada", edit(first, "again")).expect_err("it is gone");
    assert!(matches!(error, CommandError::Gone(_)), "{error}");
}

#[test]
fn only_the_author_and_admins_erase_a_message() {
    let mut oslo = node();
    let id = oslo.post(says("hello"));
    oslo.persist();
    let error = oslo.try_do("bob", erase(id)).expect_err("another's message");
    assert!(matches!(error, CommandError::Forbidden { .. }), "{error}");
    assert!(!oslo.replica.has_work());
    oslo.does("root", erase(id));
    assert_eq!(oslo.try_do("ada", erase(id)).expect("is accepted"), Operated::Unchanged);
}

#[test]
fn the_words_of_an_author_are_forgotten_also_those_that_arrive_later() {
    let mut all = nodes(3);
    let (oslo, tokyo) = split(&mut all);
    tokyo.create("random");
    tokyo.persist();
    oslo.pull(tokyo);
    let by_bob = |text: &str| NewMessage { author: name("bob"), ..says(text) };
    let here = oslo.post(says("secret of ada"));
    oslo.post(by_bob("kept"));
    oslo.persist();
    tokyo.post(NewMessage { conversation: name("random"), ..says("secret elsewhere") });
    let there = tokyo.post(says("secret that arrives later"));
    tokyo.does("ada", edit(there, "secret edit"));
    tokyo.persist();
    // The clocks of the regions differ a little: the erasure is of what was said until now.
    oslo.clock += 1_000;
    assert_eq!(oslo.erase_author("ada", None), Operated::Done);
    let sealed = oslo.persist().expect("a batch");
    let erased: Vec<_> = sealed.applied.iter().flat_map(|applied| &applied.erased).collect();
    assert!(matches!(erased[..], [Erasure::Author { .. }]), "{erased:?}");
    assert_eq!(traces(oslo, "secret"), 0);

    oslo.pull(tokyo);
    let sealed = oslo.persist().expect("a batch");
    assert_eq!(told(&sealed), [] as [Vec<u8>; 0], "followers are not shown what must be forgotten");
    assert_eq!(traces(oslo, "secret"), 0);
    exchange(oslo, tokyo);
    assert_eq!(traces(tokyo, "secret"), 0);
    let (erased, shown): (Vec<_>, Vec<_>) =
        tokyo.messages("general").into_iter().partition(|message| message.state.erased);
    assert_eq!(erased.iter().map(|message| message.id).collect::<Vec<_>>(), [here, there]);
    assert_eq!(shown.len(), 1);
    let lima = passes_on(oslo, 3);
    assert_eq!(traces(&lima, "secret"), 0);

    tokyo.clock += 2_000;
    tokyo.post(says("a new beginning"));
    exchange(oslo, tokyo);
    assert_eq!(oslo.texts("general"), ["", "kept", "", "a new beginning"]);
}

/// Our own post waits for its entry while the erasure of its author comes in.
#[test]
fn followers_are_not_shown_a_post_that_was_erased_within_its_batch() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    tokyo.clock += 1_000;
    tokyo.erase_author("ada", None);
    tokyo.persist();
    oslo.post(says("secret"));
    oslo.pull(tokyo);
    let sealed = oslo.persist().expect("a batch");
    assert_eq!(told(&sealed), [] as [Vec<u8>; 0]);
    assert_eq!(traces(oslo, "secret"), 0);
    exchange(oslo, tokyo);
}

/// Nothing covers the words of an edit that is younger than the erasure of its author: they do
/// not show, and their entry must still go on whole.
#[test]
fn an_erasure_that_lies_between_a_message_and_its_edit_covers_the_message_alone() {
    for edit_first in [true, false] {
        let mut both = nodes(2);
        let (oslo, tokyo) = split(&mut both);
        let id = oslo.post(says("before"));
        exchange(oslo, tokyo);
        tokyo.clock += 1_000;
        tokyo.does("ada", edit(id, "after"));
        tokyo.persist();
        if edit_first {
            oslo.pull(tokyo);
            oslo.persist();
        }
        oslo.erase_author("ada", Some(id.front()));
        exchange(oslo, tokyo);
        assert_eq!(oslo.texts("general"), [""]);
        for node in [&*oslo, &*tokyo] {
            assert_eq!((traces(node, "before"), traces(node, "after")), (0, 1));
            passes_on(node, 5);
        }
        oslo.clock += 2_000;
        oslo.erase_author("ada", None);
        exchange(oslo, tokyo);
        assert_eq!((traces(oslo, "after"), traces(tokyo, "after")), (0, 0));
    }
}

/// A clock that runs ahead dates a message into the future; an edit made here is still younger.
#[test]
fn a_message_from_the_future_is_readable_after_its_edit_and_a_cut() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    tokyo.clock += 3 * MAX_AHEAD_MILLIS;
    let id = tokyo.post(says("from tomorrow"));
    tokyo.persist();
    oslo.pull(tokyo);
    oslo.persist();
    oslo.does("ada", edit(id, "from today"));
    oslo.persist();
    let now = Front { millis: oslo.clock, counter: u16::MAX };
    oslo.expire("general", now);
    oslo.erase_author("ada", Some(now));
    exchange(oslo, tokyo);
    assert_eq!(oslo.texts("general"), ["from today"]);
    passes_on(oslo, 1);
}

#[test]
fn what_has_expired_is_gone_with_all_that_was_done_to_it() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    let old = oslo.post(keyed("old", "secret old"));
    let root = NewMessage { thread: Some(old), ..says("secret in the thread") };
    let last = oslo.post(root);
    exchange(oslo, tokyo);
    tokyo.clock += 1_000;
    oslo.clock += 1_000;
    tokyo.does("ada", edit(old, "secret young edit"));
    tokyo.does("bob", react(old, "🐦", true));
    let young = tokyo.post(says("young"));
    tokyo.persist();
    assert_eq!(oslo.expire("general", last.front()), Operated::Done);
    assert_eq!(oslo.expire("general", old.front()), Operated::Unchanged, "cuts only grow");
    oslo.persist();
    assert_eq!(oslo.texts("general"), [""; 0]);
    assert_eq!(oslo.replica.counts().messages, 0);
    exchange(oslo, tokyo);
    for node in [&*oslo, &*tokyo] {
        assert_eq!(node.texts("general"), ["young"]);
        assert_eq!(node.reader.message(&name("general"), old).expect("reads"), None);
        let thread = node.reader.thread(&name("general"), old, None, 9).expect("reads");
        assert_eq!(thread.expect("its root is known").messages, []);
        assert_eq!(traces(node, "secret old") + traces(node, "secret in the thread"), 0);
        assert_eq!(traces(node, "secret young edit"), 1, "for as long as its entry may be sent");
    }
    for seed in 0..8 {
        assert_eq!(traces(&passes_on(oslo, seed), "secret old"), 0);
    }
    let retry = tokyo.try_post(keyed("old", "secret old")).expect("is accepted");
    assert_eq!((retry.id, retry.retried), (old, true), "a late retry gets the old id");
    let error = tokyo.try_do("ada", edit(old, "x")).expect_err("it has expired");
    assert!(matches!(error, CommandError::Gone(_)), "{error}");
    oslo.expire("general", young.front());
    exchange(oslo, tokyo);
    assert_eq!(traces(tokyo, "secret"), 0, "and the next cut takes the rest");
}

/// The rows that say whose words they are have gone with the message.
#[test]
fn what_an_expired_message_left_behind_goes_when_it_or_its_author_is_erased() {
    for whole_author in [true, false] {
        let mut all = nodes(3);
        let old = all[0].post(says("old"));
        let other = all[0].post(NewMessage { author: name("bob"), ..says("old too") });
        let (oslo, tokyo) = split(&mut all);
        exchange(oslo, tokyo);
        let mut lima = all.remove(2);
        lima.pull(&all[0]);
        lima.persist();
        let (oslo, tokyo) = split(&mut all);
        tokyo.clock += 1_000;
        tokyo.does("ada", edit(old, "secret of ada"));
        tokyo.does("bob", edit(other, "of bob"));
        oslo.expire("general", other.front());
        exchange(oslo, tokyo);
        assert_eq!((traces(oslo, "secret"), traces(oslo, "of bob")), (1, 1));
        // Lima has heard of neither the edits nor the cut.
        lima.clock += 2_000;
        if whole_author {
            lima.erase_author("ada", None);
        } else {
            lima.does("ada", erase(old));
        }
        exchange(oslo, &mut lima);
        exchange(oslo, tokyo);
        for node in [&*oslo, &*tokyo, &lima] {
            assert_eq!(traces(node, "secret"), 0, "whole author: {whole_author}");
            assert_eq!(traces(node, "of bob"), 1, "nothing covers what another wrote");
            passes_on(node, 2);
        }
    }
}

#[test]
fn an_erased_conversation_is_gone_and_its_name_may_be_used_again() {
    let disk = MemoryEngine::new();
    let mut oslo = Node::on(Arc::new(disk.clone()), 1, ROOMY);
    let mut tokyo = Node::new(2);
    oslo.create("general");
    oslo.persist();
    let before = oslo.reader.conversation(&name("general")).expect("reads").id;
    let id = oslo.post(says("secret"));
    let title = Operation::SetTitle(Some(b"secret title".to_vec()));
    oslo.does("root", title);
    let admin = Some(warbler_store::record::Role::Admin);
    oslo.does("root", Operation::SetMember { user: name("bob"), role: admin });
    oslo.does("bob", react(id, "🐦", true));
    oslo.does("bob", Operation::MarkRead { message: id });
    exchange(&mut oslo, &mut tokyo);
    tokyo.post(says("secret, said at once"));
    oslo.does("root", Operation::EraseConversation);
    oslo.persist();
    let error = oslo.try_post(says("more")).expect_err("there is none");
    assert!(matches!(error, CommandError::UnknownConversation(_)), "{error}");
    let served = oslo.parcels().into_iter().flat_map(|parcel| parcel.bodies);
    let served: Vec<_> = served.filter(|body| matches!(body, Carried::Body(_))).collect();
    assert_eq!(served, [], "nothing is sent on while rows are still being removed");
    exchange(&mut oslo, &mut tokyo);
    assert!(tokyo.reader.inbox(&name("bob")).expect("reads").is_empty());
    assert_eq!(oslo.replica.counts().conversations, 0);
    assert_eq!(oslo.replica.counts().messages, 0);

    for node in [&mut oslo, &mut tokyo] {
        let sweeps = node.replica.sweeps().expect("reads");
        assert_eq!(sweeps.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [before]);
        let mut rounds = 0;
        while !node.replica.remove_retired(before, 3).expect("removes") {
            node.persist();
            rounds += 1;
        }
        assert!(rounds > 1, "bit by bit");
        node.replica.swept(before, sweeps[0].1).expect("is noted");
        node.persist();
        assert_eq!(node.replica.sweeps().expect("reads"), []);
        assert_eq!(traces(node, "secret"), 0);
        for table in [Table::Bodies, Table::Timeline, Table::Segments] {
            assert_eq!(node.engine.scan(table, &[], &[0xff; 80], Direction::Forward).count(), 0);
        }
    }
    let left = disk.scan(Table::Index, &[], &[0xff; 80], Direction::Forward);
    assert_eq!(left.count(), 0, "not a row of the index is left");

    oslo.create("general");
    oslo.post(says("a new beginning"));
    exchange(&mut oslo, &mut tokyo);
    let after = tokyo.reader.conversation(&name("general")).expect("reads").id;
    assert_eq!(after, ConversationId::of(space(), &name("general"), 1));
    assert_eq!(tokyo.texts("general"), ["a new beginning"]);
    assert_eq!(traces(&passes_on(&tokyo, 4), "secret"), 0);
    oslo.restart();
    assert_eq!(oslo.try_do("root", Operation::EraseConversation).expect("erases"), Operated::Done);
    oslo.create("general");
    oslo.persist();
    let third = oslo.reader.conversation(&name("general")).expect("reads").id;
    assert_eq!(third, ConversationId::of(space(), &name("general"), 2));
}

/// A row that names another conversation's id would take words that nobody wanted erased.
#[test]
fn an_erasure_of_a_conversation_under_another_name_is_quarantined_and_erases_nothing() {
    let mut oslo = node();
    oslo.post(says("hello"));
    oslo.persist();
    let conversation = oslo.reader.conversation(&name("general")).expect("reads").id;
    let row = Erasure::Conversation { name: name("random"), incarnation: 0, conversation };
    let (mut liar, record) = Liar::new(0xc0);
    oslo.take(&record).expect("is accepted");
    let kind = EntryKind::Erasures { by: name("mallory"), rows: vec![row] };
    let taken = oslo.take(&liar.entry(kind, Vec::new())).expect("is held");
    assert!(matches!(taken, Taken::Quarantined(_)), "{taken:?}");
    oslo.persist();
    assert_eq!(oslo.texts("general"), ["hello"]);
}

/// No honest node knows what has expired in a conversation before it knows the conversation.
#[test]
fn a_cut_that_comes_before_its_conversation_holds_for_it() {
    let conversation = ConversationId::of(space(), &name("general"), 0);
    let mut tokyo = Node::new(2);
    tokyo.create("general");
    let old = tokyo.post(says("secret"));
    tokyo.persist();
    let mut states = Vec::new();
    for cut_first in [true, false] {
        let mut oslo = Node::new(1);
        let (mut liar, record) = Liar::new(0xc0);
        let rows = vec![Erasure::Cut { conversation, up_to: old.front() }];
        let kind = EntryKind::Erasures { by: name("mallory"), rows };
        let cut = [record, liar.entry(kind, Vec::new())];
        if !cut_first {
            oslo.pull(&tokyo);
            oslo.persist();
        }
        for parcel in &cut {
            assert_eq!(oslo.take(parcel).expect("is accepted"), Taken::Applied);
        }
        oslo.persist();
        oslo.pull(&tokyo);
        oslo.persist();
        assert_eq!(traces(&oslo, "secret"), 0, "cut first: {cut_first}");
        states.push(oslo.state());
    }
    assert_eq!(states[0], states[1]);
}
