//! Which path leads where.
//!
//! Invariant: every answer that is not a success is a problem document, also for paths and
//! methods that there are not.

use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post, put};
use tower_http::trace::TraceLayer;

use super::problem::{Kind, Problem};
use super::{
    Api, conversations, deeds, events, guard, messages, people, session, settings, status, sweep,
    verify,
};

/// The whole API.
pub(super) fn router(api: Api) -> Router {
    const CONVERSATION: &str = "/v1/spaces/{space}/conversations/{conversation}";
    let of = |rest: &str| format!("{CONVERSATION}{rest}");
    let conversation = Router::new()
        .route(
            CONVERSATION,
            get(conversations::show).patch(settings::change).delete(settings::erase),
        )
        .route(&of("/read-marker"), get(people::unread).put(people::mark))
        .route(&of("/messages"), get(messages::page).post(messages::post))
        .route(&of("/messages/{id}"), get(messages::show).patch(deeds::edit).delete(deeds::remove))
        .route(&of("/messages/{id}/history"), get(deeds::history))
        .route(&of("/messages/{id}/reactions/{emoji}"), put(deeds::react).delete(deeds::take_back));
    let space = Router::new()
        .merge(conversation)
        .route(
            "/v1/spaces/{space}/conversations",
            get(conversations::list).post(conversations::create),
        )
        .route("/v1/spaces/{space}/erasures", post(settings::erase_author))
        .route("/v1/spaces/{space}/events", get(events::follow))
        .route_layer(from_fn_with_state(api.clone(), session::in_space));
    Router::new()
        .merge(space)
        .route("/v1/status", get(status::status))
        .route("/v1/erasures/sweep", post(sweep::sweep))
        .route("/v1/verify", post(verify::verify))
        .route("/healthz", get(status::healthy))
        .route("/readyz", get(status::ready))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(from_fn(guard::guard))
        .layer(TraceLayer::new_for_http().on_failure(()))
        .with_state(api)
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(Kind::NotFound, format!("there is nothing at {}", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("{} has no {method}", uri.path()))
}
