//! One person who reads along.
//!
//! Invariant: whichever region serves it, the follower goes on after the token of the last event it has seen.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::super::ledger::Sighting;
use super::{Shared, parsed, regions_from};
use crate::failure::Failure;
use warbler_client::Message;
use warbler_client::{Followed, Stream};

/// How long a follower waits, at most, before it tries the next region.
const PAUSE: Duration = Duration::from_millis(50);

/// One person who reads along.
pub(super) struct Follower {
    shared: Arc<Shared>,
    home: usize,
    /// After which everything is still to be seen.
    token: String,
}

impl Follower {
    /// Somebody who lives in a region and has seen everything up to this token.
    pub(super) fn new(shared: Arc<Shared>, home: usize, token: String) -> Self {
        Self { shared, home, token }
    }

    /// Follows for ever; when the stream ends, it goes on at the next region.
    ///
    /// # Errors
    /// When a node sends what cannot be understood.
    pub(super) async fn follow(mut self, stream: Stream) -> Result<(), Failure> {
        let regions = regions_from(self.home);
        let mut at = 0;
        let mut open = Some(stream);
        let mut pause = interval(PAUSE);
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(stream) = open.take() {
                self.read(stream, at == 0).await?;
            }
            pause.tick().await;
            at = (at + 1) % regions.len();
            let space = &self.shared.spaces[regions[at]];
            // A region that is gone, or behind the token: the next one may do.
            open = space.open(&[self.shared.conversation.as_str()], Some(&self.token)).await.ok();
        }
    }

    /// Reads a stream to its end.
    async fn read(&mut self, mut stream: Stream, at_home: bool) -> Result<(), Failure> {
        loop {
            match stream.next().await {
                // Nobody changes or erases anything here.
                Ok(Some(
                    Followed::Ready { token }
                    | Followed::Changed { token, .. }
                    | Followed::Alias { token, .. }
                    | Followed::Settings { token, .. }
                    | Followed::Erased { token, .. },
                )) => self.token = token,
                Ok(Some(Followed::Message { token, message })) => {
                    self.saw(&message, at_home)?;
                    self.token = token;
                }
                Ok(Some(Followed::Dropped { token })) => {
                    self.token = token;
                    return Ok(());
                }
                Ok(None) | Err(_) => return Ok(()),
            }
        }
    }

    fn saw(&self, message: &Message, at_home: bool) -> Result<(), Failure> {
        let neighbours = &self.shared.authors[self.home];
        let foreign = neighbours.iter().all(|author| author.as_str() != message.author);
        let answers = message.reply_to.as_deref().map(parsed).transpose()?;
        let sighting = Sighting { id: parsed(&message.id)?, answers, foreign, at_home };
        self.shared.ledger.saw(self.home, &sighting);
        Ok(())
    }
}
