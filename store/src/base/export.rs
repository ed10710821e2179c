//! Handing a space over: its rows in chunks, all of one moment.
//!
//! Invariant: whatever is handed out is of the moment that the stamp names; what belongs to the
//! whole space comes before its conversations, and a conversation's own row before its others.

use super::{CHUNK_BYTES, Chunk, Prefix, Stamp, conversation_behind, prefixes_of};
use crate::engine::{Direction, EngineError, Table, View};
use crate::id::{ConversationId, SpaceId};
use crate::tables::{
    self, BodyKey, ConversationRow, MembershipRow, NameRow, OriginRow, QuarantineRow, RowType,
};

/// Why a space cannot be handed over, or not further.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExportError {
    /// The view is not of the moment of the stamp.
    #[error("the view is of another moment than the one that is handed over")]
    Moved,
    /// The engine failed or holds damaged rows.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A space that is being handed over.
#[derive(Debug, Clone)]
pub struct Export {
    space: SpaceId,
    stamp: Stamp,
    /// What is to be walked before the next conversation, the next last.
    left: Vec<Prefix>,
    /// The last key of the present range.
    after: Option<Vec<u8>>,
    /// The conversation that was begun last; none before the first.
    conversation: Option<ConversationId>,
    done: bool,
}

impl Export {
    /// Begins to hand `space` over as `view` holds it. None if it holds nothing of it.
    ///
    /// # Errors
    /// When the engine fails or a row is damaged.
    pub fn of(view: &dyn View, space: SpaceId) -> Result<Option<Self>, ExportError> {
        let Some(stamp) = Stamp::of(view, space)? else { return Ok(None) };
        let mut left = of_space(space);
        left.extend(strays(view, space)?);
        left.reverse();
        let (after, conversation) = (None, None);
        Ok(Some(Self { space, stamp, left, after, conversation, done: false }))
    }

    /// Of which moment it is.
    #[must_use]
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// The next rows, from the view it was begun with. None when there are no more.
    ///
    /// # Errors
    /// When the view is of another moment, the engine fails or a row is damaged: damage is not
    /// handed on.
    pub fn next(&mut self, view: &dyn View) -> Result<Option<Chunk>, ExportError> {
        if Stamp::of(view, self.space)?.as_ref() != Some(&self.stamp) {
            return Err(ExportError::Moved);
        }
        let mut chunk = Chunk::default();
        let mut bytes = 0;
        while bytes < CHUNK_BYTES && !self.done {
            match self.left.last().cloned() {
                Some(range) => bytes += self.walk(view, &range, &mut chunk, CHUNK_BYTES - bytes)?,
                None => {
                    self.conversation = conversation_behind(view, self.space, self.conversation)?;
                    match self.conversation {
                        Some(id) => self.left.extend(prefixes_of(id).into_iter().rev()),
                        None => self.done = true,
                    }
                }
            }
        }
        Ok(Some(chunk).filter(|chunk| !chunk.rows.is_empty()))
    }

    /// Takes rows of a range until they have `limit` bytes. Returns how many they have.
    fn walk(
        &mut self,
        view: &dyn View,
        (table, prefix): &Prefix,
        chunk: &mut Chunk,
        limit: usize,
    ) -> Result<usize, ExportError> {
        let start = match self.after.take() {
            Some(after) => [&after[..], &[0]].concat(),
            None => prefix.clone(),
        };
        let mut bytes = 0;
        for row in view.scan(*table, &start, &tables::behind(prefix), Direction::Forward) {
            if bytes >= limit {
                self.after = chunk.rows.last().map(|(_, key, _)| key.clone());
                return Ok(bytes);
            }
            let (key, value) = row?;
            tables::check(*table, &key, &value)?;
            bytes += key.len() + value.len() + 8;
            chunk.rows.push((*table, key, value));
        }
        self.left.pop();
        Ok(bytes)
    }
}

/// What is of the whole space, but for its own row: the taker writes that.
pub(super) fn of_space(space: SpaceId) -> Vec<Prefix> {
    let lettered = |table, letter: u8| (table, [&[letter][..], &space.0].concat());
    vec![
        (Table::Erasures, space.0.to_vec()),
        lettered(Table::Meta, OriginRow::LETTER),
        lettered(Table::Meta, QuarantineRow::LETTER),
        (Table::Log, space.0.to_vec()),
        lettered(Table::Index, NameRow::LETTER),
        lettered(Table::Index, MembershipRow::LETTER),
    ]
}

/// Words of entries in quarantine that are about no conversation that is held.
pub(super) fn strays(view: &dyn View, space: SpaceId) -> Result<Vec<Prefix>, EngineError> {
    let mut strays = Vec::new();
    for row in tables::rows::<QuarantineRow, _>(view, &QuarantineRow::prefix(space)) {
        let (key, row) = row?;
        let place = QuarantineRow::parse(&key)?;
        let held = match row.conversation {
            Some(id) => tables::get::<ConversationRow>(view, &id)?.is_some(),
            None => false,
        };
        if !held {
            let key = crate::record::Body::key(&BodyKey::quarantined(row.conversation, place, 0));
            // All but the number of the body.
            strays.push((Table::Bodies, key[..key.len() - 8].to_vec()));
        }
    }
    Ok(strays)
}
