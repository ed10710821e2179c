//! Creating, listing and showing conversations.
//!
//! Invariant: the token of an answer has seen all that the answer shows.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use warbler_replication::replicator::{Command, Durability, Outcome};
use warbler_store::name::Name;
use warbler_store::vector::VersionVector;

use super::calls::{reading, submit};
use super::problem::Problem;
use super::request::{self, Parameters};
use super::session::{bad_path, with_token};
use super::wire::{Conversations, Described, NewConversation};
use super::write::{operated, unexpected};
use super::{Api, people, settings};
use crate::space::Space;

/// Conversations in a page, if the request does not say.
const DEFAULT_PAGE: u64 = 100;
/// The most in a page.
const MAX_PAGE: u64 = 1000;

/// The part of the path that names a conversation.
#[derive(Deserialize)]
pub(super) struct InConversation {
    conversation: String,
}

impl InConversation {
    /// The name in the path.
    pub(super) fn name(path: Result<Path<Self>, PathRejection>) -> Result<Name, Problem> {
        request::name(&path.map_err(bad_path)?.conversation)
    }
}

pub(super) async fn create(
    State(api): State<Api>,
    Extension(space): Extension<Space>,
    request: Request,
) -> Result<Response, Problem> {
    Parameters::of(&request)?.end()?;
    let asked: NewConversation = request::json(&api.limits, request).await?;
    let name = request::name(&asked.name)?;
    let beginning = settings::beginning(asked)?;
    let command = Command::Create { name: name.clone() };
    let outcome = submit(&api, &space, command, 0).await?;
    let Outcome::Created { new, .. } = outcome else { return Err(unexpected(outcome)) };
    // What one begins with is said of a new one only: whoever finds it there changes nothing.
    if let Some((actor, operations)) = beginning.filter(|_| new) {
        let (conversation, durability) = (name.clone(), Durability::default());
        let command = Command::OperateAll { actor, conversation, operations, durability };
        let outcome = submit(&api, &space, command, durability.wait).await?;
        operated(outcome).map_err(unexpected)?;
    }
    let (conversation, vector) = describe(&space, name).await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(with_token((status, Json(conversation)), &space, vector))
}

pub(super) async fn show(
    Extension(space): Extension<Space>,
    path: Result<Path<InConversation>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    Parameters::of(&request)?.end()?;
    let (conversation, vector) = describe(&space, InConversation::name(path)?).await?;
    Ok(with_token(Json(conversation), &space, vector))
}

pub(super) async fn list(
    Extension(space): Extension<Space>,
    request: Request,
) -> Result<Response, Problem> {
    let mut query = Parameters::of(&request)?;
    let limit = query.number("limit", DEFAULT_PAGE, 1..=MAX_PAGE)? as usize;
    let after: Option<Name> = query.parsed("after")?;
    let member: Option<Name> = query.parsed("member")?;
    query.end()?;
    if let Some(member) = member {
        return people::inbox(space, member, (after, limit)).await;
    }
    let (mut conversations, vector) = reading(&space, move |reader| {
        let conversations = reader.conversations(after.as_ref(), limit + 1)?;
        // Read behind the rows, so that the token has seen all that they show.
        Ok((conversations, reader.vector()?))
    })
    .await?;
    let more = conversations.len() > limit;
    conversations.truncate(limit);
    let last = conversations.last().map(|conversation| conversation.name.to_string());
    let page = Conversations {
        after: last.filter(|_| more),
        conversations: conversations.into_iter().map(Into::into).collect(),
    };
    Ok(with_token(Json(page), &space, vector))
}

/// A conversation with its settings and members.
pub(super) async fn describe(
    space: &Space,
    name: Name,
) -> Result<(Described, VersionVector), Problem> {
    reading(space, move |reader| {
        let conversation = reader.conversation(&name)?;
        let (settings, members) = (reader.settings(&name)?, reader.members(&name)?);
        // Read behind the rows, so that the token has seen all that they show.
        Ok((Described::of(conversation, settings, Some(members)), reader.vector()?))
    })
    .await
}
