//! One person who writes.
//!
//! Invariant: a post is sent under one key until it is acknowledged, whichever region does it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};
use warbler_store::id::MessageId;
use warbler_store::name::Name;

use super::super::ledger::{Part, Post};
use super::super::stage::PLACES;
use super::{Shared, parsed, regions_from};
use crate::failure::Failure;
use warbler_client::NewMessage;
use warbler_client::Wait;

/// How many people write in each region.
pub(super) const WRITERS: usize = 4;

/// How many posts the people of one region make in a second.
pub(in crate::demo) const POSTS_PER_SECOND: u32 = 40;

/// The time from one post of a person to the next.
const PERIOD: Duration = Duration::from_millis(1_000 * WRITERS as u64 / POSTS_PER_SECOND as u64);

/// One post in so many answers something that was said in another region.
const ANSWER_EVERY: usize = 4;

/// How long somebody tries to get a post acknowledged.
const TRY_FOR: Duration = Duration::from_secs(20);

/// How long somebody waits, at most, before they try the next region.
const PAUSE: Duration = Duration::from_millis(50);

/// One person who writes.
pub(super) struct Writer {
    shared: Arc<Shared>,
    author: Name,
    home: usize,
    seat: usize,
    part: Part,
    regions: Vec<usize>,
    /// Where in `regions` they are served at present.
    at: usize,
}

impl Writer {
    /// The person in this seat of a region, who is served at home to begin with.
    pub(super) fn new(shared: Arc<Shared>, home: usize, seat: usize) -> Self {
        let author = shared.authors[home][seat].clone();
        let part = shared.ledger.part();
        Self { shared, author, home, seat, part, regions: regions_from(home), at: 0 }
    }

    /// Writes at a steady rate; ends when the last post is acknowledged.
    ///
    /// # Errors
    /// When no region acknowledges a post in time.
    pub(super) async fn write_until(mut self, end: Instant) -> Result<(), Failure> {
        let share = PERIOD.mul_f64(self.seat as f64 / WRITERS as f64);
        let mut turn = interval_at(Instant::now() + share, PERIOD);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0;
        loop {
            turn.tick().await;
            if Instant::now() >= end {
                return Ok(());
            }
            self.say(number).await?;
            number += 1;
        }
    }

    /// Says the next thing, wherever somebody takes it.
    async fn say(&mut self, number: usize) -> Result<(), Failure> {
        let shared = Arc::clone(&self.shared);
        let body = shared.sayings[self.saying(number) % shared.sayings.len()].clone();
        let heard = shared.ledger.heard(self.home);
        let answers = heard.filter(|_| number % ANSWER_EVERY == ANSWER_EVERY - 1);
        let author = self.author.clone();
        let message = NewMessage {
            body: &body,
            author: author.as_str(),
            reply_to: answers.map(|id| id.to_string()),
            ..NewMessage::default()
        };
        let sent = Instant::now();
        let (id, taken_by) = self.post(&message, &self.key(number), sent).await?;
        let acknowledged = Instant::now();
        let (home, part) = (self.home, self.part);
        let seen = Default::default();
        let post = Post { author, body, home, taken_by, sent, acknowledged, part, seen };
        shared.ledger.acknowledged(id, post);
        Ok(())
    }

    /// Everybody begins somewhere else in the list of sayings.
    fn saying(&self, number: usize) -> usize {
        let part = match self.part {
            Part::AllUp => 0,
            Part::OneDown => 31,
        };
        (self.home * WRITERS + self.seat) * 97 + part + number
    }

    /// Keys are the author's own, so a number in each part is enough.
    fn key(&self, number: usize) -> String {
        match self.part {
            Part::AllUp => format!("all-up-{number}"),
            Part::OneDown => format!("one-down-{number}"),
        }
    }

    /// Posts until some region acknowledges it, and tells which.
    async fn post(
        &mut self,
        message: &NewMessage<'_>,
        key: &str,
        sent: Instant,
    ) -> Result<(MessageId, usize), Failure> {
        let wait = Wait::default();
        let mut pause = interval(PAUSE);
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let region = self.regions[self.at];
            let space = &self.shared.spaces[region];
            match space.post(self.shared.conversation.as_str(), message, key, &wait).await {
                Ok((_, receipt)) => return Ok((parsed(&receipt.id)?, region)),
                Err(error) if sent.elapsed() > TRY_FOR => {
                    let who = format!("{} of {}", self.author, PLACES[self.home].region);
                    let tried = format!("{who} tried everywhere for {} s", TRY_FOR.as_secs());
                    return Err(Failure::from(error).cause(tried));
                }
                // It is gone, or lacks what is answered here: the next region.
                Err(_) => self.at = (self.at + 1) % self.regions.len(),
            }
            pause.tick().await;
        }
    }
}
