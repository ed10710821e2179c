//! Reading and writing of the byte formats: fixed fields, varints and length-prefixed runs.
//!
//! Knows no format. Invariant: a [`Decoder`] never panics and never allocates more than what is
//! really there, whatever the bytes are.

/// Why bytes could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within a field.
    #[error("{what}: {needed} more bytes expected, {left} left")]
    Short {
        /// The field.
        what: &'static str,
        /// How many bytes it needs.
        needed: usize,
        /// How many there are.
        left: usize,
    },
    /// Bytes are left behind the last field.
    #[error("{left} bytes left over behind {what}")]
    Trailing {
        /// The format.
        what: &'static str,
        /// How many bytes.
        left: usize,
    },
    /// A field holds what it may not.
    #[error("{what}: {why}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl DecodeError {
    /// An [`DecodeError::Invalid`] of `what`.
    pub fn invalid(what: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Invalid { what, why: why.to_string() }
    }
}

/// Writes fields one after another.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Eight bytes, big-endian.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// One to ten bytes: seven bits each, the lowest first.
    pub fn varint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
        self
    }

    /// The bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// The length as a varint, then the bytes.
    pub fn run(&mut self, bytes: &[u8]) -> &mut Self {
        self.varint(bytes.len() as u64).raw(bytes)
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Reads fields one after another; each call names the field for its error.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    left: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Reads `bytes` from their start.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn raw(&mut self, what: &'static str, length: usize) -> Result<&'a [u8], DecodeError> {
        let short = DecodeError::Short { what, needed: length, left: self.left.len() };
        let (head, tail) = self.left.split_at_checked(length).ok_or(short)?;
        self.left = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.raw(what, N)?);
        Ok(array)
    }

    /// One byte.
    ///
    /// # Errors
    /// When none is left.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(what)?[0])
    }

    /// Two bytes, big-endian.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    /// Four bytes, big-endian.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    /// Eight bytes, big-endian.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }

    /// A varint, in its shortest form.
    ///
    /// # Errors
    /// When it is cut off, above 64 bits, or longer than it must be.
    pub fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for place in 0..10 {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if place == 9 && bits > 1 {
                return Err(DecodeError::invalid(what, "a varint above 64 bits"));
            }
            value |= bits << (7 * place);
            if byte < 0x80 {
                if byte == 0 && place > 0 {
                    return Err(DecodeError::invalid(what, "a varint longer than needed"));
                }
                return Ok(value);
            }
        }
        Err(DecodeError::invalid(what, "a varint of more than ten bytes"))
    }

    /// A varint that is at most `limit`.
    ///
    /// # Errors
    /// As [`Decoder::varint`], and when it is above `limit`.
    pub fn count(&mut self, what: &'static str, limit: usize) -> Result<usize, DecodeError> {
        let count = self.varint(what)?;
        match usize::try_from(count) {
            Ok(count) if count <= limit => Ok(count),
            _ => Err(DecodeError::invalid(what, format!("{count} is above the limit of {limit}"))),
        }
    }

    /// A run of at most `limit` bytes: its length as a varint, then the bytes.
    ///
    /// # Errors
    /// When it is cut off or above `limit`.
    pub fn run(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], DecodeError> {
        let length = self.count(what, limit)?;
        self.raw(what, length)
    }

    /// A run of at most `limit` bytes of UTF-8.
    ///
    /// # Errors
    /// As [`Decoder::run`], and when it is not UTF-8.
    pub fn text(&mut self, what: &'static str, limit: usize) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.run(what, limit)?)
            .map_err(|source| DecodeError::invalid(what, source))
    }

    /// A run that is a [`Name`](crate::name::Name).
    ///
    /// # Errors
    /// When it is not one.
    pub fn name(&mut self, what: &'static str) -> Result<crate::name::Name, DecodeError> {
        self.text(what, crate::name::MAX_NAME_BYTES)?
            .parse()
            .map_err(|source| DecodeError::invalid(what, source))
    }

    /// One byte that is 0 or 1.
    ///
    /// # Errors
    /// When it is another, or none is left.
    pub fn flag(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::invalid(what, format!("{other} is neither 0 nor 1"))),
        }
    }

    /// All that is left.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.left
    }

    /// Takes all that is left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.left)
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Ends the reading of `what`.
    ///
    /// # Errors
    /// When bytes are left.
    pub fn end(self, what: &'static str) -> Result<(), DecodeError> {
        if self.left.is_empty() {
            return Ok(());
        }
        Err(DecodeError::Trailing { what, left: self.left.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_are_read_as_they_were_written(number: u64, run: Vec<u8>, word: u32) {
            let mut encoder = Encoder::new();
            encoder.varint(number).run(&run).u32(word);
            let bytes = encoder.finish();
            let mut decoder = Decoder::new(&bytes);
            prop_assert_eq!(decoder.varint("number").expect("written"), number);
            prop_assert_eq!(decoder.run("run", run.len()).expect("written"), &run[..]);
            prop_assert_eq!(decoder.u32("word").expect("written"), word);
            prop_assert!(decoder.end("all").is_ok());
        }

        #[test]
        fn no_bytes_make_a_varint_panic(bytes: Vec<u8>) {
            let _ = Decoder::new(&bytes).varint("number");
            let _ = Decoder::new(&bytes).text("text", 10);
        }
    }

    #[test]
    fn a_varint_has_one_form_only() {
        assert!(Decoder::new(&[0x80, 0x00]).varint("number").is_err());
        assert!(Decoder::new(&[0xff; 11]).varint("number").is_err());
        assert_eq!(Decoder::new(&[0x00]).varint("number"), Ok(0));
    }

    #[test]
    fn a_run_above_its_limit_is_refused_before_it_is_read() {
        let error = Decoder::new(&[200, 1, 0]).run("body", 100).expect_err("too long");
        assert_eq!(error.to_string(), "body: 200 is above the limit of 100");
    }
}
