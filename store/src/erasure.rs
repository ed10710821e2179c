//! What is to be forgotten: rows that cover words, by message, by author, by conversation, by age.
//!
//! Rows are kept for ever and only grow: registers of the greatest place, or facts. They are
//! written as entries, and travel beside any entry whose words they cover; they are applied at
//! once, wherever they come from, outside causal order. Invariant: whether words are covered
//! depends on the rows and on the words' own record alone, never on what arrived when.

use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::id::{ConversationId, Front, Identity};
use crate::name::Name;

/// The most rows that one entry may hold.
pub const MAX_ENTRY_ERASURES: usize = 1024;

/// One row of the erasure table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Erasure {
    /// A message, with all its copies and edits.
    Message {
        /// Where it was said.
        conversation: ConversationId,
        /// Which.
        identity: Identity,
    },
    /// What an author wrote anywhere in the space, up to a place in time; also what arrives later.
    Author {
        /// Whose words.
        author: Name,
        /// Up to here, itself included.
        up_to: Front,
    },
    /// A conversation. Its id is retired for ever.
    Conversation {
        /// Its name.
        name: Name,
        /// Which conversation of that name.
        incarnation: u32,
        /// Its id, which follows from space, name and incarnation.
        conversation: ConversationId,
    },
    /// All that was said in a conversation up to a place in time: it expired.
    Cut {
        /// The conversation.
        conversation: ConversationId,
        /// Up to here, itself included.
        up_to: Front,
    },
}

const MESSAGE: u8 = 1;
const AUTHOR: u8 = 2;
const CONVERSATION: u8 = 3;
const CUT: u8 = 4;

/// What an erasure may cover: words, with the record that refers to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words<'a> {
    /// Where they were said.
    pub conversation: ConversationId,
    /// The message they belong to, if they belong to one.
    pub message: Option<Identity>,
    /// Who wrote them.
    pub author: &'a Name,
    /// When, as their own record says; titles have none and do not expire.
    pub front: Option<Front>,
}

impl Erasure {
    /// Whether the row covers `words`.
    #[must_use]
    pub fn covers(&self, words: &Words<'_>) -> bool {
        let until = |up_to: &Front| words.front.is_some_and(|front| front <= *up_to);
        match self {
            Self::Message { conversation, identity } => {
                *conversation == words.conversation && words.message == Some(*identity)
            }
            Self::Author { author, up_to } => author == words.author && until(up_to),
            Self::Conversation { conversation, .. } => *conversation == words.conversation,
            Self::Cut { conversation, up_to } => {
                *conversation == words.conversation && until(up_to)
            }
        }
    }

    /// Writes the row.
    pub fn encode(&self, encoder: &mut Encoder) {
        match self {
            Self::Message { conversation, identity } => {
                encoder.u8(MESSAGE).raw(&conversation.0).raw(&identity.0)
            }
            Self::Author { author, up_to } => {
                encoder.u8(AUTHOR).run(author.as_str().as_bytes()).raw(&up_to.to_bytes())
            }
            Self::Conversation { name, incarnation, conversation } => {
                encoder.u8(CONVERSATION).run(name.as_str().as_bytes());
                encoder.u32(*incarnation).raw(&conversation.0)
            }
            Self::Cut { conversation, up_to } => {
                encoder.u8(CUT).raw(&conversation.0).raw(&up_to.to_bytes())
            }
        };
    }

    /// Reads what [`Erasure::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are no row.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match decoder.u8("erasure kind")? {
            MESSAGE => Ok(Self::Message {
                conversation: ConversationId(decoder.array("conversation")?),
                identity: Identity(decoder.array("identity")?),
            }),
            AUTHOR => Ok(Self::Author {
                author: decoder.name("author")?,
                up_to: Front::from_bytes(decoder.array("front")?),
            }),
            CONVERSATION => Ok(Self::Conversation {
                name: decoder.name("conversation name")?,
                incarnation: decoder.u32("incarnation")?,
                conversation: ConversationId(decoder.array("conversation")?),
            }),
            CUT => Ok(Self::Cut {
                conversation: ConversationId(decoder.array("conversation")?),
                up_to: Front::from_bytes(decoder.array("front")?),
            }),
            unknown => Err(DecodeError::invalid("erasure kind", format!("{unknown} is unknown"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn front(millis: u64) -> Front {
        Front { millis, counter: 0 }
    }

    fn rows() -> Vec<Erasure> {
        let conversation = ConversationId([3; 16]);
        vec![
            Erasure::Message { conversation, identity: Identity([7; 16]) },
            Erasure::Author { author: name("ada"), up_to: front(500) },
            Erasure::Conversation { name: name("general"), incarnation: 2, conversation },
            Erasure::Cut { conversation, up_to: front(400) },
        ]
    }

    #[test]
    fn each_row_covers_its_own_words_and_no_others() {
        let ada = name("ada");
        let bob = name("bob");
        let covered = |words: Words<'_>| -> Vec<bool> {
            rows().iter().map(|row| row.covers(&words)).collect()
        };
        let words = Words {
            conversation: ConversationId([3; 16]),
            message: Some(Identity([7; 16])),
            author: &ada,
            front: Some(front(400)),
        };
        assert_eq!(covered(words), [true, true, true, true]);
        assert_eq!(covered(Words { author: &bob, ..words }), [true, false, true, true]);
        assert_eq!(covered(Words { front: Some(front(401)), ..words }), [true, true, true, false]);
        assert_eq!(covered(Words { front: Some(front(501)), ..words }), [true, false, true, false]);
        assert_eq!(
            covered(Words { front: None, message: None, ..words }),
            [false, false, true, false]
        );
        let elsewhere = Words { conversation: ConversationId([4; 16]), ..words };
        assert_eq!(covered(elsewhere), [false, true, false, false]);
    }

    #[test]
    fn rows_have_the_bytes_that_the_format_says() {
        let hex = |row: &Erasure| -> String {
            let mut encoder = Encoder::new();
            row.encode(&mut encoder);
            encoder.finish().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let id = "03".repeat(16);
        let texts: Vec<String> = rows().iter().map(hex).collect();
        assert_eq!(
            texts,
            [
                format!("01{id}{}", "07".repeat(16)),
                "02036164610000000001f40000".to_owned(),
                format!("030767656e6572616c00000002{id}"),
                format!("04{id}0000000001900000"),
            ]
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_row_panic_and_all_that_decode_are_canonical(bytes: Vec<u8>) {
            let mut decoder = Decoder::new(&bytes);
            if let Ok(row) = Erasure::decode(&mut decoder) {
                let mut encoder = Encoder::new();
                row.encode(&mut encoder);
                let left = decoder.rest().len();
                prop_assert_eq!(&encoder.finish(), &bytes[..bytes.len() - left]);
            }
        }
    }
}
