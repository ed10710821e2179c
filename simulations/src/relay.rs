//! A UDP relay that emulates distance between real processes on one machine.
//!
//! ```text
//!   node a ──▶ relay's address for b ──▶ path a to b ──▶ a socket of a's own ──▶ node b
//!          ◀──                       ◀── path b to a ◀──
//! ```
//!
//! The relay has one address per node, which all others dial: so a cluster file that names these addresses is the same
//! on all nodes. Which path a packet takes is told by who sent it: a QUIC node dials from the address it listens at.
//! Packets from other addresses come from `elsewhere`, and have paths of their own.
//!
//! It must not know what the packets mean: everything is carried, delayed, lost and counted alike. Invariant: what is
//! counted for a path is exactly what its sender put on the wire, in UDP payload bytes. This is real time on real
//! sockets, for the demo and for tests of processes; the simulator has its own network and virtual time.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinSet;

mod listener;
mod path;
mod pipe;
#[cfg(test)]
mod tests;

use listener::{Listener, Paths, Routes, bind, loopback_like};
use path::Path;

pub use pipe::{Shape, Traffic};

/// The place of every sender that is not a node of the plan.
pub const ELSEWHERE: &str = "elsewhere";

/// What a relay connects, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Each node's name and the address that it listens at and sends from.
    pub nodes: BTreeMap<String, SocketAddr>,
    /// How packets travel, by (from, to).
    pub shapes: BTreeMap<(String, String), Shape>,
    /// How packets travel where `shapes` says nothing.
    pub otherwise: Shape,
    /// Decides which packets are lost, doubled and jittered.
    pub seed: u64,
}

impl Plan {
    /// A plan of these nodes with a clean path of no delay between any two.
    pub fn new(nodes: impl IntoIterator<Item = (String, SocketAddr)>) -> Self {
        Self {
            nodes: nodes.into_iter().collect(),
            shapes: BTreeMap::new(),
            otherwise: Shape::delayed(std::time::Duration::ZERO),
            seed: 0,
        }
    }

    /// Gives both directions between two places this shape: its delay is one way, half a round trip.
    #[must_use]
    pub fn between(mut self, one: &str, other: &str, shape: &Shape) -> Self {
        for (from, to) in [(one, other), (other, one)] {
            self.shapes.insert((from.to_owned(), to.to_owned()), shape.clone());
        }
        self
    }
}

/// The relay has no path between two places of these names.
#[derive(Debug, PartialEq, Eq)]
pub struct NoSuchPath {
    from: String,
    to: String,
}

impl fmt::Display for NoSuchPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the relay has no path from `{}` to `{}`", self.from, self.to)
    }
}

impl std::error::Error for NoSuchPath {}

/// A running relay. It ends when it is dropped.
pub struct Relay {
    addresses: BTreeMap<String, SocketAddr>,
    paths: BTreeMap<(String, String), Arc<Path>>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Starts a relay as planned, on free ports of the loopback interface. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When a socket cannot be had, or a node is called `elsewhere`.
    pub fn start(plan: Plan) -> io::Result<Self> {
        if plan.nodes.contains_key(ELSEWHERE) {
            let problem =
                format!("no node can be called `{ELSEWHERE}`: that is every other sender");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let mut tasks = JoinSet::new();
        let paths = paths_of(&plan);
        for path in paths.values() {
            tasks.spawn(Arc::clone(path).pump());
        }

        let mut addresses = BTreeMap::new();
        for (name, node) in &plan.nodes {
            let socket = Arc::new(bind(loopback_like(*node))?);
            addresses.insert(name.clone(), socket.local_addr()?);
            let listener = Listener::new(socket, *node, routes_to(name, &plan, &paths));
            tasks.spawn(listener.run());
        }
        Ok(Self { addresses, paths, _tasks: tasks })
    }

    /// Where others reach this node through the relay.
    pub fn address(&self, node: &str) -> Option<SocketAddr> {
        self.addresses.get(node).copied()
    }

    /// What has passed from one place to another so far.
    ///
    /// # Errors
    /// When the plan has no such places.
    pub fn traffic(&self, from: &str, to: &str) -> Result<Traffic, NoSuchPath> {
        self.path(from, to).map(Path::traffic)
    }

    /// Lets nothing through from one place to another, in this direction only. What is under way is lost.
    ///
    /// # Errors
    /// When the plan has no such places.
    pub fn cut(&self, from: &str, to: &str) -> Result<(), NoSuchPath> {
        self.path(from, to).map(Path::cut)
    }

    /// Lets packets through again in this direction.
    ///
    /// # Errors
    /// When the plan has no such places.
    pub fn heal(&self, from: &str, to: &str) -> Result<(), NoSuchPath> {
        self.path(from, to).map(Path::heal)
    }

    /// Changes how packets travel in this direction from now on.
    ///
    /// # Errors
    /// When the plan has no such places.
    pub fn reshape(&self, from: &str, to: &str, shape: Shape) -> Result<(), NoSuchPath> {
        self.path(from, to).map(|path| path.reshape(shape))
    }

    fn path(&self, from: &str, to: &str) -> Result<&Path, NoSuchPath> {
        let key = (from.to_owned(), to.to_owned());
        match self.paths.get(&key) {
            Some(path) => Ok(path),
            None => Err(NoSuchPath { from: key.0, to: key.1 }),
        }
    }
}

/// A path each way between any two nodes, and between each node and elsewhere.
fn paths_of(plan: &Plan) -> BTreeMap<(String, String), Arc<Path>> {
    let mut paths = BTreeMap::new();
    let places = || plan.nodes.keys().map(String::as_str).chain([ELSEWHERE]);
    for from in places() {
        for to in places().filter(|to| *to != from) {
            let key = (from.to_owned(), to.to_owned());
            let shape = plan.shapes.get(&key).unwrap_or(&plan.otherwise).clone();
            let seed = plan.seed.wrapping_add(paths.len() as u64);
            paths.insert(key, Arc::new(Path::new(shape, seed)));
        }
    }
    paths
}

/// Which paths lead to a node and back, by who dials.
fn routes_to(node: &str, plan: &Plan, paths: &BTreeMap<(String, String), Arc<Path>>) -> Routes {
    let both = |from: &str| Paths {
        there: Arc::clone(&paths[&(from.to_owned(), node.to_owned())]),
        back: Arc::clone(&paths[&(node.to_owned(), from.to_owned())]),
    };
    let others = plan.nodes.iter().filter(|(name, _)| *name != node);
    Routes {
        known: others.map(|(name, address)| (*address, both(name))).collect(),
        elsewhere: both(ELSEWHERE),
    }
}
