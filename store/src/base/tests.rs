//! Stories of a space that goes from one node to another as a whole.

use proptest::prelude::*;

use super::{Chunk, Export, ExportError, Import, ImportError, Stamp, is_unfinished};
use crate::bytes::{Decoder, Encoder};
use crate::engine::{Engine, MemoryEngine, Row, Table};
use crate::entropy::Entropy;
use crate::id::NodeId;
use crate::open::claim;
use crate::replica::{Replica, ReplicaError, Writer};
use crate::scene::{NOON, Node, event, name, space, world};
use crate::tables::{self, LateRow, SpaceRow, SweepRow};
use crate::verify::tests::rich;

fn empty() -> MemoryEngine {
    let engine = MemoryEngine::new();
    claim(&engine, NodeId([5; 32])).expect("an empty store");
    engine
}

/// All that a node hands over, through its bytes.
fn handed_over(engine: &MemoryEngine) -> (Stamp, Vec<Chunk>) {
    let view = engine.view();
    let mut export = Export::of(&*view, space()).expect("reads").expect("something is held");
    let mut encoder = Encoder::new();
    export.stamp().encode(&mut encoder);
    let bytes = encoder.finish();
    let stamp = Stamp::decode(&mut Decoder::new(&bytes)).expect("own bytes");
    assert_eq!(&stamp, export.stamp());
    let mut chunks = Vec::new();
    while let Some(chunk) = export.next(&*view).expect("reads") {
        let mut encoder = Encoder::new();
        chunk.encode(&mut encoder);
        let bytes = encoder.finish();
        let again = Chunk::decode(&mut Decoder::new(&bytes)).expect("own bytes");
        assert_eq!(again, chunk);
        chunks.push(again);
    }
    (stamp, chunks)
}

/// Chunks of one row each, so that a power cut can come between any two.
fn split(chunks: &[Chunk]) -> Vec<Chunk> {
    let rows = chunks.iter().flat_map(|chunk| chunk.rows.iter().cloned());
    rows.map(|row| Chunk { rows: vec![row] }).collect()
}

fn take_in(engine: &MemoryEngine, stamp: &Stamp, chunks: &[Chunk]) -> Result<(), ImportError> {
    let (mut import, batch) = Import::begin(engine, stamp.clone())?;
    engine.persist(&batch)?;
    for chunk in chunks {
        engine.persist(&import.take(chunk)?)?;
    }
    let batch = import.finish(&*engine.view(), |_| false)?;
    Ok(engine.persist(&batch)?)
}

fn open(engine: &MemoryEngine) -> Result<Replica, ReplicaError> {
    let writer = Writer {
        node: NodeId([5; 32]),
        region: name("lima"),
        origin: crate::id::OriginId([0x55; 16]),
        started: NOON,
    };
    let shared = std::sync::Arc::new(engine.clone());
    Replica::open(shared, &name("main"), writer, Entropy::from_seed([5; 32]), 1 << 20)
}

/// The rows of a space, but for those that are each node's own.
fn rows_of(engine: &MemoryEngine) -> Vec<(Table, Row)> {
    let node = Node::on(engine.clone(), 5, 0);
    let own = |table: Table, key: &[u8]| match table {
        Table::Index => key[0] == LateRow::LETTER,
        Table::Meta => matches!(key[0], SpaceRow::LETTER | SweepRow::LETTER | b'n' | b'f'),
        Table::Log | Table::Segments | Table::Timeline | Table::Bodies | Table::Erasures => false,
    };
    node.rows().into_iter().filter(|(table, (key, _))| !own(*table, key)).collect()
}

#[test]
fn a_space_that_is_taken_in_is_the_space_that_was_handed_over() {
    let from = rich();
    let (stamp, chunks) = handed_over(&from.engine);
    let engine = empty();
    take_in(&engine, &stamp, &chunks).expect("is taken in");
    let mut to = Node::on(engine, 5, 0);
    assert_eq!(to.replica.durable(), from.replica.durable());
    assert_eq!(rows_of(&to.engine), rows_of(&from.engine));
    for text in ["general", "news"] {
        assert_eq!(to.page(text), from.page(text));
    }
    assert_eq!(to.damage(), []);

    // And it goes on from there, with what comes from elsewhere and what is written here.
    to.now = from.now + 10;
    to.post("general", "ada", "from the new region");
    to.persist();
    assert_eq!(to.page("general").len(), from.page("general").len() + 1);
    assert_eq!(to.damage(), []);
}

#[test]
fn a_space_that_is_not_empty_is_not_taken_in() {
    let from = rich();
    let (stamp, chunks) = handed_over(&from.engine);
    let mut other = Node::new(7);
    other.create("news");
    let before = other.rows();
    let refused = take_in(&other.engine, &stamp, &chunks).expect_err("something is there");
    assert!(matches!(refused, ImportError::NotEmpty(_)), "{refused}");
    assert_eq!(other.rows(), before);
}

/// After each row, and whether the last batch reached the disk or not.
#[test]
fn an_import_that_is_killed_is_never_read_half() {
    let from = rich();
    let (stamp, chunks) = handed_over(&from.engine);
    let rows = split(&chunks);
    for (killed_at, kept) in (0..=rows.len()).zip([false, true].into_iter().cycle()) {
        let engine = empty();
        let before = Node::on(engine.clone(), 5, 0).rows();
        let (mut import, batch) = Import::begin(&engine, stamp.clone()).expect("begins");
        engine.persist(&batch).expect("persists");
        for chunk in &rows[..killed_at] {
            engine.persist(&import.take(chunk).expect("is whole")).expect("persists");
        }
        engine.tear_next(kept);
        let last = match rows.get(killed_at) {
            Some(chunk) => import.take(chunk).expect("is whole"),
            None => import.finish(&*engine.view(), |_| false).expect("is whole"),
        };
        engine.persist(&last).expect_err("the power is cut");
        engine.crash();
        let done = killed_at == rows.len() && kept;
        match open(&engine) {
            Ok(replica) => assert!(done && replica.durable() == from.replica.durable()),
            Err(error) => assert!(!done && matches!(error, ReplicaError::Unfinished(_)), "{error}"),
        }
        claim(&engine, NodeId([5; 32])).expect("opens");
        assert!(!is_unfinished(&engine, space()).expect("reads"));
        if !done {
            assert_eq!(Node::on(engine.clone(), 5, 0).rows(), before, "wiped at {killed_at}");
            take_in(&engine, &stamp, &chunks).expect("is begun again");
        }
        assert_eq!(open(&engine).expect("opens").durable(), from.replica.durable());
    }
}

#[test]
fn a_row_that_is_damaged_foreign_or_missing_is_not_taken_for_whole() {
    let from = rich();
    let (stamp, chunks) = handed_over(&from.engine);
    let rows = split(&chunks);
    for place in 0..rows.len() {
        let mut damaged = rows.clone();
        let (_, _, value) = &mut damaged[place].rows[0];
        let bit = place % (value.len() * 8);
        value[bit / 8] ^= 1 << (bit % 8);
        let refused = take_in(&empty(), &stamp, &damaged[place..=place]).expect_err("damaged");
        assert!(matches!(refused, ImportError::Row { .. }), "{refused}");

        let mut missing = rows.clone();
        let (table, key, _) = missing.remove(place).rows.remove(0);
        let quarantined = tables::BodyKey::quarantined_entry(&key)
            .is_some_and(|(origin, _)| table == Table::Bodies && origin.0 == [9; 16]);
        let outcome = take_in(&empty(), &stamp, &missing);
        assert_eq!(outcome.is_ok(), quarantined, "{table} {key:02x?} {outcome:?}");
    }
    let mut elsewhere = Node::new(7);
    elsewhere.create("news");
    let late = (Table::Index, [&[LateRow::LETTER][..], &[1; 40]].concat(), Vec::new());
    let key = (name("main"), crate::id::ConversationId([7; 16]));
    let body = crate::record::Body { salt: [1; 8], bytes: b"x".to_vec() };
    let at = tables::BodyKey::title(key.1, crate::id::Identity([1; 16]), [1; 16]);
    let (key, value) = tables::sealed(&at, &body);
    for row in [late, (Table::Bodies, key, value)] {
        let chunk = Chunk { rows: vec![row] };
        let refused = take_in(&empty(), &stamp, &[chunk]).expect_err("foreign");
        assert!(matches!(refused, ImportError::Row { .. }), "{refused}");
    }
}

#[test]
fn a_view_of_a_later_moment_is_not_mixed_with_the_one_that_is_handed_over() {
    let mut node = rich();
    let mut export = Export::of(&node.engine, space()).expect("reads").expect("is held");
    node.post("general", "ada", "meanwhile");
    node.persist();
    let refused = export.next(&node.engine).expect_err("it moved");
    assert!(matches!(refused, ExportError::Moved), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn whatever_was_written_arrives_whole(events in prop::collection::vec(event(), 1..40)) {
        for from in world(&events) {
            let (stamp, chunks) = handed_over(&from.engine);
            let engine = empty();
            take_in(&engine, &stamp, &chunks).expect("is taken in");
            let to = Node::on(engine, 5, 0);
            prop_assert_eq!(to.replica.durable(), from.replica.durable());
            for text in ["general", "news", "later"] {
                prop_assert_eq!(to.page(text), from.page(text));
            }
            prop_assert_eq!(to.damage(), vec![]);
        }
    }

    #[test]
    fn no_bytes_make_a_chunk_or_a_stamp_panic(bytes: Vec<u8>) {
        let _ = Chunk::decode(&mut Decoder::new(&bytes));
        let _ = Stamp::decode(&mut Decoder::new(&bytes));
    }
}
