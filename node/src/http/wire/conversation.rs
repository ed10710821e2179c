//! Conversations, their settings and what somebody has not read of them, as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use warbler_store::id::Millis;
use warbler_store::reader::{self, Member};
use warbler_store::record;

use super::{Durability, Message, time};

/// A conversation to create.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewConversation {
    pub(in crate::http) name: String,
    /// Who asks; the owner, if it is left out.
    #[serde(rename = "as")]
    pub(in crate::http) user: Option<String>,
    pub(in crate::http) access: Option<Access>,
    pub(in crate::http) owner: Option<String>,
    #[serde(default)]
    pub(in crate::http) members: BTreeMap<String, Role>,
}

/// What is to change of a conversation. What is left out stays; `null` takes away.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ChangedConversation {
    #[serde(rename = "as")]
    pub(in crate::http) user: String,
    pub(in crate::http) access: Option<Access>,
    #[serde(default, deserialize_with = "given")]
    pub(in crate::http) title: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    pub(in crate::http) topic: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    pub(in crate::http) retention_ms: Option<Option<Millis>>,
    #[serde(default)]
    pub(in crate::http) members: BTreeMap<String, Option<Role>>,
    /// By message.
    #[serde(default)]
    pub(in crate::http) pins: BTreeMap<String, bool>,
}

/// A read marker to move.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ReadMarker {
    #[serde(rename = "as")]
    pub(in crate::http) user: String,
    /// The last message read.
    pub(in crate::http) message: String,
}

/// An author whose words are to be erased.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct AuthorErasure {
    #[serde(rename = "as")]
    pub(in crate::http) user: String,
    pub(in crate::http) author: String,
    /// The last message whose words go; all until now, if it is left out.
    pub(in crate::http) up_to: Option<String>,
}

/// Tells `null` from a field that is left out.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Who may read and write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum Access {
    Open,
    Members,
}

impl From<record::Access> for Access {
    fn from(access: record::Access) -> Self {
        match access {
            record::Access::Open => Self::Open,
            record::Access::Members => Self::Members,
        }
    }
}

impl From<Access> for record::Access {
    fn from(access: Access) -> Self {
        match access {
            Access::Open => Self::Open,
            Access::Members => Self::Members,
        }
    }
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum Role {
    Reader,
    Member,
    Admin,
    Owner,
}

impl From<record::Role> for Role {
    fn from(role: record::Role) -> Self {
        match role {
            record::Role::Reader => Self::Reader,
            record::Role::Member => Self::Member,
            record::Role::Admin => Self::Admin,
            record::Role::Owner => Self::Owner,
        }
    }
}

impl From<Role> for record::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Reader => Self::Reader,
            Role::Member => Self::Member,
            Role::Admin => Self::Admin,
            Role::Owner => Self::Owner,
        }
    }
}

/// A conversation.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Conversation {
    name: String,
    id: String,
    messages: u64,
    access: Access,
    /// Entries about it are held that could not be applied: it may lack something.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    damaged: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<String>,
}

impl From<reader::Conversation> for Conversation {
    fn from(conversation: reader::Conversation) -> Self {
        Self {
            name: conversation.name.to_string(),
            id: conversation.id.to_string(),
            messages: conversation.messages,
            access: conversation.access.into(),
            damaged: conversation.damaged,
            last_message: conversation.last.map(|id| id.to_string()),
            last_at: conversation.last.map(|id| time(id.front().millis)),
        }
    }
}

/// A conversation with its settings.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Described {
    #[serde(flatten)]
    conversation: Conversation,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_ms: Option<Millis>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pins: Vec<String>,
    /// Left out of events: there may be very many.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<BTreeMap<String, Role>>,
}

impl Described {
    pub(in crate::http) fn of(
        conversation: reader::Conversation,
        settings: reader::Settings,
        members: Option<Vec<Member>>,
    ) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let role = |member: Member| (member.user.to_string(), member.role.into());
        Self {
            conversation: conversation.into(),
            title: settings.title.map(text),
            topic: settings.topic.map(text),
            retention_ms: settings.retention,
            pins: settings.pins.iter().map(ToString::to_string).collect(),
            members: members.map(|members| members.into_iter().map(role).collect()),
        }
    }
}

/// The answer to a change of settings: the conversation as it is then.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Changed {
    #[serde(flatten)]
    pub(in crate::http) conversation: Described,
    pub(in crate::http) durability: Durability,
}

/// A page of the list of conversations.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Conversations {
    pub(in crate::http) conversations: Vec<Conversation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::http) after: Option<String>,
}

/// What somebody has not read of a conversation.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Unread {
    unread: usize,
    /// There are more than were counted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
    /// The last message read.
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<String>,
    /// What came in below it since.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    late: Vec<String>,
}

impl Unread {
    /// `unread` was counted to one more than `limit`.
    pub(in crate::http) fn of(unread: reader::Unread, limit: usize) -> Self {
        Self {
            unread: unread.count.min(limit),
            more: unread.count > limit,
            read: unread.read.map(|id| id.to_string()),
            late: unread.late.iter().map(ToString::to_string).collect(),
        }
    }
}

/// A conversation in somebody's inbox.
#[derive(Debug, Serialize)]
pub(in crate::http) struct InboxConversation {
    #[serde(flatten)]
    pub(in crate::http) conversation: Conversation,
    #[serde(flatten)]
    pub(in crate::http) unread: Unread,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::http) last: Option<Message>,
}

/// An inbox, the latest first.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Inbox {
    pub(in crate::http) conversations: Vec<InboxConversation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::http) after: Option<String>,
}
