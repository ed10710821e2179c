//! The `warbler` command.
//!
//! ```text
//! arguments ──> Cli (clap) ──> command/*.rs ──> warbler-client ──HTTP──> a node
//!                                   │
//!                                   └──> serve.rs: a node in this process
//! every error ──> failure.rs ──> `error:`, `cause:`, `hint:` and the exit code
//! ```
//!
//! This file parses and dispatches. It knows no HTTP and maps no error. Invariant: the process
//! ends with one of the documented exit codes, also after a panic.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::options::NodeOptions;

mod command;
mod demo;
mod failure;
mod options;
mod output;
mod time;

/// Chat that lives in several regions at once.
///
/// Exit codes: 0 done, 1 refused or wrong data, 2 wrong usage, 3 node unreachable,
/// 4 durability not reached in time (the post is kept), 70 a bug of Warbler.
#[derive(Debug, Parser)]
#[command(name = "warbler", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    node: NodeOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play a conversation in three regions on this machine, one of which is killed and returns
    Demo(demo::Args),
    /// Prepare a data directory for a node
    Init(command::init::Args),
    /// Run a node
    Serve(command::serve::Args),
    /// Post a message
    Post(command::post::Args),
    /// Read a conversation, and follow it
    Read(command::read::Args),
    /// Give a message of one's own new words
    Edit(command::edit::Args),
    /// Hide a message for good; its place stays
    Redact(command::redact::Args),
    /// React to a message with an emoji, or take it back
    React(command::react::Args),
    /// Destroy the words of a message, of a user or of a conversation, in all regions
    Erase(command::erase::Args),
    /// Show a user's conversations with what is unread
    Inbox(command::inbox::Args),
    /// Mark a conversation as read
    Mark(command::mark::Args),
    /// List, create, show and change conversations
    Conversations(command::conversations::Args),
    /// Show the state of a node
    Status(command::status::Args),
    /// Have a node read its whole store back, and say what is damaged
    Verify(command::verify::Args),
    /// Import conversations from JSON Lines
    Import(command::import::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return failure::report_usage(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::refused("no threads can be started").cause(error.to_string());
            return failure.report();
        }
    };
    // The panic hook has told where; what is left to us is the exit code.
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(run(cli))));
    // A thread that waits for something outside would otherwise hold the process back.
    runtime.shutdown_background();
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => failure.report(),
        Err(_) => Failure::bug("the command has panicked").report(),
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let node = &cli.node;
    match cli.command {
        Command::Demo(args) => demo::run(args).await,
        Command::Init(args) => command::init::run(args),
        Command::Serve(args) => command::serve::run(args).await,
        Command::Post(args) => command::post::run(node, args).await,
        Command::Read(args) => command::read::run(node, args).await,
        Command::Edit(args) => command::edit::run(node, args).await,
        Command::Redact(args) => command::redact::run(node, args).await,
        Command::React(args) => command::react::run(node, args).await,
        Command::Erase(args) => command::erase::run(node, args).await,
        Command::Inbox(args) => command::inbox::run(node, args).await,
        Command::Mark(args) => command::mark::run(node, args).await,
        Command::Conversations(args) => command::conversations::run(node, args).await,
        Command::Status(args) => command::status::run(node, args).await,
        Command::Verify(args) => command::verify::run(node, args).await,
        Command::Import(args) => command::import::run(node, args).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_of_all_commands_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_node_may_be_named_before_and_after_the_command() {
        let lines = [
            ["warbler", "--url", "http://h:1", "status"],
            ["warbler", "status", "--url", "http://h:1"],
        ];
        for line in lines {
            assert!(Cli::try_parse_from(line).is_ok(), "{line:?}");
        }
    }
}
