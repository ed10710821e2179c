//! `warbler init`: the data directory of a new node.
//!
//! Invariant: standard output holds the node's entry and nothing else, so that it can be appended
//! to a cluster file.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;
use warbler_node::config::HostPort;
use warbler_node::data_directory::{self, NewNode};
use warbler_store::name::Name;

use crate::failure::Failure;
use crate::options::Format;
use crate::output::{self, shell_word};

/// Arguments of `warbler init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory to make, or an empty one
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The node's name, unique in the cluster
    #[arg(long)]
    name: Name,
    /// The region it stands in
    #[arg(long)]
    region: Name,
    /// Whose machines it stands on, for people
    #[arg(long)]
    cloud: Option<Name>,
    /// Where it listens for peers (UDP)
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:7421",
        value_parser = listen_address
    )]
    listen: SocketAddr,
    /// Where it listens for clients (TCP); a loopback address
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:7420",
        value_parser = listen_address
    )]
    http: SocketAddr,
    /// Where its peers dial it [default: where it listens for them]
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<HostPort>,
    #[command(flatten)]
    format: Format,
}

/// Makes the directory and prints the node's entry for the cluster file.
///
/// # Errors
/// When it cannot be made; nothing that exists is touched.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let new = NewNode {
        directory: args.data_dir,
        name: args.name,
        region: args.region,
        cloud: args.cloud,
        listen: args.listen,
        http: args.http,
        address: args.address,
    };
    let made = data_directory::init(&new)?;
    let config = made.config.display().to_string();
    if args.format.json {
        let id = made.id.to_string();
        return output::json(&json!({"config": config, "id": id, "entry": made.entry}));
    }
    // The entry is TOML of our own making, with line ends that are meant.
    output::line(made.entry.trim_end())?;
    output::remark(format_args!(
        "\nThe data directory is ready. Now\n  \
         1. append this entry to the cluster file, which is the same on all nodes and names the\n     \
         regions of each [[space]] (the settings say where it lies);\n  \
         2. run `warbler serve --config {}`.",
        shell_word(&output::one_line(&config)),
    ));
    Ok(())
}

/// An address of this machine; `localhost` is the one name that is taken, for 127.0.0.1.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    let expected = "an IP address and a port are expected, such as 127.0.0.1:7421 or [::1]:7421";
    numeric.parse().map_err(|_| expected.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_address_is_an_ip_address_and_a_port() {
        assert_eq!(listen_address("localhost:0"), Ok(SocketAddr::from(([127, 0, 0, 1], 0))));
        assert!(listen_address("[::1]:7421").is_ok());
        for bad in ["7421", "127.0.0.1", "example.org:7421", "127.0.0.1:65536"] {
            assert!(listen_address(bad).is_err(), "{bad}");
        }
    }
}
