//! Changing and erasing conversations, and erasing what an author wrote.
//!
//! Invariant: a request is looked at as a whole before anything of it is done, so that what is
//! malformed changes nothing. What a role forbids is found out on the way: what came before it
//! in the request then stands, and asking again does no harm.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use warbler_replication::replicator::{Command, Durability};
use warbler_store::id::{MessageId, Millis};
use warbler_store::name::Name;
use warbler_store::replica::{Actor, Operation};

use super::calls::submit;
use super::conversations::{InConversation, describe};
use super::deeds::{Asked, Became};
use super::problem::Problem;
use super::request::{self, Parameters};
use super::session::with_token;
use super::wire::{AuthorErasure, Changed, ChangedConversation, NewConversation};
use super::{Api, actor, durability};
use crate::space::Space;

/// Members and pins that one request may change.
const MAX_CHANGES: usize = 1000;
/// The shortest time after which messages may expire: a minute. A shorter one would be gone
/// before anybody has read.
const MIN_RETENTION_MILLIS: Millis = 60_000;

pub(super) async fn change(
    State(api): State<Api>,
    Extension(space): Extension<Space>,
    path: Result<Path<InConversation>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let conversation = InConversation::name(path)?;
    let mut query = Parameters::of(&request)?;
    let durability = durability::asked(&mut query, &space)?;
    query.end()?;
    let asked: ChangedConversation = request::json(&api.limits, request).await?;
    let actor = actor::of_text(&asked.user)?;
    let operations = operations(asked)?;
    let became =
        carry_out_all(&api, &space, (&actor, &conversation), operations, durability).await?;
    let Some(became) = became else {
        return Err(request::refused("the request changes nothing"));
    };
    let (conversation, vector) = describe(&space, conversation).await?;
    let status = durability::status(became.reached(), StatusCode::OK);
    let changed = Changed { conversation, durability: durability::said(became.reached()) };
    Ok(with_token((status, Json(changed)), &space, vector))
}

/// Carries out operations in their order. The last one waits for other regions: it rests on
/// those before it.
pub(super) async fn carry_out_all(
    api: &Api,
    space: &Space,
    (actor, conversation): (&Actor, &Name),
    operations: Vec<Operation>,
    durability: Durability,
) -> Result<Option<Became>, Problem> {
    let mut became = None;
    let last = operations.len();
    for (place, operation) in operations.into_iter().enumerate() {
        let durability = if place + 1 == last { durability } else { Durability::default() };
        let (actor, conversation) = (actor.clone(), conversation.clone());
        let asked = Asked { actor, conversation, operation, durability };
        became = Some(asked.carry_out(api, space).await?);
    }
    Ok(became)
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
    State(api): State<Api>,
    Extension(space): Extension<Space>,
    path: Result<Path<InConversation>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let conversation = InConversation::name(path)?;
    let mut query = Parameters::of(&request)?;
    let durability = durability::asked(&mut query, &space)?;
    let actor = actor::of_query(&mut query)?;
    query.end()?;
    let operation = Operation::EraseConversation;
    let asked = Asked { actor, conversation, operation, durability };
    Ok(asked.carry_out(&api, &space).await?.answer(&space, StatusCode::OK))
}

pub(super) async fn erase_author(
    State(api): State<Api>,
    Extension(space): Extension<Space>,
    request: Request,
) -> Result<Response, Problem> {
    let mut query = Parameters::of(&request)?;
    let durability = durability::asked(&mut query, &space)?;
    query.end()?;
    let asked: AuthorErasure = request::json(&api.limits, request).await?;
    let actor = actor::of_text(&asked.user)?;
    let author = request::name(&asked.author)?;
    let up_to = asked.up_to.map(|text| text.parse::<MessageId>()).transpose()?;
    let up_to = up_to.map(|id| id.front());
    let command = Command::EraseAuthor { actor, author, up_to, durability };
    let outcome = submit(&api, &space, command, durability.wait).await?;
    Ok(Became::of(outcome)?.answer(&space, StatusCode::OK))
}
