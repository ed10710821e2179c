//! What all writes have in common: how safe they are to be, and how they are submitted and
//! answered.
//!
//! Knows no call by name. Invariants: nothing is done before all of a request was understood; an
//! answer comes after what it tells of is on disk here, and says in how many regions it is.

use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde::de::DeserializeOwned;
use warbler_replication::replicator::{Command, Durability, Outcome, Reached};
use warbler_store::name::Name;
use warbler_store::replica::{Actor, Operated, Operation};
use warbler_store::vector::VersionVector;

use super::calls::submit;
use super::problem::Problem;
use super::request::{self, Parameters};
use super::session::with_token;
use super::wire::{self, Done};
use super::{Api, durability};
use crate::space::Space;

/// A request to write under a space, of which only `durability` and `timeout_ms` were read yet.
pub(super) struct Write {
    api: Api,
    space: Space,
    query: Parameters,
    durability: Durability,
    request: Request,
}

/// A write that was understood to its end, and may be submitted.
pub(super) struct Understood {
    api: Api,
    space: Space,
    durability: Durability,
}

/// A write that is kept, as safe as it says.
pub(super) struct Kept<T> {
    space: Space,
    /// What became of it.
    pub(super) what: T,
    reached: Reached,
    vector: VersionVector,
}

impl FromRequest<Api> for Write {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let space = request.extensions().get::<Space>().cloned();
        let space = space.ok_or_else(|| Problem::internal("a write outside of any space"))?;
        let mut query = Parameters::of(&request)?;
        let durability = durability::asked(&mut query, &space)?;
        Ok(Self { api: api.clone(), space, query, durability, request })
    }
}

impl Write {
    /// The space it writes in.
    pub(super) fn space(&self) -> &Space {
        &self.space
    }

    /// The parameters that the call itself knows are taken from here.
    pub(super) fn query(&mut self) -> &mut Parameters {
        &mut self.query
    }

    /// The headers of the request.
    pub(super) fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// Reads the body, the last thing to understand.
    pub(super) async fn body<T: DeserializeOwned>(self) -> Result<(T, Understood), Problem> {
        let Self { api, space, query, durability, request } = self;
        query.end()?;
        let asked = request::json(&api.limits, request).await?;
        Ok((asked, Understood { api, space, durability }))
    }

    /// There is no body to understand.
    pub(super) fn without_body(self) -> Result<Understood, Problem> {
        let Self { api, space, query, durability, .. } = self;
        query.end()?;
        Ok(Understood { api, space, durability })
    }
}

impl Understood {
    /// Carries out an operation.
    pub(super) async fn operate(
        self,
        actor: Actor,
        conversation: Name,
        operation: Operation,
    ) -> Result<Kept<Operated>, Problem> {
        let make = |durability| Command::Operate { actor, conversation, operation, durability };
        self.submit(make, operated).await
    }

    /// Submits a command as safe as was asked for; `read` takes from its outcome what became of
    /// it, and gives back an outcome of another kind.
    pub(super) async fn submit<T>(
        self,
        command: impl FnOnce(Durability) -> Command,
        read: impl FnOnce(Outcome) -> Result<(T, Reached, VersionVector), Outcome>,
    ) -> Result<Kept<T>, Problem> {
        let Self { api, space, durability } = self;
        let outcome = submit(&api, &space, command(durability), durability.wait).await?;
        let (what, reached, vector) = read(outcome).map_err(unexpected)?;
        Ok(Kept { space, what, reached, vector })
    }
}

/// What an outcome says of an operation.
pub(super) fn operated(outcome: Outcome) -> Result<(Operated, Reached, VersionVector), Outcome> {
    match outcome {
        Outcome::Operated { operated, reached, vector } => Ok((operated, reached, vector)),
        Outcome::Created { .. } | Outcome::Posted { .. } | Outcome::Refused(_) => Err(outcome),
    }
}

/// The problem that an outcome is to a call which did not ask for it: a refusal, or our bug.
pub(super) fn unexpected(outcome: Outcome) -> Problem {
    match outcome {
        Outcome::Refused(error) => error.into(),
        Outcome::Created { .. } | Outcome::Posted { .. } | Outcome::Operated { .. } => {
            Problem::internal("a command was answered as one of another kind")
        }
    }
}

impl<T> Kept<T> {
    /// The answer: what `say` makes of how safe it is, with status `complete` if that is as safe
    /// as was asked for.
    pub(super) fn answer<S: Serialize>(
        self,
        complete: StatusCode,
        say: impl FnOnce(T, wire::Durability) -> S,
    ) -> Response {
        let status = durability::status(&self.reached, complete);
        let said = say(self.what, durability::said(&self.reached));
        with_token((status, Json(said)), &self.space, self.vector)
    }

    /// The same, of what was read behind the write, together with `vector`.
    pub(super) fn read_behind(self, vector: VersionVector) -> Self {
        Self { vector, ..self }
    }
}

impl Kept<Operated> {
    /// The answer, with this status if it is done and was not before.
    pub(super) fn answer_done(self, done: StatusCode) -> Response {
        let changed = self.what == Operated::Done;
        let complete = if changed { done } else { StatusCode::OK };
        self.answer(complete, |_, durability| Done { changed, durability })
    }
}
