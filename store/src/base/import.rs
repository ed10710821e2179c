//! Taking a space in: row by row, each one checked.
//!
//! Invariant: a row is taken only if it is whole and of the space that is taken in; the space is
//! there only after all of it was verified.

use std::collections::BTreeSet;

use super::{Chunk, Stamp, is_unfinished};
use crate::digest::RowSum;
use crate::engine::{Batch, EngineError, Table, View};
use crate::erasure::Erasure;
use crate::id::{ConversationId, Front, SpaceId};
use crate::replica::{read_origins, vector_of};
use crate::tables::{
    self, BodyKey, ConversationRow, LateRow, MembershipRow, NameRow, OriginRow, QuarantineRow,
    RowType, SpaceRow, StagingRow, TimelineRow, Whose,
};
use crate::verify::Verification;

/// Why a space cannot be taken in.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImportError {
    /// There is something of the space already.
    #[error("space `{0}` is not empty: only an empty one can be taken in whole")]
    NotEmpty(crate::name::Name),
    /// A row is not one of the space, or not whole.
    #[error("a row of table `{table}` is not taken in: {why}")]
    Row {
        /// Its table.
        table: Table,
        /// What is wrong with it.
        why: String,
    },
    /// All rows are there, and they do not come to what the stamp says.
    #[error("what was taken in is not the space as it was announced: {0}")]
    Differs(String),
    /// The engine failed or holds damaged rows.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A space that is being taken in.
#[derive(Debug, Clone)]
pub struct Import {
    space: SpaceId,
    stamp: Stamp,
    /// Conversations whose own rows came.
    conversations: BTreeSet<ConversationId>,
    /// Conversations that entries in quarantine are about, held or not.
    strays: BTreeSet<ConversationId>,
    chunks: u64,
    messages: u64,
    erased_messages: u64,
    sum: RowSum,
    erasures: RowSum,
    quarantine: RowSum,
    clock: Front,
}

impl Import {
    /// Begins to take in the space of `stamp`. The batch must be durable before any other.
    ///
    /// # Errors
    /// When there is something of the space already, also of an import that was killed: that must
    /// be wiped before.
    pub fn begin(view: &dyn View, stamp: Stamp) -> Result<(Self, Batch), ImportError> {
        let space = SpaceId::of(&stamp.name);
        let mut ranges = super::export::of_space(space);
        ranges.push((Table::Meta, SpaceRow::key(&space)));
        for (table, prefix) in ranges {
            let end = tables::behind(&prefix);
            let mut rows = view.scan(table, &prefix, &end, crate::engine::Direction::Forward);
            if rows.next().transpose()?.is_some() {
                return Err(ImportError::NotEmpty(stamp.name));
            }
        }
        if is_unfinished(view, space)? {
            return Err(ImportError::NotEmpty(stamp.name));
        }
        let mut batch = Batch::default();
        tables::put(&mut batch, &space, &StagingRow { chunks: 0 });
        let import = Self {
            space,
            stamp,
            conversations: BTreeSet::new(),
            strays: BTreeSet::new(),
            chunks: 0,
            messages: 0,
            erased_messages: 0,
            sum: RowSum::default(),
            erasures: RowSum::default(),
            quarantine: RowSum::default(),
            clock: Front::default(),
        };
        Ok((import, batch))
    }

    /// Takes in a chunk; its batch must be durable before the next one's.
    ///
    /// # Errors
    /// When a row is not whole or not of the space; then the import is over.
    pub fn take(&mut self, chunk: &Chunk) -> Result<Batch, ImportError> {
        let mut batch = Batch::default();
        for (table, key, value) in &chunk.rows {
            let refuse = |why: String| ImportError::Row { table: *table, why };
            tables::check(*table, key, value).map_err(|error| refuse(error.to_string()))?;
            self.admit(*table, key, value).map_err(|why| refuse(why.to_owned()))?;
            batch.put(*table, key.clone(), value.clone());
        }
        self.chunks += 1;
        tables::put(&mut batch, &self.space, &StagingRow { chunks: self.chunks });
        Ok(batch)
    }

    /// Says why a row is none of the space, if it is not.
    fn admit(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let Whose { space, conversation, .. } = Whose::of(table, key);
        let whole = || "it cannot be read";
        let letter = key.first().copied();
        let hasher = crate::digest::RowHasher::of(self.space);
        if space.is_some_and(|space| space != self.space) {
            return Err("it is of another space");
        }
        match (table, letter) {
            (Table::Log, _) => Ok(()),
            (Table::Erasures, _) => {
                let row: Erasure = tables::open(key, value).map_err(|_| whole())?;
                self.erasures.add(&hasher.row(table, key, &tables::content(&row)));
                self.erased_messages += u64::from(matches!(row, Erasure::Message { .. }));
                Ok(())
            }
            (Table::Meta, Some(OriginRow::LETTER)) => Ok(()),
            (Table::Meta, Some(QuarantineRow::LETTER)) => {
                let row: QuarantineRow = tables::open(key, value).map_err(|_| whole())?;
                let (origin, seq) = QuarantineRow::parse(key).map_err(|_| whole())?;
                self.quarantine.add(&hasher.row(table, &origin.0, &seq.to_be_bytes()));
                self.strays.insert(row.conversation.unwrap_or(ConversationId(origin.0)));
                Ok(())
            }
            (Table::Meta, _) => Err("it is this node's own to write"),
            (Table::Index, Some(NameRow::LETTER | MembershipRow::LETTER)) => Ok(()),
            (Table::Index, Some(LateRow::LETTER)) => Err("it is this node's own to write"),
            (Table::Index, Some(ConversationRow::LETTER)) => {
                let row: ConversationRow = tables::open(key, value).map_err(|_| whole())?;
                let id = ConversationId::of(self.space, &row.name, row.incarnation);
                if conversation != Some(id) || !self.conversations.insert(id) {
                    return Err("its conversation is of another space, or came before");
                }
                self.sum.add(&row.sum);
                self.messages = self.messages.saturating_add(row.messages);
                Ok(())
            }
            (Table::Bodies, _) if BodyKey::quarantined_entry(key).is_some() => {
                let known = conversation.is_some_and(|id| {
                    self.strays.contains(&id) || self.conversations.contains(&id)
                });
                known.then_some(()).ok_or("its conversation did not come before it")
            }
            (Table::Index | Table::Segments | Table::Timeline | Table::Bodies, _) => {
                if table == Table::Timeline {
                    let place = TimelineRow::parse(key).map_err(|_| whole())?;
                    self.clock = self.clock.max(place.front);
                }
                let known = conversation.is_some_and(|id| self.conversations.contains(&id));
                known.then_some(()).ok_or("its conversation did not come before it")
            }
        }
    }

    /// Ends the import: all rows are durable in `view`, and come to what was announced. `ahead`
    /// says of a place whether it lies too far ahead of this node's clock to be followed.
    ///
    /// # Errors
    /// When something is missing or damaged, or the rows come to something else; then the import
    /// is over.
    pub fn finish(
        self,
        view: &dyn View,
        ahead: impl Fn(Front) -> bool,
    ) -> Result<Batch, ImportError> {
        let row = SpaceRow {
            name: self.stamp.name.clone(),
            clock: Some(self.clock).filter(|clock| !ahead(*clock)).unwrap_or_default(),
            conversations: self.conversations.len() as u64,
            messages: self.messages,
            ahead: 0,
            sum: self.sum,
            erasures: self.erasures,
            erased_messages: self.erased_messages,
            quarantine: self.quarantine,
        };
        let differs = |what: &str| Err(ImportError::Differs(what.to_owned()));
        let point = &self.stamp.point;
        if vector_of(&read_origins(view, self.space)?) != point.vector {
            return differs("another vector");
        }
        if row.sum.digest() != point.digest
            || row.erasures.digest() != point.erasures
            || row.quarantine.digest() != point.quarantine
        {
            return differs("another digest");
        }
        let mut batch = Batch::default();
        tables::put(&mut batch, &self.space, &row);
        tables::delete::<StagingRow>(&mut batch, &self.space);
        // The rows are judged as they will be read: with the space's own row.
        let whole = Finished { below: view, batch: &batch };
        let mut verification = Verification::of_space(self.space);
        while !verification.is_done() {
            if let Some(damage) = verification.step(&whole, 4096).damage.first() {
                return Err(ImportError::Differs(damage.to_string()));
            }
        }
        Ok(batch)
    }
}

/// A view with the last batch laid over it, as far as single rows of `meta` go.
struct Finished<'a> {
    below: &'a dyn View,
    batch: &'a Batch,
}

impl View for Finished<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        match self.batch.get(table, key) {
            Some(value) => Ok(value.map(<[u8]>::to_vec)),
            None => self.below.get(table, key),
        }
    }

    fn scan<'a>(
        &'a self,
        table: Table,
        start: &[u8],
        end: &[u8],
        direction: crate::engine::Direction,
    ) -> crate::engine::Rows<'a> {
        let below = self.below.scan(table, start, end, direction);
        let above = self.batch.range(table, start, end);
        let above = above.filter_map(|(key, value)| Some(Ok((key.to_vec(), value?.to_vec()))));
        let hidden = move |row: &Result<crate::engine::Row, EngineError>| {
            let key = row.as_ref().map(|(key, _)| self.batch.get(table, key).is_some());
            !key.unwrap_or(false)
        };
        Box::new(below.filter(hidden).chain(above))
    }
}
