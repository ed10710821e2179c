//! The rows of messages: timeline, identities, threads, edits, reactions, and where words stand.
//!
//! Invariant: each record counts once, in whatever order it is taken in.

use std::collections::BTreeMap;

use super::{Expected, Forgotten, Share};
use crate::document::Scalar;
use crate::engine::EngineError;
use crate::erasure::Words;
use crate::id::{ConversationId, Identity};
use crate::record::{
    BodyReference, Edit, Header, MessageState, Rank, Reaction, RecordKey, Redaction, Revision,
    Statement,
};
use crate::replica::{front_of, words_of};
use crate::tables::{
    BodyKey, EditKey, EditRow, IdentityRow, MessageKey, ReactionKey, ReactionRow, RowType,
    ThreadKey, ThreadRow, TimelineRow,
};

/// What documents say of some messages of a conversation.
pub(crate) struct MessageClaims {
    conversation: ConversationId,
    share: Share,
    claims: BTreeMap<Identity, Claim>,
    faults: Vec<String>,
}

/// What documents say of one message.
#[derive(Default)]
struct Claim {
    /// Its copies, the canonical one first.
    copies: BTreeMap<(crate::id::Front, Vec<u8>), Header>,
    edits: BTreeMap<Rank, Edit>,
    redactions: BTreeMap<Rank, Redaction>,
    /// By whom and what, the last word.
    reactions: BTreeMap<Identity, ReactionRow>,
}

impl MessageClaims {
    /// Nothing, of the messages of `share`.
    pub(crate) fn new(conversation: ConversationId, share: Share) -> Self {
        Self { conversation, share, claims: BTreeMap::new(), faults: Vec::new() }
    }

    /// Takes in a record of a segment, if it is about a message of the share.
    pub(crate) fn take(&mut self, key: &str, scalar: &Scalar) {
        let read = RecordKey::from_text(key).and_then(|key| {
            let statement = Statement::decode(scalar.as_bytes())?;
            Ok((key, statement))
        });
        let (key, statement) = match read {
            Ok(read) => read,
            Err(error) => return self.faults.push(format!("a record that is none: {error}")),
        };
        let RecordKey { depth, origin, identity } = key;
        let message = statement.target().unwrap_or(identity);
        if !self.share.holds(message.tail()) {
            return;
        }
        let rank = Rank { depth, origin, front: front_of(&statement) };
        let claim = self.claims.entry(message).or_default();
        match statement {
            Statement::Post(header) => {
                claim.copies.insert((header.front, header.encode()), header);
            }
            Statement::Edit(edit) => drop(claim.edits.insert(rank, edit)),
            Statement::Redaction(redaction) => drop(claim.redactions.insert(rank, redaction)),
            Statement::Reaction(Reaction { user, emoji, on, .. }) => {
                let said = ReactionRow { rank, user, emoji, on };
                let held = claim.reactions.entry(identity).or_insert_with(|| said.clone());
                if held.rank < rank {
                    *held = said;
                }
            }
        }
    }

    /// The rows that this makes.
    ///
    /// # Errors
    /// When the erasure table cannot be read.
    pub(crate) fn expected(self, forgotten: &Forgotten<'_>) -> Result<Expected, EngineError> {
        let mut expected = Expected { faults: self.faults, ..Expected::default() };
        let mut identities: BTreeMap<[u8; 8], IdentityRow> = BTreeMap::new();
        for (identity, claim) in &self.claims {
            let Some(canonical) = claim.copies.values().next() else {
                let why = format!("records about message {identity}, which no document holds");
                expected.faults.push(why);
                continue;
            };
            let row = identities.entry(identity.tail()).or_default();
            for header in claim.copies.values() {
                row.place(*identity, header.front);
            }
            let message = Subject { conversation: self.conversation, identity: *identity, claim };
            let shown = message.rows(forgotten, canonical, &mut expected)?;
            message.words(forgotten, shown, &mut expected)?;
        }
        for (tail, row) in identities {
            expected.row(&(self.conversation, tail), &row);
        }
        Ok(expected)
    }
}

/// A message whose rows are computed.
struct Subject<'a> {
    conversation: ConversationId,
    identity: Identity,
    claim: &'a Claim,
}

impl Subject<'_> {
    /// The rows that readers find it by. Returns the place and the words that show, if any do.
    fn rows(
        &self,
        forgotten: &Forgotten<'_>,
        canonical: &Header,
        expected: &mut Expected,
    ) -> Result<Option<(MessageKey, BodyReference)>, EngineError> {
        let Self { conversation, identity, claim } = *self;
        let front = canonical.front;
        if forgotten.has_expired(front) {
            return Ok(None);
        }
        let key = MessageKey { conversation, front, identity };
        let erased = forgotten.is_erased(identity, &canonical.author, front)?;
        let mut state = MessageState { erased, ..MessageState::default() };
        for (rank, edit) in &claim.edits {
            state.revise(*rank, edit);
            let key = EditKey { conversation, message: identity, rank: *rank };
            expected.row(&key, &EditRow(Revision::of(*rank, edit)));
        }
        for (rank, redaction) in &claim.redactions {
            state.withdraw(*rank, redaction);
        }
        for (reaction, said) in &claim.reactions {
            if said.on {
                state.count(&said.emoji, true);
            }
            let key = ReactionKey { conversation, message: identity, reaction: *reaction };
            expected.row(&key, said);
        }
        if let Some(root) = canonical.thread {
            expected.row(&ThreadKey { conversation, root, front, identity }, &ThreadRow);
        }
        let row = TimelineRow { state, header: canonical.clone() };
        expected.row(&key, &row);
        Ok((!erased).then(|| (key, row.body())))
    }

    /// Where the words of its copies and edits stand, but for those that are covered.
    fn words(
        &self,
        forgotten: &Forgotten<'_>,
        shown: Option<(MessageKey, BodyReference)>,
        expected: &mut Expected,
    ) -> Result<(), EngineError> {
        let posts = self.claim.copies.values().cloned().map(Statement::Post);
        let edits = self.claim.edits.values().cloned().map(Statement::Edit);
        for statement in posts.chain(edits) {
            let words = words_of(self.conversation, self.identity, &statement);
            let (Some(words), Some(reference)) = (words, statement.body()) else { continue };
            if forgotten.covers(&words)? {
                continue;
            }
            let key = match shown {
                Some((key, body)) if body == reference => BodyKey::Shown(key),
                Some(_) | None => self.behind(&words, reference),
            };
            expected.words.insert(crate::record::Body::key(&key), reference);
        }
        Ok(())
    }

    fn behind(&self, words: &Words<'_>, reference: BodyReference) -> BodyKey {
        BodyKey::Behind {
            conversation: self.conversation,
            front: words.front.unwrap_or_default(),
            identity: self.identity,
            digest: reference.digest,
        }
    }
}
