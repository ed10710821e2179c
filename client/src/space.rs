//! The requests about one space: its conversations and their messages.
//!
//! Invariant: an error about a conversation names it, and an error that leaves a post in doubt
//! carries the key that makes a retry safe.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;

use crate::call::{Answer, Call};
use crate::client::Client;
use crate::error::ClientError;
use crate::session::Session;
use crate::wire::{
    Conversation, Conversations, History, Message, Messages, NewConversation, NewMessage, Receipt,
};

/// Messages asked for in one request, at most.
pub const PAGE_MESSAGES: usize = 100;
/// Conversations asked for in one request.
const PAGE_CONVERSATIONS: usize = 1000;
/// A space, in a session. Clones are in the same session.
#[derive(Debug, Clone)]
pub struct Space {
    client: Client,
    name: String,
    given: bool,
    session: Option<Session>,
}

/// How a post was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is new, and durable in as many regions as was asked.
    Durable,
    /// The key had been used for the same post: nothing was added.
    Before,
    /// It is kept, but not yet in as many regions as was asked.
    NotYetDurable,
}

/// How durable a write should be before it is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wait {
    /// A number of regions, `majority` or `all`; the node's default if absent.
    pub durability: Option<String>,
    /// How long to wait for that.
    pub timeout: Option<Duration>,
}

/// Which page of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageAt {
    /// The newest messages.
    End,
    /// The messages just before the one with this id, or before this cursor.
    Before(String),
    /// The messages just after the one with this id, or after this cursor.
    After(String),
    /// The messages in the thread of a message, from its beginning or after a cursor.
    Thread(String, Option<String>),
}

impl Space {
    pub(crate) fn new(client: Client, name: &str, given: bool) -> Self {
        Self { client, name: name.to_owned(), given, session: Some(Session::new()) }
    }

    /// The same space in this session.
    #[must_use]
    pub fn in_session(self, session: Session) -> Self {
        Self { session: Some(session), ..self }
    }

    /// The same space without a session: each answer shows what its region happens to hold.
    #[must_use]
    pub fn without_session(self) -> Self {
        Self { session: None, ..self }
    }

    /// The session, if there is one.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client that asks.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Creates an open conversation; one that exists is answered as it is. Says whether it is new.
    ///
    /// # Errors
    /// When no region can be reached, or it refuses.
    pub async fn create(&self, name: &str) -> Result<(Conversation, bool), ClientError> {
        self.create_as(&NewConversation { name, ..NewConversation::default() }).await
    }

    /// Creates a conversation with what it begins with; one that exists is answered as it is.
    /// Says whether it is new.
    ///
    /// # Errors
    /// When no region can be reached, or it refuses.
    pub async fn create_as(
        &self,
        new: &NewConversation<'_>,
    ) -> Result<(Conversation, bool), ClientError> {
        let call = self.call(Method::POST, &["conversations"]).json(new)?;
        let Answer { status, value } = self.ask(&call).await?;
        Ok((value, status == StatusCode::CREATED))
    }

    /// A page of conversations, by name, after the one given.
    ///
    /// # Errors
    /// When no region can be reached, or it refuses.
    pub async fn conversations(&self, after: Option<&str>) -> Result<Conversations, ClientError> {
        let call = self.call(Method::GET, &["conversations"]);
        Ok(self.ask(&call.query("limit", PAGE_CONVERSATIONS).maybe("after", after)).await?.value)
    }

    /// One conversation.
    ///
    /// # Errors
    /// When there is none of this name, or no region can be reached, or it refuses.
    pub async fn conversation(&self, name: &str) -> Result<Conversation, ClientError> {
        let call = self.call(Method::GET, &["conversations", name]);
        Ok(self.ask_about(name, &call).await?.value)
    }

    /// Posts a message under an idempotency key: as often as it is sent, it shows once.
    ///
    /// # Errors
    /// When there is no such conversation, no region can be reached, or it refuses.
    /// [`ClientError::InDoubt`] when it may have been posted: again with the same key finds out.
    pub async fn post(
        &self,
        conversation: &str,
        message: &NewMessage<'_>,
        key: &str,
        wait: &Wait,
    ) -> Result<(Taken, Receipt), ClientError> {
        let call = self.call(Method::POST, &["conversations", conversation, "messages"]);
        let call = wait.asked_in(call).header("idempotency-key", key).json(message)?;
        let Answer { status, value } = self.ask_about(conversation, &call).await?;
        let taken = match status {
            StatusCode::ACCEPTED => Taken::NotYetDurable,
            StatusCode::OK => Taken::Before,
            _ => Taken::Durable,
        };
        Ok((taken, value))
    }

    /// A page of a conversation, of at most `limit` messages, oldest first.
    ///
    /// # Errors
    /// When there is no such conversation, no region can be reached, or it refuses.
    pub async fn page(
        &self,
        conversation: &str,
        at: &PageAt,
        limit: usize,
    ) -> Result<Messages, ClientError> {
        let call = self.call(Method::GET, &["conversations", conversation, "messages"]);
        let call = call.query("limit", limit.min(PAGE_MESSAGES));
        let call = match at {
            PageAt::End => call,
            PageAt::Before(id) => call.query("before", id),
            PageAt::After(id) => call.query("after", id),
            PageAt::Thread(root, after) => {
                call.query("thread", root).maybe("after", after.as_deref())
            }
        };
        Ok(self.ask_about(conversation, &call).await?.value)
    }

    /// One message.
    ///
    /// # Errors
    /// When there is none of this id, no region can be reached, or it refuses.
    pub async fn message(&self, conversation: &str, id: &str) -> Result<Message, ClientError> {
        let call = self.call(Method::GET, &["conversations", conversation, "messages", id]);
        Ok(self.ask_about(conversation, &call).await?.value)
    }

    /// All the words that a message ever had.
    ///
    /// # Errors
    /// When there is none of this id, its words are hidden or gone, no region can be reached, or
    /// it refuses.
    pub async fn history(&self, conversation: &str, id: &str) -> Result<History, ClientError> {
        let path = ["conversations", conversation, "messages", id, "history"];
        Ok(self.ask_about(conversation, &self.call(Method::GET, &path)).await?.value)
    }

    /// A request under this space.
    pub(crate) fn call(&self, method: Method, path: &[&str]) -> Call {
        Call::new(method, &[&["spaces", self.name.as_str()], path].concat())
    }

    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        call: &Call,
    ) -> Result<Answer<T>, ClientError> {
        self.client.ask(call, self.session.as_ref()).await
    }

    /// Asks something about one conversation.
    pub(crate) async fn ask_about<T: DeserializeOwned>(
        &self,
        conversation: &str,
        call: &Call,
    ) -> Result<Answer<T>, ClientError> {
        self.ask(call).await.map_err(|error| self.about(conversation, error))
    }

    /// Gives a refusal for want of a conversation the name that hints need.
    pub(crate) fn about(&self, conversation: &str, error: ClientError) -> ClientError {
        if error.problem_name() != Some("unknown-conversation") {
            return error;
        }
        ClientError::UnknownConversation {
            name: conversation.to_owned(),
            space: self.name.clone(),
            space_given: self.given,
        }
    }
}

impl Wait {
    pub(crate) fn asked_in(&self, call: Call) -> Call {
        call.maybe("durability", self.durability.as_deref())
            .maybe("timeout_ms", self.timeout.map(|time| time.as_millis()))
            .waits(self.timeout.unwrap_or_default())
    }
}

/// A new idempotency key: 32 random hex digits.
///
/// # Errors
/// When the system gives no randomness.
pub fn random_key() -> Result<String, ClientError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| ClientError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_made_here_differ() {
        let (one, two) = (random_key().expect("random"), random_key().expect("random"));
        assert_eq!(one.len(), 32);
        assert_ne!(one, two);
    }
}
