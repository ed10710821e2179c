//! What is done to a message after it was posted: editing, hiding, erasing, reacting; and what
//! was done to it before.
//!
//! Invariant: what is answered about a message was read before the token of the answer.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use warbler_store::id::MessageId;
use warbler_store::name::Name;
use warbler_store::record::ContentType;
use warbler_store::replica::Operation;

use super::actor;
use super::calls::reading;
use super::messages::{OfMessage, unknown_message};
use super::problem::{Kind, Problem};
use super::request::{self, Parameters};
use super::session::{bad_path, with_token};
use super::wire::{EditedMessage, History};
use super::write::Write;
use crate::space::Space;

/// The part of the path that names a reaction.
#[derive(Deserialize)]
pub(super) struct OfReaction {
    conversation: String,
    id: String,
    emoji: String,
}

pub(super) async fn edit(
    path: Result<Path<OfMessage>, PathRejection>,
    write: Write,
) -> Result<Response, Problem> {
    let (conversation, message) = OfMessage::parse(path)?;
    let space = write.space().clone();
    let (asked, write) = write.body::<EditedMessage>().await?;
    let actor = actor::of_text(&asked.author)?;
    let content_type = match asked.content_type {
        Some(text) => request::content_type(&text)?,
        None => content_type_of(&space, &conversation, message).await?,
    };
    let operation = Operation::Edit { message, body: asked.body.into_bytes(), content_type };
    Ok(write.operate(actor, conversation, operation).await?.answer_done(StatusCode::OK))
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
    path: Result<Path<OfMessage>, PathRejection>,
    mut write: Write,
) -> Result<Response, Problem> {
    let (conversation, message) = OfMessage::parse(path)?;
    let actor = actor::of_query(write.query())?;
    let operation = match write.query().flag("erase")? {
        true => Operation::Erase { message },
        false => Operation::Redact { message },
    };
    let write = write.without_body()?;
    Ok(write.operate(actor, conversation, operation).await?.answer_done(StatusCode::OK))
}

pub(super) async fn react(
    path: Result<Path<OfReaction>, PathRejection>,
    write: Write,
) -> Result<Response, Problem> {
    reaction(path, write, true).await
}

pub(super) async fn take_back(
    path: Result<Path<OfReaction>, PathRejection>,
    write: Write,
) -> Result<Response, Problem> {
    reaction(path, write, false).await
}

async fn reaction(
    path: Result<Path<OfReaction>, PathRejection>,
    mut write: Write,
    on: bool,
) -> Result<Response, Problem> {
    let Path(OfReaction { conversation, id, emoji }) = path.map_err(bad_path)?;
    let conversation = request::name(&conversation)?;
    let (message, emoji): (MessageId, Name) = (id.parse()?, request::name(&emoji)?);
    let actor = actor::of_query(write.query())?;
    let write = write.without_body()?;
    let operation = Operation::React { message, emoji, on };
    let done = if on { StatusCode::CREATED } else { StatusCode::OK };
    Ok(write.operate(actor, conversation, operation).await?.answer_done(done))
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
