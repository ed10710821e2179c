//! What is done to messages: edits, reactions, redactions take effect.
//!
//! One path for local and remote records. Invariant: as for posts, what shows is a function of
//! the set of records and the erasure table; what is done to a message that has expired leaves
//! nothing but its words, for as long as its entry may be asked for.

use super::place::{behind, timeline_row};
use super::{Replica, ReplicaError};
use crate::engine::View;
use crate::erasure::Words;
use crate::id::{ConversationId, Front, Identity, MessageId};
use crate::name::Name;
use crate::record::{Body, Edit, Rank, Reaction, Redaction, Revision, Statement};
use crate::tables::{
    self, BodyKey, ConversationRow, EditKey, EditRow, MessageKey, ReactionKey, ReactionRow,
    RowType, TimelineRow,
};

impl Replica {
    /// Takes in a statement about a message that is held. Returns the message's id if what shows
    /// of it changed.
    pub(super) fn take_deed(
        &mut self,
        (id, row): (ConversationId, &mut ConversationRow),
        rank: Rank,
        statement: &Statement,
        body: Option<&Body>,
    ) -> Result<Option<MessageId>, ReplicaError> {
        let Some(target) = statement.target() else { return Ok(None) };
        let Some(place) = self.canonical(id, target)? else {
            return Err(ReplicaError::Damaged(format!("no message {target} where one was found")));
        };
        let there = match row.has_expired(place.front) {
            true => None,
            false => Some(timeline_row(&self.overlay, place)?),
        };
        let changed = match statement {
            Statement::Post(_) => false,
            Statement::Edit(edit) => self.take_edit((place, row), there, rank, edit, body)?,
            Statement::Reaction(reaction) => {
                self.take_reaction((place, row), there, rank, reaction)?
            }
            Statement::Redaction(redaction) => {
                self.take_redaction((place, row), there, rank, redaction)
            }
        };
        Ok(changed.then(|| place.id()))
    }

    fn take_edit(
        &mut self,
        (place, row): (MessageKey, &mut ConversationRow),
        there: Option<TimelineRow>,
        rank: Rank,
        edit: &Edit,
        body: Option<&Body>,
    ) -> Result<bool, ReplicaError> {
        let MessageKey { conversation, identity, .. } = place;
        let covered = self.covers(
            row,
            &Words {
                conversation,
                message: Some(identity),
                author: &edit.editor,
                front: Some(edit.front),
            },
        );
        self.building.forgets |= covered && body.is_some();
        if let Some(body) = body.filter(|_| !covered) {
            self.put(&behind(conversation, identity, edit.front, edit.body), body);
        }
        let Some(there) = there else { return Ok(false) };
        let key = EditKey { conversation, message: identity, rank };
        self.replace(row, &key, None, Some(&EditRow(Revision::of(rank, edit))));
        let mut now = there.clone();
        if !now.state.revise(rank, edit) {
            return Ok(false);
        }
        self.replace(row, &place, Some(&there), Some(&now));
        self.unshow_body(place, &there)?;
        self.show_body(place, &now)?;
        Ok(true)
    }

    fn take_reaction(
        &mut self,
        (place, row): (MessageKey, &mut ConversationRow),
        there: Option<TimelineRow>,
        rank: Rank,
        reaction: &Reaction,
    ) -> Result<bool, ReplicaError> {
        let Some(there) = there else { return Ok(false) };
        let Reaction { target, user, emoji, on } = reaction.clone();
        let key = ReactionKey {
            conversation: place.conversation,
            message: target,
            reaction: Reaction::identity_of(target, &user, &emoji),
        };
        let held: Option<ReactionRow> = tables::get(&self.overlay, &key)?;
        if held.as_ref().is_some_and(|held| held.rank >= rank) {
            return Ok(false);
        }
        let was_on = held.as_ref().is_some_and(|held| held.on);
        let said = ReactionRow { rank, user, emoji, on };
        self.replace(row, &key, held.as_ref(), Some(&said));
        if was_on == on {
            return Ok(false);
        }
        let mut now = there.clone();
        now.state.count(&said.emoji, on);
        self.replace(row, &place, Some(&there), Some(&now));
        Ok(true)
    }

    fn take_redaction(
        &mut self,
        (place, row): (MessageKey, &mut ConversationRow),
        there: Option<TimelineRow>,
        rank: Rank,
        redaction: &Redaction,
    ) -> bool {
        let Some(there) = there else { return false };
        let mut now = there.clone();
        now.state.withdraw(rank, redaction);
        if now == there {
            return false;
        }
        self.replace(row, &place, Some(&there), Some(&now));
        true
    }

    /// Removes the rows about edits of and reactions to a message that has expired.
    pub(super) fn forget_deeds(
        &mut self,
        row: &mut ConversationRow,
        place: MessageKey,
    ) -> Result<(), ReplicaError> {
        let MessageKey { conversation, identity, .. } = place;
        for edit in self.edits(conversation, identity)? {
            let key = EditKey { conversation, message: identity, rank: edit.0.rank };
            self.replace(row, &key, Some(&edit), None);
        }
        let prefix = ReactionRow::prefix(conversation, identity);
        let reactions: Vec<_> =
            tables::rows::<ReactionRow, _>(&self.overlay, &prefix).collect::<Result<_, _>>()?;
        for (_, held) in reactions {
            let reaction = Reaction::identity_of(identity, &held.user, &held.emoji);
            let key = ReactionKey { conversation, message: identity, reaction };
            self.replace(row, &key, Some(&held), None);
        }
        Ok(())
    }

    /// The edits of a message, the least rank first.
    pub(super) fn edits(
        &self,
        conversation: ConversationId,
        message: Identity,
    ) -> Result<Vec<EditRow>, ReplicaError> {
        let prefix = EditRow::prefix(conversation, message);
        let rows = tables::rows::<EditRow, _>(&self.overlay, &prefix);
        Ok(rows.map(|row| row.map(|(_, edit)| edit)).collect::<Result<_, _>>()?)
    }

    /// Removes all words of a message: those that show, of its copies, of its edits.
    pub(super) fn forget_words(
        &mut self,
        conversation: ConversationId,
        identity: Identity,
    ) -> Result<(), ReplicaError> {
        let identities = self.identities(conversation, identity)?;
        let Some(placed) = identities.placed(identity) else { return Ok(()) };
        let mut fronts = placed.fronts.clone();
        let front = placed.canonical();
        fronts.extend(self.edits(conversation, identity)?.iter().map(|edit| edit.0.rank.front));
        fronts.extend(self.expired_fronts((conversation, identity), front)?);
        self.delete::<Body>(&BodyKey::Shown(MessageKey { conversation, front, identity }));
        for front in fronts {
            let prefix = BodyKey::record_prefix(conversation, front, identity);
            self.delete_range(Body::TABLE, &prefix, &tables::behind(&prefix))?;
        }
        Ok(())
    }

    /// Where words of later edits of a message stand that has expired: it has no rows any more
    /// that would tell.
    fn expired_fronts(
        &self,
        (conversation, identity): (ConversationId, Identity),
        canonical: Front,
    ) -> Result<Vec<Front>, ReplicaError> {
        let row = self.conversation(conversation)?;
        let Some(cut) = row.and_then(|row| row.cut).filter(|cut| canonical <= *cut) else {
            return Ok(Vec::new());
        };
        let words = BodyKey::behind_prefix(conversation);
        let start = [&words[..], &cut.next().to_bytes()].concat();
        let rows = self.overlay.scan(
            Body::TABLE,
            &start,
            &tables::behind(&words),
            crate::engine::Direction::Forward,
        );
        let mut fronts = Vec::new();
        for row in rows {
            let (key, _) = row?;
            if let Some((front, of)) = BodyKey::behind_at(&key)
                && of == identity
            {
                fronts.push(front);
            }
        }
        Ok(fronts)
    }

    /// Removes the words that `author` wrote into a message, its copies and its edits up to
    /// `up_to`; later ones are kept, and show only where the message does.
    pub(super) fn forget_words_until(
        &mut self,
        place: MessageKey,
        author: &Name,
        up_to: Front,
    ) -> Result<(), ReplicaError> {
        let MessageKey { conversation, identity, .. } = place;
        let identities = self.identities(conversation, identity)?;
        let Some(placed) = identities.placed(identity) else { return Ok(()) };
        let mut fronts = placed.fronts.clone();
        let edits = self.edits(conversation, identity)?;
        let edits = edits.iter().filter(|edit| edit.0.editor == *author);
        fronts.extend(edits.map(|edit| edit.0.rank.front));
        let there = timeline_row(&self.overlay, place)?;
        self.unshow_body(place, &there)?;
        for front in fronts.into_iter().filter(|front| *front <= up_to) {
            let prefix = BodyKey::record_prefix(conversation, front, identity);
            self.delete_range(Body::TABLE, &prefix, &tables::behind(&prefix))?;
        }
        self.show_body(place, &there)
    }
}
