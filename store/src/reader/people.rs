//! Reading about people: members, what a user is a member of, what a user has not read.

use super::{Conversation, ReadError, Reader, listed, place_of};
use crate::engine::{Direction, EngineError, Table, View};
use crate::id::{ConversationId, Front, MessageId};
use crate::name::Name;
use crate::record::{Body, Role, Setting, SettingKey, SettingKind};
use crate::tables::{
    self, BodyKey, ConversationRow, LateRow, MarkerRow, MembershipRow, MessageKey, SettingRow,
};

/// A member with its role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: Name,
    /// As what.
    pub role: Role,
}

/// What a user has not read of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unread {
    /// The last message read, if any.
    pub read: Option<MessageId>,
    /// Messages after it, at most as many as were asked for.
    pub count: usize,
    /// Messages that came in below it since it was set.
    pub late: Vec<MessageId>,
}

/// The settings of a conversation, as they count now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The title.
    pub title: Option<Vec<u8>>,
    /// The topic.
    pub topic: Option<Vec<u8>>,
    /// After how many milliseconds messages expire.
    pub retention: Option<u64>,
    /// Pinned messages that have not expired, in the order of the timeline.
    pub pins: Vec<MessageId>,
}

impl Reader {
    /// The members of a conversation.
    ///
    /// # Errors
    /// When the conversation is unknown, the engine fails or a row is damaged.
    pub fn members(&self, name: &Name) -> Result<Vec<Member>, ReadError> {
        let engine = self.engine.current()?;
        let view = engine.view();
        let (id, _) = self.lookup(&*view, name)?;
        let prefix = SettingRow::prefix(id, Some(SettingKind::Member));
        let mut members = Vec::new();
        for row in tables::rows::<SettingRow, _>(&*view, &prefix) {
            if let Some(Setting::Member { user, role: Some(role) }) = value_of(&row?.1) {
                members.push(Member { user, role });
            }
        }
        members.sort_by(|one, other| one.user.cmp(&other.user));
        Ok(members)
    }

    /// The role of `user` in a conversation, if it is a member.
    ///
    /// # Errors
    /// When the conversation is unknown, the engine fails or a row is damaged.
    pub fn role(&self, name: &Name, user: &Name) -> Result<Option<Role>, ReadError> {
        let engine = self.engine.current()?;
        let view = engine.view();
        let (id, _) = self.lookup(&*view, name)?;
        let row: Option<SettingRow> = tables::get(&*view, &(id, SettingKey::of_member(id, user)))?;
        Ok(match row.as_ref().and_then(value_of) {
            Some(Setting::Member { role, .. }) => role,
            Some(_) | None => None,
        })
    }

    /// The settings of a conversation.
    ///
    /// # Errors
    /// When the conversation is unknown, the engine fails or a row is damaged.
    pub fn settings(&self, name: &Name) -> Result<Settings, ReadError> {
        let engine = self.engine.current()?;
        let view = engine.view();
        let view = &*view;
        let (id, row) = self.lookup(view, name)?;
        let mut settings = Settings::default();
        for setting in tables::rows::<SettingRow, _>(view, &SettingRow::prefix(id, None)) {
            let (_, setting) = setting?;
            match value_of(&setting) {
                Some(Setting::Title(Some(reference))) => {
                    settings.title = text(view, id, SettingKind::Title, reference.digest)?;
                }
                Some(Setting::Topic(Some(reference))) => {
                    settings.topic = text(view, id, SettingKind::Topic, reference.digest)?;
                }
                Some(Setting::Retention(millis)) => settings.retention = millis,
                Some(Setting::Pin { message, on: true }) => {
                    let tail = MessageId::new(Front::default(), message).tail();
                    let identities: Option<tables::IdentityRow> = tables::get(view, &(id, tail))?;
                    let front = identities.and_then(|row| row.front(message));
                    let front = front.filter(|front| !row.has_expired(*front));
                    settings.pins.extend(front.map(|front| MessageId::new(front, message)));
                }
                Some(
                    Setting::Title(None)
                    | Setting::Topic(None)
                    | Setting::Pin { on: false, .. }
                    | Setting::Access(_)
                    | Setting::Member { .. },
                )
                | None => {}
            }
        }
        settings.pins.sort_unstable();
        Ok(settings)
    }

    /// The conversations that `user` is a member of, the one with the latest message first.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub fn inbox(&self, user: &Name) -> Result<Vec<Conversation>, EngineError> {
        let engine = self.engine.current()?;
        let view = engine.view();
        let mut inbox = Vec::new();
        let prefix = MembershipRow::prefix(self.space, user);
        for row in tables::rows::<MembershipRow, _>(&*view, &prefix) {
            let id = MembershipRow::parse(&row?.0)?;
            if let Some(row) = tables::get::<ConversationRow>(&*view, &id)? {
                inbox.push(listed(id, row));
            }
        }
        inbox.sort_by(|one, other| other.last.cmp(&one.last).then(one.name.cmp(&other.name)));
        Ok(inbox)
    }

    /// What `user` has not read of a conversation; counts to `limit`.
    ///
    /// # Errors
    /// When the conversation is unknown, the engine fails or a row is damaged.
    pub fn unread(&self, name: &Name, user: &Name, limit: usize) -> Result<Unread, ReadError> {
        let engine = self.engine.current()?;
        let view = engine.view();
        let view = &*view;
        let (id, _) = self.lookup(view, name)?;
        let marker: Option<MarkerRow> = tables::get(view, &(id, user.clone()))?;
        let read = marker.map(|marker| marker.message);
        let start = match read {
            Some(read) => tables::behind(&MessageKey::id_prefix(id, read)),
            None => id.0.to_vec(),
        };
        let rows = view.scan(Table::Timeline, &start, &tables::behind(&id.0), Direction::Forward);
        let mut count = 0;
        for row in rows.take(limit) {
            row?;
            count += 1;
        }
        let mut late = Vec::new();
        for row in tables::rows::<LateRow, _>(view, &LateRow::prefix(id, user)) {
            let message = LateRow::parse(&row?.0)?;
            // It may have moved or expired since.
            late.extend(place_of(view, id, message)?.map(|place| place.id()));
        }
        Ok(Unread { read, count, late })
    }
}

fn value_of(row: &SettingRow) -> Option<Setting> {
    row.winner().map(|winner| winner.setting.clone())
}

/// A title, unless it was erased.
fn text(
    view: &(impl View + ?Sized),
    id: ConversationId,
    kind: SettingKind,
    digest: [u8; 16],
) -> Result<Option<Vec<u8>>, EngineError> {
    let setting = SettingKey::of(id, kind).identity;
    let body: Option<Body> = tables::get(view, &BodyKey::title(id, setting, digest))?;
    Ok(body.map(|body| body.bytes))
}
