//! An open stream of server-sent events.

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::world::{DEADLINE, Region, text};

/// A stream that the node has opened.
pub(crate) struct Stream {
    response: Response,
    received: String,
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) data: Value,
}

impl Region {
    /// Follows the space; `query` begins with `?` if there is one.
    pub(crate) async fn follow(&self, query: &str) -> Stream {
        Stream::open(self.request(Method::GET, &format!("/events{query}"))).await
    }
}

impl Stream {
    /// Opens a stream and waits until it is ready.
    pub(crate) async fn open(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        let mut stream = Self { response, received: String::new() };
        assert_eq!(stream.next().await.expect("an event").name, "ready");
        stream
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        tokio::time::timeout(DEADLINE, self.read()).await.expect("an event in time")
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.received.split_once("\n\n") {
                let event = parse(event);
                self.received = rest.to_owned();
                if event.is_some() {
                    return event;
                }
                continue;
            }
            let piece = self.response.chunk().await.ok().flatten()?;
            self.received += std::str::from_utf8(&piece).expect("UTF-8, cut between events");
        }
    }

    /// The bodies of the next messages.
    pub(crate) async fn bodies(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        for _ in 0..count {
            let event = self.next().await.expect("an event");
            assert_eq!(event.name, "message", "{event:?}");
            bodies.push(text(&event.data["body"]));
        }
        bodies
    }
}

/// An event; `None` for a comment.
fn parse(event: &str) -> Option<Event> {
    let field = |name: &str| {
        let found = event.lines().find_map(|line| line.strip_prefix(name));
        found.map(|value| value.trim_start().to_owned())
    };
    let data = serde_json::from_str(&field("data:")?).expect("JSON");
    Some(Event { name: field("event:")?, token: field("id:")?, data })
}
