//! Nodes in memory for the stories of this crate's own tests: several regions, each a replica on a
//! disk that a test can hold in its hand.
//!
//! It must not hide a step that a real driver takes. Invariant: what happens is a function of the
//! calls.

use std::sync::Arc;

use proptest::prelude::*;

use crate::engine::{Direction, Engine, MemoryEngine, Row, Table, View};
use crate::entropy::Entropy;
use crate::entry::{Entry, Parcel};
use crate::id::{ConversationId, Front, MessageId, Millis, NodeId, OriginId, SpaceId};
use crate::log::{self, LogWalk};
use crate::name::Name;
use crate::reader::{Range, Reader};
use crate::record::{Access, ContentType, Message, Role};
use crate::replica::{
    Actor, Built, NewMessage, Operation, Placing, Replica, Writer, read_origins, vector_of,
};
use crate::tables::{self, ConversationRow};
use crate::vector::VersionVector;
use crate::verify::{Damage, verify};

/// When stories begin: 2026-01-01.
pub(crate) const NOON: Millis = 1_767_225_600_000;

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn space() -> SpaceId {
    SpaceId::of(&name("main"))
}

pub(crate) fn conversation(text: &str) -> ConversationId {
    ConversationId::of(space(), &name(text), 0)
}

pub(crate) struct Node {
    pub(crate) engine: MemoryEngine,
    pub(crate) replica: Replica,
    pub(crate) now: Millis,
    number: u8,
    runs: u8,
}

impl Node {
    pub(crate) fn new(number: u8) -> Self {
        let engine = MemoryEngine::new();
        crate::open::claim(&engine, NodeId([number; 32])).expect("an empty store");
        Self::on(engine, number, 0)
    }

    pub(crate) fn on(engine: MemoryEngine, number: u8, runs: u8) -> Self {
        let writer = Writer {
            node: NodeId([number; 32]),
            region: name("oslo"),
            origin: OriginId([number + 0x10 * runs; 16]),
            started: NOON,
        };
        let entropy = Entropy::from_seed([number ^ runs.rotate_left(4); 32]);
        let shared = Arc::new(engine.clone());
        let replica = Replica::open(shared, &name("main"), writer, entropy, 1 << 20);
        Self { engine, replica: replica.expect("opens"), now: NOON, number, runs }
    }

    /// Ends the run and starts the next.
    pub(crate) fn restart(&mut self) {
        let now = self.now;
        *self = Self::on(self.engine.clone(), self.number, self.runs + 1);
        self.now = now;
    }

    pub(crate) fn persist(&mut self) {
        if let Some(sealed) = self.replica.seal().expect("seals") {
            self.engine.persist(&sealed.batch).expect("persists");
            self.replica.written(sealed.ticket);
        }
    }

    pub(crate) fn create(&mut self, text: &str) {
        self.replica.create_conversation(&name(text)).expect("creates");
        self.persist();
    }

    pub(crate) fn post(&mut self, text: &str, author: &str, body: &str) -> MessageId {
        self.post_keyed(text, author, body, None, None)
    }

    pub(crate) fn post_keyed(
        &mut self,
        text: &str,
        author: &str,
        body: &str,
        key: Option<&str>,
        thread: Option<MessageId>,
    ) -> MessageId {
        self.now += 1;
        let message = NewMessage {
            conversation: name(text),
            author: name(author),
            body: body.as_bytes().to_vec(),
            content_type: ContentType::default(),
            reply_to: thread,
            thread,
            placing: Placing::Now,
            key: key.map(|key| key.as_bytes().to_vec()),
        };
        self.replica.post(self.now, message).expect("is accepted").id
    }

    /// Does what may be refused.
    pub(crate) fn operate(&mut self, text: &str, user: &str, operation: Operation) {
        self.now += 1;
        let actor = Actor { user: name(user), admin: true };
        let _ = self.replica.operate(self.now, &actor, &name(text), operation);
    }

    pub(crate) fn parcels_above(&self, vector: &VersionVector) -> Vec<Parcel> {
        let until = vector_of(&read_origins(&self.engine, space()).expect("reads"));
        let walk = LogWalk::between(&self.engine, space(), vector, &until).expect("not trimmed");
        walk.map(|entry| log::parcel(&self.engine, space(), entry.expect("reads")))
            .collect::<Result<_, _>>()
            .expect("whole entries")
    }

    /// Takes in all that `other` holds and this node lacks.
    pub(crate) fn pull(&mut self, other: &Self) {
        for parcel in other.parcels_above(self.replica.applied()) {
            let entry = Entry::decode(&parcel.entry).expect("decodes");
            self.replica.apply(self.now, &parcel, entry, |_, _| true).expect("a causal order");
        }
        self.persist();
    }

    /// Makes a snapshot of every document that has changes without one.
    pub(crate) fn snapshot(&mut self) {
        let engine = self.engine.clone();
        let view = engine.view();
        let rows = tables::rows::<ConversationRow, _>(&*view, &ConversationRow::PREFIX);
        for row in rows {
            let (_, row) = row.expect("reads");
            let id = ConversationId::of(space(), &row.name, row.incarnation);
            let documents = crate::projection::documents_of(&*view, id);
            for document in documents.expect("reads") {
                if let Some(built) = Built::of(&*view, space(), document).expect("builds") {
                    self.replica.install(built).expect("installs");
                }
            }
        }
        self.persist();
    }

    /// Takes everything out of the log that `safe` names and snapshots cover.
    pub(crate) fn trim(&mut self, safe: &VersionVector) {
        self.replica.trim(safe, 10_000).expect("trims");
        self.persist();
    }

    pub(crate) fn damage(&self) -> Vec<Damage> {
        let mut damage = Vec::new();
        let view = self.engine.view();
        verify(&*view, |slice| damage.extend(slice.damage));
        damage
    }

    pub(crate) fn rows(&self) -> Vec<(Table, Row)> {
        let rows = Table::ALL.into_iter().flat_map(|table| {
            let rows = self.engine.scan(table, &[], &[0xff; 300], Direction::Forward);
            rows.map(move |row| (table, row.expect("reads"))).collect::<Vec<_>>()
        });
        rows.collect()
    }

    pub(crate) fn page(&self, text: &str) -> Vec<Message> {
        let reader = Reader::new(Arc::new(self.engine.clone()), space());
        reader
            .page(&name(text), Range::Last, 1000)
            .map_or_else(|_| Vec::new(), |page| page.messages)
    }
}

/// One thing that happens in a world of two regions.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Post { node: usize, conversation: usize, author: usize, key: Option<u8>, thread: bool },
    Do { node: usize, conversation: usize, user: usize, message: usize, what: u8 },
    EraseAuthor { node: usize, author: usize, back: u64 },
    Expire { node: usize, conversation: usize, back: u64 },
    Pull { node: usize },
    Snapshot { node: usize },
    Trim { node: usize },
    Restart { node: usize },
    Persist { node: usize },
}

const NAMES: [&str; 3] = ["general", "news", "later"];
const USERS: [&str; 3] = ["ada", "bob", "cleo"];

pub(crate) fn event() -> impl Strategy<Value = Event> {
    let node = || 0..2_usize;
    let three = || 0..3_usize;
    prop_oneof![
        6 => (node(), three(), three(), prop::option::of(0..4_u8), any::<bool>()).prop_map(
            |(node, conversation, author, key, thread)| {
                Event::Post { node, conversation, author, key, thread }
            }
        ),
        10 => (node(), three(), three(), 0..12_usize, 0..16_u8).prop_map(
            |(node, conversation, user, message, what)| {
                Event::Do { node, conversation, user, message, what }
            }
        ),
        1 => (node(), three(), 0..40_u64)
            .prop_map(|(node, author, back)| Event::EraseAuthor { node, author, back }),
        1 => (node(), three(), 0..40_u64)
            .prop_map(|(node, conversation, back)| Event::Expire { node, conversation, back }),
        4 => node().prop_map(|node| Event::Pull { node }),
        1 => node().prop_map(|node| Event::Snapshot { node }),
        1 => node().prop_map(|node| Event::Trim { node }),
        1 => node().prop_map(|node| Event::Restart { node }),
        3 => node().prop_map(|node| Event::Persist { node }),
    ]
}

/// Two regions to which things happened; both have what they wrote on their disks.
pub(crate) fn world(events: &[Event]) -> [Node; 2] {
    let mut nodes = [Node::new(1), Node::new(2)];
    for text in NAMES {
        nodes[0].create(text);
    }
    let [oslo, tokyo] = &mut nodes;
    tokyo.pull(oslo);
    events.iter().for_each(|event| happen(&mut nodes, event));
    nodes.iter_mut().for_each(Node::persist);
    nodes
}

fn happen(nodes: &mut [Node; 2], event: &Event) {
    match event.clone() {
        Event::Post { node, conversation, author, key, thread } => {
            let node = &mut nodes[node];
            let root = node.page(NAMES[conversation]).first().map(|message| message.id);
            let key = key.map(|key| format!("key {key}"));
            node.replica.create_conversation(&name(NAMES[conversation])).expect("creates");
            node.now += 1;
            let message = NewMessage {
                conversation: name(NAMES[conversation]),
                author: name(USERS[author]),
                body: b"words".to_vec(),
                content_type: ContentType::default(),
                reply_to: None,
                thread: root.filter(|_| thread),
                placing: Placing::Now,
                key: key.map(String::into_bytes),
            };
            let _ = node.replica.post(node.now, message);
        }
        Event::Do { node, conversation, user, message, what } => {
            let node = &mut nodes[node];
            let page = node.page(NAMES[conversation]);
            let Some(message) = page.get(message % page.len().max(1)) else { return };
            let (message, author) = (message.id, message.header.author.to_string());
            let other = name(USERS[(user + 1) % 3]);
            let edit = || Operation::Edit {
                message,
                body: format!("edited at {}", node.now).into_bytes(),
                content_type: ContentType::default(),
            };
            let (operation, user) = match what {
                0..=3 => (edit(), author.as_str()),
                4..=6 => {
                    let on = what < 6;
                    (Operation::React { message, emoji: name("🐦"), on }, USERS[user])
                }
                7 => (Operation::Redact { message }, USERS[user]),
                8 => (Operation::Erase { message }, USERS[user]),
                9 => (Operation::Pin { message, on: true }, USERS[user]),
                10 => (Operation::SetMember { user: other, role: Some(Role::Member) }, USERS[user]),
                11 => (Operation::SetMember { user: other, role: None }, USERS[user]),
                12 => (Operation::SetTitle(Some(b"a title".to_vec())), USERS[user]),
                13 => (Operation::SetAccess(Access::Open), USERS[user]),
                14 => (Operation::MarkRead { message }, USERS[user]),
                _ => (Operation::EraseConversation, USERS[user]),
            };
            node.operate(NAMES[conversation], user, operation);
        }
        Event::EraseAuthor { node, author, back } => {
            let node = &mut nodes[node];
            let actor = Actor { user: name("root"), admin: true };
            let up_to = Front { millis: node.now.saturating_sub(back), counter: 9 };
            let author = name(USERS[author]);
            node.replica.erase_author(node.now, &actor, author, Some(up_to)).expect("erases");
        }
        Event::Expire { node, conversation: text, back } => {
            let node = &mut nodes[node];
            let up_to = Front { millis: node.now.saturating_sub(back), counter: 9 };
            node.replica.expire(node.now, conversation(NAMES[text]), up_to).expect("expires");
        }
        Event::Pull { node } => {
            nodes.iter_mut().for_each(Node::persist);
            let [oslo, tokyo] = nodes;
            match node {
                0 => oslo.pull(tokyo),
                _ => tokyo.pull(oslo),
            }
        }
        Event::Snapshot { node } => nodes[node].snapshot(),
        Event::Trim { node } => {
            nodes.iter_mut().for_each(Node::persist);
            let safe = nodes[1 - node].replica.applied().clone();
            nodes[node].trim(&safe);
        }
        Event::Restart { node } => {
            nodes[node].persist();
            if nodes[node].runs < 14 {
                nodes[node].restart();
            }
        }
        Event::Persist { node } => nodes[node].persist(),
    }
}
