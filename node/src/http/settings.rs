//! Changing and erasing conversations, and erasing what an author wrote.
//!
//! Invariant: a request changes all that it names, or nothing.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::StatusCode;
use axum::response::Response;
use warbler_replication::replicator::Command;
use warbler_store::id::{MessageId, Millis};
use warbler_store::replica::{Actor, Operation};

use super::actor;
use super::conversations::{InConversation, describe};
use super::problem::Problem;
use super::request;
use super::wire::{AuthorErasure, Changed, ChangedConversation, NewConversation};
use super::write::{Write, operated};

/// Members and pins that one request may change.
const MAX_CHANGES: usize = 1000;
/// The shortest time after which messages may expire: a minute. A shorter one would be gone
/// before anybody has read.
const MIN_RETENTION_MILLIS: Millis = 60_000;

pub(super) async fn change(
    path: Result<Path<InConversation>, PathRejection>,
    write: Write,
) -> Result<Response, Problem> {
    let conversation = InConversation::name(path)?;
    let space = write.space().clone();
    let (asked, write) = write.body::<ChangedConversation>().await?;
    let actor = actor::of_text(&asked.user)?;
    let operations = operations(asked)?;
    if operations.is_empty() {
        return Err(request::refused("the request changes nothing"));
    }
    let name = conversation.clone();
    let command = |durability| Command::OperateAll { actor, conversation, operations, durability };
    let kept = write.submit(command, operated).await?;
    let (conversation, vector) = describe(&space, name).await?;
    let changed = |_, durability| Changed { conversation, durability };
    Ok(kept.read_behind(vector).answer(StatusCode::OK, changed))
}

/// What a request asks for, in an order that never takes away a right it needs itself: members
/// come before access, and whoever is removed comes last.
fn operations(asked: ChangedConversation) -> Result<Vec<Operation>, Problem> {
    let changes = asked.members.len() + asked.pins.len();
    if changes > MAX_CHANGES {
        let why = format!("{changes} members and pins are to change, {MAX_CHANGES} may be");
        return Err(request::refused(why));
    }
    let mut operations = Vec::new();
    let mut removals = Vec::new();
    for (user, role) in asked.members {
        let user = request::name(&user)?;
        let role = role.map(Into::into);
        let into = if role.is_some() { &mut operations } else { &mut removals };
        into.push(Operation::SetMember { user, role });
    }
    operations.extend(asked.access.map(|access| Operation::SetAccess(access.into())));
    let bytes = |text: Option<String>| text.map(String::into_bytes);
    operations.extend(asked.title.map(|title| Operation::SetTitle(bytes(title))));
    operations.extend(asked.topic.map(|topic| Operation::SetTopic(bytes(topic))));
    if let Some(Some(millis)) = asked.retention_ms.filter(|it| *it < Some(MIN_RETENTION_MILLIS)) {
        let why = format!("`retention_ms` is {millis}: at least {MIN_RETENTION_MILLIS} expected");
        return Err(request::refused(why).hint("`null` keeps messages for ever"));
    }
    operations.extend(asked.retention_ms.map(Operation::SetRetention));
    for (id, on) in asked.pins {
        operations.push(Operation::Pin { message: id.parse()?, on });
    }
    operations.extend(removals);
    Ok(operations)
}

/// What a new conversation begins with, and who says so; `None` if it is left as it is made.
pub(super) fn beginning(
    asked: NewConversation,
) -> Result<Option<(Actor, Vec<Operation>)>, Problem> {
    let owner = asked.owner.as_deref().map(request::name).transpose()?;
    let user = asked.user.as_deref().map(request::name).transpose()?.or_else(|| owner.clone());
    let mut operations = Vec::new();
    let own = owner.map(|owner| (owner, warbler_store::record::Role::Owner));
    let members = asked.members.into_iter().map(|(user, role)| {
        Ok::<_, Problem>((request::name(&user)?, warbler_store::record::Role::from(role)))
    });
    for member in own.map(Ok).into_iter().chain(members) {
        let (user, role) = member?;
        operations.push(Operation::SetMember { user, role: Some(role) });
    }
    if operations.len() > MAX_CHANGES {
        let why = format!("{} members are named, {MAX_CHANGES} may be", operations.len());
        return Err(request::refused(why));
    }
    let access = asked.access.map(warbler_store::record::Access::from);
    if access == Some(warbler_store::record::Access::Members) && operations.is_empty() {
        return Err(request::refused("nobody could enter: the conversation has no members")
            .hint("name an `owner`"));
    }
    operations.extend(access.map(Operation::SetAccess));
    match user {
        _ if operations.is_empty() => Ok(None),
        Some(user) => Ok(Some((actor::acting(user), operations))),
        None => Err(request::refused("the request says not who asks")
            .hint("name the user in `as`, or an `owner`")),
    }
}

pub(super) async fn erase(
    path: Result<Path<InConversation>, PathRejection>,
    mut write: Write,
) -> Result<Response, Problem> {
    let conversation = InConversation::name(path)?;
    let actor = actor::of_query(write.query())?;
    let write = write.without_body()?;
    let operation = Operation::EraseConversation;
    Ok(write.operate(actor, conversation, operation).await?.answer_done(StatusCode::OK))
}

pub(super) async fn erase_author(write: Write) -> Result<Response, Problem> {
    let (asked, write) = write.body::<AuthorErasure>().await?;
    let actor = actor::of_text(&asked.user)?;
    let author = request::name(&asked.author)?;
    let up_to = asked.up_to.map(|text| text.parse::<MessageId>()).transpose()?;
    let up_to = up_to.map(|id| id.front());
    let command = |durability| Command::EraseAuthor { actor, author, up_to, durability };
    Ok(write.submit(command, operated).await?.answer_done(StatusCode::OK))
}
