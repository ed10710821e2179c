//! Following a conversation: the last messages, then each new one, across lost connections.
//!
//! Invariant: nothing is skipped and nothing printed twice. The stream is opened *before* the page
//! is read, so what arrives between is in the stream, and what both hold is printed from the page;
//! after a loss the stream is resumed after the last event that was printed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Reading;
use crate::client::{ClientError, Followed, PageAt, Stream};
use crate::failure::Failure;
use crate::output::{one_line, remark};

/// The pause before the first try after a loss; it doubles with each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// The longest pause between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Prints the last `limit` messages and then what arrives, until output is closed.
///
/// # Errors
/// When the first connection fails, there is no such conversation, or a later request is refused
/// for good. A lost connection is no error: it is made again.
pub(super) async fn run(reading: &Reading, limit: usize) -> Result<(), Failure> {
    let mut stream = reading.space.follow(&reading.conversation, None).await?;
    let start = ready(&mut stream).await?;
    let page = reading.newest(PageAt::End, limit, Some(&start)).await?;
    page.iter().try_for_each(|message| reading.print(message))?;
    let mut follower = Follower {
        reading,
        printed: page.into_iter().map(|message| message.id).collect(),
        position: start,
        pause: BACKOFF_MIN,
    };
    loop {
        let loss = follower.drain(&mut stream).await?;
        stream = follower.reconnect(loss).await?;
    }
}

/// Reads up to the first event, which says where the stream stands.
async fn ready(stream: &mut Stream) -> Result<String, ClientError> {
    match stream.next().await? {
        Some(Followed::Ready { token } | Followed::Dropped { token }) => Ok(token),
        Some(Followed::Message { .. } | Followed::Changed { .. } | Followed::Erased { .. }) => {
            Err(stream.not_a_node("its stream began with a message".to_owned()))
        }
        None => Err(stream.not_a_node("its stream ended at once".to_owned())),
    }
}

struct Follower<'a> {
    reading: &'a Reading,
    /// The ids of the page, which the stream may bring again.
    printed: BTreeSet<String>,
    /// Where to resume.
    position: String,
    /// How long to wait before the next try.
    pause: Duration,
}

impl Follower<'_> {
    /// Prints what the stream brings until it ends, and says why it did.
    async fn drain(&mut self, stream: &mut Stream) -> Result<String, Failure> {
        loop {
            match stream.next().await {
                Ok(Some(event)) => self.on_event(event)?,
                Ok(None) => return Ok("the node has ended the stream".to_owned()),
                Err(error) => return passing(error).map_err(Failure::from),
            }
        }
    }

    fn on_event(&mut self, event: Followed) -> Result<(), Failure> {
        match event {
            Followed::Message { token, message } => {
                if !self.printed.contains(&message.id) {
                    self.reading.print(&message)?;
                }
                self.position = token;
                // Only what brought something counts as a connection that works.
                self.pause = BACKOFF_MIN;
            }
            Followed::Changed { token, message } => {
                self.reading.print_changed(&message)?;
                self.position = token;
                self.pause = BACKOFF_MIN;
            }
            Followed::Erased { token, erased } => {
                self.reading.print_erased(&erased)?;
                self.position = token;
                self.pause = BACKOFF_MIN;
            }
            Followed::Ready { token } => self.position = token,
            Followed::Dropped { token } => {
                self.position = token;
                remark("The node was faster than this terminal; going on from where it stopped.");
            }
        }
        Ok(())
    }

    /// Opens the stream again where it was lost, however long that takes.
    async fn reconnect(&mut self, mut loss: String) -> Result<Stream, Failure> {
        loop {
            remark(format_args!(
                "Connection lost ({}); trying again in {} ms.",
                one_line(&loss),
                self.pause.as_millis()
            ));
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(BACKOFF_MAX);
            match self.resume().await {
                Ok(stream) => {
                    remark("Following again.");
                    return Ok(stream);
                }
                Err(error) => loss = passing(error)?,
            }
        }
    }

    async fn resume(&mut self) -> Result<Stream, ClientError> {
        let space = &self.reading.space;
        let mut stream = space.follow(&self.reading.conversation, Some(&self.position)).await?;
        self.position = ready(&mut stream).await?;
        Ok(stream)
    }
}

/// What to tell of an error that may pass by itself; any other one is given back.
fn passing(error: ClientError) -> Result<String, ClientError> {
    let lost = matches!(error, ClientError::Unreachable { .. } | ClientError::NoAnswer { .. });
    let later = matches!(&error, ClientError::Refused { problem }
        if problem.status == 503 || matches!(problem.name(), "busy" | "behind"));
    if lost || later || error.is_gateway() { Ok(error.to_string()) } else { Err(error) }
}
