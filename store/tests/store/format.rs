//! The bytes on disk, as `FORMAT.md` says them. The expected values were computed apart from this
//! code, with another implementation of BLAKE3: a test that fails here means that stores of other
//! versions cannot be read any more.

use warbler_store::bytes::Encoder;
use warbler_store::digest::{RowHasher, RowSum};
use warbler_store::document::{ChangeFact, ChangeHash, Snapshot};
use warbler_store::engine::Table;
use warbler_store::entropy::Entropy;
use warbler_store::entry::{chain_digest, chain_start};
use warbler_store::erasure::Erasure;
use warbler_store::id::{
    ConversationId, Digest, Front, Identity, MessageId, NodeId, OriginId, SegmentId, SpaceId,
};
use warbler_store::record::{
    Access, Body, BodyReference, ContentType, Header, MessageState, Rank, RecordKey, Revision,
    Setting, SettingKey, SettingKind, SettingRecord, Withdrawal,
};
use warbler_store::seal;
use warbler_store::tables::{
    self, BodyKey, ChangeRow, ConversationRow, EditKey, EditRow, ErasureKey, FormatRow,
    IdentityRow, LateRow, LogRow, MarkerRow, MembershipRow, MessageKey, NameRow, NodeRow,
    OriginRow, QuarantineRow, ReactionKey, ReactionRow, RowType, SettingRow, SnapshotRow, SpaceRow,
    SuccessorRow, SweepRow, ThreadKey, ThreadRow, TimelineRow,
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

const RANK: Rank = Rank { depth: 300, origin: ORIGIN, front: FRONT };

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

fn revision() -> Revision {
    let body = BodyReference { length: 3, digest: [0x5d; 16] };
    let content_type = ContentType::default();
    Revision { rank: RANK, editor: name("ada"), content_type, body }
}

fn header_hex() -> String {
    ["0100", AT, "03616461", "02", &of("58", 16)].concat()
}

/// Checks key, version with content, and checksum of a row, and that it is read back.
fn is<R: RowType + PartialEq + std::fmt::Debug>(
    key: R::Key,
    row: R,
    (expected_key, content, checksum): (&[&str], &[&str], &str),
) {
    let (stored_key, value) = tables::sealed(&key, &row);
    assert_eq!(hex(&stored_key), expected_key.concat(), "the key of {row:?}");
    let expected = [&content.concat()[..], checksum].concat();
    assert_eq!(hex(&value), expected, "the value of {row:?}");
    assert_eq!(tables::open::<R>(&stored_key, &value).expect("reads"), row);
}

#[test]
fn rows_of_the_log_and_of_documents_have_the_bytes_that_the_format_says() {
    is(
        (SPACE, ORIGIN, 7),
        LogRow { digest: CHAIN, entry: vec![0xaa, 0xbb] },
        (
            &[&of("51", 16)[..], &of("52", 16), "0000000000000007"],
            &["01", &of("56", 32), "02aabb"],
            "0664ed6a36381791",
        ),
    );

    let document = SegmentId { conversation: CONVERSATION, ordinal: 1 };
    let change = ChangeRow { document, origin: ORIGIN, seq: 7 };
    let (hash, deps) = (ChangeHash([0x5b; 32]), vec![[0x5c; 8]]);
    let row = ChangeFact { hash, seq: 3, max_op: 300, deps };
    is(
        change,
        row,
        (
            &[&of("53", 16)[..], "00000001", &of("52", 16), "0000000000000007"],
            &["02", &of("5b", 32), "03", "ac02", "01", &of("5c", 8)],
            "ef72d342f263da50",
        ),
    );

    let row = SnapshotRow(Snapshot {
        heads: vec![(hash, 300)],
        actors: vec![(ORIGIN, 3, hash, 300)],
        covered: [(ORIGIN, 7)].into_iter().collect(),
        bytes: vec![0xaa, 0xbb],
    });
    is(
        document,
        row,
        (
            &[&of("53", 16)[..], "00000001"],
            &[
                "02",
                "01",
                &of("5b", 32),
                "ac02",
                "01",
                &of("52", 16),
                "03",
                &of("5b", 32),
                "ac02",
                "01",
                &of("52", 16),
                "07",
                "02aabb",
            ],
            "fa57eb73e6151638",
        ),
    );
}

#[test]
fn rows_of_messages_have_the_bytes_that_the_format_says() {
    let row = TimelineRow { state: MessageState::default(), header: header() };
    is(
        MESSAGE,
        row,
        (&[&of("53", 16)[..], AT, &of("54", 16)], &["02", "00", &header_hex()], "bfa370a6aea3dce1"),
    );

    let state = MessageState {
        revision: Some(revision()),
        withdrawal: Some(Withdrawal { rank: RANK, by: name("bob") }),
        erased: true,
        reactions: vec![(name("🐦"), 300)],
    };
    let row = TimelineRow { state, header: header() };
    is(
        MESSAGE,
        row,
        (
            &[&of("53", 16)[..], AT, &of("54", 16)],
            &[
                "02",
                "0f",
                "ac02",
                &of("52", 16),
                AT,
                "03616461",
                "00",
                "03",
                &of("5d", 16),
                "ac02",
                &of("52", 16),
                AT,
                "03626f62",
                "01",
                "04f09f90a6",
                "ac02",
                &header_hex(),
            ],
            "ddd9c715bc3e8a29",
        ),
    );

    let body = Body { salt: [0x59; 8], bytes: b"hi".to_vec() };
    is(
        BodyKey::Shown(MESSAGE),
        body.clone(),
        (
            &[&of("53", 16)[..], AT, &of("54", 16)],
            &["01", &of("59", 8), "6869"],
            "670cc0200d428f6d",
        ),
    );
    let MessageKey { conversation, front, identity } = MESSAGE;
    let behind = BodyKey::Behind { conversation, front, identity, digest: [0x5a; 16] };
    is(
        behind,
        body.clone(),
        (
            &[&of("53", 16)[..], &of("ff", 8), AT, &of("54", 16), &of("5a", 16)],
            &["01", &of("59", 8), "6869"],
            "4e5052138606166b",
        ),
    );
    let title = BodyKey::title(CONVERSATION, IDENTITY, [0x5a; 16]);
    is(
        title,
        body.clone(),
        (
            &[&of("53", 16)[..], &of("ff", 16), &of("54", 16), &of("5a", 16)],
            &["01", &of("59", 8), "6869"],
            "2064db95164ccf1c",
        ),
    );
    let held = BodyKey::quarantined(Some(CONVERSATION), (ORIGIN, 7), 1);
    is(
        held,
        body.clone(),
        (
            &[&of("53", 16)[..], &of("ff", 16), &of("52", 16), "00000000000000070000000000000001"],
            &["01", &of("59", 8), "6869"],
            "bd33f26fdca2356b",
        ),
    );
    let held = BodyKey::quarantined(None, (ORIGIN, 7), 1);
    is(
        held,
        body,
        (
            &[&of("52", 16)[..], &of("ff", 16), &of("52", 16), "00000000000000070000000000000001"],
            &["01", &of("59", 8), "6869"],
            "e61dd26feef7b7c0",
        ),
    );
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
        cut: Some(FRONT),
        read: None,
        access: Access::Members,
        quarantined: 2,
        sum: RowSum::from_bytes([0x57; 32]),
    };
    is(
        CONVERSATION,
        row,
        (
            &["63", &of("53", 16)],
            &[
                "02",
                "0767656e6572616c",
                "00000000",
                "00000001",
                "0000012c",
                "00001000",
                "ac02",
                AT,
                &of("54", 8),
                AT,
                &of("00", 16),
                "01",
                "02",
                &of("57", 32),
            ],
            "006cdaba65cc158c",
        ),
    );

    let row = NameRow { conversation: CONVERSATION };
    is(
        (SPACE, name("general")),
        row,
        (&["6e", &of("51", 16), "67656e6572616c"], &["01", &of("53", 16)], "804b57ea1907b78a"),
    );

    let mut row = IdentityRow::default();
    row.place(IDENTITY, FRONT.next());
    row.place(IDENTITY, FRONT);
    is(
        (CONVERSATION, IDENTITY.tail()),
        row,
        (
            &["69", &of("53", 16), &of("54", 8)],
            &["02", &of("54", 16), "02", AT, "0162b0e3fc100004"],
            "9f02b3d28da110cc",
        ),
    );
}

#[test]
fn rows_of_what_was_done_have_the_bytes_that_the_format_says() {
    let key = EditKey { conversation: CONVERSATION, message: IDENTITY, rank: RANK };
    is(
        key,
        EditRow(revision()),
        (
            &["65", &of("53", 16), &of("54", 16), "000000000000012c", &of("52", 16), AT],
            &["01", "ac02", &of("52", 16), AT, "03616461", "00", "03", &of("5d", 16)],
            "ab7897cc08dff898",
        ),
    );

    let reaction = Identity([0x5e; 16]);
    let key = ReactionKey { conversation: CONVERSATION, message: IDENTITY, reaction };
    let (user, emoji) = (name("ada"), name("🐦"));
    let row = ReactionRow { rank: RANK, user, emoji, on: true };
    is(
        key,
        row,
        (
            &["72", &of("53", 16), &of("54", 16), &of("5e", 16)],
            &["01", "ac02", &of("52", 16), AT, "03616461", "04f09f90a6", "01"],
            "23f588faeb444b0e",
        ),
    );

    let root = Identity([0x5e; 16]);
    let (conversation, front, identity) = (CONVERSATION, FRONT, IDENTITY);
    let key = ThreadKey { conversation, root, front, identity };
    is(
        key,
        ThreadRow,
        (&["74", &of("53", 16), &of("5e", 16), AT, &of("54", 16)], &["01"], "1cceda133c3002d6"),
    );

    let key = SettingKey { kind: SettingKind::Title, identity: IDENTITY };
    let title = BodyReference { length: 3, digest: [0x5d; 16] };
    let setting = Setting::Title(Some(title));
    let replaces = vec![(300, ORIGIN)];
    let record = SettingRecord { setting, by: name("ada"), replaces };
    let row = SettingRow { standing: vec![(RANK, record)] };
    is(
        (CONVERSATION, key),
        row,
        (
            &["73", &of("53", 16), "11", &of("54", 16)],
            &[
                "01",
                "01",
                "ac02",
                &of("52", 16),
                AT,
                "2a",
                "110103",
                &of("5d", 16),
                "0361646101ac02",
                &of("52", 16),
            ],
            "1c43f49c7bc63c29",
        ),
    );
}

#[test]
fn rows_about_people_have_the_bytes_that_the_format_says() {
    let key = (SPACE, name("ada"), CONVERSATION);
    is(
        key,
        MembershipRow,
        (&["75", &of("51", 16), "03616461", &of("53", 16)], &["01"], "3cc599938aa746d0"),
    );
    let message = MessageId::new(FRONT, IDENTITY);
    let row = MarkerRow { user: name("ada"), message };
    is(
        (CONVERSATION, name("ada")),
        row,
        (
            &["6d", &of("53", 16), "616461"],
            &["01", "03616461", AT, &of("54", 8)],
            "c11024c70c9857fe",
        ),
    );
    let key = (CONVERSATION, name("ada"), message);
    is(
        key,
        LateRow,
        (&["6c", &of("53", 16), "03616461", AT, &of("54", 8)], &["01"], "767eb4ffdab5bc98"),
    );
}

#[test]
fn rows_of_the_erasure_table_have_the_bytes_that_the_format_says() {
    let conversation = CONVERSATION;
    let row = Erasure::Message { conversation, identity: IDENTITY };
    is(
        (SPACE, ErasureKey::of(&row)),
        row,
        (
            &[&of("51", 16)[..], "6d", &of("53", 16), &of("54", 16)],
            &["01", "01", &of("53", 16), &of("54", 16)],
            "575326a1d9ee6637",
        ),
    );
    let row = Erasure::Author { author: name("ada"), up_to: FRONT };
    is(
        (SPACE, ErasureKey::of(&row)),
        row,
        (&[&of("51", 16)[..], "61", "616461"], &["01", "0203616461", AT], "9cdb1cbd57851bb9"),
    );
    let row = Erasure::Conversation { name: name("general"), incarnation: 2, conversation };
    is(
        (SPACE, ErasureKey::of(&row)),
        row,
        (
            &[&of("51", 16)[..], "63", &of("53", 16)],
            &["01", "030767656e6572616c00000002", &of("53", 16)],
            "e9a90c5f1b7b1549",
        ),
    );
    let row = Erasure::Cut { conversation, up_to: FRONT };
    is(
        (SPACE, ErasureKey::of(&row)),
        row,
        (
            &[&of("51", 16)[..], "78", &of("53", 16)],
            &["01", "04", &of("53", 16), AT],
            "75ef9cb18794db04",
        ),
    );
}

#[test]
fn rows_of_meta_have_the_bytes_that_the_format_says() {
    is((), FormatRow { version: 2 }, (&["66"], &["01", "00000002"], "a96c28520a36b377"));
    is((), NodeRow { node: NODE }, (&["6e"], &["01", &of("55", 32)], "611eadee46196c63"));

    let row = OriginRow {
        node: NODE,
        region: name("oslo"),
        started: 1_767_225_600_000,
        seq: 7,
        depth: 300,
        digest: CHAIN,
        trimmed: 5,
        base: Digest([0x5f; 32]),
    };
    is(
        (SPACE, ORIGIN),
        row,
        (
            &["6f", &of("51", 16), &of("52", 16)],
            &[
                "02",
                &of("55", 32),
                "046f736c6f",
                "0000019b76daa800",
                "07",
                "ac02",
                &of("56", 32),
                "05",
                &of("5f", 32),
            ],
            "a64fc72d061e79ff",
        ),
    );

    let row = SpaceRow {
        name: name("main"),
        clock: FRONT,
        conversations: 1,
        messages: 300,
        ahead: 0,
        sum: RowSum::from_bytes([0x57; 32]),
        erasures: RowSum::from_bytes([0x5a; 32]),
        erased_messages: 2,
        quarantine: RowSum::from_bytes([0x5b; 32]),
    };
    is(
        SPACE,
        row,
        (
            &["73", &of("51", 16)],
            &[
                "02",
                "046d61696e",
                AT,
                "01",
                "ac02",
                "00",
                &of("57", 32),
                &of("5a", 32),
                "02",
                &of("5b", 32),
            ],
            "053b0f4e399cc4a2",
        ),
    );

    let row = QuarantineRow::new(Some(CONVERSATION), "why");
    is(
        (SPACE, ORIGIN, 7),
        row,
        (
            &["71", &of("51", 16), &of("52", 16), "0000000000000007"],
            &["01", "01", &of("53", 16), "03776879"],
            "751f86f9f6c33a79",
        ),
    );
    let row = QuarantineRow::new(None, "why");
    is(
        (SPACE, ORIGIN, 7),
        row,
        (
            &["71", &of("51", 16), &of("52", 16), "0000000000000007"],
            &["01", "00", "03776879"],
            "d3fba98be421baee",
        ),
    );
    is(
        (SPACE, ORIGIN, OriginId([0x60; 16])),
        SuccessorRow { seq: 300 },
        (&["65", &of("51", 16), &of("52", 16), &of("60", 16)], &["01", "ac02"], "a0f69f91265b2458"),
    );
    let row = SweepRow { since: 300, erasures: 2 };
    is(
        (SPACE, CONVERSATION),
        row,
        (&["77", &of("51", 16), &of("53", 16)], &["01", "ac02", "02"], "1b916f2e59945a1f"),
    );
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
    let row = TimelineRow { state: MessageState::default(), header: header() };
    let expected = "f39cfc60d88adf5145899ef5b536a2c30cdbd9a4a7d12add2fd2d487e0c2a6ca";
    let found = hasher.row(Table::Timeline, &TimelineRow::key(&MESSAGE), &tables::content(&row));
    assert_eq!(found.digest().to_string(), expected);
    let expected = "ff2742294d513e8f20bb9eec1eb6e8412827f51952b93a10bc0fd377ba771d0a";
    let found = hasher.row(Table::Index, &CONVERSATION.0, b"general");
    assert_eq!(found.digest().to_string(), expected);

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
    let origin = ORIGIN;
    let document = |ordinal, seq| ChangeRow { document: segment(ordinal), origin, seq };
    let document = |ordinal, seq| ChangeFact::key(&document(ordinal, seq));
    assert!(SnapshotRow::key(&segment(1)) < document(1, 0), "a snapshot stands before changes");
    assert!(document(1, 9) < document(2, 1));
    assert!(document(255, 1) < document(256, 1));
    let mut encoder = Encoder::new();
    encoder.u64(1);
    assert_eq!(encoder.finish(), [0, 0, 0, 0, 0, 0, 0, 1], "numbers are big-endian");
}
