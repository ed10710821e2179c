//! Reading: pages without gap or repetition, segments that roll over, lists, single messages.

use warbler_store::entry::{Entry, EntryKind, chain_digest, chain_start};
use warbler_store::id::MessageId;
use warbler_store::reader::{Range, ReadError, Reader};
use warbler_store::replica::{NewMessage, Taken};
use warbler_store::vector::VersionVector;

use crate::forge::retold;
use crate::node::{Node, imported, keyed, name, node, nodes, says, space};

/// How many records each segment of `general` holds.
fn segments(node: &Node) -> Vec<usize> {
    let mut segments: Vec<usize> = Vec::new();
    for parcel in node.parcels() {
        let entry = Entry::decode(&parcel.entry).expect("own entry");
        if let EntryKind::Segment { ordinal, .. } = entry.kind {
            segments.resize(segments.len().max(ordinal as usize + 1), 0);
            segments[ordinal as usize] += parcel.bodies.len();
        }
    }
    segments
}

fn fill(node: &mut Node, count: usize, batch: usize) {
    for place in 0..count {
        node.post(says(&place.to_string()));
        if place % batch == batch - 1 {
            node.persist();
        }
    }
    node.persist();
}

#[test]
fn a_segment_rolls_over_at_512_records() {
    let mut oslo = node();
    fill(&mut oslo, 512, 100);
    assert_eq!(segments(&oslo), [512]);
    fill(&mut oslo, 1, 1);
    assert_eq!(segments(&oslo), [512, 1]);
}

#[test]
fn one_batch_may_fill_several_segments() {
    let mut oslo = node();
    fill(&mut oslo, 1_300, 10_000);
    assert_eq!(segments(&oslo), [512, 512, 276]);
    oslo.restart();
    fill(&mut oslo, 300, 7);
    assert_eq!(segments(&oslo), [512, 512, 512, 64], "and goes on after a restart");
}

#[test]
fn a_segment_rolls_over_at_128_kib_of_keys_and_headers() {
    let mut oslo = node();
    let author = name(&"a".repeat(128));
    // A header with this author takes 1 + 1 + 8 + 2 + 128 + 1 + 16 bytes, a key 51.
    let per_record = 157 + 2 + 51;
    let full = (128_usize * 1024).div_ceil(per_record - 2);
    let message = |place: usize| NewMessage { author: author.clone(), ..says(&place.to_string()) };
    (0..full + 1).for_each(|place| {
        oslo.post(message(place));
    });
    oslo.persist();
    assert!(full > 512, "the count of records is reached first, as bodies stand elsewhere");
    assert_eq!(segments(&oslo), [512, full + 1 - 512]);

    // With content type and both references a header is larger, and the bytes decide.
    let first = oslo.post(message(0));
    let message = |place: usize| NewMessage {
        content_type: format!("text/{}", "p".repeat(120)).parse().expect("a type"),
        reply_to: Some(first),
        thread: Some(first),
        ..message(place)
    };
    oslo.create("large");
    let per_record = 157 + 51 + (1 + 125) + 16 + 16;
    let full = (128_usize * 1024).div_ceil(per_record);
    assert!(full < 512);
    let before = segments(&oslo).len();
    (0..full + 513).for_each(|place| {
        oslo.post(message(place));
    });
    oslo.persist();
    let after = segments(&oslo);
    assert!(after[before..].iter().all(|records| *records <= full), "{after:?}");
}

/// Pages from the end to the start, and from the start to the end.
fn walk(reader: &Reader, limit: usize) -> (Vec<MessageId>, Vec<MessageId>) {
    let general = name("general");
    let mut backward = Vec::new();
    let mut range = Range::Last;
    loop {
        let page = reader.page(&general, range, limit).expect("reads");
        assert_eq!(page.newer, range != Range::Last, "{range:?}");
        let ids: Vec<MessageId> = page.messages.iter().map(|message| message.id).collect();
        assert!(ids.len() <= limit && !backward.starts_with(&ids), "a page came again");
        let first = *ids.first().expect("a page is never empty while there is more");
        backward.splice(0..0, ids);
        range = Range::Before(first);
        if !page.older {
            break;
        }
    }
    let mut forward = Vec::new();
    let mut range = Range::After(MessageId::MIN);
    loop {
        let page = reader.page(&general, range, limit).expect("reads");
        assert_eq!(page.older, range != Range::After(MessageId::MIN));
        let ids: Vec<MessageId> = page.messages.iter().map(|message| message.id).collect();
        assert!(ids.len() <= limit && !forward.ends_with(&ids), "a page came again");
        forward.extend(ids);
        range = Range::After(*forward.last().expect("a page is never empty while there is more"));
        if !page.newer {
            break;
        }
    }
    (forward, backward)
}

#[test]
fn a_long_conversation_reads_page_by_page_without_gap_or_repetition() {
    let mut oslo = node();
    fill(&mut oslo, 1_900, 300);
    for place in 0..100 {
        oslo.post(imported(1_000 + place % 10, &format!("old {place}")));
    }
    oslo.persist();
    let all: Vec<MessageId> = oslo.messages("general").into_iter().map(|found| found.id).collect();
    assert_eq!(all.len(), 2_000);
    for limit in [1, 7, 50, 1_999, 2_000, 3_000] {
        let (forward, backward) = walk(&oslo.reader, limit);
        assert_eq!(forward, all, "forward by {limit}");
        assert_eq!(backward, all, "backward by {limit}");
    }
}

#[test]
fn an_empty_conversation_and_an_unknown_one_are_told_apart() {
    let oslo = node();
    let page = oslo.reader.page(&name("general"), Range::Last, 50).expect("reads");
    assert!(page.messages.is_empty() && !page.older && !page.newer);
    let error = oslo.reader.page(&name("secret"), Range::Last, 50).expect_err("unknown");
    assert!(matches!(error, ReadError::UnknownConversation(_)), "{error}");
    assert_eq!(error.to_string(), "there is no conversation `secret`");
}

#[test]
fn conversations_are_listed_by_name_with_their_counts() {
    let mut oslo = node();
    for other in ["zebra", "alpha", "general 2"] {
        oslo.create(other);
    }
    oslo.create("alpha");
    let last = oslo.post(NewMessage { conversation: name("alpha"), ..says("hello") });
    oslo.persist();

    let listed = oslo.reader.conversations(None, 10).expect("reads");
    let names: Vec<&str> = listed.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(names, ["alpha", "general", "general 2", "zebra"]);
    assert_eq!((listed[0].messages, listed[0].last), (1, Some(last)));
    assert_eq!((listed[1].messages, listed[1].last), (0, None));
    let after = oslo.reader.conversations(Some(&name("general")), 1).expect("reads");
    assert_eq!(after[0].name.as_str(), "general 2");
}

#[test]
fn a_message_is_found_by_its_id_in_its_conversation_only() {
    let mut oslo = node();
    oslo.create("random");
    let id = oslo.post(says("hello"));
    oslo.persist();
    let find = |conversation, id| oslo.reader.message(&name(conversation), id).expect("reads");
    let found = find("general", id).expect("is there");
    assert_eq!((found.id, &found.body[..]), (id, &b"hello"[..]));
    assert_eq!(find("random", id), None);
    assert_eq!(find("general", MessageId::MIN), None);
}

#[test]
fn a_page_and_its_vector_are_of_one_moment() {
    let mut nodes = nodes(2);
    nodes[0].post(says("hello"));
    let sealed = nodes[0].seal().expect("a batch");
    let reader = nodes[0].reader.clone();
    let page = reader.page(&name("general"), Range::Last, 50).expect("reads");
    assert_eq!(page.vector, nodes[1].replica.durable().vector);
    nodes[0].write(&sealed);
    let page = reader.page(&name("general"), Range::Last, 50).expect("reads");
    assert_eq!(page.vector, nodes[0].replica.durable().vector);
    assert_eq!(page.messages.len(), 1);
}

#[test]
fn a_follower_that_resumes_is_told_what_came_since_in_causal_order() {
    let mut nodes = nodes(2);
    nodes[0].post(keyed("1", "one"));
    nodes[0].persist();
    let seen = nodes[0].reader.vector().expect("reads");
    let (first, second) = crate::posting::split(&mut nodes);
    second.pull(first);
    second.post(keyed("2", "two"));
    second.persist();
    first.pull(second);
    first.post(keyed("3", "three"));
    first.persist();

    let until = first.reader.vector().expect("reads");
    let texts = |from: &VersionVector, limit| -> Vec<String> {
        let applied = first.reader.applied_between(from, &until, limit).expect("reads");
        let messages = applied.into_iter().flat_map(|applied| applied.messages);
        messages.map(|message| String::from_utf8(message.body).expect("words")).collect()
    };
    assert_eq!(texts(&seen, 100), ["two", "three"]);
    assert_eq!(texts(&seen, 1), ["two"]);
    assert_eq!(texts(&VersionVector::default(), 100), ["one", "two", "three"]);
    assert_eq!(texts(&until, 100), [""; 0]);
}

/// No honest node begins a conversation while an earlier one of its name lives.
#[test]
fn of_two_conversations_with_one_name_readers_and_writers_mean_the_later_one() {
    let mut oslo = node();
    oslo.post(says("in the first"));
    oslo.persist();
    let mut other = Node::new(9);
    other.create("general");
    other.persist();
    let [start, created] = &other.parcels()[..] else { panic!("an origin and a conversation") };
    let previous = chain_digest(chain_start(space(), start.origin), &start.entry);
    let later = retold(created, previous, |entry, _| {
        let EntryKind::Conversation { incarnation, .. } = &mut entry.kind else {
            panic!("not a creation: {entry:?}");
        };
        *incarnation = 1;
    });
    for parcel in [start, &later] {
        assert_eq!(oslo.take(parcel).expect("is taken in"), Taken::Applied);
    }
    oslo.persist();
    assert_eq!(oslo.texts("general"), [""; 0]);
    oslo.post(says("in the second"));
    oslo.persist();
    assert_eq!(oslo.texts("general"), ["in the second"]);
    let listed = oslo.reader.conversations(None, 9).expect("reads");
    assert_eq!(listed, [oslo.reader.conversation(&name("general")).expect("reads")]);
}
