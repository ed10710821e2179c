//! What is erased leaves the files of the data directory, and not only the tables.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use warbler_store::engine::RocksEngine;
use warbler_store::id::{Front, MessageId};
use warbler_store::record::ContentType;
use warbler_store::replica::{Actor, Operated, Operation};

use crate::node::{NOON, Node, ROOMY, keyed, name, says};

/// Words that no compression can hide: drawn, in letters of which each stands for six bits.
fn planted(seed: u8) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut drawn = [0; 600];
    blake3::Hasher::new_derive_key("planted words").update(&[seed]).finalize_xof().fill(&mut drawn);
    drawn.iter().map(|byte| char::from(LETTERS[usize::from(byte & 63)])).collect()
}

/// Whether any file below `directory` holds a good part of `words`. Blocks are compressed, but
/// what cannot be compressed is stored nearly as it is: runs of it are found.
fn holds(directory: &Path, words: &str) -> bool {
    let windows: Vec<&[u8]> = words.as_bytes().chunks(12).collect();
    let found = |bytes: &[u8]| {
        let hits = windows
            .iter()
            .filter(|window| bytes.windows(window.len()).any(|place| place == **window));
        hits.count() >= 2
    };
    fs::read_dir(directory).expect("reads").any(|entry| {
        let path = entry.expect("reads").path();
        path.is_file() && found(&fs::read(&path).unwrap_or_default())
    })
}

fn admin() -> Actor {
    Actor { user: name("root"), admin: true }
}

fn operate(node: &mut Node, conversation: &str, operation: Operation) {
    node.clock += 1;
    let done = node.replica.operate(node.clock, &admin(), &name(conversation), operation);
    assert_eq!(done.expect("is accepted"), Operated::Done);
}

/// Sweeps up after all erasures, as a node does when it is asked to.
fn sweep(node: &mut Node) {
    node.persist();
    for (conversation, _) in node.replica.sweeps().expect("reads") {
        while !node.replica.remove_retired(conversation, 100).expect("removes") {
            node.persist();
        }
        node.persist();
    }
    for (conversation, sweep) in node.replica.sweeps().expect("reads") {
        let ranges = node.replica.sweep_ranges(conversation);
        node.engine.purge(&ranges).expect("purges");
        node.replica.swept(conversation, sweep).expect("takes note");
    }
    node.persist();
    assert!(node.replica.sweeps().expect("reads").is_empty());
}

struct Story {
    directory: tempfile::TempDir,
    node: Node,
}

impl Story {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let engine = RocksEngine::open(directory.path()).expect("opens");
        let mut node = Node::on(Arc::new(engine), 1, ROOMY);
        node.create("general");
        node.create("other");
        node.persist();
        Self { directory, node }
    }

    fn post(&mut self, conversation: &str, author: &str, words: &str) -> MessageId {
        let mut message = says(words);
        message.conversation = name(conversation);
        message.author = name(author);
        let id = self.node.post(message);
        self.node.persist();
        id
    }

    fn holds(&self, seed: u8) -> bool {
        holds(self.directory.path(), &planted(seed))
    }
}

#[test]
fn the_words_of_an_erased_message_leave_the_files_with_those_of_its_edits_and_copies() {
    let mut story = Story::new();
    let id = story.node.post(keyed("key", &planted(1)));
    story.node.persist();
    let edit = Operation::Edit {
        message: id,
        body: planted(2).into_bytes(),
        content_type: ContentType::default(),
    };
    let ada = Actor { user: name("ada"), admin: false };
    let done = story.node.replica.operate(NOON + 50, &ada, &name("general"), edit);
    assert_eq!(done.expect("is accepted"), Operated::Done);
    story.node.persist();
    let other = story.post("general", "bob", &planted(3));
    assert!(story.holds(1) && story.holds(2) && story.holds(3), "they are in the log at least");

    operate(&mut story.node, "general", Operation::Erase { message: id });
    sweep(&mut story.node);
    assert!(!story.holds(1), "the words as they were posted");
    assert!(!story.holds(2), "the words as they were edited");
    assert!(story.holds(3), "the words of another");
    let kept = story.node.reader.message(&name("general"), other).expect("reads");
    assert_eq!(kept.expect("is there").body, planted(3).into_bytes());
}

#[test]
fn words_that_are_erased_in_the_batch_that_brings_them_leave_the_files_too() {
    let mut story = Story::new();
    let id = story.node.post(says(&planted(1)));
    operate(&mut story.node, "general", Operation::Erase { message: id });
    sweep(&mut story.node);
    assert!(!story.holds(1));
}

#[test]
fn an_authors_words_leave_the_files_in_all_conversations() {
    let mut story = Story::new();
    story.post("general", "ada", &planted(1));
    story.post("other", "ada", &planted(2));
    story.post("other", "bob", &planted(3));
    let node = &mut story.node;
    let up_to = Some(Front { millis: node.clock, counter: u16::MAX });
    let done = node.replica.erase_author(node.clock, &admin(), name("ada"), up_to);
    assert_eq!(done.expect("is accepted"), Operated::Done);
    sweep(node);
    assert!(!story.holds(1) && !story.holds(2));
    assert!(story.holds(3));
}

#[test]
fn the_words_of_an_erased_conversation_leave_the_files_its_title_included() {
    let mut story = Story::new();
    story.post("general", "ada", &planted(1));
    let title = Operation::SetTitle(Some(planted(2).into_bytes()));
    operate(&mut story.node, "general", title);
    story.post("other", "ada", &planted(3));
    operate(&mut story.node, "general", Operation::EraseConversation);
    sweep(&mut story.node);
    assert!(!story.holds(1), "a message");
    assert!(!story.holds(2), "the title");
    assert!(story.holds(3));
}

#[test]
fn expired_words_leave_the_files_and_later_ones_stay() {
    let mut story = Story::new();
    let first = story.post("general", "ada", &planted(1));
    story.post("general", "ada", &planted(2));
    let row = story.node.reader.conversation(&name("general")).expect("reads");
    let now = story.node.clock;
    let done = story.node.replica.expire(now, row.id, first.front());
    assert_eq!(done.expect("is accepted"), Operated::Done);
    sweep(&mut story.node);
    assert!(!story.holds(1));
    assert!(story.holds(2));
}
