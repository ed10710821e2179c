//! What is done to messages and conversations: edits, reactions, redactions, erasures, roles,
//! read markers, in one region and seen in the others.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::stream::Event;
use crate::world::{Answer, MESSAGES, Region, World, answer, converged, eventually, text};

impl Region {
    async fn call(&self, method: Method, path: &str, body: &Value) -> Answer {
        answer(self.request(method, path).json(body)).await
    }

    async fn delete(&self, path: &str) -> Answer {
        answer(self.request(Method::DELETE, path)).await
    }

    async fn edit(&self, id: &str, body: &str) -> Answer {
        let edit = json!({"body": body, "author": "ada"});
        self.call(Method::PATCH, &format!("{MESSAGES}/{id}"), &edit).await
    }
}

fn done(answer: &Answer) -> (StatusCode, bool) {
    (answer.status, answer.body["changed"].as_bool().unwrap_or_else(|| panic!("{answer:?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_in_one_region_shows_in_the_others_with_its_history_and_to_followers() {
    let world = World::of(&["eu-west", "us-east", "ap-south"]);
    let nodes = world.start_all().await;
    let [europe, america, asia] = &nodes[..] else { panic!("three nodes") };
    europe.create("general").await;
    let id = europe.say("helo").await;
    converged(&[europe, america, asia]).await;
    let mut stream = asia.follow("?conversation=general").await;

    let path = format!("{MESSAGES}/{id}?durability=all&timeout_ms=30000");
    let edit = json!({"body": "hello", "author": "ada"});
    let edited = america.call(Method::PATCH, &path, &edit).await;
    assert_eq!(done(&edited), (StatusCode::OK, true));
    assert_eq!(edited.body["durability"]["reached"], 3);
    let again = america.call(Method::PATCH, &path, &edit).await;
    assert_eq!(done(&again), (StatusCode::OK, false), "it says so already");

    let event = stream.next().await.expect("an event");
    assert_eq!((event.name.as_str(), &event.data["body"]), ("changed", &json!("hello")));
    assert_eq!(event.data["edited"]["by"], "ada");
    for node in &nodes {
        assert_eq!(node.bodies().await, ["hello"]);
        let history = node.get(&format!("{MESSAGES}/{id}/history")).await.body;
        let versions = history["versions"].as_array().expect("versions");
        let bodies: Vec<String> = versions.iter().map(|one| text(&one["body"])).collect();
        assert_eq!(bodies, ["helo", "hello"]);
    }

    let bob = json!({"body": "bye", "author": "bob"});
    europe.call(Method::PATCH, &path, &bob).await.refuses(403, "forbidden");
    let nothing = json!({"body": "", "author": "ada"});
    europe.call(Method::PATCH, &path, &nothing).await.refuses(400, "invalid-body");
    assert_eq!(europe.bodies().await, ["hello"], "and nothing changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn reactions_are_counted_once_a_person_and_can_be_taken_back_in_another_region() {
    let world = World::of(&["eu-west", "us-east"]);
    let nodes = world.start_all().await;
    let [europe, america] = &nodes[..] else { panic!("two nodes") };
    europe.create("general").await;
    let id = europe.say("hello").await;
    converged(&[europe, america]).await;
    let thumb = |user: &str| format!("{MESSAGES}/{id}/reactions/%F0%9F%91%8D?as={user}");
    let nothing = json!({});
    for user in ["ada", "bob"] {
        let set = europe.call(Method::PUT, &thumb(user), &nothing).await;
        assert_eq!(done(&set), (StatusCode::CREATED, true));
    }
    let twice = europe.call(Method::PUT, &thumb("ada"), &nothing).await;
    assert_eq!(done(&twice), (StatusCode::OK, false));
    converged(&[europe, america]).await;
    assert_eq!(done(&america.delete(&thumb("bob")).await), (StatusCode::OK, true));
    converged(&[europe, america]).await;
    for node in &nodes {
        let message = node.get(&format!("{MESSAGES}/{id}")).await.body;
        assert_eq!(message["reactions"], json!({"👍": 1}));
    }
    let nobody = format!("{MESSAGES}/{id}/reactions/x");
    europe.call(Method::PUT, &nobody, &nothing).await.refuses(400, "invalid-request");
}

#[tokio::test(flavor = "multi_thread")]
async fn erased_words_are_gone_from_pages_history_and_resumed_streams_in_all_regions() {
    let world = World::of(&["eu-west", "us-east", "ap-south"]);
    let nodes = world.start_all().await;
    let [europe, america, asia] = &nodes[..] else { panic!("three nodes") };
    europe.create("general").await;
    let begin = europe.get("/conversations").await.session().to_owned();
    let (kept, gone, hidden) =
        (europe.say("kept").await, europe.say("secret").await, europe.say("oops").await);
    europe.edit(&gone, "a secret, too").await;
    converged(&[europe, america, asia]).await;
    let mut live = asia.follow("?conversation=general").await;

    let erase = format!("{MESSAGES}/{gone}?erase=true&as=ada&durability=all&timeout_ms=30000");
    assert_eq!(done(&america.delete(&erase).await), (StatusCode::OK, true));
    assert_eq!(done(&america.delete(&erase).await), (StatusCode::OK, false));
    let redact = format!("{MESSAGES}/{hidden}?as=ada&durability=all&timeout_ms=30000");
    assert_eq!(done(&america.delete(&redact).await), (StatusCode::OK, true));

    let erased = live.next().await.expect("an event");
    let expected = json!({"what": "message", "conversation": "general", "id": gone});
    assert_eq!((erased.name.as_str(), &erased.data), ("erased", &expected));
    let redacted = live.next().await.expect("an event");
    assert_eq!(
        (redacted.name.as_str(), &redacted.data["redacted"]["by"]),
        ("changed", &json!("ada"))
    );
    for node in &nodes {
        assert_eq!(node.bodies().await, ["kept", "", ""]);
        let message = node.get(&format!("{MESSAGES}/{gone}")).await.body;
        assert_eq!((&message["erased"], &message["body"]), (&json!(true), &json!("")));
        for id in [&gone, &hidden] {
            node.get(&format!("{MESSAGES}/{id}/history")).await.refuses(410, "gone");
            node.edit(id, "back again").await.refuses(410, "gone");
        }
        // Who resumes from before the words were said gets the places, and no words.
        let mut resumed = node.follow(&format!("?conversation=general&session={begin}")).await;
        let mut heard: Vec<Event> = Vec::new();
        while heard.last().is_none_or(|event| event.name != "changed" || event.data["id"] != hidden)
        {
            heard.push(resumed.next().await.expect("an event"));
        }
        let messages = heard.iter().filter(|event| event.name == "message");
        let ids: Vec<String> = messages.map(|event| text(&event.data["id"])).collect();
        assert_eq!(ids, [kept.clone(), gone.clone(), hidden.clone()], "each once, in order");
        let said = format!("{heard:?}");
        assert!(!said.contains("secret") && !said.contains("oops"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_wait_for_a_slow_follower_are_not_shown_once_they_are_erased() {
    let world = World::of(&["eu-west"]);
    let europe = world.start("eu-west").await;
    europe.create("general").await;
    let mut stream = europe.follow("?conversation=general").await;
    // So much that the connection's buffers fill up, and the node holds the rest back.
    let long = "x".repeat(60 * 1024);
    for _ in 0..200 {
        europe.say(&long).await;
    }
    let id = europe.say("secret").await;
    let erase = format!("{MESSAGES}/{id}?erase=true&as=ada");
    assert_eq!(done(&europe.delete(&erase).await), (StatusCode::OK, true));
    for place in 0..200 {
        let event = stream.next().await.expect("an event");
        assert_eq!(
            (event.name.as_str(), &event.data["body"]),
            ("message", &json!(long)),
            "{place}"
        );
    }
    let event = stream.next().await.expect("an event");
    assert_eq!((&event.data["id"], &event.data["body"]), (&json!(id), &json!("")), "{event:?}");
    assert_eq!(stream.next().await.expect("an event").name, "erased");
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_were_read_for_a_follower_who_does_not_take_them_are_read_again() {
    let world = World::of(&["eu-west"]);
    let europe = world.start("eu-west").await;
    europe.create("general").await;
    let begin = europe.get("/conversations").await.session().to_owned();
    // JSON writes each byte as six: more than a connection's buffers hold, in one piece of the log.
    let long = "\u{1}".repeat(60 * 1024);
    for _ in 0..60 {
        europe.say(&long).await;
    }
    let id = europe.say("secret").await;
    let mut stream = europe.follow(&format!("?session={begin}")).await;
    assert_eq!(stream.next().await.expect("an event").data["body"], json!(long));

    let erase = format!("{MESSAGES}/{id}?erase=true&as=ada");
    assert_eq!(done(&europe.delete(&erase).await), (StatusCode::OK, true));
    for place in 1..60 {
        let event = stream.next().await.expect("an event");
        assert_eq!(event.data["body"], json!(long), "{place}");
    }
    let event = stream.next().await.expect("an event");
    assert_eq!((&event.data["id"], &event.data["body"]), (&json!(id), &json!("")), "{event:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_words_of_an_author_go_everywhere_and_those_of_others_stay() {
    let world = World::of(&["eu-west", "us-east"]);
    let nodes = world.start_all().await;
    let [europe, america] = &nodes[..] else { panic!("two nodes") };
    europe.create("general").await;
    europe.say("mine").await;
    let bob = json!({"body": "his", "author": "bob"});
    assert_eq!(europe.post(MESSAGES, &bob).await.status, StatusCode::CREATED);
    converged(&[europe, america]).await;
    let erasure = json!({"as": "ada", "author": "ada"});
    let erased = america.post("/erasures?durability=all&timeout_ms=30000", &erasure).await;
    assert_eq!(done(&erased), (StatusCode::OK, true));
    for node in &nodes {
        assert_eq!(node.bodies().await, ["", "his"]);
    }
    let last = format!("{MESSAGES}/{}", europe.say("after it").await);
    assert_eq!(europe.get(&last).await.body["body"], "after it", "what comes later stays");
    let pending = || async { europe.status().await["spaces"][0]["sweeps_pending"].clone() };
    eventually(json!(1), pending).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_conversation_is_gone_in_all_regions_and_its_name_is_free_again() {
    let world = World::of(&["eu-west", "us-east"]);
    let nodes = world.start_all().await;
    let [europe, america] = &nodes[..] else { panic!("two nodes") };
    europe.create("general").await;
    europe.say("first life").await;
    converged(&[europe, america]).await;
    let mut stream = europe.follow("").await;
    let erased =
        america.delete("/conversations/general?as=ada&durability=2&timeout_ms=30000").await;
    assert_eq!(done(&erased), (StatusCode::OK, true));
    for node in &nodes {
        node.get("/conversations/general").await.refuses(404, "unknown-conversation");
    }
    let event = stream.next().await.expect("an event");
    let expected = json!({"what": "conversation", "conversation": "general"});
    assert_eq!((event.name.as_str(), &event.data), ("erased", &expected));

    america.create("general").await;
    america.say("second life").await;
    converged(&[europe, america]).await;
    assert_eq!(europe.bodies().await, ["second life"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_members_post_where_only_members_may_and_a_change_of_role_is_told() {
    let world = World::of(&["eu-west", "us-east"]);
    let nodes = world.start_all().await;
    let [europe, america] = &nodes[..] else { panic!("two nodes") };
    let board = json!({"name": "board", "access": "members", "owner": "ada",
                       "members": {"bob": "reader"}});
    let created = europe.post("/conversations", &board).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    assert_eq!(created.body["members"], json!({"ada": "owner", "bob": "reader"}));
    converged(&[europe, america]).await;
    let path = "/conversations/board/messages";
    let say = |user: &str| json!({"body": "hello", "author": user});
    for user in ["bob", "eve"] {
        america.post(path, &say(user)).await.refuses(403, "forbidden");
    }
    let said = america.post(path, &say("ada")).await;
    assert_eq!(said.status, StatusCode::CREATED);
    let id = text(&said.body["id"]);
    let react = format!("{path}/{id}/reactions/x?as=eve");
    america.call(Method::PUT, &react, &json!({})).await.refuses(403, "forbidden");

    let mut stream = europe.follow("?conversation=board").await;
    let change = json!({"as": "ada", "title": "The board", "topic": "2027",
                        "members": {"bob": "member"}, "pins": {&id: true}, "retention_ms": 86_400_000});
    let changed = america
        .call(Method::PATCH, "/conversations/board?durability=2&timeout_ms=30000", &change)
        .await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    assert_eq!(europe.post(path, &say("bob")).await.status, StatusCode::CREATED);
    let shown = europe.get("/conversations/board").await.body;
    assert_eq!((&shown["title"], &shown["topic"]), (&json!("The board"), &json!("2027")));
    assert_eq!((&shown["pins"], &shown["access"]), (&json!([id]), &json!("members")));
    assert_eq!(shown["retention_ms"], 86_400_000);
    let told = loop {
        let event = stream.next().await.expect("an event");
        if event.name == "settings" && event.data["pins"] == json!([id]) {
            break event;
        }
    };
    assert_eq!((&told.data["title"], told.data.get("members")), (&json!("The board"), None));

    let leave = json!({"as": "ada", "members": {"bob": null}, "title": null});
    let left = europe.call(Method::PATCH, "/conversations/board", &leave).await;
    assert_eq!(left.body["members"], json!({"ada": "owner"}));
    assert_eq!(left.body.get("title"), None);
    for bad in [
        json!({"as": "ada"}),
        json!({"as": "ada", "retention_ms": 1}),
        json!({"as": "ada", "members": {"bob": "king"}}),
        json!({"as": "ada", "access": null, "colour": 1}),
        json!({"title": "x"}),
    ] {
        let refused = europe.call(Method::PATCH, "/conversations/board", &bad).await;
        refused.refuses(400, "invalid-request");
    }
    let nobody = json!({"name": "void", "access": "members"});
    europe.post("/conversations", &nobody).await.refuses(400, "invalid-request");
    europe.get("/conversations/void").await.refuses(404, "unknown-conversation");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_which_a_part_is_refused_changes_nothing() {
    let world = World::of(&["eu-west"]);
    let europe = world.start("eu-west").await;
    let board = json!({"name": "general", "owner": "ada"});
    assert_eq!(europe.post("/conversations", &board).await.status, StatusCode::CREATED);
    let id = europe.say("hello").await;
    let path = "/conversations/general";
    let before = (europe.get(path).await.body, europe.digests().await);
    let mut change = json!({"as": "ada", "title": "half done", "access": "members",
                            "members": {"bob": "member", "ada": null},
                            "pins": {&id: true, "01ARZ3NDEKTSV4RRFFQ69G5FAV": true}});
    let refused = europe.call(Method::PATCH, path, &change).await;
    refused.refuses(404, "unknown-message");
    assert_eq!((europe.get(path).await.body, europe.digests().await), before);

    change["pins"] = json!({&id: true});
    let changed = europe.call(Method::PATCH, path, &change).await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    assert_eq!(changed.body["members"], json!({"bob": "member"}));
    assert_eq!(
        (&changed.body["title"], &changed.body["pins"]),
        (&json!("half done"), &json!([id]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_counts_what_is_unread_until_it_is_marked_in_any_region() {
    let world = World::of(&["eu-west", "us-east"]);
    let nodes = world.start_all().await;
    let [europe, america] = &nodes[..] else { panic!("two nodes") };
    for name in ["general", "random"] {
        let new = json!({"name": name, "owner": "ada", "members": {"bob": "member"}});
        assert_eq!(europe.post("/conversations", &new).await.status, StatusCode::CREATED);
    }
    let first = europe.say("one").await;
    let second = europe.say("two").await;
    converged(&[europe, america]).await;
    let inbox = async |node: &Region| {
        let inbox = node.get("/conversations?member=bob").await.body;
        let list = inbox["conversations"].as_array().cloned().expect("a list");
        list.iter().map(|one| (text(&one["name"]), one["unread"].clone())).collect::<Vec<_>>()
    };
    let unread =
        |count: u64| vec![("general".to_owned(), json!(count)), ("random".to_owned(), json!(0))];
    assert_eq!(inbox(america).await, unread(2));
    let last = &america.get("/conversations?member=bob&limit=1").await.body;
    assert_eq!(last["conversations"][0]["last"]["body"], "two");
    assert_eq!(last["after"], "general");

    let marker = "/conversations/general/read-marker";
    let mark = json!({"as": "bob", "message": second});
    assert_eq!(done(&america.call(Method::PUT, marker, &mark).await), (StatusCode::OK, true));
    let back = json!({"as": "bob", "message": first});
    assert_eq!(done(&america.call(Method::PUT, marker, &back).await), (StatusCode::OK, false));
    converged(&[europe, america]).await;
    assert_eq!(inbox(europe).await, unread(0));

    // What comes in below the marker is late, not lost.
    let old = json!({"body": "old", "author": "ada", "at": "2018-04-10T18:49:14Z"});
    let late = text(&europe.post(MESSAGES, &old).await.body["id"]);
    let read = europe.get(&format!("{marker}?as=bob")).await.body;
    assert_eq!((&read["unread"], &read["late"]), (&json!(0), &json!([late])));
    assert_eq!(read["read"], json!(second));
    assert_eq!(europe.get("/conversations?member=eve").await.body["conversations"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_is_read_from_its_beginning_page_by_page() {
    let world = World::of(&["eu-west"]);
    let europe = world.start("eu-west").await;
    europe.create("general").await;
    let root = europe.say("root").await;
    for number in 0..3 {
        let reply = json!({"body": number.to_string(), "author": "ada", "thread": root});
        assert_eq!(europe.post(MESSAGES, &reply).await.status, StatusCode::CREATED);
        europe.say("elsewhere").await;
    }
    let page = async |query: &str| {
        let page = europe.get(&format!("{MESSAGES}?thread={root}&limit=2{query}")).await.body;
        let list = page["messages"].as_array().cloned().expect("a list");
        let bodies: Vec<String> = list.iter().map(|message| text(&message["body"])).collect();
        (bodies, page["after"].as_str().map(str::to_owned))
    };
    let (bodies, after) = page("").await;
    assert_eq!(bodies, ["0", "1"]);
    let after = after.expect("there is more");
    assert_eq!(page(&format!("&after={after}")).await, (vec!["2".to_owned()], None));
    let both = europe.get(&format!("{MESSAGES}?thread={root}&before={after}")).await;
    both.refuses(400, "invalid-request");
    let unknown = europe.get(&format!("{MESSAGES}?thread=01ARZ3NDEKTSV4RRFFQ69G5FAV")).await;
    unknown.refuses(404, "unknown-message");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_expire_once_a_majority_of_clocks_agrees_and_not_before() {
    let world = World::of(&["eu-west", "us-east"]);
    let europe = world.start("eu-west").await;
    europe.create("general").await;
    let old = json!({"body": "old", "author": "ada", "at": "2018-04-10T18:49:14Z"});
    assert_eq!(europe.post(MESSAGES, &old).await.status, StatusCode::CREATED);
    europe.say("new").await;
    let keep = json!({"as": "ada", "retention_ms": 86_400_000});
    let kept = europe.call(Method::PATCH, "/conversations/general", &keep).await;
    assert_eq!(kept.status, StatusCode::OK);

    let expire =
        async || warbler_node::retention::expire(europe.node.services()).await.expect("a round");
    assert_eq!(expire().await, 0, "one of two regions is no majority");
    assert_eq!(europe.bodies().await, ["old", "new"]);

    let america = world.start("us-east").await;
    eventually(true, async || europe.status().await["peers"][0]["clock_ahead_ms"].is_number())
        .await;
    // Whoever of the two is first: a minute's round may have come in between.
    expire().await;
    eventually(vec!["new".to_owned()], async || europe.bodies().await).await;
    converged(&[&europe, &america]).await;
    assert_eq!(america.bodies().await, ["new"]);
    assert_eq!(expire().await, 0, "nothing is cut twice");
}
