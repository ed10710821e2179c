//! How connections come to be: dialling each peer until it is there, and taking those who dial us.
//!
//! It must not know what is said on a connection. Its one invariant: as long as the node runs,
//! every peer without a connection is dialled again after a bounded pause.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connecting, Incoming};
use tokio::time::timeout;
use warbler_store::id::NodeId;

use super::control::{Seated, greet};
use super::peer::Peer;
use super::reason::{Code, Refusal, describe};
use super::{Shared, session};

/// How long a dial, from the name to the end of the greeting, may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection that we accept may take to the end of its greeting.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// How many accepted connections may be at their handshake at once. Above it none is taken.
pub(super) const MAX_HANDSHAKES: usize = 64;
/// How many may be before a dialler has to prove its address first, which keeps out those who
/// fill the places above under false ones.
const HANDSHAKES_ON_TRUST: usize = 16;

/// Dials the peer whenever there is no connection to it.
pub(super) async fn keep_dialling(shared: Arc<Shared>, peer: Arc<Peer>) {
    loop {
        peer.vacant().await;
        shared.runs().await;
        tokio::time::sleep(peer.next_pause(chance())).await;
        if peer.is_occupied() {
            continue;
        }
        match timeout(DIAL_TIMEOUT, dial(&shared, &peer)).await {
            Ok(Ok(seated)) => shared.spawn(session::run(Arc::clone(&shared), seated)),
            Ok(Err(refusal)) => {
                if let Some(text) = refusal.text() {
                    peer.note_failure(text);
                }
            }
            Err(_) => {
                let seconds = DIAL_TIMEOUT.as_secs();
                peer.note_failure(&format!("no answer from {} within {seconds} s", peer.address));
            }
        }
    }
}

/// A random byte; without one the pauses merely have no jitter.
fn chance() -> u8 {
    let mut byte = [255];
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

/// Dials each address of the peer in turn; names are looked up every time, since they move.
async fn dial(shared: &Shared, peer: &Peer) -> Result<Seated, Refusal> {
    let host = (peer.address.host(), peer.address.port());
    let addresses = tokio::net::lookup_host(host).await.map_err(|error| {
        Refusal::Lost(format!("the address {} cannot be resolved: {error}", peer.address))
    })?;
    let reachable = |address: &SocketAddr| address.is_ipv4() || shared.local.is_ipv6();
    let mut last =
        Refusal::Lost(format!("{} has no address that {} can reach", peer.address, shared.local));
    for address in addresses.filter(reachable) {
        let connecting = shared
            .endpoint
            .connect_with(shared.client.clone(), address, "warbler")
            .map_err(|error| Refusal::Lost(error.to_string()))?;
        match open(shared, connecting, Some(peer.id)).await {
            Ok(seated) => return Ok(seated),
            Err(Refusal::GaveWay) => return Err(Refusal::GaveWay),
            Err(refusal @ (Refusal::Ours(..) | Refusal::Lost(_))) => last = refusal,
        }
    }
    Err(last)
}

/// Completes the handshake and the greeting of one connection.
async fn open(
    shared: &Shared,
    connecting: Connecting,
    dialled: Option<NodeId>,
) -> Result<Seated, Refusal> {
    let connection = connecting.await.map_err(|error| Refusal::of_end(&error))?;
    let greeted = greet(shared, &connection, dialled).await;
    if let Err(refusal) = &greeted {
        refusal.tell(&connection);
    }
    greeted
}

/// Takes connections until the endpoint is closed.
pub(super) async fn accept(shared: Arc<Shared>) {
    while let Some(incoming) = shared.endpoint.accept().await {
        let free = shared.handshakes.available_permits();
        if MAX_HANDSHAKES - free >= HANDSHAKES_ON_TRUST && incoming.may_retry() {
            // The error only gives the connection back.
            let _ = incoming.retry();
            continue;
        }
        let Ok(permit) = Arc::clone(&shared.handshakes).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let accepting = Arc::clone(&shared);
        shared.spawn(async move {
            let seated = accepting.until_closing(welcome(&accepting, incoming)).await;
            drop(permit);
            if let Some(seated) = seated.flatten() {
                session::run(accepting, seated).await;
            }
        });
    }
}

/// The handshake and the greeting of one connection that was dialled by somebody.
async fn welcome(shared: &Shared, incoming: Incoming) -> Option<Seated> {
    let address = incoming.remote_address();
    let connecting =
        incoming.accept().map_err(|error| shared.note_stranger(address, &describe(&error))).ok()?;
    let connection = match timeout(GREETING_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            shared.note_stranger(address, &describe(&error));
            return None;
        }
        Err(_) => return None,
    };
    let peer = super::tls::proven_id(&connection).and_then(|id| shared.peers.get(&id));
    let late = || {
        let seconds = GREETING_TIMEOUT.as_secs();
        Refusal::Ours(Code::Refused, format!("no greeting within {seconds} s"))
    };
    match timeout(GREETING_TIMEOUT, greet(shared, &connection, None))
        .await
        .unwrap_or_else(|_| Err(late()))
    {
        Ok(seated) => Some(seated),
        Err(refusal) => {
            refusal.tell(&connection);
            match (peer, refusal.text()) {
                (Some(peer), Some(text)) => peer.note_failure(text),
                (None, Some(text)) => shared.note_stranger(address, text),
                (_, None) => {}
            }
            None
        }
    }
}
