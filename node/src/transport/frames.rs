//! Frames on a stream of bytes: a length (u32, big-endian, of the frame alone) and the frame.
//!
//! It must not know what frames say, nor where bytes come from. Its one invariant: nothing is
//! allocated for a frame before its length was found to be within the limit.

/// Length of the length field, in bytes.
const LENGTH_BYTES: usize = 4;

/// What is allocated for a frame before any of it has come, in bytes, at most.
const FIRST_ALLOCATION_BYTES: usize = 64 * 1024;

/// A frame is longer than agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes was announced, at most {limit} are allowed")]
pub(super) struct FrameTooLong {
    /// The length as announced, in bytes.
    pub(super) length: u32,
    /// The limit, in bytes.
    pub(super) limit: u32,
}

/// Appends a frame, with its length before it, to `bytes`.
///
/// The frame must be within the limit, and so below 4 GiB.
pub(super) fn append(bytes: &mut Vec<u8>, frame: &[u8]) {
    let length = u32::try_from(frame.len()).expect("the limit of frames is far below 4 GiB");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(frame);
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub(super) struct FrameDecoder {
    limit: u32,
    length: [u8; LENGTH_BYTES],
    length_filled: usize,
    frame: Vec<u8>,
    /// How much of the current frame has yet to come; `None` while its length is read.
    missing: Option<usize>,
}

impl FrameDecoder {
    /// For frames of at most `limit` bytes.
    pub(super) const fn new(limit: u32) -> Self {
        Self {
            limit,
            length: [0; LENGTH_BYTES],
            length_filled: 0,
            frame: Vec::new(),
            missing: None,
        }
    }

    /// Takes the next bytes and hands every frame that they complete to `deliver`.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut deliver: impl FnMut(Vec<u8>),
    ) -> Result<(), FrameTooLong> {
        loop {
            match self.missing {
                None => {
                    let taken = bytes.len().min(LENGTH_BYTES - self.length_filled);
                    let (head, rest) = bytes.split_at(taken);
                    self.length[self.length_filled..][..taken].copy_from_slice(head);
                    self.length_filled += taken;
                    bytes = rest;
                    if self.length_filled < LENGTH_BYTES {
                        return Ok(());
                    }
                    self.begin()?;
                }
                Some(missing) => {
                    let (head, rest) = bytes.split_at(bytes.len().min(missing));
                    self.frame.extend_from_slice(head);
                    bytes = rest;
                    if head.len() < missing {
                        self.missing = Some(missing - head.len());
                        return Ok(());
                    }
                    self.missing = None;
                    deliver(std::mem::take(&mut self.frame));
                }
            }
        }
    }

    /// Whether the stream may end here: between two frames.
    pub(super) const fn is_between_frames(&self) -> bool {
        self.length_filled == 0 && self.missing.is_none()
    }

    fn begin(&mut self) -> Result<(), FrameTooLong> {
        let length = u32::from_be_bytes(self.length);
        if length > self.limit {
            return Err(FrameTooLong { length, limit: self.limit });
        }
        self.length_filled = 0;
        let bytes = length as usize;
        self.frame = Vec::with_capacity(bytes.min(FIRST_ALLOCATION_BYTES));
        self.missing = Some(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| append(&mut bytes, frame));
        bytes
    }

    #[test]
    fn frames_come_out_whole_and_in_order_however_the_bytes_are_cut() {
        let frames: Vec<Vec<u8>> =
            [0, 1, 3, 4, 5, 300, 0, 70_000].map(|length| vec![length as u8; length]).into();
        let bytes = encoded(&frames);
        for piece in [1, 2, 3, 7, 64, 1_000, bytes.len()] {
            let mut decoder = FrameDecoder::new(70_000);
            let mut out = Vec::new();
            for part in bytes.chunks(piece) {
                decoder.feed(part, |frame| out.push(frame)).expect("within the limit");
            }
            assert_eq!(out, frames, "in pieces of {piece} bytes");
            assert!(decoder.is_between_frames());
        }
    }

    #[test]
    fn a_frame_above_the_limit_is_refused_by_its_length_alone() {
        let mut decoder = FrameDecoder::new(10);
        let mut out = Vec::new();
        let mut bytes = encoded(&[vec![1; 10]]);
        bytes.extend(11_u32.to_be_bytes());
        let error = decoder.feed(&bytes, |frame| out.push(frame)).expect_err("too long");
        assert_eq!(error, FrameTooLong { length: 11, limit: 10 });
        assert_eq!(out, [vec![1; 10]], "what came before it counts");
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_is_told_from_one_that_ends_between_frames() {
        let bytes = encoded(&[vec![7; 3]]);
        for cut in 0..=bytes.len() {
            let mut decoder = FrameDecoder::new(10);
            decoder.feed(&bytes[..cut], drop).expect("within the limit");
            assert_eq!(decoder.is_between_frames(), cut == 0 || cut == bytes.len(), "at {cut}");
        }
    }
}
