//! Stories of a store that the version before wrote, and this one opens.

use std::sync::Arc;

use super::{is_going_on, step};
use crate::engine::{Batch, Direction, Engine, MemoryEngine, Row, Table, View};
use crate::id::NodeId;
use crate::open::{OpenError, claim};
use crate::reader::{Range, Reader};
use crate::replica::{read_origins, vector_of};
use crate::scene::{Node, space};
use crate::tables::{self, FORMAT_VERSION, FormatRow, SpaceRow};

/// Rows of a store of format 1, and what its pages said; `README.md` beside them says of what.
const ROWS: &[u8] = include_bytes!("../../tests/fixtures/format-1.rows");
const PAGES: &str = include_str!("../../tests/fixtures/format-1.pages");
const OWNER: NodeId = NodeId([1; 32]);

/// The store as the version before left it.
fn old() -> MemoryEngine {
    let engine = MemoryEngine::new();
    let mut batch = Batch::default();
    let mut left = ROWS;
    while let Some((table, rest)) = left.split_first() {
        left = rest;
        let mut field = || {
            let (length, rest) = left.split_first_chunk::<4>().expect("a length");
            let (field, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
            left = rest;
            field.to_vec()
        };
        let (key, value) = (field(), field());
        batch.put(Table::ALL[usize::from(*table)], key, value);
    }
    engine.persist(&batch).expect("persists");
    engine
}

fn rows_of(engine: &MemoryEngine, table: Table) -> Vec<Row> {
    let rows = engine.scan(table, &[], &[0xff; 300], Direction::Forward);
    rows.map(|row| row.expect("reads")).collect()
}

fn all_rows(engine: &MemoryEngine) -> Vec<Vec<Row>> {
    Table::ALL.map(|table| rows_of(engine, table)).to_vec()
}

/// The pages, written as the fixture writes them.
fn pages(engine: &MemoryEngine) -> String {
    let reader = Reader::new(Arc::new(engine.clone()), space());
    let mut text = String::new();
    for conversation in reader.conversations(None, 100).expect("reads") {
        text += &format!("# {}\n", conversation.name);
        let page = reader.page(&conversation.name, Range::Last, 1000).expect("reads");
        assert_eq!(page.messages.len() as u64, conversation.messages);
        for message in page.messages {
            let header = &message.header;
            let body = String::from_utf8(message.body.clone()).expect("text");
            let reply = header.reply_to.map_or_else(|| "-".to_owned(), |reply| reply.to_string());
            let (author, kind) = (&header.author, header.content_type.as_str());
            text += &format!("{} {author} {kind} {reply} {body}\n", message.id);
        }
    }
    text
}

#[test]
fn a_store_of_the_format_before_is_opened_with_all_that_it_held() {
    let engine = old();
    let log = rows_of(&engine, Table::Log);
    claim(&engine, OWNER).expect("is converted");

    assert_eq!(pages(&engine), PAGES);
    assert_eq!(rows_of(&engine, Table::Log), log, "entries are what their origins wrote");
    let vector = vector_of(&read_origins(&engine, space()).expect("reads"));
    let entries: u64 = vector.iter().map(|(_, seq)| seq).sum();
    assert_eq!((vector.len(), entries), (4, log.len() as u64));
    let node = Node::on(engine.clone(), 1, 5);
    assert_eq!(node.damage(), []);
    let format: FormatRow = tables::get(&engine, &()).expect("reads").expect("is held");
    assert_eq!(format.version, FORMAT_VERSION);
    assert!(!is_going_on(&engine).expect("reads"));
}

#[test]
fn a_converted_node_and_one_that_pulled_the_same_entries_are_equal() {
    let engine = old();
    claim(&engine, OWNER).expect("is converted");
    let converted = Node::on(engine, 1, 5);
    let mut fresh = Node::new(7);
    fresh.now += 1_000_000;
    fresh.pull(&converted);
    assert_eq!(fresh.replica.durable(), converted.replica.durable());
    assert_eq!(pages(&fresh.engine), PAGES);
    for table in [Table::Timeline, Table::Bodies, Table::Segments] {
        assert_eq!(rows_of(&fresh.engine, table), rows_of(&converted.engine, table), "{table}");
    }
    let identities = |node: &Node| -> Vec<Row> {
        let rows = rows_of(&node.engine, Table::Index).into_iter();
        rows.filter(|(key, _)| matches!(key[0], b'i' | b't' | b'n')).collect()
    };
    assert_eq!(identities(&fresh), identities(&converted));
}

#[test]
fn a_converted_node_goes_on_writing_in_the_documents_it_had() {
    let engine = old();
    claim(&engine, OWNER).expect("is converted");
    let mut node = Node::on(engine, 1, 5);
    node.now += 1_000_000;
    let before = node.page("general").len();
    node.post("general", "ada", "after the conversion");
    node.persist();
    assert_eq!(node.page("general").len(), before + 1);
    assert_eq!(node.damage(), []);
    let mut fresh = Node::new(7);
    fresh.now = node.now;
    fresh.pull(&node);
    assert_eq!(fresh.replica.durable(), node.replica.durable());
}

/// Whichever batch was the last, and whether it reached the disk or not.
#[test]
fn a_conversion_that_is_killed_goes_on_where_it_was() {
    let whole = old();
    claim(&whole, OWNER).expect("is converted");
    let expected = all_rows(&whole);
    let mut steps = 0;
    let engine = old();
    while step(&engine, 7).expect("converts") {
        steps += 1;
    }
    assert_eq!(all_rows(&engine), expected, "small steps and large ones come to the same");
    assert!(steps > 20, "{steps} batches");
    for kept in [false, true] {
        for killed_at in 0..=steps {
            let engine = old();
            for _ in 0..killed_at {
                assert!(step(&engine, 7).expect("converts"));
            }
            engine.tear_next(kept);
            step(&engine, 7).expect_err("the power is cut");
            engine.crash();
            let format: FormatRow = tables::get(&engine, &()).expect("reads").expect("is held");
            let begun = killed_at > 0 || kept;
            assert_eq!(format.version, if begun { FORMAT_VERSION } else { 1 });
            claim(&engine, OWNER).expect("goes on");
            assert_eq!(all_rows(&engine), expected, "killed at {killed_at}, kept: {kept}");
        }
    }
}

#[test]
fn a_store_of_another_format_or_owner_is_refused_and_left_alone() {
    let engine = old();
    let before = all_rows(&engine);
    let refused = claim(&engine, NodeId([9; 32])).expect_err("another's");
    assert!(matches!(refused, OpenError::OtherNode { .. }), "{refused}");
    assert_eq!(all_rows(&engine), before);
    for version in [0, FORMAT_VERSION + 1] {
        let mut batch = Batch::default();
        tables::put(&mut batch, &(), &FormatRow { version });
        engine.persist(&batch).expect("persists");
        let before = all_rows(&engine);
        let refused = claim(&engine, OWNER).expect_err("another format");
        assert!(refused.hint().is_some(), "{refused}");
        assert_eq!(all_rows(&engine), before);
    }
}

#[test]
fn a_damaged_row_stops_the_conversion_and_is_named() {
    let engine = old();
    let (key, _) = rows_of(&engine, Table::Log).swap_remove(12);
    assert!(engine.flip_bit(Table::Log, &key, 300));
    let refused = claim(&engine, OWNER).expect_err("cannot be read").to_string();
    assert!(refused.contains("table `log`"), "{refused}");
    assert!(engine.flip_bit(Table::Log, &key, 300), "as if a copy was brought back");
    claim(&engine, OWNER).expect("goes on");
    assert_eq!(pages(&engine), PAGES);
    let state: SpaceRow = tables::get(&engine, &space()).expect("reads").expect("is held");
    assert_eq!(
        (state.conversations, rows_of(&engine, Table::Timeline).len() as u64),
        (3, state.messages)
    );
}
