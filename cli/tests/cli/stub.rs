//! A scripted stand-in for a node: each test says what it answers, and sees what it was asked.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::{Value, json};

/// The most bytes of a request.
const MAX_REQUEST_BYTES: usize = 1024 * 1024;

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Method, path and query, such as `GET /v1/status`.
    pub(crate) line: String,
    headers: HeaderMap,
    /// The JSON of the request, or null.
    pub(crate) body: Value,
}

impl Asked {
    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What is answered.
pub(crate) enum Reply {
    /// JSON with a status.
    Json(u16, Value),
    /// A problem document: status, name, title.
    Problem(u16, &'static str, &'static str),
    /// JSON with a session token.
    Seen(String, u16, Value),
    /// A whole problem document.
    Document(u16, Value),
    /// A text that is no JSON.
    Text(u16, &'static str),
    /// Server-sent events; the stream then ends, or stays open in silence.
    Events { events: Vec<String>, then_ends: bool },
}

/// A stand-in that runs as long as the test process.
pub(crate) struct Stub {
    /// Where it is.
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Stub {
    /// Starts one that answers as `script` says.
    pub(crate) fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, script) = (Arc::clone(&asked), Arc::new(script));
        thread::spawn(move || serve(listener, &seen, &script));
        Self { url, asked }
    }

    /// One whose first space is `main`, and which answers everything else as `script` says.
    pub(crate) fn of_main(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(move |asked| match asked.line.as_str() {
            "GET /v1/status" => Reply::Json(200, status()),
            _ => script(asked),
        })
    }

    /// The lines of all requests so far, but for those that ask for the status.
    pub(crate) fn lines(&self) -> Vec<String> {
        let asked = self.asked.lock().expect("no panic in the stub");
        let lines = asked.iter().map(|asked| asked.line.clone());
        lines.filter(|line| line != "GET /v1/status").collect()
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic in the stub").clone()
    }
}

fn serve<F>(listener: TcpListener, seen: &Arc<Mutex<Vec<Asked>>>, script: &Arc<F>)
where
    F: Fn(&Asked) -> Reply + Send + Sync + 'static,
{
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (seen, script) = (Arc::clone(seen), Arc::clone(script));
    let router = Router::new().fallback(async move |request: Request| {
        let asked = read(request).await;
        seen.lock().expect("no panic in the stub").push(asked.clone());
        answer(script(&asked))
    });
    runtime.block_on(async move {
        listener.set_nonblocking(true).expect("non-blocking");
        let listener = tokio::net::TcpListener::from_std(listener).expect("registered");
        axum::serve(listener, router).await.expect("served");
    });
}

async fn read(request: Request) -> Asked {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, MAX_REQUEST_BYTES).await.expect("a short request");
    Asked {
        line: format!("{} {}", parts.method, parts.uri),
        headers: parts.headers,
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    }
}

fn answer(reply: Reply) -> Response {
    if let Reply::Seen(token, status, value) = reply {
        let mut response = answer(Reply::Json(status, value));
        let token = token.parse().expect("a header");
        response.headers_mut().insert("warbler-session", token);
        return response;
    }
    let (status, content_type, body) = match reply {
        Reply::Json(status, value) => (status, "application/json", Body::from(value.to_string())),
        Reply::Problem(status, name, title) => {
            let problem = json!({
                "type": format!("urn:warbler:problem:{name}"),
                "title": title, "status": status, "detail": "in detail", "hint": "a hint of the node",
            });
            (status, "application/problem+json", Body::from(problem.to_string()))
        }
        Reply::Document(status, problem) => {
            (status, "application/problem+json", Body::from(problem.to_string()))
        }
        Reply::Seen(..) => unreachable!("answered above"),
        Reply::Text(status, text) => (status, "text/plain", Body::from(text)),
        Reply::Events { events, then_ends } => {
            let events =
                stream::iter(events.into_iter().map(|it| Ok::<_, Infallible>(Bytes::from(it))));
            let body = if then_ends {
                Body::from_stream(events)
            } else {
                Body::from_stream(events.chain(stream::pending()))
            };
            (200, "text/event-stream", body)
        }
    };
    Response::builder()
        .status(StatusCode::from_u16(status).expect("a status"))
        .header("content-type", content_type)
        .body(body)
        .expect("a response")
}

/// The status of a node with one space.
pub(crate) fn status() -> Value {
    json!({
        "version": "0.1.0",
        "node": {"name": "eu-1", "id": "5f".repeat(32), "region": "eu-west",
                 "origin": "01".repeat(16), "started_at": "2026-11-21T10:00:00.000Z"},
        "spaces": [{"name": "main", "id": "fd".repeat(16), "regions": ["eu-west"],
                    "conversations": 1, "messages": 2, "depth": 3, "digest": "aa".repeat(32),
                    "vector_digest": "bb".repeat(32), "ahead_ids": 0, "vector": []}],
        "peers": [], "disk_bytes": 4096, "alarms": [],
    })
}

/// A message whose id ends in `number`.
pub(crate) fn message(number: u32, body: &str) -> Value {
    json!({
        "id": id(number), "conversation": "general", "author": "ann",
        "at": "2026-11-21T10:00:00.000Z", "content_type": "text/plain", "body": body,
    })
}

/// A message id.
pub(crate) fn id(number: u32) -> String {
    format!("01ARZ3NDEKTSV4RRFFQ69G{number:04}")
}
