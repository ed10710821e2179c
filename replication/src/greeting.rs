//! The greeting: what both sides of a fresh connection say first, and what they agree on.
//!
//! It must not know how bytes travel, nor what a session does with the agreement. Its one
//! invariant: two nodes that both agree hold the same [`Agreement`], whichever of them dialled.
//!
//! ```text
//! magic "WARBLER\n"   8 bytes
//! length              u32, of all that follows
//! versions            u8 count (1 to 16), then u16 each, most wanted first
//! node                32 bytes
//! origin              16 bytes
//! cluster version     u64
//! max frame bytes     u32
//! spaces              u16 count (0 to 1,024), then 16 bytes each
//! ```
//!
//! Integers are big-endian. Bytes after the spaces are ignored, so that a later version may
//! append fields. The layout up to there is for ever: it is read before a version is agreed on.

use std::collections::BTreeSet;

use warbler_store::id::{NodeId, OriginId, SpaceId};

use crate::frame;

/// The protocol version that this build speaks best.
pub const PROTOCOL_VERSION: u16 = 3;

/// All versions that this build speaks, most wanted first: this one and the one before.
pub const PROTOCOL_VERSIONS: [u16; 2] = [PROTOCOL_VERSION, 2];

/// The first bytes of every greeting.
pub const MAGIC: [u8; 8] = *b"WARBLER\n";

/// Length of the magic and the length field, in bytes: what is read before anything is allocated.
pub const HEADER_BYTES: usize = 12;

/// The greatest length of a greeting after its header, in bytes.
pub const MAX_BODY_BYTES: usize = 32 * 1024;

/// The greatest number of protocol versions in a greeting.
pub const MAX_VERSIONS: usize = 16;

/// The greatest number of spaces in a greeting, and so in a cluster file.
pub const MAX_SPACES: usize = 1024;

/// The greatest frame that this build takes, in bytes.
pub const MAX_FRAME_BYTES: u32 = frame::MAX_FRAME_BYTES as u32;

/// The least frame limit, in bytes, that a peer may have: senders of this version fill frames up
/// to it without asking.
pub const LEAST_FRAME_LIMIT_BYTES: u32 = 2 * 1024 * 1024;

/// What a node says of itself on a fresh connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The protocol versions it speaks, most wanted first.
    pub versions: Vec<u16>,
    /// Its run.
    pub origin: OriginId,
    /// Who it is; must equal what TLS proved.
    pub node: NodeId,
    /// The version of its cluster file.
    pub cluster_version: u64,
    /// The spaces that, by its cluster file, both nodes may see.
    pub spaces: Vec<SpaceId>,
    /// The greatest frame it takes, in bytes.
    pub max_frame_bytes: u32,
}

/// Why bytes are not a greeting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGreeting {
    /// The magic is another one.
    #[error(
        "not a Warbler peer: the connection began with {found:02x?} where \"WARBLER\\n\" was expected"
    )]
    Magic {
        /// The bytes in its place.
        found: [u8; 8],
    },
    /// It says that it is too long.
    #[error("the greeting says it has {length} bytes, at most {MAX_BODY_BYTES} are allowed")]
    TooLong {
        /// The length as said, in bytes.
        length: u32,
    },
    /// The bytes end early, or go on.
    #[error("the greeting is cut off or has a wrong length: its {field} cannot be read")]
    Truncated {
        /// What was being read.
        field: &'static str,
    },
    /// A list is empty or too long.
    #[error("the greeting lists {count} {list}, {least} to {greatest} are allowed")]
    Count {
        /// Which list.
        list: &'static str,
        /// Its length.
        count: usize,
        /// The least length.
        least: usize,
        /// The greatest length.
        greatest: usize,
    },
}

impl Greeting {
    /// The bytes of the greeting, header included. The limits on the lists are those of
    /// [`MAX_VERSIONS`] and [`MAX_SPACES`]; what is above them is left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let versions = &self.versions[..self.versions.len().min(MAX_VERSIONS)];
        let spaces = &self.spaces[..self.spaces.len().min(MAX_SPACES)];
        let mut body = Vec::with_capacity(128 + spaces.len() * SpaceId::BYTES);
        body.push(versions.len() as u8);
        for version in versions {
            body.extend(version.to_be_bytes());
        }
        body.extend(self.node.0);
        body.extend(self.origin.0);
        body.extend(self.cluster_version.to_be_bytes());
        body.extend(self.max_frame_bytes.to_be_bytes());
        body.extend((spaces.len() as u16).to_be_bytes());
        for space in spaces {
            body.extend(space.0);
        }
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend(MAGIC);
        bytes.extend((body.len() as u32).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    /// How many bytes follow this header; read that many and hand them to [`Self::decode`].
    ///
    /// # Errors
    /// Another magic, or a length above [`MAX_BODY_BYTES`].
    pub fn body_length(header: &[u8; HEADER_BYTES]) -> Result<usize, InvalidGreeting> {
        let [m0, m1, m2, m3, m4, m5, m6, m7, l0, l1, l2, l3] = *header;
        let found = [m0, m1, m2, m3, m4, m5, m6, m7];
        if found != MAGIC {
            return Err(InvalidGreeting::Magic { found });
        }
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        match usize::try_from(length) {
            Ok(bytes) if bytes <= MAX_BODY_BYTES => Ok(bytes),
            Ok(_) | Err(_) => Err(InvalidGreeting::TooLong { length }),
        }
    }

    /// The greeting whose body, all after the header, is `body`.
    ///
    /// # Errors
    /// A body that is too short, or a list beyond its limits.
    pub fn decode(body: &[u8]) -> Result<Self, InvalidGreeting> {
        let mut rest = Rest(body);
        let [versions] = rest.take::<1>("number of versions")?;
        let versions = usize::from(versions);
        in_limits("protocol versions", versions, 1, MAX_VERSIONS)?;
        let versions = (0..versions)
            .map(|_| rest.take("versions").map(u16::from_be_bytes))
            .collect::<Result<_, _>>()?;
        let node = NodeId(rest.take("node id")?);
        let origin = OriginId(rest.take("origin")?);
        let cluster_version = u64::from_be_bytes(rest.take("cluster version")?);
        let max_frame_bytes = u32::from_be_bytes(rest.take("frame limit")?);
        let spaces = usize::from(u16::from_be_bytes(rest.take("number of spaces")?));
        in_limits("spaces", spaces, 0, MAX_SPACES)?;
        let spaces =
            (0..spaces).map(|_| rest.take("spaces").map(SpaceId)).collect::<Result<_, _>>()?;
        Ok(Self { versions, origin, node, cluster_version, spaces, max_frame_bytes })
    }
}

/// What is left to read of a body.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], InvalidGreeting> {
        let (taken, rest) =
            self.0.split_first_chunk::<N>().ok_or(InvalidGreeting::Truncated { field })?;
        self.0 = rest;
        Ok(*taken)
    }
}

fn in_limits(
    list: &'static str,
    count: usize,
    least: usize,
    greatest: usize,
) -> Result<(), InvalidGreeting> {
    if (least..=greatest).contains(&count) {
        Ok(())
    } else {
        Err(InvalidGreeting::Count { list, count, least, greatest })
    }
}

/// What two nodes go on with after their greetings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// The protocol version: the greatest that both speak.
    pub version: u16,
    /// The spaces that both named, in order.
    pub spaces: Vec<SpaceId>,
    /// The greatest frame that either may send, in bytes.
    pub max_frame_bytes: u32,
}

/// Why a valid greeting is refused. The text goes to the peer too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GreetingRefusal {
    /// No version is spoken by both.
    #[error(
        "no common protocol version: {ours_name} speaks {ours:?}, {theirs_name} speaks {theirs:?}"
    )]
    Version {
        /// Our node, shortened.
        ours_name: String,
        /// What we speak.
        ours: Vec<u16>,
        /// The peer, shortened.
        theirs_name: String,
        /// What the peer speaks.
        theirs: Vec<u16>,
    },
    /// The greeting names another node than TLS proved.
    #[error(
        "the greeting says that it is from node {claimed}, but the key is that of node {proven}"
    )]
    Node {
        /// As the greeting says.
        claimed: NodeId,
        /// As TLS proved.
        proven: NodeId,
    },
    /// Both sides are the same node.
    #[error("node {0} reached itself: the address of another node leads here")]
    Ourselves(NodeId),
    /// The peer takes only smaller frames than are sent.
    #[error(
        "the peer takes frames of at most {asked} bytes, but they may have {LEAST_FRAME_LIMIT_BYTES}"
    )]
    FrameLimit {
        /// The limit it named, in bytes.
        asked: u32,
    },
}

/// What follows from both greetings; `proven` is who the peer is by TLS.
///
/// # Errors
/// See [`GreetingRefusal`].
pub fn agree(
    ours: &Greeting,
    theirs: &Greeting,
    proven: NodeId,
) -> Result<Agreement, GreetingRefusal> {
    if theirs.node != proven {
        return Err(GreetingRefusal::Node { claimed: theirs.node, proven });
    }
    if theirs.node == ours.node {
        return Err(GreetingRefusal::Ourselves(ours.node));
    }
    if theirs.max_frame_bytes < LEAST_FRAME_LIMIT_BYTES {
        return Err(GreetingRefusal::FrameLimit { asked: theirs.max_frame_bytes });
    }
    let common = ours.versions.iter().filter(|version| theirs.versions.contains(version));
    let version = *common.max().ok_or_else(|| GreetingRefusal::Version {
        ours_name: ours.node.short(),
        ours: ours.versions.clone(),
        theirs_name: theirs.node.short(),
        theirs: theirs.versions.clone(),
    })?;
    let named: BTreeSet<_> = ours.spaces.iter().collect();
    let spaces: BTreeSet<_> = theirs.spaces.iter().filter(|space| named.contains(space)).collect();
    Ok(Agreement {
        version,
        spaces: spaces.into_iter().copied().collect(),
        max_frame_bytes: ours.max_frame_bytes.min(theirs.max_frame_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn greeting(node: u8) -> Greeting {
        Greeting {
            versions: PROTOCOL_VERSIONS.to_vec(),
            origin: OriginId([node + 0x10; 16]),
            node: NodeId([node; 32]),
            cluster_version: 7,
            spaces: vec![SpaceId([1; 16]), SpaceId([2; 16])],
            max_frame_bytes: MAX_FRAME_BYTES,
        }
    }

    fn read(bytes: &[u8]) -> Result<Greeting, InvalidGreeting> {
        let header = bytes.first_chunk().ok_or(InvalidGreeting::Truncated { field: "header" })?;
        let length = Greeting::body_length(header)?;
        let body = &bytes[HEADER_BYTES..];
        Greeting::decode(&body[..length.min(body.len())])
    }

    #[test]
    fn the_bytes_of_a_greeting_never_change() {
        let hex: String = greeting(0xa).encode().iter().map(|b| format!("{b:02x}")).collect();
        let expected = [
            "574152424c45520a",
            "00000063",
            "0200030002",
            &"0a".repeat(32),
            &"1a".repeat(16),
            "0000000000000007",
            "00200000",
            "0002",
            &"01".repeat(16),
            &"02".repeat(16),
        ];
        assert_eq!(hex, expected.concat());
    }

    #[test]
    fn fields_appended_by_a_later_version_are_ignored() {
        let mut bytes = greeting(1).encode();
        bytes.extend(b"something new");
        let length = (bytes.len() - HEADER_BYTES) as u32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        assert_eq!(read(&bytes), Ok(greeting(1)));
    }

    #[test]
    fn a_greeting_cut_anywhere_is_refused() {
        let bytes = greeting(1).encode();
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{length} bytes were taken for a greeting");
        }
    }

    #[test]
    fn what_is_not_a_greeting_is_refused_before_anything_is_allocated() {
        let header = *b"GET / HTTP/1";
        let error = Greeting::body_length(&header).expect_err("HTTP is no greeting");
        assert!(error.to_string().starts_with("not a Warbler peer"), "{error}");

        let mut header = [0xff; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        let error = Greeting::body_length(&header).expect_err("4 GiB are too many");
        assert_eq!(error, InvalidGreeting::TooLong { length: u32::MAX });
    }

    #[test]
    fn both_sides_agree_on_the_same_things() {
        let mut left = greeting(1);
        left.versions = vec![3, 2, 1];
        left.spaces = vec![SpaceId([9; 16]), SpaceId([2; 16]), SpaceId([1; 16])];
        let mut right = greeting(2);
        right.versions = vec![2, 4];
        left.max_frame_bytes = MAX_FRAME_BYTES + 9;
        right.max_frame_bytes = MAX_FRAME_BYTES + 1;

        let agreed = agree(&left, &right, right.node).expect("a common version");
        assert_eq!(Ok(&agreed), agree(&right, &left, left.node).as_ref());
        assert_eq!(agreed.version, 2);
        assert_eq!(agreed.spaces, [SpaceId([1; 16]), SpaceId([2; 16])]);
        assert_eq!(agreed.max_frame_bytes, MAX_FRAME_BYTES + 1);
    }

    #[test]
    fn a_refusal_names_both_lists_of_versions() {
        let mut theirs = greeting(2);
        theirs.versions = vec![7, 8];
        let error = agree(&greeting(1), &theirs, theirs.node).expect_err("no common version");
        assert_eq!(
            error.to_string(),
            "no common protocol version: 0101010101010101 speaks [3, 2], 0202020202020202 speaks [7, 8]"
        );
    }

    #[test]
    fn a_greeting_in_another_nodes_name_is_refused() {
        let proven = NodeId([3; 32]);
        let error = agree(&greeting(1), &greeting(2), proven).expect_err("another key");
        assert_eq!(error, GreetingRefusal::Node { claimed: NodeId([2; 32]), proven });
        let error = agree(&greeting(1), &greeting(1), NodeId([1; 32])).expect_err("a mirror");
        assert_eq!(error, GreetingRefusal::Ourselves(NodeId([1; 32])));
    }

    #[test]
    fn a_peer_that_takes_only_smaller_frames_than_are_sent_is_refused() {
        let mut theirs = greeting(2);
        theirs.max_frame_bytes = MAX_FRAME_BYTES - 1;
        let error = agree(&greeting(1), &theirs, theirs.node).expect_err("too small");
        assert_eq!(error, GreetingRefusal::FrameLimit { asked: MAX_FRAME_BYTES - 1 });
    }

    fn any_greeting() -> impl Strategy<Value = Greeting> {
        let versions = prop::collection::vec(any::<u16>(), 1..=MAX_VERSIONS);
        let spaces = prop::collection::vec(any::<[u8; 16]>(), 0..64);
        let ids = (any::<[u8; 16]>(), any::<[u8; 32]>());
        (versions, spaces, ids, any::<u64>(), any::<u32>()).prop_map(
            |(versions, spaces, (origin, node), cluster_version, max_frame_bytes)| Greeting {
                versions,
                origin: OriginId(origin),
                node: NodeId(node),
                cluster_version,
                spaces: spaces.into_iter().map(SpaceId).collect(),
                max_frame_bytes,
            },
        )
    }

    proptest! {
        #[test]
        fn every_greeting_survives_its_bytes(greeting in any_greeting()) {
            prop_assert_eq!(read(&greeting.encode()), Ok(greeting));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = Greeting::decode(&bytes);
            let _ = read(&bytes);
        }
    }

    #[test]
    fn the_longest_greeting_fits_its_limit() {
        let longest = Greeting {
            versions: vec![1; MAX_VERSIONS],
            spaces: vec![SpaceId([1; 16]); MAX_SPACES],
            ..greeting(1)
        };
        assert_eq!(read(&longest.encode()), Ok(longest));
    }
}
