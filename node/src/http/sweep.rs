//! Making erased bytes leave this node's files at once.
//!
//! Invariant: 200 is answered only when none of what was erased before the request is left in
//! them.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;

use super::Api;
use super::problem::{Kind, Problem};
use super::request::Parameters;
use super::wire::Swept;

/// How long a request waits for it, if it does not say: a minute.
const DEFAULT_WAIT_MILLIS: u64 = 60_000;
/// The longest such wait: ten minutes.
const MAX_WAIT_MILLIS: u64 = 600_000;

pub(super) async fn sweep(
    State(api): State<Api>,
    request: Request,
) -> Result<(StatusCode, Json<Swept>), Problem> {
    let mut query = Parameters::of(&request)?;
    let wait = query.number("timeout_ms", DEFAULT_WAIT_MILLIS, 0..=MAX_WAIT_MILLIS)?;
    query.end()?;
    let mut closing = api.closing.clone();
    let spaces = &api.services.spaces;
    let sweeps = spaces.values().map(|space| space.sweep_now());
    let all = futures_util::future::try_join_all(sweeps);
    let swept = tokio::select! {
        swept = tokio::time::timeout(Duration::from_millis(wait), all) => swept.ok(),
        () = super::closed(&mut closing) => None,
    };
    match swept {
        Some(Ok(_)) => Ok((StatusCode::OK, Json(Swept { pending: Vec::new() }))),
        Some(Err(why)) => Err(Problem::new(Kind::SweepFailed, why).hint(
            "nobody is shown what was erased; the node tries again by itself, and its log says more",
        )),
        None => {
            let left = spaces.values().filter(|it| it.progress().borrow().upkeep.sweeps > 0);
            let pending = left.map(|space| space.name().to_string()).collect();
            Ok((StatusCode::ACCEPTED, Json(Swept { pending })))
        }
    }
}
