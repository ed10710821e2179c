//! P3: equal version vectors mean equal digests, at every moment. P4: all nodes converge in time.
//!
//! Stronger than comparing nodes at one moment: the digest of a vector is kept for ever, so a node
//! that stands where another stood long ago must look as that one looked.

use std::collections::BTreeMap;

use warbler_store::id::Digest;
use warbler_store::record::Message;
use warbler_store::replica::Point;

use super::{Broken, Promise};

/// How long after the end of all trouble every node must hold the same, in virtual milliseconds.
/// Longest way: a heartbeat tells that something was lost (2 s), the pull that asks for it was
/// itself lost just before and is given up (5 s) and not repeated at once (0.5 s), and a second
/// origin that the first one's entries wait for takes the same way again.
pub(crate) const BOUND_MILLIS: u64 = 15_000;

/// A whole timeline of a space, conversation by conversation.
pub(crate) type Timelines = Vec<Vec<Message>>;

/// See the module's comment.
#[derive(Default)]
pub(crate) struct Convergence {
    /// The digest of the space at each vector, and erasures and quarantine beside it, that any
    /// node ever held, and who held it first.
    seen: BTreeMap<(Digest, Digest), (Digest, usize)>,
}

impl Convergence {
    /// `node` holds this durably.
    pub(crate) fn durable(&mut self, node: usize, point: &Point) -> Result<(), Broken> {
        let state = (point.vector.digest(), point.aside());
        let (first, holder) = *self.seen.entry(state).or_insert((point.digest, node));
        if first == point.digest {
            return Ok(());
        }
        let how = format!(
            "node {node} holds the vector that node {holder} held, but its digest is {}, not {first}",
            point.digest
        );
        Err(Broken::new(Promise::Convergence, how))
    }

    /// The bound has passed: all nodes must hold the same and show the same.
    pub(crate) fn at_the_end(
        &self,
        points: &[Option<Point>],
        timelines: &[Timelines],
    ) -> Result<(), Broken> {
        let broken = |how: String| Err(Broken::new(Promise::Convergence, how));
        let Some(Some(first)) = points.first() else {
            return broken("node 0 does not run".to_owned());
        };
        for (node, point) in points.iter().enumerate() {
            let Some(point) = point else { return broken(format!("node {node} does not run")) };
            if point.vector != first.vector {
                let lacks = first.vector.entries_above(&point.vector);
                let more = point.vector.entries_above(&first.vector);
                return broken(format!(
                    "{BOUND_MILLIS} ms after the calm, node {node} lacks {lacks} entries that node \
                     0 holds and holds {more} that node 0 lacks"
                ));
            }
            if point.digest != first.digest {
                return broken(format!("the digests of nodes 0 and {node} differ at the end"));
            }
        }
        for (node, timeline) in timelines.iter().enumerate() {
            if timeline != &timelines[0] {
                return broken(format!("nodes 0 and {node} show different timelines at the end"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warbler_store::id::OriginId;

    fn point(seq: u64, digest: u8) -> Point {
        let vector = [(OriginId([1; 16]), seq)].into_iter().collect();
        let (erasures, quarantine) = (Digest([0; 32]), Digest([0; 32]));
        Point { vector, digest: Digest([digest; 32]), erasures, quarantine }
    }

    #[test]
    fn a_vector_has_one_digest_for_ever() {
        let mut checker = Convergence::default();
        checker.durable(0, &point(1, 1)).expect("the first to hold it");
        checker.durable(0, &point(2, 2)).expect("another vector");
        checker.durable(1, &point(1, 1)).expect("as it was on node 0");
        checker.durable(1, &point(2, 1)).expect_err("not as it was on node 0");
    }

    #[test]
    fn a_node_that_lacks_an_entry_at_the_end_has_not_converged() {
        let checker = Convergence::default();
        let points = [Some(point(2, 2)), Some(point(1, 2))];
        let broken = checker.at_the_end(&points, &[vec![], vec![]]).expect_err("one is behind");
        assert_eq!(broken.promise, Promise::Convergence);
        checker.at_the_end(&[Some(point(2, 2)), None], &[]).expect_err("one is down");
        checker.at_the_end(&[Some(point(2, 2)), Some(point(2, 2))], &[]).expect("equal");
    }
}
