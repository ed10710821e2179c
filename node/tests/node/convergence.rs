//! Posts in all regions come together, whatever happens to nodes in between.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{MESSAGES, World, answer, converged, eventually, message, text};

#[tokio::test(flavor = "multi_thread")]
async fn three_regions_that_all_take_posts_show_the_same_at_the_end() {
    let world = World::of(&["eu-west", "us-east", "ap-south"]);
    let nodes = world.start_all().await;
    // Two regions create the conversation at once: it is one.
    nodes[0].create("general").await;
    nodes[1].create("general").await;
    eventually(true, async || nodes[2].get("/conversations/general").await.status == 200).await;

    for round in 0..20 {
        for (place, node) in nodes.iter().enumerate() {
            node.say(&format!("{place}-{round}")).await;
        }
    }

    converged(&nodes.iter().collect::<Vec<_>>()).await;
    let bodies = nodes[0].bodies().await;
    assert_eq!(bodies.len(), 60, "{bodies:?}");
    for node in &nodes {
        assert_eq!(node.bodies().await, bodies, "the timeline is the same everywhere");
        let general = node.get("/conversations/general").await.body;
        assert_eq!(general["messages"], 60);
        let status = node.status().await;
        let space = &status["spaces"][0];
        assert_eq!((&space["messages"], &space["conversations"]), (&json!(60), &json!(1)));
        let regions = space["vector"].as_array().expect("a vector");
        assert_eq!(regions.len(), 3, "{status}");
        assert!(regions.iter().all(|origin| origin["node"].is_string()), "{status}");
        assert_eq!(status["peers"].as_array().map(Vec::len), Some(2));
        assert_eq!(status["alarms"], json!([]));
    }
    for node in nodes {
        node.node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_comes_back_as_a_new_origin_and_catches_up() {
    let world = World::of(&["eu-west", "us-east"]);
    let europe = world.start("eu-west").await;
    let america = world.start("us-east").await;
    europe.create("general").await;
    europe.say("before").await;
    converged(&[&europe, &america]).await;
    let first_run = text(&america.status().await["node"]["origin"]);
    america.node.shutdown().await;

    // P1: the other one goes on alone.
    europe.say("while away").await;
    eventually(Value::Bool(false), async || europe.status().await["peers"][0]["connected"].clone())
        .await;
    let peer = &europe.status().await["peers"][0];
    assert_eq!(peer.get("entries_behind"), None, "nothing is known of who is away: {peer}");

    let america = world.start("us-east").await;
    assert_ne!(text(&america.status().await["node"]["origin"]), first_run);
    america.say("back").await;
    converged(&[&europe, &america]).await;
    let mut bodies = america.bodies().await;
    bodies.sort();
    assert_eq!(bodies, ["back", "before", "while away"]);
    eventually(json!([0, 0]), async || {
        let peer = &europe.status().await["peers"][0];
        json!([peer["entries_behind"], peer["entries_ahead"]])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn durability_says_in_which_regions_a_post_really_is() {
    let world = World::of(&["eu-west", "us-east", "ap-south"]);
    let europe = world.start("eu-west").await;
    europe.create("general").await;

    // Nobody else is there: kept here, and not more is claimed.
    let asked = format!("{MESSAGES}?durability=majority&timeout_ms=100");
    let alone = europe
        .request(Method::POST, &asked)
        .header("idempotency-key", "k1")
        .json(&message("alone"));
    let alone = answer(alone).await;
    assert_eq!(alone.status, StatusCode::ACCEPTED, "{alone:?}");
    assert_eq!(alone.body["durability"], json!({"asked": 2, "reached": 1, "regions": ["eu-west"]}));

    // With a second region the same is reached, and says so: also for the retry of the first.
    let america = world.start("us-east").await;
    let both = json!({"asked": 2, "reached": 2, "regions": ["eu-west", "us-east"]});
    let reached =
        europe.post(&format!("{MESSAGES}?durability=2&timeout_ms=30000"), &message("two")).await;
    assert_eq!(
        (reached.status, &reached.body["durability"]),
        (StatusCode::CREATED, &both),
        "{reached:?}"
    );
    assert!(america.bodies().await.contains(&"two".to_owned()), "it is durable there");
    let retry = europe
        .request(Method::POST, &format!("{MESSAGES}?durability=majority&timeout_ms=30000"))
        .header("idempotency-key", "k1")
        .json(&message("alone"));
    let retry = answer(retry).await;
    assert_eq!((retry.status, &retry.body["durability"]), (StatusCode::OK, &both), "{retry:?}");
    assert_eq!(retry.body["id"], alone.body["id"]);

    let begun = std::time::Instant::now();
    let all =
        europe.post(&format!("{MESSAGES}?durability=all&timeout_ms=100"), &message("3")).await;
    assert_eq!(all.status, StatusCode::ACCEPTED, "{all:?}");
    assert_eq!(all.body["durability"]["asked"], 3);
    // The replica thread's clock counts whole milliseconds, begun ones not among them.
    assert!(begun.elapsed() >= Duration::from_millis(99), "it waited as long as it was asked to");
}
