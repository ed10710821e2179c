//! The requests that change something beside posting, and what people have not read.
//!
//! Each may be made again without harm: asked twice, the second says that nothing changed.
//! Invariant: an error about a conversation names it.

use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::call::{Answer, Call};
use crate::error::ClientError;
use crate::space::{Space, Taken, Wait};
use crate::wire::{Conversation, Done, EditedMessage, Inbox};

/// Conversations of an inbox asked for in one request.
const PAGE_INBOX: usize = 100;

impl Space {
    /// Gives a message new words.
    ///
    /// # Errors
    /// When no region can be reached, or it refuses.
    pub async fn edit(
        &self,
        conversation: &str,
        id: &str,
        edited: &EditedMessage<'_>,
        wait: &Wait,
    ) -> Result<(Taken, Done), ClientError> {
        let call = self.of_message(Method::PATCH, conversation, id, &[]).json(edited)?;
        self.write_about(conversation, call, wait).await
    }

    /// Hides a message.
    ///
    /// # Errors
    /// When no region can be reached, or it refuses.
    pub async fn redact(
        &self,
        conversation: &str,
        id: &str,
        user: &str,
        wait: &Wait,
    ) -> Result<(Taken, Done), ClientError> {
        let call = self.of_message(Method::DELETE, conversation, id, &[]).query("as", user);
        self.write_about(conversation, call, wait).await
    }

    /// Destroys the words of a message.
    ///
    /// # Errors
    /// When no region can be reached, or it refuses.
    pub async fn erase(
        &self,
        conversation: &str,
        id: &str,
        user: &str,
        wait: &Wait,
    ) -> Result<(Taken, Done), ClientError> {
        let call = self.of_message(Method::DELETE, conversation, id, &[]);
        let call = call.query("as", user).query("erase", true);
        self.write_about(conversation, call, wait).await
    }

    /// Sets a user's reaction, or takes it back.
    ///
    /// # Errors
    /// When no region can be reached, or it refuses.
    pub async fn react(
        &self,
        conversation: &str,
        id: &str,
        (user, emoji): (&str, &str),
        on: bool,
        wait: &Wait,
    ) -> Result<(Taken, Done), ClientError> {
        let method = if on { Method::PUT } else { Method::DELETE };
        let call = self.of_message(method, conversation, id, &["reactions", emoji]);
        self.write_about(conversation, call.query("as", user), wait).await
    }

    /// Destroys what an author wrote.
    ///
    /// # Errors
    /// When no region can be reached, or it refuses.
    pub async fn erase_author(
        &self,
        author: &str,
        up_to: Option<&str>,
        user: &str,
        wait: &Wait,
    ) -> Result<(Taken, Done), ClientError> {
        let mut asked = json!({"author": author, "as": user});
        if let Some(up_to) = up_to {
            asked["up_to"] = Value::String(up_to.to_owned());
        }
        self.write(self.call(Method::POST, &["erasures"]).json(&asked)?, wait).await
    }

    /// Destroys a conversation.
    ///
    /// # Errors
    /// When no region can be reached, or it refuses.
    pub async fn erase_conversation(
        &self,
        conversation: &str,
        user: &str,
        wait: &Wait,
    ) -> Result<(Taken, Done), ClientError> {
        let call = self.call(Method::DELETE, &["conversations", conversation]);
        self.write_about(conversation, call.query("as", user), wait).await
    }

    /// Changes settings, as the interface writes them; the conversation as it is then comes back.
    ///
    /// # Errors
    /// When no region can be reached, or it refuses.
    pub async fn change(
        &self,
        conversation: &str,
        change: &Value,
        wait: &Wait,
    ) -> Result<Conversation, ClientError> {
        let call = self.call(Method::PATCH, &["conversations", conversation]).json(change)?;
        let changed: (Taken, _) = self.write_about(conversation, call, wait).await?;
        Ok(changed.1)
    }

    /// Moves a user's read marker.
    ///
    /// # Errors
    /// When no region can be reached, or it refuses.
    pub async fn mark(
        &self,
        conversation: &str,
        id: &str,
        user: &str,
        wait: &Wait,
    ) -> Result<(Taken, Done), ClientError> {
        let call = self.call(Method::PUT, &["conversations", conversation, "read-marker"]);
        let call = call.json(&json!({"as": user, "message": id}))?;
        self.write_about(conversation, call, wait).await
    }

    /// A page of the conversations that `user` is a member of.
    ///
    /// # Errors
    /// When no region can be reached, or it refuses.
    pub async fn inbox(&self, user: &str, after: Option<&str>) -> Result<Inbox, ClientError> {
        let call = self.call(Method::GET, &["conversations"]).query("member", user);
        Ok(self.ask(&call.query("limit", PAGE_INBOX).maybe("after", after)).await?.value)
    }

    fn of_message(&self, method: Method, conversation: &str, id: &str, rest: &[&str]) -> Call {
        self.call(method, &[&["conversations", conversation, "messages", id], rest].concat())
    }

    async fn write_about<T: DeserializeOwned>(
        &self,
        conversation: &str,
        call: Call,
        wait: &Wait,
    ) -> Result<(Taken, T), ClientError> {
        let written = self.write(call, wait).await;
        written.map_err(|error| self.about(conversation, error))
    }

    async fn write<T: DeserializeOwned>(
        &self,
        call: Call,
        wait: &Wait,
    ) -> Result<(Taken, T), ClientError> {
        let Answer { status, value } = self.ask(&wait.asked_in(call)).await?;
        let taken = match status {
            StatusCode::ACCEPTED => Taken::NotYetDurable,
            _ => Taken::Durable,
        };
        Ok((taken, value))
    }
}
