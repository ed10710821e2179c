//! Writes that fail: nobody is told what is not known, and the node goes on as another run.

use std::sync::Arc;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use warbler_store::id::{ConversationId, SpaceId};

use crate::faulty::{Fate, Faults};
use crate::world::{
    Answer, MESSAGES, Region, World, answer, client, converged, eventually, message, text,
};

impl Region {
    async fn post_with_key(&self, key: &str, body: &str) -> Answer {
        let request = self.request(Method::POST, MESSAGES).json(&message(body));
        answer(request.header("idempotency-key", key)).await
    }

    /// Posts again and again with one key, as clients do, until the answer is a success.
    async fn retry(&self, key: &str, body: &str) -> StatusCode {
        eventually(true, async || self.post_with_key(key, body).await.status.is_success()).await;
        self.post_with_key(key, body).await.status
    }

    async fn run(&self) -> (u64, String) {
        let node = &self.status().await["node"];
        (node["run"].as_u64().expect("a number"), text(&node["origin"]))
    }

    async fn ready(&self) -> (u16, String) {
        let ready = answer(client().get(self.url("/readyz"))).await;
        (ready.status.as_u16(), text(&ready.body))
    }

    async fn alarms(&self) -> Vec<String> {
        let status = self.status().await;
        status["alarms"].as_array().expect("a list").iter().map(text).collect()
    }
}

async fn with_faults(world: &World, region: &str) -> (Region, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let region = world.start_with(region, &faults).await;
    (region, faults)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_is_answered_as_unknown_and_the_node_goes_on_as_another_run() {
    let world = World::of(&["eu-west"]);
    let (europe, faults) = with_faults(&world, "eu-west").await;
    europe.create("general").await;
    europe.say("one").await;
    let (run, origin) = europe.run().await;
    assert_eq!(run, 1);

    faults.fail_next(Fate::Lost);
    let failed = europe.post_with_key("k", "two").await;
    failed.refuses(500, "outcome-unknown");
    assert!(text(&failed.body["hint"]).contains("same Idempotency-Key"), "{failed:?}");
    eventually(2, async || europe.run().await.0).await;
    assert_ne!(europe.run().await.1, origin, "an origin is never used again");

    assert_eq!(europe.retry("k", "two").await, StatusCode::OK);
    europe.say("three").await;
    assert_eq!(europe.bodies().await, ["one", "two", "three"]);
    assert_eq!(europe.alarms().await, [""; 0]);
    assert_eq!(europe.ready().await, (200, "ready".to_owned()));
    assert_eq!(faults.opened(), 2);
    europe.node.shutdown().await;

    let again = world.start("eu-west").await;
    assert_eq!(again.bodies().await, ["one", "two", "three"]);
    again.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_written_after_all_shows_once_and_followers_hear_of_it_once() {
    let world = World::of(&["eu-west"]);
    let (europe, faults) = with_faults(&world, "eu-west").await;
    europe.create("general").await;
    let mut follower = europe.follow("").await;
    europe.say("one").await;
    assert_eq!(follower.bodies(1).await, ["one"]);

    faults.fail_next(Fate::Kept);
    europe.post_with_key("k", "two").await.refuses(500, "outcome-unknown");
    eventually(2, async || europe.run().await.0).await;
    assert_eq!(europe.post_with_key("k", "two").await.status, StatusCode::OK, "it was kept");
    europe.say("three").await;
    assert_eq!(europe.bodies().await, ["one", "two", "three"]);
    assert_eq!(follower.bodies(2).await, ["two", "three"]);
    europe.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_meet_the_new_run_and_both_sides_converge() {
    let world = World::of(&["eu-west", "us-east"]);
    let (europe, faults) = with_faults(&world, "eu-west").await;
    let america = world.start("us-east").await;
    europe.create("general").await;
    europe.say("one").await;
    converged(&[&europe, &america]).await;

    for (number, fate) in [(2, Fate::Lost), (3, Fate::Kept)] {
        faults.fail_next(fate);
        let key = format!("k{number}");
        europe.post_with_key(&key, &key).await.refuses(500, "outcome-unknown");
        eventually(number, async || europe.run().await.0).await;
        europe.retry(&key, &key).await;
        america.say(&format!("after {key}")).await;
    }
    converged(&[&europe, &america]).await;
    let mut bodies = america.bodies().await;
    assert_eq!(europe.bodies().await, bodies);
    bodies.sort();
    assert_eq!(bodies, ["after k2", "after k3", "k2", "k3", "one"], "each once");

    let path = format!("{MESSAGES}?durability=2&timeout_ms=20000");
    let safe = europe.post(&path, &message("safe")).await;
    assert_eq!(safe.status, StatusCode::CREATED);
    for region in [&europe, &america] {
        assert_eq!(region.alarms().await, [""; 0]);
    }
    europe.node.shutdown().await;
    america.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_cannot_be_opened_the_node_says_so_and_tries_again() {
    let world = World::of(&["eu-west"]);
    let (europe, faults) = with_faults(&world, "eu-west").await;
    europe.create("general").await;
    europe.say("one").await;

    faults.refuse_to_open(u32::MAX);
    faults.fail_next(Fate::Lost);
    europe.post_with_key("k", "two").await.refuses(500, "outcome-unknown");
    eventually(true, async || {
        europe.alarms().await.iter().any(|alarm| alarm.contains("without lasting success"))
    })
    .await;
    assert_eq!(europe.status().await["takes_writes"], false);
    let (status, why) = europe.ready().await;
    assert!(status == 503 && why.contains("the disk does not answer"), "{status} {why}");
    let refused = europe.post_with_key("k", "two").await;
    refused.refuses(503, "reopening");
    assert_eq!(refused.retry_after.as_deref(), Some("1"));
    europe.get(MESSAGES).await.refuses(503, "reopening");

    faults.refuse_to_open(0);
    europe.retry("k", "two").await;
    assert_eq!(europe.bodies().await, ["one", "two"]);
    assert_eq!(europe.status().await["takes_writes"], true);
    // That it was so unsteady is shown until it has lasted for a while.
    assert!(europe.alarms().await.iter().all(|alarm| alarm.contains("without lasting success")));
    europe.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_open_its_store_can_be_shut_down() {
    let world = World::of(&["eu-west"]);
    let (europe, faults) = with_faults(&world, "eu-west").await;
    europe.create("general").await;
    faults.refuse_to_open(u32::MAX);
    faults.fail_next(Fate::Lost);
    europe.post_with_key("k", "one").await.refuses(500, "outcome-unknown");
    eventually(503, async || europe.ready().await.0).await;
    europe.node.shutdown().await;

    let again = world.start("eu-west").await;
    assert_eq!(again.bodies().await, [""; 0]);
    again.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_one_space_stops_that_space_and_no_other() {
    let world = World::with_spaces(&["eu-west"], &["main", "side"]);
    let (europe, faults) = with_faults(&world, "eu-west").await;
    europe.create("general").await;
    europe.say("one").await;
    let side = |path: &str| europe.url(&format!("/v1/spaces/side{path}"));
    let http = client();
    let create = http.post(side("/conversations")).json(&json!({"name": "general"}));
    assert_eq!(answer(create).await.status, StatusCode::CREATED);

    let main = SpaceId::of(&"main".parse().expect("a name"));
    let general = ConversationId::of(main, &"general".parse().expect("a name"), 0);
    faults.damage(&general.0);
    europe.post(MESSAGES, &message("two")).await.refuses(500, "outcome-unknown");
    let refused = europe.post(MESSAGES, &message("two")).await;
    refused.refuses(500, "internal");
    assert!(text(&refused.body["detail"]).contains("rotten"), "{refused:?}");
    let (status, why) = europe.ready().await;
    assert!(status == 503 && why.contains("`main` stands still"), "{status} {why}");
    assert!(europe.alarms().await.iter().any(|alarm| alarm.contains("rotten")));

    let post = http.post(side(MESSAGES)).json(&message("elsewhere"));
    assert_eq!(answer(post).await.status, StatusCode::CREATED);
    let page: Value = answer(http.get(side(MESSAGES))).await.body;
    assert_eq!(page["messages"][0]["body"], "elsewhere");
    assert_eq!(europe.run().await.0, 1, "the engine is sound");
    europe.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committer_that_makes_no_progress_is_reported_until_it_goes_on() {
    let world = World::of(&["eu-west"]);
    let (europe, faults) = with_faults(&world, "eu-west").await;
    europe.create("general").await;
    faults.block(true);
    let slow = message("slow");
    let (said, ()) = tokio::join!(europe.post(MESSAGES, &slow), async {
        let committer = |alarm: &String| alarm.contains("`committer` has made no progress");
        eventually(true, async || europe.alarms().await.iter().any(committer)).await;
        faults.block(false);
        eventually(false, async || europe.alarms().await.iter().any(committer)).await;
    });
    assert_eq!(said.status, StatusCode::CREATED);
    europe.node.shutdown().await;
}
