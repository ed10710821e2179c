//! Options that several commands share: which node, which space, which form of output.
//!
//! Invariant: what reaches a command has been checked as far as that is possible without a node.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use warbler_client::{Client, Patience, Space};
use warbler_store::name::Name;

use crate::failure::Failure;

/// The local node.
const DEFAULT_URL: &str = "http://127.0.0.1:7420";
/// How long a node may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How long, when there are others to ask.
const ANSWER_ELSEWHERE: Duration = Duration::from_secs(10);
/// How long a busy node is asked again.
const BUSY: Duration = Duration::from_secs(60);
/// The most bytes a token file or a file of authorities may have.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The environment variable with the token itself.
const TOKEN_VARIABLE: &str = "WARBLER_TOKEN";

/// Which node.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeOptions {
    /// The node to talk to; more of them, separated by commas or given again, are asked in their
    /// order when one does not answer [default: http://127.0.0.1:7420]
    #[arg(
        long,
        global = true,
        env = "WARBLER_URL",
        value_delimiter = ',',
        value_name = "URL",
        help_heading = "Node"
    )]
    url: Vec<String>,
    /// A file with the certificates (PEM) of the authorities to trust, if not the system's
    #[arg(
        long,
        global = true,
        env = "WARBLER_CA_FILE",
        value_name = "FILE",
        help_heading = "Node"
    )]
    ca_file: Option<PathBuf>,
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
        let urls = match self.url.as_slice() {
            [] => vec![DEFAULT_URL.to_owned()],
            urls => urls.to_vec(),
        };
        let mut builder =
            Client::builder().patience(patience(urls.len())).adopt(true).token(self.token()?);
        if let Some(path) = &self.ca_file {
            builder = builder.authorities(read_file(path, "the file of authorities")?);
        }
        Ok(builder.regions(urls).build()?)
    }

    /// The space asked for on the node.
    ///
    /// # Errors
    /// As [`Self::client`], and when the node has to be asked for its first space and does not say.
    pub(crate) async fn space(&self, option: &SpaceOption) -> Result<Space, Failure> {
        let client = self.client()?;
        match &option.space {
            Some(name) => Ok(client.space(name.as_str())),
            None => Ok(client.first_space().await?),
        }
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.token_file else {
            return Ok(std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()));
        };
        let bytes = read_file(path, "the token file")?;
        let text = String::from_utf8(bytes).map_err(|error| {
            Failure::usage(format!("the token file {} cannot be used", path.display()))
                .cause(error.to_string())
        })?;
        Ok(Some(text.trim().to_owned()))
    }
}

/// A client of one node that gives up at once, for those who go elsewhere themselves.
///
/// # Errors
/// When the URL cannot be used.
pub(crate) fn impatient(url: &str) -> Result<Client, Failure> {
    let once = Patience { behind: Duration::ZERO, busy: Duration::ZERO, ..patience(1) };
    Ok(Client::builder().regions([url]).patience(once).build()?)
}

/// A person who waits wants to know at once that nobody is there.
fn patience(nodes: usize) -> Patience {
    let answer = if nodes > 1 { ANSWER_ELSEWHERE } else { ANSWER };
    Patience { answer, away: Duration::ZERO, busy: BUSY, ..Patience::default() }
}

/// The bytes of a small file; `what` is what it is called in errors.
fn read_file(path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    let unreadable = |cause: String| {
        Failure::usage(format!("{what} {} cannot be used", path.display())).cause(cause)
    };
    let size = fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if size > MAX_FILE_BYTES {
        return Err(unreadable(format!("it has {size} bytes, and {MAX_FILE_BYTES} are the most")));
    }
    fs::read(path).map_err(|error| unreadable(error.to_string()))
}
