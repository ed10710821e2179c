//! Bodies: what a person wrote, with the salt that lives and dies with it, and what documents
//! keep of it.
//!
//! Invariant: a reference tells nothing of its body to whoever lacks the salt.

use crate::bytes::{DecodeError, Decoder, Encoder};

/// The greatest length of a body: 64 KiB.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// The greatest length of a content type, in bytes of ASCII.
pub const MAX_CONTENT_TYPE_BYTES: usize = 128;

/// What stays in documents of a body: its length and a digest that tells nothing without the
/// salt, which lives and dies with the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyReference {
    /// Length in bytes.
    pub length: u32,
    /// The first 16 bytes of BLAKE3 over salt and body.
    pub digest: [u8; 16],
}

impl BodyReference {
    /// Writes length and digest.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.varint(u64::from(self.length)).raw(&self.digest);
    }

    /// Reads what [`BodyReference::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are cut off, or the length is above [`MAX_BODY_BYTES`].
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let length = decoder.count("body length", MAX_BODY_BYTES)? as u32;
        Ok(Self { length, digest: decoder.array("body digest")? })
    }
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

impl ContentType {
    /// Reads one as a run, if it is `given`; the default is always left out.
    ///
    /// # Errors
    /// When it is no content type, or the default.
    pub(crate) fn decode(decoder: &mut Decoder<'_>, given: bool) -> Result<Self, DecodeError> {
        if !given {
            return Ok(Self::default());
        }
        let content_type = decoder.text("content type", MAX_CONTENT_TYPE_BYTES)?.parse()?;
        if content_type == Self::default() {
            return Err(DecodeError::invalid("content type", "the default is left out"));
        }
        Ok(content_type)
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
