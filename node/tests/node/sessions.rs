//! A client goes from region to region and never sees less than it saw (P5).

use std::time::Duration;

use reqwest::StatusCode;

use crate::world::{MESSAGES, World, converged, message, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_lacks_what_a_session_has_seen_waits_for_it_or_says_what_it_lacks() {
    let world = World::of(&["eu-west", "us-east"]);
    let europe = world.start("eu-west").await;
    let america = world.start("us-east").await;
    europe.create("general").await;
    converged(&[&europe, &america]).await;
    america.node.shutdown().await;
    let said = europe.post(MESSAGES, &message("seen")).await;
    let session = said.session().to_owned();
    europe.node.shutdown().await;

    // America has never heard of it, and nobody is there to ask.
    let america = world.start("us-east").await;
    assert!(!america.bodies().await.contains(&"seen".to_owned()), "without a session: it is stale");
    let behind = america.get_with(&format!("{MESSAGES}?session_wait_ms=50"), &session).await;
    behind.refuses(409, "behind");
    let missing = behind.body["missing"].as_array().expect("what is missing");
    assert_eq!(missing.len(), 1, "{behind:?}");
    assert!(missing[0]["seq"].as_u64() > missing[0]["held"].as_u64(), "{behind:?}");
    assert_eq!(text(&missing[0]["origin"]).len(), 32);

    // The token in the answer is what the client may go on with, knowingly.
    let adopted = text(&behind.body["session"]);
    assert_eq!(behind.session(), adopted);
    assert_eq!(america.get_with(MESSAGES, &adopted).await.status, StatusCode::OK);
    // A post is held to the session, too: it may rest on what was seen.
    let path = format!("{MESSAGES}?session_wait_ms=1");
    let post = america.request(reqwest::Method::POST, &path).json(&message("too early"));
    crate::world::answer(post.header("warbler-session", &session)).await.refuses(409, "behind");
    // So is a follower that comes with that token.
    let path = format!("/events?session={session}&session_wait_ms=1");
    america.get(&path).await.refuses(409, "behind");

    // Who waits gets it as soon as it has arrived.
    let path = format!("{MESSAGES}?session_wait_ms=30000");
    let waiting = america.get_with(&path, &session);
    let (waited, _europe) = tokio::join!(waiting, world.start("eu-west"));
    assert_eq!(waited.status, StatusCode::OK, "{waited:?}");
    let last = waited.body["messages"].as_array().and_then(|messages| messages.last());
    assert_eq!(last.expect("a message")["body"], "seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_a_space_carries_a_token_that_its_reader_can_use_elsewhere() {
    let world = World::of(&["eu-west", "us-east"]);
    let europe = world.start("eu-west").await;
    let america = world.start("us-east").await;
    let created = europe.post("/conversations", &serde_json::json!({"name": "general"})).await;
    let there = america.get_with("/conversations/general", created.session()).await;
    assert_eq!(there.status, StatusCode::OK, "read your writes, elsewhere: {there:?}");

    let id = europe.say("hello").await;
    let paths = [
        "/conversations".to_owned(),
        "/conversations/general".to_owned(),
        MESSAGES.to_owned(),
        format!("{MESSAGES}/{id}"),
    ];
    for path in paths {
        let read = europe.get(&path).await;
        assert_eq!(read.status, StatusCode::OK, "{path}: {read:?}");
        let page = america.get_with(MESSAGES, read.session()).await;
        assert_eq!(page.body["messages"][0]["body"], "hello", "after {path}");
    }
    // Refusals carry one as well.
    assert!(europe.get("/conversations/nowhere").await.session.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_none_or_of_another_space_is_refused() {
    let world = World::of(&["eu-west"]);
    let europe = world.start("eu-west").await;
    let other = warbler_store::token::Token::of(
        warbler_store::id::SpaceId([9; 16]),
        warbler_store::vector::VersionVector::default(),
    );
    for token in ["nonsense", "", &other.to_text(), &"A".repeat(5000)] {
        europe.get_with("/conversations", token).await.refuses(400, "invalid-session");
        let events = europe.get(&format!("/events?session={token}")).await;
        events.refuses(400, "invalid-session");
    }
    let begun = std::time::Instant::now();
    let forged = forged(&europe.get("/conversations").await);
    let answer = europe.get_with("/conversations?session_wait_ms=200", &forged).await;
    answer.refuses(409, "behind");
    assert!(begun.elapsed() >= Duration::from_millis(200), "a made-up token only makes one wait");
}

/// A token that has seen more than there is.
fn forged(answer: &crate::world::Answer) -> String {
    let mut token = warbler_store::token::Token::from_text(answer.session()).expect("a token");
    token.vector.raise(warbler_store::id::OriginId([7; 16]), u64::MAX);
    token.to_text()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_as_long_after_many_runs_as_after_one_and_says_the_same_everywhere() {
    let world = World::of(&["eu-west", "us-east"]);
    let mut tokens = Vec::new();
    for run in 0..5 {
        let europe = world.start("eu-west").await;
        if run == 0 {
            europe.create("general").await;
        }
        let said = europe.post(MESSAGES, &message(&format!("run {run}"))).await;
        assert_eq!(said.status, StatusCode::CREATED, "{said:?}");
        tokens.push(said.session().to_owned());
        europe.node.shutdown().await;
    }
    let lengths: Vec<usize> = tokens.iter().map(String::len).collect();
    assert!(lengths.iter().all(|length| *length <= lengths[0] + 2), "{lengths:?}");

    // Each token, also of a run that is long over, is answered with what it had seen, and no less.
    let europe = world.start("eu-west").await;
    let america = world.start("us-east").await;
    converged(&[&europe, &america]).await;
    for token in &tokens {
        assert_eq!(america.get_with(MESSAGES, token).await.status, StatusCode::OK);
    }
    // Who resumes in the other region from a token of the third run hears of what came after it,
    // and of nothing twice.
    let mut stream = america.follow(&format!("?session={}", tokens[2])).await;
    assert_eq!(stream.bodies(2).await, ["run 3", "run 4"]);
}
