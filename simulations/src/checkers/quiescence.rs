//! P4: once converged, nothing flows but heartbeats.
//!
//! Protocols that never stop talking hide in busy worlds. Invariant: the count of a silent world
//! follows from the number of its links and the time alone.

use warbler_replication::frame::Frame;
use warbler_replication::replicator::HEARTBEAT_MILLIS;

use super::{Broken, Promise};

/// For how long the silence is listened to, in virtual milliseconds.
pub(crate) const SILENCE_MILLIS: u64 = 20_000;

/// Frames sent, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    vectors: u64,
    heartbeats: u64,
    asked: u64,
    entries: u64,
    pulls: u64,
    ends: u64,
}

/// See the module's comment.
#[derive(Default)]
pub(crate) struct Quiescence {
    counts: Counts,
}

impl Quiescence {
    /// From here on only heartbeats may be sent.
    pub(crate) fn begin(&mut self) {
        self.counts = Counts::default();
    }

    /// A frame was sent.
    pub(crate) fn sent(&mut self, frame: &Frame) {
        let counts = &mut self.counts;
        *match frame {
            Frame::Vector { .. } => &mut counts.vectors,
            Frame::Heartbeat { .. } => &mut counts.heartbeats,
            Frame::AskVector => &mut counts.asked,
            Frame::Entries(_) => &mut counts.entries,
            Frame::Pull { .. } => &mut counts.pulls,
            Frame::PullEnd { .. } => &mut counts.ends,
        } += 1;
    }

    /// The silence of `nodes` has lasted [`SILENCE_MILLIS`].
    pub(crate) fn end(&self, nodes: usize) -> Result<(), Broken> {
        let Counts { heartbeats, .. } = self.counts;
        let broken = |how: String| Err(Broken::new(Promise::Quiescence, how));
        if self.counts != (Counts { heartbeats, ..Counts::default() }) {
            return broken(format!("something flows in a converged world: {:?}", self.counts));
        }
        let ways = (nodes * (nodes - 1)) as u64;
        let each = SILENCE_MILLIS / HEARTBEAT_MILLIS;
        let (least, most) = (ways * (each - 1), ways * (each + 1));
        if (least..=most).contains(&heartbeats) {
            return Ok(());
        }
        broken(format!("{heartbeats} heartbeats in the silence, {least} to {most} were expected"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warbler_store::id::Digest;

    fn heartbeat() -> Frame {
        let zero = Digest([0; 32]);
        Frame::Heartbeat { vector: zero, aside: zero, projection: 1, space: zero }
    }

    #[test]
    fn one_frame_that_is_no_heartbeat_breaks_the_silence() {
        let mut checker = Quiescence::default();
        checker.sent(&Frame::AskVector);
        checker.begin();
        (0..20).for_each(|_| checker.sent(&heartbeat()));
        checker.end(2).expect("ten from each of two");
        checker.sent(&Frame::AskVector);
        checker.end(2).expect_err("a question");
    }

    #[test]
    fn too_many_or_too_few_heartbeats_break_it_too() {
        let mut checker = Quiescence::default();
        checker.end(2).expect_err("dead silence");
        (0..30).for_each(|_| checker.sent(&heartbeat()));
        checker.end(2).expect_err("chatter");
    }
}
