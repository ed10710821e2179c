//! Randomness as an argument: salts and keys come from a seeded stream.
//!
//! A node seeds it from the operating system at every start; the simulator from the run's seed.

/// An endless stream of bytes that its 32-byte seed determines: BLAKE3's extendable output.
pub struct Entropy(blake3::OutputReader);

impl Entropy {
    /// The stream of `seed`.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("warbler 2026 entropy");
        hasher.update(&seed);
        Self(hasher.finalize_xof())
    }

    /// The next `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }
}
