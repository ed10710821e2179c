//! What the simulator found of forgetting, as stories of two nodes.

use std::sync::Arc;

use super::super::{Actor, NewMessage, Operation, Placing, Replica, Sealed, Writer};
use crate::engine::{Direction, Engine, MemoryEngine, Table, View};
use crate::entropy::Entropy;
use crate::entry::{
    Carried, Entry, EntryKind, Parcel, chain_digest, chain_link, chain_mark, chain_start,
};
use crate::id::{ConversationId, Front, MessageId, Millis, NodeId, OriginId};
use crate::log::{self, LogWalk};
use crate::name::Name;
use crate::reader::Reader;
use crate::record::ContentType;
use crate::vector::VersionVector;

const NOW: Millis = 1_767_225_600_000;

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

struct Node {
    engine: MemoryEngine,
    replica: Replica,
    now: Millis,
}

impl Node {
    fn new(number: u8) -> Self {
        let engine = MemoryEngine::new();
        let writer = Writer {
            node: NodeId([number; 32]),
            region: name("oslo"),
            origin: OriginId([number; 16]),
            started: NOW,
        };
        let shared = Arc::new(engine.clone());
        let entropy = Entropy::from_seed([number; 32]);
        let replica = Replica::open(shared, &name("main"), writer, entropy, 1 << 20);
        Self { engine, replica: replica.expect("opens"), now: NOW }
    }

    fn post_at(&mut self, words: &str, placing: Placing, key: Option<&[u8]>) -> MessageId {
        self.replica.create_conversation(&name("general")).expect("creates");
        let message = NewMessage {
            conversation: name("general"),
            author: name("ada"),
            body: words.as_bytes().to_vec(),
            content_type: ContentType::default(),
            reply_to: None,
            thread: None,
            placing,
            key: key.map(<[u8]>::to_vec),
        };
        self.now += 10;
        self.replica.post(self.now, message).expect("is kept").id
    }

    fn post(&mut self, words: &str) -> MessageId {
        self.post_at(words, Placing::Now, None)
    }

    fn operate(&mut self, operation: Operation) {
        let actor = Actor { user: name("ada"), admin: true };
        self.now += 10;
        let done = self.replica.operate(self.now, &actor, &name("general"), operation);
        done.expect("is done");
    }

    fn edit(&mut self, message: MessageId, words: &str) {
        let (body, content_type) = (words.as_bytes().to_vec(), ContentType::default());
        self.operate(Operation::Edit { message, body, content_type });
    }

    fn erase_ada(&mut self, up_to: Option<Front>) {
        let actor = Actor { user: name("ada"), admin: true };
        self.replica.erase_author(self.now, &actor, name("ada"), up_to).expect("is done");
    }

    fn expire(&mut self, up_to: Front) {
        let id = ConversationId::of(self.replica.space(), &name("general"), 0);
        self.replica.expire(self.now, id, up_to).expect("is done");
    }

    fn persist(&mut self) -> Arc<Sealed> {
        let sealed = self.replica.seal().expect("seals").expect("a batch");
        self.engine.persist(&sealed.batch).expect("an honest disk");
        self.replica.written(sealed.ticket);
        sealed
    }

    /// All entries of the log as they would be sent.
    fn parcels(&self) -> Vec<Parcel> {
        let view = self.engine.view();
        let (space, until) = (self.replica.space(), self.replica.durable().vector.clone());
        let walk = LogWalk::between(&*view, space, &Default::default(), &until).expect("a log");
        let parcel = |entry| log::parcel(&*view, space, entry);
        walk.map(|entry| entry.and_then(parcel).expect("whole")).collect()
    }

    fn pull(&mut self, other: &Self) {
        self.take(&other.parcels());
    }

    fn take(&mut self, parcels: &[Parcel]) {
        for parcel in parcels {
            if parcel.seq > self.replica.applied().get(parcel.origin) {
                let entry = Entry::decode(&parcel.entry).expect("an entry");
                self.replica.apply(self.now, parcel, entry, |_, _| true).expect("is taken");
            }
        }
        self.persist();
    }

    /// Whether any value on the disk holds these words.
    fn keeps(&self, words: &str) -> bool {
        Table::ALL.into_iter().any(|table| {
            let mut rows = self.engine.scan(table, &[], &[0xff; 80], Direction::Forward);
            rows.any(|row| holds(&row.expect("a row").1, words))
        })
    }
}

fn holds(bytes: &[u8], words: &str) -> bool {
    bytes.windows(words.len()).any(|window| window == words.as_bytes())
}

fn carries(parcels: &[Parcel], words: &str) -> bool {
    let bodies = parcels.iter().flat_map(|parcel| &parcel.bodies);
    let mut said = bodies.filter_map(|carried| match carried {
        Carried::Body(body) => Some(&body.bytes),
        Carried::Erased(_) => None,
    });
    said.any(|bytes| holds(bytes, words))
}

#[test]
fn words_that_are_erased_in_the_batch_that_says_them_are_neither_shown_nor_pushed() {
    let mut node = Node::new(1);
    let message = node.post("a secret");
    node.post("the rest");
    node.operate(Operation::Erase { message });
    let sealed = node.persist();
    assert!(!carries(&sealed.own, "a secret"), "pushed");
    assert!(carries(&sealed.own, "the rest"));
    let shown = sealed.applied.iter().flat_map(|applied| &applied.messages);
    let shown: Vec<&[u8]> = shown.map(|message| &message.body[..]).collect();
    assert_eq!(shown, [&b""[..], b"the rest"]);
}

#[test]
fn words_that_were_covered_before_they_were_said_are_neither_shown_nor_pushed() {
    let mut node = Node::new(1);
    node.post("a beginning");
    node.erase_ada(None);
    node.persist();
    node.post_at("an old secret", Placing::At(NOW - 5_000), None);
    let sealed = node.persist();
    assert!(!carries(&sealed.own, "an old secret"), "pushed");
    assert!(
        sealed
            .applied
            .iter()
            .flat_map(|applied| &applied.messages)
            .all(|message| { message.state.erased && message.body.is_empty() })
    );
}

#[test]
fn a_conversation_that_is_erased_is_not_sent_from_rows_that_are_still_there() {
    let mut node = Node::new(1);
    node.post("a secret");
    node.operate(Operation::SetTitle(Some(b"a telling title".to_vec())));
    node.persist();
    node.operate(Operation::EraseConversation);
    node.persist();
    assert!(node.keeps("a secret"), "nothing was swept yet");
    let parcels = node.parcels();
    assert!(!carries(&parcels, "a secret") && !carries(&parcels, "a telling title"));
}

#[test]
fn an_edit_that_is_later_than_what_was_erased_of_its_author_can_still_be_sent() {
    let (mut oslo, mut tokyo) = (Node::new(1), Node::new(2));
    let message = oslo.post("a first word");
    oslo.persist();
    oslo.edit(message, "a later word");
    oslo.persist();
    oslo.erase_ada(Some(message.front()));
    oslo.persist();
    assert!(!oslo.keeps("a first word"));
    assert!(carries(&oslo.parcels(), "a later word"), "it is covered by nothing");
    tokyo.pull(&oslo);
    assert!(tokyo.replica.durable().is_comparable(oslo.replica.durable()));
    assert_eq!(tokyo.replica.durable().digest, oslo.replica.durable().digest);
}

#[test]
fn what_is_left_of_an_expired_message_is_erased_with_its_author_or_itself() {
    for by_author in [true, false] {
        let mut node = Node::new(1);
        let message = node.post("a first word");
        node.edit(message, "a later word");
        let other = node.post("another word");
        node.edit(other, "one more word");
        node.persist();
        node.expire(message.front());
        node.persist();
        assert!(node.keeps("a later word"), "an edit's words expire in their own time");
        if by_author {
            node.erase_ada(None);
        } else {
            let conversation = ConversationId::of(node.replica.space(), &name("general"), 0);
            let placed = node.replica.referred(conversation, Some(message)).expect("reads");
            let identity = placed.expect("it was here").identity;
            let erasure = super::Erasure::Message { conversation, identity };
            node.replica.take_erasure(node.now, &erasure).expect("is taken");
        }
        node.persist();
        assert!(!node.keeps("a later word"), "by author: {by_author}");
        assert_eq!(node.keeps("one more word"), !by_author);
        node.parcels();
    }
}

#[test]
fn what_is_said_after_an_erasure_is_not_covered_by_it_though_the_clock_is_behind() {
    let (mut oslo, mut tokyo) = (Node::new(1), Node::new(2));
    oslo.post("a beginning");
    oslo.now += 20_000;
    oslo.erase_ada(None);
    oslo.persist();
    tokyo.pull(&oslo);
    tokyo.post("a new word");
    let sealed = tokyo.persist();
    assert!(carries(&sealed.own, "a new word"));
    assert!(tokyo.keeps("a new word"));
}

#[test]
fn an_edit_lies_above_its_message_though_that_lies_in_a_wild_future() {
    let (mut oslo, mut tokyo) = (Node::new(1), Node::new(2));
    oslo.now += 600_000;
    let message = oslo.post("from the future");
    oslo.persist();
    tokyo.pull(&oslo);
    tokyo.edit(message, "from today");
    tokyo.persist();
    // A node that knows of the cut before it hears of the edit must keep what is to show.
    let mut bergen = Node::new(3);
    bergen.pull(&oslo);
    bergen.expire(Front { millis: NOW + 1_000, counter: 0 });
    bergen.persist();
    bergen.pull(&tokyo);
    assert!(bergen.keeps("from today"), "its message has not expired");
}

/// An origin's log whose second entry nobody can apply; it is about the conversation.
fn poisoned(node: &Node) -> Vec<Parcel> {
    let (space, origin) = (node.replica.space(), OriginId([9; 16]));
    let conversation = ConversationId::of(space, &name("general"), 0);
    let kinds = [
        EntryKind::Origin { node: NodeId([9; 32]), region: name("oslo"), started: NOW },
        EntryKind::Segment { conversation, ordinal: 0, change: vec![7; 40] },
    ];
    let mut digest = chain_start(space, origin);
    let mut depth = node.replica.counts().depth;
    let mut parcels = Vec::new();
    #[expect(clippy::explicit_counter_loop, reason = "a depth counts from what is held")]
    for (seq, kind) in (1..).zip(kinds) {
        depth += 1;
        let saw = match seq {
            1 => node.replica.durable().vector.clone(),
            _ => VersionVector::default(),
        };
        let entry = Entry { depth, saw, previous: chain_link(digest), kind }.encode();
        digest = chain_digest(digest, &entry);
        let chain = chain_mark(digest);
        parcels.push(Parcel { origin, seq, entry, chain, bodies: Vec::new() });
    }
    parcels
}

#[test]
fn who_resumes_is_told_what_lies_behind_an_entry_that_cannot_be_applied() {
    let mut node = Node::new(1);
    node.post("before");
    node.persist();
    let parcels = poisoned(&node);
    node.take(&parcels);
    node.post("after");
    node.persist();
    let reader = Reader::new(Arc::new(node.engine.clone()), node.replica.space());
    let until = reader.vector().expect("reads");
    let told = reader.applied_between(&VersionVector::default(), &until, 100).expect("reads");
    let told: Vec<&[u8]> =
        told.iter().flat_map(|applied| &applied.messages).map(|told| &told.body[..]).collect();
    assert_eq!(told, [&b"before"[..], b"after"]);
}

#[test]
fn an_unreadable_entry_about_an_erased_conversation_is_passed_on_and_stops_no_erasure() {
    let mut node = Node::new(1);
    node.post("a word");
    node.persist();
    let parcels = poisoned(&node);
    node.operate(Operation::EraseConversation);
    node.persist();
    node.take(&parcels);
    let passed_on = node.parcels();
    assert!(parcels.iter().all(|parcel| passed_on.contains(parcel)));
    let message = node.post("a word in the next conversation of the name");
    node.edit(message, "another");
    node.persist();
    let id = ConversationId::of(node.replica.space(), &name("general"), 1);
    node.replica.expire(node.now, id, message.front()).expect("is done");
    node.erase_ada(None);
    node.persist();
    assert!(!node.keeps("another"));
}
