//! The property that everything stands on: what a node shows is a function of the set of entries
//! it applied, whatever the order in which they came.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use warbler_store::engine::MemoryEngine;
use warbler_store::id::Digest;
use warbler_store::replica::{CommandError, NewMessage, Placing};

use crate::node::{Node, ROOMY, Shown, TINY, keyed, name, nodes, says};
use crate::posting::split;

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

/// Something that happens in a world of three nodes.
#[derive(Debug, Clone)]
enum Step {
    Post { node: usize, message: Said },
    Pull { from: usize, to: usize, limit: usize, seed: u64 },
    Persist { node: usize },
    Crash { node: usize },
}

#[derive(Debug, Clone)]
struct Said {
    conversation: usize,
    author: usize,
    /// One of few, so that posts meet.
    key: Option<u8>,
    /// One of few, so that times meet.
    at: Option<u8>,
    reply: Option<usize>,
    text: u8,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop::option::weighted(0.7, 0..4_u8);
    let at = prop::option::weighted(0.4, 0..2_u8);
    let reply = prop::option::weighted(0.3, 0..20_usize);
    let said = (0..3_usize, 0..2_usize, key, at, reply, 0..2_u8).prop_map(
        |(conversation, author, key, at, reply, text)| Said {
            conversation,
            author,
            key,
            at,
            reply,
            text,
        },
    );
    let step = prop_oneof![
        6 => (0..3_usize, said).prop_map(|(node, message)| Step::Post { node, message }),
        4 => (0..3_usize, 1..3_usize, 1..9_usize, any::<u64>()).prop_map(
            |(from, ahead, limit, seed)| Step::Pull { from, to: (from + ahead) % 3, limit, seed }
        ),
        4 => (0..3_usize).prop_map(|node| Step::Persist { node }),
        1 => (0..3_usize).prop_map(|node| Step::Crash { node }),
    ];
    prop::collection::vec(step, 1..60)
}

#[derive(Default)]
struct World {
    nodes: Vec<Node>,
    /// What was shown at each vector, anywhere and at any time.
    shown: BTreeMap<Digest, Shown>,
}

impl World {
    fn new(cache_bytes: usize) -> Self {
        let node = |number| Node::on(Arc::new(MemoryEngine::new()), number, cache_bytes);
        Self { nodes: (1..=3).map(node).collect(), ..Self::default() }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Post { node, message } => self.post(node, &message),
            Step::Pull { from, to, limit, seed } => {
                let mut puller = self.nodes.remove(to);
                let from = if from > to { from - 1 } else { from };
                puller.pull_shuffled(&self.nodes[from], limit, seed);
                self.nodes.insert(to, puller);
            }
            Step::Persist { node } => self.persist(node),
            Step::Crash { node } => {
                if self.nodes[node].runs < 15 {
                    self.nodes[node].restart();
                }
            }
        }
    }

    fn post(&mut self, node: usize, said: &Said) {
        let node = &mut self.nodes[node];
        let conversation = name(["a", "b", "c"][said.conversation]);
        node.create(conversation.as_str());
        let answered = said.reply.and_then(|reply| {
            let held = node.reader.conversation(&conversation).ok()?;
            let held = node.messages(held.name.as_str());
            (!held.is_empty()).then(|| held[reply % held.len()].id)
        });
        let text = format!("text {}", said.text);
        let message = match said.key {
            Some(key) => keyed(&key.to_string(), &text),
            None => says(&text),
        };
        let message = NewMessage {
            conversation,
            author: name(["ada", "bob"][said.author]),
            placing: said.at.map_or(Placing::Now, |at| Placing::At(u64::from(at) + 1_000)),
            reply_to: answered,
            ..message
        };
        match node.try_post(message) {
            Ok(_) | Err(CommandError::KeyReused(_)) => {}
            Err(other) => panic!("only a key may be refused: {other}"),
        }
    }

    /// Persists, and compares with what was shown at the same vector before (P3).
    fn persist(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.persist();
        let state = node.state();
        let shown = self.shown.entry(state.vector.digest()).or_insert_with(|| state.shown.clone());
        assert_eq!(*shown, state.shown, "at an equal vector");
    }

    fn settle(&mut self, seed: u64) {
        for node in 0..3 {
            self.persist(node);
        }
        for _ in 0..2 {
            for (from, to) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
                self.take(Step::Pull { from, to, limit: usize::MAX, seed });
                self.persist(to);
            }
        }
    }
}

fn converges(steps: Vec<Step>, seed: u64, cache_bytes: usize) {
    let mut world = World::new(cache_bytes);
    steps.into_iter().for_each(|step| world.take(step));
    world.settle(seed);
    let expected = world.nodes[0].state();
    for node in &world.nodes[1..] {
        assert_eq!(node.state(), expected, "node {}", node.number);
    }

    let mut rebuilt = Node::on(Arc::new(MemoryEngine::new()), 0xaa, ROOMY);
    rebuilt.pull(&world.nodes[0]);
    rebuilt.persist();
    assert_eq!(rebuilt.state(), expected, "rebuilt from the log, in its order");
    let mut shuffled = Node::on(Arc::new(MemoryEngine::new()), 0xab, TINY);
    shuffled.pull_shuffled(&world.nodes[1], usize::MAX, seed ^ 1);
    shuffled.persist();
    assert_eq!(shuffled.state(), expected, "rebuilt from the log, in another order");
    let logs: Vec<_> = [&rebuilt, &shuffled].map(Node::parcels).into();
    assert_eq!(logs[0], logs[1], "and both can send every entry on whole");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_a_node_shows_is_a_function_of_the_entries_it_holds(
        steps in steps(), seed: u64, tiny: bool,
    ) {
        converges(steps, seed, if tiny { TINY } else { ROOMY });
    }
}
