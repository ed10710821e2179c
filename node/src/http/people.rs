//! What a person has not read: the inbox, and the marker in a conversation.
//!
//! Invariant: what an answer counts was read before the token it carries.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request};
use axum::http::StatusCode;
use axum::response::Response;
use warbler_store::name::Name;
use warbler_store::reader::{self, Range, ReadError, Reader};
use warbler_store::replica::Operation;

use super::actor;
use super::calls::reading;
use super::conversations::InConversation;
use super::problem::Problem;
use super::request::Parameters;
use super::session::with_token;
use super::wire::{Inbox, InboxConversation, Message, ReadMarker, Unread};
use super::write::Write;
use crate::space::Space;

/// Unread messages are counted so far: beyond it nobody wants to know.
const MAX_UNREAD: usize = 1000;

/// The conversations that `user` is a member of, the one with the latest message first.
pub(super) async fn inbox(
    space: Space,
    user: Name,
    (after, limit): (Option<Name>, usize),
) -> Result<Response, Problem> {
    let (inbox, vector) = reading(&space, move |reader| {
        let all = reader.inbox(&user)?;
        let past = |name: &Name| all.iter().position(|one| one.name == *name).map(|at| at + 1);
        let start = after.as_ref().map_or(0, |name| past(name).unwrap_or(all.len()));
        let mut rest = all.into_iter().skip(start);
        let mut conversations = Vec::new();
        for conversation in rest.by_ref().take(limit) {
            conversations.extend(in_inbox(reader, &user, conversation)?);
        }
        let last = conversations.last().map(|one| one.name.to_string());
        let after = last.filter(|_| rest.next().is_some());
        let conversations = conversations.into_iter().map(|one| one.shown).collect();
        Ok((Inbox { conversations, after }, reader.vector()?))
    })
    .await?;
    Ok(with_token(Json(inbox), &space, vector))
}

/// A conversation of an inbox, with the name that pages go by.
struct Listed {
    name: Name,
    shown: InboxConversation,
}

/// None for a conversation that was erased since it was listed.
fn in_inbox(
    reader: &Reader,
    user: &Name,
    conversation: reader::Conversation,
) -> Result<Option<Listed>, Problem> {
    let name = conversation.name.clone();
    let read = || -> Result<InboxConversation, ReadError> {
        let unread = Unread::of(reader.unread(&name, user, MAX_UNREAD + 1)?, MAX_UNREAD);
        let last = reader.page(&name, Range::Last, 1)?.messages.pop();
        let last = last.map(|message| Message::read(reader, &name, &message)).transpose()?;
        Ok(InboxConversation { conversation: conversation.into(), unread, last })
    };
    match read() {
        Ok(shown) => Ok(Some(Listed { name, shown })),
        Err(ReadError::UnknownConversation(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn unread(
    Extension(space): Extension<Space>,
    path: Result<Path<InConversation>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let name = InConversation::name(path)?;
    let mut query = Parameters::of(&request)?;
    let user = actor::of_query(&mut query)?.user;
    query.end()?;
    let (unread, vector) = reading(&space, move |reader| {
        let unread = reader.unread(&name, &user, MAX_UNREAD + 1)?;
        Ok((Unread::of(unread, MAX_UNREAD), reader.vector()?))
    })
    .await?;
    Ok(with_token(Json(unread), &space, vector))
}

pub(super) async fn mark(
    path: Result<Path<InConversation>, PathRejection>,
    write: Write,
) -> Result<Response, Problem> {
    let conversation = InConversation::name(path)?;
    let (asked, write) = write.body::<ReadMarker>().await?;
    let operation = Operation::MarkRead { message: asked.message.parse()? };
    let actor = actor::of_text(&asked.user)?;
    Ok(write.operate(actor, conversation, operation).await?.answer_done(StatusCode::OK))
}
