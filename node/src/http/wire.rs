//! The JSON of the API, as types.
//!
//! Knows no paths and no headers. Invariant: absent fields are left out, unknown ones of requests
//! are refused, and times are RFC 3339 in UTC with milliseconds.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use warbler_store::engine::EngineError;
use warbler_store::id::{MessageId, Millis};
use warbler_store::name::Name;
use warbler_store::reader::Reader;
use warbler_store::record;

mod conversation;
mod state;

pub(super) use conversation::{
    AuthorErasure, Changed, ChangedConversation, Conversations, Described, Inbox,
    InboxConversation, NewConversation, ReadMarker, Unread,
};
use state::State;
pub(super) use state::{Done, EditedMessage, History};

/// A message to post.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMessage {
    pub(super) body: String,
    pub(super) author: String,
    pub(super) content_type: Option<String>,
    pub(super) reply_to: Option<String>,
    pub(super) thread: Option<String>,
    pub(super) at: Option<String>,
}

/// A message.
#[derive(Debug, Serialize)]
pub(super) struct Message {
    id: String,
    conversation: String,
    author: String,
    at: String,
    content_type: String,
    body: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<String>,
    #[serde(flatten)]
    state: State,
}

impl Message {
    /// A message of the conversation called `name`. What it refers to is looked up: a message is
    /// named by the id under which it is read now.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub(super) fn read(
        reader: &Reader,
        name: &Name,
        message: &record::Message,
    ) -> Result<Self, EngineError> {
        let header = &message.header;
        let refer = |identity: Option<_>| match identity {
            Some(identity) => reader.canonical(message.conversation, identity),
            None => Ok(None),
        };
        Ok(Self {
            id: message.id.to_string(),
            conversation: name.to_string(),
            author: header.author.to_string(),
            at: time(header.front.millis),
            content_type: message.content_type().as_str().to_owned(),
            // The API takes only UTF-8, so only a node of another make can have taken other bytes.
            body: String::from_utf8_lossy(&message.body).into_owned(),
            reply_to: refer(header.reply_to)?.map(|id| id.to_string()),
            thread: refer(header.thread)?.map(|id| id.to_string()),
            state: State::of(&message.state),
        })
    }
}

/// A page of messages.
#[derive(Debug, Serialize)]
pub(super) struct Messages {
    pub(super) messages: Vec<Message>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<String>,
}

/// The answer to a post.
#[derive(Debug, Serialize)]
pub(super) struct Receipt {
    pub(super) id: String,
    pub(super) durability: Durability,
}

/// In how many regions a post is durable.
#[derive(Debug, Serialize)]
pub(super) struct Durability {
    pub(super) asked: usize,
    pub(super) reached: usize,
    pub(super) regions: Vec<String>,
}

/// Another id of a message.
#[derive(Debug, Serialize)]
pub(super) struct Alias {
    pub(super) id: String,
    pub(super) alias: String,
}

/// What is to be forgotten from now on.
#[derive(Debug, Serialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub(super) enum Erased {
    /// The words of one message.
    Message { conversation: String, id: String },
    /// What somebody wrote anywhere, in messages up to this id.
    Author { author: String, up_to: String },
    /// A whole conversation.
    Conversation { conversation: String },
    /// The messages of a conversation up to this id: their time was over.
    Expired { conversation: String, up_to: String },
}

/// What a session has seen and the node has not.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Missing {
    pub(super) origin: String,
    pub(super) seq: u64,
    pub(super) held: u64,
}

/// The answer to a sweep.
#[derive(Debug, Serialize)]
pub(super) struct Swept {
    /// Spaces in which erased bytes may still lie in files.
    pub(super) pending: Vec<String>,
}

/// The state of a node.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) version: &'static str,
    pub(super) node: NodeStatus,
    pub(super) spaces: Vec<SpaceStatus>,
    pub(super) peers: Vec<PeerStatus>,
    /// Whether posts are taken; if not, an alarm says why.
    pub(super) takes_writes: bool,
    pub(super) disk_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) disk_free_bytes: Option<u64>,
    pub(super) alarms: Vec<String>,
}

/// The node itself.
#[derive(Debug, Serialize)]
pub(super) struct NodeStatus {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) region: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cloud: Option<String>,
    pub(super) origin: String,
    pub(super) started_at: String,
    /// Counts the runs of the process: one more after each failed write.
    pub(super) run: u64,
}

/// A space. `digest` and `vector_digest` belong to one moment.
#[derive(Debug, Serialize)]
pub(super) struct SpaceStatus {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) regions: Vec<String>,
    pub(super) conversations: u64,
    pub(super) messages: u64,
    pub(super) depth: u64,
    pub(super) digest: String,
    pub(super) vector_digest: String,
    pub(super) ahead_ids: u64,
    /// Entries that have left the log.
    pub(super) trimmed: u64,
    /// Entries that are held and could not be applied.
    pub(super) quarantined: u64,
    /// Conversations of which erased bytes may still lie in files.
    pub(super) sweeps_pending: usize,
    pub(super) vector: Vec<Component>,
}

/// Up to which seq an origin is held.
#[derive(Debug, Serialize)]
pub(super) struct Component {
    pub(super) origin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) region: Option<String>,
    pub(super) seq: u64,
}

/// Another node.
#[derive(Debug, Serialize)]
pub(super) struct PeerStatus {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) region: String,
    pub(super) connected: bool,
    pub(super) since: String,
    pub(super) address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rtt_ms: Option<f64>,
    /// Left out while it was not heard of late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clock_ahead_ms: Option<i64>,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_error: Option<String>,
    /// Left out while nothing is known of it: the peer is not connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) entries_behind: Option<u64>,
    /// Left out likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) entries_ahead: Option<u64>,
}

/// A time as text. Ids can hold times behind the year 9999, which has none: the last one is shown.
pub(super) fn time(millis: Millis) -> String {
    let known = i64::try_from(millis).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", known.unwrap_or(Timestamp::MAX))
}

/// A time of the system's clock as text.
pub(super) fn system_time(moment: SystemTime) -> String {
    time(moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as Millis)
}

/// The milliseconds of a time, or why it is none that a message can have.
pub(super) fn millis(text: &str) -> Result<Millis, String> {
    let wrong = |why: String| format!("`{text}` is no time: {why}");
    let parsed: Timestamp = text.parse().map_err(|error: jiff::Error| wrong(error.to_string()))?;
    let millis = Millis::try_from(parsed.as_millisecond());
    millis.map_err(|_| wrong("times before 1970 cannot be kept".to_owned()))
}

/// A cursor: the id of the message at the end of a page.
pub(super) fn cursor(there: bool, message: Option<MessageId>) -> Option<String> {
    message.filter(|_| there).map(|id| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_stand_in_utc() {
        assert_eq!(time(1_523_386_154_000), "2018-04-10T18:49:14.000Z");
        assert_eq!(time(1_523_386_154_007), "2018-04-10T18:49:14.007Z");
        assert_eq!(millis("2018-04-10T20:49:14.007+02:00"), Ok(1_523_386_154_007));
        assert_eq!(time(warbler_store::id::MAX_MILLIS), "9999-12-30T22:00:00.999Z");
    }

    #[test]
    fn what_is_no_time_or_before_1970_is_refused() {
        for bad in ["", "yesterday", "2018-04-10", "1969-12-31T23:59:59Z"] {
            assert!(millis(bad).is_err(), "{bad:?}");
        }
    }
}
