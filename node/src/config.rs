//! The settings of one node: `warbler.toml`, and what environment variables override.
//!
//! It must not know what is done with them, nor read anything but its file and the three
//! variables. Its one invariant: a [`Config`] is valid as a whole; in particular the API listens
//! on loopback only, because no token keys can be configured yet.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;
use warbler_store::engine::Memory;
use warbler_store::name::Name;

mod cluster;
mod host_port;
mod size;
mod source;
mod span;

pub use cluster::{Cluster, ClusterNode, ClusterSpace, OwnEntryError};
pub use host_port::{HostPort, InvalidHostPort};
pub use size::{InvalidSize, Size};
pub use source::{ConfigError, MAX_FILE_BYTES};
pub use span::parse_span;

use source::Source;

/// The defaults, with comments: what `warbler init` writes, but for the node's own values.
pub const DEFAULT_TOML: &str = include_str!("config/warbler.toml");

/// Overrides `[quic] listen`.
pub const QUIC_LISTEN_VARIABLE: &str = "WARBLER_QUIC_LISTEN";
/// Overrides `[http] listen`.
pub const HTTP_LISTEN_VARIABLE: &str = "WARBLER_HTTP_LISTEN";
/// Overrides `cluster`.
pub const CLUSTER_VARIABLE: &str = "WARBLER_CLUSTER";

const DEFAULT_CLUSTER: &str = "../cluster.toml";
const DEFAULT_QUIC_LISTEN: &str = "127.0.0.1:7421";
const DEFAULT_HTTP_LISTEN: &str = "127.0.0.1:7420";
const DEFAULT_ERASE_WITHIN: Duration = Duration::from_secs(60 * 60);
const DEFAULT_KEEP_LOG: Duration = Duration::from_secs(60 * 60);
const DEFAULT_RESERVE: Size = Size(64 << 20);
const DEFAULT_MEMORY: Size = Size(64 << 20);
const LEAST_MEMORY: Size = Size(Memory::LEAST as u64);

/// The settings of one node. Paths are as they are opened: relative ones of the file have its
/// directory before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The node's name, to find mix-ups: the cluster file must call the node's key the same.
    pub name: Name,
    /// The cluster file.
    pub cluster: PathBuf,
    /// The directory of the key and the store; by default that of the file.
    pub data_dir: PathBuf,
    /// For peers.
    pub quic: QuicConfig,
    /// For clients.
    pub http: HttpConfig,
    /// For the store.
    pub store: StoreConfig,
    /// What is erased.
    pub erasure: ErasureConfig,
    /// The log of entries.
    pub log: LogConfig,
    /// What the store may keep in memory.
    pub memory: MemoryConfig,
}

/// How erased words leave the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureConfig {
    /// Erased bytes leave the files within this time from when the node learns of an erasure.
    pub within: Duration,
}

/// How long entries stay in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Whether entries that every node holds ever leave the log.
    pub trim: bool,
    /// How long they stay then: who follows may be away so long.
    pub keep: Duration,
}

/// How peers are heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuicConfig {
    /// The UDP address to listen on. An IP address: names would be resolved once, at start, and
    /// then mislead.
    pub listen: SocketAddr,
}

/// How clients are heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// The TCP address to listen on; always a loopback address.
    pub listen: SocketAddr,
}

/// How the store lives on its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Bytes kept aside for a store in need, and bytes that must be free besides for the node to
    /// take writes.
    pub reserve: Size,
}

/// What the store may keep in memory, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryConfig {
    /// Blocks of the store's files, their indexes and filters included.
    pub cache: Size,
    /// Rows that are in no file yet but the write-ahead log.
    pub write_buffers: Size,
    /// For each space: conversations and documents that were written last.
    pub documents: Size,
}

impl MemoryConfig {
    /// The engine's part of it.
    pub(crate) fn engine(&self) -> Memory {
        let bytes = |size: Size| usize::try_from(size.0).unwrap_or(usize::MAX);
        Memory { cache: bytes(self.cache), write_buffers: bytes(self.write_buffers) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    name: Spanned<String>,
    cluster: Option<Spanned<PathBuf>>,
    data_dir: Option<PathBuf>,
    quic: Option<RawListen>,
    http: Option<RawListen>,
    erasure: Option<RawErasure>,
    log: Option<RawLog>,
    store: Option<RawStore>,
    memory: Option<RawMemory>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawErasure {
    within: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    trim: Option<bool>,
    keep: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStore {
    reserve: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMemory {
    cache: Option<Spanned<String>>,
    write_buffers: Option<Spanned<String>>,
    documents: Option<Spanned<String>>,
}

impl RawMemory {
    fn read(self, source: &Source<'_>) -> Result<MemoryConfig, ConfigError> {
        let read = |field: &str, given: Option<Spanned<String>>| {
            let Some(given) = given else { return Ok(DEFAULT_MEMORY) };
            let size: Size = source.value(field, &given)?;
            if size < LEAST_MEMORY {
                let problem = format!("{size} is too little to work with: {LEAST_MEMORY} at least");
                return Err(source.refuse(field, &given.span(), &problem));
            }
            Ok(size)
        };
        Ok(MemoryConfig {
            cache: read("memory.cache", self.cache)?,
            write_buffers: read("memory.write_buffers", self.write_buffers)?,
            documents: read("memory.documents", self.documents)?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListen {
    listen: Option<Spanned<String>>,
}

impl Config {
    /// The settings in the file at `path`, with this process's environment over them.
    ///
    /// # Errors
    /// The file cannot be read, or it or a variable says something that is not allowed.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = source::read_text(path)?;
        Self::parse(path, &text, &|variable| std::env::var(variable).ok())
    }

    /// The settings that `text`, as the file at `path`, says, with `environment` over them.
    ///
    /// # Errors
    /// The text or a variable says something that is not allowed.
    pub fn parse(
        path: &Path,
        text: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let source = Source { path, text };
        let raw: RawConfig = source.parse()?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let cluster = match (environment(CLUSTER_VARIABLE), raw.cluster) {
            (Some(variable), _) => PathBuf::from(variable),
            (None, Some(given)) => given.into_inner(),
            (None, None) => PathBuf::from(DEFAULT_CLUSTER),
        };
        let quic = Listen::find(
            "quic.listen",
            (QUIC_LISTEN_VARIABLE, environment(QUIC_LISTEN_VARIABLE)),
            raw.quic.and_then(|section| section.listen),
            DEFAULT_QUIC_LISTEN,
        );
        let http = Listen::find(
            "http.listen",
            (HTTP_LISTEN_VARIABLE, environment(HTTP_LISTEN_VARIABLE)),
            raw.http.and_then(|section| section.listen),
            DEFAULT_HTTP_LISTEN,
        );
        let within = raw.erasure.and_then(|section| section.within);
        let within = span(&source, "erasure.within", within, DEFAULT_ERASE_WITHIN)?;
        let (trim, keep) = raw.log.map_or((None, None), |section| (section.trim, section.keep));
        let keep = span(&source, "log.keep", keep, DEFAULT_KEEP_LOG)?;
        let reserve = raw.store.and_then(|section| section.reserve);
        let reserve = reserve.map(|given| source.value("store.reserve", &given)).transpose()?;
        Ok(Self {
            store: StoreConfig { reserve: reserve.unwrap_or(DEFAULT_RESERVE) },
            name: source.value("name", &raw.name)?,
            cluster: directory.join(cluster),
            data_dir: raw.data_dir.map_or_else(
                || directory.to_owned(),
                |given| {
                    if given == Path::new(".") {
                        directory.to_owned()
                    } else {
                        directory.join(given)
                    }
                },
            ),
            quic: QuicConfig { listen: quic.address(&source)? },
            http: HttpConfig { listen: http.loopback(&source)? },
            erasure: ErasureConfig { within },
            log: LogConfig { trim: trim.unwrap_or(false), keep },
            memory: raw.memory.unwrap_or_default().read(&source)?,
        })
    }

    /// [`DEFAULT_TOML`] with these values in it.
    #[must_use]
    pub fn commented_toml(name: &Name, quic: SocketAddr, http: SocketAddr) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let values = [
            ("\"node-1\"".to_owned(), quoted(name.as_str())),
            (quoted(DEFAULT_QUIC_LISTEN), quoted(&quic.to_string())),
            (quoted(DEFAULT_HTTP_LISTEN), quoted(&http.to_string())),
        ];
        // Line by line, so that no value is ever looked for inside another one.
        DEFAULT_TOML
            .lines()
            .map(|line| {
                let value = values.iter().find(|(old, _)| line.ends_with(&format!("= {old}")));
                value.map_or_else(|| line.to_owned(), |(old, new)| line.replace(old, new)) + "\n"
            })
            .collect()
    }
}

/// The span of time that a field gives.
fn span(
    source: &Source<'_>,
    field: &str,
    given: Option<Spanned<String>>,
    default: Duration,
) -> Result<Duration, ConfigError> {
    let Some(given) = given else { return Ok(default) };
    parse_span(given.get_ref()).map_err(|problem| source.refuse(field, &given.span(), &problem))
}

/// Where a listening address was given.
enum At {
    Variable(&'static str),
    Line(std::ops::Range<usize>),
    Default,
}

/// A listening address as it was given.
struct Listen {
    field: &'static str,
    text: String,
    at: At,
}

impl Listen {
    fn find(
        field: &'static str,
        (variable, set): (&'static str, Option<String>),
        given: Option<Spanned<String>>,
        default: &str,
    ) -> Self {
        let (text, at) = match (set, given) {
            (Some(text), _) => (text, At::Variable(variable)),
            (None, Some(given)) => {
                let span = given.span();
                (given.into_inner(), At::Line(span))
            }
            (None, None) => (default.to_owned(), At::Default),
        };
        Self { field, text, at }
    }

    fn address(&self, source: &Source<'_>) -> Result<SocketAddr, ConfigError> {
        parse_listen(&self.text).ok_or_else(|| {
            let text = &self.text;
            self.refuse(source, format!(
                "`{text}` is not an address to listen on: an IP address and a port expected, such \
                 as 127.0.0.1:7421 or [::]:7421"
            ))
        })
    }

    fn loopback(&self, source: &Source<'_>) -> Result<SocketAddr, ConfigError> {
        let address = self.address(source)?;
        check_loopback(address).map_err(|problem| self.refuse(source, problem))?;
        Ok(address)
    }

    fn refuse(&self, source: &Source<'_>, problem: String) -> ConfigError {
        match &self.at {
            At::Variable(variable) => ConfigError::Variable { variable, problem },
            At::Line(span) => source.refuse(self.field, span, &problem),
            At::Default => source.refuse(self.field, &(0..0), &problem),
        }
    }
}

/// An address to listen on: `localhost` is taken for 127.0.0.1, no other name is.
pub(crate) fn parse_listen(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}").parse().ok(),
        None => text.parse().ok(),
    }
}

/// Refuses an address for the API that is reachable from elsewhere, with the reason.
pub(crate) fn check_loopback(address: SocketAddr) -> Result<(), String> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(format!(
        "{address} is not a loopback address, and no token keys are configured: whoever reaches \
         it could read and write everything; listen on 127.0.0.1 or [::1]"
    ))
}

#[cfg(test)]
mod tests;
