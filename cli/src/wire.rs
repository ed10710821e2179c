//! What the HTTP interface says, as types: the answers the CLI reads and the requests it makes.
//!
//! Knows no sockets. Invariant: a type holds what is printed or sent and no more. Fields that a newer node adds to an answer are ignored; times and ids stay
//! the texts they are, since the CLI only shows them or sends them back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A conversation, as listed and shown.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Conversation {
    pub(crate) name: String,
    /// 32 hex digits.
    pub(crate) id: String,
    /// How many messages it holds.
    pub(crate) messages: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_at: Option<String>,
    /// `open` or `members`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) access: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) damaged: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retention_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) pins: Vec<String>,
    /// Roles by user; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) members: Option<BTreeMap<String, String>>,
    /// Only in the answer to a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) durability: Option<Durability>,
}

/// A conversation in an inbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InboxConversation {
    #[serde(flatten)]
    pub(crate) conversation: Conversation,
    pub(crate) unread: u64,
    /// There are more than were counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) more: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) read: Option<String>,
    /// Messages that came in below what was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) late: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<Message>,
}

/// A page of an inbox.
#[derive(Debug, Deserialize)]
pub(crate) struct Inbox {
    pub(crate) conversations: Vec<InboxConversation>,
    /// The name to go on after; absent at the end.
    pub(crate) after: Option<String>,
}

/// A page of the list of conversations, by name.
#[derive(Debug, Deserialize)]
pub(crate) struct Conversations {
    pub(crate) conversations: Vec<Conversation>,
    /// The name to go on after; absent at the end.
    pub(crate) after: Option<String>,
}

/// A message, as read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) conversation: String,
    pub(crate) author: String,
    pub(crate) at: String,
    pub(crate) content_type: String,
    pub(crate) body: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reply_to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) thread: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) edited: Option<By>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) redacted: Option<By>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) erased: bool,
    /// How many people set each emoji.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) reactions: BTreeMap<String, u64>,
}

/// Who did something to a message, and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct By {
    pub(crate) by: String,
    pub(crate) at: String,
}

/// What was erased; of a message, all messages of an author, a conversation, or those of one
/// whose time was over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Erased {
    /// `message`, `author`, `conversation` or `expired`.
    pub(crate) what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) conversation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) author: Option<String>,
    /// The last message that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) up_to: Option<String>,
}

/// A page of a conversation, oldest first.
#[derive(Debug, Deserialize)]
pub(crate) struct Messages {
    pub(crate) messages: Vec<Message>,
    /// The cursor towards older messages; absent when there are none.
    pub(crate) before: Option<String>,
    /// The cursor towards newer messages; absent when there are none.
    pub(crate) after: Option<String>,
}

/// A message to post.
#[derive(Debug, Serialize)]
pub(crate) struct NewMessage<'a> {
    pub(crate) body: &'a str,
    pub(crate) author: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reply_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thread: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
}

/// New words for a message.
#[derive(Debug, Serialize)]
pub(crate) struct EditedMessage<'a> {
    pub(crate) body: &'a str,
    pub(crate) author: &'a str,
}

/// A conversation to create.
#[derive(Debug, Default, Serialize)]
pub(crate) struct NewConversation<'a> {
    pub(crate) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) members: BTreeMap<String, String>,
}

/// What the node answers to a post.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) id: String,
    pub(crate) durability: Durability,
}

/// What the node answers to all writes but posts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Done {
    /// False if it was so already.
    pub(crate) changed: bool,
    pub(crate) durability: Durability,
}

/// What is left in files after a sweep.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Swept {
    /// Spaces.
    pub(crate) pending: Vec<String>,
}

/// In how many regions a write is durable.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Durability {
    /// Regions asked for.
    pub(crate) asked: u32,
    /// Regions that hold it on disk.
    pub(crate) reached: u32,
    /// Their names.
    #[serde(default)]
    pub(crate) regions: Vec<String>,
}

/// The state of a node.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) node: NodeStatus,
    /// In the order of the cluster file.
    pub(crate) spaces: Vec<SpaceStatus>,
    pub(crate) peers: Vec<PeerStatus>,
    pub(crate) disk_bytes: u64,
    #[serde(default)]
    pub(crate) alarms: Vec<String>,
}

/// The node that answers.
#[derive(Debug, Deserialize)]
pub(crate) struct NodeStatus {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) cloud: Option<String>,
    pub(crate) origin: String,
    pub(crate) started_at: String,
}

/// A space, as the node holds it.
#[derive(Debug, Deserialize)]
pub(crate) struct SpaceStatus {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) regions: Vec<String>,
    pub(crate) conversations: u64,
    pub(crate) messages: u64,
    pub(crate) depth: u64,
    pub(crate) digest: String,
    pub(crate) vector_digest: String,
    /// Messages whose id is further ahead of the clock than allowed.
    #[serde(default)]
    pub(crate) ahead_ids: u64,
    /// Entries that left the log.
    #[serde(default)]
    pub(crate) trimmed: u64,
    /// Entries that are held and could not be applied.
    #[serde(default)]
    pub(crate) quarantined: u64,
    /// Conversations of which erased bytes may still lie in files.
    #[serde(default)]
    pub(crate) sweeps_pending: u64,
    #[serde(default)]
    pub(crate) vector: Vec<Component>,
}

/// Up to which entry of one origin everything is held.
#[derive(Debug, Deserialize)]
pub(crate) struct Component {
    pub(crate) origin: String,
    pub(crate) node: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) seq: u64,
}

/// Another node, as this one sees it.
#[derive(Debug, Deserialize)]
pub(crate) struct PeerStatus {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) connected: bool,
    pub(crate) since: Option<String>,
    pub(crate) address: Option<String>,
    /// Round trip, milliseconds.
    pub(crate) rtt_ms: Option<f64>,
    /// By how much its clock is ahead, milliseconds.
    pub(crate) clock_ahead_ms: Option<i64>,
    /// UDP payload.
    #[serde(default)]
    pub(crate) sent_bytes: u64,
    /// UDP payload.
    #[serde(default)]
    pub(crate) received_bytes: u64,
    pub(crate) last_error: Option<String>,
    /// Entries that we hold durably and it has not said it holds.
    #[serde(default)]
    pub(crate) entries_behind: u64,
    /// Entries that it holds and we do not.
    #[serde(default)]
    pub(crate) entries_ahead: u64,
}

/// What the prefix of a problem's type is.
pub(crate) const PROBLEM_PREFIX: &str = "urn:warbler:problem:";

/// A refusal (RFC 9457).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Problem {
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) status: u16,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
}

impl Problem {
    /// The short name of the problem, such as `unknown-conversation`.
    pub(crate) fn name(&self) -> &str {
        self.kind.strip_prefix(PROBLEM_PREFIX).unwrap_or(&self.kind)
    }
}
