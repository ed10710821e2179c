//! What an applied entry says to a follower: events, each with the token after it.
//!
//! Invariant: who resumes from an event's token gets what stood behind that event and nothing
//! that stood before it, also within an entry of many messages. Only aliases may come again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::response::sse::Event;
use serde::Serialize;
use warbler_store::engine::EngineError;
use warbler_store::id::{ConversationId, OriginId};
use warbler_store::name::Name;
use warbler_store::reader::Reader;
use warbler_store::record;
use warbler_store::replica::Applied;
use warbler_store::token::Token;

use crate::http::wire::{Alias, Message};

/// Names of conversations that are remembered.
const MAX_NAMES: usize = 4096;

/// Turns entries into events, for one follower.
pub(super) struct Translation {
    reader: Reader,
    /// The conversations that are followed; `None` for all.
    only: Option<BTreeMap<ConversationId, Name>>,
    /// Names that were looked up.
    names: Mutex<BTreeMap<ConversationId, Name>>,
}

impl Translation {
    pub(super) fn new(reader: Reader, only: Option<BTreeMap<ConversationId, Name>>) -> Self {
        Self { reader, only, names: Mutex::default() }
    }

    pub(super) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Whether turning `applied` into events may read the disk.
    pub(super) fn reads_for(&self, applied: &[Applied]) -> bool {
        applied.iter().flat_map(|applied| &applied.messages).any(|message| {
            let header = &message.header;
            let refers = header.reply_to.is_some() || header.thread.is_some();
            self.shows(message.conversation)
                && (refers || self.known(message.conversation).is_none())
        })
    }

    /// The events of `applied`, and the position of `at` after them. Entries at or below `at` are
    /// passed over.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub(super) fn events(
        &self,
        mut at: Token,
        applied: &[Applied],
    ) -> Result<(Token, Vec<Event>), EngineError> {
        let mut events = Vec::new();
        for applied in applied {
            let (origin, seq) = (applied.origin, applied.seq);
            if seq > at.vector.get(origin) {
                self.entry(&mut at, applied, &mut events)?;
            }
        }
        Ok((at, events))
    }

    /// The events of one entry. The aliases come first, with the token before the entry: they say
    /// the same however often they are heard.
    fn entry(
        &self,
        at: &mut Token,
        applied: &Applied,
        events: &mut Vec<Event>,
    ) -> Result<(), EngineError> {
        let before = at.to_text();
        for (_, other, canonical) in applied.aliases.iter().filter(|(id, _, _)| self.shows(*id)) {
            let alias = Alias { id: canonical.to_string(), alias: other.to_string() };
            events.push(event("alias", &before, &alias)?);
        }
        let skipped = skipped(at, applied.origin);
        let shown: Vec<(usize, &record::Message)> = applied
            .messages
            .iter()
            .enumerate()
            .skip(skipped)
            .filter(|(_, message)| self.shows(message.conversation))
            .collect();
        let mut after = at.clone();
        after.vector.raise(applied.origin, applied.seq);
        after.within = None;
        for (place, (index, message)) in shown.iter().enumerate() {
            let token = if place + 1 == shown.len() {
                after.to_text()
            } else {
                let within = Some((applied.origin, *index as u32 + 1));
                Token { within, ..at.clone() }.to_text()
            };
            let name = self.name(message.conversation)?;
            let message = Message::read(&self.reader, &name, message)?;
            events.push(event("message", &token, &message)?);
        }
        *at = after;
        Ok(())
    }

    fn shows(&self, conversation: ConversationId) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains_key(&conversation))
    }

    fn known(&self, conversation: ConversationId) -> Option<Name> {
        if let Some(only) = &self.only {
            return only.get(&conversation).cloned();
        }
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(&conversation).cloned()
    }

    fn name(&self, conversation: ConversationId) -> Result<Name, EngineError> {
        if let Some(name) = self.known(conversation) {
            return Ok(name);
        }
        let name = self.reader.name_of(conversation)?.ok_or_else(|| {
            EngineError::Damaged(format!("conversation {conversation} has messages and no name"))
        })?;
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() == MAX_NAMES {
            names.clear();
        }
        names.insert(conversation, name.clone());
        Ok(name)
    }
}

/// How many messages of the next entry of `origin` were seen already.
fn skipped(at: &Token, origin: OriginId) -> usize {
    match at.within {
        Some((within, messages)) if within == origin => messages as usize,
        Some(_) | None => 0,
    }
}

fn event(name: &str, token: &str, content: &impl Serialize) -> Result<Event, EngineError> {
    let event = Event::default().event(name).id(token).json_data(content);
    event.map_err(|error| EngineError::Damaged(format!("an event cannot be written: {error}")))
}
