//! Version vectors: per origin, up to which seq everything is held.
//!
//! Invariant: an origin that stands in a vector has a seq of at least 1, so that equal
//! knowledge is equal bytes.

use std::collections::BTreeMap;
use std::collections::btree_map;

use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::id::{Digest, OriginId};

/// How many origins a vector may name when it comes from outside.
pub const MAX_ORIGINS: usize = 65_536;

/// Per origin, the seq up to which everything is held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionVector(BTreeMap<OriginId, u64>);

impl VersionVector {
    /// What is held of `origin`: 0 for nothing.
    #[must_use]
    pub fn get(&self, origin: OriginId) -> u64 {
        self.0.get(&origin).copied().unwrap_or(0)
    }

    /// Raises `origin` to `seq`; never lowers it.
    pub fn raise(&mut self, origin: OriginId, seq: u64) {
        if seq > 0 {
            let held = self.0.entry(origin).or_insert(seq);
            *held = seq.max(*held);
        }
    }

    /// Raises every component to that of `other`.
    pub fn merge(&mut self, other: &Self) {
        other.iter().for_each(|(origin, seq)| self.raise(origin, seq));
    }

    /// Whether everything that `other` names is held.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|(origin, seq)| self.get(origin) >= seq)
    }

    /// The components of `self` that are above those of `base`.
    pub fn above<'a>(&'a self, base: &'a Self) -> impl Iterator<Item = (OriginId, u64)> + 'a {
        self.iter().filter(|(origin, seq)| *seq > base.get(*origin))
    }

    /// How many entries `self` holds that `base` does not.
    #[must_use]
    pub fn entries_above(&self, base: &Self) -> u64 {
        let missing = self.above(base).map(|(origin, seq)| seq - base.get(origin));
        missing.fold(0, u64::saturating_add)
    }

    /// The components, by origin.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.0.iter())
    }

    /// How many origins it names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it names none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// BLAKE3 of the encoded vector: equal exactly when the vectors are.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut encoder = Encoder::new();
        self.encode(&mut encoder);
        Digest(*blake3::hash(&encoder.finish()).as_bytes())
    }

    /// Writes the number of components, then each as origin and seq.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.varint(self.0.len() as u64);
        for (origin, seq) in self.iter() {
            encoder.raw(&origin.0).varint(seq);
        }
    }

    /// Reads what [`VersionVector::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are cut off, the origins are not in order, or a seq is 0.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let count = decoder.count("vector length", MAX_ORIGINS)?;
        let mut vector = Self::default();
        for _ in 0..count {
            let origin = OriginId(decoder.array("vector origin")?);
            let seq = decoder.varint("vector seq")?;
            let last = vector.0.last_key_value().map(|(last, _)| *last);
            if seq == 0 || last.is_some_and(|last| last >= origin) {
                return Err(DecodeError::invalid("vector", "origins out of order or a seq of 0"));
            }
            vector.0.insert(origin, seq);
        }
        Ok(vector)
    }
}

impl FromIterator<(OriginId, u64)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (OriginId, u64)>>(components: I) -> Self {
        let mut vector = Self::default();
        components.into_iter().for_each(|(origin, seq)| vector.raise(origin, seq));
        vector
    }
}

/// The components of a vector, by origin.
#[derive(Debug)]
pub struct Iter<'a>(btree_map::Iter<'a, OriginId, u64>);

impl Iterator for Iter<'_> {
    type Item = (OriginId, u64);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(origin, seq)| (*origin, *seq))
    }
}

impl<'a> IntoIterator for &'a VersionVector {
    type Item = (OriginId, u64);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vectors() -> impl Strategy<Value = VersionVector> {
        prop::collection::btree_map(any::<[u8; 16]>(), 1..u64::MAX, 0..8).prop_map(|components| {
            components.into_iter().map(|(origin, seq)| (OriginId(origin), seq)).collect()
        })
    }

    proptest! {
        #[test]
        fn merging_gives_the_least_vector_that_covers_both(a in vectors(), b in vectors()) {
            let mut merged = a.clone();
            merged.merge(&b);
            prop_assert!(merged.covers(&a) && merged.covers(&b));
            for (origin, seq) in &merged {
                prop_assert!(seq == a.get(origin) || seq == b.get(origin));
            }
        }

        #[test]
        fn a_vector_survives_its_bytes(vector in vectors()) {
            let mut encoder = Encoder::new();
            vector.encode(&mut encoder);
            let bytes = encoder.finish();
            let mut decoder = Decoder::new(&bytes);
            prop_assert_eq!(VersionVector::decode(&mut decoder).expect("own bytes"), vector);
            prop_assert!(decoder.end("vector").is_ok());
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
            let _ = VersionVector::decode(&mut Decoder::new(&bytes));
        }
    }
}
