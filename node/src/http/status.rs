//! What operators ask: the state of the node, and whether it lives.
//!
//! Invariant: the digest and the vector shown of a space belong to one moment; and liveness never
//! depends on peers.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use warbler_replication::replicator::PeerProgress;
use warbler_store::engine::EngineError;
use warbler_store::id::OriginId;
use warbler_store::tables::{self, OriginRow, QuarantineRow};

use super::Api;
use super::calls::blocking;
use super::problem::Problem;
use super::request::Parameters;
use super::wire::{self, Component, NodeStatus, PeerStatus, SpaceStatus, Status};
use crate::node::Services;
use crate::space::{Progress, Space};
use crate::transport::PeerState;

/// Entries in quarantine are counted so far.
const MAX_QUARANTINED: usize = 10_000;

pub(super) async fn healthy() -> &'static str {
    "ok"
}

pub(super) async fn ready(State(api): State<Api>) -> (StatusCode, String) {
    match why_unready(&api.services) {
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
        // It answers reads and sends what it holds: other regions need it.
        None => match api.services.standing.borrow().no_room {
            Some(no_room) => (StatusCode::OK, format!("ready, but read-only: {no_room}")),
            None => (StatusCode::OK, "ready".to_owned()),
        },
    }
}

fn why_unready(services: &Services) -> Option<String> {
    if let Some(why) = &services.standing.borrow().reopening {
        return Some(format!("the store is being opened again: {why}"));
    }
    services.spaces.values().find_map(|space| {
        if !space.is_running() {
            return Some(format!("the replica of space `{}` has ended", space.name()));
        }
        let why = space.progress().borrow().stands_still.clone()?;
        Some(format!("space `{}` stands still: {why}", space.name()))
    })
}

pub(super) async fn status(
    State(api): State<Api>,
    request: Request,
) -> Result<Json<Status>, Problem> {
    Parameters::of(&request)?.end()?;
    blocking(move || read_status(&api.services).map(Json)).await
}

fn read_status(services: &Services) -> Result<Status, Problem> {
    let cluster_order = services.cluster.spaces.iter();
    let spaces: Vec<(&Space, Progress)> = cluster_order
        .filter_map(|space| services.spaces.get(&space.name))
        .map(|space| (space, space.progress().borrow().clone()))
        .collect();
    let peers = services.transport.peers();
    let standing = services.standing.borrow().clone();
    let mut alarms = standing.alarms();
    for (space, progress) in &spaces {
        alarms
            .extend(progress.alarms.iter().map(|text| format!("space `{}`: {text}", space.name())));
    }
    let damage = services.scrub.findings().damage;
    alarms.extend(damage.into_iter().map(|damage| format!("the store is damaged: {damage}")));
    let of_peers = peers.iter().filter_map(|peer| peer.alarm.as_ref().zip(Some(&peer.name)));
    alarms.extend(of_peers.map(|(text, name)| format!("peer `{name}`: {text}")));
    let mut shown = Vec::with_capacity(spaces.len());
    for (space, progress) in &spaces {
        shown.push(space_status(services, space, progress)?);
    }
    let about = &services.about;
    // Closed for a moment, if it is being opened again.
    let engine = services.engine.current().ok();
    Ok(Status {
        version: env!("CARGO_PKG_VERSION"),
        node: NodeStatus {
            name: about.entry.name.to_string(),
            id: about.entry.id.to_string(),
            region: about.entry.region.to_string(),
            cloud: about.entry.cloud.as_ref().map(ToString::to_string),
            origin: standing.run.origin.to_string(),
            started_at: wire::time(standing.run.started),
            run: standing.run.number,
        },
        spaces: shown,
        peers: peers.iter().map(|peer| peer_status(peer, &spaces)).collect(),
        takes_writes: standing.reopening.is_none() && standing.no_room.is_none(),
        disk_bytes: engine.as_ref().map_or(0, |engine| engine.disk_bytes()),
        disk_free_bytes: engine.and_then(|engine| engine.room().ok()).map(|room| room.free_bytes),
        alarms,
    })
}

fn space_status(
    services: &Services,
    space: &Space,
    progress: &Progress,
) -> Result<SpaceStatus, Problem> {
    // What is held now names every origin of the vector, which is of a moment ago.
    let origins = match space.reader().origins() {
        // What the node stands for must be seen while it cannot read.
        Err(EngineError::Reopening) => BTreeMap::new(),
        origins => origins?,
    };
    let vector = &progress.point.vector;
    let quarantined = services.engine.current().map_or(0, |engine| {
        let prefix = QuarantineRow::prefix(space.id());
        let rows = tables::rows::<QuarantineRow, _>(&*engine, &prefix);
        rows.take(MAX_QUARANTINED).count()
    });
    Ok(SpaceStatus {
        name: space.name().to_string(),
        id: space.id().to_string(),
        regions: space.regions().iter().map(ToString::to_string).collect(),
        conversations: progress.counts.conversations,
        messages: progress.counts.messages,
        depth: progress.counts.depth,
        digest: progress.point.digest.to_string(),
        vector_digest: vector.digest().to_string(),
        ahead_ids: progress.counts.ahead,
        trimmed: origins.values().map(|row| row.trimmed).sum(),
        quarantined: quarantined as u64,
        sweeps_pending: progress.upkeep.sweeps,
        vector: vector.iter().map(|at| component(services, &origins, at)).collect(),
    })
}

fn component(
    services: &Services,
    origins: &BTreeMap<OriginId, OriginRow>,
    (origin, seq): (OriginId, u64),
) -> Component {
    let row = origins.get(&origin);
    let node = row.and_then(|row| services.cluster.node(row.node));
    Component {
        origin: origin.to_string(),
        node: node.map(|node| node.name.to_string()),
        region: row.map(|row| row.region.to_string()),
        seq,
    }
}

fn peer_status(peer: &PeerState, spaces: &[(&Space, Progress)]) -> PeerStatus {
    let of_peer: Vec<&PeerProgress> = spaces
        .iter()
        .flat_map(|(_, progress)| &progress.peers)
        .filter(|progress| progress.peer == peer.id && peer.connected)
        .collect();
    let sum = |count: fn(&PeerProgress) -> u64| {
        (!of_peer.is_empty()).then(|| of_peer.iter().map(|progress| count(progress)).sum())
    };
    PeerStatus {
        name: peer.name.to_string(),
        id: peer.id.to_string(),
        region: peer.region.to_string(),
        connected: peer.connected,
        since: wire::system_time(peer.since),
        address: peer.remote.map_or_else(|| peer.address.to_string(), |remote| remote.to_string()),
        rtt_ms: peer.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
        clock_ahead_ms: peer.clock_ahead_millis,
        sent_bytes: peer.sent_bytes,
        received_bytes: peer.received_bytes,
        last_error: peer.last_error.clone(),
        entries_behind: sum(|progress| progress.behind),
        entries_ahead: sum(|progress| progress.ahead),
    }
}
