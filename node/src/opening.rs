//! Opening the store for a run, at the start of the process and after a failed write alike.
//!
//! It must not know when. Invariant: what is opened here writes under an origin that was never
//! used before, and nothing is written before the store is known to be this node's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use warbler_replication::replicator::{Replicator, Roster};
use warbler_store::engine::{EngineError, SharedEngine};
use warbler_store::entropy::Entropy;
use warbler_store::id::{Millis, NodeId, OriginId};
use warbler_store::open::{OpenError, claim};
use warbler_store::replica::{Replica, Writer};

use crate::config::{Cluster, ClusterNode, ClusterSpace};
use crate::node::StartError;
use crate::reserve::Reserve;
use crate::standing::Run;

/// Opens the engine; called again after each failed write, when the engine before is closed.
pub type Opener = Arc<dyn Fn() -> Result<SharedEngine, EngineError> + Send + Sync>;

/// See the module's comment.
pub(crate) struct Opening {
    pub(crate) open: Opener,
    pub(crate) node: ClusterNode,
    pub(crate) cluster: Arc<Cluster>,
    /// Bytes of memory for conversations and documents, a space.
    pub(crate) document_bytes: usize,
}

impl Opening {
    /// Opens the engine, and makes sure that it is this node's. If there is no room for opening
    /// it, the reserve is given up for it.
    pub(crate) fn engine(&self, reserve: &Reserve) -> Result<SharedEngine, StartError> {
        match self.try_engine() {
            Err(error) if error.is_full() && give_up(reserve) => self.try_engine(),
            outcome => outcome,
        }
    }

    fn try_engine(&self) -> Result<SharedEngine, StartError> {
        let engine = (self.open)()?;
        claim(&*engine, self.node.id)?;
        Ok(engine)
    }

    /// A new run.
    pub(crate) fn run(&self, number: u64) -> Result<Run, StartError> {
        Ok(Run { number, origin: OriginId(random()?), started: wall() })
    }

    /// Reads a space back from the engine.
    pub(crate) fn replicator(
        &self,
        engine: &SharedEngine,
        space: &ClusterSpace,
        run: Run,
    ) -> Result<Replicator, StartError> {
        let writer = Writer {
            node: self.node.id,
            region: self.node.region.clone(),
            origin: run.origin,
            started: run.started,
        };
        let entropy = Entropy::from_seed(random()?);
        let engine = Arc::clone(engine);
        let replica = Replica::open(engine, &space.name, writer, entropy, self.document_bytes)
            .map_err(|source| StartError::Replica { space: space.name.clone(), source })?;
        Ok(Replicator::new(replica, self.roster(space)))
    }

    fn roster(&self, space: &ClusterSpace) -> Roster {
        let inside = self.cluster.nodes.iter().filter(|node| space.regions.contains(&node.region));
        Roster {
            regions: space.regions.clone(),
            nodes: inside
                .map(|node| (node.id, node.region.clone()))
                .collect::<BTreeMap<NodeId, _>>(),
        }
    }
}

/// Gives the reserve up. False if there is none to give up.
pub(crate) fn give_up(reserve: &Reserve) -> bool {
    if reserve.bytes() == 0 || !reserve.is_kept() {
        return false;
    }
    tracing::warn!(bytes = reserve.bytes(), "the device is full: the reserve is given up");
    match reserve.release() {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(%error, "the reserve cannot be given up");
            false
        }
    }
}

impl StartError {
    /// Whether it is for want of room.
    pub(crate) fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Engine(EngineError::Full(_))
                | Self::Store(OpenError::Engine(EngineError::Full(_)))
        )
    }

    /// What failed and why, on one line.
    pub(crate) fn whole_text(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        text
    }
}

fn wall() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as Millis
}

fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(StartError::Random)?;
    Ok(bytes)
}
