//! The stage: three node processes with folders of their own, and the relay that puts distance between them.
//!
//! Nodes are prepared, started and killed here as an operator would do it: with `warbler init` and `warbler serve`, a cluster
//! file that is the same on all nodes, and `kill -9`. It must not know what is said on it. Invariant: dropping the stage ends
//! all its processes and removes its folder, unless the folder is to be kept.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, interval};
use warbler_simulations::relay::{Plan, Relay, Shape, Traffic};

use super::process::{self, Running};
use super::sample::Sample;
use crate::failure::Failure;
use crate::options;
use warbler_client::{Client, Space, Status};

mod places;
mod ports;

pub(super) use places::{AP_SOUTH, EU_WEST, PLACES, US_EAST, one_way, others_by_distance};
use places::{Place, ROUND_TRIPS};

/// The one space of the demo.
const SPACE: &str = "main";

/// How often a condition is looked at while it is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What has passed from region to region, by indices.
pub(super) type Wire = BTreeMap<(usize, usize), Traffic>;

/// Two connected regions.
pub(super) struct Trip {
    pub(super) one: &'static str,
    pub(super) other: &'static str,
    pub(super) emulated_ms: u32,
    pub(super) measured: Duration,
}

/// Three nodes and the relay.
pub(super) struct Stage {
    // Dropped in this order: first the processes end, then their folder goes.
    nodes: Vec<Node>,
    relay: Relay,
    folder: TempDir,
    keep: bool,
    clients: Vec<Client>,
    spaces: Vec<Space>,
}

struct Node {
    quic: SocketAddr,
    http: SocketAddr,
    data: PathBuf,
    log: PathBuf,
    id: Option<String>,
    process: Option<Running>,
    /// Of the last run that was seen ready.
    origin: Option<String>,
}

impl Stage {
    /// Makes the folder, chooses ports, and starts the relay. No node runs yet.
    ///
    /// # Errors
    /// When the system lacks room, ports or sockets.
    pub(super) fn build(keep: bool) -> Result<Self, Failure> {
        let folder =
            tempfile::Builder::new().prefix("warbler-demo-").tempdir().map_err(|error| {
                Failure::refused("no temporary folder can be made").cause(error.to_string())
            })?;
        let mut ports = ports::free(2 * PLACES.len())?.into_iter();
        let mut next = || SocketAddr::from(([127, 0, 0, 1], ports.next().unwrap_or_default()));
        let node = |place: &Place| Node {
            quic: next(),
            http: next(),
            data: folder.path().join(place.node),
            log: folder.path().join(format!("{}.log", place.node)),
            id: None,
            process: None,
            origin: None,
        };
        let nodes: Vec<Node> = PLACES.iter().map(node).collect();
        let relay = relay_between(&nodes)?;
        let mut clients = Vec::new();
        let mut spaces = Vec::new();
        for node in &nodes {
            let client = options::impatient(&format!("http://{}", node.http))?;
            spaces.push(client.space(SPACE).without_session());
            clients.push(client);
        }
        Ok(Self { nodes, relay, folder, keep, clients, spaces })
    }

    /// Prepares a node's data directory with `warbler init`.
    ///
    /// # Errors
    /// When it fails or says no id.
    pub(super) async fn prepare(&mut self, region: usize) -> Result<(), Failure> {
        let (place, node) = (&PLACES[region], &self.nodes[region]);
        let log = self.folder.path().join(format!("{}.init.log", place.node));
        let address = self.dialed_at(region)?.to_string();
        let (listen, http) = (node.quic.to_string(), node.http.to_string());
        let given = [
            ("--data-dir", text_of(&node.data)?),
            ("--name", place.node),
            ("--region", place.region),
            ("--cloud", place.cloud),
            ("--listen", &listen),
            ("--http", &http),
            ("--address", &address),
        ];
        let mut args = vec!["init", "--json"];
        args.extend(given.into_iter().flat_map(|(option, value)| [option, value]));
        let said = Running::start(&args, &log)?.output().await?;
        let made: serde_json::Value = serde_json::from_str(said.trim()).unwrap_or_default();
        let id = made["id"].as_str().ok_or_else(|| {
            Failure::bug("`warbler init --json` printed no node id").cause(said.clone())
        })?;
        self.nodes[region].id = Some(id.to_owned());
        Ok(())
    }

    /// Writes the one cluster file, in which nodes are reached through the relay.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write_cluster_file(&self) -> Result<(), Failure> {
        let addresses: Result<Vec<_>, _> =
            (0..PLACES.len()).map(|region| self.dialed_at(region)).collect();
        self.write_cluster(1, &addresses?)
    }

    fn write_cluster(&self, version: u64, addresses: &[SocketAddr]) -> Result<(), Failure> {
        let mut text = format!("version = {version}\n");
        for ((place, node), address) in PLACES.iter().zip(&self.nodes).zip(addresses) {
            let Place { region, cloud, node: name } = place;
            let id = node.id.as_deref().unwrap_or_default();
            text.push_str(&format!(
                "\n[[node]]\nname = \"{name}\"\nregion = \"{region}\"\ncloud = \"{cloud}\"\naddress = \"{address}\"\nid = \"{id}\"\n"
            ));
        }
        let regions = PLACES.map(|place| format!("\"{}\"", place.region)).join(", ");
        text.push_str(&format!("\n[[space]]\nname = \"{SPACE}\"\nregions = [{regions}]\n"));
        write(&self.folder.path().join("cluster.toml"), &text)
    }

    /// Starts a node with `warbler serve`. It is not ready yet.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub(super) fn start(&mut self, region: usize) -> Result<(), Failure> {
        let node = &mut self.nodes[region];
        let config = node.data.join("warbler.toml");
        node.process = Some(Running::start(&["serve", "--config", text_of(&config)?], &node.log)?);
        Ok(())
    }

    /// Ends a node as a power cut would, and gives its process id.
    ///
    /// # Errors
    /// When it does not run.
    pub(super) fn kill(&mut self, region: usize) -> Result<u32, Failure> {
        self.expect_alive()?;
        let process = self.nodes[region].process.take();
        let process =
            process.ok_or_else(|| Failure::bug("a node that does not run cannot be killed"))?;
        let id = process.id();
        process.kill();
        Ok(id)
    }

    /// Waits until every node answers.
    ///
    /// # Errors
    /// When a node ends instead, or the time is over.
    pub(super) async fn all_ready(&mut self, patience: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + patience;
        let mut look = interval(LOOK_EVERY);
        for (region, place) in PLACES.iter().enumerate() {
            loop {
                look.tick().await;
                self.expect_alive()?;
                match self.clients[region].status().await {
                    Ok(status) => {
                        self.nodes[region].origin = Some(status.node.origin);
                        break;
                    }
                    Err(error) if Instant::now() > deadline => {
                        let seconds = patience.as_secs();
                        let late = format!("{} is not ready after {seconds} s", place.region);
                        return Err(Failure::refused(late).cause(error.to_string()));
                    }
                    Err(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Waits until every node is connected to every other, and tells how far they are apart.
    ///
    /// # Errors
    /// When the time is over, or packets take less time than the relay should need.
    pub(super) async fn all_connected(&mut self, patience: Duration) -> Result<Vec<Trip>, Failure> {
        let deadline = Instant::now() + patience;
        let mut trips = Vec::new();
        for (one, other, emulated_ms) in ROUND_TRIPS {
            let measured = self.connected(one, other, deadline).await?;
            if measured < Duration::from_millis(u64::from(emulated_ms)) {
                return Err(Failure::bug(format!(
                    "a round trip of {measured:?} was measured where the relay needs {emulated_ms} ms: packets go past it"
                )));
            }
            let (one, other) = (PLACES[one].region, PLACES[other].region);
            trips.push(Trip { one, other, emulated_ms, measured });
        }
        Ok(trips)
    }

    /// Waits until two regions are connected, as both of them see it, and gives the round trip that one measures.
    async fn connected(
        &mut self,
        one: usize,
        other: usize,
        deadline: Instant,
    ) -> Result<Duration, Failure> {
        let mut look = interval(LOOK_EVERY);
        loop {
            look.tick().await;
            self.expect_alive()?;
            let here = self.clients[one].status().await?;
            let there = self.clients[other].status().await?;
            if let (Some(measured), Some(_)) = (round_trip(&here, other), round_trip(&there, one)) {
                return Ok(measured);
            }
            if Instant::now() > deadline {
                let (one, other) = (PLACES[one].region, PLACES[other].region);
                let failure = Failure::refused(format!("{one} and {other} do not connect"));
                return Err(peer_errors(&[here, there]).into_iter().fold(failure, Failure::cause));
            }
        }
    }

    /// Imports the sample with `warbler import`.
    ///
    /// # Errors
    /// When it fails.
    pub(super) async fn import(&mut self, region: usize, sample: &Sample) -> Result<(), Failure> {
        let file = self.folder.path().join("sample.jsonl");
        write(&file, sample.lines())?;
        let log = self.folder.path().join("import.log");
        let url = self.url(region);
        let args = ["import", text_of(&file)?, "--url", &url, "--space", SPACE];
        Running::start(&args, &log)?.output().await?;
        self.expect_alive()
    }

    /// Where clients reach a node.
    pub(super) fn url(&self, region: usize) -> String {
        format!("http://{}", self.nodes[region].http)
    }

    /// A client of each node, by region.
    pub(super) fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// The space of the demo at each node, by region.
    pub(super) fn spaces(&self) -> &[Space] {
        &self.spaces
    }

    /// The origin of a node's run when it was last seen ready.
    pub(super) fn last_origin(&self, region: usize) -> Option<String> {
        self.nodes[region].origin.clone()
    }

    /// What has passed between the regions so far.
    pub(super) fn wire(&self) -> Wire {
        let mut wire = Wire::new();
        for (from, here) in PLACES.iter().enumerate() {
            for (to, there) in PLACES.iter().enumerate() {
                if let Ok(traffic) = self.relay.traffic(here.region, there.region) {
                    wire.insert((from, to), traffic);
                }
            }
        }
        wire
    }

    /// Ends all processes and removes the folder.
    ///
    /// # Errors
    /// When the folder cannot be removed.
    pub(super) fn close(mut self) -> Result<(), Failure> {
        self.end_processes();
        let path = self.folder.path().display().to_string();
        self.folder.close().map_err(|error| {
            Failure::refused(format!("the demo's folder {path} cannot be removed"))
                .cause(error.to_string())
        })
    }

    /// Ends all after a failure; with `--keep` the folder stays, for whoever looks for the cause.
    /// A node that has ended by itself is the cause, whatever was noticed first.
    pub(super) fn close_after(mut self, failure: Failure) -> Failure {
        let failure = match self.expect_alive() {
            Ok(()) => failure,
            Err(ended) => {
                let noticed = failure.to_string();
                ended.cause(format!("noticed as {}", noticed.lines().next().unwrap_or_default()))
            }
        };
        self.end_processes();
        if self.keep {
            let path = self.folder.keep();
            return failure.hint(format!("data and logs of the nodes are in {}", path.display()));
        }
        // The failure matters more than a folder that cannot be removed.
        let _ = self.folder.close();
        failure
    }

    /// Ends all processes, keeps the folder, and says how to go on with it.
    ///
    /// # Errors
    /// When the cluster file cannot be written.
    pub(super) fn leave(mut self) -> Result<Vec<String>, Failure> {
        self.end_processes();
        // The relay ends with us: from now on nodes dial each other directly. A changed file needs a higher version.
        let addresses: Vec<SocketAddr> = self.nodes.iter().map(|node| node.quic).collect();
        self.write_cluster(2, &addresses)?;
        let program = process::program();
        let again = |node: &Node| {
            format!("  {program} serve --config {}", node.data.join("warbler.toml").display())
        };
        let mut lines =
            vec!["the nodes are stopped; to start them again, without distances:".to_owned()];
        lines.extend(self.nodes.iter().map(again));
        lines.push(format!("everything is in {}", self.folder.keep().display()));
        Ok(lines)
    }

    fn end_processes(&mut self) {
        for node in &mut self.nodes {
            if let Some(process) = node.process.take() {
                process.kill();
            }
        }
    }

    /// Fails when a node that should run has ended.
    fn expect_alive(&mut self) -> Result<(), Failure> {
        for (place, node) in PLACES.iter().zip(&mut self.nodes) {
            if let Some(process) = &mut node.process
                && let Some(status) = process.ended()
            {
                let failure = process.failed(status);
                return Err(failure.cause(format!("it was the node of {}", place.region)));
            }
        }
        Ok(())
    }

    /// Where the others dial a node: the relay's address for it.
    fn dialed_at(&self, region: usize) -> Result<SocketAddr, Failure> {
        let address = self.relay.address(PLACES[region].region);
        address.ok_or_else(|| Failure::bug("the relay lacks a region"))
    }
}

/// A relay with a path of its own between any two nodes.
fn relay_between(nodes: &[Node]) -> Result<Relay, Failure> {
    let named = PLACES.iter().zip(nodes).map(|(place, node)| (place.region.to_owned(), node.quic));
    let plan = ROUND_TRIPS.iter().fold(Plan::new(named), |plan, (one, other, _)| {
        let shape = Shape::delayed(one_way(*one, *other));
        plan.between(PLACES[*one].region, PLACES[*other].region, &shape)
    });
    Relay::start(plan).map_err(|error| {
        Failure::refused("the relay between the regions cannot be started").cause(error.to_string())
    })
}

/// What a node says of the round trip to another region, once it is connected to it.
fn round_trip(status: &Status, other: usize) -> Option<Duration> {
    let peer = status.peers.iter().find(|peer| peer.region == PLACES[other].region)?;
    let trip = peer.rtt_ms.filter(|_| peer.connected)?;
    Some(Duration::from_secs_f64(trip.max(0.0) / 1_000.0))
}

fn peer_errors(statuses: &[Status]) -> Vec<String> {
    let mut errors = Vec::new();
    for status in statuses {
        for peer in &status.peers {
            if let Some(error) = &peer.last_error {
                errors.push(format!("{} says of {}: {error}", status.node.name, peer.name));
            }
        }
    }
    errors
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    fs::write(file, text).map_err(|error| {
        Failure::refused(format!("{} cannot be written", file.display())).cause(error.to_string())
    })
}

fn text_of(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| {
        Failure::refused(format!("the temporary folder's name is not UTF-8: {}", path.display()))
            .hint("set TMPDIR to another folder")
    })
}
