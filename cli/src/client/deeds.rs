//! The requests that change something beside posting, and what people have not read.
//!
//! Each may be made again without harm: asked twice, the second says that nothing changed.
//! Invariant: an error about a conversation names it.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use warbler_store::id::MessageId;
use warbler_store::name::Name;

use super::{ANSWER_TIMEOUT, Client, ClientError, Space, Taken, Wait};
use crate::wire::{Conversation, Done, EditedMessage, Inbox, Swept};

/// Conversations of an inbox asked for in one request.
const PAGE_INBOX: usize = 100;

impl Space {
    /// Gives a message new words.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses.
    pub(crate) async fn edit(
        &self,
        conversation: &Name,
        id: MessageId,
        edited: &EditedMessage<'_>,
        wait: &Wait,
    ) -> Result<(Taken, Done), ClientError> {
        let url = self.message(conversation, id, &[]);
        let request = self.client.http.patch(url).json(edited);
        self.write(conversation, request, wait).await
    }

    /// Hides a message.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses.
    pub(crate) async fn redact(
        &self,
        conversation: &Name,
        id: MessageId,
        user: &Name,
        wait: &Wait,
    ) -> Result<(Taken, Done), ClientError> {
        let url = self.message(conversation, id, &[]);
        let request = self.client.http.delete(url).query(&[("as", user.as_str())]);
        self.write(conversation, request, wait).await
    }

    /// Destroys the words of a message.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses.
    pub(crate) async fn erase(
        &self,
        conversation: &Name,
        id: MessageId,
        user: &Name,
        wait: &Wait,
    ) -> Result<(Taken, Done), ClientError> {
        let url = self.message(conversation, id, &[]);
        let query = [("as", user.as_str()), ("erase", "true")];
        self.write(conversation, self.client.http.delete(url).query(&query), wait).await
    }

    /// Sets a reaction, or takes it back.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses.
    pub(crate) async fn react(
        &self,
        conversation: &Name,
        id: MessageId,
        (user, emoji): (&Name, &Name),
        on: bool,
        wait: &Wait,
    ) -> Result<(Taken, Done), ClientError> {
        let url = self.message(conversation, id, &["reactions", emoji.as_str()]);
        let method = if on { Method::PUT } else { Method::DELETE };
        let request = self.client.http.request(method, url).query(&[("as", user.as_str())]);
        self.write(conversation, request, wait).await
    }

    /// Destroys what an author wrote.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses.
    pub(crate) async fn erase_author(
        &self,
        author: &Name,
        up_to: Option<MessageId>,
        user: &Name,
        wait: &Wait,
    ) -> Result<(Taken, Done), ClientError> {
        let mut asked = json!({"author": author.as_str(), "as": user.as_str()});
        if let Some(up_to) = up_to {
            asked["up_to"] = Value::String(up_to.to_string());
        }
        let request = self.client.http.post(self.path(&["erasures"])).json(&asked);
        self.send_write(request, wait).await
    }

    /// Destroys a conversation.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses.
    pub(crate) async fn erase_conversation(
        &self,
        conversation: &Name,
        user: &Name,
        wait: &Wait,
    ) -> Result<(Taken, Done), ClientError> {
        let url = self.path(&["conversations", conversation.as_str()]);
        let request = self.client.http.delete(url).query(&[("as", user.as_str())]);
        self.write(conversation, request, wait).await
    }

    /// Changes settings, as the interface writes them; the conversation as it is then comes back.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses.
    pub(crate) async fn change(
        &self,
        conversation: &Name,
        change: &Value,
        wait: &Wait,
    ) -> Result<Conversation, ClientError> {
        let url = self.path(&["conversations", conversation.as_str()]);
        let request = self.client.http.patch(url).json(change);
        let changed: Result<(Taken, _), _> = self.write(conversation, request, wait).await;
        Ok(changed?.1)
    }

    /// Moves a read marker.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses.
    pub(crate) async fn mark(
        &self,
        conversation: &Name,
        id: &str,
        user: &Name,
        wait: &Wait,
    ) -> Result<(Taken, Done), ClientError> {
        let url = self.path(&["conversations", conversation.as_str(), "read-marker"]);
        let marker = json!({"as": user.as_str(), "message": id});
        self.write(conversation, self.client.http.put(url).json(&marker), wait).await
    }

    /// A page of the conversations that `user` is a member of.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses.
    pub(crate) async fn inbox(
        &self,
        user: &Name,
        after: Option<&str>,
    ) -> Result<Inbox, ClientError> {
        let mut query = vec![("member", user.to_string()), ("limit", PAGE_INBOX.to_string())];
        query.extend(after.map(|name| ("after", name.to_owned())));
        let request = self.client.http.get(self.path(&["conversations"])).query(&query);
        Ok(self.client.send(request, ANSWER_TIMEOUT).await?.1)
    }

    fn message(&self, conversation: &Name, id: MessageId, rest: &[&str]) -> Url {
        let id = id.to_string();
        let start = ["conversations", conversation.as_str(), "messages", &id];
        self.path(&[&start[..], rest].concat())
    }

    async fn write<T: DeserializeOwned>(
        &self,
        conversation: &Name,
        request: RequestBuilder,
        wait: &Wait,
    ) -> Result<(Taken, T), ClientError> {
        let written = self.send_write(request, wait).await;
        written.map_err(|error| self.about(conversation, error))
    }

    async fn send_write<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        wait: &Wait,
    ) -> Result<(Taken, T), ClientError> {
        let mut query = Vec::new();
        query.extend(wait.durability.clone().map(|level| ("durability", level)));
        query.extend(wait.timeout.map(|time| ("timeout_ms", time.as_millis().to_string())));
        let request = if query.is_empty() { request } else { request.query(&query) };
        let timeout = ANSWER_TIMEOUT + wait.timeout.unwrap_or_default();
        let (status, answer) = self.client.send(request, timeout).await?;
        let taken = match status {
            StatusCode::ACCEPTED => Taken::NotYetDurable,
            _ => Taken::Durable,
        };
        Ok((taken, answer))
    }
}

impl Client {
    /// Makes what was erased leave the node's files, and waits for it no longer than `patience`.
    ///
    /// # Errors
    /// When the node cannot be reached or fails at it.
    pub(crate) async fn sweep(&self, patience: Duration) -> Result<Swept, ClientError> {
        let url = self.path(&["erasures", "sweep"]);
        let query = [("timeout_ms", patience.as_millis().to_string())];
        let request = self.http.post(url).query(&query);
        Ok(self.send(request, patience + ANSWER_TIMEOUT).await?.1)
    }
}
