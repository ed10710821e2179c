//! Posting and reading messages.
//!
//! Invariant: a page and its token belong to one moment, and an answer to a post comes after it
//! is on disk here.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request};
use axum::http::{HeaderName, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use warbler_replication::replicator::{Command, Outcome, Reached};
use warbler_store::engine::EngineError;
use warbler_store::id::MessageId;
use warbler_store::name::Name;
use warbler_store::reader::{Range, Reader};
use warbler_store::record;
use warbler_store::replica::{self, Placing, Posted};
use warbler_store::vector::VersionVector;

use super::calls::reading;
use super::conversations::InConversation;
use super::problem::{Kind, Problem};
use super::request::{self, Parameters};
use super::session::{bad_path, with_token};
use super::wire::{self, Message, Messages, NewMessage, Receipt};
use super::write::Write;
use crate::space::Space;

/// Messages in a page, if the request does not say.
const DEFAULT_PAGE: u64 = 50;
/// The most in a page.
const MAX_PAGE: u64 = 500;
/// Makes retries one message.
const KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// The part of the path that names a message.
#[derive(Deserialize)]
pub(super) struct OfMessage {
    conversation: String,
    id: String,
}

impl OfMessage {
    /// The conversation and the message in the path.
    pub(super) fn parse(
        path: Result<Path<Self>, PathRejection>,
    ) -> Result<(Name, MessageId), Problem> {
        let Path(Self { conversation, id }) = path.map_err(bad_path)?;
        Ok((request::name(&conversation)?, id.parse()?))
    }
}

pub(super) async fn post(
    path: Result<Path<InConversation>, PathRejection>,
    write: Write,
) -> Result<Response, Problem> {
    let conversation = InConversation::name(path)?;
    let key = request::header(write.headers(), &KEY_HEADER)?.map(<[u8]>::to_vec);
    let (asked, write) = write.body::<NewMessage>().await?;
    let message = message_to_post(conversation, asked, key)?;
    let kept = write.submit(|durability| Command::Post { message, durability }, posted).await?;
    let complete = if kept.what.retried { StatusCode::OK } else { StatusCode::CREATED };
    let receipt = |posted: Posted, durability| Receipt { id: posted.id.to_string(), durability };
    Ok(kept.answer(complete, receipt))
}

/// What an outcome says of a post.
fn posted(outcome: Outcome) -> Result<(Posted, Reached, VersionVector), Outcome> {
    match outcome {
        Outcome::Posted { posted, reached, vector } => Ok((posted, reached, vector)),
        Outcome::Created { .. } | Outcome::Operated { .. } | Outcome::Refused(_) => Err(outcome),
    }
}

fn message_to_post(
    conversation: Name,
    asked: NewMessage,
    key: Option<Vec<u8>>,
) -> Result<replica::NewMessage, Problem> {
    let id = |text: Option<String>| text.map(|text| text.parse::<MessageId>()).transpose();
    let content_type = match asked.content_type {
        Some(text) => request::content_type(&text)?,
        None => Default::default(),
    };
    let placing = match asked.at {
        Some(text) => {
            let millis = wire::millis(&text);
            Placing::At(millis.map_err(|why| request::refused(format!("`at`: {why}")))?)
        }
        None => Placing::Now,
    };
    Ok(replica::NewMessage {
        conversation,
        author: request::name(&asked.author)?,
        body: asked.body.into_bytes(),
        content_type,
        reply_to: id(asked.reply_to)?,
        thread: id(asked.thread)?,
        placing,
        key,
    })
}

pub(super) async fn page(
    Extension(space): Extension<Space>,
    path: Result<Path<InConversation>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let name = InConversation::name(path)?;
    let mut query = Parameters::of(&request)?;
    let limit = query.number("limit", DEFAULT_PAGE, 1..=MAX_PAGE)? as usize;
    let thread: Option<MessageId> = query.parsed("thread")?;
    let (before, after) = (query.parsed("before")?, query.parsed("after")?);
    query.end()?;
    let (page, vector) = match (thread, before, after) {
        (Some(root), None, after) => thread_page(&space, name, root, after, limit).await?,
        (Some(_), Some(_), _) => {
            return Err(request::refused("a thread is read from its beginning on: use `after`"));
        }
        (None, Some(_), Some(_)) => {
            return Err(request::refused("`before` and `after` exclude each other"));
        }
        (None, None, None) => range_page(&space, name, Range::Last, limit).await?,
        (None, Some(before), None) => {
            range_page(&space, name, Range::Before(before), limit).await?
        }
        (None, None, Some(after)) => range_page(&space, name, Range::After(after), limit).await?,
    };
    Ok(with_token(Json(page), &space, vector))
}

async fn range_page(
    space: &Space,
    name: Name,
    range: Range,
    limit: usize,
) -> Result<(Messages, VersionVector), Problem> {
    reading(space, move |reader| {
        let page = reader.page(&name, range, limit)?;
        let ends = (page.messages.first(), page.messages.last());
        let before = wire::cursor(page.older, ends.0.map(|message| message.id));
        let after = wire::cursor(page.newer, ends.1.map(|message| message.id));
        let messages = shown(reader, &name, &page.messages)?;
        Ok((Messages { messages, before, after }, page.vector))
    })
    .await
}

async fn thread_page(
    space: &Space,
    name: Name,
    root: MessageId,
    after: Option<MessageId>,
    limit: usize,
) -> Result<(Messages, VersionVector), Problem> {
    reading(space, move |reader| {
        let page = reader.thread(&name, root, after, limit)?;
        let page = page.ok_or_else(|| unknown_message(root, &name))?;
        let after = wire::cursor(page.newer, page.messages.last().map(|message| message.id));
        let messages = shown(reader, &name, &page.messages)?;
        Ok((Messages { messages, before: None, after }, page.vector))
    })
    .await
}

fn shown(
    reader: &Reader,
    name: &Name,
    messages: &[record::Message],
) -> Result<Vec<Message>, EngineError> {
    messages.iter().map(|message| Message::read(reader, name, message)).collect()
}

pub(super) async fn show(
    Extension(space): Extension<Space>,
    path: Result<Path<OfMessage>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (name, id) = OfMessage::parse(path)?;
    Parameters::of(&request)?.end()?;
    let (message, vector) = reading(&space, move |reader| {
        let message = reader.message(&name, id)?.ok_or_else(|| unknown_message(id, &name))?;
        let message = Message::read(reader, &name, &message)?;
        // Read behind the message, so that the token has seen it.
        Ok((message, reader.vector()?))
    })
    .await?;
    Ok(with_token(Json(message), &space, vector))
}

/// There is no such message, or it has expired.
pub(super) fn unknown_message(id: MessageId, name: &Name) -> Problem {
    Problem::new(Kind::UnknownMessage, format!("there is no message {id} in `{name}`"))
}
