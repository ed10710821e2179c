//! A cluster of nodes in a temporary directory, and what tests ask of them.

use std::fmt::Debug;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use warbler_node::data_directory::{DataDirectory, NewNode, init};
use warbler_node::node::Opener;
use warbler_node::transport::TransportError;
use warbler_node::{Node, StartError};

use crate::faulty::{self, Faults};

/// How long anything may take; far more than it does.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// A cluster with a node in each region, and the space `main` in all of them.
pub(crate) struct World {
    pub(crate) root: TempDir,
    regions: Vec<&'static str>,
}

/// A running node.
pub(crate) struct Region {
    pub(crate) node: Node,
    http: reqwest::Client,
}

/// An answer of a node.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: String,
    pub(crate) session: Option<String>,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

impl World {
    pub(crate) fn of(regions: &[&'static str]) -> Self {
        Self::with_spaces(regions, &["main"])
    }

    pub(crate) fn with_spaces(regions: &[&'static str], spaces: &[&str]) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        // All are held until each has its port, so that no two get the same.
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let held: Vec<_> =
            regions.iter().map(|_| UdpSocket::bind(any).expect("a free port")).collect();
        let mut cluster = "version = 1\n".to_owned();
        for (region, socket) in regions.iter().zip(&held) {
            let new = NewNode {
                directory: root.path().join(region),
                name: format!("{region}-1").parse().expect("a name"),
                region: region.parse().expect("a name"),
                cloud: None,
                listen: socket.local_addr().expect("bound"),
                http: any,
                address: None,
            };
            cluster += &init(&new).expect("a data directory").entry;
        }
        for space in spaces {
            cluster += &format!("[[space]]\nname = {space:?}\nregions = {regions:?}\n");
        }
        std::fs::write(root.path().join("cluster.toml"), cluster).expect("written");
        Self { root, regions: regions.to_vec() }
    }

    pub(crate) fn config(&self, region: &str) -> PathBuf {
        self.root.path().join(region).join("warbler.toml")
    }

    /// Starts the region's node: a new run every time. The system may take a moment to free the
    /// UDP port of the run before it.
    pub(crate) async fn start(&self, region: &str) -> Region {
        self.start_over(region, None).await
    }

    /// Starts the region's node over an engine with these faults.
    pub(crate) async fn start_with(&self, region: &str, faults: &Arc<Faults>) -> Region {
        let store = self.root.path().join(region).join("store");
        self.start_over(region, Some(faulty::opener(store, Arc::clone(faults)))).await
    }

    async fn start_over(&self, region: &str, open: Option<Opener>) -> Region {
        let begun = Instant::now();
        let node = loop {
            match self.try_start_over(region, open.clone()).await {
                Ok(node) => break node,
                Err(StartError::Transport(TransportError::InUse(_)))
                    if begun.elapsed() < DEADLINE =>
                {
                    tokio::time::sleep(POLL).await;
                }
                Err(error) => panic!("the node does not start: {error:?}"),
            }
        };
        Region { node, http: client() }
    }

    pub(crate) async fn try_start(&self, region: &str) -> Result<Node, StartError> {
        self.try_start_over(region, None).await
    }

    async fn try_start_over(&self, region: &str, open: Option<Opener>) -> Result<Node, StartError> {
        let directory = DataDirectory::open(&self.config(region)).expect("a data directory");
        match open {
            Some(open) => Node::bind_over(directory, open).await,
            None => Node::bind(directory).await,
        }
    }

    pub(crate) async fn start_all(&self) -> Vec<Region> {
        let mut nodes = Vec::new();
        for region in &self.regions {
            nodes.push(self.start(region).await);
        }
        nodes
    }
}

impl Region {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.node.http_addr())
    }

    /// A request under the space `main`.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(&format!("/v1/spaces/main{path}")))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    pub(crate) async fn get_with(&self, path: &str, session: &str) -> Answer {
        answer(self.request(Method::GET, path).header("warbler-session", session)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn create(&self, conversation: &str) {
        let created = self.post("/conversations", &json!({"name": conversation})).await;
        assert!(created.status.is_success(), "{created:?}");
    }

    /// Posts a message in `general`, as `ada`. The answer's id.
    pub(crate) async fn say(&self, body: &str) -> String {
        let said = self.post(MESSAGES, &message(body)).await;
        assert_eq!(said.status, StatusCode::CREATED, "{said:?}");
        text(&said.body["id"])
    }

    /// The bodies of the last 500 messages of `general`; none if it is not there yet.
    pub(crate) async fn bodies(&self) -> Vec<String> {
        let page = self.get(&format!("{MESSAGES}?limit=500")).await;
        let messages = page.body["messages"].as_array().cloned().unwrap_or_default();
        messages.iter().map(|message| text(&message["body"])).collect()
    }

    pub(crate) async fn status(&self) -> Value {
        let status = answer(self.http.get(self.url("/v1/status"))).await;
        assert_eq!(status.status, StatusCode::OK, "{status:?}");
        status.body
    }

    /// The digests of the vector and of the state of `main`.
    pub(crate) async fn digests(&self) -> (Value, Value) {
        let space = &self.status().await["spaces"][0];
        (space["vector_digest"].clone(), space["digest"].clone())
    }
}

/// A client without a past.
pub(crate) fn client() -> reqwest::Client {
    client_builder().build().expect("a client")
}

/// A client that talks to this machine's nodes alone. Built with the rest of the workspace, reqwest is told elsewhere
/// that the program brings its cryptography, and builds no client without, also where nothing is encrypted.
pub(crate) fn client_builder() -> reqwest::ClientBuilder {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
    reqwest::Client::builder().no_proxy()
}

/// Where the messages of `general` are.
pub(crate) const MESSAGES: &str = "/conversations/general/messages";

pub(crate) fn message(body: &str) -> Value {
    json!({"body": body, "author": "ada"})
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text expected, not {value}")).to_owned()
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let response = request.timeout(DEADLINE).send().await.expect("an answer");
    let header = |name: &str| {
        let value = response.headers().get(name);
        value.map(|value| value.to_str().expect("text").to_owned())
    };
    let (content_type, session) = (header("content-type"), header("warbler-session"));
    let retry_after = header("retry-after");
    let status = response.status();
    let bytes = response.bytes().await.expect("a body");
    let body = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    Answer { status, content_type: content_type.unwrap_or_default(), session, retry_after, body }
}

impl Answer {
    pub(crate) fn session(&self) -> &str {
        self.session.as_deref().expect("a session token")
    }

    /// Expects a problem document of this status and kind.
    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, kind: &str) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.content_type, "application/problem+json", "{self:?}");
        assert_eq!(self.body["type"], format!("urn:warbler:problem:{kind}"), "{self:?}");
        assert_eq!(self.body["status"], status, "{self:?}");
        assert!(self.body["title"].is_string() && self.body["detail"].is_string(), "{self:?}");
    }
}

/// Looks again and again, until `expected` is what is seen.
pub(crate) async fn eventually<T: PartialEq + Debug>(expected: T, look: impl AsyncFn() -> T) {
    let begun = Instant::now();
    loop {
        let seen = look().await;
        if seen == expected {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{expected:?} expected, {seen:?} seen");
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until all nodes hold the same, and expects them to show the same (P3).
pub(crate) async fn converged(nodes: &[&Region]) {
    eventually(true, async || {
        let mut digests = Vec::new();
        for node in nodes {
            digests.push(node.digests().await);
        }
        let same = digests.iter().all(|(vector, _)| *vector == digests[0].0);
        if same {
            assert!(digests.iter().all(|digest| *digest == digests[0]), "P3: {digests:?}");
        }
        same
    })
    .await;
}
