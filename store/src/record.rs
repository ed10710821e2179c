//! Records: one thing said in a conversation, as a key and a packed header in a segment document.
//!
//! A record is written once under its own key, so Automerge never has to pick a winner. Keys
//! order newest first (greatest depth first), because Automerge walks a map from its first key.
//! Invariant: a header holds nothing that a person wrote but names; words stand in bodies.

use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::id::{ConversationId, Front, Identity, MessageId, OriginId};
use crate::name::Name;

/// The greatest length of a body: 64 KiB.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// The greatest length of a content type, in bytes of ASCII.
pub const MAX_CONTENT_TYPE_BYTES: usize = 128;
/// The greatest length of a packed header: far above what its fields can take.
pub const MAX_HEADER_BYTES: usize = 1024;
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

/// What stays in documents of a body: its length and a digest that tells nothing without the
/// salt, which lives and dies with the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyReference {
    /// Length in bytes.
    pub length: u32,
    /// The first 16 bytes of BLAKE3 over salt and body.
    pub digest: [u8; 16],
}

/// What a person wrote, and its salt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Random.
    pub salt: [u8; 8],
    /// The words.
    pub bytes: Vec<u8>,
}

impl Body {
    /// What a document keeps of it.
    #[must_use]
    pub fn reference(&self) -> BodyReference {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.salt).update(&self.bytes);
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        BodyReference { length: self.bytes.len() as u32, digest }
    }

    /// Writes the salt, then the words as a run.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.raw(&self.salt).run(&self.bytes);
    }

    /// Reads what [`Body::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are cut off, or above [`MAX_BODY_BYTES`].
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let salt = decoder.array("body salt")?;
        let bytes = decoder.run("body", MAX_BODY_BYTES)?.to_vec();
        Ok(Self { salt, bytes })
    }
}

/// A post's packed header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The place in the timeline.
    pub front: Front,
    /// Who wrote it.
    pub author: Name,
    /// MIME type of the body.
    pub content_type: ContentType,
    /// The message it answers.
    pub reply_to: Option<Identity>,
    /// The message whose thread it belongs to.
    pub thread: Option<Identity>,
    /// The body.
    pub body: BodyReference,
}

/// The version and kind of a post's header, in its first byte.
const POST: u8 = 1;
const HAS_REPLY: u8 = 1;
const HAS_THREAD: u8 = 2;
const HAS_CONTENT_TYPE: u8 = 4;
const KNOWN_FLAGS: u8 = HAS_REPLY | HAS_THREAD | HAS_CONTENT_TYPE;

impl Header {
    /// The packed bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let plain = self.content_type == ContentType::default();
        let flags = flag(self.reply_to.is_some(), HAS_REPLY)
            | flag(self.thread.is_some(), HAS_THREAD)
            | flag(!plain, HAS_CONTENT_TYPE);
        let mut encoder = Encoder::with_capacity(48);
        encoder.u8(POST).u8(flags).raw(&self.front.to_bytes());
        encoder.run(self.author.as_str().as_bytes());
        if !plain {
            encoder.run(self.content_type.as_str().as_bytes());
        }
        for identity in [self.reply_to, self.thread].into_iter().flatten() {
            encoder.raw(&identity.0);
        }
        encoder.varint(u64::from(self.body.length)).raw(&self.body.digest);
        encoder.finish()
    }

    /// Reads what [`Header::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not a post's header of this version, or not in their only form.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let kind = decoder.u8("header kind")?;
        if kind != POST {
            return Err(DecodeError::invalid("header kind", format!("{kind} is unknown")));
        }
        let flags = decoder.u8("header flags")?;
        if flags & !KNOWN_FLAGS != 0 {
            return Err(DecodeError::invalid("header flags", format!("{flags:#04x} is unknown")));
        }
        let front = Front::from_bytes(decoder.array("front")?);
        let author = decoder.name("author")?;
        let content_type = if flags & HAS_CONTENT_TYPE == 0 {
            ContentType::default()
        } else {
            let given = decoder.text("content type", MAX_CONTENT_TYPE_BYTES)?.parse()?;
            if given == ContentType::default() {
                return Err(DecodeError::invalid("content type", "the default is left out"));
            }
            given
        };
        let mut identity = |what, bit| match flags & bit {
            0 => Ok(None),
            _ => decoder.array(what).map(|bytes| Some(Identity(bytes))),
        };
        let reply_to = identity("reply to", HAS_REPLY)?;
        let thread = identity("thread", HAS_THREAD)?;
        let length = decoder.count("body length", MAX_BODY_BYTES)? as u32;
        let body = BodyReference { length, digest: decoder.array("body digest")? };
        decoder.end("header")?;
        Ok(Self { front, author, content_type, reply_to, thread, body })
    }

    /// The id of the message that this header describes.
    #[must_use]
    pub fn id(&self, identity: Identity) -> MessageId {
        MessageId::new(self.front, identity)
    }
}

/// A MIME type: printable ASCII with one slash, at most [`MAX_CONTENT_TYPE_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentType(String);

impl ContentType {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ContentType {
    fn default() -> Self {
        Self("text/plain".to_owned())
    }
}

impl std::str::FromStr for ContentType {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let printable = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        let essence = text.split(';').next().unwrap_or_default().trim();
        let parts = essence.split_once('/');
        let whole = parts.is_some_and(|(kind, subtype)| {
            !kind.is_empty() && !subtype.is_empty() && !subtype.contains('/')
        });
        if !printable || !whole || text.len() > MAX_CONTENT_TYPE_BYTES {
            let why = format!("{text:?} is not a MIME type such as text/plain");
            return Err(DecodeError::invalid("content type", why));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A record with its place.
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

/// A message as it is read: the record, its conversation, and its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was said.
    pub conversation: ConversationId,
    /// Its id.
    pub id: MessageId,
    /// Its identity.
    pub identity: Identity,
    /// Its header.
    pub header: Header,
    /// What was said.
    pub body: Vec<u8>,
}

impl Message {
    /// The message of `record`, said in `conversation`, with the words of `body`.
    #[must_use]
    pub fn new(conversation: ConversationId, record: Record, body: &Body) -> Self {
        let Record { identity, header } = record;
        let id = header.id(identity);
        Self { conversation, id, identity, header, body: body.bytes.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
