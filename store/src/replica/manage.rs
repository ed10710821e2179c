//! Managing a conversation: members and roles, access, titles, retention, pins.
//!
//! What one request sets is looked at as a whole, each part as if those before it were done, and
//! then written as one. Invariant: of a request of which anything is refused, nothing is done.

use std::collections::BTreeMap;

use super::operate::{Actor, CommandError, Operated, Operation};
use super::write::check_body;
use super::{Replica, ReplicaError};
use crate::id::ConversationId;
use crate::name::Name;
use crate::record::{Body, BodyReference, Role, Setting, SettingRecord};
use crate::tables::ConversationRow;

/// What a request has been found to set so far.
struct Proposal<'a> {
    actor: &'a Actor,
    id: ConversationId,
    row: &'a ConversationRow,
    /// In their order; of one setting the last word only.
    settings: Vec<(Setting, Option<Body>)>,
    /// The roles that users will have.
    roles: BTreeMap<Name, Option<Role>>,
}

impl Replica {
    /// Changes settings of a conversation, in their order: all, or none where one is refused.
    /// Whether the actor may do a part of it is judged as if the parts before were done.
    ///
    /// # Errors
    /// When a part is refused, or is no setting; then nothing was changed.
    pub fn operate_all(
        &mut self,
        actor: &Actor,
        conversation: &Name,
        operations: Vec<Operation>,
    ) -> Result<Operated, CommandError> {
        let (id, row) = self.named(conversation)?;
        let (settings, roles) = (Vec::new(), BTreeMap::new());
        let mut proposal = Proposal { actor, id, row: &row, settings, roles };
        for operation in operations {
            self.propose(&mut proposal, operation)?;
        }
        let settings = proposal.settings;
        self.set_all(actor, id, settings)
    }

    /// Adds an operation to what is proposed, if it is allowed.
    fn propose(
        &mut self,
        proposal: &mut Proposal<'_>,
        operation: Operation,
    ) -> Result<(), CommandError> {
        match operation {
            Operation::SetMember { user, role } => self.propose_member(proposal, user, role),
            Operation::SetAccess(access) => {
                self.require_role(proposal, Role::Admin)?;
                proposal.add(Setting::Access(access), None);
                Ok(())
            }
            Operation::SetTitle(title) => self.propose_text(proposal, title, Setting::Title),
            Operation::SetTopic(topic) => self.propose_text(proposal, topic, Setting::Topic),
            Operation::SetRetention(millis) => {
                self.require_role(proposal, Role::Owner)?;
                proposal.add(Setting::Retention(millis), None);
                Ok(())
            }
            Operation::Pin { message, on } => {
                self.require_role(proposal, Role::Admin)?;
                let message = self.present((proposal.id, proposal.row), message)?.identity;
                proposal.add(Setting::Pin { message, on }, None);
                Ok(())
            }
            Operation::Edit { .. }
            | Operation::React { .. }
            | Operation::Redact { .. }
            | Operation::Erase { .. }
            | Operation::MarkRead { .. }
            | Operation::EraseConversation => Err(CommandError::NotTogether),
        }
    }

    fn propose_member(
        &self,
        proposal: &mut Proposal<'_>,
        user: Name,
        role: Option<Role>,
    ) -> Result<(), CommandError> {
        let held = self.proposed_role(proposal, &user)?;
        let leaves = user == proposal.actor.user && role < held;
        let least = match held.max(role) {
            Some(Role::Owner) => Role::Owner,
            Some(Role::Admin | Role::Member | Role::Reader) | None => Role::Admin,
        };
        if !leaves {
            self.require_role(proposal, least)?;
        }
        proposal.roles.insert(user.clone(), role);
        if held != role {
            proposal.add(Setting::Member { user, role }, None);
        }
        Ok(())
    }

    fn propose_text(
        &mut self,
        proposal: &mut Proposal<'_>,
        text: Option<Vec<u8>>,
        setting: fn(Option<BodyReference>) -> Setting,
    ) -> Result<(), CommandError> {
        self.require_role(proposal, Role::Admin)?;
        text.as_ref().map_or(Ok(()), |text| check_body(text))?;
        let body = text.map(|bytes| Body { salt: self.entropy.bytes(), bytes });
        proposal.add(setting(body.as_ref().map(Body::reference)), body);
        Ok(())
    }

    /// The role that a user will have after what is proposed so far.
    fn proposed_role(
        &self,
        proposal: &Proposal<'_>,
        user: &Name,
    ) -> Result<Option<Role>, ReplicaError> {
        match proposal.roles.get(user) {
            Some(role) => Ok(*role),
            None => self.role(proposal.id, user),
        }
    }

    /// Refuses an actor that neither administers the space nor will have the role. Settings take
    /// more than anybody may do in an open conversation.
    fn require_role(&self, proposal: &Proposal<'_>, least: Role) -> Result<(), CommandError> {
        let Proposal { actor, row, .. } = proposal;
        if actor.admin || self.proposed_role(proposal, &actor.user)? >= Some(least) {
            return Ok(());
        }
        Err(CommandError::lacks_role(&actor.user, row, least))
    }

    /// Writes settings at once: commands that follow in the same batch must see them.
    fn set_all(
        &mut self,
        actor: &Actor,
        id: ConversationId,
        settings: Vec<(Setting, Option<Body>)>,
    ) -> Result<Operated, CommandError> {
        let mut records = Vec::new();
        for (setting, body) in settings {
            let standing = self.standing(id, setting.key(id))?.standing;
            if let [(_, only)] = &standing[..]
                && only.setting == setting
            {
                continue;
            }
            let mut replaces: Vec<_> =
                standing.iter().map(|(rank, _)| (rank.depth, rank.origin)).collect();
            replaces.sort_unstable();
            records.push((SettingRecord { setting, by: actor.user.clone(), replaces }, body));
        }
        if records.is_empty() {
            return Ok(Operated::Unchanged);
        }
        // What was accepted before is written before: the conversation may be new, too.
        self.flush()?;
        self.write_settings(id, records)?;
        Ok(Operated::Done)
    }
}

impl Proposal<'_> {
    /// Adds a setting, in the place of what was proposed of it before.
    fn add(&mut self, setting: Setting, body: Option<Body>) {
        let key = setting.key(self.id);
        self.settings.retain(|(other, _)| other.key(self.id) != key);
        self.settings.push((setting, body));
    }
}
