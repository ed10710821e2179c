//! The rows of settings: what stands of each, who is a member, and where titles stand.
//!
//! Invariant: what stands is what no other record replaces.

use std::collections::{BTreeMap, BTreeSet};

use super::Expected;
use crate::document::Scalar;
use crate::id::{ConversationId, Front, OriginId, SpaceId};
use crate::name::Name;
use crate::record::{Access, Body, Rank, RecordKey, Setting, SettingKey, SettingRecord};
use crate::tables::{BodyKey, MembershipRow, RowType, SettingRow};

/// What a conversation's own document says.
pub(crate) struct SettingClaims {
    conversation: ConversationId,
    settings: BTreeMap<SettingKey, BTreeMap<Rank, SettingRecord>>,
    /// The conversation's name, as the document begins with it.
    pub(crate) name: Option<String>,
    /// Who may read and write.
    pub(crate) access: Access,
    faults: Vec<String>,
}

impl SettingClaims {
    /// Nothing.
    pub(crate) fn new(conversation: ConversationId) -> Self {
        Self {
            conversation,
            settings: BTreeMap::new(),
            name: None,
            access: Access::Open,
            faults: Vec::new(),
        }
    }

    /// Takes in what the document holds under `key`.
    pub(crate) fn take(&mut self, key: &str, scalar: &Scalar) {
        match scalar {
            Scalar::Text(name) if key == "name" => self.name = Some(name.clone()),
            Scalar::Text(_) => {}
            Scalar::Bytes(bytes) => {
                let read = RecordKey::from_text(key)
                    .and_then(|key| Ok((key, SettingRecord::decode(bytes)?)));
                match read {
                    Ok((key, record)) => self.take_record(key, record),
                    Err(error) => self.faults.push(format!("a setting that is none: {error}")),
                }
            }
        }
    }

    fn take_record(&mut self, key: RecordKey, record: SettingRecord) {
        let rank = Rank { depth: key.depth, origin: key.origin, front: Front::default() };
        let setting = record.setting.key(self.conversation);
        self.settings.entry(setting).or_default().insert(rank, record);
    }

    /// The rows that this makes.
    pub(crate) fn expected(&mut self, space: SpaceId) -> Expected {
        let mut expected =
            Expected { faults: std::mem::take(&mut self.faults), ..Expected::default() };
        let id = self.conversation;
        for (key, records) in &self.settings {
            let replaced: BTreeSet<(u64, OriginId)> =
                records.values().flat_map(|record| record.replaces.iter().copied()).collect();
            let stands = |rank: &Rank| !replaced.contains(&(rank.depth, rank.origin));
            let standing = records.iter().filter(|(rank, _)| stands(rank));
            let row =
                SettingRow { standing: standing.map(|(rank, it)| (*rank, it.clone())).collect() };
            match row.winner().map(|winner| &winner.setting) {
                Some(Setting::Access(access)) => self.access = *access,
                Some(Setting::Member { user, role: Some(_) }) => {
                    let key: (SpaceId, Name, ConversationId) = (space, user.clone(), id);
                    expected.row(&key, &MembershipRow);
                }
                Some(_) | None => {}
            }
            expected.row(&(id, *key), &row);
            for record in records.values() {
                if let Some(reference) = record.setting.body() {
                    let key = BodyKey::title(id, key.identity, reference.digest);
                    expected.words.insert(Body::key(&key), reference);
                }
            }
        }
        expected
    }
}
