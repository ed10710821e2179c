//! Stories of forgetting where edits and expiry meet it.

use crate::id::Front;
use crate::record::ContentType;
use crate::replica::{Actor, Operation};
use crate::scene::{Node, conversation, name};

fn edit(node: &mut Node, message: crate::id::MessageId) {
    let body = b"edited".to_vec();
    let edit = Operation::Edit { message, body, content_type: ContentType::default() };
    node.operate("general", "ada", edit);
    node.persist();
}

fn expire(node: &mut Node, up_to: crate::id::MessageId) {
    let up_to = Front { counter: u16::MAX, ..up_to.front() };
    node.replica.expire(node.now, conversation("general"), up_to).expect("expires");
    node.persist();
}

fn erase_author(node: &mut Node, up_to: Option<Front>) {
    let actor = Actor { user: name("ada"), admin: false };
    node.replica.erase_author(node.now, &actor, name("ada"), up_to).expect("erases");
    node.persist();
}

/// Two regions that hold a message by ada in `general`.
fn both() -> (Node, Node, crate::id::MessageId) {
    let (mut oslo, mut tokyo) = (Node::new(1), Node::new(2));
    oslo.create("general");
    let message = oslo.post("general", "ada", "first words");
    oslo.persist();
    tokyo.pull(&oslo);
    tokyo.now = oslo.now;
    (oslo, tokyo, message)
}

/// The row covers words up to a time, so those of a later edit must be there for whoever asks for
/// its entry, though the message shows as erased.
#[test]
fn words_of_an_edit_after_what_was_erased_of_its_author_are_kept_and_sent_on() {
    for erased_first in [false, true] {
        let (mut oslo, mut tokyo, message) = both();
        oslo.now += 50;
        edit(&mut oslo, message);
        let up_to = Some(Front { counter: 9, ..message.front() });
        if erased_first {
            erase_author(&mut tokyo, up_to);
            tokyo.pull(&oslo);
        } else {
            tokyo.pull(&oslo);
            erase_author(&mut tokyo, up_to);
        }
        assert!(tokyo.page("general")[0].state.erased);
        assert_eq!(tokyo.damage(), []);
        let mut lima = Node::new(3);
        lima.now = tokyo.now + 100;
        lima.pull(&tokyo);
        assert_eq!(lima.replica.durable(), tokyo.replica.durable());
    }
}

#[test]
fn erasing_a_message_takes_the_words_of_its_edits_along_also_when_it_has_expired() {
    let (mut oslo, mut tokyo, message) = both();
    oslo.now += 50;
    edit(&mut oslo, message);
    tokyo.operate("general", "ada", Operation::Erase { message });
    tokyo.persist();
    expire(&mut oslo, message);
    oslo.pull(&tokyo);
    assert_eq!(oslo.damage(), [], "no words that are erased");
}

#[test]
fn erasing_an_author_takes_the_words_of_edits_along_whose_messages_have_expired() {
    for snapshot in [false, true] {
        let (mut oslo, _, message) = both();
        oslo.now += 50;
        edit(&mut oslo, message);
        if snapshot {
            oslo.snapshot();
        }
        expire(&mut oslo, message);
        erase_author(&mut oslo, None);
        assert_eq!(oslo.damage(), [], "no words that are erased");
    }
}
