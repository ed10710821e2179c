//! Starting, refusing to start, and connections that do not behave.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use warbler_node::StartError;
use warbler_node::data_directory::{DataDirectory, DataDirectoryError};
use warbler_node::http::{HttpError, Limits, serve_within};

use crate::world::{DEADLINE, World, client};

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_belongs_to_one_process_at_a_time() {
    let world = World::of(&["eu-west"]);
    let europe = world.start("eu-west").await;
    let second = DataDirectory::open(&world.config("eu-west"));
    assert!(matches!(second, Err(DataDirectoryError::Locked(_))), "{second:?}");

    europe.node.shutdown().await;
    let again = world.start("eu-west").await;
    again.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_address_is_taken_does_not_start_and_leaves_nothing_behind() {
    let world = World::of(&["eu-west"]);
    let config = world.config("eu-west");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let text = std::fs::read_to_string(&config).expect("settings");
    std::fs::write(&config, text.replace("127.0.0.1:0", &address.to_string())).expect("written");

    let refused = world.try_start("eu-west").await.err().expect("the address is taken");
    let StartError::Http(HttpError::InUse(named)) = &refused else {
        panic!("another error: {refused:?}");
    };
    assert_eq!(*named, address);
    assert!(refused.to_string().contains(&address.to_string()), "{refused}");
    assert!(refused.hint().expect("a hint").contains("[http] listen"));

    // Store, lock and UDP port are free again.
    drop(taken);
    world.start("eu-west").await.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_node_is_refused() {
    let world = World::of(&["eu-west", "us-east"]);
    for region in ["eu-west", "us-east"] {
        world.start(region).await.node.shutdown().await;
    }
    let store = |region: &str| world.root.path().join(region).join("store");
    std::fs::remove_dir_all(store("eu-west")).expect("removed");
    std::fs::rename(store("us-east"), store("eu-west")).expect("moved");

    let refused = world.try_start("eu-west").await.err().expect("it is another node's");
    assert!(matches!(refused, StartError::Store(_)), "{refused:?}");
}

/// A node's API a second time, with little patience.
async fn impatient(
    node: &warbler_node::Node,
    connections: usize,
) -> warbler_node::http::HttpServer {
    let limits = Limits {
        header: Duration::from_millis(200),
        body: Duration::from_millis(200),
        connections,
        followers: 1,
    };
    let any = "127.0.0.1:0".parse().expect("an address");
    serve_within(any, node.services().clone(), limits).await.expect("served")
}

/// What comes back for bytes that are sent and followed by nothing.
async fn reply_to(address: std::net::SocketAddr, sent: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(sent.as_bytes()).await.expect("sent");
    let mut reply = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut reply)).await;
    // A connection that is reset is as ended as one that is closed.
    let _ = read.expect("the connection is ended in time");
    String::from_utf8_lossy(&reply).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_is_not_waited_for_and_holds_no_place() {
    let world = World::of(&["eu-west"]);
    let europe = world.start("eu-west").await;
    let server = impatient(&europe.node, 2).await;
    let head = "POST /v1/spaces/main/conversations HTTP/1.1\r\nhost: localhost\r\n";
    let body = "content-type: application/json\r\ncontent-length: 20\r\n\r\n{\"name\"";
    let whole = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    // All places are taken by halves; they end, and who comes behind them is served.
    for half in ["", "P", "PRI * HTTP/2.0\r\n", "GET /healthz HTT", head] {
        let at = server.local_addr();
        let (one, two, reply) =
            tokio::join!(reply_to(at, half), reply_to(at, half), reply_to(at, whole));
        assert!(!one.contains("200 OK") && !two.contains("200 OK"), "{half:?} got {one}{two}");
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }
    let reply = reply_to(server.local_addr(), &format!("{head}{body}")).await;
    assert!(reply.starts_with("HTTP/1.1 408"), "{reply}");
    assert!(reply.contains("urn:warbler:problem:request-timeout"), "{reply}");
    server.shutdown().await;
    assert_eq!(europe.status().await["spaces"][0]["conversations"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_when_enough_follow_already_is_told_to_come_again() {
    let world = World::of(&["eu-west"]);
    let europe = world.start("eu-west").await;
    let server = impatient(&europe.node, 100).await;
    let url = format!("http://{}/v1/spaces/main/events", server.local_addr());
    let client = client();
    let first = client.get(&url).send().await.expect("an answer");
    assert_eq!(first.status(), 200);
    let second = client.get(&url).send().await.expect("an answer");
    assert_eq!(second.headers()["retry-after"], "1");
    crate::world::answer(client.get(&url)).await.refuses(503, "busy");
    drop(first);
    crate::world::eventually(200, async || {
        client.get(&url).send().await.expect("an answer").status().as_u16()
    })
    .await;
    server.shutdown().await;
}
