//! Following across the seam between page and stream, and across lost connections.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use crate::process::{Running, at};
use crate::stub::{Reply, Stub, id, message};

fn ready(token: &str) -> String {
    format!("event: ready\nid: {token}\ndata: {{}}\n\n")
}

fn arrived(number: u32) -> String {
    let data = message(number, &format!("body {number}"));
    format!(": keep-alive\n\nevent: message\nid: t{number}\ndata: {data}\n\n")
}

#[test]
fn a_follower_prints_each_message_once_across_the_page_a_lost_connection_and_being_dropped() {
    let streams = AtomicU32::new(0);
    let stub = Stub::of_main(move |asked| {
        if !asked.line.contains("/events") {
            return Reply::Json(
                200,
                json!({"messages": [message(1, "body 1"), message(2, "body 2")]}),
            );
        }
        match streams.fetch_add(1, Ordering::SeqCst) {
            // Message 2 arrived between the opening of the stream and the page.
            0 => {
                Reply::Events { events: vec![ready("t1"), arrived(2), arrived(3)], then_ends: true }
            }
            1 => Reply::Problem(503, "busy", "too many followers"),
            2 => Reply::Events {
                events: vec![ready("t3"), arrived(4), "event: dropped\nid: t4b\n\n".to_owned()],
                then_ends: true,
            },
            _ => Reply::Events { events: vec![ready("t4b"), arrived(5)], then_ends: false },
        }
    });

    let follower =
        Running::start(&["--url", &stub.url, "read", "general", "--follow", "--limit", "2"]);
    let lines: Vec<String> = (0..5).map(|_| follower.line()).collect();
    let ended = follower.stop("TERM");

    let ids: Vec<&str> = lines.iter().map(|line| &line[..26]).collect();
    assert_eq!(ids, [id(1), id(2), id(3), id(4), id(5)]);
    assert_eq!(ended.stdout, "", "and no more");
    assert!(
        ended.stderr.contains("Connection lost (the node has ended the stream)"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("Following again, at http:"), "{}", ended.stderr);

    let asked: Vec<_> = stub.asked().into_iter().filter(|it| it.line != "GET /v1/status").collect();
    assert!(
        asked[0].line.ends_with("/v1/spaces/main/events?conversation=general"),
        "{}",
        asked[0].line
    );
    assert!(asked[1].line.contains("/messages?"), "the page is read once the stream is open");
    assert_eq!(
        asked[1].header("warbler-session"),
        Some("t1"),
        "with at least what the stream has seen"
    );
    let resumed: Vec<_> = asked.iter().map(|it| it.header("last-event-id")).collect();
    assert_eq!(resumed, [None, None, Some("t3"), Some("t3"), Some("t4b")]);
}

#[test]
fn a_follower_gives_up_when_the_node_refuses_for_good() {
    let streams = AtomicU32::new(0);
    let stub = Stub::of_main(move |asked| {
        if !asked.line.contains("/events") {
            return Reply::Json(200, json!({"messages": []}));
        }
        match streams.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::Events { events: vec![ready("t1")], then_ends: true },
            _ => Reply::Problem(400, "invalid-session", "the token cannot be read"),
        }
    });
    let ended = at(&stub.url, &["read", "general", "-f"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("error: the token cannot be read"), "{}", ended.stderr);
}

#[test]
fn a_stream_that_breaks_the_rules_is_no_stream_of_a_node() {
    let broken = ["event: message\nid: t\ndata: {}\n\n", "event: ready\ndata: {}\n\n", ""];
    for text in broken {
        let stub = Stub::of_main(move |_| Reply::Events {
            events: vec![text.to_owned()],
            then_ends: true,
        });
        let ended = at(&stub.url, &["read", "general", "--follow"]);
        assert_eq!(ended.code, Some(1), "{text:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("does not talk like a Warbler node"), "{}", ended.stderr);
    }
}
