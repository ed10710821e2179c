//! Session tokens: a version vector in a client's hands.
//!
//! Text that is safe in a header and a URL: base 64 of a version byte, the space, the vector, and
//! for followers the position within an entry that was delivered in part. A token is not secret
//! and gives no right; a made-up one only makes its owner wait.

use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::id::{OriginId, SpaceId};
use crate::vector::VersionVector;

/// The greatest length of a token's text: 4 KiB.
pub const MAX_TOKEN_BYTES: usize = 4096;
const TOKEN_VERSION: u8 = 1;
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What a client has seen of a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The space.
    pub space: SpaceId,
    /// Everything up to here was seen.
    pub vector: VersionVector,
    /// Of the entry after `vector` of this origin, so many records were seen too.
    pub within: Option<(OriginId, u32)>,
}

impl Token {
    /// The token of who has seen `vector`.
    #[must_use]
    pub fn of(space: SpaceId, vector: VersionVector) -> Self {
        Self { space, vector, within: None }
    }

    /// The token's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut encoder = Encoder::new();
        encoder.u8(TOKEN_VERSION).raw(&self.space.0);
        self.vector.encode(&mut encoder);
        if let Some((origin, messages)) = self.within {
            encoder.raw(&origin.0).varint(u64::from(messages));
        }
        to_base64(&encoder.finish())
    }

    /// The token with this text.
    ///
    /// # Errors
    /// When the text is no token.
    pub fn from_text(text: &str) -> Result<Self, DecodeError> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(DecodeError::invalid("session token", format!("{} bytes", text.len())));
        }
        let bytes = from_base64(text)
            .ok_or_else(|| DecodeError::invalid("session token", "not base 64 for URLs"))?;
        let mut decoder = Decoder::new(&bytes);
        let version = decoder.u8("token version")?;
        if version != TOKEN_VERSION {
            return Err(DecodeError::invalid("token version", format!("{version} is unknown")));
        }
        let space = SpaceId(decoder.array("token space")?);
        let vector = VersionVector::decode(&mut decoder)?;
        let within = if decoder.is_empty() {
            None
        } else {
            let origin = OriginId(decoder.array("token origin")?);
            Some((origin, decoder.count("token position", u32::MAX as usize)? as u32))
        };
        decoder.end("session token")?;
        Ok(Self { space, vector, within })
    }
}

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..=group.len() {
            let shift = 18 - 6 * place as u32;
            text.push(char::from(DIGITS[(word >> shift) as usize & 63]));
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.as_bytes().chunks(4) {
        let mut word = 0_u32;
        for place in 0..4 {
            let digit = match group.get(place) {
                Some(letter) => DIGITS.iter().position(|digit| digit == letter)? as u32,
                None => 0,
            };
            word = word << 6 | digit;
        }
        let whole = group.len().checked_sub(1).filter(|whole| *whole > 0)?;
        bytes.extend_from_slice(&word.to_be_bytes()[1..=whole]);
    }
    (to_base64(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_survives_its_text(
            origins in prop::collection::btree_map(any::<[u8; 16]>(), 1..1_000_000_u64, 0..5),
            within: Option<(u8, u32)>,
        ) {
            let vector = origins.into_iter().map(|(origin, seq)| (OriginId(origin), seq)).collect();
            let within = within.map(|(origin, messages)| (OriginId([origin; 16]), messages));
            let token = Token { space: SpaceId([3; 16]), vector, within };
            let text = token.to_text();
            prop_assert!(text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_'));
            prop_assert_eq!(Token::from_text(&text).expect("own text"), token);
        }

        #[test]
        fn no_text_makes_reading_a_token_panic(text: String, letters in "[A-Za-z0-9_-]{0,200}") {
            let _ = Token::from_text(&text);
            let _ = Token::from_text(&letters);
        }
    }
}
