//! One follower: first what it missed, from the log, then what arrives.
//!
//! It is pulled by its connection: nothing is prepared for a reader who does not read, and one
//! who falls too far behind is told so and let go. Invariants: every entry above the position at
//! which the stream began is translated once, in causal order; none is passed over. Words are
//! handed out only if nothing was changed or taken away since they were read; otherwise they are
//! read again.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::response::sse::Event;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use warbler_store::reader::FollowError;
use warbler_store::replica::Applied;
use warbler_store::token::Token;

use super::translation::{Translation, Upcoming, What};
use crate::http::closed;
use crate::space::{Published, Space};

/// Messages read from the log at once, about.
const REPLAY_MESSAGES: usize = 64;

/// Where the follower stands.
enum Phase {
    /// It has not been told that it is ready.
    Opening,
    /// It gets what it missed.
    Replaying,
    /// It gets what arrives.
    Live,
    /// It was let go.
    Over,
}

/// See the module's comment.
pub(super) struct Follower {
    space: Space,
    translation: Arc<Translation>,
    /// Everything up to here was translated.
    at: Token,
    /// Everything up to here was handed out.
    told: Token,
    phase: Phase,
    pending: VecDeque<Upcoming>,
    /// How much had been forgotten when the words in `pending` were read.
    read_at: u64,
    live: broadcast::Receiver<Published>,
    closing: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    pub(super) fn new(
        space: &Space,
        translation: Translation,
        at: Token,
        (live, closing): (broadcast::Receiver<Published>, watch::Receiver<bool>),
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            space: space.clone(),
            translation: Arc::new(translation),
            told: at.clone(),
            at,
            phase: Phase::Opening,
            pending: VecDeque::new(),
            read_at: 0,
            live,
            closing,
            _permit: permit,
        }
    }

    /// The next event; `None` when the stream ends.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            if *self.closing.borrow() {
                return None;
            }
            let step = match (self.pending.pop_front(), &self.phase) {
                (Some(upcoming), _) => match self.hand_out(upcoming).await {
                    Ok(Some(event)) => return Some(event),
                    Ok(None) => Ok(()),
                    Err(why) => Err(why),
                },
                (None, Phase::Opening) => {
                    self.phase = Phase::Replaying;
                    return Some(self.bare("ready"));
                }
                (None, Phase::Replaying) => self.replay().await,
                (None, Phase::Live) => self.listen().await?,
                (None, Phase::Over) => return None,
            };
            if let Err(why) = step {
                tracing::info!(space = %self.space.name(), why, "a follower is let go");
                self.phase = Phase::Over;
                self.pending.clear();
                return Some(self.bare("dropped"));
            }
        }
    }

    /// The event that waited longest; `None` if there is nothing to say of it any more.
    async fn hand_out(&mut self, upcoming: Upcoming) -> Result<Option<Event>, String> {
        let Upcoming { token, what } = upcoming;
        let event = match what {
            What::Lasting(event) => Some(event),
            What::Message { prepared: Some(event), .. }
                if self.read_at == self.space.forgetting().count() =>
            {
                Some(event)
            }
            old @ (What::Message { .. } | What::Settings(_)) => {
                let translation = Arc::clone(&self.translation);
                read(move || Ok(translation.read(old)?)).await?
            }
        };
        self.told = token;
        Ok(event.map(|event| event.id(self.space.token_text(&self.told))))
    }

    /// Takes a piece of the log.
    ///
    /// An alias hides the message that it names, which may have become durable just now: so a
    /// piece with aliases never ends the replay, and what it hid is found in the next one.
    async fn replay(&mut self) -> Result<(), String> {
        let (translation, at) = (Arc::clone(&self.translation), self.at.clone());
        self.read_at = self.space.forgetting().count();
        let (at, events, level) = read(move || {
            let reader = translation.reader();
            let until = reader.vector()?;
            let applied = reader.applied_between(&at.vector, &until, REPLAY_MESSAGES)?;
            let (at, events) = translation.events(at, &applied, true)?;
            let hidden = applied.iter().any(|applied| !applied.aliases.is_empty());
            let level = !hidden && at.vector.covers(&until);
            Ok((at, events, level))
        })
        .await?;
        self.at = at;
        self.pending.extend(events);
        if self.pending.is_empty() {
            self.told = self.at.clone();
        }
        if level {
            self.phase = Phase::Live;
        }
        Ok(())
    }

    /// Waits for what arrives. `None` when the node stops.
    async fn listen(&mut self) -> Option<Result<(), String>> {
        let received = tokio::select! {
            received = self.live.recv() => received,
            () = closed(&mut self.closing) => return None,
        };
        match received {
            Ok(published) => Some(self.show(published).await),
            Err(RecvError::Lagged(batches)) => Some(Err(format!("it is {batches} batches behind"))),
            // The run is over, and its last batch may be durable without having been published.
            Err(RecvError::Closed) => {
                self.live = self.space.follow();
                self.phase = Phase::Replaying;
                Some(Ok(()))
            }
        }
    }

    async fn show(&mut self, published: Published) -> Result<(), String> {
        let Published { applied, forgets, forgotten } = published;
        self.check(&applied)?;
        self.read_at = forgotten;
        // What changes words may change those of a message in the same batch.
        let fresh = !forgets && forgotten == self.space.forgetting().count();
        let translation = Arc::clone(&self.translation);
        let at = self.at.clone();
        let shown = if translation.reads_for(&applied) {
            read(move || Ok(translation.events(at, &applied, fresh)?)).await
        } else {
            translation.events(at, &applied, fresh).map_err(|error| error.to_string())
        };
        let (at, events) = shown?;
        self.at = at;
        self.pending.extend(events);
        // What it says nothing of is not asked for again, either.
        if self.pending.is_empty() {
            self.told = self.at.clone();
        }
        Ok(())
    }

    /// Nothing may be missing between the position and what arrives.
    fn check(&self, applied: &[Applied]) -> Result<(), String> {
        let mut held = self.at.vector.clone();
        for Applied { origin, seq, .. } in applied {
            if *seq > held.get(*origin) + 1 {
                tracing::error!(%origin, seq, "entries are missing from what is published");
                return Err(format!("entries of {origin} are missing"));
            }
            held.raise(*origin, *seq);
        }
        Ok(())
    }

    /// An event that says only where the follower stands.
    fn bare(&self, name: &str) -> Event {
        Event::default().event(name).id(self.space.token_text(&self.told)).data("{}")
    }
}

/// Reads off the runtime's threads.
async fn read<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FollowError> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
    done.map_err(|error| error.to_string())
}
