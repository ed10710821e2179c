//! The state of a node as a text for people.
//!
//! Knows no client and prints nothing. Invariant: every word that came from the node is escaped.

use std::fmt::Write as _;

use crate::output::one_line;
use warbler_client::{PeerStatus, SpaceStatus, Status};

/// Digits shown of a digest or an origin: enough to compare two terminals by eye.
const SHOWN_DIGITS: usize = 16;

/// The whole text, without a line end after the last line.
pub(super) fn of(status: &Status) -> String {
    let mut text = heading(status);
    for space in &status.spaces {
        text.push_str(&space_text(space));
    }
    text.push_str(&peers_text(&status.peers));
    for alarm in &status.alarms {
        let _ = write!(text, "\nALARM  {}", one_line(alarm));
    }
    text
}

fn heading(status: &Status) -> String {
    let node = &status.node;
    let cloud = node.cloud.as_deref().map(|cloud| format!(" ({})", one_line(cloud)));
    format!(
        "node    {} ({}) in {}{}, version {}\norigin  {} since {}\ndisk    {}",
        one_line(&node.name),
        short(&node.id),
        one_line(&node.region),
        cloud.unwrap_or_default(),
        one_line(&status.version),
        short(&node.origin),
        one_line(&node.started_at),
        bytes(status.disk_bytes),
    )
}

fn space_text(space: &SpaceStatus) -> String {
    let regions: Vec<String> = space.regions.iter().map(|region| one_line(region)).collect();
    let mut text = format!(
        "\n\nspace {} in {}\n  {} conversations, {} messages, depth {}\n  digest {} at vector {}",
        one_line(&space.name),
        regions.join(", "),
        space.conversations,
        space.messages,
        space.depth,
        short(&space.digest),
        short(&space.vector_digest),
    );
    if space.ahead_ids > 0 {
        let _ = write!(text, "\n  {} messages with ids ahead of the clock", space.ahead_ids);
    }
    if space.quarantined > 0 {
        let _ = write!(text, "\n  {} entries in quarantine", space.quarantined);
    }
    if space.sweeps_pending > 0 {
        let _ = write!(
            text,
            "\n  erased bytes of {} conversations are still in files",
            space.sweeps_pending
        );
    }
    if space.trimmed > 0 {
        let _ = write!(text, "\n  {} entries have left the log", space.trimmed);
    }
    let rows = space.vector.iter().map(|component| {
        vec![
            short(&component.origin),
            word(component.node.as_deref()),
            word(component.region.as_deref()),
            component.seq.to_string(),
        ]
    });
    text.push_str(&columns(&["ORIGIN", "NODE", "REGION", "ENTRIES"], rows.collect()));
    text
}

fn peers_text(peers: &[PeerStatus]) -> String {
    if peers.is_empty() {
        return "\n\nno peers".to_owned();
    }
    let rows = peers.iter().map(|peer| {
        vec![
            one_line(&peer.name),
            one_line(&peer.region),
            state(peer),
            peer.rtt_ms.map_or_else(|| "-".to_owned(), |rtt| format!("{rtt:.1} ms")),
            peer.clock_ahead_ms.map_or_else(|| "-".to_owned(), |ahead| format!("{ahead:+} ms")),
            peer.entries_behind.to_string(),
            peer.entries_ahead.to_string(),
            bytes(peer.sent_bytes),
            bytes(peer.received_bytes),
            word(peer.address.as_deref()),
        ]
    });
    let heads = [
        "PEER", "REGION", "STATE", "RTT", "CLOCK", "BEHIND", "AHEAD", "SENT", "RECEIVED", "ADDRESS",
    ];
    let mut text = format!("\n{}", columns(&heads, rows.collect()));
    for peer in peers {
        if let (false, Some(error)) = (peer.connected, &peer.last_error) {
            let _ = write!(text, "\n  {}: {}", one_line(&peer.name), one_line(error));
        }
    }
    text
}

fn state(peer: &PeerStatus) -> String {
    let state = if peer.connected { "connected" } else { "away" };
    match &peer.since {
        Some(since) => format!("{state} since {}", one_line(since)),
        None => state.to_owned(),
    }
}

/// Rows under their headings, each column as wide as its widest cell; nothing without rows.
fn columns(heads: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let heads = heads.iter().map(|&head| head.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
    let width = |place: usize| {
        let cells = rows.iter().filter_map(|row| row.get(place));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().enumerate().map(|(place, cell)| format!("{cell:0$}", width(place)));
        let _ = write!(text, "\n  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

fn word(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), one_line)
}

fn short(id: &str) -> String {
    one_line(&id.chars().take(SHOWN_DIGITS).collect::<String>())
}

/// A number of bytes with a unit people can compare.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{
        "version": "0.1.0",
        "node": {"name": "eu-1", "id": "5f0c000000000000ffff", "region": "eu-west", "cloud": "aws",
                 "origin": "0123456789abcdef0123456789abcdef",
                 "started_at": "2026-11-21T10:00:00.000Z"},
        "spaces": [{"name": "main", "id": "x", "regions": ["eu-west", "us-east"],
                    "conversations": 24, "messages": 2136, "depth": 300,
                    "digest": "aaaaaaaaaaaaaaaaaaaa", "vector_digest": "bbbbbbbbbbbbbbbbbbbb",
                    "ahead_ids": 2, "vector": [
                        {"origin": "0123456789abcdef01", "node": "eu-1", "region": "eu-west", "seq": 17},
                        {"origin": "fedcba9876543210fe", "seq": 4}]}],
        "peers": [{"name": "us-1", "id": "y", "region": "us-east", "connected": false,
                   "since": "2026-11-21T10:01:00.000Z", "sent_bytes": 5000, "received_bytes": 12,
                   "clock_ahead_ms": -3,
                   "last_error": "timed out\u001b[2J", "entries_behind": 3, "entries_ahead": 0}],
        "disk_bytes": 1258291, "alarms": ["the disk is 95 % full"], "a_field_of_tomorrow": 1}"#;

    #[test]
    fn the_state_of_a_node_fits_on_a_screen_and_cannot_drive_it() {
        let status: Status = serde_json::from_str(STATUS).expect("the documented shape");
        assert_eq!(
            of(&status),
            r"node    eu-1 (5f0c000000000000) in eu-west (aws), version 0.1.0
origin  0123456789abcdef since 2026-11-21T10:00:00.000Z
disk    1.2 MiB

space main in eu-west, us-east
  24 conversations, 2136 messages, depth 300
  digest aaaaaaaaaaaaaaaa at vector bbbbbbbbbbbbbbbb
  2 messages with ids ahead of the clock
  ORIGIN            NODE  REGION   ENTRIES
  0123456789abcdef  eu-1  eu-west  17
  fedcba9876543210  -     -        4

  PEER  REGION   STATE                                RTT  CLOCK  BEHIND  AHEAD  SENT     RECEIVED  ADDRESS
  us-1  us-east  away since 2026-11-21T10:01:00.000Z  -    -3 ms  3       0      4.9 KiB  12 B      -
  us-1: timed out\u{1b}[2J
ALARM  the disk is 95 % full"
        );
    }

    #[test]
    fn bytes_have_a_unit_that_fits() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
    }
}
