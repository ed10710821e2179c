//! A small typed client of a node's HTTP interface.
//!
//! Knows paths, headers and shapes; knows no command and prints nothing. Invariant: every request
//! ends: with an answer, a refusal of the node, or a time that is over; and no answer is read
//! beyond [`MAX_ANSWER_BYTES`].

use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use warbler_store::name::Name;

use crate::wire::{Problem, Status};

mod deeds;
mod error;
mod follow;
mod space;

pub(crate) use error::ClientError;
pub(crate) use follow::{Followed, Stream};
pub(crate) use space::{PAGE_MESSAGES, PageAt, Space, Taken, Wait};

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a node may read its store back: an hour.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// How long a node may take to answer, beyond what the request itself asked it to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests that are answered `busy` are made again before the refusal is passed on.
const BUSY_PATIENCE: Duration = Duration::from_secs(60);
/// The longest pause between two tries, whatever the node proposes.
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(5);
/// The pause between two tries when the node proposes none.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// The most bytes an answer may have: a page of 100 messages of 64 KiB, escaped for JSON six-fold.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A node, by its URL.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: Url,
}

impl Client {
    /// A client of the node at `url`, which sends `token` if there is one. Connects to nothing.
    ///
    /// # Errors
    /// When the URL or the token cannot be used.
    pub(crate) fn new(url: &str, token: Option<&str>) -> Result<Self, ClientError> {
        let refused =
            |reason: &str| ClientError::Url { url: url.to_owned(), reason: reason.to_owned() };
        let parsed = Url::parse(url).map_err(|error| refused(&error.to_string()))?;
        if parsed.scheme() != "http" {
            return Err(refused("only http:// is spoken by this version"));
        }
        if !parsed.has_host() || parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(refused("a host and perhaps a port and a path are expected"));
        }
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, bearer(token)?);
        }
        // A proxy from the environment would stand between the user and the local node.
        let http = reqwest::Client::builder()
            .no_proxy()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|error| refused(&error.to_string()))?;
        Ok(Self { http, url: parsed })
    }

    /// The state of the node, as JSON and not yet looked at.
    ///
    /// # Errors
    /// When the node cannot be reached, refuses, or is none.
    pub(crate) async fn status_json(&self) -> Result<serde_json::Value, ClientError> {
        let url = self.path(&["status"]);
        Ok(self.send(self.http.get(url), ANSWER_TIMEOUT).await?.1)
    }

    /// The state of the node.
    ///
    /// # Errors
    /// As [`Self::status_json`].
    pub(crate) async fn status(&self) -> Result<Status, ClientError> {
        let url = self.path(&["status"]);
        Ok(self.send(self.http.get(url), ANSWER_TIMEOUT).await?.1)
    }

    /// Has the node read its whole store back, however long that takes.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses.
    pub(crate) async fn verify(&self) -> Result<crate::command::verify::Verified, ClientError> {
        let url = self.path(&["verify"]);
        Ok(self.send(self.http.post(url), VERIFY_TIMEOUT).await?.1)
    }

    /// The space called `name`, or the node's first one.
    ///
    /// # Errors
    /// When the node has to be asked and does not say.
    pub(crate) async fn space(&self, name: Option<Name>) -> Result<Space, ClientError> {
        if let Some(name) = name {
            return Ok(Space::new(self.clone(), name, true));
        }
        let first = self.status().await?.spaces.into_iter().next();
        let first = first.ok_or_else(|| ClientError::NoSpace { url: self.url.clone() })?;
        let name = first.name.parse().map_err(|error| {
            let reason = format!("its first space is called {:?}: {error}", first.name);
            self.not_a_node(StatusCode::OK, reason)
        })?;
        Ok(Space::new(self.clone(), name, false))
    }

    /// The URL of a path under `/v1`; each segment is escaped.
    fn path(&self, segments: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("v1").extend(segments);
        }
        url
    }

    /// Sends a request, again while the node is busy, and reads the JSON of the answer.
    async fn send<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        timeout: Duration,
    ) -> Result<(StatusCode, T), ClientError> {
        let request = request.timeout(timeout);
        let response = self.send_while_busy(&request).await?;
        let status = response.status();
        let bytes = self.read(response).await?;
        let answer = serde_json::from_slice(&bytes)
            .map_err(|error| self.not_a_node(status, error.to_string()))?;
        Ok((status, answer))
    }

    /// Sends a request until the answer is another one than `busy`, or patience is over.
    /// Only for requests that may be made twice.
    async fn send_while_busy(&self, request: &RequestBuilder) -> Result<Response, ClientError> {
        let begun = Instant::now();
        loop {
            let attempt = request
                .try_clone()
                .ok_or_else(|| self.not_a_node(StatusCode::OK, "a stream was sent".to_owned()))?;
            let response = attempt.send().await.map_err(|error| self.network(error))?;
            if response.status().is_success() {
                return Ok(response);
            }
            let pause = retry_after(&response).min(BUSY_PAUSE_MAX);
            let busy = response.status() == StatusCode::SERVICE_UNAVAILABLE;
            let refusal = self.refusal(response).await;
            if !busy || begun.elapsed() + pause > BUSY_PATIENCE {
                return Err(refusal);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// What a refused request says.
    async fn refusal(&self, response: Response) -> ClientError {
        let status = response.status();
        let bytes = match self.read(response).await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => ClientError::Refused { problem },
            Err(_) => {
                let reason = format!("HTTP status {status} without a problem document");
                self.not_a_node(status, reason)
            }
        }
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, ClientError> {
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.network(error))? {
            if bytes.len() + piece.len() > MAX_ANSWER_BYTES {
                let reason = format!("its answer has more than {MAX_ANSWER_BYTES} bytes");
                return Err(self.not_a_node(status, reason));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    fn not_a_node(&self, status: StatusCode, reason: String) -> ClientError {
        ClientError::NotANode { url: self.url.clone(), status, reason }
    }

    fn network(&self, error: reqwest::Error) -> ClientError {
        let url = self.url.clone();
        if error.is_connect() {
            ClientError::Unreachable { url, source: Box::new(error.without_url()) }
        } else {
            ClientError::NoAnswer { url, source: Box::new(error.without_url()) }
        }
    }
}

/// The value of the header that proves who asks.
fn bearer(token: &str) -> Result<HeaderValue, ClientError> {
    let refused = |reason: &str| ClientError::Token { reason: reason.to_owned() };
    if token.is_empty() {
        return Err(refused("it is empty"));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused("it holds spaces or other bytes than visible ASCII"));
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| refused("it does not fit into a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// How long the node asks to wait.
fn retry_after(response: &Response) -> Duration {
    let value = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    value.and_then(|text| text.parse().ok()).map_or(BUSY_PAUSE, Duration::from_secs)
}

/// A conversation's name that can stand in a path of a URL.
///
/// # Errors
/// When it is no valid name, or one that URLs take for a step in the path.
pub(crate) fn conversation_name(text: &str) -> Result<Name, String> {
    if matches!(text, "." | "..") {
        return Err("`.` and `..` cannot be addressed in a URL".to_owned());
    }
    text.parse().map_err(|error: warbler_store::name::InvalidName| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        match Client::new(url, None) {
            Err(ClientError::Url { reason, .. }) => reason,
            other => panic!("{url} gave {other:?}"),
        }
    }

    #[test]
    fn a_url_that_cannot_be_one_of_a_node_is_refused_before_anything_is_sent() {
        assert!(refused("127.0.0.1:7420").contains("without a base"), "no scheme");
        assert!(refused("https://node.example").contains("only http://"));
        assert!(refused("http://node.example/?x=1").contains("a host"));
    }

    #[test]
    fn names_are_escaped_in_paths_and_a_base_path_is_kept() {
        let client = Client::new("http://127.0.0.1:7420/chat/", None).expect("a valid URL");
        let url = client.path(&["spaces", "main", "conversations", "größe 1?#%"]);
        assert_eq!(
            url.as_str(),
            "http://127.0.0.1:7420/chat/v1/spaces/main/conversations/gr%C3%B6%C3%9Fe%201%3F%23%25"
        );
    }

    #[test]
    fn a_name_that_a_url_takes_for_a_step_is_refused() {
        assert!(conversation_name("..").is_err());
        assert!(conversation_name("a/b").is_err());
        assert_eq!(conversation_name("...").expect("a name").as_str(), "...");
    }

    #[test]
    fn a_token_that_could_smuggle_a_header_is_refused() {
        for token in ["", "a b", "a\r\nX: y", "größe"] {
            assert!(matches!(bearer(token), Err(ClientError::Token { .. })), "{token:?}");
        }
        assert!(bearer("eyJ.a-b_c").expect("a token").is_sensitive());
    }
}
