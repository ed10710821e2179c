//! The one form of change that documents have, and its bytes.
//!
//! A change writes new scalars under the root, each key once, at time 0 and without a message.
//! Its bytes are those that Automerge writes for it: an uncompressed change chunk. Encode and
//! decode face each other. Invariant: what decodes is encoded to the very same bytes, so a change
//! has one form and one hash; hostile bytes never panic and never make more than they pay for.
//!
//! The format is that of <https://automerge.org/automerge-binary-format-spec/>: a chunk's header,
//! then columns of run-length-encoded values.

use std::collections::BTreeSet;
use std::fmt;

use sha2::{Digest as _, Sha256};

use super::Scalar;
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::id::OriginId;

/// The most operations that one change may hold.
pub const MAX_CHANGE_OPS: usize = 4096;
/// The greatest operation counter: far below Automerge's own limit of 2^32, above which every
/// later write would panic.
const MAX_OP: u64 = 1 << 31;
/// The most changes that one may depend on.
const MAX_DEPENDENCIES: usize = 4096;
/// The greatest length of a key, in bytes.
const MAX_KEY_BYTES: usize = 1024;

/// What every Automerge chunk begins with.
const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
/// Magic number and checksum, before what is hashed.
const UNHASHED_BYTES: usize = 8;
/// The chunk type of an uncompressed change. Compressed ones inflate without limit.
const CHANGE_CHUNK: u8 = 1;

/// The columns of a change, in their order: numbers that say what a column holds and how.
const COLUMNS: [u8; 6] = [KEY_TEXT, INSERT, ACTION, VALUE_META, VALUE, PREDECESSORS];
const KEY_TEXT: u8 = 0x15;
const INSERT: u8 = 0x34;
const ACTION: u8 = 0x42;
const VALUE_META: u8 = 0x56;
const VALUE: u8 = 0x57;
const PREDECESSORS: u8 = 0x70;

/// The action that sets a scalar.
const SET: u64 = 1;
/// The types of values, in the low four bits of their metadata.
const TEXT: u64 = 6;
const BYTES: u64 = 7;

/// Why a change is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The bytes are no change of the only form there is.
    #[error("not a change of the known form: {0}")]
    Malformed(#[from] DecodeError),
    /// The change is by another actor than its entry's origin.
    #[error("the change is by actor {actor}, its entry by origin {origin}")]
    Actor {
        /// Who made the change.
        actor: OriginId,
        /// Who made the entry.
        origin: OriginId,
    },
    /// It does not follow its actor's last change.
    #[error("the change has number {found}, the next of its actor is {expected}")]
    Sequence {
        /// Its number.
        found: u64,
        /// What it should be.
        expected: u64,
    },
    /// A change it depends on is not held, or its own actor's last one is not among them.
    #[error("a change it depends on is not held: {0}")]
    Dependency(String),
    /// Its operation counter does not follow those it depends on.
    #[error("operations begin at {start}, {least} was expected")]
    Counter {
        /// Where they begin.
        start: u64,
        /// Where they must.
        least: u64,
    },
}

/// SHA-256 of a change's chunk: its name, by which others depend on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeHash(pub [u8; 32]);

impl ChangeHash {
    /// The first 8 bytes.
    #[must_use]
    pub fn prefix(&self) -> [u8; 8] {
        self.0.first_chunk().copied().unwrap_or_default()
    }
}

impl fmt::Display for ChangeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChangeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// See the module's comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Who made it.
    pub actor: OriginId,
    /// Which of its actor's changes of the document, from 1.
    pub seq: u64,
    /// The number of its first operation; the others follow.
    pub start_op: u64,
    /// The changes it stands on, in the order of their hashes.
    pub deps: Vec<ChangeHash>,
    /// Keys and scalars, in the order in which they are written.
    pub writes: Vec<(String, Scalar)>,
}

impl Change {
    /// The number of its last operation.
    #[must_use]
    pub fn max_op(&self) -> u64 {
        self.start_op + self.writes.len() as u64 - 1
    }

    /// The chunk's bytes, and their hash.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, ChangeHash) {
        let content = self.content();
        let mut chunk = Encoder::with_capacity(content.len() + 16);
        chunk.raw(&MAGIC).u32(0).u8(CHANGE_CHUNK).run(&content);
        let mut bytes = chunk.finish();
        let hash = hash_of(&bytes);
        bytes[4..UNHASHED_BYTES].copy_from_slice(&hash.0[..4]);
        (bytes, hash)
    }

    /// Reads what [`Change::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are anything else.
    pub fn decode(bytes: &[u8]) -> Result<(Self, ChangeHash), ChangeError> {
        let invalid = |what, why: &str| DecodeError::invalid(what, why);
        let mut decoder = Decoder::new(bytes);
        if decoder.array("magic number")? != MAGIC {
            return Err(invalid("magic number", "another one").into());
        }
        let checksum: [u8; 4] = decoder.array("checksum")?;
        if decoder.u8("chunk type")? != CHANGE_CHUNK {
            return Err(invalid("chunk type", "not an uncompressed change").into());
        }
        let hash = hash_of(bytes);
        if hash.0[..4] != checksum {
            return Err(invalid("checksum", "it does not fit").into());
        }
        let content = decoder.run("chunk", bytes.len())?;
        decoder.end("chunk")?;
        let change = Self::of_content(content)?;
        if change.content() != content {
            return Err(invalid("change", "not in its only form").into());
        }
        Ok((change, hash))
    }

    /// Everything behind the chunk's header.
    fn content(&self) -> Vec<u8> {
        let count = self.writes.len();
        let values: usize = self.writes.iter().map(|(_, scalar)| scalar.as_bytes().len()).sum();
        let mut content = Encoder::with_capacity(96 + 32 * self.deps.len() + 60 * count + values);
        content.varint(self.deps.len() as u64);
        for dependency in &self.deps {
            content.raw(&dependency.0);
        }
        content.run(&self.actor.0).varint(self.seq).varint(self.start_op);
        // Time, message, other actors: none.
        content.raw(&[0, 0, 0]);
        let columns = self.columns();
        content.varint(COLUMNS.len() as u64);
        for (column, data) in COLUMNS.iter().zip(&columns) {
            content.u8(*column).varint(data.len() as u64);
        }
        for data in &columns {
            content.raw(data);
        }
        content.finish()
    }

    fn columns(&self) -> [Vec<u8>; COLUMNS.len()] {
        let count = self.writes.len();
        let keys: usize = self.writes.iter().map(|(key, _)| key.len() + 2).sum();
        let mut key_text = Encoder::with_capacity(keys + 4);
        // Keys differ, so there is never a run of equal ones.
        key_text.raw(&signed(-(count as i64)));
        let mut value = Vec::new();
        let mut meta = Vec::with_capacity(count);
        for (key, scalar) in &self.writes {
            key_text.run(key.as_bytes());
            let kind = match scalar {
                Scalar::Text(_) => TEXT,
                Scalar::Bytes(_) => BYTES,
            };
            let bytes = scalar.as_bytes();
            meta.push((bytes.len() as u64) << 4 | kind);
            value.extend_from_slice(bytes);
        }
        let mut insert = Encoder::with_capacity(2);
        insert.varint(count as u64);
        [
            key_text.finish(),
            insert.finish(),
            runs_of(std::iter::repeat_n(SET, count)),
            runs_of(meta.into_iter()),
            value,
            runs_of(std::iter::repeat_n(0, count)),
        ]
    }

    /// Reads a content leniently; whoever calls compares it with what it is encoded to.
    fn of_content(content: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(content);
        let count = decoder.count("dependencies", MAX_DEPENDENCIES)?;
        let deps = (0..count).map(|_| decoder.array("dependency").map(ChangeHash));
        let deps: Vec<_> = deps.collect::<Result<_, _>>()?;
        if !deps.is_sorted_by(|one, next| one < next) {
            return Err(DecodeError::invalid("dependencies", "out of order"));
        }
        let actor = decoder.run("actor", OriginId::BYTES)?;
        let actor = actor.try_into().map(OriginId);
        let actor = actor.map_err(|_| DecodeError::invalid("actor", "not 16 bytes"))?;
        let seq = decoder.varint("change number")?;
        let start_op = decoder.varint("first operation")?;
        if seq == 0 || start_op == 0 || start_op > MAX_OP {
            return Err(DecodeError::invalid("change", "a counter that is out of range"));
        }
        decoder.raw("time, message and actors", 3)?;
        let [key_text, insert, _, meta, value, _] = split_columns(&mut decoder)?;
        let count = Decoder::new(insert).count("operations", MAX_CHANGE_OPS)?;
        let writes = writes_of(count, key_text, meta, value)?;
        Ok(Self { actor, seq, start_op, deps, writes })
    }
}

fn hash_of(chunk: &[u8]) -> ChangeHash {
    ChangeHash(Sha256::digest(chunk.get(UNHASHED_BYTES..).unwrap_or_default()).into())
}

fn split_columns<'a>(decoder: &mut Decoder<'a>) -> Result<[&'a [u8]; COLUMNS.len()], DecodeError> {
    if decoder.count("columns", COLUMNS.len())? != COLUMNS.len() {
        return Err(DecodeError::invalid("columns", "not the known ones"));
    }
    let mut lengths = [0; COLUMNS.len()];
    for (column, length) in COLUMNS.into_iter().zip(&mut lengths) {
        if decoder.u8("column")? != column {
            return Err(DecodeError::invalid("columns", "not the known ones"));
        }
        *length = decoder.count("column length", u32::MAX as usize)?;
    }
    let mut columns = [&[][..]; COLUMNS.len()];
    for (column, length) in columns.iter_mut().zip(lengths) {
        *column = decoder.raw("column", length)?;
    }
    decoder.clone().end("columns")?;
    Ok(columns)
}

fn writes_of(
    count: usize,
    keys: &[u8],
    metas: &[u8],
    values: &[u8],
) -> Result<Vec<(String, Scalar)>, DecodeError> {
    let mut keys = Decoder::new(keys);
    read_signed(&mut keys)?;
    let mut metas = Runs::of(metas);
    let mut values = Decoder::new(values);
    let mut known = BTreeSet::new();
    let mut writes = Vec::new();
    for _ in 0..count {
        let key = keys.text("key", MAX_KEY_BYTES)?;
        if !known.insert(key) {
            return Err(DecodeError::invalid("key", "written twice"));
        }
        let meta = metas.next()?;
        let length = usize::try_from(meta >> 4).ok().filter(|length| *length > 0);
        let length = length.ok_or_else(|| DecodeError::invalid("value", "an empty one"))?;
        let value = values.raw("value", length)?.to_vec();
        let scalar = match meta & 0xf {
            BYTES => Scalar::Bytes(value),
            TEXT => Scalar::Text(
                String::from_utf8(value).map_err(|error| DecodeError::invalid("text", error))?,
            ),
            other => return Err(DecodeError::invalid("value", format!("type {other}"))),
        };
        writes.push((key.to_owned(), scalar));
    }
    if writes.is_empty() {
        return Err(DecodeError::invalid("change", "without an operation"));
    }
    Ok(writes)
}

/// Numbers as runs: a count and a value where one repeats, the negative count of those that
/// follow where they differ.
fn runs_of(numbers: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut encoder = Encoder::with_capacity(16);
    let mut single: Vec<u64> = Vec::new();
    let mut numbers = numbers.peekable();
    let flush = |encoder: &mut Encoder, single: &mut Vec<u64>| {
        if !single.is_empty() {
            encoder.raw(&signed(-(single.len() as i64)));
            for number in single.drain(..) {
                encoder.varint(number);
            }
        }
    };
    while let Some(number) = numbers.next() {
        let mut times = 1;
        while numbers.next_if_eq(&number).is_some() {
            times += 1;
        }
        if times == 1 {
            single.push(number);
            continue;
        }
        flush(&mut encoder, &mut single);
        encoder.raw(&signed(times)).varint(number);
    }
    flush(&mut encoder, &mut single);
    encoder.finish()
}

/// Reads numbers that were written by [`runs_of`], one at a time, so that a run of hostile length
/// takes no room.
struct Runs<'a> {
    left: Decoder<'a>,
    repeated: (i64, u64),
    single: i64,
}

impl<'a> Runs<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { left: Decoder::new(bytes), repeated: (0, 0), single: 0 }
    }

    fn next(&mut self) -> Result<u64, DecodeError> {
        if self.repeated.0 == 0 && self.single == 0 {
            let count = read_signed(&mut self.left)?;
            if count > 0 {
                self.repeated = (count, self.left.varint("number")?);
            } else {
                self.single = count;
            }
        }
        if self.repeated.0 > 0 {
            self.repeated.0 -= 1;
            return Ok(self.repeated.1);
        }
        if self.single == 0 {
            return Err(DecodeError::invalid("run", "of no length"));
        }
        self.single += 1;
        self.left.varint("number")
    }
}

/// A number as signed LEB128.
fn signed(mut number: i64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2);
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        let done = (number == 0 && byte & 0x40 == 0) || (number == -1 && byte & 0x40 != 0);
        bytes.push(if done { byte } else { byte | 0x80 });
        if done {
            return bytes;
        }
    }
}

fn read_signed(decoder: &mut Decoder<'_>) -> Result<i64, DecodeError> {
    let mut number = 0_i64;
    // Counts are small: five bytes hold 35 bits.
    for place in 0..5 {
        let byte = decoder.u8("run length")?;
        number |= i64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            let negative = byte & 0x40 != 0;
            return Ok(if negative { number - (1 << (7 * (place + 1))) } else { number });
        }
    }
    Err(DecodeError::invalid("run length", "of more than five bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use automerge::transaction::{CommitOptions, Transactable};
    use automerge::{ActorId, Automerge, ROOT, ScalarValue};
    use proptest::prelude::*;

    fn change() -> Change {
        Change {
            actor: OriginId([1; 16]),
            seq: 3,
            start_op: 4,
            deps: vec![ChangeHash([2; 32])],
            writes: vec![
                ("kd".to_owned(), Scalar::Bytes(b"v2".to_vec())),
                ("kd2".to_owned(), Scalar::Text("v3".to_owned())),
            ],
        }
    }

    #[test]
    fn a_change_has_the_bytes_that_the_format_says() {
        let (bytes, hash) = change().encode();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = [
            "856f4a83",
            &hash.to_string()[..8],
            "0158",
            "01",
            &"02".repeat(32),
            "10",
            &"01".repeat(16),
            "0304000000",
            "06150834014202560357047002",
            "7e026b64036b6432",
            "02",
            "0201",
            "7e2726",
            "76327633",
            "0200",
        ];
        assert_eq!(hex, expected.concat());
    }

    fn scalar() -> impl Strategy<Value = Scalar> {
        prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 1..80).prop_map(Scalar::Bytes),
            1 => "[a-z]{1,20}".prop_map(Scalar::Text),
            2 => (1..4_usize).prop_map(|length| Scalar::Bytes(vec![7; length])),
        ]
    }

    fn writes(most: usize) -> impl Strategy<Value = Vec<(String, Scalar)>> {
        prop::collection::btree_map("[a-c]{1,6}|[a-zäß0-9]{50}", scalar(), 1..most)
            .prop_map(|writes| writes.into_iter().collect())
    }

    /// The bytes of the change that Automerge makes of `writes`.
    fn by_automerge(document: &mut Automerge, writes: &[(String, Scalar)]) -> Vec<u8> {
        let mut transaction = document.transaction();
        for (key, scalar) in writes {
            let value = match scalar.clone() {
                Scalar::Bytes(bytes) => ScalarValue::Bytes(bytes),
                Scalar::Text(text) => ScalarValue::Str(text.into()),
            };
            transaction.put(ROOT, key, value).expect("automerge writes");
        }
        transaction.commit_with(CommitOptions::default().with_time(0));
        document.get_last_local_change().expect("a change").raw_bytes().to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn automerge_makes_the_same_bytes(
            writes in writes(300), seed in 1..200_u8, others in prop::collection::vec(1..4_u8, 0..3),
        ) {
            let mut document = Automerge::new().with_actor(ActorId::from(&[seed; 16][..]));
            by_automerge(&mut document, &[("zzzzzz0".to_owned(), Scalar::Text("first".to_owned()))]);
            let base = document.clone();
            for (place, other) in others.iter().enumerate() {
                let actor = [200 + place as u8; 16];
                let mut fork = base.clone().with_actor(ActorId::from(&actor[..]));
                for number in 0..*other {
                    let key = format!("zzzzzz{place}{number}");
                    by_automerge(&mut fork, &[(key, Scalar::Bytes(vec![number; 9]))]);
                }
                document.merge(&mut fork).expect("merges");
            }
            let theirs = by_automerge(&mut document, &writes);
            let (change, hash) = Change::decode(&theirs).expect("of the known form");
            prop_assert_eq!(&change.writes, &writes);
            prop_assert_eq!(change.actor, OriginId([seed; 16]));
            prop_assert_eq!(change.encode(), (theirs.clone(), hash));
            let parsed = automerge::Change::from_bytes(theirs).expect("automerge reads it");
            prop_assert_eq!(parsed.hash().0, hash.0);
            prop_assert_eq!(parsed.max_op(), change.max_op());
        }

        #[test]
        fn a_change_with_a_flipped_bit_is_refused(place: usize, bit in 0..8_u8) {
            let mut bytes = change().encode().0;
            let place = place % bytes.len();
            bytes[place] ^= 1 << bit;
            prop_assert!(Change::decode(&bytes).is_err());
        }

        #[test]
        fn no_content_makes_decoding_panic_and_all_that_decode_have_one_form(
            place: usize, byte: u8, cut: usize, noise in prop::collection::vec(any::<u8>(), 0..4),
        ) {
            let mut content = change().content();
            let place = place % content.len();
            content[place] = byte;
            content.truncate(content.len() - cut % 5);
            content.extend(noise);
            let mut chunk = Encoder::new();
            chunk.raw(&MAGIC).u32(0).u8(CHANGE_CHUNK).run(&content);
            let mut bytes = chunk.finish();
            let hash = hash_of(&bytes);
            bytes[4..8].copy_from_slice(&hash.0[..4]);
            if let Ok((change, _)) = Change::decode(&bytes) {
                prop_assert_eq!(change.encode().0, bytes);
            }
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
            let _ = Change::decode(&bytes);
        }
    }
}
