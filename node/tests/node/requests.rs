//! Requests, good and bad: bad ones get a clear error and change nothing (P10).

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::stream::Stream;
use crate::world::{
    Answer, MESSAGES, Region, World, answer, client, client_builder, message, text,
};

async fn one_node() -> (World, Region) {
    let world = World::of(&["eu-west"]);
    let europe = world.start("eu-west").await;
    europe.create("general").await;
    (world, europe)
}

fn json_post(region: &Region, bytes: impl Into<reqwest::Body>) -> RequestBuilder {
    let request = region.request(Method::POST, MESSAGES).body(bytes);
    request.header("content-type", "application/json")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_created_once_listed_by_name_and_shown() {
    let (_world, europe) = one_node().await;
    let again = europe.post("/conversations", &json!({"name": "general"})).await;
    assert_eq!(again.status, StatusCode::OK, "it was there: {again:?}");
    let new = europe.post("/conversations", &json!({"name": "Ärger & co"})).await;
    assert_eq!(new.status, StatusCode::CREATED);
    assert_eq!((&new.body["name"], &new.body["messages"]), (&json!("Ärger & co"), &json!(0)));
    assert_eq!(new.body.get("last_message"), None);
    europe.create("alpha").await;

    let id = europe.say("hello").await;
    let general = europe.get("/conversations/general").await.body;
    assert_eq!((&general["messages"], &general["last_message"]), (&json!(1), &json!(id)));
    assert_eq!(text(&general["id"]).len(), 32);
    assert_eq!(general["last_at"], europe.get(&format!("{MESSAGES}/{id}")).await.body["at"]);

    let names = |page: &Answer| -> Vec<String> {
        let list = page.body["conversations"].as_array().expect("a list");
        list.iter().map(|conversation| text(&conversation["name"])).collect()
    };
    let first = europe.get("/conversations?limit=2").await;
    assert_eq!(names(&first), ["alpha", "general"]);
    assert_eq!(first.body["after"], "general");
    let rest = europe.get("/conversations?limit=2&after=general").await;
    assert_eq!(names(&rest), ["Ärger & co"]);
    assert_eq!(rest.body.get("after"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_go_both_ways_and_end_where_the_conversation_ends() {
    let (_world, europe) = one_node().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(europe.say(&number.to_string()).await);
    }
    let page = async |query: &str| {
        let page = europe.get(&format!("{MESSAGES}?limit=2{query}")).await.body;
        let list = page["messages"].as_array().expect("a list");
        let bodies: Vec<String> = list.iter().map(|message| text(&message["body"])).collect();
        (bodies, page["before"].clone(), page["after"].clone())
    };
    let none = Value::Null;
    let of = |index: usize| json!(ids[index]);
    let body = |first: usize| vec![first.to_string(), (first + 1).to_string()];
    assert_eq!(page("").await, (body(3), of(3), none.clone()));
    assert_eq!(page(&format!("&before={}", ids[3])).await, (body(1), of(1), of(2)));
    assert_eq!(page(&format!("&before={}", ids[2])).await, (body(0), none.clone(), of(1)));
    assert_eq!(page(&format!("&after={}", ids[1])).await, (body(2), of(2), of(3)));
    assert_eq!(page(&format!("&after={}", ids[2])).await, (body(3), of(3), none));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_with_the_same_key_is_the_same_message_and_with_another_body_it_is_refused() {
    let (_world, europe) = one_node().await;
    let post = async |body: &str, key: &str| {
        let request = europe.request(Method::POST, MESSAGES).json(&message(body));
        answer(request.header("idempotency-key", key)).await
    };
    let first = post("hello", "key 1").await;
    assert_eq!(first.status, StatusCode::CREATED);
    let retry = post("hello", "key 1").await;
    assert_eq!((retry.status, &retry.body), (StatusCode::OK, &first.body));
    post("another", "key 1").await.refuses(422, "key-reused");
    assert_eq!(post("hello", "key 2").await.status, StatusCode::CREATED);
    assert_eq!(europe.bodies().await, ["hello", "hello"]);

    post("hello", "").await.refuses(400, "invalid-request");
    post("hello", &"k".repeat(257)).await.refuses(400, "invalid-request");
    assert_eq!(post("hello", &"k".repeat(256)).await.status, StatusCode::CREATED);
    // Two at once are one.
    let (one, other) = tokio::join!(post("race", "key 3"), post("race", "key 3"));
    assert_eq!(one.body["id"], other.body["id"]);
    assert_ne!(one.status, other.status, "one made it, the other found it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_message_stands_at_its_own_time_and_never_in_the_future() {
    let (_world, europe) = one_node().await;
    europe.say("now").await;
    let old = json!({"body": "old", "author": "ada", "at": "2018-04-10T20:49:14.007+02:00"});
    let posted = europe.post(MESSAGES, &old).await;
    assert_eq!(posted.status, StatusCode::CREATED, "{posted:?}");
    assert_eq!(europe.bodies().await, ["old", "now"]);
    let read = europe.get(&format!("{MESSAGES}/{}", text(&posted.body["id"]))).await;
    assert_eq!(read.body["at"], "2018-04-10T18:49:14.007Z");

    let future = json!({"body": "x", "author": "ada", "at": "2999-01-01T00:00:00Z"});
    europe.post(MESSAGES, &future).await.refuses(422, "future-time");
    for at in ["yesterday", "1969-12-31T23:59:59Z", ""] {
        let bad = json!({"body": "x", "author": "ada", "at": at});
        europe.post(MESSAGES, &bad).await.refuses(400, "invalid-request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_have_64_kib_however_json_writes_it_and_no_more() {
    let (_world, europe) = one_node().await;
    let longest = "\u{1}".repeat(64 * 1024);
    let posted = europe.post(MESSAGES, &message(&longest)).await;
    assert_eq!(posted.status, StatusCode::CREATED, "six bytes of JSON for each: {}", posted.body);
    let read = europe.get(&format!("{MESSAGES}/{}", text(&posted.body["id"]))).await;
    assert_eq!(text(&read.body["body"]), longest);

    europe
        .post(MESSAGES, &message(&"x".repeat(64 * 1024 + 1)))
        .await
        .refuses(413, "body-too-large");
    europe.post(MESSAGES, &message("")).await.refuses(400, "invalid-body");
    let huge = json_post(&europe, vec![b' '; 3 * 1024 * 1024]);
    answer(huge).await.refuses(413, "body-too-large");
    assert_eq!(europe.get("/conversations/general").await.body["messages"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_is_refused_and_changes_nothing() {
    let (_world, europe) = one_node().await;
    let before = europe.digests().await;
    let bodies: [(&[u8], &str); 9] = [
        (b"{\"body\": \"x\"", "invalid-request"),
        (b"", "invalid-request"),
        (b"[]", "invalid-request"),
        (b"{\"author\": \"ada\"}", "invalid-request"),
        (b"{\"body\": \"x\", \"author\": \"ada\", \"colour\": 1}", "invalid-request"),
        (b"{\"body\": \"\xff\xfe\", \"author\": \"ada\"}", "invalid-request"),
        (b"{\"body\": \"\\ud800\", \"author\": \"ada\"}", "invalid-request"),
        (b"{\"body\": \"x\", \"author\": \"a/b\"}", "invalid-name"),
        (b"{\"body\": \"x\", \"author\": \"ada\", \"reply_to\": \"8\"}", "invalid-id"),
    ];
    for (bytes, kind) in bodies {
        answer(json_post(&europe, bytes)).await.refuses(400, kind);
    }
    let content_type = json!({"body": "x", "author": "ada", "content_type": "not a type"});
    europe.post(MESSAGES, &content_type).await.refuses(400, "invalid-request");
    let plain = europe.request(Method::POST, MESSAGES).body(message("x").to_string());
    answer(plain).await.refuses(415, "unsupported-media-type");
    europe.post("/conversations", &json!({"name": ""})).await.refuses(400, "invalid-name");
    europe.post("/conversations", &json!({"name": "a\nb"})).await.refuses(400, "invalid-name");
    let title = json!({"name": "x", "title": "a title"});
    europe.post("/conversations", &title).await.refuses(400, "invalid-request");

    for (path, kind) in [
        ("?durability=0", "invalid-request"),
        ("?durability=many", "invalid-request"),
        ("?durability=2", "durability-impossible"),
        ("?timeout_ms=60001", "invalid-request"),
        ("?colour=1", "invalid-request"),
        ("?session_wait_ms=x", "invalid-request"),
    ] {
        europe.post(&format!("{MESSAGES}{path}"), &message("x")).await.refuses(400, kind);
    }
    assert_eq!(europe.digests().await, before);
    assert_eq!(europe.bodies().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_paths_and_queries_are_refused_as_problems() {
    let (_world, europe) = one_node().await;
    let unknown = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for (path, status, kind) in [
        ("/conversations?limit=0", 400, "invalid-request"),
        ("/conversations?limit=1001", 400, "invalid-request"),
        ("/conversations?limit=1&limit=2", 400, "invalid-request"),
        ("/conversations?after=%00", 400, "invalid-name"),
        ("/conversations?after=%ff", 400, "invalid-request"),
        ("/conversations/nowhere", 404, "unknown-conversation"),
        ("/conversations/nowhere/messages", 404, "unknown-conversation"),
        ("/conversations/a%2Fb", 400, "invalid-name"),
        ("/conversations/a%0Ab/messages", 400, "invalid-name"),
        ("/conversations/%ff", 400, "invalid-request"),
        (&format!("{MESSAGES}?limit=501"), 400, "invalid-request"),
        (&format!("{MESSAGES}?before=x"), 400, "invalid-id"),
        (&format!("{MESSAGES}?before={unknown}&after={unknown}"), 400, "invalid-request"),
        (&format!("{MESSAGES}/{unknown}"), 404, "unknown-message"),
        (&format!("{MESSAGES}/{unknown}x"), 400, "invalid-id"),
        ("/nothing", 404, "not-found"),
    ] {
        europe.get(path).await.refuses(status, kind);
    }
    let client = client();
    for (path, status, kind) in [
        ("/", 404, "not-found"),
        ("/v1/spaces/other/conversations", 404, "unknown-space"),
        ("/v1/spaces/a%5Cb/conversations", 400, "invalid-name"),
        ("/v1/status?verbose=1", 400, "invalid-request"),
    ] {
        answer(client.get(europe.url(path))).await.refuses(status, kind);
    }
    for path in ["/healthz", "/v1/status", "/v1/spaces/main/conversations"] {
        let deleted = client.delete(europe.url(path)).send().await.expect("an answer");
        assert!(deleted.headers().contains_key("allow"), "{path}: {:?}", deleted.headers());
        answer(client.delete(europe.url(path))).await.refuses(405, "method-not-allowed");
    }
    let reply = json!({"body": "x", "author": "ada", "reply_to": unknown});
    europe.post(MESSAGES, &reply).await.refuses(404, "unknown-message");
    let nowhere = europe.post("/conversations/nowhere/messages", &message("x")).await;
    nowhere.refuses(404, "unknown-conversation");
    assert!(nowhere.body["hint"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn web_pages_and_rebound_names_may_not_drive_a_node_of_this_machine() {
    let (_world, europe) = one_node().await;
    let create =
        || europe.request(Method::POST, "/conversations").json(&json!({"name": "planted"}));
    answer(create().header("host", "evil.example")).await.refuses(403, "forbidden-host");
    let page = create().header("origin", "https://evil.example");
    answer(page).await.refuses(403, "forbidden-origin");
    let unknown = europe.get("/conversations/planted").await;
    unknown.refuses(404, "unknown-conversation");
    let local = create().header("host", "localhost:1").header("origin", "http://localhost:3000");
    assert_eq!(answer(local).await.status, StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_that_it_lives_without_its_peers() {
    let world = World::of(&["eu-west", "us-east"]);
    let europe = world.start("eu-west").await;
    let client = client();
    for (path, expected) in [("/healthz", "ok"), ("/readyz", "ready")] {
        let said = answer(client.get(europe.url(path))).await;
        assert_eq!((said.status, said.body), (StatusCode::OK, json!(expected)));
    }
    let status = europe.status().await;
    assert_eq!(status["node"]["region"], "eu-west");
    assert_eq!(status["peers"][0]["name"], "us-east-1");
    assert_eq!(status["peers"][0]["connected"], false);
    assert!(status["disk_bytes"].as_u64() > Some(0), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_the_same_over_http_2() {
    let (_world, europe) = one_node().await;
    let client = client_builder().http2_prior_knowledge();
    let client = client.build().expect("a client");
    let url = |path: &str| europe.url(&format!("/v1/spaces/main{path}"));
    let mut stream = Stream::open(client.get(url("/events?conversation=general"))).await;
    let posted = answer(client.post(url(MESSAGES)).json(&message("over two"))).await;
    assert_eq!(posted.status, StatusCode::CREATED, "{posted:?}");
    assert_eq!(stream.bodies(1).await, ["over two"]);
    answer(client.get(url("/conversations/nowhere"))).await.refuses(404, "unknown-conversation");
    europe.node.shutdown().await;
    assert_eq!(stream.next().await, None);
}
