//! Wrong usage, wrong data and missing nodes: what needs no node to be refused.

use std::fs;
use std::net::TcpListener;

use crate::process::{at, warbler, with_input};

/// A URL at which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_wrong() {
    let lines: [(&[&str], &str); 11] = [
        (&[], "Usage:"),
        (&["sing"], "unrecognized subcommand 'sing'"),
        (&["post"], "<CONVERSATION>"),
        (&["post", "a/b", "x"], "no slashes"),
        (&["post", "..", "x"], "a name may not be"),
        (&["post", "general", "x", "--durability", "most"], "`majority` or `all`"),
        (&["post", "general", "x", "--timeout-ms", "60001"], "60001"),
        (&["post", "general", "x", "--reply-to", "12"], "`12` is not a message id"),
        (&["post", "general", "x", "--at", "noon"], "`noon` is not a time"),
        (&["read", "general", "--before", "ILOU"], "`ILOU` is not a message id"),
        (
            &["read", "general", "--follow", "--after", "01ARZ3NDEKTSV4RRFFQ69G5FAV"],
            "cannot be used with",
        ),
    ];
    for (args, expected) in lines {
        let ended = at(&nobody(), args);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{args:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{args:?}");
    }
}

#[test]
fn a_url_that_is_none_of_a_node_is_wrong_usage() {
    for url in ["ftp://127.0.0.1", "http://ann:secret@127.0.0.1:7420", "127.0.0.1:7420", ""] {
        let ended = at(url, &["status"]);
        assert_eq!(ended.code, Some(2), "{url}: {}", ended.stderr);
        assert!(
            ended
                .stderr
                .starts_with(&format!("error: `{url}` is not the URL of a node\n  cause: "))
        );
        assert!(ended.stderr.contains("\n  hint: "), "{}", ended.stderr);
    }
}

#[test]
fn help_and_version_end_with_0() {
    for args in [["--help"], ["--version"]] {
        let ended = warbler(&args);
        assert_eq!(ended.code, Some(0));
        assert!(ended.stdout.contains("warbler"), "{}", ended.stdout);
    }
}

#[test]
fn a_node_that_is_not_there_ends_with_3_and_is_named() {
    let url = nobody();
    let commands: [&[&str]; 5] = [
        &["status"],
        &["post", "general", "hello"],
        &["read", "general", "--space", "main"],
        &["read", "general", "--follow", "--space", "main"],
        &["conversations"],
    ];
    for args in commands {
        let ended = at(&url, args);
        assert_eq!(ended.code, Some(3), "{args:?}: {}", ended.stderr);
        assert!(
            ended.stderr.starts_with(&format!(
                "error: the node at {url}/ cannot be reached\n  cause: Connection refused (os error 111)\n  hint: "
            )),
            "{args:?}: {}",
            ended.stderr
        );
    }
}

#[test]
fn a_message_that_cannot_be_one_is_refused_before_any_node_is_asked() {
    let url = nobody();
    let refused = |ended: crate::process::Ended, expected: &str| {
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    };
    refused(at(&url, &["post", "general", ""]), "its body is empty");
    refused(at(&url, &["post", "general", &"x".repeat(65_537)]), "65537 bytes, and 65536");
    refused(with_input(&url, &["post", "general"], b""), "its body is empty");
    refused(with_input(&url, &["post", "general"], &[b'x'; 70_000]), "more than 65536 bytes");
    refused(with_input(&url, &["post", "general", "-"], b"\xff"), "not UTF-8");
    let fits = with_input(&url, &["post", "general"], &[&[b'x'; 65_536][..], b"\r\n"].concat());
    assert_eq!(fits.code, Some(3), "64 KiB and a line end are fine: {}", fits.stderr);
}

#[test]
fn a_bad_file_is_refused_with_its_line_before_any_node_is_asked() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("chat.jsonl");
    let good = r#"{"conversation":"a","author":"b","at":"2018-04-10T18:49:14Z","body":"c"}"#;
    fs::write(&file, format!("{good}\n{good}\n{{\"conversation\":\"a\"}}\n")).expect("written");
    let path = file.to_str().expect("UTF-8");

    let ended = at(&nobody(), &["import", path]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!(
        ended.stderr,
        format!(
            "error: {path} cannot be imported\n  cause: line 3: missing field `author` (column 20)\n  \
             hint: nothing of the file was posted: correct it and import it again\n"
        )
    );

    let missing = at(&nobody(), &["import", "no/such/file"]);
    assert_eq!(missing.code, Some(1));
    assert!(
        missing.stderr.starts_with("error: no/such/file cannot be opened\n  cause: No such file")
    );

    fs::write(&file, [0x1f, 0x8b, 8, 0, 0]).expect("written");
    let torn = at(&nobody(), &["import", path]);
    assert_eq!(torn.code, Some(1), "a torn gzip file: {}", torn.stderr);
}

#[test]
fn a_token_that_cannot_be_used_is_wrong_usage_and_is_not_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    fs::write(&file, "secret with spaces\n").expect("written");
    let ended = at(&nobody(), &["status", "--token-file", file.to_str().expect("UTF-8")]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    assert_eq!(at(&nobody(), &["status", "--token-file", "no/such"]).code, Some(2));
}

#[test]
fn what_init_makes_is_checked_by_serve_and_never_overwritten() {
    let root = tempfile::tempdir().expect("a directory");
    let directory = root.path().join("eu-1");
    let path = directory.to_str().expect("UTF-8");
    let init =
        ["init", "--data-dir", path, "--name", "eu-1", "--region", "eu-west", "--cloud", "aws"];

    let made = warbler(&init);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(made.stdout.starts_with("[[node]]\nname = \"eu-1\"\nregion = \"eu-west\"\n"));
    assert!(made.stderr.contains("warbler serve --config"), "{}", made.stderr);

    let again = warbler(&init);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("is not an empty directory"), "{}", again.stderr);

    let unknown = warbler(&["serve", "--check", "--config", path]);
    assert_eq!(unknown.code, Some(1), "no cluster file yet");
    assert!(unknown.stderr.contains("cluster.toml"), "{}", unknown.stderr);

    let cluster = root.path().join("cluster.toml");
    let space = "[[space]]\nname = \"main\"\nregions = [\"eu-west\"]\n";
    fs::write(&cluster, format!("version = 1\n{}{space}", made.stdout)).expect("written");
    let checked = warbler(&["serve", "--check", "--config", path]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert_eq!(
        checked.stdout,
        "node eu-1 in eu-west can start: 1 nodes in version 1 of the cluster file, spaces here: main\n"
    );

    fs::write(&cluster, "version = 1\ncolour = \"red\"\n").expect("written");
    let bad = warbler(&["serve", "--check", "--config", path]);
    assert_eq!(bad.code, Some(1));
    assert!(
        bad.stderr.contains("cluster.toml:2: ") && bad.stderr.contains("colour"),
        "{}",
        bad.stderr
    );
}

#[test]
fn a_node_cannot_be_served_from_nowhere_or_with_a_wrong_log_filter() {
    let root = tempfile::tempdir().expect("a directory");
    let path = root.path().to_str().expect("UTF-8");
    let nowhere = warbler(&["serve", "--config", path]);
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.stderr.contains("warbler init"), "{}", nowhere.stderr);

    let child =
        crate::process::command(&["serve", "--config", path]).env("WARBLER_LOG", "a=b=c").spawn();
    let filter = crate::process::end(child.expect("started"));
    assert_eq!(filter.code, Some(2), "{}", filter.stderr);
    assert!(filter.stderr.starts_with("error: WARBLER_LOG is no filter"), "{}", filter.stderr);

    let open =
        ["init", "--data-dir", path, "--name", "n", "--region", "r", "--http", "0.0.0.0:7420"];
    let refused = warbler(&open);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("loopback"), "{}", refused.stderr);
}
