//! The bytes of frames, as `PROTOCOL.md` says them.

use proptest::prelude::*;
use warbler_replication::frame::{Frame, Held, MAX_FRAME_BYTES, Wanted};
use warbler_store::entry::{Carried, Parcel};
use warbler_store::erasure::Erasure;
use warbler_store::id::{ConversationId, Digest, Identity, OriginId};
use warbler_store::record::Body;

const ORIGIN: OriginId = OriginId([0x52; 16]);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn has(frame: &Frame, expected: &[&str]) {
    assert_eq!(hex(&frame.encode()), expected.concat(), "{frame:?}");
    assert_eq!(Frame::decode(&frame.encode()).as_ref(), Ok(frame));
}

#[test]
fn every_frame_has_the_bytes_that_the_protocol_says() {
    let origin = "52".repeat(16);
    let held = vec![Held { origin: ORIGIN, seq: 300, chain: [0x53; 8] }];
    let chain = "53".repeat(8);
    has(
        &Frame::Vector { whole: true, held: held.clone() },
        &["0101", "01", &origin, "ac02", &chain],
    );
    has(&Frame::Vector { whole: false, held }, &["0100", "01", &origin, "ac02", &chain]);
    let (vector, space) = (Digest([0x54; 32]), Digest([0x55; 32]));
    let aside = Digest([0x58; 32]);
    let heartbeat = Frame::Heartbeat { vector, aside, projection: 2, space };
    has(&heartbeat, &["02", &"54".repeat(32), &"58".repeat(32), "02", &"55".repeat(32)]);
    has(&Frame::AskVector, &["03"]);
    let wanted = vec![Wanted { origin: ORIGIN, after: 300, until: 301 }];
    let pull = Frame::Pull { request: 7, budget: 1 << 20, wanted };
    has(&pull, &["05", "00000007", "00100000", "01", &origin, "ac02", "ad02"]);
    has(&Frame::PullEnd { request: 7 }, &["06", "00000007"]);
}

#[test]
fn entries_travel_in_runs() {
    let parcel = |origin, seq, words: &[&str]| Parcel {
        origin,
        seq,
        entry: vec![0xaa, 0xbb],
        chain: [0x53; 8],
        bodies: words
            .iter()
            .map(|words| {
                let body = Body { salt: [0x56; 8], bytes: words.as_bytes().to_vec() };
                Carried::Body(body)
            })
            .collect(),
    };
    let other = OriginId([0x57; 16]);
    let parcels =
        vec![parcel(ORIGIN, 7, &[]), parcel(ORIGIN, 8, &["hi", "x"]), parcel(other, 300, &[])];
    let (entry, chain, salt) = ("02aabb", "53".repeat(8), "56".repeat(8));
    has(
        &Frame::Entries(parcels),
        &[
            "04",
            "02",
            &"52".repeat(16),
            "07",
            "02",
            entry,
            &chain,
            "00",
            entry,
            &chain,
            "02",
            "026869",
            &salt,
            "0178",
            &salt,
            &"57".repeat(16),
            "ac02",
            "01",
            entry,
            &chain,
            "00",
        ],
    );
}

/// No body is empty, so an empty run says that a row which covers it comes in its place.
#[test]
fn a_body_that_was_erased_travels_as_the_row_that_covers_it() {
    let (conversation, identity) = (ConversationId([0x59; 16]), Identity([0x5a; 16]));
    let carried = vec![
        Carried::Erased(Erasure::Message { conversation, identity }),
        Carried::Body(Body { salt: [0x56; 8], bytes: b"x".to_vec() }),
    ];
    let parcel =
        Parcel { origin: ORIGIN, seq: 7, entry: vec![0xaa], chain: [0x53; 8], bodies: carried };
    let (origin, chain, salt) = ("52".repeat(16), "53".repeat(8), "56".repeat(8));
    let row = ["01", &"59".repeat(16), &"5a".repeat(16)].concat();
    has(
        &Frame::Entries(vec![parcel]),
        &["04", "01", &origin, "07", "01", "01aa", &chain, "02", "00", &row, "0178", &salt],
    );
}

#[test]
fn lists_that_the_frame_does_not_pay_for_are_refused() {
    for (head, why) in [
        (vec![1, 1, 0xff, 0xff, 0xff, 0x0f], "vector length: 33554431 is above the limit of 65536"),
        (vec![1, 1, 0x80, 0x80, 0x04], "origin: 16 more bytes expected, 0 left"),
        (vec![4, 0xff, 0xff, 0x7f], "runs: 2097151 is above the limit of 65536"),
        (vec![5, 0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f], "ranges: 2097151 is above the limit"),
    ] {
        let error = Frame::decode(&head).expect_err(why);
        assert!(error.to_string().contains(why), "{error}");
    }
    let error = Frame::decode(&vec![4; MAX_FRAME_BYTES + 1]).expect_err("too large");
    assert_eq!(error.to_string(), "frame: 2097153 bytes");
}

proptest! {
    #[test]
    fn what_decodes_encodes_to_the_same_bytes(
        kind in 1..7_u8, rest in prop::collection::vec(prop_oneof![0..3_u8, any::<u8>()], 0..80),
    ) {
        let bytes = [&[kind][..], &rest].concat();
        if let Ok(frame) = Frame::decode(&bytes) {
            let again = Frame::decode(&frame.encode());
            prop_assert_eq!(again, Ok(frame));
        }
    }
}
