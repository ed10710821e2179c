//! Settings of conversations take effect: who is a member, what is pinned, who may read.
//!
//! Invariant: which value counts depends on the set of records alone.

use super::{Replica, ReplicaError};
use crate::erasure::Words;
use crate::id::ConversationId;
use crate::name::Name;
use crate::record::{Access, Body, Rank, Role, Setting, SettingKey, SettingKind, SettingRecord};
use crate::tables::{self, BodyKey, ConversationRow, MembershipRow, SettingRow};

impl Replica {
    /// Takes in a record of a setting.
    pub(super) fn take_setting(
        &mut self,
        (id, row): (ConversationId, &mut ConversationRow),
        rank: Rank,
        record: SettingRecord,
        body: Option<&Body>,
    ) -> Result<(), ReplicaError> {
        let key = record.setting.key(id);
        if let (Some(reference), Some(body)) = (record.setting.body(), body) {
            let words = Words { conversation: id, message: None, author: &record.by, front: None };
            if !self.covers(row, &words) {
                self.put(&BodyKey::title(id, key.identity, reference.digest), body);
            }
        }
        let held: Option<SettingRow> = tables::get(&self.overlay, &(id, key))?;
        let mut now = held.clone().unwrap_or_default();
        now.take(rank, record);
        self.replace(row, &(id, key), held.as_ref(), Some(&now));
        match now.winner().map(|winner| winner.setting.clone()) {
            Some(Setting::Access(access)) => row.access = access,
            Some(Setting::Member { user, role }) => {
                let key = (self.space, user, id);
                match role {
                    Some(_) => self.put(&key, &MembershipRow),
                    None => self.delete::<MembershipRow>(&key),
                }
            }
            Some(
                Setting::Title(_) | Setting::Topic(_) | Setting::Retention(_) | Setting::Pin { .. },
            )
            | None => {}
        }
        Ok(())
    }

    /// The records of a setting that stand.
    pub(super) fn standing(
        &self,
        id: ConversationId,
        key: SettingKey,
    ) -> Result<SettingRow, ReplicaError> {
        let row: Option<SettingRow> = tables::get(&self.overlay, &(id, key))?;
        Ok(row.unwrap_or_default())
    }

    /// The role of `user` in a conversation, if it is a member.
    pub(super) fn role(
        &self,
        id: ConversationId,
        user: &Name,
    ) -> Result<Option<Role>, ReplicaError> {
        let row = self.standing(id, SettingKey::of_member(id, user))?;
        Ok(match row.winner().map(|winner| &winner.setting) {
            Some(Setting::Member { role, .. }) => *role,
            Some(_) | None => None,
        })
    }

    /// The members of a conversation, with their roles.
    pub(super) fn members(&self, id: ConversationId) -> Result<Vec<(Name, Role)>, ReplicaError> {
        let prefix = SettingRow::prefix(id, Some(SettingKind::Member));
        let mut members = Vec::new();
        for row in tables::rows::<SettingRow, _>(&self.overlay, &prefix) {
            let (_, row) = row?;
            if let Some(Setting::Member { user, role: Some(role) }) =
                row.winner().map(|winner| winner.setting.clone())
            {
                members.push((user, role));
            }
        }
        Ok(members)
    }

    /// Whether `user` may do in a conversation what takes `least`. In an open conversation
    /// everybody may do what a member may.
    pub(super) fn may(
        &self,
        (id, row): (ConversationId, &ConversationRow),
        user: &Name,
        least: Role,
    ) -> Result<bool, ReplicaError> {
        if row.access == Access::Open && least <= Role::Member {
            return Ok(true);
        }
        Ok(self.role(id, user)?.is_some_and(|role| role >= least))
    }
}
