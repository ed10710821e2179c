//! Rows of messages: what a reader sees, and the words.
//!
//! `timeline` and the words that show have the same keys, so that a page reads both side by side.
//! Invariant: the order of the keys of a conversation is the order of its messages.

use super::RowType;
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::engine::{EngineError, Table};
use crate::id::{ConversationId, Front, Identity, MessageId, OriginId};
use crate::record::{Body, BodyReference, Header, MAX_BODY_BYTES, MessageState, Record};
use crate::seal;

/// Where a message stands: its id, with the whole identity in place of the half. So two messages
/// whose identities share the half, and whose fronts are equal, have a row each everywhere, and
/// which came first makes no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageKey {
    /// Where it was said.
    pub conversation: ConversationId,
    /// Its place in the timeline.
    pub front: Front,
    /// Its identity.
    pub identity: Identity,
}

impl MessageKey {
    /// Length in bytes.
    pub const BYTES: usize = 40;
    /// Length of the part that conversation and id determine, in bytes.
    pub const ID_PREFIX_BYTES: usize = 32;

    /// Where `record` stands in `conversation`.
    #[must_use]
    pub fn of(conversation: ConversationId, record: &Record) -> Self {
        Self { conversation, front: record.header.front, identity: record.identity }
    }

    /// The message's id.
    #[must_use]
    pub fn id(&self) -> MessageId {
        MessageId::new(self.front, self.identity)
    }

    /// What the keys of all messages of `conversation` with this id begin with.
    #[must_use]
    pub fn id_prefix(conversation: ConversationId, id: MessageId) -> Vec<u8> {
        [conversation.0, id.0].concat()
    }

    /// The bytes of the key.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.conversation.0);
        bytes[16..24].copy_from_slice(&self.front.to_bytes());
        bytes[24..].copy_from_slice(&self.identity.0);
        bytes
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            conversation: ConversationId(decoder.array("conversation")?),
            front: Front::from_bytes(decoder.array("front")?),
            identity: Identity(decoder.array("identity")?),
        })
    }
}

/// `timeline`: a message and what became of it, under conversation, front and identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineRow {
    /// What became of it.
    pub state: MessageState,
    /// Its header, as it was posted.
    pub header: Header,
}

impl TimelineRow {
    /// What a row's key says.
    ///
    /// # Errors
    /// When the key is not one of this table.
    pub fn parse(key: &[u8]) -> Result<MessageKey, EngineError> {
        let mut decoder = Decoder::new(key);
        let read = MessageKey::read(&mut decoder);
        read.and_then(|read| decoder.end("key").map(|()| read))
            .map_err(|source| seal::damaged(Self::TABLE, key, source))
    }

    /// The reference of the words that show, were the message visible.
    #[must_use]
    pub fn body(&self) -> BodyReference {
        self.state.body(&self.header)
    }
}

impl RowType for TimelineRow {
    const TABLE: Table = Table::Timeline;
    const VERSION: u8 = 2;
    type Key = MessageKey;

    fn key(key: &MessageKey) -> Vec<u8> {
        key.to_bytes().to_vec()
    }

    fn encode(&self, encoder: &mut Encoder) {
        self.state.encode(encoder);
        encoder.raw(&self.header.encode());
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let state = MessageState::decode(decoder)?;
        Ok(Self { state, header: Header::decode(decoder.take_rest())? })
    }
}

/// `bodies`: a body with its salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKey {
    /// The words that show, keyed like the timeline, so that a page reads both side by side.
    Shown(MessageKey),
    /// All other words, behind all that show: those of earlier and later edits, of copies, and
    /// titles.
    Behind {
        /// Where they were said.
        conversation: ConversationId,
        /// When, as their own record says, so that what expires is one range; titles have the
        /// greatest front.
        front: Front,
        /// The message, or the setting.
        identity: Identity,
        /// The digest of their reference.
        digest: [u8; 16],
    },
}

/// What stands in the place of the front in the keys of words that do not show: no message has
/// it, since it lies in the year 10889.
const BEHIND_ALL: [u8; 8] = [0xff; 8];
/// The front of titles.
const TITLES: Front = Front { millis: crate::id::MAX_MILLIS, counter: u16::MAX };

impl BodyKey {
    /// The place of a title.
    #[must_use]
    pub fn title(conversation: ConversationId, setting: Identity, digest: [u8; 16]) -> Self {
        Self::Behind { conversation, front: TITLES, identity: setting, digest }
    }

    /// The place of a body of an entry in quarantine, which nobody could read more of: kept so
    /// that the entry can be passed on, and tried again.
    #[must_use]
    pub fn quarantined(
        conversation: Option<ConversationId>,
        (origin, seq): (OriginId, u64),
        index: usize,
    ) -> Self {
        let conversation = conversation.unwrap_or(ConversationId(origin.0));
        let mut digest = [0; 16];
        digest[..8].copy_from_slice(&seq.to_be_bytes());
        digest[8..].copy_from_slice(&(index as u64).to_be_bytes());
        Self::Behind { conversation, front: TITLES, identity: Identity(origin.0), digest }
    }

    /// Of which entry a body is kept, if the key is of one in quarantine: of any other key's bytes
    /// it makes an entry that nobody has.
    #[must_use]
    pub fn quarantined_entry(key: &[u8]) -> Option<(OriginId, u64)> {
        let mut decoder = Decoder::new(key);
        let mut read = || {
            decoder.raw("conversation", 16)?;
            let behind = decoder.array("behind")? == BEHIND_ALL;
            let front = Front::from_bytes(decoder.array("front")?);
            let origin = OriginId(decoder.array("origin")?);
            Ok::<_, DecodeError>((behind && front == TITLES, origin, decoder.u64("seq")?))
        };
        let (fits, origin, seq) = read().ok()?;
        fits.then_some((origin, seq))
    }

    /// Front and identity in the key of words that do not show.
    #[must_use]
    pub fn behind_at(key: &[u8]) -> Option<(Front, Identity)> {
        if key.get(16..24) != Some(&BEHIND_ALL[..]) {
            return None;
        }
        let front = key.get(24..).and_then(<[u8]>::first_chunk::<8>)?;
        let identity = key.get(32..).and_then(<[u8]>::first_chunk::<16>)?;
        Some((Front::from_bytes(*front), Identity(*identity)))
    }

    /// Whose words a row of the table holds: the identity of the message or setting, and whether
    /// they are a title's.
    #[must_use]
    pub fn identity_in(key: &[u8]) -> Option<(Identity, bool)> {
        let place = key.get(16..).and_then(<[u8]>::first_chunk::<8>)?;
        let behind = *place == BEHIND_ALL;
        let start = if behind { 32 } else { 24 };
        let identity = key.get(start..).and_then(<[u8]>::first_chunk::<16>)?;
        let title = behind && key.get(24..32) == Some(&TITLES.to_bytes()[..]);
        Some((Identity(*identity), title))
    }

    /// The prefix of the words of `conversation` that do not show.
    #[must_use]
    pub fn behind_prefix(conversation: ConversationId) -> Vec<u8> {
        [&conversation.0[..], &BEHIND_ALL].concat()
    }

    /// The prefix of the words that do not show of records about `identity` at `front`.
    #[must_use]
    pub fn record_prefix(
        conversation: ConversationId,
        front: Front,
        identity: Identity,
    ) -> Vec<u8> {
        let prefix = Self::behind_prefix(conversation);
        [&prefix[..], &front.to_bytes(), &identity.0].concat()
    }
}

impl RowType for Body {
    const TABLE: Table = Table::Bodies;
    type Key = BodyKey;

    fn key(key: &BodyKey) -> Vec<u8> {
        match key {
            BodyKey::Shown(message) => message.to_bytes().to_vec(),
            BodyKey::Behind { conversation, front, identity, digest } => {
                let prefix = BodyKey::record_prefix(*conversation, *front, *identity);
                [&prefix[..], digest].concat()
            }
        }
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.raw(&self.salt).raw(&self.bytes);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let salt = decoder.array("salt")?;
        let bytes = decoder.take_rest();
        if bytes.len() > MAX_BODY_BYTES {
            return Err(DecodeError::invalid("body", format!("{} bytes", bytes.len())));
        }
        Ok(Self { salt, bytes: bytes.to_vec() })
    }
}
