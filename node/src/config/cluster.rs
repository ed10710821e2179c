//! The cluster file: which nodes there are, with their keys and addresses, and which spaces live
//! in which regions.
//!
//! It must not know which of the nodes we are, but for [`Cluster::own_entry`]. Its one invariant:
//! names, ids and addresses of nodes are unique, and every region of a space has a node.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use warbler_replication::greeting::MAX_SPACES;
use warbler_store::id::{NodeId, SpaceId};
use warbler_store::name::Name;

use super::host_port::HostPort;
use super::source::{ConfigError, Source, read_text};

/// A valid cluster file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Where it was read, for messages.
    pub file: PathBuf,
    /// Its version, from 1; whoever changes the file raises it.
    pub version: u64,
    /// All nodes, in the order of the file.
    pub nodes: Vec<ClusterNode>,
    /// All spaces, in the order of the file; the first is the default one. Never empty.
    pub spaces: Vec<ClusterSpace>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterNode {
    /// What people call it.
    pub name: Name,
    /// Where it stands; durability counts regions.
    pub region: Name,
    /// Whose machines it stands on, for people.
    pub cloud: Option<Name>,
    /// Where its peers dial it (UDP).
    pub address: HostPort,
    /// Its key, pinned.
    pub id: NodeId,
}

/// One space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSpace {
    /// What people call it.
    pub name: Name,
    /// Follows from the name.
    pub id: SpaceId,
    /// Where it lives, in the order of the file; nothing of it goes elsewhere.
    pub regions: Vec<Name>,
}

/// Why a node does not find itself in the cluster file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnEntryError {
    /// The key is not in the file.
    #[error("{file} has no node with the id {id} of this node's key")]
    Missing {
        /// The cluster file.
        file: PathBuf,
        /// Our id.
        id: NodeId,
    },
    /// The file calls another key by our name.
    #[error("{file} pins another key for `{name}`: it says {pinned}, this node's key is {id}")]
    OtherKey {
        /// The cluster file.
        file: PathBuf,
        /// Our name.
        name: Name,
        /// The id in the file.
        pinned: NodeId,
        /// Our id.
        id: NodeId,
    },
    /// The file calls our key by another name.
    #[error(
        "{file} calls the node with this node's key `{pinned}`, but warbler.toml calls it `{name}`"
    )]
    OtherName {
        /// The cluster file.
        file: PathBuf,
        /// Our name.
        name: Name,
        /// The name in the file.
        pinned: Name,
    },
}

impl OwnEntryError {
    /// What to do now.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Missing { .. } => "add the entry that `warbler init` printed for this node, on all nodes, and raise `version`".to_owned(),
            Self::OtherKey { .. } => "start the node with the data directory whose key is pinned, or pin this key on all nodes and raise `version`".to_owned(),
            Self::OtherName { .. } => "give the node the same name in both files".to_owned(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCluster {
    version: Spanned<u64>,
    node: Vec<RawNode>,
    space: Vec<RawSpace>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    name: Spanned<String>,
    region: Spanned<String>,
    cloud: Option<Spanned<String>>,
    address: Spanned<String>,
    id: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpace {
    name: Spanned<String>,
    regions: Spanned<Vec<Spanned<String>>>,
}

impl Cluster {
    /// The cluster file at `path`.
    ///
    /// # Errors
    /// It cannot be read, or says something that is not allowed.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &read_text(path)?)
    }

    /// The cluster that `text`, as the file at `path`, says.
    ///
    /// # Errors
    /// It says something that is not allowed.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let source = Source { path, text };
        let raw: RawCluster = source.parse()?;
        if *raw.version.get_ref() == 0 {
            return Err(source.refuse("version", &raw.version.span(), &"versions begin at 1"));
        }
        let nodes = read_nodes(&source, raw.node)?;
        let spaces = read_spaces(&source, raw.space, &nodes)?;
        Ok(Self { file: path.to_owned(), version: raw.version.into_inner(), nodes, spaces })
    }

    /// The node with this id.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&ClusterNode> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The space with this name.
    #[must_use]
    pub fn space(&self, name: &Name) -> Option<&ClusterSpace> {
        self.spaces.iter().find(|space| space.name == *name)
    }

    /// The spaces that live in the region of the node with this id, in the order of the file.
    #[must_use]
    pub fn spaces_of(&self, id: NodeId) -> Vec<&ClusterSpace> {
        let Some(node) = self.node(id) else { return Vec::new() };
        self.spaces.iter().filter(|space| space.regions.contains(&node.region)).collect()
    }

    /// The spaces that both nodes may see (P7), in the order of the file.
    #[must_use]
    pub fn shared_spaces(&self, one: NodeId, other: NodeId) -> Vec<SpaceId> {
        let others = self.spaces_of(other);
        let both = self.spaces_of(one).into_iter().filter(|space| others.contains(space));
        both.map(|space| space.id).collect()
    }

    /// The entry of the node that calls itself `name` and holds the key of `id`.
    ///
    /// # Errors
    /// There is none, or name and key belong to different ones.
    pub fn own_entry(&self, name: &Name, id: NodeId) -> Result<&ClusterNode, OwnEntryError> {
        let file = self.file.clone();
        match self.node(id) {
            Some(node) if node.name == *name => Ok(node),
            Some(node) => Err(OwnEntryError::OtherName {
                file,
                name: name.clone(),
                pinned: node.name.clone(),
            }),
            None => Err(match self.nodes.iter().find(|node| node.name == *name) {
                Some(node) => {
                    OwnEntryError::OtherKey { file, name: name.clone(), pinned: node.id, id }
                }
                None => OwnEntryError::Missing { file, id },
            }),
        }
    }
}

impl ClusterNode {
    /// The node's entry as it stands in a cluster file.
    #[must_use]
    pub fn entry(&self) -> String {
        let line = |field: &str, text: &str| {
            format!("{field} = {}\n", toml::Value::String(text.to_owned()))
        };
        let cloud = self.cloud.as_ref().map(|cloud| line("cloud", cloud.as_str()));
        [
            "[[node]]\n".to_owned(),
            line("name", self.name.as_str()),
            line("region", self.region.as_str()),
            cloud.unwrap_or_default(),
            line("address", &self.address.to_string()),
            line("id", &self.id.to_string()),
        ]
        .concat()
    }
}

fn read_nodes(source: &Source<'_>, raw: Vec<RawNode>) -> Result<Vec<ClusterNode>, ConfigError> {
    let mut seen = Seen { source, values: BTreeSet::new() };
    let mut nodes = Vec::with_capacity(raw.len());
    for node in raw {
        let cloud = node.cloud.map(|cloud| source.value("node.cloud", &cloud)).transpose()?;
        let read = ClusterNode {
            name: source.value("node.name", &node.name)?,
            region: source.value("node.region", &node.region)?,
            cloud,
            address: source.value("node.address", &node.address)?,
            id: source.value("node.id", &node.id)?,
        };
        seen.once("node.name", read.name.to_string(), &node.name.span())?;
        seen.once("node.address", read.address.to_string(), &node.address.span())?;
        seen.once("node.id", read.id.to_string(), &node.id.span())?;
        nodes.push(read);
    }
    Ok(nodes)
}

fn read_spaces(
    source: &Source<'_>,
    raw: Vec<RawSpace>,
    nodes: &[ClusterNode],
) -> Result<Vec<ClusterSpace>, ConfigError> {
    let everywhere: BTreeSet<_> = nodes.iter().map(|node| &node.region).collect();
    let mut seen = Seen { source, values: BTreeSet::new() };
    let mut spaces = Vec::with_capacity(raw.len());
    for space in raw {
        let name: Name = source.value("space.name", &space.name)?;
        seen.once("space.name", name.to_string(), &space.name.span())?;
        if spaces.len() == MAX_SPACES {
            let problem = format!("at most {MAX_SPACES} spaces are allowed");
            return Err(source.refuse("space.name", &space.name.span(), &problem));
        }
        let span = space.regions.span();
        let mut regions = Vec::new();
        for given in space.regions.into_inner() {
            let region: Name = source.value("space.regions", &given)?;
            if !everywhere.contains(&region) {
                let problem = format!("no node stands in the region `{region}`");
                return Err(source.refuse("space.regions", &given.span(), &problem));
            }
            if regions.contains(&region) {
                let problem = format!("the region `{region}` is named twice");
                return Err(source.refuse("space.regions", &given.span(), &problem));
            }
            regions.push(region);
        }
        if regions.is_empty() {
            return Err(source.refuse("space.regions", &span, &"a space needs a region"));
        }
        spaces.push(ClusterSpace { id: SpaceId::of(&name), name, regions });
    }
    if spaces.is_empty() {
        return Err(source.refuse("space", &(0..0), &"a cluster needs a space"));
    }
    Ok(spaces)
}

/// Values that may stand in a file only once.
struct Seen<'a> {
    source: &'a Source<'a>,
    values: BTreeSet<(&'static str, String)>,
}

impl Seen<'_> {
    fn once(
        &mut self,
        field: &'static str,
        value: String,
        span: &Range<usize>,
    ) -> Result<(), ConfigError> {
        let problem = format!("`{value}` is given twice");
        if self.values.insert((field, value)) {
            Ok(())
        } else {
            Err(self.source.refuse(field, span, &problem))
        }
    }
}

#[cfg(test)]
mod tests;
