//! One stream of server-sent events, from its opening to its end, as typed events.
//!
//! Resuming after the end is `follow`'s. Invariant: every event is passed on with the token it
//! came with, or the stream fails.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;

use crate::call::{Call, Failed, SESSION_WAIT};
use crate::client::Client;
use crate::error::ClientError;
use crate::space::Space;
use crate::sse::{Event, Parser};
use crate::wire::{Conversation, Erased, Message};

/// The node sends a comment every 15 seconds: three missing ones mean that nobody is there.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// An event of a stream, with the token to go on from after it.
#[derive(Debug)]
pub enum Followed {
    /// The stream is positioned: everything after the token follows.
    Ready {
        /// Where the stream stands.
        token: String,
    },
    /// A message has arrived.
    Message {
        /// Where the stream stands after it.
        token: String,
        /// The message.
        message: Box<Message>,
    },
    /// A message was edited, redacted or reacted to.
    Changed {
        /// Where the stream stands after it.
        token: String,
        /// The message as it is now.
        message: Box<Message>,
    },
    /// A message is known under another id: one was posted twice under its key.
    Alias {
        /// Where the stream stands after it.
        token: String,
        /// The id under which it is read.
        id: String,
        /// The other one.
        alias: String,
    },
    /// The settings of a conversation have changed.
    Settings {
        /// Where the stream stands after it.
        token: String,
        /// The conversation as it is now, without its members.
        conversation: Box<Conversation>,
    },
    /// Words were erased, or have expired.
    Erased {
        /// Where the stream stands after it.
        token: String,
        /// Whose or which, in the node's words.
        erased: Erased,
    },
    /// We were too slow; the stream ends here and may be resumed.
    Dropped {
        /// Where to resume.
        token: String,
    },
}

impl Followed {
    /// The token to go on from after this event.
    #[must_use]
    pub fn token(&self) -> &str {
        match self {
            Self::Ready { token }
            | Self::Message { token, .. }
            | Self::Changed { token, .. }
            | Self::Alias { token, .. }
            | Self::Settings { token, .. }
            | Self::Erased { token, .. }
            | Self::Dropped { token } => token,
        }
    }
}

/// An open stream.
#[derive(Debug)]
pub struct Stream {
    client: Client,
    place: usize,
    response: Response,
    parser: Parser,
}

/// Another id of a message.
#[derive(serde::Deserialize)]
struct Alias {
    id: String,
    alias: String,
}

impl Space {
    /// Opens one stream, of the node that is asked at present, of what arrives in `conversations`
    /// (in all, if none is named), from now on or after `token`. It ends with its connection;
    /// [`Space::follow`] goes on.
    ///
    /// # Errors
    /// When the node cannot be reached, refuses, or is none.
    pub async fn open(
        &self,
        conversations: &[&str],
        token: Option<&str>,
    ) -> Result<Stream, ClientError> {
        let wait = self.client().patience().behind;
        self.open_within(conversations, token, wait).await.map_err(|failed| failed.error)
    }

    pub(crate) async fn open_within(
        &self,
        conversations: &[&str],
        token: Option<&str>,
        session_wait: Duration,
    ) -> Result<Stream, Failed> {
        let client = self.client();
        let place = client.regions().current();
        let call = self.call(Method::GET, &["events"]).header("accept", "text/event-stream");
        let named = |call: Call, name: &&str| call.query("conversation", name);
        let mut call = conversations.iter().fold(call, named);
        if let Some(token) = token {
            let millis = session_wait.as_millis().min(60_000);
            call = call.header("last-event-id", token).query(SESSION_WAIT, millis);
        }
        let opening = call.to(client, place).send();
        let limit = client.patience().answer + session_wait;
        let response = match tokio::time::timeout(limit, opening).await {
            Ok(answer) => answer.map_err(|error| client.network(place, error))?,
            Err(_) => return Err(silent(client, place, limit).into()),
        };
        if response.status() != StatusCode::OK {
            let mut failed = client.refusal(place, response).await;
            if let [conversation] = conversations {
                failed.error = self.about(conversation, failed.error);
            }
            return Err(failed);
        }
        let (client, parser) = (client.clone(), Parser::default());
        Ok(Stream { client, place, response, parser })
    }
}

impl Stream {
    /// The next event; `None` when the node has ended the stream.
    ///
    /// # Errors
    /// When the connection is lost or silent for too long, or an event cannot be read.
    pub async fn next(&mut self) -> Result<Option<Followed>, ClientError> {
        loop {
            while let Some(event) = self.parser.next_event() {
                if let Some(followed) = self.understand(event)? {
                    return Ok(Some(followed));
                }
            }
            let piece = match tokio::time::timeout(SILENCE_MAX, self.response.chunk()).await {
                Ok(piece) => piece.map_err(|error| self.client.network(self.place, error))?,
                Err(_) => return Err(silent(&self.client, self.place, SILENCE_MAX)),
            };
            let Some(piece) = piece else {
                return Ok(None);
            };
            self.parser.push(&piece).map_err(|error| self.not_a_node(error.to_string()))?;
        }
    }

    /// Reads up to the first event, which says where the stream stands.
    ///
    /// # Errors
    /// When the connection is lost, or the stream begins in another way.
    pub async fn ready(&mut self) -> Result<String, ClientError> {
        match self.next().await? {
            Some(Followed::Ready { token } | Followed::Dropped { token }) => Ok(token),
            Some(_) => Err(self.not_a_node("its stream began with another event".to_owned())),
            None => Err(self.not_a_node("its stream ended at once".to_owned())),
        }
    }

    /// The place in the list of the node that serves it.
    pub(crate) fn place(&self) -> usize {
        self.place
    }

    /// The error for a stream that breaks the rules.
    fn not_a_node(&self, reason: String) -> ClientError {
        self.client.not_a_node(self.place, StatusCode::OK, reason)
    }

    /// Events of kinds this version does not know are passed over, as a newer node may send them.
    fn understand(&self, event: Event) -> Result<Option<Followed>, ClientError> {
        let known = ["ready", "message", "changed", "alias", "settings", "erased", "dropped"];
        if !known.contains(&event.name.as_str()) {
            return Ok(None);
        }
        let Some(token) = event.id.clone() else {
            return Err(self.not_a_node(format!("an event `{}` came without an id", event.name)));
        };
        Ok(Some(match event.name.as_str() {
            "ready" => Followed::Ready { token },
            "dropped" => Followed::Dropped { token },
            "erased" => Followed::Erased { token, erased: self.content(&event)? },
            "changed" => Followed::Changed { token, message: Box::new(self.content(&event)?) },
            "settings" => {
                Followed::Settings { token, conversation: Box::new(self.content(&event)?) }
            }
            "alias" => {
                let Alias { id, alias } = self.content(&event)?;
                Followed::Alias { token, id, alias }
            }
            _ => Followed::Message { token, message: Box::new(self.content(&event)?) },
        }))
    }

    fn content<T: DeserializeOwned>(&self, event: &Event) -> Result<T, ClientError> {
        serde_json::from_str(&event.data).map_err(|error| {
            self.not_a_node(format!("an event `{}` cannot be read: {error}", event.name))
        })
    }
}

fn silent(client: &Client, place: usize, limit: Duration) -> ClientError {
    let reason = format!("nothing came for {} seconds", limit.as_secs());
    let url = client.regions().url(place).clone();
    ClientError::NoAnswer { url, source: reason.into() }
}
