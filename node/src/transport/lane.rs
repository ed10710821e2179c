//! What waits to be sent to one peer in one space.
//!
//! It must not know of streams or connections. Its one invariant: the frames that wait, together
//! with those being written, never exceed their bound in bytes; a slow peer costs no more.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What may wait for one peer in one space, in bytes. One bound per space: a space whose reader is
/// stuck must not take the room of the others.
pub(super) const LANE_BYTES: usize = 8 * 1024 * 1024;

/// A bounded queue of frames that never blocks its sender.
#[derive(Debug, Default)]
pub(super) struct Lane {
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// The greatest frame, in bytes, while there is a connection.
    limit: Option<u32>,
    frames: VecDeque<Vec<u8>>,
    /// Of the frames here and of those that were taken and not yet written.
    bytes: usize,
    dropped: u64,
}

impl Lane {
    /// Takes frames of at most `limit` bytes from now on, beginning with none.
    pub(super) fn open(&self, limit: u32) {
        let mut queue = self.lock();
        *queue = Queue { limit: Some(limit), dropped: queue.dropped, ..Queue::default() };
    }

    /// Takes no frames any more and forgets those that wait.
    pub(super) fn close(&self) {
        let mut queue = self.lock();
        *queue = Queue { dropped: queue.dropped, ..Queue::default() };
    }

    /// Queues a frame. It is dropped and counted if there is no room or it is too long, and dropped
    /// without counting if there is no connection. Says whether it was queued.
    pub(super) fn offer(&self, frame: Vec<u8>) -> bool {
        let mut queue = self.lock();
        let Some(limit) = queue.limit else { return false };
        if frame.len() > limit as usize || queue.bytes + frame.len() > LANE_BYTES {
            queue.dropped += 1;
            return false;
        }
        queue.bytes += frame.len();
        queue.frames.push_back(frame);
        drop(queue);
        self.filled.notify_one();
        true
    }

    /// All frames that wait, once there are any. Call [`Self::written`] with their length when they
    /// need no room any more.
    pub(super) async fn take(&self) -> VecDeque<Vec<u8>> {
        loop {
            let frames = std::mem::take(&mut self.lock().frames);
            if !frames.is_empty() {
                return frames;
            }
            self.filled.notified().await;
        }
    }

    /// Gives back the room of `bytes` that were taken.
    pub(super) fn written(&self, bytes: usize) {
        let mut queue = self.lock();
        queue.bytes = queue.bytes.saturating_sub(bytes);
    }

    /// How many frames were dropped for want of room, ever.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: usize = 1024 * 1024;

    #[tokio::test]
    async fn a_full_lane_drops_and_counts_until_what_was_taken_is_written() {
        let lane = Lane::default();
        lane.open(2 * MEBIBYTE as u32);
        for _ in 0..8 {
            assert!(lane.offer(vec![0; MEBIBYTE]));
        }
        assert!(!lane.offer(vec![0; 1]), "the lane is full");

        let taken = lane.take().await;
        assert_eq!(taken.len(), 8);
        assert!(!lane.offer(vec![0; 1]), "what is being written still takes room");

        lane.written(8 * MEBIBYTE);
        assert!(lane.offer(vec![0; 1]));
        assert_eq!(lane.dropped(), 2);
    }

    #[tokio::test]
    async fn frames_of_an_old_connection_are_never_sent_on_a_new_one() {
        let lane = Lane::default();
        assert!(!lane.offer(vec![1]), "there is no connection yet");
        lane.open(10);
        assert!(lane.offer(vec![2]));
        lane.close();
        assert!(!lane.offer(vec![3]));
        lane.open(10);
        assert!(lane.offer(vec![4]));
        assert_eq!(lane.take().await, [vec![4]]);
        assert_eq!(lane.dropped(), 0, "only want of room is counted");
    }

    #[test]
    fn a_frame_above_the_agreed_limit_is_dropped() {
        let lane = Lane::default();
        lane.open(3);
        assert!(lane.offer(vec![0; 3]));
        assert!(!lane.offer(vec![0; 4]));
        assert_eq!(lane.dropped(), 1);
    }
}
