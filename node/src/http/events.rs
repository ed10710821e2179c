//! Following a space as server-sent events.
//!
//! This file opens a stream: from now, or from a token. What flows on it is `follower`'s.
//! Invariant: nothing is wrong any more once the stream is open: unknown conversations, bad
//! tokens, a node that is behind and a log that was trimmed are answered as problems before.

mod follower;
mod translation;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use warbler_store::id::ConversationId;
use warbler_store::name::Name;
use warbler_store::reader::{FollowError, Reader};
use warbler_store::token::Token;

use self::follower::Follower;
use self::translation::Translation;
use super::Api;
use super::calls::reading;
use super::problem::{Kind, Problem};
use super::request::{self, Parameters};
use super::session;
use crate::space::Space;

/// A comment is sent after so long a silence, so that both sides know of each other: 15 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Conversations that one stream may name.
const MAX_CONVERSATIONS: usize = 256;
/// The token of the last event seen, as browsers send it.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Keeps proxies from holding events back.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) async fn follow(
    State(api): State<Api>,
    Extension(space): Extension<Space>,
    request: Request,
) -> Result<Response, Problem> {
    let wait = session::wait_of(&request)?;
    let mut query = Parameters::of(&request)?;
    let names = query.all("conversation");
    let given = query.one("session")?;
    query.end()?;
    let given = given.map(|text| session::read_token(&text, &space)).transpose()?;
    let last = session::token_of(request.headers(), &LAST_EVENT_ID, &space)?;
    let only = conversations(&space, names).await?;
    let permit = Arc::clone(&api.followers).try_acquire_owned().map_err(|_| {
        Problem::new(Kind::Busy, format!("{} clients follow already", api.limits.followers))
    })?;

    let from = last.or(given);
    if let Some(token) = &from {
        session::wait_for(&api, &space, token, wait).await?;
    }
    // Listening begins before the position is read: what becomes durable in between is seen twice
    // and skipped once.
    let live = space.follow();
    let from = match from {
        Some(token) => {
            let token = space.whole_token(token);
            check_log(&space, &token).await?;
            token
        }
        None => Token::of(space.id(), reading(&space, |reader| Ok(reader.vector()?)).await?),
    };
    let vector = from.vector.clone();
    let translation = Translation::new(space.reader().clone(), only);
    let follower = Follower::new(&space, translation, from, (live, api.closing.clone()), permit);
    let events = stream::unfold(follower, |mut follower| async move {
        follower.next().await.map(|event| (Ok::<_, Infallible>(event), follower))
    });
    let events = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    let mut response = session::with_token(events.into_response(), &space, vector);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// Refuses a token from before what is left of the log.
async fn check_log(space: &Space, token: &Token) -> Result<(), Problem> {
    let (from, here) = (token.vector.clone(), space.clone());
    reading(space, move |reader| {
        let held = reader.vector()?;
        match reader.applied_between(&from, &held, 1) {
            Ok(_) => Ok(()),
            Err(error @ FollowError::Trimmed { .. }) => {
                Err(Problem::trimmed(error.to_string(), here.token_of(held)))
            }
            Err(FollowError::Engine(error)) => Err(error.into()),
        }
    })
    .await
}

/// The conversations to follow, by id; `None` for all.
async fn conversations(
    space: &Space,
    names: Vec<String>,
) -> Result<Option<BTreeMap<ConversationId, Name>>, Problem> {
    if names.is_empty() {
        return Ok(None);
    }
    if names.len() > MAX_CONVERSATIONS {
        let why = format!("{} conversations are named, {MAX_CONVERSATIONS} may be", names.len());
        return Err(request::refused(why));
    }
    let names = names.iter().map(|text| request::name(text)).collect::<Result<Vec<_>, _>>()?;
    let find = move |reader: &Reader| {
        let found = names.into_iter().map(|name| Ok((reader.conversation(&name)?.id, name)));
        found.collect::<Result<_, Problem>>()
    };
    Ok(Some(reading(space, find).await?))
}
