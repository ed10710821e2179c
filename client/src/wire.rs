//! What the HTTP interface says, as types: the answers and the requests.
//!
//! Knows no sockets. Invariant: fields that a newer node adds to an answer are ignored; times and
//! ids stay the texts they are, since a client only shows them or sends them back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod status;

pub use status::{Component, NodeStatus, PeerStatus, SpaceStatus, Status};

/// A conversation, as listed and shown.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Conversation {
    pub name: String,
    /// 32 hex digits.
    pub id: String,
    /// How many messages it holds.
    pub messages: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<String>,
    /// `open` or `members`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub damaged: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<String>,
    /// Roles by user; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<BTreeMap<String, String>>,
    /// Only in the answer to a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
}

/// A conversation in an inbox.
#[derive(Debug, Serialize, Deserialize)]
pub struct InboxConversation {
    #[serde(flatten)]
    pub conversation: Conversation,
    pub unread: u64,
    /// There are more than were counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<String>,
    /// Messages that came in below what was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Message>,
}

/// A page of an inbox.
#[derive(Debug, Deserialize)]
pub struct Inbox {
    pub conversations: Vec<InboxConversation>,
    /// The name to go on after; absent at the end.
    pub after: Option<String>,
}

/// A page of the list of conversations, by name.
#[derive(Debug, Deserialize)]
pub struct Conversations {
    pub conversations: Vec<Conversation>,
    /// The name to go on after; absent at the end.
    pub after: Option<String>,
}

/// A message, as read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Message {
    pub id: String,
    pub conversation: String,
    pub author: String,
    pub at: String,
    pub content_type: String,
    pub body: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited: Option<By>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redacted: Option<By>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub erased: bool,
    /// How many people set each emoji.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reactions: BTreeMap<String, u64>,
}

/// Who did something to a message, and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct By {
    pub by: String,
    pub at: String,
}

/// What was erased; of a message, all messages of an author, a conversation, or those of one
/// whose time was over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Erased {
    /// `message`, `author`, `conversation` or `expired`.
    pub what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The last message that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<String>,
}

/// A page of a conversation, oldest first.
#[derive(Debug, Deserialize)]
pub struct Messages {
    pub messages: Vec<Message>,
    /// The cursor towards older messages; absent when there are none.
    pub before: Option<String>,
    /// The cursor towards newer messages; absent when there are none.
    pub after: Option<String>,
}

/// A message to post.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NewMessage<'a> {
    pub body: &'a str,
    pub author: &'a str,
    /// The MIME type; `text/plain` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<&'a str>,
    /// The message that this one answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The message whose thread it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// When it was said, if not now (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// New words for a message.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EditedMessage<'a> {
    pub body: &'a str,
    pub author: &'a str,
    /// The MIME type; as it was if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<&'a str>,
}

/// A conversation to create.
#[derive(Debug, Default, Serialize)]
pub struct NewConversation<'a> {
    pub name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, String>,
}

/// What the node answers to a post.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Receipt {
    pub id: String,
    pub durability: Durability,
}

/// What the node answers to all writes but posts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Done {
    /// False if it was so already.
    pub changed: bool,
    pub durability: Durability,
}

/// What is left in files after a sweep.
#[derive(Debug, Serialize, Deserialize)]
pub struct Swept {
    /// Spaces.
    pub pending: Vec<String>,
}

/// In how many regions a write is durable.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Durability {
    /// Regions asked for.
    pub asked: u32,
    /// Regions that hold it on disk.
    pub reached: u32,
    /// Their names.
    #[serde(default)]
    pub regions: Vec<String>,
}

/// What the prefix of a problem's type is.
const PROBLEM_PREFIX: &str = "urn:warbler:problem:";

/// A refusal (RFC 9457).
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Problem {
    /// What kind of refusal, as a URN.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// In one sentence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was refused.
    pub detail: Option<String>,
    /// What to do now.
    pub hint: Option<String>,
    /// For `behind` and `lost`: what the session has seen and the node has not.
    #[serde(default)]
    pub missing: Vec<Missing>,
    /// A token to go on from, knowingly.
    #[serde(default)]
    pub session: Option<String>,
}

impl Problem {
    /// The short name of the problem, such as `unknown-conversation`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.kind.strip_prefix(PROBLEM_PREFIX).unwrap_or(&self.kind)
    }
}

/// Entries of one origin that the session has seen and a node has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Who wrote them: 32 hex digits.
    pub origin: String,
    /// Up to which one they were seen.
    pub seq: u64,
    /// Up to which one the node holds them.
    #[serde(default)]
    pub held: u64,
    /// Where they were written, if the node knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// What a node says of its store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Verified {
    /// Rows that were read.
    pub rows: u64,
    /// How many findings there were.
    pub found: u64,
    /// The first of them, a sentence each.
    pub damage: Vec<String>,
}

/// All the words a message ever had, as it was posted first.
#[derive(Debug, Clone, Deserialize)]
pub struct History {
    /// The message.
    pub id: String,
    /// From the first words to those that show.
    pub versions: Vec<Version>,
}

/// Words that a message had.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Version {
    /// Who wrote them.
    pub author: String,
    /// When.
    pub at: String,
    /// Their MIME type.
    pub content_type: String,
    /// None if they were erased, or have expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}
