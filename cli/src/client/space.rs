//! The requests about one space: its conversations and their messages.
//!
//! Invariant: an error about a conversation names it, and an error that leaves a post in doubt
//! carries the key that makes a retry safe.

use std::time::Duration;

use reqwest::{StatusCode, Url};
use warbler_store::name::Name;

use super::{ANSWER_TIMEOUT, Client, ClientError};
use crate::wire::{Conversation, Conversations, Messages, NewConversation, NewMessage, Receipt};

/// Messages asked for in one request, at most.
pub(crate) const PAGE_MESSAGES: usize = 100;
/// Conversations asked for in one request.
const PAGE_CONVERSATIONS: usize = 1000;
/// The header with the session token.
const SESSION_HEADER: &str = "warbler-session";

/// A space of a node.
#[derive(Debug, Clone)]
pub(crate) struct Space {
    pub(super) client: Client,
    name: Name,
    given: bool,
}

/// How a post was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is new, and durable in as many regions as was asked.
    Durable,
    /// The key had been used for the same post: nothing was added.
    Before,
    /// It is kept, but not yet in as many regions as was asked.
    NotYetDurable,
}

/// How durable a post should be before it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wait {
    /// A number of regions, `majority` or `all`; the node's default if absent.
    pub(crate) durability: Option<String>,
    /// How long to wait for that.
    pub(crate) timeout: Option<Duration>,
}

/// Which page of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PageAt {
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
    /// The space called `name`; `given` if the user named it.
    pub(super) fn new(client: Client, name: Name, given: bool) -> Self {
        Self { client, name, given }
    }

    /// Creates an open conversation; one that exists is answered as it is. Says whether it is new.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses.
    pub(crate) async fn create(&self, name: &Name) -> Result<(Conversation, bool), ClientError> {
        self.create_as(&NewConversation { name: name.as_str(), ..NewConversation::default() }).await
    }

    /// Creates a conversation with what it begins with; one that exists is answered as it is.
    /// Says whether it is new.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses.
    pub(crate) async fn create_as(
        &self,
        new: &NewConversation<'_>,
    ) -> Result<(Conversation, bool), ClientError> {
        let request = self.client.http.post(self.path(&["conversations"])).json(new);
        let (status, conversation) = self.client.send(request, ANSWER_TIMEOUT).await?;
        Ok((conversation, status == StatusCode::CREATED))
    }

    /// A page of conversations, by name, after the one given.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses.
    pub(crate) async fn conversations(
        &self,
        after: Option<&str>,
    ) -> Result<Conversations, ClientError> {
        let mut query = vec![("limit", PAGE_CONVERSATIONS.to_string())];
        query.extend(after.map(|name| ("after", name.to_owned())));
        let request = self.client.http.get(self.path(&["conversations"])).query(&query);
        Ok(self.client.send(request, ANSWER_TIMEOUT).await?.1)
    }

    /// One conversation.
    ///
    /// # Errors
    /// When there is none of this name, or the node cannot be reached or refuses.
    pub(crate) async fn conversation(&self, name: &Name) -> Result<Conversation, ClientError> {
        let url = self.path(&["conversations", name.as_str()]);
        let answer = self.client.send(self.client.http.get(url), ANSWER_TIMEOUT).await;
        Ok(answer.map_err(|error| self.about(name, error))?.1)
    }

    /// Posts a message under an idempotency key: as often as it is sent, it shows once.
    ///
    /// # Errors
    /// When there is no such conversation, or the node cannot be reached or refuses.
    pub(crate) async fn post(
        &self,
        conversation: &Name,
        message: &NewMessage<'_>,
        key: &str,
        wait: &Wait,
    ) -> Result<(Taken, Receipt), ClientError> {
        let mut query = Vec::new();
        query.extend(wait.durability.clone().map(|level| ("durability", level)));
        query.extend(wait.timeout.map(|time| ("timeout_ms", time.as_millis().to_string())));
        let url = self.path(&["conversations", conversation.as_str(), "messages"]);
        let mut request = self.client.http.post(url).header("idempotency-key", key);
        if !query.is_empty() {
            request = request.query(&query);
        }
        let timeout = ANSWER_TIMEOUT + wait.timeout.unwrap_or_default();
        let answer = self.client.send(request.json(message), timeout).await;
        let answer = answer.map_err(|error| about_key(key, self.about(conversation, error)));
        let (status, receipt) = answer?;
        let taken = match status {
            StatusCode::ACCEPTED => Taken::NotYetDurable,
            StatusCode::OK => Taken::Before,
            _ => Taken::Durable,
        };
        Ok((taken, receipt))
    }

    /// A page of a conversation, of at most `limit` messages, oldest first; from a node that has
    /// at least what `session` has seen.
    ///
    /// # Errors
    /// When there is no such conversation, or the node cannot be reached or refuses.
    pub(crate) async fn page(
        &self,
        conversation: &Name,
        at: &PageAt,
        limit: usize,
        session: Option<&str>,
    ) -> Result<Messages, ClientError> {
        let mut query = vec![("limit", limit.min(PAGE_MESSAGES).to_string())];
        match at {
            PageAt::End => {}
            PageAt::Before(id) => query.push(("before", id.clone())),
            PageAt::After(id) => query.push(("after", id.clone())),
            PageAt::Thread(root, after) => {
                query.push(("thread", root.clone()));
                query.extend(after.clone().map(|id| ("after", id)));
            }
        }
        let url = self.path(&["conversations", conversation.as_str(), "messages"]);
        let mut request = self.client.http.get(url).query(&query);
        if let Some(token) = session {
            request = request.header(SESSION_HEADER, token);
        }
        let answer = self.client.send(request, ANSWER_TIMEOUT).await;
        Ok(answer.map_err(|error| self.about(conversation, error))?.1)
    }

    pub(super) fn path(&self, segments: &[&str]) -> Url {
        let whole: Vec<&str> =
            ["spaces", self.name.as_str()].iter().chain(segments).copied().collect();
        self.client.path(&whole)
    }

    /// Gives a refusal for want of a conversation the name that hints need.
    pub(super) fn about(&self, conversation: &Name, error: ClientError) -> ClientError {
        if error.problem_name() != Some("unknown-conversation") {
            return error;
        }
        ClientError::UnknownConversation {
            name: conversation.clone(),
            space: self.name.clone(),
            space_given: self.given,
        }
    }
}

/// Gives an error after which the post may be kept or not the key that makes a retry safe.
fn about_key(key: &str, error: ClientError) -> ClientError {
    let no_answer = matches!(error, ClientError::NoAnswer { .. } | ClientError::NotANode { .. });
    if no_answer || error.problem_name() == Some("outcome-unknown") {
        return ClientError::PostUnknown { key: key.to_owned(), why: Box::new(error) };
    }
    error
}
