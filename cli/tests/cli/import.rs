//! Importing: order, idempotence, compression, and an end in the middle.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::process::{at, with_input};
use crate::stub::{Asked, Reply, Stub, id};

/// Conversations with their bodies in order, and the keys used so far.
#[derive(Default)]
struct Held {
    bodies: BTreeMap<String, Vec<String>>,
    keys: BTreeMap<String, u32>,
}

/// Takes a conversation or a message, as a node does.
fn take(held: &Mutex<Held>, asked: &Asked) -> Reply {
    let mut held = held.lock().expect("no panic");
    let Some(conversation) = asked.line.strip_suffix("/messages") else {
        let name = asked.body["name"].as_str().expect("a name").to_owned();
        let known = held.bodies.contains_key(&name);
        held.bodies.entry(name.clone()).or_default();
        let status = if known { 200 } else { 201 };
        return Reply::Json(status, json!({"name": name, "id": "00".repeat(16), "messages": 0}));
    };
    let name = conversation.rsplit('/').next().expect("a name").to_owned();
    let key = asked.header("idempotency-key").expect("a key").to_owned();
    let number = held.keys.len() as u32;
    let known = held.keys.get(&key).copied();
    if known.is_none() {
        held.keys.insert(key, number);
        let body = asked.body["body"].as_str().expect("a body").to_owned();
        held.bodies.get_mut(&name).expect("created before the first post").push(body);
    }
    let receipt = json!({"id": id(known.unwrap_or(number)),
        "durability": {"asked": 1, "reached": 1, "regions": ["eu-west"]}});
    Reply::Json(if known.is_some() { 200 } else { 201 }, receipt)
}

/// Three conversations, interleaved, with two messages that are exactly the same.
fn file() -> String {
    let line = |number: usize| {
        let body = if number % 30 < 3 { "hello".to_owned() } else { format!("body {number}") };
        json!({"conversation": format!("chat-{}", number % 3), "author": "ann",
            "at": "2018-04-10T18:49:14Z", "body": body})
    };
    (0..60).map(|number| format!("{}\n", line(number))).collect()
}

#[test]
fn a_file_is_imported_in_order_and_a_second_time_adds_nothing() {
    let held = Arc::new(Mutex::new(Held::default()));
    let seen = Arc::clone(&held);
    let stub = Stub::of_main(move |asked| take(&seen, asked));

    let first =
        with_input(&stub.url, &["import", "-", "--json", "--concurrency", "2"], file().as_bytes());
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let summary: Value = serde_json::from_str(&first.stdout).expect("JSON");
    assert_eq!(
        [
            &summary["messages"],
            &summary["posted"],
            &summary["already_there"],
            &summary["conversations_created"]
        ],
        [&json!(60), &json!(60), &json!(0), &json!(3)]
    );
    let expected: Vec<String> = file()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .filter(|line| line["conversation"] == "chat-1")
        .map(|line| line["body"].as_str().expect("a body").to_owned())
        .collect();
    assert_eq!(
        expected.iter().filter(|body| *body == "hello").count(),
        2,
        "exact duplicates are in it"
    );
    assert_eq!(held.lock().expect("no panic").bodies["chat-1"], expected);

    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("chat.jsonl.gz");
    let mut gzip = GzEncoder::new(std::fs::File::create(&path).expect("made"), Compression::fast());
    gzip.write_all(file().as_bytes()).and_then(|()| gzip.finish()).expect("written");
    let again = at(&stub.url, &["import", path.to_str().expect("UTF-8")]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(
        again.stdout.starts_with("imported 60 messages in 3 conversations (0 new) in "),
        "{}",
        again.stdout
    );
    assert!(again.stdout.ends_with("; 60 of them were there already\n"), "{}", again.stdout);
    assert_eq!(held.lock().expect("no panic").bodies["chat-1"], expected);
}

#[test]
fn an_import_that_stops_says_how_far_it_came_and_that_it_may_be_repeated() {
    let held = Mutex::new(Held::default());
    let stub = Stub::of_main(move |asked| match asked.body["body"].as_str() {
        Some("body 33") => Reply::Problem(422, "future-time", "the time lies ahead"),
        _ => take(&held, asked),
    });
    let ended = with_input(&stub.url, &["import", "-", "--concurrency", "1"], file().as_bytes());
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!(
        ended.stderr,
        "error: the import stopped after 11 of 60 messages\n  cause: the time lies ahead\n  cause: in detail\n  \
         hint: import the same file again when that is mended: no message shows twice\n"
    );
}

#[test]
fn an_empty_file_imports_nothing() {
    let stub = Stub::of_main(|_| Reply::Text(500, "not asked"));
    let ended = with_input(&stub.url, &["import", "-"], b"\n \n");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.starts_with("imported 0 messages in 0 conversations"), "{}", ended.stdout);
    assert_eq!(stub.lines(), [""; 0]);
}
