//! Rows of the index about what was done: edits, reactions, threads, settings.
//!
//! The first byte of a key is a letter that names the kind of row; letters are not used again.

use super::RowType;
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::engine::{EngineError, Table};
use crate::id::{ConversationId, Front, Identity};
use crate::name::Name;
use crate::record::{Rank, Revision, SettingKey, SettingKind, SettingRecord};
use crate::seal;

const INDEX_EDIT: u8 = b'e';
const INDEX_REACTION: u8 = b'r';
const INDEX_SETTING: u8 = b's';
const INDEX_THREAD: u8 = b't';

/// The most records of one setting that can stand at once.
const MAX_STANDING: usize = 4096;

/// Which edit: its message, and its rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EditKey {
    /// Where.
    pub conversation: ConversationId,
    /// The message.
    pub message: Identity,
    /// The edit's rank.
    pub rank: Rank,
}

/// `index`, `e`: an edit of a message, the one that shows included, under conversation, message
/// and rank: the history of the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditRow(pub Revision);

impl EditRow {
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = INDEX_EDIT;

    /// The prefix of the edits of a message.
    #[must_use]
    pub fn prefix(conversation: ConversationId, message: Identity) -> Vec<u8> {
        [&[INDEX_EDIT][..], &conversation.0, &message.0].concat()
    }
}

impl RowType for EditRow {
    const TABLE: Table = Table::Index;
    type Key = EditKey;

    fn key(EditKey { conversation, message, rank }: &EditKey) -> Vec<u8> {
        let prefix = Self::prefix(*conversation, *message);
        let (depth, front) = (rank.depth.to_be_bytes(), rank.front.to_bytes());
        [&prefix[..], &depth, &rank.origin.0, &front].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        self.0.encode(encoder);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Revision::decode(decoder).map(Self)
    }
}

/// Which reaction: the message, and the identity of what one person says with one emoji.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReactionKey {
    /// Where.
    pub conversation: ConversationId,
    /// The message.
    pub message: Identity,
    /// Of the person and the emoji.
    pub reaction: Identity,
}

/// `index`, `r`: the last word of one person about one emoji.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReactionRow {
    /// Its rank: the greatest counts.
    pub rank: Rank,
    /// Whose.
    pub user: Name,
    /// What.
    pub emoji: Name,
    /// Set, or taken back.
    pub on: bool,
}

impl ReactionRow {
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = INDEX_REACTION;

    /// The prefix of the reactions to a message.
    #[must_use]
    pub fn prefix(conversation: ConversationId, message: Identity) -> Vec<u8> {
        [&[INDEX_REACTION][..], &conversation.0, &message.0].concat()
    }
}

impl RowType for ReactionRow {
    const TABLE: Table = Table::Index;
    type Key = ReactionKey;

    fn key(ReactionKey { conversation, message, reaction }: &ReactionKey) -> Vec<u8> {
        [&Self::prefix(*conversation, *message)[..], &reaction.0].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        self.rank.encode(encoder);
        encoder.run(self.user.as_str().as_bytes()).run(self.emoji.as_str().as_bytes());
        encoder.u8(u8::from(self.on));
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            rank: Rank::decode(decoder)?,
            user: decoder.name("user")?,
            emoji: decoder.name("emoji")?,
            on: decoder.flag("reaction")?,
        })
    }
}

/// A message of a thread: the thread's root, and where the message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadKey {
    /// Where.
    pub conversation: ConversationId,
    /// The message that the thread is about.
    pub root: Identity,
    /// The place of the message.
    pub front: Front,
    /// The message.
    pub identity: Identity,
}

/// `index`, `t`: one row a message of a thread, in the order of the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadRow;

impl ThreadRow {
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = INDEX_THREAD;

    /// The prefix of the messages of a thread.
    #[must_use]
    pub fn prefix(conversation: ConversationId, root: Identity) -> Vec<u8> {
        [&[INDEX_THREAD][..], &conversation.0, &root.0].concat()
    }

    /// What a row's key says.
    ///
    /// # Errors
    /// When the key is not one of these rows.
    pub fn parse(key: &[u8]) -> Result<ThreadKey, EngineError> {
        let mut decoder = Decoder::new(key);
        let mut parse = || {
            decoder.u8("letter")?;
            Ok(ThreadKey {
                conversation: ConversationId(decoder.array("conversation")?),
                root: Identity(decoder.array("root")?),
                front: Front::from_bytes(decoder.array("front")?),
                identity: Identity(decoder.array("identity")?),
            })
        };
        parse().map_err(|source: DecodeError| seal::damaged(Self::TABLE, key, source))
    }
}

impl RowType for ThreadRow {
    const TABLE: Table = Table::Index;
    type Key = ThreadKey;

    fn key(ThreadKey { conversation, root, front, identity }: &ThreadKey) -> Vec<u8> {
        let prefix = Self::prefix(*conversation, *root);
        [&prefix[..], &front.to_bytes(), &identity.0].concat()
    }

    fn encode(&self, _: &mut Encoder) {}

    fn decode(_: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

/// `index`, `s`: the records of one setting that stand, by rank, under conversation and setting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SettingRow {
    /// Nearly always one; more are concurrent.
    pub standing: Vec<(Rank, SettingRecord)>,
}

impl SettingRow {
    /// The letter of the rows of this kind.
    pub const LETTER: u8 = INDEX_SETTING;

    /// The prefix of the settings of `conversation`, or of those of one kind.
    #[must_use]
    pub fn prefix(conversation: ConversationId, kind: Option<SettingKind>) -> Vec<u8> {
        let kind = kind.map(|kind| kind as u8);
        [&[INDEX_SETTING][..], &conversation.0, kind.as_slice()].concat()
    }

    /// The record that counts.
    #[must_use]
    pub fn winner(&self) -> Option<&SettingRecord> {
        SettingRecord::winner(&self.standing)
    }

    /// Takes a record in: it replaces those it names.
    pub fn take(&mut self, rank: Rank, record: SettingRecord) {
        let replaced = |rank: &Rank| record.replaces.contains(&(rank.depth, rank.origin));
        self.standing.retain(|(held, _)| !replaced(held));
        let place = self.standing.partition_point(|(held, _)| *held < rank);
        self.standing.insert(place, (rank, record));
    }
}

impl RowType for SettingRow {
    const TABLE: Table = Table::Index;
    type Key = (ConversationId, SettingKey);

    fn key((conversation, key): &Self::Key) -> Vec<u8> {
        [&Self::prefix(*conversation, Some(key.kind))[..], &key.identity.0].concat()
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.varint(self.standing.len() as u64);
        for (rank, record) in &self.standing {
            rank.encode(encoder);
            encoder.run(&record.encode());
        }
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let count = decoder.count("standing records", MAX_STANDING)?;
        let standing = (0..count).map(|_| {
            let rank = Rank::decode(decoder)?;
            let record = decoder.run("setting", crate::entry::MAX_ENTRY_BYTES)?;
            Ok((rank, SettingRecord::decode(record)?))
        });
        Ok(Self { standing: standing.collect::<Result<_, DecodeError>>()? })
    }
}
