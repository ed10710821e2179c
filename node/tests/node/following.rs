//! Followers: everything in causal order, nothing twice, nothing skipped, from any region.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::sync::watch;

use crate::stream::{Event, Stream};
use crate::world::{DEADLINE, MESSAGES, Region, World, converged, message, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_hears_other_regions_once_and_can_resume_in_any_of_them() {
    let world = World::of(&["eu-west", "us-east"]);
    let europe = world.start("eu-west").await;
    let america = world.start("us-east").await;
    europe.create("general").await;
    europe.say("before").await;
    converged(&[&europe, &america]).await;

    let mut stream = america.follow("?conversation=general").await;
    europe.say("one").await;
    europe.say("two").await;
    let one = stream.next().await.expect("an event");
    assert_eq!((one.name.as_str(), &one.data["body"]), ("message", &json!("one")));
    assert_eq!(one.data["conversation"], "general");
    assert_eq!(stream.bodies(1).await, ["two"], "each once, and none from before");

    // From the token behind `one`: in the same region, and in the one that wrote it.
    let mut missed = vec!["two".to_owned()];
    for region in [&america, &europe] {
        let mut resumed = region.follow(&format!("?session={}", one.token)).await;
        let heard = resumed.bodies(missed.len()).await;
        assert_eq!(heard, missed, "what was missed, and not `one` again");
        let next = format!("live at {}", region.node.http_addr());
        america.say(&next).await;
        assert_eq!(resumed.bodies(1).await, [&*next], "then what arrives");
        assert_eq!(stream.bodies(1).await, [&*next], "the first stream goes on, too");
        missed.push(next);
    }

    // A browser sends the last token in a header, which wins.
    let path = format!("/events?session={}", one.token);
    let now = america.get("/conversations").await.session().to_owned();
    let request = america.request(Method::GET, &path).header("last-event-id", now);
    let mut latest = Stream::open(request).await;
    europe.say("last").await;
    assert_eq!(latest.bodies(1).await, ["last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_resumes_behind_any_message_also_within_an_entry_of_many() {
    let world = World::of(&["eu-west"]);
    let europe = world.start("eu-west").await;
    europe.create("general").await;
    let mut stream = europe.follow("").await;

    // Posted at once, so that entries hold several.
    let posts = (0..200).map(|number| {
        let body = message(&format!("message {number}"));
        let (region, path) = (&europe, MESSAGES);
        async move { region.post(path, &body).await.status }
    });
    for status in futures_util::future::join_all(posts).await {
        assert_eq!(status, StatusCode::CREATED);
    }
    let mut heard = Vec::new();
    while heard.len() < 200 {
        heard.push(stream.next().await.expect("an event"));
    }
    let ids =
        |events: &[Event]| events.iter().map(|event| text(&event.data["id"])).collect::<Vec<_>>();
    assert_eq!(ids(&heard).iter().collect::<BTreeSet<_>>().len(), 200, "each once");
    let entries: u64 =
        europe.status().await["spaces"][0]["vector"][0]["seq"].as_u64().expect("a seq");
    assert!(entries < 150, "entries of several messages are what is tested: {entries}");

    for place in (0..200).step_by(7) {
        let mut resumed = europe.follow(&format!("?session={}", heard[place].token)).await;
        let mut again = Vec::new();
        while again.len() < 199 - place {
            again.push(resumed.next().await.expect("an event"));
        }
        assert_eq!(ids(&again), ids(&heard[place + 1..]), "from place {place}");
        assert_eq!(again, heard[place + 1..], "with the same tokens");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_opens_while_posts_rain_passes_from_log_to_live_without_a_seam() {
    let world = World::of(&["eu-west", "us-east"]);
    let europe = world.start("eu-west").await;
    let america = world.start("us-east").await;
    europe.create("general").await;
    converged(&[&europe, &america]).await;
    let begin = europe.get("/conversations").await.session().to_owned();
    let (said, heard) = watch::channel(0);
    let rain = async {
        for number in 0..300 {
            europe.say(&number.to_string()).await;
            said.send_replace(number);
        }
    };
    let expected: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    // Every few posts another stream opens, in both regions, with ever more to catch up on.
    let streams = (0..300).step_by(6).map(|start| {
        let (mut heard, region) = (heard.clone(), if start % 4 == 0 { &europe } else { &america });
        let (query, expected) = (format!("?session={begin}"), &expected);
        async move {
            heard.wait_for(|said| *said >= start).await.expect("it rains");
            assert_eq!(region.follow(&query).await.bodies(300).await, *expected, "from {start}");
        }
    });
    tokio::join!(rain, futures_util::future::join_all(streams));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_shows_only_the_conversations_that_were_named() {
    let world = World::of(&["eu-west"]);
    let europe = world.start("eu-west").await;
    for name in ["general", "random", "größe 1?"] {
        europe.create(name).await;
    }
    let mut two = europe.follow("?conversation=general&conversation=gr%C3%B6%C3%9Fe+1%3F").await;
    let mut all = europe.follow("").await;
    europe.post("/conversations/random/messages", &message("elsewhere")).await;
    europe.post("/conversations/gr%C3%B6%C3%9Fe%201%3F/messages", &message("big")).await;
    europe.say("here").await;
    assert_eq!(two.bodies(2).await, ["big", "here"]);
    let first = all.next().await.expect("an event");
    assert_eq!(
        (&first.data["conversation"], &first.data["body"]),
        (&json!("random"), &json!("elsewhere"))
    );
    assert_eq!(all.bodies(2).await, ["big", "here"]);

    let unknown = europe.get("/events?conversation=general&conversation=nowhere").await;
    unknown.refuses(404, "unknown-conversation");
    europe.get("/events?conversation=a%2Fb").await.refuses(400, "invalid-name");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_is_shown_with_the_id_of_what_it_answers() {
    let world = World::of(&["eu-west", "us-east"]);
    let europe = world.start("eu-west").await;
    let america = world.start("us-east").await;
    europe.create("general").await;
    converged(&[&europe, &america]).await;
    let mut stream = america.follow("").await;
    let question = europe.say("a question").await;
    let reply =
        json!({"body": "an answer", "author": "bob", "reply_to": question, "thread": question});
    assert_eq!(europe.post(MESSAGES, &reply).await.status, StatusCode::CREATED);

    assert_eq!(stream.bodies(1).await, ["a question"]);
    let reply = stream.next().await.expect("an event").data;
    assert_eq!((&reply["reply_to"], &reply["thread"]), (&json!(question), &json!(question)));
    let read = america.get(&format!("{MESSAGES}/{}", text(&reply["id"]))).await;
    assert_eq!(read.body, reply, "it reads as it was heard");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_in_another_region_is_heard_as_an_alias_and_not_as_a_second_message() {
    let world = World::of(&["eu-west", "us-east"]);
    let europe = world.start("eu-west").await;
    let america = world.start("us-east").await;
    europe.create("general").await;
    converged(&[&europe, &america]).await;
    america.node.shutdown().await;
    let post = async |region: &Region| {
        let request = region.request(Method::POST, MESSAGES).json(&message("once"));
        let said = crate::world::answer(request.header("idempotency-key", "the key")).await;
        assert_eq!(said.status, StatusCode::CREATED, "{said:?}");
        text(&said.body["id"])
    };
    let first = post(&europe).await;
    europe.node.shutdown().await;

    let america = world.start("us-east").await;
    let mut stream = america.follow("").await;
    let second = post(&america).await;
    assert!(first < second, "the lower id is canonical");
    let europe = world.start("eu-west").await;
    converged(&[&europe, &america]).await;

    assert_eq!(stream.bodies(1).await, ["once"]);
    let alias = stream.next().await.expect("an event");
    assert_eq!(alias.name, "alias");
    assert_eq!(alias.data, json!({"id": first, "alias": second}));
    europe.say("next").await;
    assert_eq!(stream.bodies(1).await, ["next"]);
    for region in [&europe, &america] {
        assert_eq!(region.bodies().await, ["once", "next"]);
        for id in [&first, &second] {
            let read = region.get(&format!("{MESSAGES}/{id}")).await;
            assert_eq!(read.body["id"], json!(first), "either id finds it");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_does_not_read_is_let_go_with_a_token_to_resume_from() {
    let world = World::of(&["eu-west"]);
    let europe = world.start("eu-west").await;
    europe.create("general").await;
    let mut stream = europe.follow("").await;
    // More than all buffers on the way hold, one batch a message.
    let body = "x".repeat(60_000);
    let mut ids = Vec::new();
    for number in 0..1_500 {
        ids.push(europe.say(&format!("{number} {body}")).await);
    }

    let mut heard = Vec::new();
    let dropped = loop {
        let event = stream.next().await.expect("an event");
        if event.name == "dropped" {
            break event;
        }
        heard.push(text(&event.data["id"]));
    };
    assert_eq!(stream.next().await, None, "the stream ends");
    assert_eq!(heard[..], ids[..heard.len()], "what was heard was whole");
    assert!(heard.len() < ids.len(), "it was too slow");
    let mut resumed = europe.follow(&format!("?session={}", dropped.token)).await;
    while heard.len() < ids.len() {
        heard.push(text(&resumed.next().await.expect("an event").data["id"]));
    }
    assert_eq!(heard, ids, "nothing is skipped, nothing comes twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_at_once_when_the_node_shuts_down() {
    let world = World::of(&["eu-west"]);
    let europe = world.start("eu-west").await;
    europe.create("general").await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(europe.follow("?conversation=general").await);
    }
    let begun = std::time::Instant::now();
    europe.node.shutdown().await;
    for stream in &mut streams {
        assert_eq!(stream.next().await, None);
    }
    assert!(begun.elapsed() < DEADLINE / 8, "it took {:?}", begun.elapsed());
}
