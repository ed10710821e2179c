//! Two session tokens made one, so that requests which run at once never make a session forget.
//!
//! Knows the form of version 1 ([`FORMAT.md`](../../store/FORMAT.md), "Tokens") and no more of it
//! than merging needs. Invariant: a merged token has seen all that either has seen; where that
//! cannot be said of two texts, there is none.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const VERSION: u8 = 1;
/// A version byte and a space.
const HEAD_BYTES: usize = 17;
const ORIGIN_BYTES: usize = 16;

struct Token {
    head: [u8; HEAD_BYTES],
    vector: BTreeMap<[u8; ORIGIN_BYTES], u64>,
}

/// The token of who has seen what both have seen; `None` if they are of different spaces, or of a
/// form that is not known here.
pub(super) fn merged(one: &str, other: &str) -> Option<String> {
    let (mut whole, other) = (Token::read(one)?, Token::read(other)?);
    if whole.head != other.head {
        return None;
    }
    for (origin, seq) in other.vector {
        let held = whole.vector.entry(origin).or_insert(seq);
        *held = seq.max(*held);
    }
    Some(whole.text())
}

impl Token {
    fn read(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (head, mut rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        if head[0] != VERSION {
            return None;
        }
        let mut vector = BTreeMap::new();
        for _ in 0..varint(&mut rest)? {
            let origin = take_origin(&mut rest)?;
            vector.insert(origin, varint(&mut rest)?);
        }
        // A part of an entry was seen: whoever shows all of that entry shows the part.
        if !rest.is_empty() {
            let origin = take_origin(&mut rest)?;
            if varint(&mut rest)? > 0 {
                let held = vector.entry(origin).or_insert(0);
                *held = held.checked_add(1)?;
            }
        }
        rest.is_empty().then_some(Self { head: *head, vector })
    }

    fn text(&self) -> String {
        let mut bytes = self.head.to_vec();
        push_varint(&mut bytes, self.vector.len() as u64);
        for (origin, seq) in &self.vector {
            bytes.extend_from_slice(origin);
            push_varint(&mut bytes, *seq);
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

fn take_origin(rest: &mut &[u8]) -> Option<[u8; ORIGIN_BYTES]> {
    let (origin, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*origin)
}

/// Seven bits a byte, the lowest first.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(space: u8, vector: &[(u8, u64)], within: Option<(u8, u8)>) -> String {
        let vector = vector.iter().map(|(origin, seq)| ([*origin; 16], *seq)).collect();
        let mut head = [space; HEAD_BYTES];
        head[0] = VERSION;
        let whole = Token { head, vector }.text();
        let Some((origin, messages)) = within else { return whole };
        let mut bytes = URL_SAFE_NO_PAD.decode(whole).expect("own text");
        bytes.extend([origin; 16]);
        bytes.push(messages);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    #[test]
    fn a_merged_token_has_seen_what_either_has_seen() {
        let (one, other) = (token(7, &[(1, 300), (2, 5)], None), token(7, &[(2, 6), (3, 1)], None));
        let whole = token(7, &[(1, 300), (2, 6), (3, 1)], None);
        assert_eq!(merged(&one, &other), Some(whole.clone()));
        assert_eq!(merged(&other, &one), Some(whole));
    }

    #[test]
    fn who_has_seen_a_part_of_an_entry_asks_for_all_of_it() {
        let part = token(7, &[(1, 4)], Some((1, 2)));
        assert_eq!(merged(&part, &token(7, &[(1, 4)], None)), Some(token(7, &[(1, 5)], None)));
        let none = token(7, &[(1, 4)], Some((2, 0)));
        let after = Token::read(&none).expect("a token").vector;
        assert_eq!(after.get(&[1; 16]), Some(&4));
    }

    #[test]
    fn tokens_of_two_spaces_or_of_another_form_are_not_merged() {
        let token_of = |space| token(space, &[(1, 1)], None);
        assert_eq!(merged(&token_of(7), &token_of(8)), None);
        let mut bytes = URL_SAFE_NO_PAD.decode(token_of(7)).expect("own text");
        bytes[0] = 2;
        for odd in ["", "t1", "AQ", &URL_SAFE_NO_PAD.encode(&bytes), &token_of(7)[..30]] {
            assert_eq!(merged(&token_of(7), odd), None, "{odd:?}");
        }
    }
}
