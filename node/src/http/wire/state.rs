//! What became of a message, as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use warbler_store::reader::{self, Revised};
use warbler_store::record::{self, MessageState};

use super::{Durability, time};

/// New words for a message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct EditedMessage {
    pub(in crate::http) body: String,
    pub(in crate::http) author: String,
    pub(in crate::http) content_type: Option<String>,
}

/// The answer to all writes but posts.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Done {
    /// False if it was so already.
    pub(in crate::http) changed: bool,
    pub(in crate::http) durability: Durability,
}

/// Who did something to a message, and when.
#[derive(Debug, Serialize)]
pub(super) struct By {
    by: String,
    at: String,
}

/// What became of a message; nothing of it is said of one that is as it was posted.
#[derive(Debug, Default, Serialize)]
pub(super) struct State {
    #[serde(skip_serializing_if = "Option::is_none")]
    edited: Option<By>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacted: Option<By>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    erased: bool,
    /// How many people set each emoji.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    reactions: BTreeMap<String, u32>,
}

impl State {
    pub(super) fn of(state: &MessageState) -> Self {
        let by = |name: &warbler_store::name::Name, rank: &record::Rank| By {
            by: name.to_string(),
            at: time(rank.front.millis),
        };
        Self {
            edited: state.revision.as_ref().map(|edit| by(&edit.editor, &edit.rank)),
            redacted: state.withdrawal.as_ref().map(|redaction| by(&redaction.by, &redaction.rank)),
            erased: state.erased,
            reactions: state
                .reactions
                .iter()
                .map(|(emoji, people)| (emoji.to_string(), *people))
                .collect(),
        }
    }
}

/// All the words a message ever had, as it was posted first, as it shows last.
#[derive(Debug, Serialize)]
pub(in crate::http) struct History {
    id: String,
    versions: Vec<Version>,
}

#[derive(Debug, Serialize)]
struct Version {
    author: String,
    at: String,
    content_type: String,
    /// Left out of words that have expired or were erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

impl History {
    /// The history of `message`: its first words, and its edits.
    pub(in crate::http) fn of(
        message: &record::Message,
        reader::History { first, edits }: reader::History,
    ) -> Self {
        // No message is empty: empty words are words that are gone.
        let words =
            |body: Vec<u8>| (!body.is_empty()).then(|| String::from_utf8_lossy(&body).into_owned());
        let header = &message.header;
        let posted = Version {
            author: header.author.to_string(),
            at: time(header.front.millis),
            content_type: header.content_type.as_str().to_owned(),
            body: words(first),
        };
        let edits = edits.into_iter().map(|Revised { revision, body }| Version {
            author: revision.editor.to_string(),
            at: time(revision.rank.front.millis),
            content_type: revision.content_type.as_str().to_owned(),
            body: words(body),
        });
        let versions = std::iter::once(posted).chain(edits).collect();
        Self { id: message.id.to_string(), versions }
    }
}
