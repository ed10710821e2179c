//! Records: one thing said or done in a conversation, as a key and a packed value in a document.
//!
//! A record is written once under its own key, so Automerge never has to pick a winner. Keys
//! order newest first (greatest depth first), because Automerge walks a map from its first key.
//! Invariant: a record holds nothing that a person wrote but names; words stand in bodies.

mod body;
mod message;
mod post;
mod setting;
mod statement;

pub use body::{Body, BodyReference, ContentType, MAX_BODY_BYTES, MAX_CONTENT_TYPE_BYTES};
pub use message::{Message, MessageState, Rank, Revision, Withdrawal};
pub use post::Header;
pub use setting::{Access, Role, Setting, SettingKey, SettingKind, SettingRecord};
pub use statement::{Edit, MAX_EMOJI_BYTES, Reaction, Redaction, Statement};

use crate::bytes::{DecodeError, Decoder};
use crate::id::{Identity, MessageId, OriginId};

/// The greatest length of a packed record: far above what its fields can take.
pub const MAX_RECORD_BYTES: usize = 1024;
/// The greatest depth a key can hold.
pub const MAX_DEPTH: u64 = (1 << 48) - 1;

/// Base 64 with digits in the order of their bytes, so that keys order as their bytes do.
const DIGITS: &[u8; 64] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
/// Bytes of an unpacked key: inverted depth, origin, identity.
const KEY_BYTES: usize = 6 + 16 + 16;
/// Letters of a key: four for three bytes, the last group cut.
const KEY_LETTERS: usize = 51;

/// Where a record stands in its segment document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordKey {
    /// The depth of the entry that carries it.
    pub depth: u64,
    /// The origin that wrote it.
    pub origin: OriginId,
    /// What it is about: for a post, the message.
    pub identity: Identity,
}

impl RecordKey {
    /// The key as Automerge holds it: 51 letters, the greatest depth first.
    #[must_use]
    pub fn to_text(self) -> String {
        let mut bytes = [0; KEY_BYTES + 1];
        bytes[..6].copy_from_slice(&(MAX_DEPTH - self.depth.min(MAX_DEPTH)).to_be_bytes()[2..]);
        bytes[6..22].copy_from_slice(&self.origin.0);
        bytes[22..38].copy_from_slice(&self.identity.0);
        let mut text = String::with_capacity(KEY_LETTERS + 1);
        for group in bytes.chunks_exact(3) {
            let word = u32::from_be_bytes([0, group[0], group[1], group[2]]);
            for place in (0..4).rev() {
                text.push(char::from(DIGITS[(word >> (6 * place)) as usize & 63]));
            }
        }
        text.truncate(KEY_LETTERS);
        text
    }

    /// The key with this text.
    ///
    /// # Errors
    /// When the text is no key.
    pub fn from_text(text: &str) -> Result<Self, DecodeError> {
        let invalid = || DecodeError::invalid("record key", format!("`{text}`"));
        if text.len() != KEY_LETTERS {
            return Err(DecodeError::invalid("record key", format!("{} letters", text.len())));
        }
        let mut bytes = [0; KEY_BYTES + 1];
        let mut letters = text.bytes().chain([DIGITS[0]]);
        for group in bytes.chunks_exact_mut(3) {
            let mut word = 0_u32;
            for letter in letters.by_ref().take(4) {
                let digit = DIGITS.binary_search(&letter).map_err(|_| invalid())?;
                word = (word << 6) | digit as u32;
            }
            group.copy_from_slice(&word.to_be_bytes()[1..]);
        }
        if bytes[KEY_BYTES] != 0 {
            return Err(invalid());
        }
        let mut decoder = Decoder::new(&bytes);
        let mut depth = [0; 8];
        depth[2..].copy_from_slice(decoder.raw("depth", 6)?);
        Ok(Self {
            depth: MAX_DEPTH - u64::from_be_bytes(depth),
            origin: OriginId(decoder.array("origin")?),
            identity: Identity(decoder.array("identity")?),
        })
    }
}

/// A post with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub identity: Identity,
    /// What it says.
    pub header: Header,
}

impl Record {
    /// The id of the message.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.header.id(self.identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Front;
    use crate::id::MAX_MILLIS;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            front: Front { millis: 1_523_386_154_000, counter: 3 },
            author: "user0038".parse().expect("a name"),
            content_type: ContentType::default(),
            reply_to: Some(Identity([7; 16])),
            thread: None,
            body: Body { salt: [1; 8], bytes: b"Sup sup".to_vec() }.reference(),
        }
    }

    #[test]
    fn a_header_has_the_bytes_that_the_format_says() {
        let hex: String = header().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            [
                "0101",
                "0162b0e3fc100003",
                "087573657230303338",
                &"07".repeat(16),
                "07",
                "6773d1aae5527bd91463c324b75215db",
            ]
            .concat()
        );
    }

    #[test]
    fn keys_order_newest_first_then_by_origin_and_identity() {
        let key = |depth, origin: u8, identity: u8| {
            RecordKey { depth, origin: OriginId([origin; 16]), identity: Identity([identity; 16]) }
                .to_text()
        };
        assert!(key(9, 5, 5) < key(8, 1, 1));
        assert!(key(8, 1, 9) < key(8, 2, 1));
        assert!(key(8, 1, 1) < key(8, 1, 2));
    }

    #[test]
    fn a_content_type_must_look_like_one() {
        assert!("text/markdown; charset=utf-8".parse::<ContentType>().is_ok());
        for bad in ["", "text", "/plain", "text/", "te\nxt/plain", "a/b/c"] {
            assert!(bad.parse::<ContentType>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_key_survives_its_text(depth in 0..=MAX_DEPTH, origin: [u8; 16], identity: [u8; 16]) {
            let key = RecordKey { depth, origin: OriginId(origin), identity: Identity(identity) };
            let text = key.to_text();
            prop_assert_eq!(RecordKey::from_text(&text).expect("own text"), key);
        }

        #[test]
        fn no_bytes_make_a_header_panic_and_all_that_decode_are_canonical(bytes: Vec<u8>) {
            let _ = RecordKey::from_text(&String::from_utf8_lossy(&bytes));
            if let Ok(header) = Header::decode(&bytes) {
                prop_assert_eq!(header.encode(), bytes);
            }
        }

        #[test]
        fn a_header_with_a_flipped_bit_is_refused_or_another_header(place: usize, bit in 0..8_u8) {
            let mut bytes = header().encode();
            let place = place % bytes.len();
            bytes[place] ^= 1 << bit;
            if let Ok(other) = Header::decode(&bytes) {
                prop_assert_ne!(&other, &header());
                prop_assert_eq!(other.encode(), bytes);
            }
        }

        #[test]
        fn a_header_survives_its_bytes(
            millis in 0..=MAX_MILLIS, counter: u16, reply: Option<[u8; 16]>,
            thread: Option<[u8; 16]>, words: Vec<u8>, markdown: bool,
        ) {
            let content_type = if markdown { "text/markdown" } else { "text/plain" };
            let written = Header {
                front: Front { millis, counter },
                author: "ada".parse().expect("a name"),
                content_type: content_type.parse().expect("a type"),
                reply_to: reply.map(Identity),
                thread: thread.map(Identity),
                body: Body { salt: [9; 8], bytes: words }.reference(),
            };
            prop_assert_eq!(Header::decode(&written.encode()).expect("own bytes"), written);
        }
    }
}
