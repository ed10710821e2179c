//! Following a space: one stream of server-sent events, as typed events.
//!
//! Knows one stream from its opening to its end; resuming after the end is the command's.
//! Invariant: every event is passed on with the token it came with, or the stream fails.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;
use warbler_store::name::Name;

use super::{Client, ClientError, Space};
use crate::sse::{Event, Parser};
use crate::wire::{Erased, Message};

/// The node sends a comment every 15 seconds: three missing ones mean that nobody is there.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// An event of a stream.
#[derive(Debug)]
pub(crate) enum Followed {
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

/// An open stream.
#[derive(Debug)]
pub(crate) struct Stream {
    client: Client,
    response: Response,
    parser: Parser,
}

impl Space {
    /// Opens a stream of what arrives in `conversation`, from now on or after `token`.
    ///
    /// # Errors
    /// When the node cannot be reached, refuses, or is none.
    pub(crate) async fn follow(
        &self,
        conversation: &Name,
        token: Option<&str>,
    ) -> Result<Stream, ClientError> {
        let query = [("conversation", conversation.as_str())];
        let mut request = self.client.http.get(self.path(&["events"])).query(&query);
        request = request.header("accept", "text/event-stream");
        if let Some(token) = token {
            request = request.header("last-event-id", token);
        }
        let response = match tokio::time::timeout(SILENCE_MAX, request.send()).await {
            Ok(answer) => answer.map_err(|error| self.client.network(error))?,
            Err(_) => return Err(silent(&self.client)),
        };
        if response.status() != StatusCode::OK {
            return Err(self.about(conversation, self.client.refusal(response).await));
        }
        Ok(Stream { client: self.client.clone(), response, parser: Parser::default() })
    }
}

impl Stream {
    /// The next event; `None` when the node has ended the stream.
    ///
    /// # Errors
    /// When the connection is lost or silent for too long, or an event cannot be read.
    pub(crate) async fn next(&mut self) -> Result<Option<Followed>, ClientError> {
        loop {
            while let Some(event) = self.parser.next_event() {
                if let Some(followed) = self.understand(event)? {
                    return Ok(Some(followed));
                }
            }
            let piece = match tokio::time::timeout(SILENCE_MAX, self.response.chunk()).await {
                Ok(piece) => piece.map_err(|error| self.client.network(error))?,
                Err(_) => return Err(silent(&self.client)),
            };
            let Some(piece) = piece else {
                return Ok(None);
            };
            self.parser.push(&piece).map_err(|error| self.not_a_node(error.to_string()))?;
        }
    }

    /// The error for a stream that breaks the rules.
    pub(crate) fn not_a_node(&self, reason: String) -> ClientError {
        self.client.not_a_node(StatusCode::OK, reason)
    }

    /// Events of kinds this version does not know are passed over, as a newer node may send them.
    fn understand(&self, event: Event) -> Result<Option<Followed>, ClientError> {
        if !matches!(event.name.as_str(), "ready" | "message" | "changed" | "erased" | "dropped") {
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
            _ => Followed::Message { token, message: Box::new(self.content(&event)?) },
        }))
    }

    fn content<T: DeserializeOwned>(&self, event: &Event) -> Result<T, ClientError> {
        serde_json::from_str(&event.data).map_err(|error| {
            self.not_a_node(format!("an event `{}` cannot be read: {error}", event.name))
        })
    }
}

fn silent(client: &Client) -> ClientError {
    let reason = format!("nothing came for {} seconds", SILENCE_MAX.as_secs());
    ClientError::NoAnswer { url: client.url.clone(), source: reason.into() }
}
