//! The property that everything stands on: what a node shows is a function of the set of entries
//! it applied, whatever the order in which they came.

use std::sync::Arc;

use proptest::prelude::*;
use warbler_store::digest::RowSum;
use warbler_store::engine::MemoryEngine;

use crate::node::{Node, ROOMY, TINY, nodes, says};
use crate::posting::split;
use crate::world::{Step, World, steps};

#[test]
fn a_conversation_created_in_two_regions_at_once_is_one() {
    let (mut oslo, mut tokyo) = (Node::new(1), Node::new(2));
    for (node, text) in [(&mut oslo, "from oslo"), (&mut tokyo, "from tokyo")] {
        node.create("general");
        node.post(says(text));
        node.persist();
    }
    oslo.pull(&tokyo);
    tokyo.pull(&oslo);
    oslo.persist();
    tokyo.persist();
    assert_eq!(oslo.state(), tokyo.state());
    assert_eq!(oslo.messages("general").len(), 2);
    assert_eq!(oslo.replica.counts().conversations, 1);

    tokyo.post(says("and on"));
    tokyo.persist();
    oslo.pull(&tokyo);
    oslo.persist();
    assert_eq!(oslo.state(), tokyo.state());
}

/// The other region's creation comes into the very batch that holds our own.
#[test]
fn a_creation_that_meets_another_in_one_batch_is_written_once() {
    let (mut oslo, mut tokyo) = (Node::new(1), Node::new(2));
    tokyo.create("general");
    tokyo.post(says("from tokyo"));
    tokyo.persist();
    oslo.create("general");
    oslo.post(says("from oslo"));
    oslo.pull(&tokyo);
    oslo.post(says("again"));
    oslo.persist();

    tokyo.pull(&oslo);
    tokyo.persist();
    assert_eq!(oslo.state(), tokyo.state());
    assert_eq!(oslo.messages("general").len(), 3);
    oslo.restart();
    oslo.post(says("after a restart"));
    oslo.persist();
    tokyo.pull(&oslo);
    tokyo.persist();
    assert_eq!(oslo.state(), tokyo.state());
}

#[test]
fn a_late_message_slots_in_where_it_was_said() {
    let mut both = nodes(2);
    let (oslo, tokyo) = split(&mut both);
    oslo.post(says("first"));
    tokyo.clock += 5;
    tokyo.post(says("second"));
    oslo.clock += 10;
    oslo.post(says("third"));
    oslo.persist();
    tokyo.persist();
    oslo.pull(tokyo);
    let sealed = oslo.persist().expect("a batch");
    assert_eq!(oslo.texts("general"), ["first", "second", "third"]);
    let arrived = sealed.applied.iter().flat_map(|applied| &applied.messages);
    let arrived: Vec<&[u8]> = arrived.map(|message| &message.body[..]).collect();
    assert_eq!(arrived, [b"second"], "followers see what arrived");
}

fn converges(steps: Vec<Step>, seed: u64, cache_bytes: usize) {
    let mut world = World::new(cache_bytes);
    steps.into_iter().for_each(|step| world.take(step));
    world.settle(seed);
    let expected = world.nodes[0].state();
    assert_eq!(expected.quarantine, RowSum::default().digest(), "honest nodes were believed");
    for node in &world.nodes[1..] {
        assert_eq!(node.state(), expected, "node {}", node.number);
    }

    let mut rebuilt = Node::on(Arc::new(MemoryEngine::new()), 0xaa, ROOMY);
    rebuilt.pull(&world.nodes[0]);
    rebuilt.persist();
    assert_eq!(rebuilt.state(), expected, "rebuilt from the log, in its order");
    let mut shuffled = Node::on(Arc::new(MemoryEngine::new()), 0xab, TINY);
    shuffled.pull_shuffled(&world.nodes[0], usize::MAX, seed ^ 1);
    shuffled.persist();
    assert_eq!(shuffled.state(), expected, "rebuilt from the log, in another order");
    let logs = [&world.nodes[0], &rebuilt, &shuffled].map(Node::parcels);
    assert!(logs[0] == logs[1] && logs[1] == logs[2], "every entry can be sent on, the same one");

    world.nodes.extend([rebuilt, shuffled]);
    world.sweep();
    world.expect_that_what_is_covered_is_gone();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_node_shows_is_a_function_of_what_it_holds_and_what_is_covered_is_gone(
        steps in steps(), seed: u64, tiny: bool,
    ) {
        converges(steps, seed, if tiny { TINY } else { ROOMY });
    }
}
