//! The envelope of every stored value: a version byte, the content, and a checksum of our own.
//!
//! The checksum covers the table and the key too, so a value that was written to the wrong place
//! is found as surely as a flipped bit. Invariant: [`open`] never returns content that [`seal`]
//! did not put under that very key.

use crate::engine::{EngineError, Table};

const CHECKSUM_BYTES: usize = 8;
/// The greatest length of a value of which every bit is tried, in bytes: some milliseconds.
const MAX_MENDED_BYTES: usize = 2048;
/// How much of a key an error shows, in bytes: all but the longest names.
const MAX_SHOWN_BYTES: usize = 64;

/// The value to store: `version`, `content`, and the first 8 bytes of BLAKE3 over table, key,
/// version and content.
#[must_use]
pub fn seal(table: Table, key: &[u8], version: u8, content: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + content.len() + CHECKSUM_BYTES);
    value.push(version);
    value.extend_from_slice(content);
    let checksum = checksum(table, key, &value);
    value.extend_from_slice(&checksum);
    value
}

/// The content of a stored value.
///
/// # Errors
/// [`EngineError::Damaged`], naming table and key, when the checksum does not fit or the version
/// is not `version`.
pub fn open<'a>(
    table: Table,
    key: &[u8],
    version: u8,
    value: &'a [u8],
) -> Result<&'a [u8], EngineError> {
    let length = value.len().checked_sub(CHECKSUM_BYTES).filter(|length| *length > 0);
    let Some((sealed, stored)) = length.map(|length| value.split_at(length)) else {
        return Err(damaged(table, key, format!("a value of {} bytes", value.len())));
    };
    if checksum(table, key, sealed) != stored {
        return Err(damaged(table, key, "a value whose checksum does not fit"));
    }
    if sealed[0] != version {
        let why = format!("a value of version {} where {version} was expected", sealed[0]);
        return Err(damaged(table, key, why));
    }
    Ok(&sealed[1..])
}

/// The value that one flipped bit made of it, if there is one whose checksum fits. Only for values
/// that are not large: each bit is tried.
#[must_use]
pub fn mend(table: Table, key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    if value.len() > MAX_MENDED_BYTES || value.len() <= CHECKSUM_BYTES {
        return None;
    }
    let mut value = value.to_vec();
    for bit in 0..value.len() * 8 {
        value[bit / 8] ^= 1 << (bit % 8);
        let (sealed, stored) = value.split_at(value.len() - CHECKSUM_BYTES);
        if checksum(table, key, sealed) == stored {
            return Some(value);
        }
        value[bit / 8] ^= 1 << (bit % 8);
    }
    None
}

/// The error for a row that cannot be what it should be.
pub fn damaged(table: Table, key: &[u8], why: impl std::fmt::Display) -> EngineError {
    let hex: String = key.iter().take(MAX_SHOWN_BYTES).map(|byte| format!("{byte:02x}")).collect();
    EngineError::Damaged(format!("table `{table}` holds {why} (key {hex})"))
}

fn checksum(table: Table, key: &[u8], sealed: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[table as u8]).update(&(key.len() as u32).to_be_bytes());
    hasher.update(key).update(sealed);
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_BYTES]);
    checksum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sealed_value_opens_under_its_own_key_and_table_only(
            key: Vec<u8>, content: Vec<u8>, place: usize, bit in 0..8_u8,
        ) {
            let value = seal(Table::Log, &key, 1, &content);
            prop_assert_eq!(open(Table::Log, &key, 1, &value).expect("whole"), &content[..]);
            prop_assert!(open(Table::Meta, &key, 1, &value).is_err());
            prop_assert!(open(Table::Log, &key, 2, &value).is_err());
            let mut other_key = key.clone();
            other_key.push(0);
            prop_assert!(open(Table::Log, &other_key, 1, &value).is_err());
            let mut flipped = value.clone();
            flipped[place % value.len()] ^= 1 << bit;
            prop_assert!(open(Table::Log, &key, 1, &flipped).is_err());
            prop_assert_eq!(mend(Table::Log, &key, &flipped), Some(value));
            prop_assert_eq!(mend(Table::Meta, &key, &flipped), None);
            let _ = open(Table::Log, &key, 1, &content);
        }
    }
}
