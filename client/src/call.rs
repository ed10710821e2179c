//! One request, whoever answers it, and the tries that it takes.
//!
//! Invariant: a request leaves here in the same words at every try, so its key and its body are
//! the same; and no answer is read beyond [`MAX_ANSWER_BYTES`].

use std::time::Duration;

use reqwest::header::{HeaderName, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::ClientError;
use crate::patience::{Effort, Next, Obstacle};
use crate::session::{Adopted, Session};
use crate::wire::Problem;

/// The most bytes an answer may have: a page of 100 messages of 64 KiB, escaped for JSON six-fold.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// The header with the session token.
pub(crate) const SESSION_HEADER: &str = "warbler-session";
/// How long a node shall wait until it holds what the session has seen.
pub(crate) const SESSION_WAIT: &str = "session_wait_ms";

/// A request, without the node that it goes to.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    /// Under `/v1`, unescaped.
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    headers: Vec<(HeaderName, String)>,
    body: Option<Vec<u8>>,
    /// How long the request itself asks the node to wait.
    waits: Duration,
}

/// An answer that is no refusal.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) status: StatusCode,
    pub(crate) value: T,
}

impl Call {
    pub(crate) fn new(method: Method, path: &[&str]) -> Self {
        Self {
            method,
            path: path.iter().map(|&segment| segment.to_owned()).collect(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            waits: Duration::ZERO,
        }
    }

    pub(crate) fn query(mut self, key: &'static str, value: impl ToString) -> Self {
        self.query.push((key, value.to_string()));
        self
    }

    pub(crate) fn maybe(self, key: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((HeaderName::from_static(name), value.to_owned()));
        self
    }

    /// # Errors
    /// When `body` cannot be written as JSON.
    pub(crate) fn json(mut self, body: &impl Serialize) -> Result<Self, ClientError> {
        self.body = Some(serde_json::to_vec(body).map_err(ClientError::Json)?);
        Ok(self)
    }

    /// The node may take so much longer to answer.
    pub(crate) fn waits(mut self, waits: Duration) -> Self {
        self.waits += waits;
        self
    }

    /// The request to the node in this place of the list.
    pub(crate) fn to(&self, client: &Client, place: usize) -> RequestBuilder {
        let mut url = client.regions().url(place).clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("v1").extend(&self.path);
        }
        let mut request = client.http().request(self.method.clone(), url);
        if !self.query.is_empty() {
            request = request.query(&self.query);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        match &self.body {
            Some(body) => request.header("content-type", "application/json").body(body.clone()),
            None => request,
        }
    }
}

impl Client {
    /// Asks until somebody answers or patience is over, and reads the JSON of the answer.
    ///
    /// # Errors
    /// The last refusal or failure; [`ClientError::NoRegion`] if none of several could be reached.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        call: &Call,
        session: Option<&Session>,
    ) -> Result<Answer<T>, ClientError> {
        let mut effort = Effort::new(*self.patience(), self.regions().len());
        let mut away = Vec::new();
        let mut in_doubt = false;
        loop {
            let place = self.regions().current();
            let wait = effort.wait_for_session();
            let error = match self.attempt(call, place, session, wait).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let Failed { error, obstacle, proposed } = error;
            in_doubt |= call.method != Method::GET && error.leaves_doubt();
            let Some(obstacle) = obstacle else { return Err(error.in_doubt(in_doubt)) };
            if error.problem_name().is_none() && away.len() < self.regions().len() {
                away.push(error.to_string());
            }
            match effort.next(obstacle, proposed) {
                Next::Ask(pause) => {
                    self.regions().leave(place);
                    tokio::time::sleep(pause).await;
                }
                // Nobody has it in time: the client goes on with less, knowingly.
                Next::GiveUp if obstacle == Obstacle::Behind && self.adopts() => {
                    match (session, error.adoptable(self.regions().url(place).as_str())) {
                        (Some(session), Some((token, adopted))) => session.adopt(token, adopted),
                        _ => return Err(error),
                    }
                }
                Next::GiveUp => {
                    let error = match self.regions().len() {
                        tried if tried > 1 && away.len() == tried => {
                            ClientError::NoRegion { tried: away, last: Box::new(error) }
                        }
                        _ => error,
                    };
                    return Err(error.in_doubt(in_doubt));
                }
            }
        }
    }

    async fn attempt<T: DeserializeOwned>(
        &self,
        call: &Call,
        place: usize,
        session: Option<&Session>,
        session_wait: u64,
    ) -> Result<Answer<T>, Failed> {
        let mut request = call.to(self, place);
        let mut waits = call.waits;
        if let Some(token) = session.and_then(Session::token) {
            request = request.header(SESSION_HEADER, token).query(&[(SESSION_WAIT, session_wait)]);
            waits += Duration::from_millis(session_wait);
        }
        let request = request.timeout(self.patience().answer + waits);
        let response = request.send().await.map_err(|error| self.network(place, error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(self.refusal(place, response).await);
        }
        let seen = response.headers().get(SESSION_HEADER).and_then(|it| it.to_str().ok());
        let seen = seen.map(str::to_owned);
        let bytes = self.read(place, response).await?;
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| self.not_a_node(place, status, error.to_string()))?;
        if let (Some(session), Some(seen)) = (session, seen) {
            session.saw(&seen);
        }
        Ok(Answer { status, value })
    }

    /// What a refused request says.
    pub(crate) async fn refusal(&self, place: usize, response: Response) -> Failed {
        let status = response.status();
        let proposed = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let proposed = proposed.and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let bytes = match self.read(place, response).await {
            Ok(bytes) => bytes,
            Err(error) => return error.into(),
        };
        let error = match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => ClientError::Refused { problem: Box::new(problem) },
            Err(_) => {
                let reason = format!("HTTP status {status} without a problem document");
                self.not_a_node(place, status, reason)
            }
        };
        Failed { proposed, ..error.into() }
    }

    async fn read(&self, place: usize, mut response: Response) -> Result<Vec<u8>, ClientError> {
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(piece) =
            response.chunk().await.map_err(|error| self.network(place, error))?
        {
            if bytes.len() + piece.len() > MAX_ANSWER_BYTES {
                let reason = format!("its answer has more than {MAX_ANSWER_BYTES} bytes");
                return Err(self.not_a_node(place, status, reason));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    pub(crate) fn not_a_node(
        &self,
        place: usize,
        status: StatusCode,
        reason: String,
    ) -> ClientError {
        ClientError::NotANode { url: self.regions().url(place).clone(), status, reason }
    }

    pub(crate) fn network(&self, place: usize, error: reqwest::Error) -> ClientError {
        let url = self.regions().url(place).clone();
        if error.is_connect() {
            ClientError::Unreachable { url, source: Box::new(error.without_url()) }
        } else {
            ClientError::NoAnswer { url, source: Box::new(error.without_url()) }
        }
    }
}

/// A try that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: ClientError,
    /// What stood in the way, if it may pass.
    pub(crate) obstacle: Option<Obstacle>,
    /// After how long the node asks to be asked again.
    pub(crate) proposed: Option<Duration>,
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Self {
        Self { obstacle: error.obstacle(), error, proposed: None }
    }
}

impl ClientError {
    /// What stands in the way and may pass, or may not stand in the way elsewhere.
    pub(crate) fn obstacle(&self) -> Option<Obstacle> {
        match self {
            Self::Unreachable { .. } | Self::NoAnswer { .. } => Some(Obstacle::Away),
            Self::NotANode { .. } if self.is_gateway() => Some(Obstacle::Away),
            Self::Refused { problem } => match (problem.name(), problem.status) {
                ("behind" | "lost", _) => Some(Obstacle::Behind),
                // Whether it was done is not known; the same request again finds out.
                ("outcome-unknown", _) => Some(Obstacle::Away),
                (_, 429 | 503 | 507) => Some(Obstacle::Busy),
                _ => None,
            },
            Self::Url { .. }
            | Self::Token { .. }
            | Self::Certificate { .. }
            | Self::InDoubt { .. }
            | Self::NoRegion { .. }
            | Self::UnknownConversation { .. }
            | Self::NotANode { .. }
            | Self::NoSpace { .. }
            | Self::Json(_)
            | Self::Random => None,
        }
    }

    /// Whether what was asked may have been done all the same.
    fn leaves_doubt(&self) -> bool {
        matches!(self, Self::NoAnswer { .. } | Self::NotANode { .. })
            || self.problem_name() == Some("outcome-unknown")
    }

    /// The token to go on from with less, and what that gives up.
    pub(crate) fn adoptable(&self, region: &str) -> Option<(String, Adopted)> {
        let Self::Refused { problem } = self else { return None };
        let token = problem.session.clone()?;
        let (region, missing) = (region.to_owned(), problem.missing.clone());
        Some((token, Adopted { region, missing, lost: problem.name() == "lost" }))
    }

    fn in_doubt(self, in_doubt: bool) -> Self {
        if in_doubt { Self::InDoubt { why: Box::new(self) } } else { self }
    }
}
