//! Where everybody finds the engine, also after it had to be opened again.
//!
//! After a failed write nobody knows what the engine holds, so it is closed, opened anew and read
//! back, inside the process. Who reads asks the slot each time and lets go soon. Invariant: no two
//! engines over one directory: [`EngineSlot::close`] returns `Ok` only when the last handle to the
//! old one is gone, and the engine's own lock with it.

use std::mem;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::thread;
use std::time::Duration;

use super::{EngineError, SharedEngine};

/// How often [`EngineSlot::close`] looks whether the engine is held: every 5 ms.
const PAUSE: Duration = Duration::from_millis(5);

/// See the module's comment. Clones are the same slot.
#[derive(Clone)]
pub struct EngineSlot {
    state: Arc<RwLock<State>>,
}

enum State {
    Open(SharedEngine),
    /// Out of reach, and held by somebody still.
    Closing(SharedEngine),
    Closed,
}

impl From<SharedEngine> for EngineSlot {
    fn from(engine: SharedEngine) -> Self {
        Self { state: Arc::new(RwLock::new(State::Open(engine))) }
    }
}

impl<E: super::Engine + 'static> From<Arc<E>> for EngineSlot {
    fn from(engine: Arc<E>) -> Self {
        Self::from(engine as SharedEngine)
    }
}

impl EngineSlot {
    /// The engine. While it is held it cannot be opened again, so let go of it soon.
    ///
    /// # Errors
    /// [`EngineError::Reopening`] while it is closed.
    pub fn current(&self) -> Result<SharedEngine, EngineError> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(engine) => Ok(Arc::clone(engine)),
            State::Closing(_) | State::Closed => Err(EngineError::Reopening),
        }
    }

    /// Takes the engine out of reach, waits up to about `patience` for those who hold it, and
    /// closes it. `Ok` if it is closed already.
    ///
    /// # Errors
    /// [`EngineError::Busy`] if somebody still holds it. It stays out of reach; call again.
    pub fn close(&self, patience: Duration) -> Result<(), EngineError> {
        let mut waited = Duration::ZERO;
        loop {
            let Some(held) = self.close_unless_held() else { return Ok(()) };
            if waited >= patience {
                let why = format!("{held} still read from the engine that must be closed");
                return Err(EngineError::Busy(why));
            }
            thread::sleep(PAUSE);
            waited += PAUSE;
        }
    }

    /// Puts an engine into the slot.
    ///
    /// # Panics
    /// If the old one was not closed.
    pub fn open(&self, engine: SharedEngine) {
        let mut state = self.state();
        assert!(matches!(*state, State::Closed), "an engine is opened beside another");
        *state = State::Open(engine);
    }

    /// Closes the engine, or says how many hold it.
    fn close_unless_held(&self) -> Option<usize> {
        let mut state = self.state();
        match mem::replace(&mut *state, State::Closed) {
            State::Closed => None,
            State::Open(engine) | State::Closing(engine) => {
                // Nobody can get another handle from here, so one handle is ours for good.
                let others = Arc::strong_count(&engine) - 1;
                if others > 0 {
                    *state = State::Closing(engine);
                    return Some(others);
                }
                // Under the lock: nobody may see `Closed` before the engine is.
                drop(engine);
                None
            }
        }
    }

    fn state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Batch, MemoryEngine, RocksEngine, Table};

    const NOT_AT_ALL: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_secs(30);

    fn is_held(slot: &EngineSlot) -> bool {
        matches!(slot.close(NOT_AT_ALL), Err(EngineError::Busy(_)))
    }

    #[test]
    fn a_closed_engine_is_out_of_reach_until_the_next_is_opened() {
        let slot = EngineSlot::from(Arc::new(MemoryEngine::new()) as SharedEngine);
        let reader = slot.clone();
        reader.current().expect("open");
        slot.close(NOT_AT_ALL).expect("nobody holds it");
        slot.close(NOT_AT_ALL).expect("it is closed");
        assert!(matches!(reader.current(), Err(EngineError::Reopening)));
        slot.open(Arc::new(MemoryEngine::new()));
        reader.current().expect("open again");
    }

    #[test]
    fn a_reader_goes_on_with_the_engine_it_holds_and_the_closing_waits_for_it() {
        let slot = EngineSlot::from(Arc::new(MemoryEngine::new()) as SharedEngine);
        let held = slot.current().expect("open");
        assert!(is_held(&slot));
        assert!(matches!(slot.current(), Err(EngineError::Reopening)), "no new readers");
        held.get(Table::Meta, b"a").expect("the reader's engine still reads");

        let waiting = slot.clone();
        let closing = thread::spawn(move || waiting.close(LONG));
        assert!(!closing.is_finished());
        drop(held);
        closing.join().expect("no panic").expect("closed once the reader was done");
    }

    #[test]
    #[should_panic(expected = "beside another")]
    fn an_engine_is_not_opened_while_another_is_held() {
        let slot = EngineSlot::from(Arc::new(MemoryEngine::new()) as SharedEngine);
        let _held = slot.current().expect("open");
        assert!(is_held(&slot));
        slot.open(Arc::new(MemoryEngine::new()));
    }

    /// What closing is for: RocksDB locks its directory, against this process too.
    #[test]
    fn once_closed_the_same_directory_can_be_opened_and_holds_what_was_persisted() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let open = || RocksEngine::open(directory.path()).map(|it| Arc::new(it) as SharedEngine);
        let slot = EngineSlot::from(open().expect("opens"));
        let mut batch = Batch::default();
        batch.put(Table::Log, b"a".to_vec(), b"1".to_vec());
        slot.current().expect("open").persist(&batch).expect("persisted");

        for _ in 0..3 {
            assert!(matches!(open().err(), Some(EngineError::Locked { .. })));
            slot.close(NOT_AT_ALL).expect("nobody holds it");
            slot.open(open().expect("the lock is free"));
            let engine = slot.current().expect("open");
            assert_eq!(engine.get(Table::Log, b"a").expect("reads"), Some(b"1".to_vec()));
        }
    }
}
