//! What is done to a message after it was posted: editing, hiding, erasing, reacting; and what
//! was done to it before.
//!
//! Invariant: an answer comes after what it tells of is on disk here, and says in how many
//! regions it is.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use warbler_replication::replicator::{Command, Durability, Outcome, Reached};
use warbler_store::id::MessageId;
use warbler_store::name::Name;
use warbler_store::record::ContentType;
use warbler_store::replica::{Actor, Operated, Operation};
use warbler_store::vector::VersionVector;

use super::calls::{reading, submit};
use super::messages::{OfMessage, unknown_message};
use super::problem::{Kind, Problem};
use super::request::{self, Parameters};
use super::session::{bad_path, with_token};
use super::wire::{Done, EditedMessage, History};
use super::{Api, actor, durability};
use crate::space::Space;

/// The part of the path that names a reaction.
#[derive(Deserialize)]
pub(super) struct OfReaction {
    conversation: String,
    id: String,
    emoji: String,
}

/// What a call does, and in which conversation.
pub(super) struct Asked {
    pub(super) actor: Actor,
    pub(super) conversation: Name,
    pub(super) operation: Operation,
    pub(super) durability: Durability,
}

/// What became of it.
pub(super) struct Became {
    operated: Operated,
    reached: Reached,
    vector: VersionVector,
}

impl Asked {
    /// Carries it out.
    pub(super) async fn carry_out(self, api: &Api, space: &Space) -> Result<Became, Problem> {
        let Self { actor, conversation, operation, durability } = self;
        let wait = durability.wait;
        let command = Command::Operate { actor, conversation, operation, durability };
        Became::of(submit(api, space, command, wait).await?)
    }
}

impl Became {
    /// What an outcome says.
    pub(super) fn of(outcome: Outcome) -> Result<Self, Problem> {
        match outcome {
            Outcome::Operated { operated, reached, vector } => {
                Ok(Self { operated, reached, vector })
            }
            Outcome::Refused(error) => Err(error.into()),
            Outcome::Created { .. } | Outcome::Posted { .. } => {
                Err(Problem::internal("an operation was answered as a post"))
            }
        }
    }

    /// How safe it is.
    pub(super) fn reached(&self) -> &Reached {
        &self.reached
    }

    /// The answer, with this status if it is done and was not before.
    pub(super) fn answer(self, space: &Space, done: StatusCode) -> Response {
        let changed = self.operated == Operated::Done;
        let status = if changed { done } else { StatusCode::OK };
        let status = durability::status(&self.reached, status);
        let said = Done { changed, durability: durability::said(&self.reached) };
        with_token((status, Json(said)), space, self.vector)
    }
}

pub(super) async fn edit(
    State(api): State<Api>,
    Extension(space): Extension<Space>,
    path: Result<Path<OfMessage>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (conversation, message) = OfMessage::parse(path)?;
    let mut query = Parameters::of(&request)?;
    let durability = durability::asked(&mut query, &space)?;
    query.end()?;
    let asked: EditedMessage = request::json(&api.limits, request).await?;
    let actor = actor::of_text(&asked.author)?;
    let content_type = match asked.content_type {
        Some(text) => request::content_type(&text)?,
        None => content_type_of(&space, &conversation, message).await?,
    };
    let operation = Operation::Edit { message, body: asked.body.into_bytes(), content_type };
    let asked = Asked { actor, conversation, operation, durability };
    Ok(asked.carry_out(&api, &space).await?.answer(&space, StatusCode::OK))
}

/// An edit that names no content type keeps the message's.
async fn content_type_of(
    space: &Space,
    conversation: &Name,
    message: MessageId,
) -> Result<ContentType, Problem> {
    let name = conversation.clone();
    reading(space, move |reader| {
        let message = reader.message(&name, message)?;
        // Where there is none the edit is refused in any case.
        Ok(message.map(|message| message.content_type().clone()).unwrap_or_default())
    })
    .await
}

/// `DELETE` hides a message; with `erase=true` it destroys the words.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(space): Extension<Space>,
    path: Result<Path<OfMessage>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (conversation, message) = OfMessage::parse(path)?;
    let mut query = Parameters::of(&request)?;
    let durability = durability::asked(&mut query, &space)?;
    let actor = actor::of_query(&mut query)?;
    let operation = match query.flag("erase")? {
        true => Operation::Erase { message },
        false => Operation::Redact { message },
    };
    query.end()?;
    let asked = Asked { actor, conversation, operation, durability };
    Ok(asked.carry_out(&api, &space).await?.answer(&space, StatusCode::OK))
}

pub(super) async fn react(
    api: State<Api>,
    space: Extension<Space>,
    path: Result<Path<OfReaction>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    reaction(api, space, path, request, true).await
}

pub(super) async fn take_back(
    api: State<Api>,
    space: Extension<Space>,
    path: Result<Path<OfReaction>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    reaction(api, space, path, request, false).await
}

async fn reaction(
    State(api): State<Api>,
    Extension(space): Extension<Space>,
    path: Result<Path<OfReaction>, PathRejection>,
    request: Request,
    on: bool,
) -> Result<Response, Problem> {
    let Path(OfReaction { conversation, id, emoji }) = path.map_err(bad_path)?;
    let conversation = request::name(&conversation)?;
    let (message, emoji): (MessageId, Name) = (id.parse()?, request::name(&emoji)?);
    let mut query = Parameters::of(&request)?;
    let durability = durability::asked(&mut query, &space)?;
    let actor = actor::of_query(&mut query)?;
    query.end()?;
    let operation = Operation::React { message, emoji, on };
    let asked = Asked { actor, conversation, operation, durability };
    let done = if on { StatusCode::CREATED } else { StatusCode::OK };
    Ok(asked.carry_out(&api, &space).await?.answer(&space, done))
}

pub(super) async fn history(
    Extension(space): Extension<Space>,
    path: Result<Path<OfMessage>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (name, id) = OfMessage::parse(path)?;
    Parameters::of(&request)?.end()?;
    let (history, vector) = reading(&space, move |reader| {
        let message = reader.message(&name, id)?.ok_or_else(|| unknown_message(id, &name))?;
        let history = reader.history(&name, id)?.ok_or_else(|| {
            Problem::new(Kind::Gone, format!("the words of message {id} are hidden or gone"))
        })?;
        // Read behind the message, so that the token has seen it.
        Ok((History::of(&message, history), reader.vector()?))
    })
    .await?;
    Ok(with_token(Json(history), &space, vector))
}
