//! Reading the whole store back on demand.
//!
//! Invariant: one at a time; it changes nothing.

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;

use super::Api;
use super::problem::{Kind, Problem};
use super::request::Parameters;

/// What a node says of its store.
#[derive(Debug, Serialize)]
pub(super) struct Verified {
    /// Rows that were read.
    rows: u64,
    /// How many findings there were.
    found: u64,
    /// What is damaged, a sentence each; at most 256.
    damage: Vec<String>,
}

/// Reads every file and every row, however long it takes.
pub(super) async fn verify(
    State(api): State<Api>,
    request: Request,
) -> Result<Json<Verified>, Problem> {
    Parameters::of(&request)?.end()?;
    let scrub = api.services.scrub.clone();
    let report = tokio::task::spawn_blocking(move || scrub.verify());
    let report = report.await.map_err(Problem::internal)?.map_err(Problem::from)?;
    let report = report.ok_or_else(|| {
        Problem::new(Kind::Busy, "the store is being verified for somebody else already")
    })?;
    Ok(Json(Verified { rows: report.rows, found: report.found, damage: report.damage }))
}
