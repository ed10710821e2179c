//! What nodes do by themselves: trimming the log, and telling what is left to do.

use reqwest::StatusCode;
use serde_json::json;

use crate::world::{MESSAGES, Region, World, answer, client, eventually, message};

/// Lets the region's node trim its log at once.
fn trim_at_once(world: &World, region: &str) {
    let path = world.config(region);
    let settings = std::fs::read_to_string(&path).expect("settings");
    let settings = settings.replace("trim = false", "trim = true");
    let settings = settings.replace("keep = \"1h\"", "keep = \"1ms\"");
    std::fs::write(&path, settings).expect("written");
}

async fn trimmed(region: &Region) -> u64 {
    region.status().await["spaces"][0]["trimmed"].as_u64().expect("a count")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_from_before_what_is_left_of_the_log_is_told_so_and_where_to_go_on() {
    let world = World::of(&["eu-west"]);
    trim_at_once(&world, "eu-west");
    let europe = world.start("eu-west").await;
    let begin = europe.get("/conversations").await.session().to_owned();
    europe.create("general").await;
    for number in 0..5 {
        europe.say(&number.to_string()).await;
    }
    // The origin record, the conversation and at least one entry of messages.
    eventually(true, async || trimmed(&europe).await > 2).await;

    let refused = europe.get(&format!("/events?session={begin}")).await;
    refused.refuses(410, "trimmed");
    let fresh = refused.body["session"].as_str().expect("a token").to_owned();
    assert_eq!(europe.bodies().await, ["0", "1", "2", "3", "4"], "pages have everything");
    let mut stream = europe.follow(&format!("?session={fresh}")).await;
    europe.say("5").await;
    assert_eq!(stream.bodies(1).await, ["5"]);

    // A new run reads what snapshots and the rest of the log say, and goes on.
    let digest = europe.digests().await.1;
    europe.node.shutdown().await;
    let europe = world.start("eu-west").await;
    assert_eq!(europe.digests().await.1, digest);
    europe.say("6").await;
    assert_eq!(europe.bodies().await.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_trimmed_while_a_node_of_the_space_has_never_been_there() {
    let world = World::of(&["eu-west", "us-east"]);
    for region in ["eu-west", "us-east"] {
        trim_at_once(&world, region);
    }
    let europe = world.start("eu-west").await;
    europe.create("general").await;
    europe.say("hello").await;
    let rounds = async || {
        let main = europe.node.services().spaces.values().next().expect("a space");
        main.progress().borrow().upkeep.rounds
    };
    let enough = rounds().await + 5;
    eventually(true, async || rounds().await >= enough).await;
    assert_eq!(trimmed(&europe).await, 0);

    let america = world.start("us-east").await;
    eventually(vec!["hello".to_owned()], async || america.bodies().await).await;
    eventually(true, async || trimmed(&europe).await > 2).await;
    let both = format!("{MESSAGES}?durability=2&timeout_ms=30000");
    assert_eq!(europe.post(&both, &message("more")).await.status, StatusCode::CREATED);
    assert_eq!(america.bodies().await, ["hello", "more"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_is_over_at_once_when_nothing_was_erased() {
    let world = World::of(&["eu-west"]);
    let europe = world.start("eu-west").await;
    europe.create("general").await;
    europe.say("hello").await;
    let client = client();
    let swept = answer(client.post(europe.url("/v1/erasures/sweep"))).await;
    assert_eq!((swept.status, swept.body), (StatusCode::OK, json!({"pending": []})));
    let wrong = answer(client.post(europe.url("/v1/erasures/sweep?timeout_ms=600001"))).await;
    wrong.refuses(400, "invalid-request");
}
