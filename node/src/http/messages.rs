//! Posting and reading messages.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderName, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use warbler_replication::replicator::{Command, Durability, Outcome, Reached};
use warbler_store::id::MessageId;
use warbler_store::name::Name;
use warbler_store::reader::Range;
use warbler_store::replica::{self, Placing, Posted};

use super::Api;
use super::calls::{reading, submit};
use super::conversations::InConversation;
use super::problem::{Kind, Problem};
use super::request::{self, Parameters};
use super::session::{bad_path, with_token};
use super::wire::{self, Message, Messages, NewMessage, Receipt};
use crate::space::Space;

/// Messages in a page, if the request does not say.
const DEFAULT_PAGE: u64 = 50;
/// The most in a page.
const MAX_PAGE: u64 = 500;
/// How long a post waits for other regions, if it does not say: 5 s.
const DEFAULT_WAIT_MILLIS: u64 = 5_000;
/// The longest such wait: 60 s.
const MAX_WAIT_MILLIS: u64 = 60_000;
/// Makes retries one message.
const KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// The part of the path that names a message.
#[derive(Deserialize)]
pub(super) struct OfMessage {
    conversation: String,
    id: String,
}

pub(super) async fn post(
    State(api): State<Api>,
    Extension(space): Extension<Space>,
    path: Result<Path<InConversation>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let conversation = InConversation::name(path)?;
    let mut query = Parameters::of(&request)?;
    let regions = regions_asked(query.one("durability")?.as_deref(), space.regions().len())?;
    let wait = query.number("timeout_ms", DEFAULT_WAIT_MILLIS, 0..=MAX_WAIT_MILLIS)?;
    query.end()?;
    let key = request::header(request.headers(), &KEY_HEADER)?.map(<[u8]>::to_vec);
    let asked: NewMessage = request::json(&api.limits, request).await?;
    let message = message_to_post(conversation, asked, key)?;
    let durability = Durability { regions, wait };
    match submit(&api, &space, Command::Post { message, durability }, wait).await? {
        Outcome::Posted { posted, reached, vector } => {
            Ok(with_token(receipt(posted, reached), &space, vector))
        }
        Outcome::Refused(error) => Err(error.into()),
        Outcome::Created { .. } | Outcome::Operated { .. } => {
            Err(Problem::internal("a post was answered as a creation"))
        }
    }
}

/// How many regions `durability` asks for, of `all`.
fn regions_asked(durability: Option<&str>, all: usize) -> Result<usize, Problem> {
    let asked = match durability {
        None => 1,
        Some("majority") => all / 2 + 1,
        Some("all") => all,
        Some(text) => text.parse().ok().filter(|regions| *regions > 0).ok_or_else(|| {
            request::refused(format!(
                "`durability` is `{text}`: a number from 1, `majority` or `all` expected"
            ))
        })?,
    };
    if asked > all {
        let detail = format!("durability {asked} was asked for, the space has {all} regions");
        return Err(Problem::new(Kind::DurabilityImpossible, detail)
            .hint(format!("ask for at most {all}, or for `all`")));
    }
    Ok(asked)
}

fn message_to_post(
    conversation: Name,
    asked: NewMessage,
    key: Option<Vec<u8>>,
) -> Result<replica::NewMessage, Problem> {
    let id = |text: Option<String>| text.map(|text| text.parse::<MessageId>()).transpose();
    let content_type = match asked.content_type {
        Some(text) => {
            text.parse().map_err(|error| request::refused(format!("`content_type`: {error}")))?
        }
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

fn receipt(posted: Posted, reached: Reached) -> (StatusCode, Json<Receipt>) {
    let status = if reached.regions.len() < reached.asked {
        StatusCode::ACCEPTED
    } else if posted.retried {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let durability = wire::Durability {
        asked: reached.asked,
        reached: reached.regions.len(),
        regions: reached.regions.iter().map(Name::to_string).collect(),
    };
    (status, Json(Receipt { id: posted.id.to_string(), durability }))
}

pub(super) async fn page(
    Extension(space): Extension<Space>,
    path: Result<Path<InConversation>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let name = InConversation::name(path)?;
    let mut query = Parameters::of(&request)?;
    let limit = query.number("limit", DEFAULT_PAGE, 1..=MAX_PAGE)? as usize;
    let range = match (query.parsed("before")?, query.parsed("after")?) {
        (None, None) => Range::Last,
        (Some(before), None) => Range::Before(before),
        (None, Some(after)) => Range::After(after),
        (Some(_), Some(_)) => {
            return Err(request::refused("`before` and `after` exclude each other"));
        }
    };
    query.end()?;
    let (page, vector) = reading(&space, move |reader| {
        let page = reader.page(&name, range, limit)?;
        let ends = (page.messages.first(), page.messages.last());
        let (first, last) = (ends.0.map(|message| message.id), ends.1.map(|message| message.id));
        let messages = page.messages.iter().map(|message| Message::read(reader, &name, message));
        let messages = Messages {
            messages: messages.collect::<Result<_, _>>()?,
            before: wire::cursor(page.older, first),
            after: wire::cursor(page.newer, last),
        };
        Ok((messages, page.vector))
    })
    .await?;
    Ok(with_token(Json(page), &space, vector))
}

pub(super) async fn show(
    Extension(space): Extension<Space>,
    path: Result<Path<OfMessage>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Path(OfMessage { conversation, id }) = path.map_err(bad_path)?;
    let name = request::name(&conversation)?;
    let id: MessageId = id.parse()?;
    Parameters::of(&request)?.end()?;
    let (message, vector) = reading(&space, move |reader| {
        let message = reader.message(&name, id)?.ok_or_else(|| {
            let detail = format!("there is no message {id} in `{name}`");
            Problem::new(Kind::UnknownMessage, detail)
        })?;
        let message = Message::read(reader, &name, &message)?;
        // Read behind the message, so that the token has seen it.
        Ok((message, reader.vector()?))
    })
    .await?;
    Ok(with_token(Json(message), &space, vector))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_is_a_number_of_regions_or_a_word_and_never_more_than_there_are() {
        let asked = |text, all| regions_asked(text, all).ok();
        assert_eq!(asked(None, 3), Some(1));
        assert_eq!(asked(Some("2"), 3), Some(2));
        assert_eq!(asked(Some("majority"), 3), Some(2));
        assert_eq!(asked(Some("majority"), 4), Some(3));
        assert_eq!(asked(Some("all"), 3), Some(3));
        for bad in ["0", "4", "-1", "many", "", "1.5"] {
            assert_eq!(asked(Some(bad), 3), None, "{bad:?}");
        }
    }
}
