//! Restarts, crashes and dropped documents: a run leaves what it persisted, and nothing else.

use std::sync::Arc;

use warbler_store::engine::{
    Batch, Direction, Engine, EngineError, MemoryEngine, RocksEngine, SharedEngine, Table,
};
use warbler_store::entropy::Entropy;
use warbler_store::id::{NodeId, OriginId};
use warbler_store::log::{self, LogWalk, WalkError};
use warbler_store::replica::{NewMessage, Replica, Writer};
use warbler_store::tables::{self, SuccessorRow};
use warbler_store::token::Token;
use warbler_store::vector::VersionVector;

use crate::node::{NOON, Node, ROOMY, TINY, keyed, name, node, nodes, says, space};

#[test]
fn a_restart_shows_what_was_there_before_and_writes_under_a_new_origin() {
    let mut oslo = node();
    oslo.post(says("before"));
    oslo.persist();
    let before = oslo.state();
    let origin = oslo.replica.writer().origin;

    oslo.restart();
    assert_eq!(oslo.state(), before);
    assert!(!oslo.replica.has_work());
    assert!(oslo.seal().is_none(), "a run that writes nothing leaves no origin");

    oslo.post(says("after"));
    oslo.persist();
    assert_eq!(oslo.texts("general"), ["before", "after"]);
    let vector = oslo.reader.vector().expect("reads");
    assert_eq!(vector.get(origin), before.vector.get(origin), "the old log has ended");
    assert_eq!(vector.get(oslo.replica.writer().origin), 2, "its origin record and the post");
    assert_eq!(vector.len(), 2);
}

#[test]
fn the_first_entry_of_a_run_names_node_region_and_start() {
    let oslo = node();
    let origins = oslo.reader.origins().expect("reads");
    let row = &origins[&oslo.replica.writer().origin];
    assert_eq!((row.node, &row.region), (oslo.replica.writer().node, &name("oslo")));
    assert_eq!((row.seq, row.depth), (2, 2), "the origin record and the conversation");
}

#[test]
fn a_crash_loses_what_was_not_persisted_and_nothing_else() {
    let disk = MemoryEngine::new();
    let mut oslo = Node::on(Arc::new(disk.clone()), 1, ROOMY);
    oslo.create("general");
    oslo.post(keyed("1", "kept"));
    oslo.persist();
    let kept = oslo.state();

    oslo.post(keyed("2", "sealed"));
    let sealed = oslo.seal().expect("a batch");
    oslo.post(keyed("3", "taken in"));
    disk.tear_next(false);
    let torn = disk.persist(&sealed.batch);
    assert!(torn.is_err(), "the power went");
    disk.crash();
    oslo.restart();
    assert_eq!(oslo.state(), kept);

    let retry = oslo.try_post(keyed("2", "sealed")).expect("is accepted");
    assert!(!retry.retried, "the client's retry posts it again");
    oslo.persist();
    assert_eq!(oslo.texts("general"), ["kept", "sealed"]);
}

/// A failed write has an unknown outcome: here it did reach the disk.
#[test]
fn a_write_that_failed_but_reached_the_disk_is_found_by_the_retry() {
    let disk = MemoryEngine::new();
    let mut oslo = Node::on(Arc::new(disk.clone()), 1, ROOMY);
    oslo.create("general");
    let first = oslo.post(keyed("1", "hello"));
    let sealed = oslo.seal().expect("a batch");
    disk.tear_next(true);
    assert!(disk.persist(&sealed.batch).is_err());
    assert!(matches!(disk.persist(&sealed.batch), Err(EngineError::Failed(_))), "it stays closed");
    disk.crash();
    oslo.restart();

    let retry = oslo.try_post(keyed("1", "hello")).expect("is accepted");
    assert_eq!((retry.id, retry.retried), (first, true));
    assert_eq!(oslo.texts("general"), ["hello"]);
}

/// Three conversations written in turn by two nodes, each document dropped whenever another is
/// touched: same entries, same state as with room for all.
#[test]
fn documents_that_are_dropped_and_loaded_again_behave_the_same() {
    let run = |cache_bytes: usize| {
        let disk = || Arc::new(MemoryEngine::new());
        let mut oslo = Node::on(disk(), 1, cache_bytes);
        let mut tokyo = Node::on(disk(), 2, cache_bytes);
        for conversation in ["a", "b", "c"] {
            oslo.create(conversation);
        }
        for round in 0..20 {
            let conversation = name(["a", "b", "c"][round % 3]);
            let message = |who| NewMessage {
                conversation: conversation.clone(),
                ..keyed(&format!("{who}{round}"), &format!("{who} {round}"))
            };
            oslo.post(message("oslo"));
            if round % 4 == 0 {
                // Sealed twice before the first is written: pending changes must be found too.
                let first = oslo.seal().expect("a batch");
                oslo.create("d");
                oslo.post(message("again"));
                let second = oslo.seal().expect("a batch");
                oslo.write(&first);
                oslo.write(&second);
            }
            oslo.persist();
            tokyo.pull(&oslo);
            tokyo.post(message("tokyo"));
            tokyo.persist();
            oslo.pull(&tokyo);
        }
        oslo.persist();
        assert_eq!(oslo.state(), tokyo.state());
        (oslo.state(), oslo.parcels())
    };
    assert_eq!(run(TINY), run(ROOMY));
}

#[test]
fn a_run_on_rocksdb_is_found_again_by_the_next() {
    let directory = tempfile::tempdir().expect("a directory");
    let open = || -> SharedEngine { Arc::new(RocksEngine::open(directory.path()).expect("opens")) };
    let mut oslo = Node::on(open(), 1, TINY);
    oslo.create("general");
    for place in 0..600 {
        oslo.post(keyed(&place.to_string(), &format!("message {place}")));
        if place % 50 == 0 {
            oslo.persist();
        }
    }
    oslo.persist();
    let before = oslo.state();
    let parcels = oslo.parcels();
    drop(oslo);

    let mut again = Node::on(open(), 2, TINY);
    assert_eq!(again.state(), before);
    assert_eq!(again.parcels(), parcels);
    let retry = again.try_post(keyed("3", "message 3")).expect("is accepted");
    assert!(retry.retried);

    // And a node that hears it all from this one shows the same.
    let mut tokyo = Node::new(3);
    tokyo.pull(&again);
    tokyo.persist();
    assert_eq!(tokyo.state(), before);
}

#[test]
fn batches_that_wait_for_the_disk_are_read_through() {
    let mut nodes = nodes(1);
    let oslo = &mut nodes[0];
    let first = oslo.post(keyed("1", "one"));
    let one = oslo.seal().expect("a batch");
    let answer = oslo.post(NewMessage { reply_to: Some(first), ..keyed("2", "two") });
    let two = oslo.seal().expect("a batch");
    assert!(oslo.try_post(keyed("1", "one")).expect("is accepted").retried);
    assert!(oslo.try_post(keyed("2", "two")).expect("is accepted").retried);
    assert!(first < answer);
    oslo.write(&one);
    assert_eq!(oslo.texts("general"), ["one"]);
    oslo.write(&two);
    assert_eq!(oslo.texts("general"), ["one", "two"]);
}

/// With a tiny cache every document is read back from its snapshot.
#[test]
fn a_log_is_trimmed_under_snapshots_and_both_sides_go_on() {
    let disk = || Arc::new(MemoryEngine::new());
    let mut oslo = Node::on(disk(), 1, TINY);
    let mut tokyo = Node::on(disk(), 2, TINY);
    oslo.create("general");
    for round in 0..4 {
        oslo.post(says(&format!("oslo {round}")));
        oslo.persist();
        tokyo.pull(&oslo);
        tokyo.post(says(&format!("tokyo {round}")));
        tokyo.persist();
        oslo.pull(&tokyo);
        oslo.persist();
        let held = tokyo.replica.durable().vector.clone();
        let kept = oslo.replica.trim(&held, 1_000).expect("trims");
        assert!(!kept.wants.is_empty(), "not before there are snapshots");
        oslo.snapshot();
        oslo.persist();
        let kept = oslo.replica.trim(&held, 1_000).expect("trims");
        assert!(kept.trimmed > 0 && kept.wants.is_empty(), "{kept:?}");
        oslo.persist();
        let origins = oslo.reader.origins().expect("reads");
        assert!(held.iter().all(|(origin, seq)| origins[&origin].trimmed == seq));
        assert_eq!(oslo.state().shown, tokyo.state().shown);
        oslo.restart();
    }
    let until = oslo.reader.vector().expect("reads");
    let gone = LogWalk::between(&*oslo.engine, space(), &VersionVector::default(), &until);
    assert!(matches!(gone, Err(WalkError::Trimmed { .. })), "what was trimmed is not made up");
    tokyo.post(says("on top of what only a snapshot knows"));
    tokyo.persist();
    oslo.pull(&tokyo);
    oslo.post(says("and on"));
    oslo.persist();
    tokyo.pull(&oslo);
    tokyo.persist();
    assert_eq!(oslo.state(), tokyo.state());
}

/// Runs of one node that each write something, on one disk.
fn run_after_run(engine: &SharedEngine, runs: std::ops::Range<u16>) -> Replica {
    let mut last = None;
    for run in runs {
        drop(last.take());
        let mut origin = [7; 16];
        origin[..2].copy_from_slice(&run.to_be_bytes());
        let writer = Writer {
            node: NodeId([1; 32]),
            region: name("oslo"),
            origin: OriginId(origin),
            started: NOON + u64::from(run),
        };
        let entropy = Entropy::from_seed(*blake3::hash(&origin).as_bytes());
        let replica = Replica::open(Arc::clone(engine), &name("main"), writer, entropy, ROOMY);
        let mut replica = replica.expect("opens");
        replica.create_conversation(&name(&format!("run-{run}"))).expect("creates");
        let sealed = replica.seal().expect("seals").expect("a batch");
        engine.persist(&sealed.batch).expect("persists");
        replica.written(sealed.ticket);
        last = Some(replica);
    }
    last.expect("a run")
}

#[test]
fn a_token_names_one_run_of_a_node_however_often_it_was_started() {
    let engine: SharedEngine = Arc::new(MemoryEngine::new());
    let oslo = run_after_run(&engine, 0..200);
    let whole = &oslo.durable().vector;
    assert_eq!(whole.len(), 200);
    let all = Token::of(space(), whole.clone()).to_text();
    assert!(Token::from_text(&all).is_err(), "{} bytes are too many for a token", all.len());

    let reduced = oslo.succession().reduce(whole, None);
    assert_eq!(reduced.len(), 1, "{reduced:?}");
    let token = Token::from_text(&Token::of(space(), reduced).to_text()).expect("a token");

    // Another node that took the entries in says the same of it, also after a start.
    let disk: SharedEngine = Arc::new(MemoryEngine::new());
    let mut tokyo = Node::on(Arc::clone(&disk), 2, ROOMY);
    let walk = LogWalk::between(&*engine, space(), &VersionVector::default(), whole);
    for entry in walk.expect("reads") {
        let parcel = log::parcel(&*engine, space(), entry.expect("reads")).expect("whole");
        tokyo.take(&parcel).expect("a causal order");
    }
    tokyo.persist();
    assert_eq!(tokyo.replica.succession().complete(&token.vector), *whole);
    tokyo.restart();
    assert_eq!(tokyo.replica.succession().complete(&token.vector), *whole);
    assert_eq!(tokyo.replica.succession().reduce(whole, None).len(), 1);
}

#[test]
fn what_follows_from_a_run_is_remembered_when_its_record_has_left_the_log() {
    let [mut oslo, mut tokyo] = [Node::new(1), Node::new(2)];
    for run in 0..4 {
        oslo.create(&format!("run-{run}"));
        oslo.persist();
        if run < 3 {
            oslo.restart();
        }
    }
    tokyo.pull(&oslo);
    tokyo.persist();
    let whole = oslo.reader.vector().expect("reads");
    let named = oslo.replica.succession().reduce(&whole, None);
    assert_eq!((whole.len(), named.len()), (4, 1));

    tokyo.snapshot();
    tokyo.persist();
    tokyo.replica.trim(&whole, 1_000).expect("trims");
    tokyo.persist();
    assert!(tokyo.reader.origins().expect("reads").values().all(|row| row.trimmed > 0));
    tokyo.restart();
    assert_eq!(tokyo.replica.succession().complete(&named), whole);
}

#[test]
fn a_store_that_says_nothing_of_runs_learns_it_from_its_log() {
    let mut oslo = Node::new(1);
    for run in 0..3 {
        oslo.create(&format!("run-{run}"));
        oslo.persist();
        oslo.restart();
    }
    let whole = oslo.reader.vector().expect("reads");
    let mut batch = Batch::default();
    let prefix = SuccessorRow::prefix(space());
    let rows = oslo.engine.scan(Table::Meta, &prefix, &tables::behind(&prefix), Direction::Forward);
    let keys: Vec<_> = rows.map(|row| row.expect("reads").0).collect();
    assert_eq!(keys.len(), 2, "one for each run that came after another");
    keys.into_iter().for_each(|key| batch.delete(Table::Meta, key));
    oslo.engine.persist(&batch).expect("persists");

    oslo.restart();
    assert_eq!(oslo.replica.succession().reduce(&whole, None).len(), 1);
    assert!(!oslo.replica.has_work(), "it writes them with the next batch, and not before");
    oslo.create("next");
    oslo.persist();
    let rows = tables::rows::<SuccessorRow, _>(&*oslo.engine, &prefix);
    assert_eq!(rows.count(), 3);
}
