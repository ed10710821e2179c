//! The tables: what each holds, how its keys are built, and what its values say.
//!
//! Keys are big-endian, so that their order is their meaning's order; values are sealed
//! (`seal.rs`). Invariant: this file is the only one that builds or reads a key or a value.
//! `FORMAT.md` says the same for people.

use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::digest::RowSum;
use crate::engine::{Batch, EngineError, Table, View};
use crate::id::{
    ConversationId, Digest, Front, Identity, MessageId, Millis, NodeId, OriginId, SegmentId,
    SpaceId,
};
use crate::name::Name;
use crate::record::{Body, Header, MAX_BODY_BYTES, Record};
use crate::seal;

/// The version of every value written today.
const VERSION: u8 = 1;
/// The version of the whole format; a store of a newer one is refused.
pub const FORMAT_VERSION: u32 = 1;

/// A row type: its table, its key and its value, encode and decode facing each other.
pub trait RowType: Sized {
    /// Where the rows lie.
    const TABLE: Table;
    /// What a key is made of.
    type Key;
    /// The key's bytes.
    fn key(key: &Self::Key) -> Vec<u8>;
    /// The value's content.
    fn encode(&self, encoder: &mut Encoder);
    /// Reads the content.
    ///
    /// # Errors
    /// When it is not what [`RowType::encode`] writes.
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError>;
}

/// Reads the row under `key`.
///
/// # Errors
/// When the engine fails or the row is damaged.
pub fn get<R: RowType>(
    view: &(impl View + ?Sized),
    key: &R::Key,
) -> Result<Option<R>, EngineError> {
    let key = R::key(key);
    match view.get(R::TABLE, &key)? {
        Some(value) => open(&key, &value).map(Some),
        None => Ok(None),
    }
}

/// Reads a row from its stored key and value.
///
/// # Errors
/// When the row is damaged.
pub fn open<R: RowType>(key: &[u8], value: &[u8]) -> Result<R, EngineError> {
    let content = seal::open(R::TABLE, key, VERSION, value)?;
    let mut decoder = Decoder::new(content);
    let row = R::decode(&mut decoder).and_then(|row| decoder.end(R::TABLE.name()).map(|()| row));
    row.map_err(|source| seal::damaged(R::TABLE, key, source))
}

/// The stored key and value of a row.
pub fn sealed<R: RowType>(key: &R::Key, row: &R) -> (Vec<u8>, Vec<u8>) {
    let key = R::key(key);
    let mut encoder = Encoder::new();
    row.encode(&mut encoder);
    let value = seal::seal(R::TABLE, &key, VERSION, &encoder.finish());
    (key, value)
}

/// Adds the writing of a row to `batch`.
pub fn put<R: RowType>(batch: &mut Batch, key: &R::Key, row: &R) {
    let (key, value) = sealed(key, row);
    batch.put(R::TABLE, key, value);
}

/// The first key behind all that begin with `prefix`.
#[must_use]
pub fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0xff; prefix.len() + 64]
}

/// `log`: an entry's exact bytes and its chain digest, under space, origin and seq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// The chain digest up to and with this entry.
    pub digest: Digest,
    /// The bytes as the origin wrote them.
    pub entry: Vec<u8>,
}

impl RowType for LogRow {
    const TABLE: Table = Table::Log;
    type Key = (SpaceId, OriginId, u64);

    fn key((space, origin, seq): &Self::Key) -> Vec<u8> {
        [&space.0[..], &origin.0, &seq.to_be_bytes()].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.raw(&self.digest.0).run(&self.entry);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let digest = Digest(decoder.array("chain digest")?);
        let entry = decoder.run("entry", crate::entry::MAX_ENTRY_BYTES)?.to_vec();
        Ok(Self { digest, entry })
    }
}

/// `segments`: one row for each entry that changed a document, under document, origin and seq.
/// The document is loaded from those entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentEntryRow;

impl DocumentEntryRow {
    /// The prefix of the rows of `document`.
    #[must_use]
    pub fn prefix(document: SegmentId) -> Vec<u8> {
        document.to_bytes().to_vec()
    }

    /// Origin and seq of a row's key.
    ///
    /// # Errors
    /// When the key is not one of this table.
    pub fn parse(key: &[u8]) -> Result<(OriginId, u64), EngineError> {
        let mut decoder = Decoder::new(key);
        let mut parse = || {
            decoder.raw("document", SegmentId::BYTES)?;
            Ok((OriginId(decoder.array("origin")?), decoder.u64("seq")?))
        };
        parse().map_err(|source: DecodeError| seal::damaged(Self::TABLE, key, source))
    }
}

impl RowType for DocumentEntryRow {
    const TABLE: Table = Table::Segments;
    type Key = (SegmentId, OriginId, u64);

    fn key((document, origin, seq): &Self::Key) -> Vec<u8> {
        [&document.to_bytes()[..], &origin.0, &seq.to_be_bytes()].concat()
    }

    fn encode(&self, _: &mut Encoder) {}

    fn decode(_: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

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

    fn to_bytes(self) -> [u8; Self::BYTES] {
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

/// `timeline`: the header of a message, under conversation, front and identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineRow {
    /// Its header.
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
}

impl RowType for TimelineRow {
    const TABLE: Table = Table::Timeline;
    type Key = MessageKey;

    fn key(key: &MessageKey) -> Vec<u8> {
        key.to_bytes().to_vec()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.raw(&self.header.encode());
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { header: Header::decode(decoder.take_rest())? })
    }
}

/// `bodies`: a body with its salt, keyed like the timeline. A second copy of a message under the
/// same id (an import of one message in two regions) stands behind the first, with its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyKey {
    /// The message.
    pub message: MessageKey,
    /// The digest of the body's reference, for all copies but the first to arrive.
    pub copy: Option<[u8; 16]>,
}

impl RowType for Body {
    const TABLE: Table = Table::Bodies;
    type Key = BodyKey;

    fn key(key: &BodyKey) -> Vec<u8> {
        let copy = key.copy.as_ref().map_or(&[][..], |digest| &digest[..]);
        [&key.message.to_bytes()[..], copy].concat()
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

const INDEX_CONVERSATION: u8 = b'c';
const INDEX_IDENTITY: u8 = b'i';
const INDEX_NAME: u8 = b'n';

/// `index`, `c`: the state of a conversation, under its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationRow {
    /// Its name.
    pub name: Name,
    /// Which conversation of that name.
    pub incarnation: u32,
    /// The segment that takes appends.
    pub ordinal: u32,
    /// Records in that segment.
    pub records: u32,
    /// Bytes of keys and headers in that segment.
    pub record_bytes: u32,
    /// Messages in the timeline.
    pub messages: u64,
    /// The greatest id in the timeline, if any.
    pub last: Option<MessageId>,
    /// The sum of its rows' digests.
    pub sum: RowSum,
}

impl RowType for ConversationRow {
    const TABLE: Table = Table::Index;
    type Key = ConversationId;

    fn key(id: &ConversationId) -> Vec<u8> {
        [&[INDEX_CONVERSATION][..], &id.0].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.run(self.name.as_str().as_bytes()).u32(self.incarnation);
        encoder.u32(self.ordinal).u32(self.records).u32(self.record_bytes);
        encoder.varint(self.messages).raw(&self.last.unwrap_or(MessageId::MIN).0);
        encoder.raw(&self.sum.to_bytes());
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: decoder.name("conversation name")?,
            incarnation: decoder.u32("incarnation")?,
            ordinal: decoder.u32("ordinal")?,
            records: decoder.u32("records")?,
            record_bytes: decoder.u32("record bytes")?,
            messages: decoder.varint("messages")?,
            last: Some(MessageId(decoder.array("last id")?)).filter(|id| *id != MessageId::MIN),
            sum: RowSum::from_bytes(decoder.array("row sum")?),
        })
    }
}

/// `index`, `n`: the id of the conversation of a name, under space and name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameRow {
    /// The conversation.
    pub conversation: ConversationId,
}

impl NameRow {
    /// The prefix of the names of `space`.
    #[must_use]
    pub fn prefix(space: SpaceId) -> Vec<u8> {
        [&[INDEX_NAME][..], &space.0].concat()
    }
}

impl RowType for NameRow {
    const TABLE: Table = Table::Index;
    type Key = (SpaceId, Name);

    fn key((space, name): &Self::Key) -> Vec<u8> {
        [&Self::prefix(*space)[..], name.as_str().as_bytes()].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.raw(&self.conversation.0);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { conversation: ConversationId(decoder.array("conversation")?) })
    }
}

/// One identity with its canonical place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The identity.
    pub identity: Identity,
    /// The least front at which it is held.
    pub front: Front,
}

/// `index`, `i`: the identities with one tail, under conversation and tail. Almost always one:
/// two make a row of two.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdentityRow {
    /// By identity.
    pub placed: Vec<Placed>,
}

impl IdentityRow {
    /// Where `identity` stands.
    #[must_use]
    pub fn front(&self, identity: Identity) -> Option<Front> {
        self.placed.iter().find(|placed| placed.identity == identity).map(|placed| placed.front)
    }

    /// What the id of any copy names: the message at its front, or the only one with its tail.
    #[must_use]
    pub fn find(&self, id: MessageId) -> Option<Placed> {
        let exact = self.placed.iter().find(|placed| placed.front == id.front());
        let alone = self.placed.first().filter(|_| self.placed.len() == 1);
        exact.or(alone).copied()
    }

    /// Sets where `identity` stands.
    pub fn place(&mut self, identity: Identity, front: Front) {
        match self.placed.binary_search_by_key(&identity, |placed| placed.identity) {
            Ok(index) => self.placed[index].front = front,
            Err(index) => self.placed.insert(index, Placed { identity, front }),
        }
    }
}

impl RowType for IdentityRow {
    const TABLE: Table = Table::Index;
    type Key = (ConversationId, [u8; 8]);

    fn key((conversation, tail): &Self::Key) -> Vec<u8> {
        [&[INDEX_IDENTITY][..], &conversation.0, tail].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.varint(self.placed.len() as u64);
        for placed in &self.placed {
            encoder.raw(&placed.identity.0).raw(&placed.front.to_bytes());
        }
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let count = decoder.varint("identities")?;
        let placed = (0..count).map(|_| {
            let identity = Identity(decoder.array("identity")?);
            Ok(Placed { identity, front: Front::from_bytes(decoder.array("front")?) })
        });
        Ok(Self { placed: placed.collect::<Result<_, DecodeError>>()? })
    }
}

const META_FORMAT: u8 = b'f';
const META_NODE: u8 = b'n';
const META_ORIGIN: u8 = b'o';
const META_SPACE: u8 = b's';

/// `meta`, `f`: the version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatRow {
    /// See [`FORMAT_VERSION`].
    pub version: u32,
}

impl RowType for FormatRow {
    const TABLE: Table = Table::Meta;
    type Key = ();

    fn key((): &()) -> Vec<u8> {
        vec![META_FORMAT]
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.u32(self.version);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { version: decoder.u32("format version")? })
    }
}

/// `meta`, `n`: the node whose store this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRow {
    /// The node.
    pub node: NodeId,
}

impl RowType for NodeRow {
    const TABLE: Table = Table::Meta;
    type Key = ();

    fn key((): &()) -> Vec<u8> {
        vec![META_NODE]
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.raw(&self.node.0);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { node: NodeId(decoder.array("node")?) })
    }
}

/// `meta`, `o`: what is held of an origin, under space and origin. All of a space's rows are its
/// version vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginRow {
    /// The node whose run it is.
    pub node: NodeId,
    /// The node's region.
    pub region: Name,
    /// When the run started.
    pub started: Millis,
    /// Up to which seq everything is held.
    pub seq: u64,
    /// The depth of the entry with that seq.
    pub depth: u64,
    /// The chain digest up to and with that entry.
    pub digest: Digest,
}

impl OriginRow {
    /// The prefix of the origins of `space`.
    #[must_use]
    pub fn prefix(space: SpaceId) -> Vec<u8> {
        [&[META_ORIGIN][..], &space.0].concat()
    }

    /// The origin in a row's key.
    ///
    /// # Errors
    /// When the key is not one of these rows.
    pub fn parse(key: &[u8]) -> Result<OriginId, EngineError> {
        match key.get(17..).and_then(|origin| origin.try_into().ok()) {
            Some(origin) => Ok(OriginId(origin)),
            None => Err(seal::damaged(Self::TABLE, key, "a key of another length")),
        }
    }
}

impl RowType for OriginRow {
    const TABLE: Table = Table::Meta;
    type Key = (SpaceId, OriginId);

    fn key((space, origin): &Self::Key) -> Vec<u8> {
        [&Self::prefix(*space)[..], &origin.0].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.raw(&self.node.0).run(self.region.as_str().as_bytes()).u64(self.started);
        encoder.varint(self.seq).varint(self.depth).raw(&self.digest.0);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            node: NodeId(decoder.array("node")?),
            region: decoder.name("region")?,
            started: decoder.u64("start time")?,
            seq: decoder.varint("seq")?,
            depth: decoder.varint("depth")?,
            digest: Digest(decoder.array("chain digest")?),
        })
    }
}

/// `meta`, `s`: the state of a space, under its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceRow {
    /// Its name.
    pub name: Name,
    /// The greatest front seen that was not too far ahead.
    pub clock: Front,
    /// Conversations in it.
    pub conversations: u64,
    /// Messages in their timelines.
    pub messages: u64,
    /// Ids met that lay too far ahead of the clock.
    pub ahead: u64,
    /// The sum of all rows' digests.
    pub sum: RowSum,
}

impl RowType for SpaceRow {
    const TABLE: Table = Table::Meta;
    type Key = SpaceId;

    fn key(space: &SpaceId) -> Vec<u8> {
        [&[META_SPACE][..], &space.0].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.run(self.name.as_str().as_bytes()).raw(&self.clock.to_bytes());
        encoder.varint(self.conversations).varint(self.messages).varint(self.ahead);
        encoder.raw(&self.sum.to_bytes());
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: decoder.name("space name")?,
            clock: Front::from_bytes(decoder.array("clock")?),
            conversations: decoder.varint("conversations")?,
            messages: decoder.varint("messages")?,
            ahead: decoder.varint("ahead")?,
            sum: RowSum::from_bytes(decoder.array("row sum")?),
        })
    }
}
