//! Following a space for as long as one likes: lost streams are opened again where they were.
//!
//! Invariant: nothing is skipped in silence. Each stream is resumed after the token of the last
//! event that was handed out, here or in another region; where that cannot be done, the follower
//! is told so, before anything else.

use std::time::Duration;

use crate::error::ClientError;
use crate::patience::{Backoff, Obstacle};
use crate::session::Adopted;
use crate::space::Space;
use crate::stream::{Followed, Stream};

/// What a follower hears.
#[derive(Debug)]
pub enum Happening {
    /// Something arrived.
    Arrived(Followed),
    /// The stream was lost; it is opened again, here or in the next region, after a pause.
    Lost {
        /// In the words of whoever noticed.
        why: String,
        /// The pause.
        pause: Duration,
    },
    /// It was opened again.
    Resumed {
        /// The URL of the node that serves it.
        region: String,
    },
    /// No region has all that this follower has seen, and it goes on from what one holds: what it
    /// saw beyond that may come again.
    Adopted(Adopted),
    /// The log does not go back as far as this follower: what happened in between was passed over.
    /// Whoever needs it reads the conversations anew.
    Gap,
}

/// A follower. See [`Space::follow`].
#[derive(Debug)]
pub struct Follow {
    space: Space,
    conversations: Vec<String>,
    /// After which everything is still to be heard.
    position: String,
    stream: Option<Stream>,
    backoff: Backoff,
    /// Regions in a row that lacked what was seen.
    behind: usize,
}

impl Space {
    /// Follows what arrives in `conversations` (in all, if none is named), from now on or after
    /// `token`, also one that another region gave.
    ///
    /// # Errors
    /// When the first stream cannot be opened, in any region.
    pub async fn follow(
        &self,
        conversations: &[&str],
        token: Option<&str>,
    ) -> Result<Follow, ClientError> {
        let client = self.client();
        let mut tried = 1;
        let stream = loop {
            let place = client.regions().current();
            let wait = client.patience().behind;
            match self.open_within(conversations, token, wait).await {
                Ok(stream) => break stream,
                Err(failed) if failed.obstacle.is_none() || tried == client.regions().len() => {
                    return Err(failed.error);
                }
                Err(_) => client.regions().leave(place),
            }
            tried += 1;
        };
        let mut follow = Follow {
            space: self.clone(),
            conversations: conversations.iter().map(|&name| name.to_owned()).collect(),
            position: String::new(),
            stream: None,
            backoff: Backoff::default(),
            behind: 0,
        };
        follow.take(stream).await?;
        Ok(follow)
    }
}

impl Follow {
    /// Where the follower stands: a token to go on from at another time.
    #[must_use]
    pub fn position(&self) -> &str {
        &self.position
    }

    /// The next thing that happens. Waits for it as long as it takes, and comes back from whatever
    /// may pass.
    ///
    /// # Errors
    /// When a node refuses for good, or sends what cannot be understood.
    pub async fn next(&mut self) -> Result<Happening, ClientError> {
        let Some(stream) = &mut self.stream else { return self.reopen().await };
        let place = stream.place();
        match stream.next().await {
            Ok(Some(followed)) => {
                followed.token().clone_into(&mut self.position);
                if let Some(session) = self.space.session() {
                    session.saw(&self.position);
                }
                if !matches!(followed, Followed::Ready { .. } | Followed::Dropped { .. }) {
                    // Only what brought something counts as a stream that works.
                    self.backoff.reset();
                }
                Ok(Happening::Arrived(followed))
            }
            Ok(None) => Ok(self.on_loss(place, "the node has ended the stream".to_owned())),
            Err(error) if error.obstacle().is_some() => Ok(self.on_loss(place, error.to_string())),
            Err(error) => Err(error),
        }
    }

    fn on_loss(&mut self, place: usize, why: String) -> Happening {
        self.stream = None;
        self.space.client().regions().leave(place);
        Happening::Lost { why, pause: self.backoff.lengthen() }
    }

    /// Opens the stream again where it was lost.
    async fn reopen(&mut self) -> Result<Happening, ClientError> {
        let client = self.space.client().clone();
        let place = client.regions().current();
        tokio::time::sleep(self.backoff.take()).await;
        let names: Vec<&str> = self.conversations.iter().map(String::as_str).collect();
        let count = client.regions().len();
        let wait = client.patience().behind / u32::try_from(count).unwrap_or(u32::MAX);
        let opened = self.space.open_within(&names, Some(&self.position), wait).await;
        let failed = match opened {
            Ok(stream) => return self.resume(stream).await,
            Err(failed) => failed,
        };
        let (error, obstacle) = (failed.error, failed.obstacle);
        if error.problem_name() == Some("trimmed")
            && let ClientError::Refused { problem } = &error
            && let Some(fresh) = &problem.session
        {
            self.position.clone_from(fresh);
            return Ok(Happening::Gap);
        }
        match obstacle {
            None => Err(error),
            Some(Obstacle::Behind) => {
                self.behind += 1;
                if self.behind < count || !client.adopts() {
                    return Ok(self.on_loss(place, error.to_string()));
                }
                self.behind = 0;
                match error.adoptable(client.regions().url(place).as_str()) {
                    Some((token, adopted)) => {
                        self.position = token;
                        Ok(Happening::Adopted(adopted))
                    }
                    None => Err(error),
                }
            }
            Some(Obstacle::Away | Obstacle::Busy) => Ok(self.on_loss(place, error.to_string())),
        }
    }

    async fn resume(&mut self, stream: Stream) -> Result<Happening, ClientError> {
        let place = stream.place();
        match self.take(stream).await {
            Ok(()) => {
                let region = self.space.client().regions().url(place).to_string();
                Ok(Happening::Resumed { region })
            }
            Err(error) if error.obstacle().is_some() => Ok(self.on_loss(place, error.to_string())),
            Err(error) => Err(error),
        }
    }

    async fn take(&mut self, mut stream: Stream) -> Result<(), ClientError> {
        self.position = stream.ready().await?;
        if let Some(session) = self.space.session() {
            session.saw(&self.position);
        }
        self.behind = 0;
        self.stream = Some(stream);
        Ok(())
    }
}
