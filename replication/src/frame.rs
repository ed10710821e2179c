//! The frames of a session, and their bytes.
//!
//! Encode and decode face each other. Invariant: bytes from a peer never panic, and nothing is
//! allocated that the frame's own length does not pay for.

use warbler_store::bytes::{DecodeError, Decoder, Encoder};
use warbler_store::entry::Parcel;
use warbler_store::id::{Digest, OriginId};
use warbler_store::vector::MAX_ORIGINS;

/// The greatest size of a frame: 2 MiB, room for one entry of 1 MiB and its bodies' framing.
pub const MAX_FRAME_BYTES: usize = 2 << 20;
/// The most runs in one frame of entries.
const MAX_RUNS: usize = 65_536;
/// The most parcels in one run.
const MAX_RUN: usize = 65_536;

const VECTOR: u8 = 1;
const HEARTBEAT: u8 = 2;
const ASK_VECTOR: u8 = 3;
const ENTRIES: u8 = 4;
const PULL: u8 = 5;
const PULL_END: u8 = 6;

/// What is held of an origin: up to which seq, and the first 8 bytes of the chain digest there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The origin.
    pub origin: OriginId,
    /// Up to which seq everything is held durably.
    pub seq: u64,
    /// The first 8 bytes of the chain digest at `seq`.
    pub chain: [u8; 8],
}

/// A range of an origin's log that is asked for: above `after`, up to `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The origin.
    pub origin: OriginId,
    /// What the asker has.
    pub after: u64,
    /// What it asks up to.
    pub until: u64,
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// What the sender holds durably: all of it, or what moved since its last vector.
    Vector {
        /// Whether it is all.
        whole: bool,
        /// The components.
        held: Vec<Held>,
    },
    /// A sign of life, with what identifies the sender's durable state: the digests of its
    /// vector, of what its state depends on beside it, and of the space, from one batch.
    Heartbeat {
        /// BLAKE3 of the vector.
        vector: Digest,
        /// The digest of the erasure table and the quarantine.
        aside: Digest,
        /// The version of what the space digest sums.
        projection: u8,
        /// The digest of the space.
        space: Digest,
    },
    /// Asks for the whole vector.
    AskVector,
    /// Entries that the sender holds durably: pushed, or as answer to a pull.
    Entries(Vec<Parcel>),
    /// Asks for ranges of the log, in causal order.
    Pull {
        /// Names the request.
        request: u32,
        /// How many bytes of entries the asker takes.
        budget: u32,
        /// The ranges.
        wanted: Vec<Wanted>,
    },
    /// Ends the answer to a pull.
    PullEnd {
        /// Which pull.
        request: u32,
    },
}

impl Frame {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_capacity(64);
        match self {
            Self::Vector { whole, held } => {
                encoder.u8(VECTOR).u8(u8::from(*whole)).varint(held.len() as u64);
                for Held { origin, seq, chain } in held {
                    encoder.raw(&origin.0).varint(*seq).raw(chain);
                }
            }
            Self::Heartbeat { vector, aside, projection, space } => {
                encoder.u8(HEARTBEAT).raw(&vector.0).raw(&aside.0).u8(*projection).raw(&space.0);
            }
            Self::AskVector => {
                encoder.u8(ASK_VECTOR);
            }
            Self::Entries(parcels) => encode_entries(&mut encoder, parcels),
            Self::Pull { request, budget, wanted } => {
                encoder.u8(PULL).u32(*request).u32(*budget).varint(wanted.len() as u64);
                for Wanted { origin, after, until } in wanted {
                    encoder.raw(&origin.0).varint(*after).varint(*until);
                }
            }
            Self::PullEnd { request } => {
                encoder.u8(PULL_END).u32(*request);
            }
        }
        encoder.finish()
    }

    /// The protocol version in which the frame of these bytes came to be: on a connection that
    /// speaks an earlier one it is sent by nobody, and a violation.
    #[must_use]
    pub fn since(bytes: &[u8]) -> u16 {
        if bytes.first().is_some_and(|kind| *kind > PULL_END) { 3 } else { 2 }
    }

    /// Reads what [`Frame::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are no frame of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_FRAME_BYTES {
            return Err(DecodeError::invalid("frame", format!("{} bytes", bytes.len())));
        }
        let mut decoder = Decoder::new(bytes);
        let frame = match decoder.u8("frame kind")? {
            VECTOR => decode_vector(&mut decoder)?,
            HEARTBEAT => Self::Heartbeat {
                vector: Digest(decoder.array("vector digest")?),
                aside: Digest(decoder.array("digest aside")?),
                projection: decoder.u8("projection version")?,
                space: Digest(decoder.array("space digest")?),
            },
            ASK_VECTOR => Self::AskVector,
            ENTRIES => Self::Entries(decode_entries(&mut decoder)?),
            PULL => decode_pull(&mut decoder)?,
            PULL_END => Self::PullEnd { request: decoder.u32("request")? },
            unknown => {
                return Err(DecodeError::invalid("frame kind", format!("{unknown} is unknown")));
            }
        };
        decoder.end("frame")?;
        Ok(frame)
    }
}

fn decode_vector(decoder: &mut Decoder<'_>) -> Result<Frame, DecodeError> {
    let whole = match decoder.u8("vector extent")? {
        0 => false,
        1 => true,
        other => return Err(DecodeError::invalid("vector extent", other)),
    };
    let count = decoder.count("vector length", MAX_ORIGINS)?;
    let held = (0..count).map(|_| {
        Ok(Held {
            origin: OriginId(decoder.array("origin")?),
            seq: decoder.varint("seq")?,
            chain: decoder.array("chain")?,
        })
    });
    Ok(Frame::Vector { whole, held: held.collect::<Result<_, DecodeError>>()? })
}

fn decode_pull(decoder: &mut Decoder<'_>) -> Result<Frame, DecodeError> {
    let request = decoder.u32("request")?;
    let budget = decoder.u32("budget")?;
    let count = decoder.count("ranges", MAX_ORIGINS)?;
    let wanted = (0..count).map(|_| {
        Ok(Wanted {
            origin: OriginId(decoder.array("origin")?),
            after: decoder.varint("after")?,
            until: decoder.varint("until")?,
        })
    });
    Ok(Frame::Pull { request, budget, wanted: wanted.collect::<Result<_, DecodeError>>()? })
}

/// Entries go as runs: an origin and a first seq, then the entries that follow one another.
fn encode_entries(encoder: &mut Encoder, parcels: &[Parcel]) {
    let runs: Vec<&[Parcel]> = parcels
        .chunk_by(|one, next| one.origin == next.origin && one.seq.checked_add(1) == Some(next.seq))
        .collect();
    encoder.u8(ENTRIES).varint(runs.len() as u64);
    for run in runs {
        encoder.raw(&run[0].origin.0).varint(run[0].seq).varint(run.len() as u64);
        run.iter().for_each(|parcel| parcel.encode(encoder));
    }
}

fn decode_entries(decoder: &mut Decoder<'_>) -> Result<Vec<Parcel>, DecodeError> {
    let runs = decoder.count("runs", MAX_RUNS)?;
    let mut parcels = Vec::new();
    for _ in 0..runs {
        let origin = OriginId(decoder.array("origin")?);
        let first = decoder.varint("first seq")?;
        let count = decoder.count("run length", MAX_RUN)?;
        for place in 0..count as u64 {
            let seq = first.checked_add(place);
            let seq = seq.ok_or_else(|| DecodeError::invalid("seq", "above 64 bits"))?;
            parcels.push(Parcel::decode(decoder, origin, seq)?);
        }
    }
    Ok(parcels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use warbler_store::entry::Carried;
    use warbler_store::record::Body;

    fn body(bytes: Vec<u8>) -> Carried {
        Carried::Body(Body { salt: [1; 8], bytes })
    }

    fn parcels() -> impl Strategy<Value = Vec<Parcel>> {
        let parcel = (0..3_u8, 1..6_u64, any::<Vec<u8>>(), any::<Option<Vec<u8>>>());
        prop::collection::vec(parcel, 0..6).prop_map(|parcels| {
            let build = |(origin, seq, entry, words): (u8, u64, Vec<u8>, Option<Vec<u8>>)| Parcel {
                origin: OriginId([origin; 16]),
                seq,
                entry,
                chain: [7; 8],
                bodies: words.into_iter().filter(|words| !words.is_empty()).map(body).collect(),
            };
            parcels.into_iter().map(build).collect()
        })
    }

    fn frames() -> impl Strategy<Value = Frame> {
        let held = (any::<[u8; 16]>(), any::<u64>(), any::<[u8; 8]>());
        let held =
            held.prop_map(|(origin, seq, chain)| Held { origin: OriginId(origin), seq, chain });
        let wanted = (any::<[u8; 16]>(), any::<u64>(), any::<u64>());
        let wanted = wanted.prop_map(|(origin, after, until)| Wanted {
            origin: OriginId(origin),
            after,
            until,
        });
        prop_oneof![
            (any::<bool>(), prop::collection::vec(held, 0..5))
                .prop_map(|(whole, held)| Frame::Vector { whole, held }),
            (any::<[u8; 32]>(), any::<[u8; 32]>(), any::<u8>(), any::<[u8; 32]>()).prop_map(
                |(vector, aside, projection, space)| Frame::Heartbeat {
                    vector: Digest(vector),
                    aside: Digest(aside),
                    projection,
                    space: Digest(space),
                }
            ),
            Just(Frame::AskVector),
            parcels().prop_map(Frame::Entries),
            (any::<u32>(), any::<u32>(), prop::collection::vec(wanted, 0..5))
                .prop_map(|(request, budget, wanted)| Frame::Pull { request, budget, wanted }),
            any::<u32>().prop_map(|request| Frame::PullEnd { request }),
        ]
    }

    proptest! {
        #[test]
        fn a_frame_survives_its_bytes(frame in frames()) {
            prop_assert_eq!(Frame::decode(&frame.encode()).expect("own bytes"), frame);
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
            let _ = Frame::decode(&bytes);
        }

        #[test]
        fn a_frame_cut_short_is_refused(frame in frames(), cut: usize) {
            let bytes = frame.encode();
            prop_assert!(Frame::decode(&bytes[..cut % bytes.len()]).is_err());
        }
    }

    #[test]
    fn frames_have_the_bytes_that_the_protocol_says() {
        let held = Held { origin: OriginId([2; 16]), seq: 300, chain: [3; 8] };
        let hex = |frame: Frame| -> String {
            frame.encode().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let vector = hex(Frame::Vector { whole: true, held: vec![held] });
        assert_eq!(vector, format!("010101{}ac02{}", "02".repeat(16), "03".repeat(8)));
        let parcel = Parcel {
            origin: OriginId([2; 16]),
            seq: 7,
            entry: vec![9],
            chain: [4; 8],
            bodies: vec![],
        };
        let expected = ["0401", &"02".repeat(16), "0701", "0109", &"04".repeat(8), "00"];
        assert_eq!(hex(Frame::Entries(vec![parcel])), expected.concat());
    }
}
