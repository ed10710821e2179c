//! What followers are told of, and how they learn that words on their way to them are old.
//!
//! A follower that lags holds words in memory, which may be edited, redacted or erased meanwhile.
//! Invariant: before a batch that changes or takes away words is published, the count that each
//! batch carries has moved; so who finds the count of a batch below the present one knows that
//! its words must be read again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use warbler_store::id::Digest;
use warbler_store::replica::Applied;

/// What became durable in one batch.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    /// The entries, in causal order.
    pub(crate) applied: Arc<Vec<Applied>>,
    /// Whether it changes or takes away words, maybe those that it brings itself.
    pub(crate) forgets: bool,
    /// The count when it was published, this batch included.
    pub(crate) forgotten: u64,
}

/// Counts batches that changed or took away words of before. Clones count the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Forgetting {
    count: Arc<AtomicU64>,
}

impl Forgetting {
    /// The present count.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Makes all words that are on their way old: what became of them is not known.
    pub(crate) fn begin_anew(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// What is to be published of a batch. `erasures` is the digest of the erasure table now and
    /// before: rows may take effect before the entries that carry them.
    pub(crate) fn publish(
        &self,
        applied: &Arc<Vec<Applied>>,
        erasures: (Digest, Digest),
    ) -> Published {
        let changes = |applied: &Applied| !applied.changed.is_empty() || !applied.erased.is_empty();
        let forgets = erasures.0 != erasures.1 || applied.iter().any(changes);
        if forgets {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
        Published { applied: Arc::clone(applied), forgets, forgotten: self.count() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warbler_store::id::{ConversationId, MessageId, OriginId};

    #[test]
    fn a_batch_that_changes_words_makes_those_before_it_old_and_a_post_does_not() {
        let forgetting = Forgetting::default();
        let (one, other) = (Digest([1; 32]), Digest([2; 32]));
        let plain = Applied::nothing(OriginId([1; 16]), 1);
        let mut changed = plain.clone();
        changed.changed.push((ConversationId([1; 16]), MessageId::MIN));

        let post = forgetting.publish(&Arc::new(vec![plain.clone()]), (one, one));
        assert_eq!(post.forgotten, forgetting.count());
        forgetting.publish(&Arc::new(vec![plain.clone(), changed]), (one, one));
        assert!(post.forgotten < forgetting.count());
        let edited = forgetting.publish(&Arc::new(vec![plain.clone()]), (one, one));
        forgetting.publish(&Arc::new(vec![plain]), (one, other));
        assert!(edited.forgotten < forgetting.count(), "a row that came by itself");
        assert!(!edited.forgets && !post.forgets);
    }
}
