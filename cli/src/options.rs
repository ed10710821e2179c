//! Options that several commands share: which node, which space, which form of output.
//!
//! Invariant: what reaches a command has been checked as far as that is possible without a node.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use warbler_store::name::Name;

use crate::client::{Client, Space};
use crate::failure::Failure;

/// The most bytes a token file may have.
const MAX_TOKEN_FILE_BYTES: u64 = 64 * 1024;
/// The environment variable with the token itself.
const TOKEN_VARIABLE: &str = "WARBLER_TOKEN";

/// Which node.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeOptions {
    /// The node to talk to
    #[arg(
        long,
        global = true,
        env = "WARBLER_URL",
        default_value = "http://127.0.0.1:7420",
        value_name = "URL",
        help_heading = "Node"
    )]
    url: String,
    /// A file with the bearer token to send (or the token itself in WARBLER_TOKEN); a node
    /// without keys needs none
    #[arg(long, global = true, value_name = "FILE", help_heading = "Node")]
    token_file: Option<PathBuf>,
}

/// Which space.
#[derive(Debug, Clone, Args)]
pub(crate) struct SpaceOption {
    /// The space [default: the node's first one]
    #[arg(long, value_name = "SPACE")]
    space: Option<Name>,
}

/// Which form of output.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Format {
    /// Print JSON, one value a line
    #[arg(long)]
    pub(crate) json: bool,
}

impl NodeOptions {
    /// A client of the node. Connects to nothing.
    ///
    /// # Errors
    /// When the URL or the token cannot be used.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let token = self.token()?;
        Ok(Client::new(&self.url, token.as_deref())?)
    }

    /// The space asked for on the node.
    ///
    /// # Errors
    /// As [`Self::client`], and when the node has to be asked for its first space and does not say.
    pub(crate) async fn space(&self, option: &SpaceOption) -> Result<Space, Failure> {
        Ok(self.client()?.space(option.space.clone()).await?)
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.token_file else {
            return Ok(std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()));
        };
        let unreadable = |cause: String| {
            Failure::usage(format!("the token file {} cannot be used", path.display())).cause(cause)
        };
        let size = fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
        if size > MAX_TOKEN_FILE_BYTES {
            let cause = format!("it has {size} bytes, and {MAX_TOKEN_FILE_BYTES} are the most");
            return Err(unreadable(cause));
        }
        let text = fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        Ok(Some(text.trim().to_owned()))
    }
}
