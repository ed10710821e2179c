//! Identifiers: what each names, how it is made, and how it is written as text.
//!
//! Ids made from names are hashes with a domain prefix, so that every region computes the same
//! one without asking; ids of runs are random and must never be derived from disk.

use std::fmt;
use std::str::FromStr;

use crate::name::Name;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: {expected} expected")]
pub struct InvalidId {
    /// The text as given, cut to 80 characters.
    pub text: String,
    /// Which id was asked for.
    pub what: &'static str,
    /// The form it must have.
    pub expected: &'static str,
}

impl InvalidId {
    fn new(text: &str, what: &'static str, expected: &'static str) -> Self {
        Self { text: text.chars().take(80).collect(), what, expected }
    }
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// Length in bytes.
            pub const BYTES: usize = $bytes;

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let invalid = || InvalidId::new(text, $what, $expected);
                let mut bytes = [0; $bytes];
                if text.len() != 2 * $bytes || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
                    return Err(invalid());
                }
                for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    let pair = std::str::from_utf8(pair).map_err(|_| invalid())?;
                    *byte = u8::from_str_radix(pair, 16).map_err(|_| invalid())?;
                }
                Ok(Self(bytes))
            }
        }
    };
}

hex_id!(
    /// A server, proven by mutual TLS: BLAKE3 of its public key (DER SPKI).
    NodeId, 32, "node id", "64 hex digits"
);
hex_id!(
    /// One run of one node as a writer. Random, minted at every start; also the Automerge actor.
    OriginId, 16, "origin id", "32 hex digits"
);
hex_id!(
    /// A replication domain: BLAKE3 of its name.
    SpaceId, 16, "space id", "32 hex digits"
);
hex_id!(
    /// A conversation: BLAKE3 of space, name and incarnation.
    ConversationId, 16, "conversation id", "32 hex digits"
);
hex_id!(
    /// What makes two posts the same one: BLAKE3 of conversation, author and idempotency key.
    Identity, 16, "identity", "32 hex digits"
);
hex_id!(
    /// BLAKE3 of something.
    Digest, 32, "digest", "64 hex digits"
);

/// Hashes `parts`, each with its length before it, under a domain of its own.
pub(crate) fn hash_of<const N: usize>(domain: &str, parts: &[&[u8]]) -> [u8; N] {
    let mut hasher = blake3::Hasher::new_derive_key(domain);
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let mut bytes = [0; N];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..N]);
    bytes
}

impl NodeId {
    /// The id of the node that holds the key with this DER-encoded `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn of_public_key(spki: &[u8]) -> Self {
        Self(*blake3::hash(spki).as_bytes())
    }

    /// The first 8 bytes in hex: how a node is shown beside its name.
    #[must_use]
    pub fn short(&self) -> String {
        self.0[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl SpaceId {
    /// The id of the space called `name`.
    #[must_use]
    pub fn of(name: &Name) -> Self {
        Self(hash_of("warbler 2026 space id", &[name.as_str().as_bytes()]))
    }
}

impl ConversationId {
    /// The id of the conversation called `name` in `space`, in its `incarnation` (0 at first).
    #[must_use]
    pub fn of(space: SpaceId, name: &Name, incarnation: u32) -> Self {
        let parts: [&[u8]; 3] = [&space.0, name.as_str().as_bytes(), &incarnation.to_be_bytes()];
        Self(hash_of("warbler 2026 conversation id", &parts))
    }
}

impl Identity {
    /// The identity of what `author` posts in `conversation` under `key`.
    #[must_use]
    pub fn of(conversation: ConversationId, author: &Name, key: &[u8]) -> Self {
        let parts: [&[u8]; 3] = [&conversation.0, author.as_str().as_bytes(), key];
        Self(hash_of("warbler 2026 identity", &parts))
    }

    /// The half that is the tail of every id of the message.
    #[must_use]
    pub fn tail(&self) -> [u8; 8] {
        let mut tail = [0; 8];
        tail.copy_from_slice(&self.0[..8]);
        tail
    }
}

/// One segment of a conversation: the conversation and an ordinal, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// Whose segment.
    pub conversation: ConversationId,
    /// Which one.
    pub ordinal: u32,
}

impl SegmentId {
    /// Length in bytes.
    pub const BYTES: usize = 20;

    /// The bytes, in the order of (conversation, ordinal).
    #[must_use]
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(&self.conversation.0);
        bytes[16..].copy_from_slice(&self.ordinal.to_be_bytes());
        bytes
    }
}

/// Milliseconds since the Unix epoch.
pub type Millis = u64;

/// The greatest time an id can hold: 48 bits of milliseconds.
pub const MAX_MILLIS: Millis = (1 << 48) - 1;

/// The place of a message in the timeline: wall time and a counter within a millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Front {
    /// Milliseconds since the Unix epoch, 48 bits.
    pub millis: Millis,
    /// Orders what has equal milliseconds.
    pub counter: u16,
}

impl Front {
    /// The eight bytes, in the order of (millis, counter).
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        ((self.millis << 16) | u64::from(self.counter)).to_be_bytes()
    }

    /// The front with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        let word = u64::from_be_bytes(bytes);
        Self { millis: word >> 16, counter: (word & 0xffff) as u16 }
    }

    /// The next place: the counter, or the next millisecond when that is used up.
    #[must_use]
    pub fn next(self) -> Self {
        match self.counter.checked_add(1) {
            Some(counter) => Self { millis: self.millis, counter },
            None => Self { millis: self.millis + 1, counter: 0 },
        }
    }
}

/// A message: a ULID whose front is its place in the timeline and whose tail is the first half
/// of its [`Identity`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub [u8; 16]);

/// Crockford's base 32, as ULIDs use it.
const ULID_ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl MessageId {
    /// Length in bytes.
    pub const BYTES: usize = 16;
    /// The least id.
    pub const MIN: Self = Self([0; 16]);
    /// The greatest id.
    pub const MAX: Self = Self([0xff; 16]);

    /// The id of the message with `identity` at `front`.
    #[must_use]
    pub fn new(front: Front, identity: Identity) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&front.to_bytes());
        bytes[8..].copy_from_slice(&identity.tail());
        Self(bytes)
    }

    /// The place in the timeline.
    #[must_use]
    pub fn front(&self) -> Front {
        let mut front = [0; 8];
        front.copy_from_slice(&self.0[..8]);
        Front::from_bytes(front)
    }

    /// The half of the identity.
    #[must_use]
    pub fn tail(&self) -> [u8; 8] {
        let mut tail = [0; 8];
        tail.copy_from_slice(&self.0[8..]);
        tail
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = u128::from_be_bytes(self.0);
        (0..26).rev().try_for_each(|digit| {
            let index = (word >> (5 * digit)) as usize & 31;
            write!(f, "{}", char::from(ULID_ALPHABET[index]))
        })
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MessageId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid =
            || InvalidId::new(text, "message id", "a ULID (26 letters and digits, at most 7ZZ…)");
        if text.len() != 26 {
            return Err(invalid());
        }
        let mut word: u128 = 0;
        for (place, letter) in text.bytes().enumerate() {
            let upper = letter.to_ascii_uppercase();
            let digit =
                ULID_ALPHABET.iter().position(|&known| known == upper).ok_or_else(invalid)?;
            if place == 0 && digit > 7 {
                return Err(invalid());
            }
            word = (word << 5) | digit as u128;
        }
        Ok(Self(word.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_id_orders_like_its_front_and_then_its_tail() {
        let low = Identity([1; 16]);
        let high = Identity([2; 16]);
        let early = Front { millis: 5, counter: 9 };
        let late = Front { millis: 6, counter: 0 };
        assert!(MessageId::new(early, high) < MessageId::new(late, low));
        assert!(MessageId::new(early, low) < MessageId::new(early, high));
    }

    #[test]
    fn a_known_ulid_reads_and_writes_as_the_specification_says() {
        let text = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let id: MessageId = text.parse().expect("a valid ULID");
        assert_eq!(id.to_string(), text);
        assert_eq!(id.front().millis, 1_469_922_850_259);
        assert!("8ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse::<MessageId>().is_err(), "above 128 bits");
        assert!("01ARZ3NDEKTSV4RRFFQ69G5FA".parse::<MessageId>().is_err(), "too short");
        assert!("01ARZ3NDEKTSV4RRFFQ69G5FAU".parse::<MessageId>().is_err(), "U is no digit");
    }

    #[test]
    fn ids_made_from_names_never_change() {
        let space = SpaceId::of(&"main".parse().expect("a name"));
        let general = "general".parse().expect("a name");
        let conversation = ConversationId::of(space, &general, 0);
        let identity = Identity::of(conversation, &"ada".parse().expect("a name"), b"key-1");
        assert_eq!(identity.to_string(), "c41b233ed6af235d45ca90357ab7fa51");
        assert_eq!(
            [space.to_string(), conversation.to_string()],
            ["60d3fa408f9a80f9e6718610c9fdec68", "1b122f10b333592c868cff278e6e7a95"]
        );
    }

    proptest! {
        #[test]
        fn every_message_id_survives_its_text(bytes: [u8; 16]) {
            let id = MessageId(bytes);
            prop_assert_eq!(id.to_string().parse::<MessageId>().expect("own text"), id);
            prop_assert_eq!(id.to_string().to_lowercase().parse::<MessageId>().expect("lower"), id);
        }

        #[test]
        fn no_text_makes_parsing_panic(text: String) {
            let _ = text.parse::<MessageId>();
            let _ = text.parse::<NodeId>();
        }
    }
}
