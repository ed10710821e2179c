//! Problem documents (RFC 9457): the one form in which the API says no.
//!
//! Invariant: every refusal names a kind from [`Kind`], which fixes its status; scripts depend on
//! both.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use warbler_store::engine::EngineError;
use warbler_store::id::InvalidId;
use warbler_store::name::InvalidName;
use warbler_store::reader::ReadError;
use warbler_store::replica::CommandError;

use super::wire::Missing;
use crate::space::SubmitError;

/// What stands before a kind's name in `type`.
const TYPE_PREFIX: &str = "urn:warbler:problem:";
/// When to come again after `busy`, in seconds.
const RETRY_AFTER_SECONDS: &str = "1";

/// When to come again to a node that is read-only, in seconds: room is made by people.
const RETRY_WITHOUT_ROOM_AFTER_SECONDS: &str = "10";

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    UnknownSpace,
    UnknownConversation,
    UnknownMessage,
    InvalidId,
    InvalidName,
    InvalidBody,
    BodyTooLarge,
    InvalidRequest,
    UnsupportedMediaType,
    RequestTimeout,
    KeyReused,
    KeyTaken,
    Gone,
    Forbidden,
    TooManyEmojis,
    Busy,
    OutcomeUnknown,
    Reopening,
    NoRoom,
    Behind,
    Trimmed,
    InvalidSession,
    NotFound,
    MethodNotAllowed,
    DurabilityImpossible,
    FutureTime,
    SweepFailed,
    ForbiddenHost,
    ForbiddenOrigin,
    Internal,
}

impl Kind {
    /// Its name, its status, and its title.
    const fn row(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::UnknownSpace => ("unknown-space", S::NOT_FOUND, "There is no such space here"),
            Self::UnknownConversation => {
                ("unknown-conversation", S::NOT_FOUND, "There is no such conversation here")
            }
            Self::UnknownMessage => {
                ("unknown-message", S::NOT_FOUND, "There is no such message here")
            }
            Self::InvalidId => ("invalid-id", S::BAD_REQUEST, "An id is malformed"),
            Self::InvalidName => ("invalid-name", S::BAD_REQUEST, "A name is not allowed"),
            Self::InvalidBody => ("invalid-body", S::BAD_REQUEST, "The body is not allowed"),
            Self::BodyTooLarge => ("body-too-large", S::PAYLOAD_TOO_LARGE, "The body is too large"),
            Self::InvalidRequest => ("invalid-request", S::BAD_REQUEST, "The request is malformed"),
            Self::UnsupportedMediaType => {
                ("unsupported-media-type", S::UNSUPPORTED_MEDIA_TYPE, "The request is not JSON")
            }
            Self::RequestTimeout => {
                ("request-timeout", S::REQUEST_TIMEOUT, "The request came too slowly")
            }
            Self::KeyReused => (
                "key-reused",
                S::UNPROCESSABLE_ENTITY,
                "The idempotency key was used for another message",
            ),
            Self::KeyTaken => ("key-taken", S::CONFLICT, "The idempotency key cannot be used"),
            Self::Gone => ("gone", S::GONE, "The message was redacted, erased, or has expired"),
            Self::Forbidden => ("forbidden", S::FORBIDDEN, "The user may not do this"),
            Self::TooManyEmojis => {
                ("too-many-emojis", S::CONFLICT, "The message bears too many different emojis")
            }
            Self::Busy => ("busy", S::SERVICE_UNAVAILABLE, "The node is busy"),
            Self::OutcomeUnknown => {
                ("outcome-unknown", S::INTERNAL_SERVER_ERROR, "The outcome is unknown")
            }
            Self::Reopening => {
                ("reopening", S::SERVICE_UNAVAILABLE, "The store is being opened again")
            }
            Self::NoRoom => ("no-room", S::INSUFFICIENT_STORAGE, "The node is read-only"),
            Self::Behind => ("behind", S::CONFLICT, "The node is behind the session"),
            Self::Trimmed => {
                ("trimmed", S::GONE, "The log does not go back as far as the session token")
            }
            Self::InvalidSession => {
                ("invalid-session", S::BAD_REQUEST, "The session token is not one of this space")
            }
            Self::NotFound => ("not-found", S::NOT_FOUND, "There is nothing at this path"),
            Self::MethodNotAllowed => {
                ("method-not-allowed", S::METHOD_NOT_ALLOWED, "The path has no such method")
            }
            Self::DurabilityImpossible => (
                "durability-impossible",
                S::BAD_REQUEST,
                "The space has not as many regions as that",
            ),
            Self::FutureTime => {
                ("future-time", S::UNPROCESSABLE_ENTITY, "The time given lies in the future")
            }
            Self::SweepFailed => (
                "sweep-failed",
                S::INTERNAL_SERVER_ERROR,
                "Erased bytes could not be removed from the node's files",
            ),
            Self::ForbiddenHost => {
                ("forbidden-host", S::FORBIDDEN, "The host asked for is not this machine")
            }
            Self::ForbiddenOrigin => {
                ("forbidden-origin", S::FORBIDDEN, "Pages of other sites may not use this node")
            }
            Self::Internal => ("internal", S::INTERNAL_SERVER_ERROR, "The node failed"),
        }
    }

    /// When to come again, in seconds, where that helps.
    fn retry_after(self) -> Option<&'static str> {
        if matches!(self, Self::Busy | Self::Reopening) {
            return Some(RETRY_AFTER_SECONDS);
        }
        (self == Self::NoRoom).then_some(RETRY_WITHOUT_ROOM_AFTER_SECONDS)
    }
}

/// A refusal.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
    hint: Option<String>,
    /// For `behind`: what is missing.
    missing: Option<Vec<Missing>>,
    /// The token of what is held, to go on from.
    session: Option<String>,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<&'a [Missing]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), hint: None, missing: None, session: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The node lacks `missing`; `session` is the token of what it holds.
    pub(super) fn behind(detail: String, missing: Vec<Missing>, session: String) -> Self {
        let (missing, session) = (Some(missing), Some(session));
        Self { missing, session, ..Self::new(Kind::Behind, detail) }.hint(
            "wait and ask again, ask another region, or go on with the token in `session`, which \
             has seen less",
        )
    }

    /// What a follower missed is not in the log any more; `session` is the token of what is held.
    pub(super) fn trimmed(detail: String, session: String) -> Self {
        Self { session: Some(session), ..Self::new(Kind::Trimmed, detail) }.hint(
            "read the conversations anew, and follow from the token in `session`, which was taken \
             before you read",
        )
    }

    /// What is kept of a request nobody can tell.
    pub(super) fn outcome_unknown(detail: impl Into<String>) -> Self {
        Self::new(Kind::OutcomeUnknown, detail).hint("retry with the same Idempotency-Key")
    }

    pub(super) fn internal(detail: impl std::fmt::Display) -> Self {
        tracing::error!(%detail, "a request failed");
        Self::new(Kind::Internal, detail.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (name, status, title) = self.kind.row();
        let document = Document {
            kind: format!("{TYPE_PREFIX}{name}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            hint: self.hint.as_deref(),
            missing: self.missing.as_deref(),
            session: self.session.as_deref(),
        };
        let mut response = (status, Json(document)).into_response();
        let mut set = |name: HeaderName, value| {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        };
        set(header::CONTENT_TYPE, "application/problem+json");
        set(header::CACHE_CONTROL, "no-store");
        if let Some(seconds) = self.kind.retry_after() {
            set(header::RETRY_AFTER, seconds);
        }
        response
    }
}

impl From<InvalidName> for Problem {
    fn from(error: InvalidName) -> Self {
        Self::new(Kind::InvalidName, error.to_string())
    }
}

impl From<InvalidId> for Problem {
    fn from(error: InvalidId) -> Self {
        Self::new(Kind::InvalidId, error.to_string())
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        if matches!(error, EngineError::Reopening) {
            return Self::new(Kind::Reopening, error.to_string());
        }
        Self::internal(error)
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::UnknownConversation(_) => unknown_conversation(error),
            ReadError::Engine(error) => error.into(),
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Busy => Self::new(Kind::Busy, error.to_string()),
            SubmitError::OutcomeUnknown => Self::outcome_unknown(error.to_string()),
            SubmitError::Reopening => Self::new(Kind::Reopening, error.to_string())
                .hint("nothing was changed: come again in a moment, or ask another region"),
            SubmitError::NoRoom(_) => Self::new(Kind::NoRoom, error.to_string())
                .hint("nothing was changed: ask another region, or make room on the device"),
            SubmitError::StandsStill(_) => Self::internal(error),
        }
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let kind = match error {
            CommandError::UnknownConversation(_) => return unknown_conversation(error),
            CommandError::UnknownMessage(_) => Kind::UnknownMessage,
            CommandError::EmptyBody => Kind::InvalidBody,
            CommandError::BodyTooLarge(_) => Kind::BodyTooLarge,
            CommandError::KeyLength(_) => Kind::InvalidRequest,
            CommandError::KeyReused(_) => {
                return Self::new(Kind::KeyReused, error.to_string())
                    .hint("a new message needs a new Idempotency-Key");
            }
            CommandError::TailTaken => Kind::KeyTaken,
            CommandError::FutureTime => Kind::FutureTime,
            CommandError::Gone(_) => Kind::Gone,
            CommandError::Forbidden { .. } => Kind::Forbidden,
            CommandError::EmojiTooLong(_) | CommandError::NotTogether => Kind::InvalidRequest,
            CommandError::TooManyEmojis(_) => Kind::TooManyEmojis,
            CommandError::Replica(_) => return Self::outcome_unknown(error.to_string()),
        };
        Self::new(kind, error.to_string())
    }
}

fn unknown_conversation(error: impl std::fmt::Display) -> Problem {
    Problem::new(Kind::UnknownConversation, error.to_string()).hint(
        "create it with POST /v1/spaces/{space}/conversations; one that was just created in \
         another region is there as soon as it has arrived, or use its session token",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_is_answered_busy_with_a_time_to_come_again() {
        let response = Problem::from(SubmitError::Busy).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn an_unknown_outcome_asks_for_a_retry_with_the_same_key() {
        let problem = Problem::from(SubmitError::OutcomeUnknown);
        assert_eq!(problem.kind, Kind::OutcomeUnknown);
        assert_eq!(problem.hint.as_deref(), Some("retry with the same Idempotency-Key"));
    }
}
