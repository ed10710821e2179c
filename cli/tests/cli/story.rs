//! The real thing: one node as its own process, from an empty directory to its return after a
//! SIGKILL, seen through the commands alone.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Ended, Running, at, warbler, with_input};

/// A node of a cluster of one, with its data directory.
pub(crate) struct Home {
    root: TempDir,
}

impl Home {
    /// Makes the directory and the cluster file. The ports are free ones, chosen at each start.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("eu-1");
        let made = warbler(&[
            "init",
            "--data-dir",
            utf8(&path),
            "--name",
            "eu-1",
            "--region",
            "eu-west",
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--address",
            "127.0.0.1:7421",
        ]);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        let space = "[[space]]\nname = \"main\"\nregions = [\"eu-west\"]\n";
        let cluster = format!("version = 1\n{}{space}", made.stdout);
        fs::write(root.path().join("cluster.toml"), cluster).expect("written");
        Self { root }
    }

    fn directory(&self) -> String {
        utf8(&self.root.path().join("eu-1")).to_owned()
    }

    /// Starts the node, at `http` if given, and waits until it is ready: the process and its URL.
    pub(crate) fn serve(&self, http: Option<&str>) -> (Running, String) {
        let directory = self.directory();
        let environment: Vec<_> = http.map(|it| ("WARBLER_HTTP_LISTEN", it)).into_iter().collect();
        let node = Running::start_with(&["serve", "--json", "--config", &directory], &environment);
        let ready: Value = serde_json::from_str(&node.line()).expect("JSON");
        let url = ready["http"].as_str().expect("a URL").to_owned();
        (node, url)
    }
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The output of a command that succeeded.
pub(crate) fn done(ended: Ended) -> String {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout
}

fn bodies(text: &str) -> Vec<String> {
    let body = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["body"].clone();
    text.lines().map(|line| body(line).as_str().expect("a body").to_owned()).collect()
}

#[test]
fn what_was_posted_is_read_followed_and_still_there_after_a_sigkill() {
    let home = Home::new();
    let (node, url) = home.serve(None);

    let unknown = at(&url, &["post", "general", "hello"]);
    assert_eq!(unknown.code, Some(1), "{}", unknown.stderr);
    assert!(
        unknown.stderr.contains("hint: `warbler conversations create general`"),
        "{}",
        unknown.stderr
    );
    assert_eq!(at(&url, &["read", "general"]).code, Some(1));

    done(at(&url, &["conversations", "create", "general"]));
    let first = done(at(&url, &["post", "general", "hello"]));
    let follower = Running::start(&["--url", &url, "read", "general", "--follow", "--json"]);
    assert_eq!(bodies(&follower.line()), ["hello"]);

    let answer = ["post", "general", "-", "--reply-to", first.trim(), "--as", "bob", "--key", "k"];
    let second = done(with_input(&url, &answer, "größe\nzwei\n".as_bytes()));
    assert_eq!(bodies(&follower.line()), ["größe\nzwei"]);
    assert_eq!(done(with_input(&url, &answer, "größe\nzwei\n".as_bytes())), second, "the same key");
    let reused = with_input(&url, &answer, b"another body");
    assert_eq!(reused.code, Some(1), "{}", reused.stderr);

    let many = at(&url, &["post", "general", "x", "--durability", "2"]);
    assert_eq!(many.code, Some(1), "two regions where there is one: {}", many.stderr);
    let twice = warbler(&["serve", "--config", &home.directory()]);
    assert_eq!(twice.code, Some(1), "{}", twice.stderr);
    assert!(twice.stderr.contains("in use by another process"), "{}", twice.stderr);

    assert_eq!(node.stop("KILL").code, None, "ended by the signal");
    assert_eq!(at(&url, &["post", "general", "lost"]).code, Some(3));

    let (node, again) = home.serve(url.strip_prefix("http://"));
    assert_eq!(again, url);
    let read = done(at(&url, &["read", "general", "--json"]));
    assert_eq!(bodies(&read), ["hello", "größe\nzwei"]);
    done(at(&url, &["post", "general", "three"]));
    assert_eq!(bodies(&follower.line()), ["three"], "the follower has come back by itself");
    assert_eq!(follower.stop("TERM").stdout, "", "and has skipped and repeated nothing");

    let ended = node.stop("TERM");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn real_conversations_are_imported_once_and_read_in_their_order() {
    let home = Home::new();
    let (node, url) = home.serve(None);
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../demo/sample.jsonl");
    let text = fs::read_to_string(sample).expect("the sample of the demo");
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();

    let first: Value =
        serde_json::from_str(&done(at(&url, &["import", sample, "--json"]))).expect("JSON");
    assert_eq!(first["posted"], lines.len());
    let again: Value =
        serde_json::from_str(&done(at(&url, &["import", sample, "--json"]))).expect("JSON");
    assert_eq!((&again["posted"], &again["already_there"]), (&0.into(), &first["posted"]));

    let name = lines[0]["conversation"].as_str().expect("a name");
    let said = lines.iter().filter(|line| line["conversation"] == name);
    let said: Vec<&str> = said.map(|line| line["body"].as_str().expect("a body")).collect();
    let read = done(at(&url, &["read", name, "--json", "--limit", "10000"]));
    assert_eq!(bodies(&read), said);
    let status: Value = serde_json::from_str(&done(at(&url, &["status", "--json"]))).expect("JSON");
    assert_eq!(status["spaces"][0]["messages"], lines.len());
    assert!(done(at(&url, &["status"])).starts_with("node    eu-1 ("));
    assert_eq!(node.stop("TERM").code, Some(0));
}
