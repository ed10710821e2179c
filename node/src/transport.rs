//! The transport: one QUIC connection to each peer of the cluster file, and frames on it.
//!
//! It must not know what frames say. Its one invariant: what it reports as coming from a peer came
//! from the holder of that peer's pinned key, over the one connection that counts, in a space that
//! the cluster file lets both of them see.
//!
//! ```text
//! bind ─▶ dial: a task per peer, and one that accepts
//!            │ QUIC, mutual TLS (tls)
//!            ▼
//!         control: greetings, who decides, the peer's seat (peer)
//!            ▼
//!         session: Connected, a stream per space and direction (frames, lane), Disconnected
//! ```

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use quinn::{Endpoint, TokioRuntime};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use warbler_replication::greeting::MAX_FRAME_BYTES;
use warbler_store::id::{NodeId, OriginId, SpaceId};
use warbler_store::name::Name;

use crate::config::{Cluster, HostPort};
use crate::identity::Identity;

mod clock;
mod control;
mod dial;
mod frames;
mod lane;
mod peer;
mod quic;
mod reason;
mod run;
mod session;
mod tls;

#[cfg(test)]
mod tests;

use peer::Peer;
use reason::Code;

/// How long [`Transport::close`] lets connections say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Refused strangers are logged as warnings this often at most; anybody can knock.
const STRANGER_WARNINGS_APART: Duration = Duration::from_secs(10);

/// The connections to all peers. Clones are the same transport.
#[derive(Clone)]
pub struct Transport {
    shared: Arc<Shared>,
}

/// Who we are to our peers.
#[derive(Debug, Clone)]
pub struct OurSide {
    /// This run.
    pub origin: OriginId,
    /// The cluster file.
    pub cluster: Arc<Cluster>,
}

/// What happens with peers. For one peer the order is: connected, frames, disconnected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// Both greetings are agreed on; what is sent from now on goes over this connection.
    Connected {
        /// The peer.
        peer: NodeId,
        /// The protocol version that both sides agreed on.
        version: u16,
        /// What both sides may see, in order of the ids.
        spaces: Vec<SpaceId>,
    },
    /// The peer sent a frame; those of one space come in the order in which they were sent.
    Frame {
        /// The peer.
        peer: NodeId,
        /// The space, one of those of `Connected`.
        space: SpaceId,
        /// The frame, at most [`MAX_FRAME_BYTES`].
        frame: Vec<u8>,
    },
    /// The connection is over; what was sent and not acknowledged by the peer may be lost.
    Disconnected {
        /// The peer.
        peer: NodeId,
        /// Why, for people.
        reason: String,
    },
}

/// What is known of a peer.
#[derive(Debug, Clone)]
pub struct PeerState {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: Name,
    /// Its region.
    pub region: Name,
    /// Where it is dialled.
    pub address: HostPort,
    /// Whether there is a connection that both sides agreed on.
    pub connected: bool,
    /// Since when that is so or not so; at first since the transport was bound.
    pub since: SystemTime,
    /// Where it is heard from, while connected.
    pub remote: Option<SocketAddr>,
    /// The round trip as QUIC sees it, while connected.
    pub rtt: Option<Duration>,
    /// By how many milliseconds its clock is ahead of ours, as heard of late.
    pub clock_ahead_millis: Option<i64>,
    /// UDP payload sent on all its connections that were agreed on, in bytes.
    pub sent_bytes: u64,
    /// UDP payload received likewise, in bytes.
    pub received_bytes: u64,
    /// How many frames were dropped because too many waited.
    pub dropped_frames: u64,
    /// Why the last connection ended or the last dial failed.
    pub last_error: Option<String>,
    /// What an operator has to look at: two live runs of the peer's id.
    pub alarm: Option<String>,
}

/// Connections that were refused before their peer was known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Strangers {
    /// How many.
    pub refused: u64,
    /// Where the last came from, and why it was refused.
    pub last: Option<String>,
}

/// Why there is no transport.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address is in use.
    #[error("the UDP address {0} is in use by another process")]
    InUse(SocketAddr),
    /// The socket cannot be opened.
    #[error("the UDP address {address} cannot be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// TLS cannot be set up with the node's key.
    #[error("TLS cannot be set up with the node's key")]
    Tls(#[source] rustls::Error),
}

impl TransportError {
    /// What to do now, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::InUse(_) => Some(
                "end the other process, or give this node another address with `[quic] listen` or \
                 WARBLER_QUIC_LISTEN"
                    .to_owned(),
            ),
            Self::Listen { .. } => {
                Some("`[quic] listen` must be an address of this machine".to_owned())
            }
            Self::Tls(_) => None,
        }
    }
}

type Events = Box<dyn Fn(PeerEvent) + Send + Sync>;

/// What all tasks share.
struct Shared {
    id: NodeId,
    /// The run that greets, or none while there is none.
    run: watch::Sender<Option<OriginId>>,
    cluster_version: u64,
    max_frame_bytes: u32,
    local: SocketAddr,
    endpoint: Endpoint,
    client: quinn::ClientConfig,
    peers: BTreeMap<NodeId, Arc<Peer>>,
    events: Events,
    handshakes: Arc<Semaphore>,
    /// Why the transport is being closed, once it is.
    closing: watch::Sender<Option<String>>,
    /// None once the transport is closed.
    tasks: Mutex<Option<JoinSet<()>>>,
    strangers: Mutex<(Strangers, Option<Instant>)>,
}

impl Transport {
    /// Listens on `listen` as the node of `identity`, and connects to every other node of the
    /// cluster file. `events` is called from many tasks, for one peer in order; it may block for a
    /// moment, and while it does the peer is held back by flow control.
    ///
    /// # Errors
    /// The address is in use or not one of this machine, or the key is unfit.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(
        listen: SocketAddr,
        identity: &Identity,
        us: OurSide,
        events: impl Fn(PeerEvent) + Send + Sync + 'static,
    ) -> Result<Self, TransportError> {
        let OurSide { origin, cluster } = us;
        let id = identity.node_id();
        let pinned = cluster.nodes.iter().map(|node| node.id).collect();
        let (client, server) = tls::configure(identity, pinned).map_err(TransportError::Tls)?;
        let transport_config = quic::transport_config(cluster.spaces.len());
        let mut client = quinn::ClientConfig::new(Arc::new(client));
        client.transport_config(Arc::clone(&transport_config));
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(server));
        server.transport_config(transport_config);

        let failed = |source: std::io::Error| {
            if source.kind() == std::io::ErrorKind::AddrInUse {
                TransportError::InUse(listen)
            } else {
                TransportError::Listen { address: listen, source }
            }
        };
        let socket = quic::socket(listen).map_err(failed)?;
        let config = quic::endpoint_config(identity);
        let endpoint =
            Endpoint::new(config, Some(server), socket, Arc::new(TokioRuntime)).map_err(failed)?;
        let local = endpoint.local_addr().map_err(failed)?;

        let others = cluster.nodes.iter().filter(|node| node.id != id);
        let peers = others.map(|node| (node.id, Arc::new(Peer::new(id, node, &cluster))));
        let shared = Arc::new(Shared {
            id,
            run: watch::Sender::new(Some(origin)),
            cluster_version: cluster.version,
            max_frame_bytes: MAX_FRAME_BYTES,
            local,
            endpoint,
            client,
            peers: peers.collect(),
            events: Box::new(events),
            handshakes: Arc::new(Semaphore::new(dial::MAX_HANDSHAKES)),
            closing: watch::Sender::new(None),
            tasks: Mutex::new(Some(JoinSet::new())),
            strangers: Mutex::default(),
        });
        shared.spawn_until_closing(dial::accept(Arc::clone(&shared)));
        for peer in shared.peers.values() {
            shared.spawn_until_closing(dial::keep_dialling(Arc::clone(&shared), Arc::clone(peer)));
        }
        Ok(Self { shared })
    }

    /// Queues a frame for a peer; never blocks. It is dropped if the peer is not connected, does
    /// not share the space, or has too much waiting; who pulls repairs that.
    pub fn send(&self, peer: NodeId, space: SpaceId, frame: Vec<u8>) {
        let lane = self.shared.peers.get(&peer).and_then(|peer| peer.lane(space));
        match lane {
            Some(lane) => drop(lane.offer(frame)),
            None => {
                tracing::error!(%peer, %space, "a frame for a peer that does not share the space")
            }
        }
    }

    /// Ends the connection to a peer that broke the protocol; `reason` is told to it. It is dialled
    /// again later, with growing pauses.
    pub fn disconnect(&self, peer: NodeId, reason: &str) {
        if let Some(peer) = self.shared.peers.get(&peer) {
            peer.end_sitting(Code::Violation, reason);
        }
    }

    /// What is known of all peers, in the order of their ids.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerState> {
        self.shared.peers.values().map(|peer| peer.state()).collect()
    }

    /// The connections that were refused before their peer was known.
    #[must_use]
    pub fn strangers(&self) -> Strangers {
        self.shared.strangers.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Where the node listens; tells the port if it was asked to choose one.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local
    }

    /// Ends all connections, telling the peers `reason`, and everything else. Takes at most two
    /// seconds; all events have been told when it returns, unless their taker is stuck.
    pub async fn close(&self, reason: &str) {
        self.shared.closing.send_replace(Some(reason.to_owned()));
        let tasks = self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut tasks) = tasks {
            let ended = async { while tasks.join_next().await.is_some() {} };
            if tokio::time::timeout(GOODBYE, ended).await.is_err() {
                tracing::warn!("a session did not end in time: whoever takes its events is stuck");
            }
        }
        let endpoint = &self.shared.endpoint;
        endpoint.close(quinn::VarInt::from_u32(Code::GoingAway as u32), reason.as_bytes());
        // Goodbyes that are lost are sent again, for as long as it takes a peer to answer.
        let _ = tokio::time::timeout(GOODBYE, endpoint.wait_idle()).await;
    }
}

impl Shared {
    /// Runs a task that [`Transport::close`] waits for.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = &mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner) {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task);
        }
    }

    /// Runs a task that is dropped when the transport is closed.
    fn spawn_until_closing(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut closing = self.closing.subscribe();
        self.spawn(async move {
            tokio::select! {
                () = task => {}
                _ = closing.wait_for(Option::is_some) => {}
            }
        });
    }

    /// What `task` gives, unless the transport is closed before.
    async fn until_closing<T>(&self, task: impl Future<Output = T>) -> Option<T> {
        let mut closing = self.closing.subscribe();
        tokio::select! {
            given = task => Some(given),
            _ = closing.wait_for(Option::is_some) => None,
        }
    }

    /// Notes a connection that was refused before its peer was known.
    fn note_stranger(&self, address: SocketAddr, reason: &str) {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, warned) = &mut *strangers;
        known.refused += 1;
        known.last = Some(format!("{address}: {reason}"));
        if warned.is_none_or(|warned| warned.elapsed() >= STRANGER_WARNINGS_APART) {
            *warned = Some(Instant::now());
            tracing::warn!(%address, refused = known.refused, "refused a connection: {reason}");
        }
    }
}
