//! Reading everything back: slowly all the time, and at once when asked.
//!
//! A scrub walks the store a slice at a time and starts again when it is through; bytes that rot
//! are found before they are needed. Invariant: it changes nothing, holds no view for longer than
//! a slice, and writers do not wait for it.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use warbler_store::engine::{EngineError, EngineSlot};
use warbler_store::verify::{Damage, Slice, Verification};

/// Rows of a slice of the scrub.
const SLICE_ROWS: usize = 256;
/// Pause after each slice: some five thousand rows a second, a million in a few minutes.
const PAUSE: Duration = Duration::from_millis(50);
/// From the end of a walk to the beginning of the next: a day.
const REST: Duration = Duration::from_secs(24 * 60 * 60);
/// Rows of a slice when somebody waits.
const ASKED_ROWS: usize = 4096;
/// The most findings that are kept, and told.
const MAX_FINDINGS: usize = 256;

/// What the scrub found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Rows read in the walk under way.
    pub rows: u64,
    /// When the last whole walk ended.
    pub walked: Option<SystemTime>,
    /// What is damaged, as far as the last walk and this one have found; the latest last.
    pub damage: VecDeque<String>,
}

/// What reading everything at once came to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Rows read.
    pub rows: u64,
    /// What is damaged: files first, then rows; at most 256 sentences.
    pub damage: Vec<String>,
    /// How many findings there were in all.
    pub found: u64,
}

/// The thread of a scrub. It ends when `stop` is dropped.
pub(crate) struct Scrubbing {
    pub(crate) stop: SyncSender<()>,
    pub(crate) thread: JoinHandle<()>,
}

/// A handle on the scrub. Clones are the same scrub.
#[derive(Clone)]
pub struct Scrub {
    engine: EngineSlot,
    findings: Arc<Mutex<Findings>>,
    /// Held while somebody has everything read at once.
    asked: Arc<Mutex<()>>,
}

impl Scrub {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(engine: EngineSlot) -> std::io::Result<(Self, Scrubbing)> {
        let scrub = Self { engine, findings: Arc::default(), asked: Arc::default() };
        let walker = scrub.clone();
        let (stop, stopped) = sync_channel(0);
        let thread = std::thread::Builder::new()
            .name("scrub".to_owned())
            .spawn(move || walker.walk_on(&stopped))?;
        Ok((scrub, Scrubbing { stop, thread }))
    }

    /// What was found so far.
    #[must_use]
    pub fn findings(&self) -> Findings {
        self.held().clone()
    }

    /// Reads every file and every row at once; slow. `None` if somebody else is having that done.
    ///
    /// # Errors
    /// When reading fails for another reason than damage.
    pub fn verify(&self) -> Result<Option<Report>, EngineError> {
        let Ok(_asked) = self.asked.try_lock() else { return Ok(None) };
        let mut report = Report::default();
        // Nobody may hold on to an engine that has to be opened again.
        let engine = self.engine.current()?;
        let mut go_on = |_| self.engine.current().is_ok();
        for damage in engine.check_files(&mut go_on)? {
            report.take(damage);
        }
        drop(engine);
        let mut verification = Verification::new();
        while !verification.is_done() {
            let engine = self.engine.current()?;
            let Slice { rows, damage } = verification.step(&*engine.view(), ASKED_ROWS);
            report.rows += rows;
            damage.iter().for_each(|damage| report.take(damage.to_string()));
        }
        Ok(Some(report))
    }

    fn held(&self) -> MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn walk_on(&self, stopped: &Receiver<()>) {
        let mut verification = Verification::new();
        let mut known = Vec::new();
        loop {
            let rest = if verification.is_done() { REST } else { PAUSE };
            match stopped.recv_timeout(rest) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
            if verification.is_done() {
                verification = Verification::new();
                self.held().rows = 0;
            }
            // While the engine is being opened again there is nothing to read.
            let Ok(engine) = self.engine.current() else { continue };
            let slice = verification.step(&*engine.view(), SLICE_ROWS);
            self.note(slice, &mut known);
            if verification.is_done() {
                self.end_walk(&mut known);
            }
        }
    }

    fn note(&self, slice: Slice, known: &mut Vec<Damage>) {
        let mut findings = self.held();
        findings.rows += slice.rows;
        for damage in slice.damage {
            if known.len() >= MAX_FINDINGS || known.contains(&damage) {
                continue;
            }
            tracing::error!(%damage, "the store is damaged");
            if findings.damage.len() == MAX_FINDINGS {
                findings.damage.pop_front();
            }
            findings.damage.push_back(damage.to_string());
            known.push(damage);
        }
    }

    /// What was found before and not again was repaired, or is gone.
    fn end_walk(&self, known: &mut Vec<Damage>) {
        let mut findings = self.held();
        findings.walked = Some(SystemTime::now());
        findings.damage = known.iter().map(Damage::to_string).collect();
        known.clear();
    }
}

impl Report {
    fn take(&mut self, damage: String) {
        self.found += 1;
        if self.damage.len() < MAX_FINDINGS {
            self.damage.push(damage);
        }
    }
}
