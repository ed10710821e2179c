//! The one thread for slow chores: building snapshots, and getting erased bytes out of files.
//!
//! Replica threads hand chores in and hear of their end in their mailboxes. It knows no documents
//! and no space. Invariant: it does one chore at a time and in their order, so that chores never
//! take more than one core from those who write and read.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use warbler_store::engine::{EngineError, EngineSlot, SharedEngine};
use warbler_store::id::{SegmentId, SpaceId};
use warbler_store::replica::{Built, KeyRange};

/// Something slow to do, and whom to tell how it went.
pub(crate) enum Chore {
    /// Build a snapshot. `None` is told if there is nothing to build, or it cannot be built.
    Snapshot {
        /// In which space.
        space: SpaceId,
        /// Of which document.
        document: SegmentId,
        /// Called once, from the caretaker's thread.
        done: Box<dyn FnOnce(Option<Built>) + Send>,
    },
    /// Make bytes that were erased leave the files.
    Purge {
        /// Where they lay.
        ranges: Vec<KeyRange>,
        /// Called once, from the caretaker's thread.
        done: Box<dyn FnOnce(Result<(), EngineError>) + Send>,
    },
}

/// A handle for handing in chores. The thread ends when the last handle is dropped and what was
/// handed in is done.
#[derive(Clone)]
pub(crate) struct Caretaker {
    chores: Sender<Chore>,
}

impl Caretaker {
    /// Starts the thread over `engine`.
    pub(crate) fn start(engine: EngineSlot) -> std::io::Result<(Self, JoinHandle<()>)> {
        Self::start_with(engine, purge)
    }

    fn start_with(
        engine: EngineSlot,
        purge: impl Fn(&SharedEngine, &[KeyRange]) -> Result<(), EngineError> + Send + 'static,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (chores, waiting) = channel();
        let thread = std::thread::Builder::new()
            .name("caretaker".to_owned())
            .spawn(move || work(&engine, &waiting, purge))?;
        Ok((Self { chores }, thread))
    }

    /// Hands in a chore. Who does so bounds how many wait.
    pub(crate) fn hand_in(&self, chore: Chore) {
        if self.chores.send(chore).is_err() {
            tracing::error!("the caretaker has ended; a chore is lost");
        }
    }
}

fn work(
    engine: &EngineSlot,
    waiting: &Receiver<Chore>,
    purge: impl Fn(&SharedEngine, &[KeyRange]) -> Result<(), EngineError>,
) {
    while let Ok(chore) = waiting.recv() {
        let begun = Instant::now();
        match chore {
            Chore::Snapshot { space, document, done } => {
                done(build(engine, space, document));
                tracing::debug!(?document, took = ?begun.elapsed(), "a snapshot was built");
            }
            Chore::Purge { ranges, done } => {
                let purged = engine.current().and_then(|engine| purge(&engine, &ranges));
                tracing::debug!(ranges = ranges.len(), took = ?begun.elapsed(), ?purged, "purged");
                done(purged);
            }
        }
    }
}

fn build(engine: &EngineSlot, space: SpaceId, document: SegmentId) -> Option<Built> {
    // While the store is being opened again there is nothing to build from.
    let engine = engine.current().ok()?;
    let view = engine.view();
    Built::of(&*view, space, document).unwrap_or_else(|error| {
        tracing::error!(?document, %error, "no snapshot can be made; its entries stay in the log");
        None
    })
}

/// Makes the bytes of erased rows in `ranges` leave the files of `engine`. The one place that
/// does: everything else only asks for it.
fn purge(engine: &SharedEngine, ranges: &[KeyRange]) -> Result<(), EngineError> {
    engine.purge(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;
    use warbler_store::engine::{MemoryEngine, Table};
    use warbler_store::id::ConversationId;

    /// How long anything may take; far more than it does.
    const DEADLINE: Duration = Duration::from_secs(10);

    #[test]
    fn chores_are_done_in_their_order_and_each_end_is_told() {
        let engine = EngineSlot::from(Arc::new(MemoryEngine::new()));
        let fails = |_: &SharedEngine, ranges: &[KeyRange]| match ranges {
            [] => Err(EngineError::Failed("nothing to purge".to_owned())),
            _ => Ok(()),
        };
        let (caretaker, thread) = Caretaker::start_with(engine, fails).expect("a thread");
        let (told, ends) = channel();
        let range = (Table::Bodies, vec![1], vec![2]);
        for ranges in [vec![range], vec![]] {
            let told = told.clone();
            let done = Box::new(move |purged: Result<(), EngineError>| {
                told.send(purged.is_ok()).expect("heard");
            });
            caretaker.hand_in(Chore::Purge { ranges, done });
        }
        let done = Box::new(move |built: Option<Built>| {
            told.send(built.is_some()).expect("heard");
        });
        let document = SegmentId { conversation: ConversationId([1; 16]), ordinal: 7 };
        caretaker.hand_in(Chore::Snapshot { space: SpaceId([1; 16]), document, done });
        let ends: Vec<bool> =
            (0..3).map(|_| ends.recv_timeout(DEADLINE).expect("an end")).collect();
        assert_eq!(ends, [true, false, false], "purged, failed, nothing to build");
        drop(caretaker);
        thread.join().expect("it ends with its last handle");
    }
}
