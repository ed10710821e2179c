//! Settings of a conversation: members and roles, pins, access, titles, retention.
//!
//! Each setting of a setting is a record of its own, which names those it replaces: the ones its
//! writer had seen. What stands is what nothing replaces; where several stand, they are
//! concurrent. Invariant: which of those counts depends on their set alone, and a removed member
//! stays removed whatever was said of it at the same time.

use super::body::BodyReference;
use super::message::Rank;
use crate::bytes::{DecodeError, Decoder, Encoder};
use crate::id::{ConversationId, Identity, Millis, OriginId, hash_of};
use crate::name::Name;

/// The most records that one may replace: each stands for a region that wrote at once.
const MAX_REPLACED: usize = 4096;

/// Who may read and write in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Everybody in the space.
    Open,
    /// Its members, as their roles say.
    Members,
}

/// What a member may do; each role may do what the lesser ones may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read.
    Reader,
    /// Post, react, edit and redact one's own.
    Member,
    /// Manage members, pins and titles, redact and erase anybody's messages.
    Admin,
    /// Everything, also naming owners, and erasing the conversation.
    Owner,
}

/// One setting with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// Who may read and write.
    Access(Access),
    /// The title: a body, since a person wrote it.
    Title(Option<BodyReference>),
    /// The topic: a body.
    Topic(Option<BodyReference>),
    /// After how many milliseconds messages expire; none: never.
    Retention(Option<Millis>),
    /// A member's role; none: removed.
    Member {
        /// Who.
        user: Name,
        /// As what.
        role: Option<Role>,
    },
    /// A pinned message, or one that is not any more.
    Pin {
        /// The message.
        message: Identity,
        /// Whether it is pinned.
        on: bool,
    },
}

/// Which setting, without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SettingKey {
    /// Its kind.
    pub kind: SettingKind,
    /// Tells the settings of a kind apart, and those of conversations.
    pub identity: Identity,
}

/// The kinds of settings, as they are numbered in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum SettingKind {
    /// [`Setting::Access`].
    Access = 16,
    /// [`Setting::Title`].
    Title = 17,
    /// [`Setting::Topic`].
    Topic = 18,
    /// [`Setting::Retention`].
    Retention = 19,
    /// [`Setting::Member`].
    Member = 20,
    /// [`Setting::Pin`].
    Pin = 21,
}

impl Setting {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> SettingKind {
        match self {
            Self::Access(_) => SettingKind::Access,
            Self::Title(_) => SettingKind::Title,
            Self::Topic(_) => SettingKind::Topic,
            Self::Retention(_) => SettingKind::Retention,
            Self::Member { .. } => SettingKind::Member,
            Self::Pin { .. } => SettingKind::Pin,
        }
    }

    /// Which setting of `conversation` it is.
    #[must_use]
    pub fn key(&self, conversation: ConversationId) -> SettingKey {
        match self {
            Self::Member { user, .. } => SettingKey::of_member(conversation, user),
            Self::Pin { message, .. } => {
                SettingKey::new(conversation, SettingKind::Pin, &message.0)
            }
            Self::Access(_) | Self::Title(_) | Self::Topic(_) | Self::Retention(_) => {
                SettingKey::of(conversation, self.kind())
            }
        }
    }

    /// The body it refers to, if it has one.
    #[must_use]
    pub fn body(&self) -> Option<BodyReference> {
        match self {
            Self::Title(body) | Self::Topic(body) => *body,
            Self::Access(_) | Self::Retention(_) | Self::Member { .. } | Self::Pin { .. } => None,
        }
    }

    /// Whether it removes a member, which wins over all that is concurrent.
    fn removes(&self) -> bool {
        matches!(self, Self::Member { role: None, .. })
    }

    fn encode(&self, encoder: &mut Encoder) {
        encoder.u8(self.kind() as u8);
        match self {
            Self::Access(access) => encoder.u8(match access {
                Access::Open => 0,
                Access::Members => 1,
            }),
            Self::Title(body) | Self::Topic(body) => {
                encoder.u8(u8::from(body.is_some()));
                if let Some(body) = body {
                    body.encode(encoder);
                }
                encoder
            }
            Self::Retention(millis) => {
                encoder.u8(u8::from(millis.is_some())).varint(millis.unwrap_or(0))
            }
            Self::Member { user, role } => {
                let role = role.map_or(0, |role| role as u8 + 1);
                encoder.u8(role).run(user.as_str().as_bytes())
            }
            Self::Pin { message, on } => encoder.u8(u8::from(*on)).raw(&message.0),
        };
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let kind = decoder.u8("setting kind")?;
        Ok(match kind {
            16 => Self::Access(match decoder.u8("access")? {
                0 => Access::Open,
                1 => Access::Members,
                other => return Err(DecodeError::invalid("access", other)),
            }),
            17 | 18 => {
                let given = decoder.flag("title")?;
                let body = given.then(|| BodyReference::decode(decoder)).transpose()?;
                if kind == 17 { Self::Title(body) } else { Self::Topic(body) }
            }
            19 => {
                let given = decoder.flag("retention")?;
                let millis = decoder.varint("retention")?;
                if !given && millis != 0 {
                    return Err(DecodeError::invalid("retention", "a value where none is"));
                }
                Self::Retention(given.then_some(millis))
            }
            20 => {
                let role = match decoder.u8("role")? {
                    0 => None,
                    1 => Some(Role::Reader),
                    2 => Some(Role::Member),
                    3 => Some(Role::Admin),
                    4 => Some(Role::Owner),
                    other => return Err(DecodeError::invalid("role", other)),
                };
                Self::Member { user: decoder.name("member")?, role }
            }
            21 => {
                let on = decoder.flag("pin")?;
                Self::Pin { message: Identity(decoder.array("pinned message")?), on }
            }
            unknown => {
                let why = format!("{unknown} is unknown");
                return Err(DecodeError::invalid("setting kind", why));
            }
        })
    }
}

impl SettingKey {
    /// The only setting of its kind in `conversation`.
    #[must_use]
    pub fn of(conversation: ConversationId, kind: SettingKind) -> Self {
        Self::new(conversation, kind, &[])
    }

    /// The membership of `user`.
    #[must_use]
    pub fn of_member(conversation: ConversationId, user: &Name) -> Self {
        Self::new(conversation, SettingKind::Member, user.as_str().as_bytes())
    }

    fn new(conversation: ConversationId, kind: SettingKind, what: &[u8]) -> Self {
        let parts: [&[u8]; 3] = [&conversation.0, &[kind as u8], what];
        Self { kind, identity: Identity(hash_of("warbler 2026 setting", &parts)) }
    }
}

/// A setting as it stands in the conversation's document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingRecord {
    /// The setting.
    pub setting: Setting,
    /// Who set it.
    pub by: Name,
    /// The records of the same setting that it replaces: depth and origin of their entries.
    pub replaces: Vec<(u64, OriginId)>,
}

impl SettingRecord {
    /// The packed bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_capacity(64);
        self.setting.encode(&mut encoder);
        encoder.run(self.by.as_str().as_bytes()).varint(self.replaces.len() as u64);
        for (depth, origin) in &self.replaces {
            encoder.varint(*depth).raw(&origin.0);
        }
        encoder.finish()
    }

    /// Reads what [`SettingRecord::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are no setting of this version, or not in their only form.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let setting = Setting::decode(&mut decoder)?;
        let by = decoder.name("who set it")?;
        let count = decoder.count("replaced records", MAX_REPLACED)?;
        let mut replaces: Vec<(u64, OriginId)> = Vec::new();
        for _ in 0..count {
            let next = (decoder.varint("depth")?, OriginId(decoder.array("origin")?));
            if replaces.last().is_some_and(|last| *last >= next) {
                return Err(DecodeError::invalid("replaced records", "out of order"));
            }
            replaces.push(next);
        }
        decoder.end("setting")?;
        Ok(Self { setting, by, replaces })
    }

    /// Of the records of one setting that stand, each with its rank: the one that counts.
    #[must_use]
    pub fn winner(standing: &[(Rank, Self)]) -> Option<&Self> {
        let order = |(rank, record): &&(Rank, Self)| (record.setting.removes(), *rank);
        standing.iter().max_by_key(order).map(|(_, record)| record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Front;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn record(setting: Setting) -> SettingRecord {
        let replaces = vec![(3, OriginId([1; 16])), (3, OriginId([2; 16]))];
        SettingRecord { setting, by: name("ada"), replaces }
    }

    fn settings() -> Vec<Setting> {
        let body = BodyReference { length: 5, digest: [9; 16] };
        let member = |role| Setting::Member { user: name("bob"), role };
        vec![
            Setting::Access(Access::Members),
            Setting::Title(Some(body)),
            Setting::Topic(None),
            Setting::Retention(Some(86_400_000)),
            Setting::Retention(None),
            member(Some(Role::Owner)),
            member(None),
            Setting::Pin { message: Identity([7; 16]), on: true },
        ]
    }

    #[test]
    fn a_setting_has_the_bytes_that_the_format_says() {
        let bytes = record(settings().swap_remove(5)).encode();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let replaced = format!("0203{}03{}", "01".repeat(16), "02".repeat(16));
        assert_eq!(hex, format!("140403626f6203616461{replaced}"));
    }

    #[test]
    fn a_removal_wins_over_whatever_was_said_of_the_member_at_the_same_time() {
        let standing = |depth, role| {
            let rank = Rank { depth, origin: OriginId([1; 16]), front: Front::default() };
            (rank, record(Setting::Member { user: name("bob"), role }))
        };
        let removed = Setting::Member { user: name("bob"), role: None };
        let all = [standing(9, Some(Role::Owner)), standing(3, None), standing(5, None)];
        assert_eq!(SettingRecord::winner(&all).map(|record| &record.setting), Some(&removed));
        let added = SettingRecord::winner(&all[..1]).map(|record| &record.setting);
        assert_ne!(added, Some(&removed));
    }

    proptest! {
        #[test]
        fn a_setting_survives_its_bytes_and_a_flipped_bit_is_refused_or_another(
            which in 0..8_usize, place: usize, bit in 0..8_u8,
        ) {
            let written = record(settings().swap_remove(which));
            let mut bytes = written.encode();
            prop_assert_eq!(&SettingRecord::decode(&bytes).expect("own bytes"), &written);
            let place = place % bytes.len();
            bytes[place] ^= 1 << bit;
            if let Ok(other) = SettingRecord::decode(&bytes) {
                prop_assert_ne!(&other, &written);
                prop_assert_eq!(other.encode(), bytes);
            }
        }

        #[test]
        fn no_bytes_make_a_setting_panic_and_all_that_decode_are_canonical(bytes: Vec<u8>) {
            if let Ok(record) = SettingRecord::decode(&bytes) {
                prop_assert_eq!(record.encode(), bytes);
            }
        }
    }
}
