//! A node: its store, a replica thread for each of its spaces, the transport and the API.
//!
//! Nothing is global, so a test starts three in one process. Invariant: [`Node::shutdown`] ends
//! every thread and socket it started, after all that was taken in is written.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use warbler_replication::replicator::{Replicator, Roster};
use warbler_store::engine::{EngineError, RocksEngine, SharedEngine};
use warbler_store::entropy::Entropy;
use warbler_store::id::{Millis, NodeId, OriginId, SpaceId};
use warbler_store::name::Name;
use warbler_store::open::{OpenError, claim};
use warbler_store::reader::Reader;
use warbler_store::replica::{Replica, ReplicaError, Writer};

use crate::caretaker::Caretaker;
use crate::committer::Committer;
use crate::config::{Cluster, ClusterNode, ClusterSpace, Config, ConfigError, OwnEntryError};
use crate::data_directory::DataDirectory;
use crate::http::{self, HttpError, HttpServer};
use crate::retention;
use crate::space::{Forgetting, MAILBOX, Policy, Space, SpaceThread, ThreadInput, Wiring};
use crate::transport::{OurSide, PeerEvent, Transport, TransportError};

/// Memory for open documents, a space: 64 MiB.
const DOCUMENT_CACHE_BYTES: usize = 64 << 20;

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cluster file cannot be used.
    #[error(transparent)]
    Cluster(#[from] ConfigError),
    /// The node does not find itself in the cluster file.
    #[error(transparent)]
    OwnEntry(#[from] OwnEntryError),
    /// No space of the cluster file has this node's region.
    #[error("no space of {file} has this node's region `{region}`")]
    NoSpace {
        /// The cluster file.
        file: String,
        /// The region.
        region: Name,
    },
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Store(#[from] OpenError),
    /// The engine cannot be opened.
    #[error("the store cannot be opened")]
    Engine(#[from] EngineError),
    /// A space cannot be read back.
    #[error("space `{space}` cannot be opened")]
    Replica {
        /// Which.
        space: Name,
        /// Why.
        source: ReplicaError,
    },
    /// The transport cannot listen.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The API cannot listen.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    Random(getrandom::Error),
    /// The system gives no thread.
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
}

impl StartError {
    /// What to do now, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::OwnEntry(error) => Some(error.hint()),
            Self::NoSpace { .. } => {
                Some("add the region to a space's `regions`, on all nodes".to_owned())
            }
            Self::Transport(error) => error.hint(),
            Self::Http(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Engine(error) | Self::Replica { source: ReplicaError::Engine(error), .. } => {
                error.hint().map(str::to_owned)
            }
            Self::Replica { source: ReplicaError::Damaged(why), .. } => {
                EngineError::Damaged(why.clone()).hint().map(str::to_owned)
            }
            Self::Replica { source: ReplicaError::Space { .. }, .. }
            | Self::Cluster(_)
            | Self::Random(_)
            | Self::Thread(_) => None,
        }
    }
}

/// What the API shows of the node itself.
#[derive(Debug, Clone)]
pub struct About {
    /// Its entry in the cluster file.
    pub entry: ClusterNode,
    /// This run.
    pub origin: OriginId,
    /// When the run started.
    pub started: Millis,
}

/// What the API works on.
#[derive(Clone)]
pub struct Services {
    /// The node.
    pub about: About,
    /// The cluster file.
    pub cluster: Arc<Cluster>,
    /// The spaces, by name.
    pub spaces: BTreeMap<Name, Space>,
    /// The name of the first space of the cluster file: the default one.
    pub default_space: Name,
    /// The connections to peers.
    pub transport: Transport,
    /// The engine, for its size on disk.
    pub engine: SharedEngine,
}

/// A running node.
pub struct Node {
    services: Services,
    http: HttpServer,
    threads: Vec<JoinHandle<()>>,
    retention: tokio::task::JoinHandle<()>,
    failed: watch::Receiver<Option<String>>,
    /// Held until the node is gone.
    _directory: DataDirectory,
}

impl Node {
    /// Opens the store, connects to peers and begins to serve.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub async fn bind(directory: DataDirectory) -> Result<Self, StartError> {
        let config = &directory.config;
        let cluster = Arc::new(Cluster::load(&config.cluster)?);
        let entry = cluster.own_entry(&config.name, directory.identity.node_id())?.clone();
        let spaces: Vec<ClusterSpace> = cluster.spaces_of(entry.id).into_iter().cloned().collect();
        let Some(default_space) = spaces.first().map(|space| space.name.clone()) else {
            let file = config.cluster.display().to_string();
            return Err(StartError::NoSpace { file, region: entry.region });
        };
        let engine: SharedEngine = Arc::new(RocksEngine::open(&directory.store_path())?);
        claim(&*engine, entry.id)?;
        let about = About { origin: OriginId(random()?), started: wall(), entry };

        // All that can fail for what is on disk comes before the first thread.
        let opened = spaces.iter().map(|space| Ok((space, open_replica(&engine, space, &about)?)));
        let opened: Vec<_> = opened.collect::<Result<_, StartError>>()?;

        let mut threads = Vec::new();
        let (committer, thread) =
            Committer::start(Arc::clone(&engine)).map_err(StartError::Thread)?;
        threads.push(thread);
        let (caretaker, thread) =
            Caretaker::start(Arc::clone(&engine)).map_err(StartError::Thread)?;
        threads.push(thread);
        // The spaces send through the transport and the transport delivers to the spaces: it is
        // set once both are there, before any peer can be connected.
        let transport: Arc<OnceLock<Transport>> = Arc::new(OnceLock::new());
        let (failures, failed) = mpsc::unbounded_channel();
        let mut running = BTreeMap::new();
        for (space, replica) in opened {
            let starting = Starting {
                space,
                cluster: &cluster,
                engine: &engine,
                committer: &committer,
                transport: &transport,
                failures: &failures,
                upkeep: (upkeep_policy(config), &caretaker),
            };
            let (space, thread) = starting.start(replica)?;
            threads.push(thread);
            running.insert(space.name().clone(), space);
        }
        drop((committer, caretaker));

        let us = OurSide { origin: about.origin, cluster: Arc::clone(&cluster) };
        let by_id: BTreeMap<SpaceId, Space> =
            running.values().map(|space| (space.id(), space.clone())).collect();
        let bound = Transport::bind(config.quic.listen, &directory.identity, us, move |event| {
            route(&by_id, event);
        });
        let bound = match bound {
            Ok(bound) => transport.get_or_init(|| bound).clone(),
            Err(error) => {
                stop(running.values(), threads).await;
                return Err(error.into());
            }
        };
        let services =
            Services { about, cluster, spaces: running, default_space, transport: bound, engine };
        let http = match http::serve(config.http.listen, services.clone()).await {
            Ok(http) => http,
            Err(error) => {
                services.transport.close("the node cannot start").await;
                stop(services.spaces.values(), threads).await;
                return Err(error.into());
            }
        };
        let failed = first_of(failed);
        let retention = tokio::spawn(retention::run(services.clone()));
        Ok(Self { services, http, threads, retention, failed, _directory: directory })
    }

    /// Where clients are heard.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http.local_addr()
    }

    /// Where peers are heard.
    #[must_use]
    pub fn quic_addr(&self) -> SocketAddr {
        self.services.transport.local_addr()
    }

    /// The spaces, transport and engine.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Resolves, with the reason, when the node cannot go on: a write failed, and its outcome is
    /// unknown. End it and start it again: it comes back under a new origin.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Ends the node: no new requests, then a goodbye to peers, then what was taken in is
    /// written.
    pub async fn shutdown(self) {
        self.retention.abort();
        self.http.shutdown().await;
        self.services.transport.close("the node shuts down").await;
        stop(self.services.spaces.values(), self.threads).await;
    }
}

/// What a space's thread is started with.
struct Starting<'a> {
    space: &'a ClusterSpace,
    cluster: &'a Cluster,
    engine: &'a SharedEngine,
    committer: &'a Committer,
    transport: &'a Arc<OnceLock<Transport>>,
    failures: &'a mpsc::UnboundedSender<String>,
    upkeep: (Policy, &'a Caretaker),
}

impl Starting<'_> {
    fn start(&self, replica: Replica) -> Result<(Space, JoinHandle<()>), StartError> {
        let id = self.space.id;
        let replicator = Replicator::new(replica, roster(self.cluster, self.space));
        let (inputs, mailbox) = sync_channel(MAILBOX);
        let (published, forgetting) = (Space::follower_channel(), Forgetting::default());
        let (progress, shown) = watch::channel(SpaceThread::first_progress(&replicator));
        let space = Space::new(
            (self.space.name.clone(), self.space.regions.clone()),
            Reader::new(Arc::clone(self.engine), id),
            inputs.clone(),
            (published.clone(), forgetting.clone()),
            shown,
        );
        let (sender, closer) = (Arc::clone(self.transport), Arc::clone(self.transport));
        let wiring = Wiring {
            space: self.space.name.clone(),
            committer: self.committer.clone(),
            inputs,
            published,
            forgetting,
            progress,
            send: Box::new(move |peer, frame| {
                if let Some(transport) = sender.get() {
                    transport.send(peer, id, frame);
                }
            }),
            disconnect: Box::new(move |peer, reason| {
                if let Some(transport) = closer.get() {
                    transport.disconnect(peer, reason);
                }
            }),
            failed: self.failures.clone(),
            upkeep: (self.upkeep.0, self.upkeep.1.clone()),
        };
        let thread = SpaceThread::start(replicator, wiring, mailbox).map_err(StartError::Thread)?;
        Ok((space, thread))
    }
}

fn open_replica(
    engine: &SharedEngine,
    space: &ClusterSpace,
    about: &About,
) -> Result<Replica, StartError> {
    let writer = Writer {
        node: about.entry.id,
        region: about.entry.region.clone(),
        origin: about.origin,
        started: about.started,
    };
    let entropy = Entropy::from_seed(random()?);
    Replica::open(Arc::clone(engine), &space.name, writer, entropy, DOCUMENT_CACHE_BYTES)
        .map_err(|source| StartError::Replica { space: space.name.clone(), source })
}

fn upkeep_policy(config: &Config) -> Policy {
    let millis = |time: Duration| time.as_millis() as Millis;
    Policy {
        erase_within: millis(config.erasure.within),
        keep_log: config.log.trim.then(|| millis(config.log.keep)),
    }
}

fn roster(cluster: &Cluster, space: &ClusterSpace) -> Roster {
    let inside = cluster.nodes.iter().filter(|node| space.regions.contains(&node.region));
    Roster {
        regions: space.regions.clone(),
        nodes: inside.map(|node| (node.id, node.region.clone())).collect::<BTreeMap<NodeId, _>>(),
    }
}

/// Hands what the transport reports to the spaces that it concerns.
fn route(spaces: &BTreeMap<SpaceId, Space>, event: PeerEvent) {
    match event {
        PeerEvent::Connected { peer, spaces: shared } => {
            for space in shared.iter().filter_map(|id| spaces.get(id)) {
                space.deliver(ThreadInput::Connected(peer));
            }
        }
        PeerEvent::Frame { peer, space, frame } => {
            if let Some(space) = spaces.get(&space) {
                space.deliver(ThreadInput::Frame(peer, frame));
            }
        }
        PeerEvent::Disconnected { peer, reason } => {
            tracing::info!(peer = %peer.short(), reason, "disconnected");
            spaces.values().for_each(|space| space.deliver(ThreadInput::Disconnected(peer)));
        }
    }
}

/// Ends the replica threads, then the committer, which ends with its last handle.
async fn stop(spaces: impl Iterator<Item = &Space>, threads: Vec<JoinHandle<()>>) {
    spaces.for_each(|space| space.deliver(ThreadInput::Stop));
    let joined = tokio::task::spawn_blocking(move || {
        threads.into_iter().filter_map(|thread| thread.join().err()).count()
    });
    match joined.await {
        Ok(0) => {}
        Ok(panicked) => tracing::error!(panicked, "threads panicked"),
        Err(error) => tracing::error!(%error, "the threads could not be waited for"),
    }
}

/// The first failure reported, for all who ask.
fn first_of(mut failures: mpsc::UnboundedReceiver<String>) -> watch::Receiver<Option<String>> {
    let (report, failed) = watch::channel(None);
    tokio::spawn(async move {
        if let Some(reason) = failures.recv().await {
            report.send_replace(Some(reason));
            report.closed().await;
        }
    });
    failed
}

fn wall() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as Millis
}

fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(StartError::Random)?;
    Ok(bytes)
}
