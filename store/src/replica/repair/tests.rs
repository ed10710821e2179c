//! Stories of a conversation that is damaged and made whole without a peer.

use crate::engine::{Batch, Engine, Table};
use crate::entry::{Entry, EntryKind};
use crate::replica::Operation;
use crate::scene::{Node, conversation, space};
use crate::tables::{BodyKey, LateRow, LogRow, MarkerRow, Whose};
use crate::verify::tests::rich;

/// The node, opened again on a disk that something happened to.
fn after(node: &Node, happens: impl FnOnce(&mut Batch)) -> Node {
    let engine = node.engine.copy();
    let mut batch = Batch::default();
    happens(&mut batch);
    engine.persist(&batch).expect("persists");
    let mut node = Node::on(engine, 1, 3);
    node.now += 1000;
    node
}

fn repair(node: &mut Node) -> crate::replica::Repaired {
    let repaired = node.replica.repair(conversation("general")).expect("repairs");
    node.persist();
    repaired
}

#[test]
fn repairing_what_is_whole_changes_nothing() {
    let whole = rich();
    let mut node = after(&whole, |_| {});
    assert_eq!(repair(&mut node), crate::replica::Repaired::default());
    assert_eq!(node.rows(), whole.rows());
}

#[test]
fn a_flipped_bit_in_any_row_of_a_conversation_is_flipped_back() {
    let whole = rich();
    let mut tried = 0;
    for (place, (table, (key, value))) in whole.rows().into_iter().enumerate() {
        let ours = Whose::of(table, &key).conversation == Some(conversation("general"));
        if !ours || matches!(table, Table::Erasures | Table::Meta) {
            continue;
        }
        let mut node = after(&whole, |_| {});
        assert!(node.engine.flip_bit(table, &key, place * 11 % (value.len() * 8)));
        repair(&mut node);
        assert_eq!(node.damage(), [], "{table} {key:02x?}");
        assert_eq!(node.rows(), whole.rows(), "{table} {key:02x?}");
        tried += 1;
    }
    assert!(tried > 30, "{tried} rows");
}

/// Rows that follow from documents come back; words and the documents themselves do not.
#[test]
fn a_row_that_is_gone_is_written_again_or_said_to_be_lost() {
    let whole = rich();
    let (mut written, mut lost) = (0, 0);
    for (table, (key, _)) in whole.rows() {
        let ours = Whose::of(table, &key).conversation == Some(conversation("general"));
        let letter = key.first().copied();
        // A marker and what came late stand nowhere else; a snapshot's changes were trimmed.
        let alone = match table {
            Table::Index => matches!(letter, Some(LateRow::LETTER | MarkerRow::LETTER)),
            Table::Segments => key.len() == 20,
            Table::Bodies => BodyKey::quarantined_entry(&key).is_some_and(|it| it.0.0 == [9; 16]),
            Table::Log | Table::Timeline => false,
            Table::Erasures | Table::Meta => true,
        };
        if !ours || alone {
            continue;
        }
        let mut node = after(&whole, |batch| batch.delete(table, key.clone()));
        let repaired = repair(&mut node);
        if table == Table::Bodies {
            assert_eq!(repaired.lost.len(), 1, "{key:02x?}");
            assert_eq!(node.damage().len(), 1, "only the words are missing");
            lost += 1;
        } else {
            assert_eq!((repaired.lost.len(), repaired.left.len()), (0, 0));
            assert_eq!(node.damage(), [], "{table} {key:02x?}");
            assert_eq!(node.replica.durable(), whole.replica.durable());
            written += 1;
        }
    }
    assert!(written > 20 && lost > 3, "{written} rows, {lost} words");
}

#[test]
fn words_in_a_wrong_place_are_moved_and_rows_of_no_record_removed() {
    let whole = rich();
    let page = whole.page("general");
    let edited = page.iter().find(|message| message.state.revision.is_some()).expect("one is");
    let place = crate::tables::MessageKey {
        conversation: edited.conversation,
        front: edited.id.front(),
        identity: edited.identity,
    };
    let shown = BodyKey::Shown(place);
    let body: crate::record::Body =
        crate::tables::get(&whole.engine, &shown).expect("reads").expect("is held");
    let behind = BodyKey::Behind {
        conversation: place.conversation,
        front: place.front,
        identity: place.identity,
        digest: [7; 16],
    };
    let mut node = after(&whole, |batch| {
        crate::tables::delete::<crate::record::Body>(batch, &shown);
        crate::tables::put(batch, &behind, &body);
    });
    assert!(!node.damage().is_empty());
    assert_eq!(repair(&mut node).lost, []);
    assert_eq!(node.rows(), whole.rows());
    assert_eq!(node.replica.space(), space());
}

/// An entry whose change a snapshot holds comes back byte for byte; others take a peer.
#[test]
fn an_entry_that_is_gone_from_the_log_is_made_again_from_its_document() {
    let (mut oslo, mut tokyo) = (Node::new(1), Node::new(2));
    oslo.create("general");
    tokyo.pull(&oslo);
    for round in 0..3 {
        oslo.post("general", "ada", &format!("round {round} in oslo"));
        oslo.persist();
        tokyo.now = oslo.now;
        tokyo.pull(&oslo);
        tokyo.post("general", "bob", &format!("round {round} in tokyo"));
        tokyo.persist();
        oslo.pull(&tokyo);
    }
    let last = oslo.post("general", "ada", "the last word");
    oslo.operate("general", "ada", Operation::MarkRead { message: last });
    oslo.persist();
    oslo.snapshot();
    let (mut made, mut left) = (0, 0);
    for (table, (key, value)) in oslo.rows() {
        let Some((origin, seq)) = Whose::of(table, &key).entry.filter(|_| table == Table::Log)
        else {
            continue;
        };
        let entry = crate::tables::open::<LogRow>(&key, &value).expect("reads").entry;
        let entry = Entry::decode(&entry).expect("decodes");
        let markers = matches!(entry.kind, EntryKind::Markers(_));
        let mut node = after(&oslo, |batch| batch.delete(table, key.clone()));
        assert_eq!(node.replica.repair_entry(origin, seq).expect("reads"), !markers);
        node.persist();
        assert_eq!(node.rows() == oslo.rows(), !markers, "{seq} of {origin}");

        let mut node = after(&oslo, |_| {});
        assert!(node.engine.flip_bit(table, &key, 200));
        assert!(node.replica.repair_entry(origin, seq).expect("reads"));
        node.persist();
        assert_eq!(node.rows(), oslo.rows(), "a flipped bit of {seq} of {origin}");
        made += usize::from(!markers);
        left += usize::from(markers);
    }
    assert_eq!((made, left), (10, 1));
    let mut node = after(&oslo, |_| {});
    let origin = oslo.replica.writer().origin;
    assert!(!node.replica.repair_entry(origin, 99).expect("reads"), "there is none");
}

#[test]
fn a_snapshot_that_cannot_be_read_is_not_missed_while_the_log_is_whole() {
    let mut oslo = Node::new(1);
    oslo.create("general");
    oslo.post("general", "ada", "before the snapshot");
    oslo.persist();
    oslo.snapshot();
    oslo.post("general", "ada", "behind the snapshot");
    oslo.persist();
    for (table, (key, _)) in oslo.rows() {
        if table != Table::Segments || key.len() != 20 {
            continue;
        }
        let mut node = after(&oslo, |_| {});
        for bit in [80, 777] {
            assert!(node.engine.flip_bit(table, &key, bit));
        }
        assert_eq!(repair(&mut node).left, Vec::<String>::new());
        assert_eq!(node.damage(), []);
        assert_eq!(node.page("general"), oslo.page("general"));
        node.post("general", "ada", "and it goes on");
        node.persist();
        assert_eq!(node.damage(), []);
    }
}
