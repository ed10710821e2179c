//! The space that a request is about, and the session it belongs to.
//!
//! Invariant: a call under a space begins only when the node holds all that the request's token
//! has seen, and its answer carries a token of what the answer shows.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use warbler_store::token::Token;
use warbler_store::vector::VersionVector;

use super::Api;
use super::problem::{Kind, Problem};
use super::request::{self, Parameters, SESSION_WAIT};
use super::wire::Missing;
use crate::space::Space;

/// Carries a token, both ways.
pub(super) const SESSION_HEADER: HeaderName = HeaderName::from_static("warbler-session");
/// How long a request waits for what its token has seen, if it does not say: 2 s.
const DEFAULT_WAIT_MILLIS: u64 = 2_000;
/// The longest such wait: 60 s.
const MAX_WAIT_MILLIS: u64 = 60_000;

/// The part of the path that names the space.
#[derive(Deserialize)]
pub(super) struct InSpace {
    space: String,
}

/// Finds the space, waits for the session, makes the call, and gives the answer a token.
pub(super) async fn in_space(
    State(api): State<Api>,
    path: Result<Path<InSpace>, PathRejection>,
    mut request: Request,
    next: Next,
) -> Response {
    let space = match path.map_err(bad_path).and_then(|path| find(&api, &path.space)) {
        Ok(space) => space,
        Err(problem) => return problem.into_response(),
    };
    let session = wait_of(&request).and_then(|wait| {
        let token = token_of(request.headers(), &SESSION_HEADER, &space)?;
        Ok(token.map(|token| (token, wait)))
    });
    let begun = match session {
        Ok(Some((token, wait))) => wait_for(&api, &space, &token, wait).await,
        Ok(None) => Ok(()),
        Err(problem) => Err(problem),
    };
    let mut response = match begun {
        Ok(()) => {
            request.extensions_mut().insert(space.clone());
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    if !response.headers().contains_key(SESSION_HEADER) {
        let held = space.progress().borrow().point.vector.clone();
        carry(&mut response, &space, held);
    }
    response
}

/// A path whose parts are not UTF-8.
pub(super) fn bad_path(rejection: PathRejection) -> Problem {
    request::refused(format!("the path: {}", rejection.body_text()))
}

fn find(api: &Api, text: &str) -> Result<Space, Problem> {
    let name = request::name(text)?;
    api.services.spaces.get(&name).cloned().ok_or_else(|| {
        let known: Vec<&str> = api.services.spaces.keys().map(|name| name.as_str()).collect();
        Problem::new(Kind::UnknownSpace, format!("there is no space `{name}` on this node"))
            .hint(format!("this node has: {}", known.join(", ")))
    })
}

/// How long the request is ready to wait for its session.
pub(super) fn wait_of(request: &Request) -> Result<Duration, Problem> {
    let mut query = Parameters::of(request)?;
    let wait = query.number(SESSION_WAIT, DEFAULT_WAIT_MILLIS, 0..=MAX_WAIT_MILLIS)?;
    Ok(Duration::from_millis(wait))
}

/// The token in a header of the request.
pub(super) fn token_of(
    headers: &HeaderMap,
    name: &HeaderName,
    space: &Space,
) -> Result<Option<Token>, Problem> {
    request::text_header(headers, name)?.map(|text| read_token(text, space)).transpose()
}

/// The token with this text, if it is one of `space`.
pub(super) fn read_token(text: &str, space: &Space) -> Result<Token, Problem> {
    let invalid = |why: String| {
        Problem::new(Kind::InvalidSession, why)
            .hint("begin a new session by leaving the token out; tokens belong to one space")
    };
    let token = Token::from_text(text).map_err(|error| invalid(error.to_string()))?;
    if token.space != space.id() {
        return Err(invalid(format!("the token is not one of space `{}`", space.name())));
    }
    Ok(token)
}

/// Waits until the node holds all that `token` has seen.
///
/// # Errors
/// `behind`, when it does not in time.
pub(super) async fn wait_for(
    api: &Api,
    space: &Space,
    token: &Token,
    wait: Duration,
) -> Result<(), Problem> {
    let seen = seen(token);
    let mut progress = space.progress();
    let mut closing = api.closing.clone();
    let covered = tokio::select! {
        reached = progress.wait_for(|now| now.point.vector.covers(&seen)) => reached.is_ok(),
        () = tokio::time::sleep(wait) => false,
        () = super::closed(&mut closing) => false,
    };
    let held = space.progress().borrow().point.vector.clone();
    if covered || held.covers(&seen) {
        return Ok(());
    }
    Err(behind(space, &seen, held, wait))
}

/// What must be held to show all that a token has seen: also the entry it saw a part of.
fn seen(token: &Token) -> VersionVector {
    let mut seen = token.vector.clone();
    if let Some((origin, messages)) = token.within
        && messages > 0
    {
        seen.raise(origin, token.vector.get(origin).saturating_add(1));
    }
    seen
}

fn behind(space: &Space, seen: &VersionVector, held: VersionVector, wait: Duration) -> Problem {
    let missing: Vec<Missing> = seen
        .above(&held)
        .map(|(origin, seq)| Missing { origin: origin.to_string(), seq, held: held.get(origin) })
        .collect();
    let detail = format!(
        "after {} ms the node lacks entries of {} origins that the session has seen",
        wait.as_millis(),
        missing.len()
    );
    Problem::behind(detail, missing, space.token_of(held))
}

/// An answer with the token of what it shows.
pub(super) fn with_token(
    answer: impl IntoResponse,
    space: &Space,
    vector: VersionVector,
) -> Response {
    let mut response = answer.into_response();
    carry(&mut response, space, vector);
    response
}

fn carry(response: &mut Response, space: &Space, vector: VersionVector) {
    let text = space.token_of(vector);
    match HeaderValue::try_from(text) {
        Ok(value) => drop(response.headers_mut().insert(SESSION_HEADER, value)),
        Err(error) => tracing::error!(%error, "a token does not fit into a header"),
    }
}
