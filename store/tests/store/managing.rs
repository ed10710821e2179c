//! Managing conversations: members and roles, pins, titles, access, read markers.

use warbler_store::id::MessageId;
use warbler_store::reader::Unread;
use warbler_store::record::{Access, Role};
use warbler_store::replica::{CommandError, NewMessage, Operated, Operation};

use crate::deeds::{edit, exchange, react};
use crate::node::{Node, name, node, nodes, says};
use crate::posting::split;

fn member(user: &str, role: Option<Role>) -> Operation {
    Operation::SetMember { user: name(user), role }
}

fn members(node: &Node) -> Vec<(String, Role)> {
    let members = node.reader.members(&name("general")).expect("reads");
    members.into_iter().map(|found| (found.user.to_string(), found.role)).collect()
}

fn title(text: Option<&str>) -> Operation {
    Operation::SetTitle(text.map(|text| text.as_bytes().to_vec()))
}

fn titled(node: &Node) -> Option<String> {
    let title = node.reader.settings(&name("general")).expect("reads").title;
    title.map(|title| String::from_utf8(title).expect("words"))
}

fn is_forbidden(node: &mut Node, user: &str, operation: Operation) {
    let said = format!("{operation:?}");
    let error = node.try_do(user, operation).expect_err(&said);
    assert!(matches!(error, CommandError::Forbidden { .. }), "{said}: {error}");
    assert!(!node.replica.has_work(), "{said}");
}

#[test]
fn a_member_that_is_removed_in_one_region_stays_removed_whatever_another_says_at_once() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    oslo.does("root", member("bob", Some(Role::Member)));
    exchange(oslo, tokyo);
    oslo.does("root", member("bob", None));
    tokyo.does("root", member("bob", Some(Role::Admin)));
    tokyo.does("root", member("bob", Some(Role::Owner)));
    exchange(oslo, tokyo);
    assert_eq!(members(oslo), []);
    assert!(tokyo.reader.inbox(&name("bob")).expect("reads").is_empty());

    // Whoever has seen the removal may add again.
    tokyo.does("root", member("bob", Some(Role::Reader)));
    exchange(oslo, tokyo);
    assert_eq!(members(oslo), [("bob".to_owned(), Role::Reader)]);
    assert_eq!(oslo.reader.inbox(&name("bob")).expect("reads").len(), 1);
    assert_eq!(
        oslo.reader.role(&name("general"), &name("bob")).expect("reads"),
        Some(Role::Reader)
    );
    assert_eq!(oslo.reader.role(&name("general"), &name("eve")).expect("reads"), None);
}

#[test]
fn of_two_roles_given_at_once_the_greater_rank_counts_everywhere() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    tokyo.post(says("so that both origins are known"));
    exchange(oslo, tokyo);
    oslo.does("root", member("bob", Some(Role::Owner)));
    tokyo.does("root", member("bob", Some(Role::Reader)));
    exchange(oslo, tokyo);
    assert_eq!(members(oslo), [("bob".to_owned(), Role::Reader)], "tokyo's origin is greater");
    oslo.does("root", member("bob", Some(Role::Member)));
    exchange(oslo, tokyo);
    assert_eq!(members(tokyo), [("bob".to_owned(), Role::Member)], "both were replaced");
}

#[test]
fn each_role_may_do_what_it_says_and_nothing_above() {
    let mut oslo = node();
    for (user, role) in [("ada", Role::Owner), ("bob", Role::Admin), ("eve", Role::Member)] {
        oslo.does("root", member(user, Some(role)));
    }
    oslo.does("root", member("rex", Some(Role::Reader)));
    oslo.does("bob", Operation::SetAccess(Access::Members));
    oslo.persist();
    let said = |author: &str| NewMessage { author: name(author), ..says("hello") };
    let id = oslo.post(said("eve"));
    oslo.persist();
    for stranger in ["rex", "zoe"] {
        let error = oslo.try_post(said(stranger)).expect_err("may not post");
        let expected =
            format!("`{stranger}` may not do this in `general`: it takes the role of member");
        assert_eq!(error.to_string(), expected);
        is_forbidden(&mut oslo, stranger, react(id, "🐦", true));
    }
    is_forbidden(&mut oslo, "zoe", Operation::MarkRead { message: id });
    oslo.does("rex", Operation::MarkRead { message: id });
    oslo.persist();
    for (least, operation) in [
        ("bob", Operation::Pin { message: id, on: true }),
        ("bob", title(Some("title"))),
        ("bob", Operation::SetTopic(Some(b"topic".to_vec()))),
        ("bob", member("zoe", Some(Role::Admin))),
        ("ada", member("zoe", Some(Role::Owner))),
        ("ada", Operation::SetRetention(Some(1_000))),
    ] {
        let below = if least == "bob" { "eve" } else { "bob" };
        is_forbidden(&mut oslo, below, operation.clone());
        oslo.does(least, operation);
        oslo.persist();
    }
    is_forbidden(&mut oslo, "bob", member("ada", None));
    is_forbidden(&mut oslo, "bob", Operation::EraseConversation);
    oslo.does("eve", member("eve", None));
    oslo.persist();
    let error = oslo.try_do("eve", edit(id, "I left")).expect_err("left");
    assert!(matches!(error, CommandError::Forbidden { .. }), "everybody may leave: {error}");
    oslo.does("ada", Operation::EraseConversation);
}

#[test]
fn whoever_is_no_member_of_an_open_conversation_may_do_what_a_member_may() {
    let mut oslo = node();
    let id = oslo.post(NewMessage { author: name("zoe"), ..says("hello") });
    oslo.does("eve", react(id, "🐦", true));
    oslo.persist();
    is_forbidden(&mut oslo, "zoe", Operation::Pin { message: id, on: true });
    is_forbidden(&mut oslo, "zoe", member("zoe", Some(Role::Member)));
}

#[test]
fn a_request_that_sets_much_is_done_as_a_whole_in_one_entry() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    oslo.does("root", member("ada", Some(Role::Owner)));
    let id = oslo.post(says("hello"));
    oslo.persist();
    let before = oslo.parcels().len();
    let all = vec![
        member("bob", Some(Role::Member)),
        title(Some("first")),
        Operation::SetAccess(Access::Members),
        Operation::Pin { message: id, on: true },
        Operation::SetRetention(Some(90_000)),
        // Of one setting the last word counts.
        title(Some("last")),
        Operation::SetTopic(Some(b"birds".to_vec())),
        member("bob", Some(Role::Owner)),
        // Her right to do all this comes from before: she may give it away at the end.
        member("ada", None),
    ];
    assert_eq!(oslo.try_all("ada", all).expect("is accepted"), Operated::Done);
    let sealed = oslo.persist().expect("a batch");
    assert_eq!(oslo.parcels().len(), before + 1);
    assert_eq!(sealed.applied.len(), 1, "followers are told once");
    exchange(oslo, tokyo);
    for node in [&*oslo, &*tokyo] {
        assert_eq!(members(node), [("bob".to_owned(), Role::Owner)]);
        assert_eq!(titled(node).as_deref(), Some("last"));
        let settings = node.reader.settings(&name("general")).expect("reads");
        assert_eq!((settings.pins, settings.retention), (vec![id], Some(90_000)));
        assert_eq!(settings.topic.as_deref(), Some(&b"birds"[..]), "each has its own words");
    }
    let again = vec![member("bob", Some(Role::Owner)), Operation::SetAccess(Access::Members)];
    assert_eq!(oslo.try_all("bob", again).expect("is accepted"), Operated::Unchanged);
    assert!(!oslo.replica.has_work());
}

#[test]
fn of_a_request_of_which_a_part_is_refused_nothing_is_done() {
    let mut oslo = node();
    oslo.does("root", member("ada", Some(Role::Owner)));
    oslo.does("root", member("bob", Some(Role::Admin)));
    let id = oslo.post(says("hello"));
    oslo.persist();
    let known = (members(&oslo), oslo.state());
    let never = MessageId([7; 16]);
    for (user, part) in [
        ("bob", Operation::SetRetention(Some(90_000))),
        ("bob", member("ada", None)),
        ("bob", Operation::Pin { message: never, on: true }),
        ("bob", title(Some(""))),
        ("bob", react(id, "🐦", true)),
        ("bob", Operation::EraseConversation),
    ] {
        let said = format!("{part:?}");
        let all = vec![title(Some("half done")), member("eve", Some(Role::Member)), part];
        oslo.try_all(user, all).expect_err(&said);
        assert!(!oslo.replica.has_work(), "{said}");
        oslo.restart();
        assert_eq!((members(&oslo), oslo.state()), known, "{said}");
    }
    // A part is judged as if those before it were done.
    let error = oslo.try_all("bob", vec![member("bob", None), title(Some("left"))]);
    assert!(matches!(error, Err(CommandError::Forbidden { .. })), "{error:?}");
    let error = oslo
        .try_all("ada", vec![member("ada", Some(Role::Admin)), member("ada", Some(Role::Owner))]);
    assert!(matches!(error, Err(CommandError::Forbidden { .. })), "{error:?}");
    assert_eq!(members(&oslo), known.0);
}

#[test]
fn a_request_with_more_settings_than_an_entry_holds_is_still_one_batch() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    let all = (0..600).map(|user| member(&format!("user {user}"), Some(Role::Member))).collect();
    assert_eq!(oslo.try_all("root", all).expect("is accepted"), Operated::Done);
    let sealed = oslo.seal().expect("a batch");
    assert_eq!(oslo.seal().map(|sealed| sealed.ticket), None, "nothing is left for another");
    oslo.restart();
    assert_eq!(members(oslo), [], "a crash before the batch is on disk leaves none of it");
    drop(sealed);
    let all = (0..600).map(|user| member(&format!("user {user}"), Some(Role::Member))).collect();
    oslo.try_all("root", all).expect("is accepted");
    exchange(oslo, tokyo);
    assert_eq!(members(tokyo).len(), 600);
}

#[test]
fn of_two_titles_at_once_one_shows_everywhere_and_both_travel_on() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    oslo.does("root", title(Some("first")));
    assert_eq!(
        oslo.try_do("root", Operation::SetRetention(None)).expect("is accepted"),
        Operated::Done
    );
    exchange(oslo, tokyo);
    oslo.does("root", title(Some("from oslo")));
    tokyo.does("root", title(Some("from tokyo")));
    exchange(oslo, tokyo);
    assert_eq!(titled(oslo), titled(tokyo));
    assert!(titled(oslo).is_some_and(|title| title.starts_with("from ")));
    assert_eq!(oslo.parcels(), tokyo.parcels(), "each entry with its words");
    let mut lima = Node::new(9);
    lima.pull_shuffled(tokyo, usize::MAX, 7);
    lima.persist();
    assert_eq!(lima.state(), oslo.state());

    tokyo.does("root", title(None));
    tokyo.does("root", Operation::SetTopic(Some(b"birds".to_vec())));
    exchange(oslo, tokyo);
    assert_eq!(titled(oslo), None);
    let topic = oslo.reader.settings(&name("general")).expect("reads").topic;
    assert_eq!(topic.as_deref(), Some(&b"birds"[..]));
}

#[test]
fn pins_are_listed_in_the_order_of_the_timeline_until_they_are_taken_away() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    let first = oslo.post(says("first"));
    let second = oslo.post(says("second"));
    exchange(oslo, tokyo);
    let pin = |message, on| Operation::Pin { message, on };
    tokyo.does("root", pin(second, true));
    oslo.does("root", pin(first, true));
    exchange(oslo, tokyo);
    let pins = |node: &Node| node.reader.settings(&name("general")).expect("reads").pins;
    assert_eq!(pins(tokyo), [first, second]);
    let again = tokyo.try_do("root", pin(first, true)).expect("is accepted");
    assert_eq!(again, Operated::Unchanged);
    tokyo.does("root", pin(first, false));
    exchange(oslo, tokyo);
    assert_eq!(pins(oslo), [second]);
    oslo.expire("general", second.front());
    exchange(oslo, tokyo);
    assert_eq!(pins(tokyo), [], "what has expired is pinned no more");
}

fn unread(node: &Node, user: &str) -> Unread {
    node.reader.unread(&name("general"), &name(user), 100).expect("reads")
}

fn read(message: MessageId) -> Operation {
    Operation::MarkRead { message }
}

#[test]
fn a_read_marker_moves_forward_only_and_the_greatest_counts_everywhere() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    let ids: Vec<MessageId> = (0..5).map(|place| oslo.post(says(&place.to_string()))).collect();
    exchange(oslo, tokyo);
    assert_eq!(unread(oslo, "bob"), Unread { read: None, count: 5, late: Vec::new() });
    oslo.does("bob", read(ids[3]));
    tokyo.does("bob", read(ids[1]));
    exchange(oslo, tokyo);
    assert_eq!((unread(tokyo, "bob").read, unread(tokyo, "bob").count), (Some(ids[3]), 1));
    let back = tokyo.try_do("bob", read(ids[2])).expect("is accepted");
    assert_eq!(back, Operated::Unchanged);
    assert!(!tokyo.replica.has_work());
    let error = tokyo.try_do("bob", read(MessageId::MIN)).expect_err("no message");
    assert!(matches!(error, CommandError::UnknownMessage(_)), "{error}");
}

#[test]
fn markers_that_move_within_a_batch_are_one_entry() {
    let mut oslo = node();
    let ids: Vec<MessageId> = (0..5).map(|place| oslo.post(says(&place.to_string()))).collect();
    oslo.persist();
    for id in &ids {
        for user in ["ada", "bob", "eve"] {
            oslo.does(user, read(*id));
        }
    }
    let sealed = oslo.persist().expect("a batch");
    assert_eq!(sealed.own.len(), 1);
    assert_eq!(unread(&oslo, "eve").read, Some(ids[4]));
}

#[test]
fn a_message_that_arrives_below_a_marker_is_listed_as_late_until_the_marker_moves() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    let early = tokyo.post(says("said early, arrives late"));
    oslo.clock += 1_000;
    let seen = oslo.post(says("seen"));
    oslo.persist();
    oslo.does("bob", read(seen));
    oslo.persist();
    exchange(oslo, tokyo);
    assert_eq!(unread(oslo, "bob"), Unread { read: Some(seen), count: 0, late: vec![early] });
    assert_eq!(unread(oslo, "eve").late, [], "who has not read that far sees it coming");
    oslo.clock += 1;
    let next = oslo.post(says("next"));
    oslo.persist();
    assert_eq!(unread(oslo, "bob").late, [early]);
    oslo.does("bob", read(next));
    oslo.persist();
    assert_eq!(unread(oslo, "bob"), Unread { read: Some(next), count: 0, late: Vec::new() });
}
