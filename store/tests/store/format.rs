//! The bytes on disk, as `FORMAT.md` says them. The expected values were computed apart from this
//! code, with another implementation of BLAKE3: a test that fails here means that stores of other
//! versions cannot be read any more.

use warbler_store::bytes::Encoder;
use warbler_store::digest::{RowHasher, RowSum};
use warbler_store::engine::Table;
use warbler_store::entropy::Entropy;
use warbler_store::entry::{chain_digest, chain_start};
use warbler_store::id::{
    ConversationId, Digest, Front, Identity, MessageId, NodeId, OriginId, SegmentId, SpaceId,
};
use warbler_store::record::{Body, BodyReference, ContentType, Header, RecordKey};
use warbler_store::seal;
use warbler_store::tables::{
    self, BodyKey, ConversationRow, DocumentEntryRow, FormatRow, IdentityRow, LogRow, MessageKey,
    NameRow, NodeRow, OriginRow, RowType, SpaceRow, TimelineRow,
};
use warbler_store::token::Token;
use warbler_store::vector::VersionVector;

use crate::node::name;

const SPACE: SpaceId = SpaceId([0x51; 16]);
const ORIGIN: OriginId = OriginId([0x52; 16]);
const CONVERSATION: ConversationId = ConversationId([0x53; 16]);
const IDENTITY: Identity = Identity([0x54; 16]);
const NODE: NodeId = NodeId([0x55; 32]);
const CHAIN: Digest = Digest([0x56; 32]);
const FRONT: Front = Front { millis: 1_523_386_154_000, counter: 3 };
const MESSAGE: MessageKey =
    MessageKey { conversation: CONVERSATION, front: FRONT, identity: IDENTITY };

/// `FRONT` in hex.
const AT: &str = "0162b0e3fc100003";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sixteen, eight or so bytes of one value.
fn of(byte: &str, count: usize) -> String {
    byte.repeat(count)
}

fn header() -> Header {
    Header {
        front: FRONT,
        author: name("ada"),
        content_type: ContentType::default(),
        reply_to: None,
        thread: None,
        body: BodyReference { length: 2, digest: [0x58; 16] },
    }
}

fn header_hex() -> String {
    ["0100", AT, "03616461", "02", &of("58", 16)].concat()
}

/// Checks key, content and checksum of a row, and that it is read back.
fn is<R: RowType + PartialEq + std::fmt::Debug>(
    key: R::Key,
    row: R,
    (expected_key, content, checksum): (&[&str], &[&str], &str),
) {
    let (stored_key, value) = tables::sealed(&key, &row);
    assert_eq!(hex(&stored_key), expected_key.concat(), "the key of {row:?}");
    let expected = ["01", &content.concat(), checksum].concat();
    assert_eq!(hex(&value), expected, "the value of {row:?}");
    assert_eq!(tables::open::<R>(&stored_key, &value).expect("reads"), row);
}

#[test]
fn rows_of_the_log_and_of_documents_have_the_bytes_that_the_format_says() {
    let at = (SPACE, ORIGIN, 7);
    let log = LogRow { digest: CHAIN, entry: vec![0xaa, 0xbb] };
    let key = [&of("51", 16)[..], &of("52", 16), "0000000000000007"];
    is(at, log, (&key, &[&of("56", 32), "02aabb"], "0664ed6a36381791"));

    let segment = SegmentId { conversation: CONVERSATION, ordinal: 1 };
    let key = [&of("53", 16)[..], "00000001", &of("52", 16), "0000000000000007"];
    is((segment, ORIGIN, 7), DocumentEntryRow, (&key, &[], "67a950d83aebddd0"));
}

#[test]
fn rows_of_messages_have_the_bytes_that_the_format_says() {
    let key = [&of("53", 16)[..], AT, &of("54", 16)];
    let row = TimelineRow { header: header() };
    is(MESSAGE, row, (&key, &[&header_hex()], "74dc02bfb4e53aaf"));

    let body = Body { salt: [0x59; 8], bytes: b"hi".to_vec() };
    let content = [&of("59", 8)[..], "6869"];
    let first = BodyKey { message: MESSAGE, copy: None };
    is(first, body.clone(), (&key, &content, "670cc0200d428f6d"));
    let copy = BodyKey { message: MESSAGE, copy: Some([0x5a; 16]) };
    let key = [&of("53", 16)[..], AT, &of("54", 16), &of("5a", 16)];
    is(copy, body, (&key, &content, "e7a11c6aa62ffc92"));
}

#[test]
fn rows_of_the_index_have_the_bytes_that_the_format_says() {
    let row = ConversationRow {
        name: name("general"),
        incarnation: 0,
        ordinal: 1,
        records: 300,
        record_bytes: 4096,
        messages: 300,
        last: Some(MessageId::new(FRONT, IDENTITY)),
        sum: RowSum::from_bytes([0x57; 32]),
    };
    let content = [
        "0767656e6572616c",
        "00000000",
        "00000001",
        "0000012c",
        "00001000",
        "ac02",
        AT,
        &of("54", 8),
        &of("57", 32),
    ];
    is(CONVERSATION, row, (&["63", &of("53", 16)], &content, "24ff704c832971e8"));

    let row = NameRow { conversation: CONVERSATION };
    let key = ["6e", &of("51", 16), "67656e6572616c"];
    is((SPACE, name("general")), row, (&key, &[&of("53", 16)], "804b57ea1907b78a"));

    let mut row = IdentityRow::default();
    row.place(IDENTITY, FRONT);
    let key = ["69", &of("53", 16), &of("54", 8)];
    let content = ["01", &of("54", 16), AT];
    is((CONVERSATION, IDENTITY.tail()), row, (&key, &content, "1299d4adc797b2d5"));
}

#[test]
fn rows_of_meta_have_the_bytes_that_the_format_says() {
    is((), FormatRow { version: 1 }, (&["66"], &["00000001"], "2a97085c45045e96"));
    is((), NodeRow { node: NODE }, (&["6e"], &[&of("55", 32)], "611eadee46196c63"));

    let row = OriginRow {
        node: NODE,
        region: name("oslo"),
        started: 1_767_225_600_000,
        seq: 7,
        depth: 300,
        digest: CHAIN,
    };
    let key = ["6f", &of("51", 16), &of("52", 16)];
    let content =
        [&of("55", 32)[..], "046f736c6f", "0000019b76daa800", "07", "ac02", &of("56", 32)];
    is((SPACE, ORIGIN), row, (&key, &content, "1c23107fda51a077"));

    let row = SpaceRow {
        name: name("main"),
        clock: FRONT,
        conversations: 1,
        messages: 300,
        ahead: 0,
        sum: RowSum::from_bytes([0x57; 32]),
    };
    let content = ["046d61696e", AT, "01", "ac02", "00", &of("57", 32)];
    is(SPACE, row, (&["73", &of("51", 16)], &content, "b1ccd30f8f2a3a11"));
}

#[test]
fn tables_have_the_names_and_numbers_that_the_format_says() {
    let names = Table::ALL.map(Table::name);
    let expected = ["log", "segments", "timeline", "bodies", "erasures", "index", "meta"];
    assert_eq!(names, expected);
    // The number of a table goes into the checksum.
    let sealed = |table| hex(&seal::seal(table, b"key", 1, b"content")[8..]);
    let checksums = Table::ALL.map(sealed);
    let expected = CHECKSUMS;
    assert_eq!(checksums, expected);
}

/// The checksums of `content` of version 1 under `key` in the seven tables.
const CHECKSUMS: [&str; 7] = [
    "7bcf6755016abae0",
    "9704d68789eee48a",
    "637c6a060c2f6257",
    "543fda8afc6630f9",
    "9c34e73e360fad18",
    "e0e494bfec5a8e8e",
    "038df0aff9ff39ff",
];

#[test]
fn digests_have_the_bytes_that_the_format_says() {
    let start = chain_start(SPACE, ORIGIN);
    let expected = "6be430ad9034427f9c6daea27ca8cab7d039226626e207df77ff9392ea1b2dd9";
    assert_eq!(start.to_string(), expected);
    let expected = "acee8bb5167e8e3f51cec02a812d3ce0610d12d0394289fc43bdae8cc9261f8a";
    assert_eq!(chain_digest(start, b"first").to_string(), expected);

    let hasher = RowHasher::of(SPACE);
    let place = [CONVERSATION.0, IDENTITY.0].concat();
    let expected = "1c3e35ffbb617a3af95e4a8f3f9cb86670aae8d0efb49a14a9effa01922d7ff9";
    assert_eq!(hasher.row(&place, &header().encode()).digest().to_string(), expected);
    let expected = "be60d34b24839360099522f9aa772c89af4be5610b1d19c1e7298b459b9cdfb9";
    assert_eq!(hasher.row(&CONVERSATION.0, b"general").digest().to_string(), expected);

    let vector: VersionVector = [(ORIGIN, 300)].into_iter().collect();
    let expected = "391b7e4f1a4f75e64d3b39bf807fb800c0f0c6bdeaa57e54234e9efade6dba60";
    assert_eq!(vector.digest().to_string(), expected);
}

#[test]
fn tokens_and_record_keys_have_the_text_that_the_format_says() {
    let vector: VersionVector = [(ORIGIN, 300)].into_iter().collect();
    let token = Token::of(SPACE, vector);
    assert_eq!(token.to_text(), "AVFRUVFRUVFRUVFRUVFRUVEBUlJSUlJSUlJSUlJSUlJSUqwC");
    let within = Token { within: Some((ORIGIN, 3)), ..token };
    let expected = "AVFRUVFRUVFRUVFRUVFRUVEBUlJSUlJSUlJSUlJSUlJSUqwCUlJSUlJSUlJSUlJSUlJSUgM";
    assert_eq!(within.to_text(), expected);

    let key = RecordKey { depth: 300, origin: ORIGIN, identity: IDENTITY };
    assert_eq!(key.to_text(), "zzzzzzvIJ_8HJ_8HJ_8HJ_8HJ_8HJ_GJK4GJK4GJK4GJK4GJK4F");
}

/// Not on disk, but salts depend on it, and with them every simulation's bytes.
#[test]
fn the_stream_of_a_seed_never_changes() {
    let stream: [u8; 16] = Entropy::from_seed([1; 32]).bytes();
    assert_eq!(hex(&stream), "fa4e866e762632f516d50b47d83c4ecc");
}

#[test]
fn keys_order_as_their_meaning_does() {
    let key = |front: (u64, u16), identity: u8| {
        let (millis, counter) = front;
        let front = Front { millis, counter };
        TimelineRow::key(&MessageKey { front, identity: Identity([identity; 16]), ..MESSAGE })
    };
    assert!(key((5, 9), 9) < key((6, 0), 0));
    assert!(key((5, 8), 9) < key((5, 9), 0));
    assert!(key((5, 9), 1) < key((5, 9), 2));
    let log = |origin: u8, seq: u64| LogRow::key(&(SPACE, OriginId([origin; 16]), seq));
    assert!(log(1, 255) < log(1, 256));
    assert!(log(1, u64::MAX) < log(2, 1));
    let segment = |ordinal| SegmentId { conversation: CONVERSATION, ordinal };
    let document = |ordinal, seq| DocumentEntryRow::key(&(segment(ordinal), ORIGIN, seq));
    assert!(document(1, 9) < document(2, 1));
    assert!(document(255, 1) < document(256, 1));
    let mut encoder = Encoder::new();
    encoder.u64(1);
    assert_eq!(encoder.finish(), [0, 0, 0, 0, 0, 0, 0, 1], "numbers are big-endian");
}
