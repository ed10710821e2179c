//! What is done to a message after it was posted: edits, reactions, redactions.
//!
//! Each is a record of its own, written once, that names its message by identity, so it covers
//! every copy of it, present and future. Invariant: a record's own identity follows from what it
//! says, so that one thing said has one key.

use super::body::{BodyReference, ContentType};
use super::post::{Header, POST};
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::id::{Front, Identity, hash_of};
use crate::name::Name;

/// The greatest length of a reaction's emoji, in bytes of UTF-8.
pub const MAX_EMOJI_BYTES: usize = 64;

const EDIT: u8 = 2;
const REACTION: u8 = 3;
const REDACTION: u8 = 4;
const HAS_CONTENT_TYPE: u8 = 1;

/// New words for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The message.
    pub target: Identity,
    /// When, by the editor's node; tells edits of one entry apart.
    pub front: Front,
    /// Who.
    pub editor: Name,
    /// MIME type of the new words.
    pub content_type: ContentType,
    /// The new words.
    pub body: BodyReference,
}

/// A reaction set or taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction {
    /// The message.
    pub target: Identity,
    /// Whose.
    pub user: Name,
    /// What, at most [`MAX_EMOJI_BYTES`].
    pub emoji: Name,
    /// Set, or taken back.
    pub on: bool,
}

/// A message hidden for good; its place stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redaction {
    /// The message.
    pub target: Identity,
    /// When, by the node of whoever did it.
    pub front: Front,
    /// Who.
    pub by: Name,
}

/// What a record of a segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// A message.
    Post(Header),
    /// New words for one.
    Edit(Edit),
    /// A reaction to one.
    Reaction(Reaction),
    /// The hiding of one.
    Redaction(Redaction),
}

impl Edit {
    fn encode(&self) -> Vec<u8> {
        let plain = self.content_type == ContentType::default();
        let mut encoder = Encoder::with_capacity(64);
        encoder.u8(EDIT).u8(if plain { 0 } else { HAS_CONTENT_TYPE });
        encoder.raw(&self.target.0).raw(&self.front.to_bytes());
        encoder.run(self.editor.as_str().as_bytes());
        if !plain {
            encoder.run(self.content_type.as_str().as_bytes());
        }
        self.body.encode(&mut encoder);
        encoder.finish()
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let flags = decoder.u8("edit flags")?;
        if flags & !HAS_CONTENT_TYPE != 0 {
            return Err(DecodeError::invalid("edit flags", format!("{flags:#04x} is unknown")));
        }
        let target = Identity(decoder.array("target")?);
        let front = Front::from_bytes(decoder.array("front")?);
        let editor = decoder.name("editor")?;
        let content_type = ContentType::decode(decoder, flags & HAS_CONTENT_TYPE != 0)?;
        let body = BodyReference::decode(decoder)?;
        Ok(Self { target, front, editor, content_type, body })
    }
}

impl Reaction {
    /// The identity of what `user` says with `emoji` of `target`: setting it and taking it back
    /// are about the same thing.
    #[must_use]
    pub fn identity_of(target: Identity, user: &Name, emoji: &Name) -> Identity {
        let parts: [&[u8]; 3] = [&target.0, user.as_str().as_bytes(), emoji.as_str().as_bytes()];
        Identity(hash_of("warbler 2026 reaction", &parts))
    }

    fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_capacity(48);
        encoder.u8(REACTION).u8(u8::from(self.on)).raw(&self.target.0);
        encoder.run(self.user.as_str().as_bytes()).run(self.emoji.as_str().as_bytes());
        encoder.finish()
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let on = decoder.flag("reaction")?;
        let target = Identity(decoder.array("target")?);
        let user = decoder.name("user")?;
        let emoji = decoder.name("emoji")?;
        if emoji.as_str().len() > MAX_EMOJI_BYTES {
            return Err(DecodeError::invalid("emoji", format!("{} bytes", emoji.as_str().len())));
        }
        Ok(Self { target, user, emoji, on })
    }
}

impl Redaction {
    fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_capacity(48);
        encoder.u8(REDACTION).raw(&self.target.0).raw(&self.front.to_bytes());
        encoder.run(self.by.as_str().as_bytes());
        encoder.finish()
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let target = Identity(decoder.array("target")?);
        let front = Front::from_bytes(decoder.array("front")?);
        Ok(Self { target, front, by: decoder.name("redactor")? })
    }
}

impl Statement {
    /// The packed bytes, as they stand in a segment document.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Post(header) => header.encode(),
            Self::Edit(edit) => edit.encode(),
            Self::Reaction(reaction) => reaction.encode(),
            Self::Redaction(redaction) => redaction.encode(),
        }
    }

    /// Reads what [`Statement::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not a statement of this version, or not in their only form.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let statement = match decoder.u8("record kind")? {
            POST => return Header::decode(bytes).map(Self::Post),
            EDIT => Self::Edit(Edit::decode(&mut decoder)?),
            REACTION => Self::Reaction(Reaction::decode(&mut decoder)?),
            REDACTION => Self::Redaction(Redaction::decode(&mut decoder)?),
            unknown => {
                return Err(DecodeError::invalid("record kind", format!("{unknown} is unknown")));
            }
        };
        decoder.end("record")?;
        Ok(statement)
    }

    /// The body it refers to, if it has one.
    #[must_use]
    pub fn body(&self) -> Option<BodyReference> {
        match self {
            Self::Post(header) => Some(header.body),
            Self::Edit(edit) => Some(edit.body),
            Self::Reaction(_) | Self::Redaction(_) => None,
        }
    }

    /// The message it is about, if it is not one itself.
    #[must_use]
    pub fn target(&self) -> Option<Identity> {
        match self {
            Self::Post(_) => None,
            Self::Edit(edit) => Some(edit.target),
            Self::Reaction(reaction) => Some(reaction.target),
            Self::Redaction(redaction) => Some(redaction.target),
        }
    }

    /// The identity in its record's key, where it follows from what the record says. A post's
    /// comes from its idempotency key, which no record holds.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        match self {
            Self::Post(_) => None,
            Self::Edit(edit) => {
                let parts: [&[u8]; 2] = [&edit.target.0, &edit.front.to_bytes()];
                Some(Identity(hash_of("warbler 2026 edit", &parts)))
            }
            Self::Reaction(reaction) => {
                Some(Reaction::identity_of(reaction.target, &reaction.user, &reaction.emoji))
            }
            Self::Redaction(redaction) => {
                Some(Identity(hash_of("warbler 2026 redaction", &[&redaction.target.0])))
            }
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

    fn edit(markdown: bool) -> Statement {
        let content_type = if markdown { "text/markdown" } else { "text/plain" };
        Statement::Edit(Edit {
            target: Identity([7; 16]),
            front: Front { millis: 1_523_386_154_000, counter: 3 },
            editor: name("ada"),
            content_type: content_type.parse().expect("a type"),
            body: BodyReference { length: 5, digest: [9; 16] },
        })
    }

    fn reaction(on: bool) -> Statement {
        let (target, user, emoji) = (Identity([7; 16]), name("ada"), name("🐦"));
        Statement::Reaction(Reaction { target, user, emoji, on })
    }

    fn redaction() -> Statement {
        let front = Front { millis: 1_523_386_154_000, counter: 3 };
        Statement::Redaction(Redaction { target: Identity([7; 16]), front, by: name("bob") })
    }

    #[test]
    fn statements_have_the_bytes_that_the_format_says() {
        let hex = |statement: Statement| -> String {
            statement.encode().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let target = "07".repeat(16);
        let front = "0162b0e3fc100003";
        let digest = "09".repeat(16);
        assert_eq!(hex(edit(false)), format!("0200{target}{front}0361646105{digest}"));
        assert_eq!(
            hex(edit(true)),
            format!("0201{target}{front}036164610d746578742f6d61726b646f776e05{digest}")
        );
        assert_eq!(hex(reaction(true)), format!("0301{target}0361646104f09f90a6"));
        assert_eq!(hex(redaction()), format!("04{target}{front}03626f62"));
    }

    #[test]
    fn setting_a_reaction_and_taking_it_back_have_one_identity() {
        assert_eq!(reaction(true).identity(), reaction(false).identity());
        assert_ne!(reaction(true).identity(), redaction().identity());
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_statement_panic_and_all_that_decode_are_canonical(bytes: Vec<u8>) {
            if let Ok(statement) = Statement::decode(&bytes) {
                prop_assert_eq!(statement.encode(), bytes);
            }
        }

        #[test]
        fn a_statement_with_a_flipped_bit_is_refused_or_another(
            which in 0..4_usize, place: usize, bit in 0..8_u8,
        ) {
            let statement = [edit(false), edit(true), reaction(true), redaction()][which].clone();
            let mut bytes = statement.encode();
            prop_assert_eq!(&Statement::decode(&bytes).expect("own bytes"), &statement);
            let place = place % bytes.len();
            bytes[place] ^= 1 << bit;
            if let Ok(other) = Statement::decode(&bytes) {
                prop_assert_ne!(&other, &statement);
                prop_assert_eq!(other.encode(), bytes);
            }
        }
    }
}
