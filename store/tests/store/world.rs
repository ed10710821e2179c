//! A world of three nodes in which everything happens that a node can be asked for.
//!
//! Every text is unlike all others, so that it can be looked for on the disks. Invariant: whatever
//! happens, only what a client can do wrong is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use warbler_store::document::Change;
use warbler_store::engine::{Direction, MemoryEngine, Table};
use warbler_store::entry::{Carried, Entry, EntryKind, Parcel};
use warbler_store::erasure::{Erasure, Words};
use warbler_store::id::{ConversationId, Digest, Front, MessageId};
use warbler_store::record::{
    Access, ContentType, Message, RecordKey, Role, SettingRecord, Statement,
};
use warbler_store::replica::{CommandError, NewMessage, Operation, Placing};
use warbler_store::tables;
use warbler_store::vector::VersionVector;

use crate::node::{Node, PEOPLE, Shown, keyed, name, says, space};

const CONVERSATIONS: [&str; 2] = ["a", "b"];

/// Something that happens in a world of three nodes.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Post {
        node: usize,
        message: Said,
    },
    Do {
        node: usize,
        conversation: usize,
        message: usize,
        deed: Deed,
    },
    /// A reaction is set and taken back again, or the other way round, in two entries.
    Waver {
        node: usize,
        conversation: usize,
        message: usize,
        on: bool,
    },
    EraseAuthor {
        node: usize,
        author: usize,
        up_to: Option<usize>,
    },
    Expire {
        node: usize,
        conversation: usize,
        up_to: usize,
    },
    Pull {
        from: usize,
        to: usize,
        limit: usize,
        seed: u64,
    },
    /// All hold the same, so that what they do next is about the same messages, at once.
    Meet {
        seed: u64,
    },
    Persist {
        node: usize,
    },
    Crash {
        node: usize,
    },
    Snapshot {
        node: usize,
    },
    Trim {
        node: usize,
        limit: usize,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Said {
    conversation: usize,
    author: usize,
    /// One of few, so that posts meet.
    key: Option<u8>,
    /// One of few, so that times meet.
    at: Option<u8>,
    reply: Option<usize>,
    thread: Option<usize>,
    text: u8,
}

/// What is done to a message, or to its conversation.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    Edit,
    React { user: usize, emoji: usize, on: bool },
    Redact { user: usize },
    Erase,
    Pin { on: bool },
    Member { user: usize, role: Option<Role> },
    Access(Access),
    Title { given: bool },
    Retention(Option<u64>),
    Read { user: usize },
    EraseConversation,
}

fn deeds() -> impl Strategy<Value = Deed> {
    let role = prop::sample::select(vec![
        None,
        Some(Role::Reader),
        Some(Role::Member),
        Some(Role::Admin),
        Some(Role::Owner),
    ]);
    let access = prop::sample::select(vec![Access::Open, Access::Open, Access::Members]);
    prop_oneof![
        6 => Just(Deed::Edit),
        8 => (0..2_usize, 0..2_usize, any::<bool>())
            .prop_map(|(user, emoji, on)| Deed::React { user, emoji, on }),
        1 => (0..4_usize).prop_map(|user| Deed::Redact { user }),
        1 => Just(Deed::Erase),
        2 => any::<bool>().prop_map(|on| Deed::Pin { on }),
        3 => (0..3_usize, role).prop_map(|(user, role)| Deed::Member { user, role }),
        1 => access.prop_map(Deed::Access),
        2 => prop::bool::weighted(0.8).prop_map(|given| Deed::Title { given }),
        1 => prop::option::of(0..2_u64).prop_map(Deed::Retention),
        3 => (0..3_usize).prop_map(|user| Deed::Read { user }),
        1 => prop::bool::weighted(0.3).prop_map(|whole| match whole {
            true => Deed::EraseConversation,
            false => Deed::Erase,
        }),
    ]
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop::option::weighted(0.7, 0..4_u8);
    let at = prop::option::weighted(0.3, 0..2_u8);
    let other = || prop::option::weighted(0.3, 0..20_usize);
    let said = (0..2_usize, 0..2_usize, key, at, other(), other(), 0..2_u8).prop_map(
        |(conversation, author, key, at, reply, thread, text)| Said {
            conversation,
            author,
            key,
            at,
            reply,
            thread,
            text,
        },
    );
    let node = || 0..3_usize;
    // Mostly one of few, so that deeds meet.
    let message = || prop_oneof![3 => 0..2_usize, 1 => 0..20_usize];
    let step = prop_oneof![
        10 => (node(), said).prop_map(|(node, message)| Step::Post { node, message }),
        14 => (node(), 0..2_usize, message(), deeds()).prop_map(
            |(node, conversation, message, deed)| Step::Do { node, conversation, message, deed }
        ),
        3 => (node(), 0..2_usize, message(), any::<bool>()).prop_map(
            |(node, conversation, message, on)| Step::Waver { node, conversation, message, on }
        ),
        1 => (node(), 0..2_usize, prop::option::weighted(0.7, message())).prop_map(
            |(node, author, up_to)| Step::EraseAuthor { node, author, up_to }
        ),
        1 => (node(), 0..2_usize, message()).prop_map(
            |(node, conversation, up_to)| Step::Expire { node, conversation, up_to }
        ),
        8 => (node(), 1..3_usize, 1..9_usize, any::<u64>()).prop_map(
            |(from, ahead, limit, seed)| Step::Pull { from, to: (from + ahead) % 3, limit, seed }
        ),
        1 => any::<u64>().prop_map(|seed| Step::Meet { seed }),
        8 => node().prop_map(|node| Step::Persist { node }),
        1 => node().prop_map(|node| Step::Crash { node }),
        1 => node().prop_map(|node| Step::Snapshot { node }),
        1 => (1..3_usize, 1..20_usize).prop_map(|(node, limit)| Step::Trim { node, limit }),
    ];
    prop::collection::vec(step, 1..100)
}

pub(crate) struct World {
    /// The first never trims its log.
    pub(crate) nodes: Vec<Node>,
    /// What was shown at each vector with equal erasures, anywhere and at any time.
    shown: BTreeMap<(Digest, Digest), Shown>,
    /// Every text that anybody wrote.
    texts: BTreeSet<String>,
}

impl World {
    pub(crate) fn new(cache_bytes: usize) -> Self {
        let node = |number| Node::on(Arc::new(MemoryEngine::new()), number, cache_bytes);
        let nodes = (1..=3).map(node).collect();
        Self { nodes, shown: BTreeMap::new(), texts: BTreeSet::new() }
    }

    pub(crate) fn take(&mut self, step: Step) {
        match step {
            Step::Post { node, message } => self.post(node, &message),
            Step::Do { node, conversation, message, deed } => {
                self.deed(node, CONVERSATIONS[conversation], message, deed);
            }
            Step::Waver { node, conversation, message, on } => {
                for on in [on, !on] {
                    let deed = Deed::React { user: 0, emoji: 0, on };
                    self.deed(node, CONVERSATIONS[conversation], message, deed);
                    self.persist(node);
                }
            }
            Step::EraseAuthor { node, author, up_to } => {
                let up_to = up_to.and_then(|choice| self.front(node, CONVERSATIONS[0], choice));
                self.nodes[node].erase_author(PEOPLE[author], up_to);
            }
            Step::Expire { node, conversation, up_to } => {
                let conversation = CONVERSATIONS[conversation];
                if let Some(up_to) = self.front(node, conversation, up_to) {
                    self.nodes[node].expire(conversation, up_to);
                }
            }
            Step::Pull { from, to, limit, seed } => {
                let mut puller = self.nodes.remove(to);
                let from = if from > to { from - 1 } else { from };
                puller.pull_shuffled(&self.nodes[from], limit, seed);
                self.nodes.insert(to, puller);
            }
            Step::Meet { seed } => self.settle(seed),
            Step::Persist { node } => self.persist(node),
            Step::Crash { node } => {
                if self.nodes[node].runs < 15 {
                    self.nodes[node].restart();
                }
            }
            Step::Snapshot { node } => self.nodes[node].snapshot(),
            Step::Trim { node, limit } => {
                let safe = self.held_by_all();
                self.nodes[node].replica.trim(&safe, limit).expect("trims");
            }
        }
    }

    /// What all hold durably.
    fn held_by_all(&self) -> VersionVector {
        let vectors = self.nodes.iter().map(|node| &node.replica.durable().vector);
        let vectors: Vec<_> = vectors.collect();
        let least = |origin| vectors.iter().map(|held| held.get(origin)).min().unwrap_or(0);
        vectors[0].iter().map(|(origin, _)| (origin, least(origin))).collect()
    }

    /// One of the messages that `node` shows of a conversation.
    fn choose(&self, node: usize, conversation: &str, choice: usize) -> Option<Message> {
        let node = &self.nodes[node];
        node.reader.conversation(&name(conversation)).ok()?;
        let held = node.messages(conversation);
        (!held.is_empty()).then(|| held[choice % held.len()].clone())
    }

    fn front(&self, node: usize, conversation: &str, choice: usize) -> Option<Front> {
        let message = self.choose(node, conversation, choice)?;
        let edited = message.state.revision.map(|revision| revision.rank.front);
        // Now and then between a message and its edit, now and then behind both.
        Some(edited.filter(|_| choice.is_multiple_of(3)).unwrap_or(message.id.front()))
    }

    /// A text that nobody wrote before, but in another try of the same post.
    fn text(&mut self, of: Option<String>) -> String {
        let text = of.unwrap_or_else(|| format!("<words {}>", self.texts.len()));
        self.texts.insert(text.clone());
        text
    }

    fn post(&mut self, node: usize, said: &Said) {
        let conversation = CONVERSATIONS[said.conversation];
        let author = PEOPLE[said.author];
        self.nodes[node].create(conversation);
        let other = |choice: Option<usize>| -> Option<MessageId> {
            Some(self.choose(node, conversation, choice?)?.id)
        };
        let (reply_to, thread) = (other(said.reply), other(said.thread));
        let text = said.key.map(|key| format!("<{conversation} {author} {key} {}>", said.text));
        let text = self.text(text);
        let message = match said.key {
            Some(key) => keyed(&key.to_string(), &text),
            None => says(&text),
        };
        let message = NewMessage {
            conversation: name(conversation),
            author: name(author),
            placing: said.at.map_or(Placing::Now, |at| Placing::At(u64::from(at) + 1_000)),
            reply_to,
            thread,
            ..message
        };
        allow(self.nodes[node].try_post(message).map(drop));
    }

    fn deed(&mut self, node: usize, conversation: &str, choice: usize, deed: Deed) {
        let Some(message) = self.choose(node, conversation, choice) else { return };
        let author = message.header.author.to_string();
        let (root, message) = ("root".to_owned(), message.id);
        let user = |user: usize| PEOPLE[user].to_owned();
        let (by, operation) = match deed {
            Deed::Edit => {
                let body = self.text(None).into_bytes();
                let content_type = ContentType::default();
                (author, Operation::Edit { message, body, content_type })
            }
            Deed::React { user: by, emoji, on } => {
                let emoji = name(["🐦", "🐦‍⬛"][emoji]);
                (user(by), Operation::React { message, emoji, on })
            }
            Deed::Redact { user: by } => (user(by), Operation::Redact { message }),
            Deed::Erase => (author, Operation::Erase { message }),
            Deed::Pin { on } => (root, Operation::Pin { message, on }),
            Deed::Member { user: whom, role } => {
                (root, Operation::SetMember { user: name(PEOPLE[whom]), role })
            }
            Deed::Access(access) => (root, Operation::SetAccess(access)),
            Deed::Title { given } => {
                let title = given.then(|| self.text(None).into_bytes());
                (root, Operation::SetTitle(title))
            }
            Deed::Retention(millis) => (root, Operation::SetRetention(millis)),
            Deed::Read { user: by } => (user(by), Operation::MarkRead { message }),
            Deed::EraseConversation => (root, Operation::EraseConversation),
        };
        allow(self.nodes[node].try_do_in(conversation, &by, operation).map(drop));
    }

    /// Persists, and compares with what was shown at the same vector before (P3).
    fn persist(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.persist();
        let state = node.state();
        let at = (state.vector.digest(), node.replica.durable().aside());
        let shown = self.shown.entry(at).or_insert_with(|| state.shown.clone());
        assert_eq!(*shown, state.shown, "at an equal vector");
    }

    pub(crate) fn settle(&mut self, seed: u64) {
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

    /// Removes the rows of erased conversations everywhere, as upkeep does.
    pub(crate) fn sweep(&mut self) {
        for node in &mut self.nodes {
            for (conversation, sweep) in node.replica.sweeps().expect("reads") {
                while !node.replica.remove_retired(conversation, 7).expect("removes") {
                    node.persist();
                }
                node.replica.swept(conversation, sweep).expect("is noted");
            }
            node.persist();
        }
    }

    /// No value of any table holds a text of which every record is covered.
    pub(crate) fn expect_that_what_is_covered_is_gone(&self) {
        let kept = kept_words(&self.nodes[0]);
        for node in &self.nodes {
            for table in Table::ALL {
                let rows = node.engine.scan(table, &[], &[0xff; 200], Direction::Forward);
                for row in rows {
                    let (_, value) = row.expect("reads");
                    for gone in self.texts.difference(&kept) {
                        let here = value.windows(gone.len()).any(|part| part == gone.as_bytes());
                        assert!(!here, "{gone} is still in {table} of node {}", node.number);
                    }
                }
            }
        }
    }
}

/// What a client may be told; all else is our fault.
fn allow(outcome: Result<(), CommandError>) {
    match outcome {
        Ok(()) => {}
        Err(CommandError::Replica(error)) => panic!("{error}"),
        Err(_) => {}
    }
}

/// The words of all records that no erasure covers. Also checks that `node` holds no others.
fn kept_words(node: &Node) -> BTreeSet<String> {
    let rows = tables::erasures_of(&*node.engine, space()).expect("reads");
    let mut kept = BTreeSet::new();
    for parcel in node.parcels() {
        for (carried, covered) in parcel.bodies.iter().zip(covered(&parcel, &rows)) {
            match carried {
                Carried::Body(body) => {
                    assert!(!covered, "{}/{} holds what is covered", parcel.origin, parcel.seq);
                    kept.insert(String::from_utf8(body.bytes.clone()).expect("words"));
                }
                Carried::Erased(_) => assert!(covered, "what is not covered was lost"),
            }
        }
    }
    kept
}

/// Of each record of an entry that has words: whether any of `rows` covers them.
fn covered(parcel: &Parcel, rows: &[Erasure]) -> Vec<bool> {
    let is = |words: &Words<'_>| rows.iter().any(|row| row.covers(words));
    let writes = |change: &[u8]| Change::decode(change).expect("an honest change").0.writes;
    match Entry::decode(&parcel.entry).expect("decodes").kind {
        EntryKind::Segment { conversation, change, .. } => writes(&change)
            .iter()
            .filter_map(|(key, scalar)| {
                let statement = Statement::decode(scalar.as_bytes()).expect("a statement");
                let identity = RecordKey::from_text(key).expect("a key").identity;
                let (message, author, front) = match &statement {
                    Statement::Post(header) => (identity, &header.author, header.front),
                    Statement::Edit(edit) => (edit.target, &edit.editor, edit.front),
                    Statement::Reaction(_) | Statement::Redaction(_) => return None,
                };
                let (message, front) = (Some(message), Some(front));
                Some(is(&Words { conversation, message, author, front }))
            })
            .collect(),
        EntryKind::Conversation { name, incarnation, change } => writes(&change)
            .iter()
            .filter_map(|(_, scalar)| {
                let record = SettingRecord::decode(scalar.as_bytes()).ok()?;
                record.setting.body()?;
                let conversation = ConversationId::of(space(), &name, incarnation);
                let author = &record.by;
                Some(is(&Words { conversation, message: None, author, front: None }))
            })
            .collect(),
        EntryKind::Origin { .. }
        | EntryKind::Markers(_)
        | EntryKind::Erasures { .. }
        | EntryKind::Unknown { .. } => Vec::new(),
    }
}
