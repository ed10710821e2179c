//! `warbler verify`: has a node read its whole store back, and says what is damaged.

use crate::failure::Failure;
use crate::options::{Format, NodeOptions};
use crate::output;
use warbler_client::{PeerStatus, Status, Verified};

/// Arguments of `warbler verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ask how the other regions' digests compare, too
    #[arg(long)]
    all_regions: bool,
    #[command(flatten)]
    format: Format,
}

/// Verifies the node's store; damage is a failure.
///
/// # Errors
/// When the node cannot be reached or refuses, and when something is damaged.
pub(crate) async fn run(node: &NodeOptions, args: Args) -> Result<(), Failure> {
    let client = node.client()?;
    let verified: Verified = client.verify().await?;
    let status = if args.all_regions { Some(client.status().await?) } else { None };
    if args.format.json {
        output::line(output::json_text(&serde_json::json!({
            "verified": &verified,
            "peers": status.as_ref().map(peers),
        }))?)?;
    } else {
        output::line(format_args!("{} rows read, {} damaged", verified.rows, verified.found))?;
        for damage in &verified.damage {
            output::line(damage)?;
        }
        for (name, state) in status.iter().flat_map(peers) {
            output::line(format_args!("{name}: {state}"))?;
        }
    }
    if verified.found == 0 {
        return Ok(());
    }
    Err(Failure::refused(format!("the store is damaged in {} places", verified.found))
        .hint("keep the data directory; a node set up anew takes everything from its peers"))
}

/// How each peer's digest compares, as far as the node knows: peers that hold the same compare
/// theirs with every heartbeat, and a difference is an alarm.
fn peers(status: &Status) -> Vec<(String, String)> {
    // Alarms name a peer by the first eight bytes of its id.
    let differs = |peer: &PeerStatus| {
        let short = peer.id.get(..16).unwrap_or(&peer.id);
        status.alarms.iter().any(|alarm| alarm.contains("digest") && alarm.contains(short))
    };
    let state = |peer: &PeerStatus| {
        let level = peer.entries_behind == 0 && peer.entries_ahead == 0;
        match (peer.connected, level) {
            (true, true) if differs(peer) => "holds the same and shows another digest",
            (true, true) => "holds the same, with the same digest",
            (true, false) => "is catching up, or we are",
            (false, _) => "is not connected",
        }
    };
    status.peers.iter().map(|peer| (peer.name.clone(), state(peer).to_owned())).collect()
}
