//! Reading what was applied, again: for followers that resume.
//!
//! Invariant: what is said of an entry is what holds now, so resuming never brings back words
//! that were edited, redacted or erased since.

use super::{Reader, read_message};
use crate::engine::{EngineError, View};
use crate::entry::EntryKind;
use crate::id::{ConversationId, Identity, MessageId, OriginId};
use crate::log::{self, LogEntry, LogWalk, WalkError};
use crate::record::Statement;
use crate::replica::Applied;
use crate::tables::{self, ConversationRow, IdentityRow, MessageKey, QuarantineRow};
use crate::vector::VersionVector;

/// Why what was applied cannot be read again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FollowError {
    /// The log does not go back that far: entries of this origin were trimmed.
    #[error("the log of {origin} was trimmed up to {trimmed}")]
    Trimmed {
        /// Whose log.
        origin: OriginId,
        /// Up to which seq.
        trimmed: u64,
    },
    /// The engine failed or holds damaged rows.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<WalkError> for FollowError {
    fn from(error: WalkError) -> Self {
        match error {
            WalkError::Trimmed { origin, trimmed } => Self::Trimmed { origin, trimmed },
            WalkError::Engine(error) => Self::Engine(error),
        }
    }
}

impl Reader {
    /// What was applied above `from`, up to `until`, in causal order, at most about `limit`
    /// messages; for followers that resume. Returns what it read up to.
    ///
    /// # Errors
    /// When the log was trimmed above `from`, the engine fails or a row is damaged.
    pub fn applied_between(
        &self,
        from: &VersionVector,
        until: &VersionVector,
        limit: usize,
    ) -> Result<Vec<Applied>, FollowError> {
        let engine = self.engine.current()?;
        let view = engine.view();
        let mut applied = Vec::new();
        let mut count = 0;
        for entry in LogWalk::between(&*view, self.space, from, until)? {
            let seen = self.seen(&*view, &entry?)?;
            count += seen.messages.len() + seen.changed.len();
            applied.push(seen);
            if count >= limit {
                break;
            }
        }
        Ok(applied)
    }

    /// What followers see of an entry.
    fn seen(&self, view: &dyn View, entry: &LogEntry) -> Result<Applied, EngineError> {
        let mut seen = Applied::nothing(entry.origin, entry.seq);
        let key = (self.space, entry.origin, entry.seq);
        if tables::get::<QuarantineRow>(view, &key)?.is_some() {
            return Ok(seen);
        }
        match log::decoded(self.space, entry)?.kind {
            EntryKind::Segment { conversation, .. } => {
                // Of a conversation that was erased nothing is read: it may not be readable.
                let Some(row) = tables::get::<ConversationRow>(view, &conversation)? else {
                    return Ok(seen);
                };
                let Some((id, statements)) = log::statements(self.space, entry)? else {
                    return Ok(seen);
                };
                for (place, (identity, statement)) in statements.into_iter().enumerate() {
                    let said = (place, identity, &statement);
                    see_statement(view, (id, &row), said, &mut seen)?;
                }
            }
            EntryKind::Conversation { name, incarnation, .. } => {
                seen.settings.push(ConversationId::of(self.space, &name, incarnation));
            }
            EntryKind::Erasures { rows, .. } => seen.erased = rows,
            EntryKind::Origin { .. } | EntryKind::Markers(_) | EntryKind::Unknown { .. } => {}
        }
        Ok(seen)
    }
}

fn see_statement(
    view: &dyn View,
    (id, row): (ConversationId, &ConversationRow),
    (at, identity, statement): (usize, Identity, &Statement),
    seen: &mut Applied,
) -> Result<(), EngineError> {
    let message = statement.target().unwrap_or(identity);
    let identities: Option<IdentityRow> = tables::get(view, &(id, message.tail()))?;
    let front = identities.and_then(|identities| identities.front(message));
    let Some(front) = front.filter(|front| !row.has_expired(*front)) else { return Ok(()) };
    let place = MessageKey { conversation: id, front, identity: message };
    match statement {
        Statement::Post(header) if header.front != front => {
            let alias = MessageId::new(header.front, identity);
            seen.aliases.push((id, alias, place.id()));
        }
        Statement::Post(_) => {
            if let Some(message) = read_message(view, place)? {
                seen.bring(at, message);
            }
        }
        Statement::Edit(_) | Statement::Reaction(_) | Statement::Redaction(_) => {
            seen.changed.push((id, place.id()));
        }
    }
    Ok(())
}
