//! What the commands ask of a node, and what they make of its answers.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::process::{Ended, Running, at, command, end, with_input};
use crate::stub::{Reply, Stub, id, message, status};

fn receipt(reached: u32) -> Value {
    json!({"id": id(1), "durability": {"asked": 2, "reached": reached, "regions": ["eu-west"]}})
}

#[test]
fn a_post_is_sent_with_everything_asked_for_and_its_id_printed() {
    let stub = Stub::start(|_| Reply::Json(201, receipt(2)));
    let reply_to = id(7);
    let args = [
        "post",
        "my room",
        "hello",
        "--as",
        "bob",
        "--space",
        "other",
        "--reply-to",
        &reply_to,
        "--key",
        "k 1",
        "--durability",
        "majority",
        "--timeout-ms",
        "250",
        "--at",
        "2018-04-10T20:49:14+02:00",
    ];
    let ended = at(&stub.url, &args);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, id(1) + "\n");

    let asked = stub.asked().pop().expect("one request");
    assert_eq!(
        asked.line,
        "POST /v1/spaces/other/conversations/my%20room/messages?durability=majority&timeout_ms=250"
    );
    assert_eq!(asked.header("idempotency-key"), Some("k 1"));
    assert_eq!(asked.header("authorization"), None);
    assert_eq!(
        asked.body,
        json!({"body": "hello", "author": "bob", "reply_to": reply_to, "at": "2018-04-10T18:49:14.000Z"})
    );
}

#[test]
fn a_post_without_author_key_or_space_gets_the_user_a_random_key_and_the_first_space() {
    let stub = Stub::of_main(|_| Reply::Json(201, receipt(2)));
    for _ in 0..2 {
        let ended = with_input(&stub.url, &["post", "general"], "größe\n".as_bytes());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    let posts: Vec<_> = stub.asked().into_iter().filter(|it| it.line.starts_with("POST")).collect();
    assert_eq!(posts[0].line, "POST /v1/spaces/main/conversations/general/messages");
    assert_eq!(posts[0].body, json!({"body": "größe", "author": "ann"}));
    let key = |place: usize| posts[place].header("idempotency-key").map(str::to_owned);
    assert_eq!(key(0).map(|key| key.len()), Some(32));
    assert_ne!(key(0), key(1));
}

#[test]
fn a_token_is_sent_from_its_file_or_from_the_environment() {
    let stub = Stub::start(|_| Reply::Json(200, status()));
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    std::fs::write(&file, "from-file\n").expect("written");
    let ended = at(&stub.url, &["status", "--token-file", file.to_str().expect("UTF-8")]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let child =
        command(&["status"]).env("WARBLER_URL", &stub.url).env("WARBLER_TOKEN", "from-env").spawn();
    assert_eq!(end(child.expect("started")).code, Some(0));
    let sent: Vec<_> =
        stub.asked().iter().map(|it| it.header("authorization").map(str::to_owned)).collect();
    assert_eq!(sent, [Some("Bearer from-file".to_owned()), Some("Bearer from-env".to_owned())]);
}

#[test]
fn a_post_that_is_kept_but_not_yet_durable_ends_with_4_and_its_id() {
    let stub = Stub::of_main(|_| Reply::Json(202, receipt(1)));
    let ended = at(&stub.url, &["post", "general", "hello", "--durability", "2"]);
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    assert_eq!(ended.stdout, id(1) + "\n");
    assert!(ended.stderr.starts_with("error: the message is kept, but on disk in 1 of 2 regions"));
    assert!(ended.stderr.contains("cause: regions that hold it: eu-west"), "{}", ended.stderr);
}

#[test]
fn an_unknown_conversation_is_refused_with_the_command_that_creates_it() {
    let stub = Stub::of_main(|_| Reply::Problem(404, "unknown-conversation", "there is none"));
    for args in [["post", "it's", "hello"].as_slice(), &["read", "it's"], &["read", "-f", "it's"]] {
        let ended = at(&stub.url, args);
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert_eq!(
            ended.stderr,
            "error: there is no conversation `it's` in the space `main`\n  \
             cause: a post or a read creates no conversation\n  \
             hint: `warbler conversations create 'it'\\''s'`\n"
        );
    }
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_node() {
    let stub =
        Stub::of_main(|_| Reply::Problem(422, "key-reused", "the key was used for another body"));
    let ended = at(&stub.url, &["post", "general", "hello", "--key", "k"]);
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        ended.stderr,
        "error: the key was used for another body\n  cause: in detail\n  hint: a hint of the node\n"
    );
}

#[test]
fn a_post_whose_outcome_is_unknown_names_the_key_to_retry_with() {
    let stub = Stub::of_main(|_| Reply::Problem(500, "outcome-unknown", "a write failed"));
    let ended = at(&stub.url, &["post", "general", "hello"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.starts_with(
        "error: whether the message was posted is not known\n  cause: a write failed"
    ));
    let asked = stub.asked();
    let key = asked.last().and_then(|it| it.header("idempotency-key")).expect("a key");
    assert!(ended.stderr.contains(&format!("--key {key}")), "{}", ended.stderr);
}

#[test]
fn a_bug_of_the_node_ends_with_70_and_what_is_no_node_with_1() {
    let internal = Stub::of_main(|_| Reply::Problem(500, "internal", "a thread has panicked"));
    assert_eq!(at(&internal.url, &["read", "general"]).code, Some(70));

    let foreign = Stub::start(|_| Reply::Text(200, "<html>welcome"));
    let ended = at(&foreign.url, &["status"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("does not talk like a Warbler node"), "{}", ended.stderr);
    let gateway = Stub::start(|_| Reply::Text(502, "bad gateway"));
    assert_eq!(at(&gateway.url, &["status"]).code, Some(3));
}

#[test]
fn a_busy_node_is_asked_again() {
    let asked = AtomicU32::new(0);
    let stub = Stub::of_main(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Reply::Problem(503, "busy", "the mailbox is full"),
        _ => Reply::Json(201, receipt(2)),
    });
    let ended = at(&stub.url, &["post", "general", "hello"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let posts: Vec<_> = stub.asked().into_iter().filter(|it| it.line.starts_with("POST")).collect();
    let keys: Vec<_> = posts.iter().map(|it| it.header("idempotency-key")).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]), "a retry has the same key: {keys:?}");
}

/// A conversation of 250 messages, in pages of at most 100.
fn pages(line: &str) -> Reply {
    if !line.contains("/messages?") {
        let id = "00".repeat(16);
        return Reply::Json(200, json!({"name": "general", "id": id, "messages": 250}));
    }
    let number = |name: &str| -> Option<usize> {
        let value =
            line.split(['?', '&']).find_map(|part| part.strip_prefix(name)?.strip_prefix('='))?;
        value[value.len().saturating_sub(4)..].parse().ok()
    };
    let limit = number("limit").expect("a limit");
    let (from, to) = match (number("before"), number("after")) {
        (Some(before), _) => (before.saturating_sub(limit), before),
        (None, Some(after)) => (after + 1, (after + 1 + limit).min(250)),
        (None, None) => (250 - limit.min(250), 250),
    };
    let messages: Vec<Value> =
        (from..to).map(|it| message(it as u32, &format!("body {it}"))).collect();
    let mut page = json!({"messages": messages});
    if from > 0 {
        page["before"] = json!(id(from as u32));
    }
    if to < 250 {
        page["after"] = json!(id(to as u32 - 1));
    }
    Reply::Json(200, page)
}

fn numbers(ended: &Ended) -> Vec<u32> {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout.lines().map(|line| line[22..26].parse().expect("a number")).collect()
}

#[test]
fn a_read_of_more_than_a_page_gathers_pages_and_prints_them_oldest_first() {
    let stub = Stub::of_main(|asked| pages(&asked.line));
    let read = |more: &[&str]| at(&stub.url, &[&["read", "general"], more].concat());
    assert_eq!(numbers(&read(&[])), (200..250).collect::<Vec<_>>());
    assert_eq!(numbers(&read(&["--limit", "230"])), (20..250).collect::<Vec<_>>());
    assert_eq!(numbers(&read(&["--limit", "1000"])), (0..250).collect::<Vec<_>>());
    assert_eq!(numbers(&read(&["--limit", "0"])), [0_u32; 0]);
    assert_eq!(
        numbers(&read(&["--before", &id(120), "--limit", "110"])),
        (10..120).collect::<Vec<_>>()
    );
    assert_eq!(
        numbers(&read(&["--after", &id(99), "--limit", "105"])),
        (100..205).collect::<Vec<_>>()
    );
    assert_eq!(
        numbers(&read(&["--after", &id(99), "--limit", "1000"])),
        (100..250).collect::<Vec<_>>()
    );
}

#[test]
fn messages_are_harmless_on_a_terminal_and_whole_in_json() {
    let body = "red \x1b[31m\nforged";
    let stub = Stub::of_main(move |_| Reply::Json(200, json!({"messages": [message(1, body)]})));
    let people = at(&stub.url, &["read", "general"]);
    assert_eq!(
        people.stdout,
        format!("{}  2026-11-21T10:00:00.000Z  ann: red \\u{{1b}}[31m\n    forged\n", id(1))
    );
    let machines = at(&stub.url, &["read", "general", "--json"]);
    assert_eq!(machines.stdout.lines().count(), 1);
    let read: Value = serde_json::from_str(&machines.stdout).expect("JSON");
    assert_eq!(read, message(1, body));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let stub = Stub::of_main(|asked| pages(&asked.line));
    let mut command = command(&["--url", &stub.url, "read", "general", "--limit", "250"]);
    let mut child = command.spawn().expect("started");
    drop(child.stdout.take());
    let ended = end(child);
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.stderr, "");
}

#[test]
fn conversations_are_created_shown_and_listed_across_pages() {
    let conversation = |name: &str| json!({"name": name, "id": "00".repeat(16), "messages": 2});
    let stub = Stub::of_main(move |asked| match asked.line.strip_prefix("GET ") {
        None if asked.body["name"] == "new" => Reply::Json(201, conversation("new")),
        None => Reply::Json(200, conversation("old")),
        Some(path) if path.ends_with("?limit=1000") => {
            Reply::Json(200, json!({"conversations": [conversation("a b")], "after": "a b"}))
        }
        Some(path) if path.ends_with("&after=a+b") => {
            Reply::Json(200, json!({"conversations": [conversation("c")]}))
        }
        Some(_) => Reply::Json(200, conversation("shown")),
    });
    let print = |args: &[&str]| {
        let ended = at(&stub.url, &[&["conversations"], args].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    };
    assert!(print(&["create", "new"]).starts_with("new created ("));
    assert!(print(&["create", "old"]).starts_with("old existed already ("));
    assert!(print(&["show", "shown"]).starts_with("conversation  shown\nid            00"));
    let listed = print(&[]);
    let names: Vec<&str> = listed.lines().map(|line| line[..3].trim()).collect();
    assert_eq!(names, ["CON", "a b", "c"]);
    assert_eq!(print(&["--json"]).lines().count(), 2);
    assert_eq!(print(&["list", "--json"]), print(&["--json"]));
}

#[test]
fn the_status_is_a_table_for_people_and_the_words_of_the_node_in_json() {
    let mut state = status();
    state["a_field_of_tomorrow"] = json!("kept");
    let answered = state.clone();
    let stub = Stub::start(move |_| Reply::Json(200, answered.clone()));
    let people = at(&stub.url, &["status"]);
    assert!(
        people.stdout.contains("space main in eu-west\n  1 conversations, 2 messages"),
        "{}",
        people.stdout
    );
    let machines = at(&stub.url, &["status", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&machines.stdout).expect("JSON"), state);
}

#[test]
fn a_watched_status_is_printed_again_also_after_the_node_was_away() {
    let asked = AtomicU32::new(0);
    let stub = Stub::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        1 => Reply::Text(502, "restarting"),
        _ => Reply::Json(200, status()),
    });
    let watch = Running::start(&["--url", &stub.url, "status", "--watch", "--json"]);
    for _ in 0..2 {
        assert_eq!(serde_json::from_str::<Value>(&watch.line()).expect("JSON"), status());
    }
    let ended = watch.stop("TERM");
    assert!(ended.stderr.contains("502 Bad Gateway"), "{}", ended.stderr);
}
