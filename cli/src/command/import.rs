//! `warbler import`: conversations from JSON Lines into a space.
//!
//! Invariant: nothing is posted before the whole file has been found sound, and a file that is
//! imported twice, or again after a loss, shows each of its messages once.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::bufread::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::failure::Failure;
use crate::options::{Format, NodeOptions, SpaceOption};
use crate::output;
use crate::time::Moment;
use warbler_client::ClientError;

mod plan;
mod upload;

use plan::{Plan, PlanError};
use upload::{Progress, Uploaded};

/// The first byte of a gzip file, which no JSON begins with.
const GZIP_FIRST_BYTE: u8 = 0x1f;

/// Arguments of `warbler import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// JSON Lines with conversation, author, at and body, perhaps compressed with gzip; `-` reads
    /// standard input
    file: PathBuf,
    #[command(flatten)]
    space: SpaceOption,
    /// How many conversations are posted at once; within one, each message waits for the one before
    #[arg(
        long,
        value_name = "N",
        default_value_t = 32,
        value_parser = clap::value_parser!(u16).range(1..=1024)
    )]
    concurrency: u16,
    #[command(flatten)]
    format: Format,
}

/// Why an import did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    /// The file cannot be opened.
    #[error("{name} cannot be opened")]
    Open {
        /// As given.
        name: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file is not sound: nothing was posted.
    #[error("{name} cannot be imported")]
    Plan {
        /// As given.
        name: String,
        /// Where and why.
        #[source]
        source: PlanError,
    },
    /// The node stopped taking messages.
    #[error("the import stopped after {done} of {total} messages")]
    Upload {
        /// Messages that the node has.
        done: u64,
        /// Messages in the file.
        total: u64,
        /// What the node or the network said.
        #[source]
        source: Box<ClientError>,
    },
}

/// Checks the file, posts it, and prints what was done.
///
/// # Errors
/// When the file is not sound, or the node refuses or cannot be reached.
pub(crate) async fn run(node: &NodeOptions, args: Args) -> Result<(), Failure> {
    let plan = read(&args.file)?;
    let space = node.space(&args.space).await?;
    let bar = progress_bar(plan.messages());
    let progress = Progress::new(&bar);
    let outcome = upload::run(&space, &plan, usize::from(args.concurrency), &progress).await;
    bar.finish_and_clear();
    let uploaded = outcome.map_err(|source| ImportError::Upload {
        done: progress.done(),
        total: plan.messages(),
        source: Box::new(source),
    })?;
    let summary = Summary::of(&plan, &uploaded);
    if args.format.json { output::json(&summary) } else { output::line(summary.text()) }
}

fn read(file: &Path) -> Result<Plan, ImportError> {
    let standard_input = file == Path::new("-");
    let name =
        if standard_input { "standard input".to_owned() } else { file.display().to_string() };
    let open = |source| ImportError::Open { name: name.clone(), source };
    let mut input: Box<dyn BufRead> = if standard_input {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file).map_err(open)?))
    };
    if input.fill_buf().map_err(open)?.first() == Some(&GZIP_FIRST_BYTE) {
        input = Box::new(BufReader::new(MultiGzDecoder::new(input)));
    }
    plan::read(input, Moment::now()).map_err(|source| ImportError::Plan { name, source })
}

/// On a terminal only; elsewhere nothing is drawn.
fn progress_bar(messages: u64) -> ProgressBar {
    let template = "{wide_bar} {pos}/{len} messages, {per_sec}, {eta} left";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(messages).with_style(style)
}

/// What an import did.
#[derive(Debug, Serialize)]
struct Summary {
    conversations: u64,
    conversations_created: u64,
    messages: u64,
    /// Of these, those that were not there before.
    posted: u64,
    already_there: u64,
    seconds: f64,
    messages_per_second: f64,
}

impl Summary {
    fn of(plan: &Plan, uploaded: &Uploaded) -> Self {
        let seconds = uploaded.elapsed.max(Duration::from_millis(1)).as_secs_f64();
        Self {
            conversations: plan.conversations().len() as u64,
            conversations_created: uploaded.created,
            messages: plan.messages(),
            posted: plan.messages() - uploaded.already_there,
            already_there: uploaded.already_there,
            seconds: (seconds * 1000.0).round() / 1000.0,
            messages_per_second: (plan.messages() as f64 / seconds).round(),
        }
    }

    fn text(&self) -> String {
        let there = match self.already_there {
            0 => String::new(),
            messages => format!("; {messages} of them were there already"),
        };
        format!(
            "imported {} messages in {} conversations ({} new) in {:.1} s: {} messages/s{there}",
            self.messages,
            self.conversations,
            self.conversations_created,
            self.seconds,
            self.messages_per_second,
        )
    }
}
