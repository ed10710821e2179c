//! `warbler status`: what a node says of itself, its spaces and its peers.
//!
//! Invariant: with `--json` the node's words are passed on whole, also what this version does not
//! know.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::failure::Failure;
use crate::options::{Format, NodeOptions};
use crate::output;
use warbler_client::Client;

mod table;

/// How often `--watch` asks.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Cursor home, and clear to the end of the screen.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Arguments of `warbler status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print it again every second, until interrupted
    #[arg(long, short)]
    watch: bool,
    #[command(flatten)]
    format: Format,
}

/// Prints the state of the node, once or every second.
///
/// # Errors
/// When the node cannot be reached (while watching: at the first time) or is none.
pub(crate) async fn run(node: &NodeOptions, args: Args) -> Result<(), Failure> {
    let client = node.client()?;
    let first = ask(&client, args.format.json).await?;
    if !args.watch {
        return output::line(first);
    }
    let screen = if io::stdout().is_terminal() && !args.format.json { CLEAR } else { "" };
    output::line(format_args!("{screen}{first}"))?;
    let mut every = tokio::time::interval(WATCH_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every.tick().await;
    loop {
        every.tick().await;
        match ask(&client, args.format.json).await {
            Ok(text) => output::line(format_args!("{screen}{text}"))?,
            // A node that restarts is a reason to go on watching, not to stop.
            Err(failure) => output::remark(failure),
        }
    }
}

async fn ask(client: &Client, as_json: bool) -> Result<String, Failure> {
    if as_json {
        return output::json_text(&client.status_json().await?);
    }
    Ok(table::of(&client.status().await?))
}
