//! Damage: a flipped bit on the disk is an error that names table and key, never a panic, never
//! another text; and what does not touch the row goes on.

use std::sync::Arc;

use warbler_store::engine::{Direction, MemoryEngine, SharedEngine, Table, View};
use warbler_store::entropy::Entropy;
use warbler_store::id::{MessageId, NodeId, OriginId};
use warbler_store::log::{self, LogWalk, WalkError};
use warbler_store::reader::{Range, Reader};
use warbler_store::replica::{NewMessage, Placing, Replica, Writer};
use warbler_store::vector::VersionVector;

use crate::node::{NOON, Node, ROOMY, keyed, name, nodes, says, space};

/// A disk with two origins, two conversations, a copy of a message and an import.
fn disk() -> (MemoryEngine, Vec<(&'static str, MessageId)>) {
    let disk = MemoryEngine::new();
    let mut tokyo = nodes(1).remove(0);
    tokyo.clock += 50;
    tokyo.post(keyed("k", "hello"));
    tokyo.persist();
    let mut oslo = Node::on(Arc::new(disk.clone()), 2, ROOMY);
    oslo.create("general");
    oslo.create("random");
    let id = oslo.post(keyed("k", "hello"));
    oslo.persist();
    oslo.pull(&tokyo);
    oslo.post(NewMessage { reply_to: Some(id), ..says("an answer") });
    oslo.post(NewMessage { placing: Placing::At(1_000), ..says("of old") });
    oslo.post(NewMessage { conversation: name("random"), ..says("elsewhere") });
    oslo.persist();
    let found = ["general", "random"].map(|conversation| {
        let messages = oslo.messages(conversation);
        messages.into_iter().map(move |message| (conversation, message.id))
    });
    (disk, found.into_iter().flatten().collect())
}

type Outcome = Result<String, String>;

fn outcome<T: std::fmt::Debug, E: std::fmt::Display>(result: Result<T, E>) -> Outcome {
    result.map(|value| format!("{value:?}")).map_err(|error| error.to_string())
}

/// Everything that can be asked of a disk, each with its answer.
fn ask(disk: &MemoryEngine, ids: &[(&'static str, MessageId)]) -> Vec<(&'static str, Outcome)> {
    let engine: SharedEngine = Arc::new(disk.copy());
    let reader = Reader::new(Arc::clone(&engine), space());
    let general = name("general");
    let message = |key: &str, text: &str| keyed(key, text);
    let each = ids.iter().map(|(conversation, id)| {
        (*conversation, outcome(reader.message(&name(conversation), *id)))
    });
    let mut answers: Vec<_> = each.collect();
    answers.extend([
        ("page of general", outcome(reader.page(&general, Range::Last, 50))),
        ("page of random", outcome(reader.page(&name("random"), Range::Last, 50))),
        ("list", outcome(reader.conversations(None, 50))),
        ("name", outcome(reader.conversation(&general))),
        ("origins", outcome(reader.origins())),
        ("log", outcome(read_log(&*engine, &reader))),
        ("post", outcome(with(disk, |node| node.post(NOON, message("new", "new"))))),
        ("retry", outcome(with(disk, |node| node.post(NOON, message("k", "hello"))))),
        (
            "import",
            outcome(with(disk, |node| {
                let placing = Placing::At(1_000);
                node.post(NOON, NewMessage { placing, ..message("old", "of old too") })
            })),
        ),
        (
            "post elsewhere",
            outcome(with(disk, |node| {
                let conversation = name("random");
                node.post(NOON, NewMessage { conversation, ..message("new", "new") })
            })),
        ),
        ("create again", outcome(with(disk, |node| node.create_conversation(&general)))),
        ("late entry", outcome(late_creation(disk))),
    ]);
    answers
}

fn read_log(view: &dyn View, reader: &Reader) -> Result<usize, WalkError> {
    let until = reader.vector()?;
    let mut bodies = 0;
    for entry in LogWalk::between(view, space(), &VersionVector::default(), &until)? {
        bodies += log::parcel(view, space(), entry?)?.bodies.len();
    }
    Ok(bodies)
}

fn open(disk: &MemoryEngine) -> Result<Replica, String> {
    let writer = Writer {
        node: NodeId([3; 32]),
        region: name("oslo"),
        origin: OriginId([3; 16]),
        started: NOON,
    };
    let entropy = Entropy::from_seed([3; 32]);
    Replica::open(Arc::new(disk.copy()), &name("main"), writer, entropy, ROOMY)
        .map_err(|error| error.to_string())
}

/// Does `work` on a replica over a copy of the disk, and seals.
fn with<T, E: std::fmt::Display>(
    disk: &MemoryEngine,
    work: impl FnOnce(&mut Replica) -> Result<T, E>,
) -> Result<(T, usize), String> {
    let mut replica = open(disk)?;
    let done = work(&mut replica).map_err(|error| error.to_string())?;
    let sealed = replica.seal().map_err(|error| error.to_string())?;
    Ok((done, sealed.map_or(0, |sealed| sealed.own.len())))
}

/// Another region's creations, which touch the conversations' own documents.
fn late_creation(disk: &MemoryEngine) -> Result<usize, String> {
    let mut other = Node::new(7);
    other.create("general");
    other.create("random");
    other.persist();
    let mut replica = open(disk)?;
    for parcel in other.parcels() {
        let entry = warbler_store::entry::Entry::decode(&parcel.entry).expect("decodes");
        replica.apply(NOON, &parcel, entry, |_, _| true).map_err(|error| error.to_string())?;
    }
    Ok(other.parcels().len())
}

#[test]
fn a_flipped_bit_in_any_row_is_found_and_named_and_nothing_else_is_said() {
    let (disk, ids) = disk();
    let whole = ask(&disk, &ids);
    for (what, outcome) in &whole {
        assert!(outcome.is_ok(), "{what}: {outcome:?}");
    }
    for table in Table::ALL {
        let rows: Vec<_> = disk
            .scan(table, &[], &[0xff; 80], Direction::Forward)
            .collect::<Result<_, _>>()
            .expect("reads");
        assert_eq!(rows.is_empty(), table == Table::Erasures, "rows of {table}");
        for (key, value) in rows {
            for bit in [3, value.len() * 4, value.len() * 8 - 1] {
                let damaged = disk.copy();
                assert!(damaged.flip_bit(table, &key, bit));
                let hex: String = key.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
                let named = (format!("table `{table}` holds"), format!("(key {hex})"));
                let mut found = 0;
                for ((what, outcome), (_, expected)) in ask(&damaged, &ids).into_iter().zip(&whole)
                {
                    match outcome {
                        Ok(_) => assert_eq!(outcome, *expected, "{what} with {table} {hex}"),
                        Err(error) => {
                            let is_named = error.contains(&named.0) && error.contains(&named.1);
                            assert!(is_named, "{what} with {table} {hex}: {error}");
                            found += 1;
                        }
                    }
                }
                assert!(found > 0, "nobody noticed the flipped bit {bit} in {table} {hex}");
                assert!(found < whole.len(), "one row of {table} stopped everything");
            }
        }
    }
}

#[test]
fn damage_in_one_conversation_does_not_stop_another() {
    let (disk, ids) = disk();
    let rows = disk.scan(Table::Timeline, &[], &[0xff; 80], Direction::Forward);
    let keys: Vec<_> = rows.map(|row| row.expect("reads").0).collect();
    let general = &Node::on(Arc::new(disk.copy()), 9, ROOMY)
        .reader
        .conversation(&name("general"))
        .expect("reads")
        .id;
    for key in keys.iter().filter(|key| key.starts_with(&general.0)) {
        assert!(disk.flip_bit(Table::Timeline, key, 9));
    }
    let answers = ask(&disk, &ids);
    let failed = answers.iter().filter(|(_, outcome)| outcome.is_err()).map(|(what, _)| *what);
    assert_eq!(
        failed.collect::<Vec<_>>(),
        ["general", "general", "general", "page of general", "retry"]
    );
}
