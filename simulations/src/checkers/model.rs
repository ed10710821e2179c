//! What must show: a simple model of a node's state, made from the entries that it holds.
//!
//! Independent of the store: it keeps sets of records, and works out who wins when it is asked.
//! Invariant: entries are taken in any order; nothing here depends on it.

use std::collections::BTreeMap;

use warbler_store::id::{ConversationId, Identity, MessageId};
use warbler_store::name::Name;
use warbler_store::reader::{Range, ReadError, Reader};
use warbler_store::record::{
    Access, Header, Message, MessageState, Rank, Revision, Role, Setting, SettingKey, Statement,
    Withdrawal,
};

use super::archive::{Saying, Set, Written};
use super::rows::Rows;
use super::{Broken, Promise};

/// Messages on a page when all is read.
const PAGE: usize = 50;

/// What is known of one message.
#[derive(Debug, Clone, Default)]
struct Told {
    /// Its copies, with their words.
    copies: Vec<(Header, Vec<u8>)>,
    edits: Vec<(Revision, Vec<u8>)>,
    redactions: Vec<Withdrawal>,
    /// The last word of each person about each emoji.
    reactions: BTreeMap<(Name, Name), (Rank, bool)>,
}

impl Told {
    fn canonical(&self) -> Option<&(Header, Vec<u8>)> {
        self.copies.iter().min_by_key(|(header, _)| (header.front, header.encode()))
    }

    fn revision(&self) -> Option<&(Revision, Vec<u8>)> {
        self.edits.iter().max_by_key(|(revision, _)| revision.rank)
    }
}

/// What is known of one conversation.
#[derive(Debug, Clone)]
struct Talk {
    name: Name,
    incarnation: u32,
    messages: BTreeMap<Identity, Told>,
    settings: BTreeMap<SettingKey, Vec<Set>>,
    markers: BTreeMap<Name, MessageId>,
    /// Whether an entry about it could not be applied.
    is_damaged: bool,
}

/// See the module's comment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    talks: BTreeMap<ConversationId, Talk>,
}

impl Model {
    /// The node holds this entry.
    pub(crate) fn take(&mut self, written: &Written) {
        if let Some(talk) = written.damages.and_then(|id| self.talks.get_mut(&id)) {
            talk.is_damaged = true;
        }
        if let Some((id, name, incarnation)) = &written.conversation {
            self.talks.entry(*id).or_insert_with(|| Talk {
                name: name.clone(),
                incarnation: *incarnation,
                messages: BTreeMap::new(),
                settings: BTreeMap::new(),
                markers: BTreeMap::new(),
                is_damaged: false,
            });
        }
        for set in &written.settings {
            if let Some(talk) = self.talks.get_mut(&set.conversation) {
                let key = set.record.setting.key(set.conversation);
                talk.settings.entry(key).or_default().push(set.clone());
            }
        }
        written.sayings.iter().for_each(|saying| self.take_saying(saying));
        for marker in &written.markers {
            if let Some(talk) = self.talks.get_mut(&marker.conversation) {
                let held = talk.markers.entry(marker.user.clone()).or_insert(marker.message);
                *held = (*held).max(marker.message);
            }
        }
    }

    fn take_saying(&mut self, saying: &Saying) {
        let Some(talk) = self.talks.get_mut(&saying.conversation) else { return };
        let told = talk.messages.entry(saying.message()).or_default();
        let (rank, words) = (saying.rank, saying.words.clone().unwrap_or_default());
        match &saying.statement {
            Statement::Post(header) => told.copies.push((header.clone(), words)),
            Statement::Edit(edit) => told.edits.push((Revision::of(rank, edit), words)),
            Statement::Redaction(redaction) => {
                told.redactions.push(Withdrawal { rank, by: redaction.by.clone() });
            }
            Statement::Reaction(reaction) => {
                let key = (reaction.user.clone(), reaction.emoji.clone());
                let last = told.reactions.entry(key).or_insert((rank, reaction.on));
                if last.0 < rank {
                    *last = (rank, reaction.on);
                }
            }
        }
    }

    /// The conversation that a name means.
    fn named(&self, name: &Name, rows: &Rows) -> Option<(ConversationId, &Talk)> {
        let named =
            self.talks.iter().filter(|(id, talk)| talk.name == *name && !rows.retires(**id));
        named.max_by_key(|(_, talk)| talk.incarnation).map(|(id, talk)| (*id, talk))
    }

    /// Whether the node holds an edit of a message with these words.
    pub(crate) fn holds_edit(&self, words: &[u8]) -> bool {
        let mut told = self.talks.values().flat_map(|talk| talk.messages.values());
        told.any(|told| told.edits.iter().any(|(_, held)| held == words))
    }

    /// Whether the node holds a redaction of a message.
    pub(crate) fn redacts(&self, conversation: ConversationId, identity: Identity) -> bool {
        let told = self.talks.get(&conversation).and_then(|talk| talk.messages.get(&identity));
        told.is_some_and(|told| !told.redactions.is_empty())
    }

    /// The message under an id, as it must show; none where it must not.
    pub(crate) fn message(&self, name: &Name, id: MessageId, rows: &Rows) -> Option<Message> {
        let (conversation, talk) = self.named(name, rows)?;
        // An id of a copy that is not held yet names the message all the same.
        let mut named = talk.messages.iter().filter(|(identity, _)| identity.tail() == id.tail());
        let found = named.next().filter(|_| named.next().is_none());
        found.and_then(|(identity, told)| shown(conversation, *identity, told, rows))
    }

    /// Compares all that a reader sees of a node with what it must see.
    pub(crate) fn compare(
        &self,
        at: usize,
        reader: &Reader,
        names: &[Name],
        rows: &Rows,
    ) -> Result<(), Broken> {
        for name in names {
            let expected = self.named(name, rows);
            let found = match reader.conversation(name) {
                Ok(found) => Some(found),
                Err(ReadError::UnknownConversation(_)) => None,
                Err(error) => return broken(format!("node {at} cannot read `{name}`: {error}")),
            };
            let (Some((id, talk)), Some(found)) = (expected, &found) else {
                if expected.is_some() == found.is_some() {
                    continue;
                }
                let (must, is) = (expected.is_some(), found.is_some());
                return broken(format!("node {at} has `{name}`: {is}, and must have it: {must}"));
            };
            let messages = timeline(id, talk, rows);
            let last = messages.last().map(|message| message.id);
            let access = access(talk);
            let must = (id, messages.len() as u64, last, access, talk.is_damaged);
            let is = (found.id, found.messages, found.last, found.access, found.damaged);
            if must != is {
                return broken(format!("node {at} lists `{name}` as {is:?}, not as {must:?}"));
            }
            compare_pages(at, reader, name, &messages)?;
            compare_settings(at, reader, name, talk, rows)?;
        }
        Ok(())
    }
}

/// The messages of a conversation as they must show, in order.
fn timeline(id: ConversationId, talk: &Talk, rows: &Rows) -> Vec<Message> {
    let told = talk.messages.iter();
    let mut messages: Vec<Message> =
        told.filter_map(|(identity, told)| shown(id, *identity, told, rows)).collect();
    messages.sort_by_key(|message| (message.id.front(), message.identity));
    messages
}

fn shown(
    conversation: ConversationId,
    identity: Identity,
    told: &Told,
    rows: &Rows,
) -> Option<Message> {
    let (header, first) = told.canonical()?;
    if rows.expires(conversation, header.front) {
        return None;
    }
    let mut reactions: BTreeMap<&Name, u32> = BTreeMap::new();
    for ((_, emoji), (_, on)) in &told.reactions {
        if *on {
            *reactions.entry(emoji).or_default() += 1;
        }
    }
    let revision = told.revision();
    let state = MessageState {
        revision: revision.map(|(revision, _)| revision.clone()),
        withdrawal: told.redactions.iter().min_by_key(|redaction| redaction.rank).cloned(),
        erased: rows.erases(conversation, identity, &header.author, header.front),
        reactions: reactions.into_iter().map(|(emoji, people)| (emoji.clone(), people)).collect(),
    };
    let body = match state.withdrawal.is_none() && !state.erased {
        true => revision.map_or(first, |(_, words)| words).clone(),
        false => Vec::new(),
    };
    let id = MessageId::new(header.front, identity);
    Some(Message { conversation, id, identity, header: header.clone(), state, body })
}

/// The records of a setting that stand: those that no other record replaces; and which counts.
fn winner(sets: &[Set]) -> Option<&Set> {
    let replaced = |set: &&Set| {
        let place = (set.rank.depth, set.rank.origin);
        !sets.iter().any(|other| other.record.replaces.contains(&place))
    };
    let removes = |set: &&Set| matches!(set.record.setting, Setting::Member { role: None, .. });
    let standing: Vec<&Set> = sets.iter().filter(replaced).collect();
    let removal = standing.iter().copied().filter(removes).max_by_key(|set| set.rank);
    removal.or_else(|| standing.iter().copied().max_by_key(|set| set.rank))
}

fn access(talk: &Talk) -> Access {
    let mut winners = talk.settings.values().filter_map(|sets| winner(sets));
    let found = winners.find_map(|set| match set.record.setting {
        Setting::Access(access) => Some(access),
        Setting::Title(_)
        | Setting::Topic(_)
        | Setting::Retention(_)
        | Setting::Member { .. }
        | Setting::Pin { .. } => None,
    });
    found.unwrap_or(Access::Open)
}

fn compare_pages(
    at: usize,
    reader: &Reader,
    name: &Name,
    expected: &[Message],
) -> Result<(), Broken> {
    let mut read: Vec<Message> = Vec::new();
    loop {
        let after = read.last().map_or(MessageId::MIN, |message| message.id);
        let page = reader.page(name, Range::After(after), PAGE);
        let page =
            page.or_else(|error| broken(format!("node {at} cannot read `{name}`: {error}")))?;
        read.extend(page.messages);
        if !page.newer {
            break;
        }
    }
    let differs = read.iter().zip(expected).find(|(read, expected)| read != expected);
    if let Some((read, expected)) = differs {
        return broken(format!("node {at} shows in `{name}` {read:?}, not {expected:?}"));
    }
    if read.len() == expected.len() {
        return Ok(());
    }
    let (shown, due) = (read.len(), expected.len());
    broken(format!("node {at} shows {shown} messages of `{name}` where {due} are due"))
}

fn compare_settings(
    at: usize,
    reader: &Reader,
    name: &Name,
    talk: &Talk,
    rows: &Rows,
) -> Result<(), Broken> {
    let failed = |error: ReadError| {
        let how = format!("node {at} cannot read the settings of `{name}`: {error}");
        Broken::new(Promise::Model, how)
    };
    let mut members: BTreeMap<Name, Role> = BTreeMap::new();
    let (mut title, mut topic, mut retention, mut pins) = (None, None, None, Vec::new());
    for set in talk.settings.values().filter_map(|sets| winner(sets)) {
        match &set.record.setting {
            Setting::Title(given) => title = given.and_then(|_| set.words.clone()),
            Setting::Topic(given) => topic = given.and_then(|_| set.words.clone()),
            Setting::Retention(millis) => retention = *millis,
            Setting::Member { user, role } => {
                members.extend(role.map(|role| (user.clone(), role)));
            }
            Setting::Pin { message, on } => {
                let told = talk.messages.get(message).filter(|_| *on);
                let front = told.and_then(Told::canonical).map(|(header, _)| header.front);
                let front = front.filter(|front| !rows.expires(set.conversation, *front));
                pins.extend(front.map(|front| MessageId::new(front, *message)));
            }
            Setting::Access(_) => {}
        }
    }
    pins.sort_unstable();
    let held = reader.settings(name).map_err(failed)?;
    let is = (held.title, held.topic, held.retention, held.pins);
    if is != (title.clone(), topic.clone(), retention, pins.clone()) {
        let must = (title, topic, retention, pins);
        return broken(format!("node {at} shows of `{name}` {is:?}, not {must:?}"));
    }
    let held = reader.members(name).map_err(failed)?;
    let held: BTreeMap<Name, Role> =
        held.into_iter().map(|member| (member.user, member.role)).collect();
    if held != members {
        return broken(format!("node {at} has in `{name}` {held:?}, not {members:?}"));
    }
    for (user, message) in &talk.markers {
        let read = reader.unread(name, user, 0).map_err(failed)?.read;
        if read != Some(*message) {
            return broken(format!(
                "node {at} says that `{user}` read `{name}` up to {read:?}, not {message}"
            ));
        }
    }
    Ok(())
}

fn broken<T>(how: String) -> Result<T, Broken> {
    Err(Broken::new(Promise::Model, how))
}
