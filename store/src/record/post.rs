//! A post's packed header: all that a document holds of a message.
//!
//! Invariant: it holds nothing that a person wrote but names.

use super::body::{BodyReference, ContentType};
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::id::{Front, Identity, MessageId};
use crate::name::Name;

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
pub(super) const POST: u8 = 1;
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
        self.body.encode(&mut encoder);
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
        let content_type = ContentType::decode(&mut decoder, flags & HAS_CONTENT_TYPE != 0)?;
        let mut identity = |what, bit| match flags & bit {
            0 => Ok(None),
            _ => decoder.array(what).map(|bytes| Some(Identity(bytes))),
        };
        let reply_to = identity("reply to", HAS_REPLY)?;
        let thread = identity("thread", HAS_THREAD)?;
        let body = BodyReference::decode(&mut decoder)?;
        decoder.end("header")?;
        Ok(Self { front, author, content_type, reply_to, thread, body })
    }

    /// The id of the message that this header describes.
    #[must_use]
    pub fn id(&self, identity: Identity) -> MessageId {
        MessageId::new(self.front, identity)
    }
}
