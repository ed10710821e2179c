//! `warbler serve`: a node in this process, until a signal ends it.
//!
//! Knows nothing of what the node does. Invariant: a node that is asked to stop gets the time to
//! close what it has open, and only a second signal takes it away.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use warbler_node::Node;
use warbler_node::config::{Cluster, Config};
use warbler_node::data_directory::{CONFIG_FILE, DataDirectory, KEY_FILE};
use warbler_node::identity::Identity;

use crate::failure::Failure;
use crate::options::Format;
use crate::output;

/// The environment variable with the log's filter, such as `debug` or `info,warbler_node=trace`.
const LOG_VARIABLE: &str = "WARBLER_LOG";
/// What is logged when it says nothing.
const DEFAULT_LOG: &str = "info";

/// Arguments of `warbler serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node's settings, or the data directory that holds them
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check settings, key and cluster file, and start nothing
    #[arg(long)]
    check: bool,
    /// Log in JSON; WARBLER_LOG says how much is logged (info by default)
    #[arg(long)]
    log_json: bool,
    #[command(flatten)]
    format: Format,
}

/// Runs the node until it is asked to stop.
///
/// # Errors
/// When it cannot start, or has to stop by itself.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let config = settings_file(&args.config);
    if args.check {
        return check(&config, args.format);
    }
    start_log(args.log_json)?;
    let mut signals = Signals::catch()?;
    let directory = DataDirectory::open(&config)?;
    let name = directory.config.name.to_string();
    let id = directory.identity.node_id().to_string();
    let node = tokio::select! {
        node = Node::bind(directory) => node?,
        () = signals.next() => return Ok(()),
    };
    tell_ready(&node, &name, &id, args.format);
    let stopped = tokio::select! {
        reason = node.failed() => Err(Failure::refused(format!("node {name} had to stop"))
            .cause(reason)
            .hint("the log says more; what was acknowledged is on disk: it can be started again")),
        () = signals.next() => Ok(()),
    };
    tokio::select! {
        () = node.shutdown() => stopped,
        () = signals.next() => {
            Err(Failure::refused(format!("node {name} was stopped by a second signal"))
                .cause("it had not closed everything yet")
                .hint("what was acknowledged is on disk: it can be started again"))
        }
    }
}

/// Says where the node is, on one line. Whoever reads no output is served all the same.
fn tell_ready(node: &Node, name: &str, id: &str, format: Format) {
    let (http, quic) = (format!("http://{}", node.http_addr()), node.quic_addr().to_string());
    let told = if format.json {
        output::json(&json!({"name": name, "id": id, "http": http, "quic": quic}))
    } else {
        output::line(format_args!("node {name} is ready: clients at {http}, peers at {quic} (UDP)"))
    };
    if told.is_err() {
        tracing::debug!("standard output is closed");
    }
}

/// The settings file of a data directory, or the file itself.
fn settings_file(given: &Path) -> PathBuf {
    if given.is_dir() { given.join(CONFIG_FILE) } else { given.to_owned() }
}

/// Reads everything a start would read. Takes no lock: the node may be running.
fn check(path: &Path, format: Format) -> Result<(), Failure> {
    let config = Config::load(path)?;
    let identity = Identity::load(&config.data_dir.join(KEY_FILE))?;
    let cluster = Cluster::load(&config.cluster)?;
    let own = cluster.own_entry(&config.name, identity.node_id())?;
    let spaces: Vec<String> =
        cluster.spaces_of(own.id).iter().map(|space| space.name.to_string()).collect();
    if format.json {
        return output::json(&json!({
            "name": own.name.to_string(),
            "id": own.id.to_string(),
            "region": own.region.to_string(),
            "nodes": cluster.nodes.len(),
            "cluster_version": cluster.version,
            "spaces": spaces,
        }));
    }
    output::line(format_args!(
        "node {} in {} can start: {} nodes in version {} of the cluster file, spaces here: {}",
        own.name,
        own.region,
        cluster.nodes.len(),
        cluster.version,
        if spaces.is_empty() { "none".to_owned() } else { spaces.join(", ") },
    ))
}

/// Sends the log to standard error.
fn start_log(as_json: bool) -> Result<(), Failure> {
    let text = std::env::var(LOG_VARIABLE).ok().filter(|text| !text.is_empty());
    let filter = EnvFilter::try_new(text.as_deref().unwrap_or(DEFAULT_LOG)).map_err(|error| {
        Failure::usage(format!("{LOG_VARIABLE} is no filter for the log"))
            .cause(error.to_string())
            .hint("give a level such as `debug`, or levels by crate: `info,warbler_node=trace`")
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let started = if as_json { log.json().try_init() } else { log.try_init() };
    started.map_err(|error| Failure::bug("the log cannot be started").cause(error.to_string()))
}

/// The signals that ask us to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> Result<Self, Failure> {
        let catch = |kind| {
            signal(kind).map_err(|error| {
                Failure::refused("signals cannot be caught").cause(error.to_string())
            })
        };
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(Self { terminate: catch(terminate)?, interrupt: catch(interrupt)? })
    }

    /// Comes back at the next one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("asked to stop (SIGTERM)"),
            _ = self.interrupt.recv() => tracing::info!("asked to stop (SIGINT)"),
        }
    }
}
