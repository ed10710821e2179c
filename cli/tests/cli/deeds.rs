//! What may be done to messages and conversations, from the command line to a real node and back.

use serde_json::Value;

use crate::process::{Ended, at, warbler};
use crate::story::{Home, done};

const UNKNOWN: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// The last words of each line: author and what is behind it.
fn said(read: &str) -> Vec<String> {
    read.lines().map(|line| line.splitn(3, "  ").last().unwrap_or_default().to_owned()).collect()
}

#[track_caller]
fn refused(ended: &Ended, error: &str) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.starts_with(&format!("error: {error}")), "{}", ended.stderr);
}

#[test]
fn messages_are_edited_hidden_destroyed_and_reacted_to() {
    let home = Home::new();
    let (node, url) = home.serve(None);
    done(at(&url, &["conversations", "create", "general"]));
    let post = |words: &str| done(at(&url, &["post", "general", words])).trim().to_owned();
    let (first, second, third) = (post("helo"), post("oops"), post("secret"));

    assert_eq!(done(at(&url, &["edit", "general", &first, "hello"])), "edited\n");
    let again = done(at(&url, &["edit", "general", &first, "hello"]));
    assert_eq!(again, "nothing to do: it was so already\n");
    for user in ["bob", "eve"] {
        assert_eq!(done(at(&url, &["react", "general", &first, "👍", "--as", user])), "reacted\n");
    }
    let back = ["react", "general", &first, "👍", "--as", "eve", "--remove"];
    assert_eq!(done(at(&url, &back)), "taken back\n");
    assert_eq!(done(at(&url, &["redact", "general", &second, "--as", "bob"])), "redacted\n");
    assert_eq!(done(at(&url, &["erase", "general", &third])), "erased\n");
    let read = done(at(&url, &["read", "general"]));
    assert_eq!(
        said(&read),
        ["ann: hello (edited)  [👍 1]", "ann: (redacted by bob)", "ann: (erased)"]
    );
    let json = done(at(&url, &["read", "general", "--json"]));
    let first_line: Value =
        serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
    assert_eq!(
        (&first_line["edited"]["by"], &first_line["reactions"]["👍"]),
        (&"ann".into(), &1.into())
    );

    refused(
        &at(&url, &["edit", "general", &first, "x", "--as", "bob"]),
        "the user may not do this",
    );
    let gone = at(&url, &["edit", "general", &second, "x"]);
    refused(&gone, "the message was redacted, erased, or has expired");
    assert!(gone.stderr.contains("\n  hint: "), "{}", gone.stderr);
    refused(&at(&url, &["redact", "general", UNKNOWN]), "there is no such message here");
    refused(&at(&url, &["redact", "nowhere", UNKNOWN]), "there is no conversation `nowhere`");
    let far = at(&url, &["redact", "general", &first, "--durability", "2"]);
    refused(&far, "the space has not as many regions as that");

    done(at(&url, &["post", "general", "his", "--as", "bob"]));
    assert_eq!(done(at(&url, &["erase", "--author", "ann"])), "erased\n");
    let read = done(at(&url, &["read", "general"]));
    assert_eq!(said(&read)[3..], ["bob: his"]);
    assert!(!read.contains("hello"), "{read}");
    assert_eq!(done(at(&url, &["erase", "--conversation", "general"])), "erased\n");
    refused(&at(&url, &["read", "general"]), "there is no conversation `general`");
    assert_eq!(node.stop("TERM").code, Some(0));
}

#[test]
fn conversations_get_members_titles_and_pins_and_people_an_inbox() {
    let home = Home::new();
    let (node, url) = home.serve(None);
    let create = ["conversations", "create", "board", "--access", "members", "--owner", "ann"];
    done(at(&url, &[&create[..], &["--member", "bob=reader"]].concat()));
    refused(&at(&url, &["post", "board", "x", "--as", "bob"]), "the user may not do this");
    let members = ["conversations", "members", "board"];
    assert_eq!(done(at(&url, &members)), "ann  owner\nbob  reader\n");
    let set =
        done(at(&url, &[&members[..], &["--set", "bob=member", "--set", "eve=admin"]].concat()));
    assert_eq!(set, "ann  owner\nbob  member\neve  admin\n");
    done(at(&url, &[&members[..], &["--remove", "eve"]].concat()));

    let root = done(at(&url, &["post", "board", "hello"])).trim().to_owned();
    let reply = ["post", "board", "an answer", "--as", "bob", "--thread", &root];
    let last = done(at(&url, &reply)).trim().to_owned();
    let thread = done(at(&url, &["read", "board", "--thread", &root]));
    assert_eq!(said(&thread), ["bob: an answer"]);

    done(at(&url, &["conversations", "title", "board", "The board"]));
    done(at(&url, &["conversations", "topic", "board", "2027"]));
    done(at(&url, &["conversations", "retention", "board", "30d"]));
    done(at(&url, &["conversations", "pin", "board", &root]));
    let shown = done(at(&url, &["conversations", "show", "board"]));
    let expected = format!(
        "access        members\ntitle         The board\ntopic         2027\n\
         retention     30d\npinned        {root}\nowner         ann\nmember        bob\n"
    );
    assert!(shown.ends_with(&expected), "{shown}");
    done(at(&url, &["conversations", "retention", "board", "never"]));
    done(at(&url, &["conversations", "title", "board", "--clear"]));
    let shown = done(at(&url, &["conversations", "access", "board", "open"]));
    assert!(shown.contains("access        open") && !shown.contains("title"), "{shown}");
    assert!(!shown.contains("retention"), "{shown}");

    assert_eq!(done(at(&url, &["inbox"])), "board  2 unread  bob: an answer\n");
    assert_eq!(done(at(&url, &["mark", "board", &root])), "marked as read\n");
    assert_eq!(done(at(&url, &["inbox"])), "board  1 unread  bob: an answer\n");
    assert_eq!(done(at(&url, &["mark", "board"])), "marked as read\n");
    let inbox: Value =
        serde_json::from_str(&done(at(&url, &["inbox", "--json"]))).expect("one line of JSON");
    assert_eq!((&inbox["unread"], &inbox["read"]), (&0.into(), &last.into()));
    assert_eq!(done(at(&url, &["inbox", "--as", "eve"])), "");
    assert_eq!(node.stop("TERM").code, Some(0));
}

#[test]
fn what_would_erase_more_than_it_names_is_wrong_usage() {
    let lines: [(&[&str], &str); 7] = [
        (&["erase"], "required arguments were not provided"),
        (&["erase", "general"], "required arguments were not provided"),
        (&["erase", "general", "12"], "`12` is not a message id"),
        (&["erase", "general", UNKNOWN, "--conversation", "general"], "cannot be used with"),
        (&["erase", "--author", "ann", "--conversation", "general"], "cannot be used with"),
        (&["erase", "--conversation", "general", "--up-to", UNKNOWN], "cannot be used with"),
        (&["conversations", "members", "general", "--set", "bob=king"], "`king` is no role"),
    ];
    for (args, expected) in lines {
        let ended = warbler(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{args:?}: {}", ended.stderr);
    }
}
