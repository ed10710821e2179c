//! A node: its store, a replica thread for each of its spaces, the transport and the API.
//!
//! Nothing is global, so a test starts three in one process. Invariant: [`Node::shutdown`] ends
//! every thread and socket it started, after all that was taken in is written.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use warbler_replication::replicator::Replicator;
use warbler_store::engine::{EngineError, EngineSlot, RocksEngine, SharedEngine};
use warbler_store::id::{Millis, SpaceId};
use warbler_store::name::Name;
use warbler_store::open::OpenError;
use warbler_store::reader::Reader;
use warbler_store::replica::ReplicaError;

use crate::caretaker::Caretaker;
use crate::committer::Committer;
use crate::config::{Cluster, ClusterNode, ClusterSpace, Config, ConfigError, OwnEntryError};
use crate::data_directory::DataDirectory;
use crate::http::{self, HttpError, HttpServer};
use crate::keeper::{Event, Keeper};
use crate::opening::Opening;
use crate::reserve::Reserve;
use crate::retention;
use crate::scrub::{Scrub, Scrubbing};
use crate::space::{Channel, Forgetting, MAILBOX, Policy, Space, SpaceThread, ThreadInput, Wiring};
use crate::standing::{Run, Standing, Standings};
use crate::transport::{OurSide, PeerEvent, Transport, TransportError};
use crate::watchdog::{self, Beat, Watchdog};

pub use crate::opening::Opener;

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
            Self::Replica {
                source: ReplicaError::Unfinished(_) | ReplicaError::Space { .. },
                ..
            }
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
    /// The engine, for its size on disk. Nobody may keep what it takes out of there.
    pub engine: EngineSlot,
    /// What reads the store back.
    pub scrub: Scrub,
    /// Which run it is, and whether it takes writes.
    pub standing: watch::Receiver<Standing>,
}

/// A running node.
pub struct Node {
    services: Services,
    http: HttpServer,
    threads: Vec<JoinHandle<()>>,
    keeper: (Sender<Event>, JoinHandle<()>),
    watchdog: tokio::task::JoinHandle<()>,
    retention: tokio::task::JoinHandle<()>,
    scrubbing: Scrubbing,
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
        let store = directory.store_path();
        let memory = directory.config.memory.engine();
        let open = move || Ok(Arc::new(RocksEngine::open_within(&store, memory)?) as SharedEngine);
        Self::bind_over(directory, Arc::new(open)).await
    }

    /// Like [`Node::bind`], over whatever engine `open` opens.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub async fn bind_over(directory: DataDirectory, open: Opener) -> Result<Self, StartError> {
        let config = &directory.config;
        let cluster = Arc::new(Cluster::load(&config.cluster)?);
        let entry = cluster.own_entry(&config.name, directory.identity.node_id())?.clone();
        let spaces: Vec<ClusterSpace> = cluster.spaces_of(entry.id).into_iter().cloned().collect();
        let Some(default_space) = spaces.first().map(|space| space.name.clone()) else {
            let file = config.cluster.display().to_string();
            return Err(StartError::NoSpace { file, region: entry.region });
        };
        let opening = Opening {
            open,
            node: entry.clone(),
            cluster: Arc::clone(&cluster),
            document_bytes: usize::try_from(config.memory.documents.0).unwrap_or(usize::MAX),
        };
        let reserve = Reserve::new(directory.reserve_path(), config.store.reserve.0);
        let engine = opening.engine(&reserve)?;
        let run = opening.run(1)?;

        // All that can fail for what is on disk comes before the first thread.
        let opened = spaces.iter().map(|space| opening.replicator(&engine, space, run));
        let opened: Vec<_> = opened.collect::<Result<_, StartError>>()?;
        let (slot, standings) = (EngineSlot::from(engine), Standings::of(run));

        let mut beats = vec![Beat::new("committer".to_owned()), Beat::new("keeper".to_owned())];
        let mut threads = Vec::new();
        let (committer, thread) =
            Committer::start(Arc::clone(&beats[0])).map_err(StartError::Thread)?;
        threads.push(thread);
        let (caretaker, thread) = Caretaker::start(slot.clone()).map_err(StartError::Thread)?;
        threads.push(thread);
        let (scrub, scrubbing) = Scrub::start(slot.clone()).map_err(StartError::Thread)?;
        // The spaces send through the transport and the transport delivers to the spaces: it is
        // set once both are there, before any peer can be connected.
        let transport: Arc<OnceLock<Transport>> = Arc::new(OnceLock::new());
        let (keeper, events) = channel();
        let mut running = BTreeMap::new();
        for (space, replicator) in spaces.iter().zip(opened) {
            let beat = Beat::new(format!("space-{}", space.name));
            beats.push(Arc::clone(&beat));
            let starting = Starting {
                space,
                slot: &slot,
                committer: &committer,
                transport: &transport,
                keeper: &keeper,
                standings: &standings,
                beat,
                upkeep: (upkeep_policy(config), &caretaker),
            };
            let (space, thread) = starting.start(run, replicator)?;
            threads.push(thread);
            running.insert(space.name().clone(), space);
        }
        // Both threads end with their last handles: those that the spaces hold.
        drop((caretaker, committer));
        let kept = spaces.into_iter().filter_map(|config| {
            let space = running.get(&config.name)?.clone();
            Some((config, space))
        });
        let keeping = Keeper {
            slot: slot.clone(),
            opening,
            reserve,
            spaces: kept.collect(),
            transport: Arc::clone(&transport),
            standings: standings.clone(),
            events,
            beat: Arc::clone(&beats[1]),
        };

        let us = OurSide { origin: run.origin, cluster: Arc::clone(&cluster) };
        let by_id: BTreeMap<SpaceId, Space> =
            running.values().map(|space| (space.id(), space.clone())).collect();
        let bound = Transport::bind(config.quic.listen, &directory.identity, us, move |event| {
            route(&by_id, event);
        });
        let bound = match bound {
            Ok(bound) => transport.get_or_init(|| bound).clone(),
            Err(error) => {
                drop(keeping);
                end(scrubbing).await;
                stop(running.values(), threads).await;
                return Err(error.into());
            }
        };
        let services = Services {
            about: About { entry },
            cluster,
            spaces: running,
            default_space,
            transport: bound,
            engine: slot,
            scrub,
            standing: standings.watch(),
        };
        let http = match http::serve(config.http.listen, services.clone()).await {
            Ok(http) => http,
            Err(error) => {
                services.transport.close("the node cannot start").await;
                drop(keeping);
                end(scrubbing).await;
                stop(services.spaces.values(), threads).await;
                return Err(error.into());
            }
        };
        let keeper = (keeper, keeping.start().map_err(StartError::Thread)?);
        let (watchdog, failed) = watch_over(Watchdog::over(&beats, watchdog::PATIENCE), standings);
        let retention = tokio::spawn(retention::run(services.clone()));
        Ok(Self {
            services,
            http,
            threads,
            retention,
            scrubbing,
            keeper,
            watchdog,
            failed,
            _directory: directory,
        })
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

    /// Resolves, with the reason, when the node cannot go on: a thread of it has ended. A failed
    /// write is no such reason: the store is opened again inside the process.
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
        self.watchdog.abort();
        self.http.shutdown().await;
        end(self.scrubbing).await;
        // First of all that write: it would open again what is closed here.
        let (keeper, thread) = self.keeper;
        let _ = keeper.send(Event::Stop);
        join(vec![thread]).await;
        self.services.transport.close("the node shuts down").await;
        stop(self.services.spaces.values(), self.threads).await;
    }
}

/// What a space's thread is started with.
struct Starting<'a> {
    space: &'a ClusterSpace,
    slot: &'a EngineSlot,
    committer: &'a Committer,
    transport: &'a Arc<OnceLock<Transport>>,
    keeper: &'a Sender<Event>,
    standings: &'a Standings,
    beat: Arc<Beat>,
    upkeep: (Policy, &'a Caretaker),
}

impl Starting<'_> {
    fn start(
        self,
        run: Run,
        replicator: Replicator,
    ) -> Result<(Space, JoinHandle<()>), StartError> {
        let id = self.space.id;
        let (inputs, mailbox) = sync_channel(MAILBOX);
        let (published, forgetting) = (Channel::new(), Forgetting::default());
        let (progress, shown) = watch::channel(SpaceThread::first_progress(&replicator));
        let space = Space::new(
            (self.space.name.clone(), self.space.regions.clone()),
            Reader::new(self.slot.clone(), id),
            inputs.clone(),
            (published.clone(), forgetting.clone()),
            shown,
            self.standings.watch(),
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
            keeper: self.keeper.clone(),
            beat: self.beat,
            upkeep: (self.upkeep.0, self.upkeep.1.clone()),
        };
        let thread = SpaceThread::start((run.number, replicator), wiring, mailbox)
            .map_err(StartError::Thread)?;
        Ok((space, thread))
    }
}

fn upkeep_policy(config: &Config) -> Policy {
    let millis = |time: Duration| time.as_millis() as Millis;
    Policy {
        erase_within: millis(config.erasure.within),
        keep_log: config.log.trim.then(|| millis(config.log.keep)),
    }
}

/// Hands what the transport reports to the spaces that it concerns.
fn route(spaces: &BTreeMap<SpaceId, Space>, event: PeerEvent) {
    match event {
        PeerEvent::Connected { peer, version, spaces: shared } => {
            for space in shared.iter().filter_map(|id| spaces.get(id)) {
                space.deliver(ThreadInput::Connected(peer, version));
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
    join(threads).await;
}

/// Ends the scrub. Its thread holds the store, which must be free when the node is gone.
async fn end(scrubbing: Scrubbing) {
    let Scrubbing { stop, thread } = scrubbing;
    drop(stop);
    join(vec![thread]).await;
}

async fn join(threads: Vec<JoinHandle<()>>) {
    let joined = tokio::task::spawn_blocking(move || {
        threads.into_iter().filter_map(|thread| thread.join().err()).count()
    });
    match joined.await {
        Ok(0) => {}
        Ok(panicked) => tracing::error!(panicked, "threads panicked"),
        Err(error) => tracing::error!(%error, "the threads could not be waited for"),
    }
}

/// Looks at the threads as long as the node runs. The receiver gets a reason when one has ended.
fn watch_over(
    mut watchdog: Watchdog,
    standings: Standings,
) -> (tokio::task::JoinHandle<()>, watch::Receiver<Option<String>>) {
    let (report, failed) = watch::channel(None);
    let watching = tokio::spawn(async move {
        let mut looks = tokio::time::interval(watchdog::LOOK_EVERY);
        loop {
            looks.tick().await;
            watchdog.look(Instant::now(), &standings);
            if let Some(name) = watchdog.ended() {
                report.send_replace(Some(format!("the thread `{name}` has ended")));
                report.closed().await;
            }
        }
    });
    (watching, failed)
}
