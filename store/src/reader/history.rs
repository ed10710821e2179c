//! Reading what was done to a message: its edits, and who reacted.

use super::{ReadError, Reader, place_of};
use crate::id::MessageId;
use crate::name::Name;
use crate::record::Revision;
use crate::replica::read_body;
use crate::tables::{self, EditRow, ReactionRow, TimelineRow};

/// One edit of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revised {
    /// The edit.
    pub revision: Revision,
    /// Its words.
    pub body: Vec<u8>,
}

/// What a message said, from its posting on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The words that were posted; empty if they have expired.
    pub first: Vec<u8>,
    /// The edits, the one that shows last.
    pub edits: Vec<Revised>,
}

impl Reader {
    /// The words of a message before it was edited, and its edits, the one that shows last. None
    /// if there is no such message, or its words are hidden or gone.
    ///
    /// # Errors
    /// When the conversation is unknown, the engine fails or a row is damaged.
    pub fn history(&self, name: &Name, id: MessageId) -> Result<Option<History>, ReadError> {
        let engine = self.engine.current()?;
        let view = engine.view();
        let (conversation, row) = self.lookup(&*view, name)?;
        let place = place_of(&*view, conversation, id)?;
        let Some(place) = place.filter(|place| !row.has_expired(place.front)) else {
            return Ok(None);
        };
        let there: Option<TimelineRow> = tables::get(&*view, &place)?;
        let Some(there) = there.filter(|there| there.state.is_visible()) else { return Ok(None) };
        let read = |front, reference| {
            let body = read_body(&*view, conversation, (place.identity, front), reference);
            // What expired or was erased by its author's name is left out.
            body.map(|body| body.map(|body| body.bytes).unwrap_or_default())
        };
        let first = read(there.header.front, there.header.body)?;
        let mut revised = Vec::new();
        let prefix = EditRow::prefix(conversation, place.identity);
        for edit in tables::rows::<EditRow, _>(&*view, &prefix) {
            let revision = edit?.1.0;
            let body = read(revision.rank.front, revision.body)?;
            revised.push(Revised { revision, body });
        }
        Ok(Some(History { first, edits: revised }))
    }

    /// Who set which emoji on a message, at most `limit`.
    ///
    /// # Errors
    /// When the conversation is unknown, the engine fails or a row is damaged.
    pub fn reactions(
        &self,
        name: &Name,
        id: MessageId,
        limit: usize,
    ) -> Result<Vec<(Name, Name)>, ReadError> {
        let engine = self.engine.current()?;
        let view = engine.view();
        let (conversation, _) = self.lookup(&*view, name)?;
        let Some(place) = place_of(&*view, conversation, id)? else { return Ok(Vec::new()) };
        let prefix = ReactionRow::prefix(conversation, place.identity);
        let mut reactions = Vec::new();
        for row in tables::rows::<ReactionRow, _>(&*view, &prefix) {
            let (_, row) = row?;
            if row.on && reactions.len() < limit {
                reactions.push((row.emoji, row.user));
            }
        }
        Ok(reactions)
    }
}
