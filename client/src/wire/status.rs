//! The state of a node, as the interface says it.

use serde::Deserialize;

/// The state of a node.
#[derive(Debug, Deserialize)]
pub struct Status {
    pub version: String,
    pub node: NodeStatus,
    /// In the order of the cluster file.
    pub spaces: Vec<SpaceStatus>,
    pub peers: Vec<PeerStatus>,
    pub disk_bytes: u64,
    #[serde(default)]
    pub alarms: Vec<String>,
}

/// The node that answers.
#[derive(Debug, Deserialize)]
pub struct NodeStatus {
    pub name: String,
    pub id: String,
    pub region: String,
    pub cloud: Option<String>,
    pub origin: String,
    pub started_at: String,
}

/// A space, as the node holds it.
#[derive(Debug, Deserialize)]
pub struct SpaceStatus {
    pub name: String,
    #[serde(default)]
    pub regions: Vec<String>,
    pub conversations: u64,
    pub messages: u64,
    pub depth: u64,
    pub digest: String,
    pub vector_digest: String,
    /// Messages whose id is further ahead of the clock than allowed.
    #[serde(default)]
    pub ahead_ids: u64,
    /// Entries that left the log.
    #[serde(default)]
    pub trimmed: u64,
    /// Entries that are held and could not be applied.
    #[serde(default)]
    pub quarantined: u64,
    /// Conversations of which erased bytes may still lie in files.
    #[serde(default)]
    pub sweeps_pending: u64,
    #[serde(default)]
    pub vector: Vec<Component>,
}

/// Up to which entry of one origin everything is held.
#[derive(Debug, Deserialize)]
pub struct Component {
    pub origin: String,
    pub node: Option<String>,
    pub region: Option<String>,
    pub seq: u64,
}

/// Another node, as this one sees it.
#[derive(Debug, Deserialize)]
pub struct PeerStatus {
    pub name: String,
    #[serde(default)]
    pub id: String,
    pub region: String,
    pub connected: bool,
    pub since: Option<String>,
    pub address: Option<String>,
    /// Round trip, milliseconds.
    pub rtt_ms: Option<f64>,
    /// By how much its clock is ahead, milliseconds.
    pub clock_ahead_ms: Option<i64>,
    /// UDP payload.
    #[serde(default)]
    pub sent_bytes: u64,
    /// UDP payload.
    #[serde(default)]
    pub received_bytes: u64,
    pub last_error: Option<String>,
    /// Entries that we hold durably and it has not said it holds.
    #[serde(default)]
    pub entries_behind: u64,
    /// Entries that it holds and we do not.
    #[serde(default)]
    pub entries_ahead: u64,
}
