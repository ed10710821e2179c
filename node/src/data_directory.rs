//! The data directory of a node: what lies in it, how it is made, and that one process holds it.
//!
//! ```text
//! warbler.toml   the node's settings
//! node.key       its Ed25519 key, PKCS#8 PEM, mode 0600
//! store/         the store (RocksDB's files)
//! reserve        room that is given up when the device is full
//! LOCK           locked by the process that holds the directory
//! ```
//!
//! It must not know what the store keeps. Its one invariant: while a [`DataDirectory`] lives, no
//! other one of the same directory does, in this process or another.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use warbler_store::id::NodeId;
use warbler_store::name::Name;

use crate::config::{ClusterNode, Config, ConfigError, HostPort, check_loopback};
use crate::identity::{Identity, IdentityError};

/// The name of the settings file.
pub const CONFIG_FILE: &str = "warbler.toml";
/// The name of the key file.
pub const KEY_FILE: &str = "node.key";
/// The name of the store's directory.
pub const STORE_DIRECTORY: &str = "store";
/// The name of the file that keeps room.
pub const RESERVE_FILE: &str = "reserve";
/// The name of the file that is locked.
pub const LOCK_FILE: &str = "LOCK";

/// A data directory that this process holds.
#[derive(Debug)]
pub struct DataDirectory {
    /// The node's settings.
    pub config: Config,
    /// The node's key.
    pub identity: Identity,
    /// Locked as long as it is open.
    _lock: File,
}

/// What `warbler init` asks for.
#[derive(Debug, Clone)]
pub struct NewNode {
    /// Where the directory is made; it may exist if it is empty.
    pub directory: PathBuf,
    /// The node's name.
    pub name: Name,
    /// Its region.
    pub region: Name,
    /// Whose machines it stands on.
    pub cloud: Option<Name>,
    /// Where it listens for peers.
    pub listen: SocketAddr,
    /// Where it listens for clients; a loopback address.
    pub http: SocketAddr,
    /// Where peers dial it; by default where it listens.
    pub address: Option<HostPort>,
}

/// What `warbler init` made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDataDirectory {
    /// The settings file, for `warbler serve --config`.
    pub config: PathBuf,
    /// The node's id.
    pub id: NodeId,
    /// The node's `[[node]]` entry for the cluster file.
    pub entry: String,
}

/// Why a data directory cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum DataDirectoryError {
    /// There is something where it should be made.
    #[error("{0} exists and is not an empty directory")]
    Occupied(PathBuf),
    /// Nobody could dial the node.
    #[error("{0} is no address that peers can dial")]
    Address(SocketAddr),
    /// The API would be open to others.
    #[error("{0}")]
    OpenToAll(String),
    /// It cannot be written.
    #[error("the data directory {path} cannot be made")]
    Make {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is no settings file.
    #[error("there is no data directory with a settings file {0}")]
    Missing(PathBuf),
    /// There are settings, but no key.
    #[error("{0} is not a node's data directory: it has no {KEY_FILE}")]
    Foreign(PathBuf),
    /// Another process holds it.
    #[error("the data directory {0} is in use by another process")]
    Locked(PathBuf),
    /// It cannot be locked.
    #[error("the data directory {path} cannot be locked")]
    Lock {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The settings are refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key is refused.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl DataDirectoryError {
    /// What to do now, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Occupied(_) => {
                "choose a new directory, or remove this one if nothing in it is needed"
            }
            Self::Address(_) => "say where peers reach the node: --address HOST:PORT",
            Self::OpenToAll(_) => "leave --http out, or give it a loopback address",
            Self::Missing(_) => {
                "make one with `warbler init --data-dir DIR --name NAME --region REGION`, or give \
                 its settings file with --config"
            }
            Self::Foreign(path) => {
                return Some(format!(
                    "make a data directory with `warbler init`, or bring {KEY_FILE} back to {}",
                    path.display()
                ));
            }
            Self::Locked(_) => {
                "end the other process first, or give this node a directory of its own"
            }
            Self::Identity(error) => return error.hint(),
            Self::Make { .. } | Self::Lock { .. } | Self::Config(_) => return None,
        };
        Some(hint.to_owned())
    }
}

/// Makes the data directory of a new node: a fresh key and commented settings. Nothing is written
/// before everything asked for is known to be valid.
///
/// # Errors
/// See [`DataDirectoryError`]; something that exists is never overwritten.
pub fn init(new: &NewNode) -> Result<NewDataDirectory, DataDirectoryError> {
    check_loopback(new.http).map_err(DataDirectoryError::OpenToAll)?;
    let address = match &new.address {
        Some(address) => address.clone(),
        None => {
            new.listen.to_string().parse().map_err(|_| DataDirectoryError::Address(new.listen))?
        }
    };
    let identity = Identity::generate()?;
    let entry = ClusterNode {
        name: new.name.clone(),
        region: new.region.clone(),
        cloud: new.cloud.clone(),
        address,
        id: identity.node_id(),
    };

    let directory = &new.directory;
    let make = |source| DataDirectoryError::Make { path: directory.clone(), source };
    claim_empty(directory)?;
    identity.save(&directory.join(KEY_FILE))?;
    let config = directory.join(CONFIG_FILE);
    let text = Config::commented_toml(&new.name, new.listen, new.http);
    write_new(&config, &text).map_err(make)?;
    // The names of new files are durable only once their directory is.
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(make)?;
    Ok(NewDataDirectory { config, id: entry.id, entry: entry.entry() })
}

/// Makes the directory, or takes an empty one.
fn claim_empty(directory: &Path) -> Result<(), DataDirectoryError> {
    let make = |source| DataDirectoryError::Make { path: directory.to_owned(), source };
    match std::fs::read_dir(directory) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(DataDirectoryError::Occupied(directory.to_owned())),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(make)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            Err(DataDirectoryError::Occupied(directory.to_owned()))
        }
        Err(error) => Err(make(error)),
    }
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

impl DataDirectory {
    /// Opens the data directory whose settings file is `config`, and holds it.
    ///
    /// # Errors
    /// It is missing, foreign, in use, or its settings or key are refused.
    pub fn open(config: &Path) -> Result<Self, DataDirectoryError> {
        if !config.is_file() {
            return Err(DataDirectoryError::Missing(config.to_owned()));
        }
        let config = Config::load(config)?;
        let path = &config.data_dir;
        let key = path.join(KEY_FILE);
        if !key.is_file() {
            return Err(DataDirectoryError::Foreign(path.clone()));
        }
        let lock = hold(path)?;
        let identity = Identity::load(&key)?;
        Ok(Self { config, identity, _lock: lock })
    }

    /// Where the directory is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.config.data_dir
    }

    /// Where the store's files are.
    #[must_use]
    pub fn store_path(&self) -> PathBuf {
        self.path().join(STORE_DIRECTORY)
    }

    /// Where room is kept.
    #[must_use]
    pub fn reserve_path(&self) -> PathBuf {
        self.path().join(RESERVE_FILE)
    }
}

/// Locks the directory. The lock is the open file's: it ends with the process, however that ends.
fn hold(directory: &Path) -> Result<File, DataDirectoryError> {
    let lock = |source| DataDirectoryError::Lock { path: directory.to_owned(), source };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join(LOCK_FILE))
        .map_err(lock)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DataDirectoryError::Locked(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(lock(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Cluster;

    fn new_node(directory: PathBuf) -> NewNode {
        NewNode {
            directory,
            name: "eu-1".parse().expect("a name"),
            region: "eu-west".parse().expect("a name"),
            cloud: Some("aws".parse().expect("a name")),
            listen: "127.0.0.1:7431".parse().expect("an address"),
            http: "127.0.0.1:7430".parse().expect("an address"),
            address: None,
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).expect("a directory");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.expect("an entry").file_name().into_string().expect("UTF-8")
        };
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn what_init_makes_opens_as_the_node_that_its_entry_names() {
        let root = tempfile::tempdir().expect("a directory");
        let made = init(&new_node(root.path().join("new/eu-1"))).expect("made");

        let opened = DataDirectory::open(&made.config).expect("opened");
        assert_eq!(opened.identity.node_id(), made.id);
        assert_eq!(opened.config.quic.listen.port(), 7431);
        assert_eq!(opened.config.http.listen.port(), 7430);
        assert_eq!(opened.store_path(), root.path().join("new/eu-1/store"));

        let space = "[[space]]\nname = \"main\"\nregions = [\"eu-west\"]\n";
        let cluster = format!("version = 1\n{}{space}", made.entry);
        let cluster = Cluster::parse(Path::new("c"), &cluster).expect("a cluster");
        let own = cluster.own_entry(&opened.config.name, made.id).expect("itself");
        assert_eq!(own.address.to_string(), "127.0.0.1:7431");
    }

    #[test]
    fn init_changes_nothing_where_something_is_or_when_it_refuses() {
        let root = tempfile::tempdir().expect("a directory");
        let occupied = root.path().join("occupied");
        std::fs::create_dir(&occupied).expect("made");
        std::fs::write(occupied.join("letter"), "dear").expect("written");
        let error = init(&new_node(occupied.clone())).expect_err("occupied");
        assert!(matches!(error, DataDirectoryError::Occupied(_)), "{error}");
        assert_eq!(names(&occupied), ["letter"]);

        let error = init(&new_node(occupied.join("letter"))).expect_err("a file");
        assert!(matches!(error, DataDirectoryError::Occupied(_)), "{error}");

        let mut open = new_node(root.path().join("open"));
        open.http = "0.0.0.0:1".parse().expect("an address");
        assert!(init(&open).expect_err("refused").to_string().contains("loopback"));
        let mut nowhere = new_node(root.path().join("nowhere"));
        nowhere.listen = "0.0.0.0:7421".parse().expect("an address");
        let error = init(&nowhere).expect_err("refused");
        assert!(error.hint().expect("a hint").contains("--address"), "{error}");
        assert_eq!(names(root.path()), ["occupied"]);

        nowhere.address = Some("eu-1.example.org:7421".parse().expect("an address"));
        let made = init(&nowhere).expect("made");
        assert!(made.entry.contains("eu-1.example.org:7421"), "{}", made.entry);
    }

    #[test]
    fn a_directory_is_held_by_one_until_it_lets_go() {
        let root = tempfile::tempdir().expect("a directory");
        let made = init(&new_node(root.path().join("eu-1"))).expect("made");
        let first = DataDirectory::open(&made.config).expect("opened");

        let error = DataDirectory::open(&made.config).expect_err("in use");
        assert!(
            matches!(&error, DataDirectoryError::Locked(path) if path == first.path()),
            "{error}"
        );
        assert!(error.to_string().contains("eu-1 is in use by another process"), "{error}");

        drop(first);
        DataDirectory::open(&made.config).expect("free again");
    }

    #[test]
    fn a_missing_or_foreign_directory_is_refused_with_the_way_out() {
        let root = tempfile::tempdir().expect("a directory");
        let config = root.path().join(CONFIG_FILE);
        let error = DataDirectory::open(&config).expect_err("missing");
        assert!(matches!(error, DataDirectoryError::Missing(_)), "{error}");
        assert!(error.hint().expect("a hint").contains("warbler init"));

        std::fs::write(&config, "name = \"eu-1\"\n").expect("written");
        let error = DataDirectory::open(&config).expect_err("foreign");
        assert!(matches!(error, DataDirectoryError::Foreign(_)), "{error}");
        assert!(error.hint().expect("a hint").contains("node.key"));
        assert_eq!(names(root.path()), [CONFIG_FILE], "a refused directory is left as it was");
    }
}
