//! A message as it is read: its post, and what became of it.
//!
//! Invariant: what became of a message depends on the set of records about it alone. Of several
//! edits the one of the greatest rank shows; of several redactions the least is named.

use super::Record;
use super::body::{Body, BodyReference, ContentType};
use super::post::Header;
use super::statement::{Edit, Redaction};
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::id::{ConversationId, Front, Identity, MessageId, OriginId};
use crate::name::Name;

/// The most different emojis of one message that can be read back.
const MAX_EMOJIS: usize = 65_536;

/// Orders records that compete: depth is causal order, origin settles what is concurrent, and
/// the front tells the records of one entry apart. Never wall time before depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// The depth of the entry that carries the record.
    pub depth: u64,
    /// Whose entry.
    pub origin: OriginId,
    /// The record's own place in time.
    pub front: Front,
}

impl Rank {
    /// Writes the rank.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.varint(self.depth).raw(&self.origin.0).raw(&self.front.to_bytes());
    }

    /// Reads what [`Rank::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are cut off.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let depth = decoder.varint("rank depth")?;
        let origin = OriginId(decoder.array("rank origin")?);
        Ok(Self { depth, origin, front: Front::from_bytes(decoder.array("rank front")?) })
    }
}

/// The edit that shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Its rank among the edits of the message.
    pub rank: Rank,
    /// Who edited.
    pub editor: Name,
    /// MIME type of the words.
    pub content_type: ContentType,
    /// The words.
    pub body: BodyReference,
}

impl Revision {
    /// The revision that `edit` makes at `rank`.
    #[must_use]
    pub fn of(rank: Rank, edit: &Edit) -> Self {
        let Edit { editor, content_type, body, .. } = edit.clone();
        Self { rank, editor, content_type, body }
    }

    /// Writes the revision.
    pub fn encode(&self, encoder: &mut Encoder) {
        self.rank.encode(encoder);
        let plain = self.content_type == ContentType::default();
        encoder.run(self.editor.as_str().as_bytes()).u8(u8::from(!plain));
        if !plain {
            encoder.run(self.content_type.as_str().as_bytes());
        }
        self.body.encode(encoder);
    }

    /// Reads what [`Revision::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are no revision.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let rank = Rank::decode(decoder)?;
        let editor = decoder.name("editor")?;
        let given = decoder.flag("content type flag")?;
        let content_type = ContentType::decode(decoder, given)?;
        Ok(Self { rank, editor, content_type, body: BodyReference::decode(decoder)? })
    }
}

/// The redaction that is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawal {
    /// Its rank among the redactions of the message.
    pub rank: Rank,
    /// Who redacted.
    pub by: Name,
}

/// What became of a message since it was posted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageState {
    /// The edit that shows, if it was edited.
    pub revision: Option<Revision>,
    /// The redaction, if it was redacted.
    pub withdrawal: Option<Withdrawal>,
    /// Whether its words were erased.
    pub erased: bool,
    /// How many people set each emoji, by emoji; none is 0.
    pub reactions: Vec<(Name, u32)>,
}

const REVISED: u8 = 1;
const WITHDRAWN: u8 = 2;
const ERASED: u8 = 4;
const REACTED: u8 = 8;

impl MessageState {
    /// Takes in an edit. True if it is the one that shows from now on.
    pub fn revise(&mut self, rank: Rank, edit: &Edit) -> bool {
        if self.revision.as_ref().is_some_and(|held| held.rank >= rank) {
            return false;
        }
        self.revision = Some(Revision::of(rank, edit));
        true
    }

    /// Takes in a redaction.
    pub fn withdraw(&mut self, rank: Rank, redaction: &Redaction) {
        if self.withdrawal.as_ref().is_none_or(|held| held.rank > rank) {
            self.withdrawal = Some(Withdrawal { rank, by: redaction.by.clone() });
        }
    }

    /// One person more or less set `emoji`.
    pub fn count(&mut self, emoji: &Name, on: bool) {
        match self.reactions.binary_search_by(|(known, _)| known.cmp(emoji)) {
            Ok(place) if on => self.reactions[place].1 += 1,
            Ok(place) if self.reactions[place].1 <= 1 => drop(self.reactions.remove(place)),
            Ok(place) => self.reactions[place].1 -= 1,
            Err(place) if on => self.reactions.insert(place, (emoji.clone(), 1)),
            Err(_) => {}
        }
    }

    /// Whether readers may see words.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        self.withdrawal.is_none() && !self.erased
    }

    /// The reference of the words that show, were it visible.
    #[must_use]
    pub fn body(&self, header: &Header) -> BodyReference {
        self.revision.as_ref().map_or(header.body, |revision| revision.body)
    }

    /// Writes flags, then what they announce.
    pub fn encode(&self, encoder: &mut Encoder) {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let flags = flag(self.revision.is_some(), REVISED)
            | flag(self.withdrawal.is_some(), WITHDRAWN)
            | flag(self.erased, ERASED)
            | flag(!self.reactions.is_empty(), REACTED);
        encoder.u8(flags);
        if let Some(revision) = &self.revision {
            revision.encode(encoder);
        }
        if let Some(withdrawal) = &self.withdrawal {
            withdrawal.rank.encode(encoder);
            encoder.run(withdrawal.by.as_str().as_bytes());
        }
        if !self.reactions.is_empty() {
            encoder.varint(self.reactions.len() as u64);
            for (emoji, people) in &self.reactions {
                encoder.run(emoji.as_str().as_bytes()).varint(u64::from(*people));
            }
        }
    }

    /// Reads what [`MessageState::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are no state.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let flags = decoder.u8("state flags")?;
        if flags & !(REVISED | WITHDRAWN | ERASED | REACTED) != 0 {
            return Err(DecodeError::invalid("state flags", format!("{flags:#04x} is unknown")));
        }
        let has = |bit| flags & bit != 0;
        let revision = has(REVISED).then(|| Revision::decode(decoder)).transpose()?;
        let withdrawal = has(WITHDRAWN).then(|| {
            let rank = Rank::decode(decoder)?;
            Ok(Withdrawal { rank, by: decoder.name("redactor")? })
        });
        let withdrawal = withdrawal.transpose()?;
        let mut reactions = Vec::new();
        if has(REACTED) {
            for _ in 0..decoder.count("emojis", MAX_EMOJIS)? {
                let emoji = decoder.name("emoji")?;
                reactions.push((emoji, decoder.count("people", u32::MAX as usize)? as u32));
            }
        }
        Ok(Self { revision, withdrawal, erased: has(ERASED), reactions })
    }
}

/// A message as it is read: the post, what became of it, its conversation, and its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was said.
    pub conversation: ConversationId,
    /// Its id.
    pub id: MessageId,
    /// Its identity.
    pub identity: Identity,
    /// Its header, as it was posted.
    pub header: Header,
    /// What became of it.
    pub state: MessageState,
    /// The words that show; empty when it was redacted or erased.
    pub body: Vec<u8>,
}

impl Message {
    /// The message of `record`, as it was just posted in `conversation` with the words of `body`.
    #[must_use]
    pub fn new(conversation: ConversationId, record: Record, body: &Body) -> Self {
        let Record { identity, header } = record;
        let id = header.id(identity);
        let (state, body) = (MessageState::default(), body.bytes.clone());
        Self { conversation, id, identity, header, state, body }
    }

    /// The MIME type of the words that show.
    #[must_use]
    pub fn content_type(&self) -> &ContentType {
        let revised = self.state.revision.as_ref().map(|revision| &revision.content_type);
        revised.unwrap_or(&self.header.content_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rank(depth: u64, origin: u8, counter: u16) -> Rank {
        Rank { depth, origin: OriginId([origin; 16]), front: Front { millis: 9, counter } }
    }

    fn edit(length: u32) -> Edit {
        Edit {
            target: Identity([7; 16]),
            front: Front::default(),
            editor: "ada".parse().expect("a name"),
            content_type: ContentType::default(),
            body: BodyReference { length, digest: [3; 16] },
        }
    }

    #[test]
    fn the_deepest_edit_shows_then_the_greatest_origin_then_the_last_of_an_entry() {
        let ranks = [rank(5, 1, 0), rank(5, 2, 0), rank(4, 9, 9), rank(5, 2, 1)];
        let best = |order: &[usize]| {
            let mut state = MessageState::default();
            for place in order {
                state.revise(ranks[*place], &edit(*place as u32 + 1));
            }
            state.revision.map(|revision| revision.body.length)
        };
        assert_eq!(best(&[0, 1, 2, 3]), Some(4));
        assert_eq!(best(&[3, 2, 1, 0]), Some(4));
        assert_eq!(best(&[2, 0, 1]), Some(2));
    }

    proptest! {
        #[test]
        fn a_state_survives_its_bytes_and_counting_back_forgets(
            edits in prop::collection::vec((1..9_u64, 0..3_u8, 0..3_u16), 0..4),
            redacted: Option<(u64, u8)>, erased: bool, emojis in prop::collection::vec(0..4_u8, 0..9),
        ) {
            let emoji = |which: u8| -> Name { format!("e{which}").parse().expect("a name") };
            let mut state = MessageState { erased, ..MessageState::default() };
            for (depth, origin, counter) in edits {
                state.revise(rank(depth, origin, counter), &edit(7));
            }
            if let Some((depth, origin)) = redacted {
                let by = "bob".parse().expect("a name");
                let redaction = Redaction { target: Identity([7; 16]), front: Front::default(), by };
                state.withdraw(rank(depth, origin, 0), &redaction);
            }
            let plain = state.clone();
            emojis.iter().for_each(|which| state.count(&emoji(*which), true));
            let mut encoder = Encoder::new();
            state.encode(&mut encoder);
            let bytes = encoder.finish();
            let mut decoder = Decoder::new(&bytes);
            prop_assert_eq!(&MessageState::decode(&mut decoder).expect("own bytes"), &state);
            prop_assert!(decoder.end("state").is_ok());
            emojis.iter().rev().for_each(|which| state.count(&emoji(*which), false));
            prop_assert_eq!(state, plain);
        }

        #[test]
        fn no_bytes_make_a_state_panic(bytes: Vec<u8>) {
            let _ = MessageState::decode(&mut Decoder::new(&bytes));
        }
    }
}
