//! A node without a network: a replica, its reader and its disk, with persisting made explicit.
//!
//! It must not hide a step that a real driver takes. Invariant: nothing is persisted unless the
//! story says so.

use std::collections::BTreeSet;
use std::sync::Arc;

use warbler_store::engine::{Direction, MemoryEngine, SharedEngine, Table};
use warbler_store::entropy::Entropy;
use warbler_store::entry::{Entry, Parcel};
use warbler_store::erasure::Erasure;
use warbler_store::id::{
    ConversationId, Digest, Front, MessageId, Millis, NodeId, OriginId, SegmentId, SpaceId,
};
use warbler_store::log::{self, LogWalk};
use warbler_store::name::Name;
use warbler_store::reader::{Conversation, History, Member, Range, Reader, Settings};
use warbler_store::record::{ContentType, Message};
use warbler_store::replica::{
    Actor, Built, CommandError, NewMessage, Operated, Operation, Placing, Posted, Readiness,
    Refusal, Replica, Sealed, Taken, Writer,
};
use warbler_store::tables::{self, ChangeRow, ErasureKey};
use warbler_store::vector::VersionVector;

/// The time at which stories begin: 2026-01-01.
pub(crate) const NOON: Millis = 1_767_225_600_000;
/// Enough for every document of a story.
pub(crate) const ROOMY: usize = 64 << 20;
/// So little that every document is dropped as soon as another is used.
pub(crate) const TINY: usize = 1;

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn space() -> SpaceId {
    SpaceId::of(&name("main"))
}

/// `root` administers the space; all others are what they are made.
pub(crate) fn acting(user: &str) -> Actor {
    Actor { user: name(user), admin: user == "root" }
}

/// What `ada` posts in `general` now.
pub(crate) fn says(text: &str) -> NewMessage {
    NewMessage {
        conversation: name("general"),
        author: name("ada"),
        body: text.as_bytes().to_vec(),
        content_type: ContentType::default(),
        reply_to: None,
        thread: None,
        placing: Placing::Now,
        key: None,
    }
}

pub(crate) fn keyed(key: &str, text: &str) -> NewMessage {
    NewMessage { key: Some(key.as_bytes().to_vec()), ..says(text) }
}

pub(crate) fn imported(at: Millis, text: &str) -> NewMessage {
    NewMessage { placing: Placing::At(at), ..says(text) }
}

/// All that readers and peers can tell of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) vector: VersionVector,
    /// What is to be forgotten, and what could not be applied: the state depends on them too.
    pub(crate) erasures: Digest,
    pub(crate) quarantine: Digest,
    pub(crate) shown: Shown,
}

/// What a node shows of what it holds: a function of the vector, the erasures and the quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) digest: Digest,
    pub(crate) counts: (u64, u64, u64),
    pub(crate) conversations: Vec<(Conversation, Vec<Message>)>,
    /// Beside the messages of each conversation, what else is told of it.
    pub(crate) more: Vec<More>,
}

/// What is told of a conversation beside its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct More {
    pub(crate) settings: Settings,
    pub(crate) members: Vec<Member>,
    /// Of each message, the words before it was edited, and its edits.
    pub(crate) histories: Vec<Option<History>>,
    /// Of each message, emojis and who set them.
    pub(crate) reactions: Vec<Vec<(Name, Name)>>,
    /// Of each message, those in the thread about it.
    pub(crate) threads: Vec<Vec<MessageId>>,
    /// Up to where the people of the stories have read, and how much they have not.
    pub(crate) read: Vec<(Option<MessageId>, usize)>,
}

/// Who may appear in a story, where everybody has to be asked for.
pub(crate) const PEOPLE: [&str; 4] = ["ada", "bob", "eve", "root"];

pub(crate) struct Node {
    pub(crate) number: u8,
    pub(crate) runs: u8,
    cache_bytes: usize,
    pub(crate) engine: SharedEngine,
    pub(crate) replica: Replica,
    pub(crate) reader: Reader,
    pub(crate) clock: Millis,
}

impl Node {
    /// A node on a disk in memory.
    pub(crate) fn new(number: u8) -> Self {
        Self::on(Arc::new(MemoryEngine::new()), number, ROOMY)
    }

    /// The node `number` on `engine`, with a document cache of `cache_bytes`.
    pub(crate) fn on(engine: SharedEngine, number: u8, cache_bytes: usize) -> Self {
        Self::run(engine, number, 0, cache_bytes)
    }

    fn run(engine: SharedEngine, number: u8, runs: u8, cache_bytes: usize) -> Self {
        let writer = Writer {
            node: NodeId([number; 32]),
            region: name("oslo"),
            origin: OriginId([number + 0x10 * runs; 16]),
            started: NOON,
        };
        let entropy = Entropy::from_seed([number ^ runs.rotate_left(4); 32]);
        let replica =
            Replica::open(Arc::clone(&engine), &name("main"), writer, entropy, cache_bytes);
        let reader = Reader::new(Arc::clone(&engine), space());
        let replica = replica.expect("opens");
        Self { number, runs, cache_bytes, engine, replica, reader, clock: NOON }
    }

    /// Ends the run without a word, and starts the next, under a new origin. What was not
    /// persisted is gone.
    pub(crate) fn restart(&mut self) {
        assert!(self.runs < 15, "origins of a story are numbered in half a byte");
        let engine = Arc::clone(&self.engine);
        let clock = self.clock;
        *self = Self::run(engine, self.number, self.runs + 1, self.cache_bytes);
        self.clock = clock;
    }

    pub(crate) fn create(&mut self, conversation: &str) {
        self.replica.create_conversation(&name(conversation)).expect("creates");
    }

    pub(crate) fn try_post(&mut self, message: NewMessage) -> Result<Posted, CommandError> {
        self.clock += 1;
        self.replica.post(self.clock, message)
    }

    pub(crate) fn post(&mut self, message: NewMessage) -> MessageId {
        self.try_post(message).expect("is accepted").id
    }

    /// Carries out an operation in `general`, as `user`.
    pub(crate) fn try_do(
        &mut self,
        user: &str,
        operation: Operation,
    ) -> Result<Operated, CommandError> {
        self.try_do_in("general", user, operation)
    }

    pub(crate) fn try_do_in(
        &mut self,
        conversation: &str,
        user: &str,
        operation: Operation,
    ) -> Result<Operated, CommandError> {
        self.clock += 1;
        let actor = acting(user);
        self.replica.operate(self.clock, &actor, &name(conversation), operation)
    }

    /// Carries out an operation that must change something.
    pub(crate) fn does(&mut self, user: &str, operation: Operation) {
        let done = self.try_do(user, operation).expect("is accepted");
        assert_eq!(done, Operated::Done);
    }

    /// Changes settings of `general` as `user`: all, or none.
    pub(crate) fn try_all(
        &mut self,
        user: &str,
        operations: Vec<Operation>,
    ) -> Result<Operated, CommandError> {
        self.replica.operate_all(&acting(user), &name("general"), operations)
    }

    pub(crate) fn erase_author(&mut self, author: &str, up_to: Option<Front>) -> Operated {
        self.clock += 1;
        let erased = self.replica.erase_author(self.clock, &acting("root"), name(author), up_to);
        erased.expect("is accepted")
    }

    /// Lets what was said in a conversation up to `up_to` expire.
    pub(crate) fn expire(&mut self, conversation: &str, up_to: Front) -> Operated {
        let id = self.reader.conversation(&name(conversation)).expect("is there").id;
        self.replica.expire(self.clock, id, up_to).expect("is accepted")
    }

    /// Puts a snapshot in the place of every change that is durable, of every document.
    pub(crate) fn snapshot(&mut self) {
        let rows = self.engine.scan(Table::Segments, &[], &[0xff; 80], Direction::Forward);
        let parse = |key: Vec<u8>| ChangeRow::parse(&key).expect("a key of the table");
        let changes = rows.filter_map(|row| parse(row.expect("reads").0));
        let documents: BTreeSet<SegmentId> = changes.map(|change| change.document).collect();
        for document in documents {
            let built = Built::of(&*self.engine, space(), document);
            match built {
                Ok(Some(built)) => {
                    self.replica.install(built).expect("installs");
                }
                Ok(None) => {}
                // Its rows are removed bit by bit after its conversation was erased.
                Err(error) => assert!(self.is_erased(document.conversation), "{error}"),
            }
        }
    }

    fn is_erased(&self, conversation: ConversationId) -> bool {
        let key = (space(), ErasureKey::Conversation(conversation));
        tables::get::<Erasure>(&*self.engine, &key).expect("reads").is_some()
    }

    /// Seals the batch; nothing is on disk yet.
    pub(crate) fn seal(&mut self) -> Option<Arc<Sealed>> {
        self.replica.seal().expect("seals")
    }

    /// Writes a sealed batch and tells the replica so.
    pub(crate) fn write(&mut self, sealed: &Sealed) {
        self.engine.persist(&sealed.batch).expect("persists");
        self.replica.written(sealed.ticket);
    }

    /// Seals and writes what there is.
    pub(crate) fn persist(&mut self) -> Option<Arc<Sealed>> {
        let sealed = self.seal()?;
        self.write(&sealed);
        Some(sealed)
    }

    /// Takes in an entry of another node.
    pub(crate) fn take(&mut self, parcel: &Parcel) -> Result<Taken, Refusal> {
        let entry = Entry::decode(&parcel.entry).expect("decodes");
        self.replica.apply(self.clock, parcel, entry, |_, _| true)
    }

    /// Takes in, in causal order, all that `other` holds durably and this node lacks.
    pub(crate) fn pull(&mut self, other: &Self) {
        for parcel in other.parcels_above(self.replica.applied()) {
            self.take(&parcel).expect("a causal order");
        }
    }

    /// Takes in what `other` holds durably and this node lacks, at most `limit` entries, in a
    /// causal order that `seed` chooses.
    pub(crate) fn pull_shuffled(&mut self, other: &Self, limit: usize, seed: u64) {
        let mut missing = other.parcels_above(self.replica.applied());
        let mut random = Entropy::from_seed(*blake3::hash(&seed.to_be_bytes()).as_bytes());
        for _ in 0..limit.min(missing.len()) {
            let ready: Vec<usize> = (0..missing.len())
                .filter(|place| self.readiness(&missing[*place]) == Readiness::Ready)
                .collect();
            let choice = u32::from_be_bytes(random.bytes()) as usize % ready.len();
            self.take(&missing.remove(ready[choice])).expect("a causal order");
        }
    }

    fn readiness(&self, parcel: &Parcel) -> Readiness {
        let entry = Entry::decode(&parcel.entry).expect("decodes");
        self.replica.readiness(parcel.origin, parcel.seq, &entry.saw)
    }

    /// What is durable and above `vector`, in causal order.
    pub(crate) fn parcels_above(&self, vector: &VersionVector) -> Vec<Parcel> {
        let until = self.reader.vector().expect("reads");
        let walk = LogWalk::between(&*self.engine, space(), vector, &until).expect("reads");
        walk.map(|entry| log::parcel(&*self.engine, space(), entry.expect("reads")))
            .collect::<Result<_, _>>()
            .expect("whole entries")
    }

    /// The origin record of the run, which it writes with its first entry.
    pub(crate) fn first_entry(mut self) -> Parcel {
        self.create("general");
        self.persist().expect("a batch").own[0].clone()
    }

    pub(crate) fn parcels(&self) -> Vec<Parcel> {
        self.parcels_above(&VersionVector::default())
    }

    /// The messages of a conversation, read in one page.
    pub(crate) fn messages(&self, conversation: &str) -> Vec<Message> {
        let page = self.reader.page(&name(conversation), Range::Last, 100_000).expect("reads");
        assert!(!page.older && !page.newer, "one page holds all");
        page.messages
    }

    pub(crate) fn texts(&self, conversation: &str) -> Vec<String> {
        let text = |message: Message| String::from_utf8(message.body).expect("words");
        self.messages(conversation).into_iter().map(text).collect()
    }

    /// What is durable.
    pub(crate) fn state(&self) -> State {
        let conversations = self.reader.conversations(None, 1_000).expect("reads");
        let conversations: Vec<_> = conversations
            .into_iter()
            .map(|listed| {
                let messages = self.messages(listed.name.as_str());
                assert_eq!(listed.messages, messages.len() as u64, "the count of {listed:?}");
                assert_eq!(listed.last, messages.last().map(|message| message.id));
                (listed, messages)
            })
            .collect();
        let counts = self.replica.counts();
        let counts = (counts.conversations, counts.messages, counts.depth);
        let point = self.replica.durable();
        assert_eq!(point.vector, self.reader.vector().expect("reads"));
        let more = self.more(&conversations);
        let shown = Shown { digest: point.digest, counts, conversations, more };
        let (erasures, quarantine) = (point.erasures, point.quarantine);
        State { vector: point.vector.clone(), erasures, quarantine, shown }
    }

    fn more(&self, conversations: &[(Conversation, Vec<Message>)]) -> Vec<More> {
        let more = |(listed, messages): &(Conversation, Vec<Message>)| {
            let (reader, of) = (&self.reader, &listed.name);
            let each = || messages.iter().map(|message| message.id);
            let thread = |root| {
                let page = reader.thread(of, root, None, 1_000).expect("reads");
                let page = page.expect("the root is there");
                page.messages.into_iter().map(|message| message.id).collect()
            };
            let read = |user: &&str| {
                let unread = reader.unread(of, &name(user), 1_000).expect("reads");
                (unread.read, unread.count)
            };
            More {
                settings: reader.settings(of).expect("reads"),
                members: reader.members(of).expect("reads"),
                histories: each().map(|id| reader.history(of, id).expect("reads")).collect(),
                reactions: each().map(|id| reader.reactions(of, id, 99).expect("reads")).collect(),
                threads: each().map(thread).collect(),
                read: PEOPLE.iter().map(read).collect(),
            }
        };
        conversations.iter().map(more).collect()
    }
}

/// Nodes 1 to `count`, of which the first has created `general` and all hold that.
pub(crate) fn nodes(count: u8) -> Vec<Node> {
    let mut nodes: Vec<Node> = (1..=count).map(Node::new).collect();
    nodes[0].create("general");
    nodes[0].persist();
    let (first, others) = nodes.split_at_mut(1);
    for other in others {
        other.pull(&first[0]);
        other.persist();
    }
    nodes
}

/// A node that holds an empty `general`.
pub(crate) fn node() -> Node {
    nodes(1).remove(0)
}
