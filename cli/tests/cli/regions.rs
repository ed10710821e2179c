//! The client library between several regions, against stand-ins that answer as each test says.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use warbler_client::{Client, ClientError, Followed, Happening, NewMessage, Patience, Taken, Wait};

use crate::stub::{Asked, Reply, Stub, id, message};

/// Nobody listens there: the port is reserved for nothing.
const NOWHERE: &str = "http://127.0.0.1:1";
const SHORT: Duration = Duration::from_millis(200);

fn client(urls: &[&str], adopt: bool) -> Client {
    let long = Duration::from_secs(20);
    let patience = Patience { answer: long, away: long, busy: long, behind: SHORT };
    let builder = Client::builder().regions(urls.iter().copied()).patience(patience);
    builder.adopt(adopt).build().expect("a client")
}

fn receipt() -> Value {
    json!({"id": id(1), "durability": {"asked": 1, "reached": 1, "regions": ["eu-west"]}})
}

fn hello() -> NewMessage<'static> {
    NewMessage { body: "hello", author: "ann", ..NewMessage::default() }
}

/// An answer with a session token.
fn seen(token: &str, status: u16, value: Value) -> Reply {
    Reply::Seen(token.to_owned(), status, value)
}

fn behind(token: &str) -> Reply {
    let missing = json!([{"origin": "07".repeat(16), "seq": 9, "held": 3, "region": "eu-west"}]);
    Reply::Document(
        409,
        json!({
            "type": "urn:warbler:problem:behind", "title": "The node is behind the session",
            "status": 409, "detail": "in detail", "missing": missing, "session": token,
        }),
    )
}

#[tokio::test]
async fn a_post_goes_to_the_next_region_under_the_same_key_and_the_client_stays_there() {
    let tries = AtomicU32::new(0);
    let flaky = Stub::start(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Problem(503, "reopening", "the store is being opened again"),
        _ => Reply::Json(201, receipt()),
    });
    let space = client(&[NOWHERE, &flaky.url], true).space("main");
    let wait = Wait::default();
    let (taken, _) = space.post("general", &hello(), "k", &wait).await.expect("posted");
    assert_eq!(taken, Taken::Durable);
    space.post("general", &hello(), "k2", &wait).await.expect("posted");
    let keys: Vec<_> =
        flaky.asked().iter().map(|it| it.header("idempotency-key").map(str::to_owned)).collect();
    let expected = ["k", "k", "k2"].map(|key| Some(key.to_owned()));
    assert_eq!(keys, expected, "the same key at each try");
}

#[tokio::test]
async fn a_client_without_a_region_says_what_was_wrong_with_each() {
    let once = Patience { away: Duration::ZERO, ..Patience::default() };
    let client = Client::builder().regions([NOWHERE, NOWHERE]).patience(once).build();
    match client.expect("a client").status().await {
        Err(ClientError::NoRegion { tried, .. }) => assert_eq!(tried.len(), 2, "{tried:?}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_write_that_may_have_been_done_is_in_doubt_and_a_read_never_is() {
    let stub = Stub::start(|_| Reply::Text(502, "bad gateway"));
    let once = Patience { away: Duration::ZERO, ..Patience::default() };
    let client = Client::builder().regions([&stub.url]).patience(once).build().expect("a client");
    let space = client.space("main");
    let posted = space.post("general", &hello(), "k", &Wait::default()).await;
    assert!(matches!(posted, Err(ClientError::InDoubt { .. })), "{posted:?}");
    let read = space.conversation("general").await;
    assert!(matches!(read, Err(ClientError::NotANode { .. })), "{read:?}");
}

#[tokio::test]
async fn what_was_seen_in_one_region_is_asked_of_the_next() {
    let first = AtomicU32::new(0);
    let lost = Stub::start(move |_| match first.fetch_add(1, Ordering::SeqCst) {
        0 => seen("t1", 201, receipt()),
        _ => Reply::Text(502, "gone"),
    });
    let next = Stub::start(|_| seen("t2", 200, json!({"messages": []})));
    let space = client(&[&lost.url, &next.url], true).space("main");
    space.post("general", &hello(), "k", &Wait::default()).await.expect("posted");
    space.page("general", &warbler_client::PageAt::End, 5).await.expect("read elsewhere");
    let asked = next.asked();
    assert_eq!(asked[0].header("warbler-session"), Some("t1"));
    assert!(asked[0].line.contains("session_wait_ms="), "{}", asked[0].line);
    let session = space.session().expect("a session");
    assert_eq!(session.token().as_deref(), Some("t2"));
    assert_eq!(session.take_adopted(), [], "nothing was given up");
}

/// Behind what `much` has seen, and fine with less.
fn lagging(asked: &Asked) -> Reply {
    match asked.header("warbler-session") {
        Some("much") => behind("little"),
        _ => seen("more", 200, json!({"messages": []})),
    }
}

#[tokio::test]
async fn a_client_adopts_what_regions_hold_when_time_is_over_and_says_what_that_gave_up() {
    let (one, other) = (Stub::start(lagging), Stub::start(lagging));
    let session = warbler_client::Session::of("much".to_owned());
    let client = client(&[&one.url, &other.url], true);
    let space = client.space("main").in_session(session.clone());
    space.page("general", &warbler_client::PageAt::End, 5).await.expect("with less");
    assert!(!one.asked().is_empty() && !other.asked().is_empty(), "both were asked");
    let adopted = session.take_adopted();
    assert_eq!(adopted.len(), 1, "{adopted:?}");
    assert_eq!(adopted[0].missing[0].region.as_deref(), Some("eu-west"));
    assert_eq!((adopted[0].missing[0].held, adopted[0].missing[0].seq), (3, 9));
    assert_eq!(session.token().as_deref(), Some("more"));
}

#[tokio::test]
async fn a_client_that_may_not_adopt_never_shows_less_than_was_seen() {
    let one = Stub::start(lagging);
    let session = warbler_client::Session::of("much".to_owned());
    let space = client(&[&one.url], false).space("main").in_session(session.clone());
    let refused = space.page("general", &warbler_client::PageAt::End, 5).await;
    let refused = refused.expect_err("it is behind");
    assert_eq!(refused.problem_name(), Some("behind"));
    assert_eq!(session.token().as_deref(), Some("much"), "nothing was forgotten");
}

#[tokio::test]
async fn a_follower_goes_on_in_another_region_after_the_last_event_it_was_given() {
    let event = |name: &str, token: &str, data: Value| {
        format!("event: {name}\nid: {token}\ndata: {data}\n\n")
    };
    let (ready, arrived) =
        (event("ready", "t0", json!({})), event("message", "t1", message(1, "one")));
    let one = Stub::start(move |_| Reply::Events {
        events: vec![ready.clone(), arrived.clone()],
        then_ends: true,
    });
    let streams = AtomicU32::new(0);
    let (ready, arrived) =
        (event("ready", "t1", json!({})), event("message", "t2", message(2, "two")));
    let other = Stub::start(move |_| match streams.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Problem(503, "busy", "too many followers"),
        _ => Reply::Events { events: vec![ready.clone(), arrived.clone()], then_ends: false },
    });
    let space = client(&[&one.url, &other.url], true).space("main");
    let mut follow = space.follow(&["general"], None).await.expect("a stream");
    let mut heard = Vec::new();
    let mut resumed = Vec::new();
    while heard.len() < 3 {
        match follow.next().await.expect("it comes back") {
            Happening::Arrived(Followed::Message { message, .. }) => heard.push(message.body),
            Happening::Resumed { region } => resumed.push(region),
            // The first stream begins anew after each loss: it is a stand-in.
            Happening::Arrived(_) | Happening::Lost { .. } => {}
            Happening::Adopted(_) | Happening::Gap => panic!("nothing is missing"),
        }
    }
    assert_eq!(heard[..1], ["one"]);
    assert_eq!(heard.last().map(String::as_str), Some("two"));
    assert_eq!(follow.position(), "t2");
    let asked = other.asked();
    assert!(asked.iter().all(|it| it.header("last-event-id") == Some("t1")), "{asked:?}");
    assert!(resumed.iter().any(|region| region.starts_with(&other.url)), "{resumed:?}");
}

#[tokio::test]
async fn a_follower_from_before_the_log_is_told_of_the_gap_and_goes_on_behind_it() {
    let stub = Stub::start(|asked| match asked.header("last-event-id") {
        None => Reply::Events {
            events: vec!["event: ready\nid: old\ndata: {}\n\n".to_owned()],
            then_ends: true,
        },
        Some("old") => Reply::Document(
            410,
            json!({"type": "urn:warbler:problem:trimmed", "title": "too old", "status": 410,
                   "session": "fresh"}),
        ),
        Some(_) => Reply::Events {
            events: vec!["event: ready\nid: fresh\ndata: {}\n\n".to_owned()],
            then_ends: false,
        },
    });
    let space = client(&[&stub.url], true).space("main");
    let mut follow = space.follow(&[], None).await.expect("a stream");
    let mut gaps = 0;
    loop {
        match follow.next().await.expect("it comes back") {
            Happening::Gap => gaps += 1,
            Happening::Resumed { .. } => break,
            Happening::Arrived(_) | Happening::Lost { .. } | Happening::Adopted(_) => {}
        }
    }
    assert_eq!((gaps, follow.position()), (1, "fresh"));
}
