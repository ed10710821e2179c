//! What an applied entry says to a follower: events, each with the token after it.
//!
//! Invariant: who resumes from an event's token gets what stood behind that event and nothing
//! that stood before it, also within an entry of many messages. Only what says the same however
//! often it is heard may come again: aliases, and the present state of what was changed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::response::sse::Event;
use serde::Serialize;
use warbler_store::engine::EngineError;
use warbler_store::erasure::Erasure;
use warbler_store::id::{ConversationId, Front, Identity, MessageId, OriginId};
use warbler_store::name::Name;
use warbler_store::reader::{ReadError, Reader};
use warbler_store::record;
use warbler_store::replica::Applied;
use warbler_store::token::Token;

use crate::http::wire::{Alias, Described, Erased, Message};

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

/// An event that waits to be pulled.
#[derive(Debug)]
pub(super) struct Upcoming {
    /// Where the follower stands after it.
    pub(super) token: Token,
    /// What it says.
    pub(super) what: What,
}

/// What an event says.
#[derive(Debug)]
pub(super) enum What {
    /// Something that never gets old.
    Lasting(Event),
    /// A message that is new, or was changed: its words may have to be read again.
    Message {
        /// `message` or `changed`.
        name: &'static str,
        /// Where it was said.
        conversation: Name,
        /// Which.
        id: MessageId,
        /// The event with the words as they were when it was made.
        prepared: Option<Event>,
    },
    /// The settings of a conversation, as they are when it is pulled.
    Settings(Name),
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
        applied.iter().any(|applied| {
            let refers = applied.messages.iter().any(|message| {
                let header = &message.header;
                let refers = header.reply_to.is_some() || header.thread.is_some();
                self.shows(message.conversation)
                    && (refers || self.known(message.conversation).is_none())
            });
            let changes = applied.changed.len() + applied.settings.len() + applied.erased.len();
            refers || changes > 0
        })
    }

    /// The events of `applied`, and the position of `at` after them. Entries at or below `at` are
    /// passed over. Messages are prepared with the words that `applied` has if they are `fresh`.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub(super) fn events(
        &self,
        mut at: Token,
        applied: &[Applied],
        fresh: bool,
    ) -> Result<(Token, Vec<Upcoming>), EngineError> {
        let mut events = Vec::new();
        for applied in applied {
            let (origin, seq) = (applied.origin, applied.seq);
            if seq > at.vector.get(origin) {
                self.entry(&mut at, applied, fresh, &mut events)?;
            }
        }
        Ok((at, events))
    }

    /// The event that `what` is by now; `None` if there is nothing to say any more.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub(super) fn read(&self, what: What) -> Result<Option<Event>, EngineError> {
        match what {
            What::Lasting(event) => Ok(Some(event)),
            What::Message { name, conversation, id, .. } => {
                let message = there(self.reader.message(&conversation, id))?.flatten();
                let message = message.map(|message| self.message(name, &conversation, &message));
                message.transpose()
            }
            What::Settings(name) => there(self.described(&name))?
                .map(|described| event("settings", &described))
                .transpose(),
        }
    }

    fn described(&self, name: &Name) -> Result<Described, ReadError> {
        let conversation = self.reader.conversation(name)?;
        Ok(Described::of(conversation, self.reader.settings(name)?, None))
    }

    /// The events of one entry. The aliases come first, with the token before the entry, then the
    /// messages, then what was changed, so that nobody hears of a change before its message.
    fn entry(
        &self,
        at: &mut Token,
        applied: &Applied,
        fresh: bool,
        events: &mut Vec<Upcoming>,
    ) -> Result<(), EngineError> {
        for (_, other, canonical) in applied.aliases.iter().filter(|(id, _, _)| self.shows(*id)) {
            let alias = Alias { id: canonical.to_string(), alias: other.to_string() };
            let what = What::Lasting(event("alias", &alias)?);
            events.push(Upcoming { token: at.clone(), what });
        }
        let first = events.len();
        let seen = seen_within(at, applied.origin);
        let within = |records: u32| Token {
            within: (records > 0).then_some((applied.origin, records)),
            ..at.clone()
        };
        let messages = applied.messages.iter().zip(&applied.places);
        for (message, place) in messages.filter(|(_, place)| **place >= seen) {
            if let Some(what) = self.posted(message, fresh)? {
                events.push(Upcoming { token: within(place + 1), what });
            }
        }
        let behind = within(applied.places.last().map_or(seen, |place| seen.max(place + 1)));
        for what in self.changes(applied)? {
            events.push(Upcoming { token: behind.clone(), what });
        }
        at.vector.raise(applied.origin, applied.seq);
        at.within = None;
        if let Some(last) = events[first..].last_mut() {
            last.token = at.clone();
        }
        Ok(())
    }

    fn posted(&self, message: &record::Message, fresh: bool) -> Result<Option<What>, EngineError> {
        let Some(conversation) = self.name(message.conversation)? else { return Ok(None) };
        let prepared = fresh.then(|| self.message("message", &conversation, message));
        let prepared = prepared.transpose()?;
        Ok(Some(What::Message { name: "message", conversation, id: message.id, prepared }))
    }

    /// What an entry says beside its messages.
    fn changes(&self, applied: &Applied) -> Result<Vec<What>, EngineError> {
        let mut changes = Vec::new();
        for (conversation, id) in &applied.changed {
            if let Some(conversation) = self.name(*conversation)? {
                let (name, id, prepared) = ("changed", *id, None);
                changes.push(What::Message { name, conversation, id, prepared });
            }
        }
        for conversation in &applied.settings {
            changes.extend(self.name(*conversation)?.map(What::Settings));
        }
        for erasure in &applied.erased {
            if let Some(erased) = self.erased(erasure)? {
                changes.push(What::Lasting(event("erased", &erased)?));
            }
        }
        Ok(changes)
    }

    fn erased(&self, erasure: &Erasure) -> Result<Option<Erased>, EngineError> {
        let up_to = |front: Front| MessageId::new(front, Identity([0xff; 16])).to_string();
        Ok(match erasure {
            Erasure::Message { conversation: of, identity } => {
                let Some(name) = self.name(*of)? else { return Ok(None) };
                let id = self.reader.canonical(*of, *identity)?;
                let conversation = name.to_string();
                id.map(|id| Erased::Message { conversation, id: id.to_string() })
            }
            Erasure::Author { author, up_to: last } => {
                Some(Erased::Author { author: author.to_string(), up_to: up_to(*last) })
            }
            Erasure::Conversation { name, conversation, .. } => self
                .shows(*conversation)
                .then(|| Erased::Conversation { conversation: name.to_string() }),
            Erasure::Cut { conversation, up_to: last } => self.name(*conversation)?.map(|name| {
                Erased::Expired { conversation: name.to_string(), up_to: up_to(*last) }
            }),
        })
    }

    fn message(
        &self,
        name: &str,
        conversation: &Name,
        message: &record::Message,
    ) -> Result<Event, EngineError> {
        event(name, &Message::read(&self.reader, conversation, message)?)
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

    /// The name of a conversation that is followed; `None` also for one that was erased.
    fn name(&self, conversation: ConversationId) -> Result<Option<Name>, EngineError> {
        if !self.shows(conversation) {
            return Ok(None);
        }
        if let Some(name) = self.known(conversation) {
            return Ok(Some(name));
        }
        let Some(name) = self.reader.name_of(conversation)? else { return Ok(None) };
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() == MAX_NAMES {
            names.clear();
        }
        names.insert(conversation, name.clone());
        Ok(Some(name))
    }
}

/// What was read, unless its conversation was erased meanwhile.
fn there<T>(read: Result<T, ReadError>) -> Result<Option<T>, EngineError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(ReadError::UnknownConversation(_)) => Ok(None),
        Err(ReadError::Engine(error)) => Err(error),
    }
}

/// How many records of the next entry of `origin` were seen already.
fn seen_within(at: &Token, origin: OriginId) -> u32 {
    match at.within {
        Some((within, records)) if within == origin => records,
        Some(_) | None => 0,
    }
}

fn event(name: &str, content: &impl Serialize) -> Result<Event, EngineError> {
    let event = Event::default().event(name).json_data(content);
    event.map_err(|error| EngineError::Damaged(format!("an event cannot be written: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use warbler_store::engine::{Engine as _, MemoryEngine};
    use warbler_store::entropy::Entropy;
    use warbler_store::id::{NodeId, SpaceId};
    use warbler_store::replica::{NewMessage, Placing, Replica, Writer};
    use warbler_store::vector::VersionVector;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn persist(engine: &MemoryEngine, replica: &mut Replica) {
        let sealed = replica.seal().expect("sealed").expect("something to seal");
        engine.persist(&sealed.batch).expect("persisted");
        replica.written(sealed.ticket);
    }

    #[test]
    fn who_resumes_within_an_entry_misses_nothing_when_what_was_seen_of_it_has_expired() {
        let engine = Arc::new(MemoryEngine::new());
        let origin = OriginId([1; 16]);
        let writer = Writer { node: NodeId([1; 32]), region: name("oslo"), origin, started: 1 };
        let (main, general) = (name("main"), name("general"));
        let entropy = Entropy::from_seed([7; 32]);
        let mut replica =
            Replica::open(engine.clone(), &main, writer, entropy, 1 << 20).expect("a replica");
        let (conversation, _) = replica.create_conversation(&general).expect("created");
        let mut ids = Vec::new();
        for millis in [1_000, 2_000, 3_000, 4_000] {
            let message = NewMessage {
                conversation: general.clone(),
                author: name("ada"),
                body: b"hello".to_vec(),
                content_type: Default::default(),
                reply_to: None,
                thread: None,
                placing: Placing::At(millis),
                key: None,
            };
            ids.push(replica.post(9_000, message).expect("posted").id);
        }
        persist(&engine, &mut replica);

        let space = SpaceId::of(&main);
        let reader = Reader::new(engine.clone(), space);
        let translation = Translation::new(reader.clone(), None);
        let heard = |from: &Token| {
            let until = reader.vector().expect("a vector");
            let applied = reader.applied_between(&from.vector, &until, 100).expect("read");
            let (_, events) = translation.events(from.clone(), &applied, true).expect("events");
            let said = |upcoming: Upcoming| match upcoming.what {
                What::Message { id, .. } => Some((id, upcoming.token)),
                What::Lasting(_) | What::Settings(_) => None,
            };
            events.into_iter().filter_map(said).collect::<Vec<_>>()
        };
        let all = heard(&Token::of(space, VersionVector::default()));
        assert_eq!(all.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
        let (_, second) = &all[1];
        assert_eq!(second.within, Some((origin, 2)), "in the middle of an entry");

        replica.expire(9_000, conversation, ids[1].front()).expect("cut");
        persist(&engine, &mut replica);
        let rest = heard(second);
        assert_eq!(rest.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids[2..]);
        assert_eq!(rest, all[2..], "with the same tokens");
    }
}
