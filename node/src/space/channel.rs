//! Where a space's followers listen.
//!
//! Invariant: whoever listens across a failed write learns of it. The outcome of a batch that
//! failed is unknown: if it became durable after all, nobody publishes it, so every channel ends
//! with its run, and who follows reads what it missed from the log.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::broadcast;

/// How many batches a follower may lag behind before it must resume from its token.
const FOLLOWER_BATCHES: usize = 256;

/// A channel to all followers. Clones are the same channel.
#[derive(Clone)]
pub(crate) struct Channel<T> {
    current: Arc<RwLock<broadcast::Sender<T>>>,
}

impl<T: Clone> Channel<T> {
    pub(crate) fn new() -> Self {
        Self { current: Arc::new(RwLock::new(broadcast::Sender::new(FOLLOWER_BATCHES))) }
    }

    /// Tells whoever follows; nobody may.
    pub(crate) fn send(&self, what: T) {
        let _ = self.current.read().unwrap_or_else(PoisonError::into_inner).send(what);
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<T> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).subscribe()
    }

    /// Ends the channel for those who listen now; they may subscribe again.
    pub(crate) fn begin_anew(&self) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = broadcast::Sender::new(FOLLOWER_BATCHES);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast::error::TryRecvError;

    use super::*;

    #[test]
    fn a_follower_gets_what_is_sent_and_learns_of_the_end_of_the_run() {
        let channel = Channel::new();
        channel.send(0);
        let mut follower = channel.subscribe();
        channel.send(1);
        channel.begin_anew();
        channel.send(2);
        assert_eq!(follower.try_recv(), Ok(1));
        assert_eq!(follower.try_recv(), Err(TryRecvError::Closed));

        let mut again = channel.subscribe();
        channel.send(3);
        assert_eq!(again.try_recv(), Ok(3));
    }
}
