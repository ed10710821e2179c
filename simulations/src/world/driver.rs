//! The driver of each node's replicator: what the node's thread and its committer do.
//!
//! Invariants: one batch is at the disk at a time; `handle_written` comes after the disk has it;
//! outputs are drained after every input.

use std::sync::Arc;

use warbler_replication::replicator::Output;
use warbler_store::engine::{Batch, Engine, Table};
use warbler_store::id::Millis;
use warbler_store::overlay::Ticket;
use warbler_store::replica::{Applied, Sealed};

use super::{Step, World};
use crate::agenda::{Event, RunNumber};
use crate::checkers::{Broken, Promise};
use crate::mutant::Mutant;

/// After so many wakes at one moment a replicator runs in a circle.
const MOST_SPINS: u32 = 8;

impl World<'_> {
    /// Call after every input: drains the outputs and sees that the batch is ended soon.
    pub(super) fn after_input(&mut self, at: usize) -> Step {
        self.drain(at)?;
        let gather = self.dice.disk.below(self.faults.gather + 1);
        let run = self.nodes[at].run;
        if let Some(process) = &mut self.nodes[at].process
            && !process.ending
        {
            process.ending = true;
            self.agenda.enter(self.now + gather, Event::Idle { node: at, run });
        }
        Ok(())
    }

    pub(super) fn idle(&mut self, at: usize, run: RunNumber) -> Step {
        let now = self.nodes[at].now(self.now);
        let Some(process) = self.nodes[at].process_of(run) else { return Ok(()) };
        process.ending = false;
        process.replicator.handle_idle(now);
        self.drain(at)
    }

    pub(super) fn wake(&mut self, at: usize, run: RunNumber, when: Millis) -> Step {
        let now = self.nodes[at].now(self.now);
        let Some(process) = self.nodes[at].process_of(run) else { return Ok(()) };
        if process.wake != Some(when) {
            return Ok(());
        }
        process.wake = None;
        let spins = if process.spins.0 == now.elapsed { process.spins.1 + 1 } else { 0 };
        process.spins = (now.elapsed, spins);
        if spins > MOST_SPINS {
            let how = format!("node {at} asks to be woken again and again at {} ms", now.elapsed);
            return Err(Broken::new(Promise::Soundness, how));
        }
        process.replicator.handle_wake(now);
        self.after_input(at)
    }

    fn drain(&mut self, at: usize) -> Step {
        while let Some(process) = &mut self.nodes[at].process {
            let unsound = |how: String| Err(Broken::new(Promise::Soundness, how));
            match process.replicator.poll_output() {
                Output::Persist(sealed) => self.hand_to_disk(at, sealed)?,
                Output::Send { peer, frame } => self.send(at, peer, frame)?,
                Output::Answer { command, outcome } => self.take_answer(at, command, outcome)?,
                Output::Publish(sealed) => self.publish(at, &sealed)?,
                Output::Disconnect { peer, reason } => {
                    let peer = peer.short();
                    return unsound(format!(
                        "node {at} says that {peer} broke the protocol: {reason}"
                    ));
                }
                Output::Alarm(alarm) => return unsound(format!("node {at} alarms: {alarm}")),
                Output::Failed(error) => return unsound(format!("node {at} failed: {error}")),
                Output::WakeAt(when) => {
                    self.enter_wake(at, when);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn enter_wake(&mut self, at: usize, when: Millis) {
        let run = self.nodes[at].run;
        let Some(process) = &mut self.nodes[at].process else { return };
        if when != Millis::MAX && process.wake.is_none_or(|earliest| when < earliest) {
            process.wake = Some(when);
            let moment = when.saturating_mul(1_000).max(self.now);
            self.agenda.enter(moment, Event::Wake { node: at, run, at: when });
        }
    }

    fn hand_to_disk(&mut self, at: usize, sealed: Arc<Sealed>) -> Step {
        self.checkers.uniqueness.written(at, &sealed.own)?;
        let (run, ticket) = (self.nodes[at].run, sealed.ticket);
        let Some(process) = &mut self.nodes[at].process else { return Ok(()) };
        if process.flushing.replace(sealed).is_some() {
            let how = format!("node {at} hands a second batch to the disk");
            return Err(Broken::new(Promise::Soundness, how));
        }
        let (least, most) = self.faults.flush;
        let done = self.now + self.dice.disk.between(least, most);
        if self.plan.mutant == Some(Mutant::AnswersBeforeTheDisk) {
            self.agenda.enter(self.now, Event::Written { node: at, run, ticket });
        }
        self.agenda.enter(done, Event::Flushed { node: at, run });
        Ok(())
    }

    pub(super) fn flushed(&mut self, at: usize, run: RunNumber) -> Step {
        let Some(process) = self.nodes[at].process_of(run) else { return Ok(()) };
        let Some(sealed) = process.flushing.take() else { return Ok(()) };
        if self.persist(at, &sealed, false)? {
            let told = self.now + self.dice.disk.below(300);
            if self.plan.mutant != Some(Mutant::AnswersBeforeTheDisk) {
                let ticket = sealed.ticket;
                self.agenda.enter(told, Event::Written { node: at, run, ticket });
            }
            return Ok(());
        }
        // A failed write has an unknown outcome and is treated as a crash: the engine is opened
        // again, and a new run begins.
        self.story.torn_writes += 1;
        self.tell(at, || "a write fails: the engine is opened again".to_owned());
        self.lose_power(at)?;
        let soon = self.now + self.dice.disk.between(1_000, 100_000);
        let run = self.nodes[at].run;
        self.agenda.enter(soon, Event::Start { node: at, run });
        Ok(())
    }

    /// Writes a batch to the disk of a node. False if the write failed; it may be there all the
    /// same once the engine is opened again.
    pub(super) fn persist(
        &mut self,
        at: usize,
        sealed: &Sealed,
        dying: bool,
    ) -> Result<bool, Broken> {
        let spoilt = self.spoil(sealed, dying);
        let node = &mut self.nodes[at];
        let written = node.engine.persist(spoilt.as_ref().unwrap_or(&*sealed.batch)).is_ok();
        let kept = written || node.tear.take() == Some(true);
        if !written {
            node.engine.reopen();
        }
        if kept {
            self.story.batches += 1;
            self.checkers.causality.durable(at, sealed, &self.checkers.ledger)?;
        }
        Ok(written)
    }

    /// What a mutant's disk makes of a batch.
    fn spoil(&self, sealed: &Sealed, dying: bool) -> Option<Batch> {
        type Write<'a> = (Table, &'a [u8], Option<&'a [u8]>);
        let writes: Vec<Write<'_>> = sealed.batch.iter().collect();
        let in_timeline =
            |(table, _, value): &Write<'_>| *table == Table::Timeline && value.is_some();
        let lost = match self.plan.mutant? {
            Mutant::DisksDropARow => writes.iter().position(in_timeline)?,
            Mutant::DisksTearBatches if dying => writes.len().checked_sub(1)?,
            Mutant::DisksTearBatches
            | Mutant::DisksLoseFlushes
            | Mutant::AnswersBeforeTheDisk
            | Mutant::ReusesItsOrigin
            | Mutant::ReturnsFromACopy
            | Mutant::ShowsBatchesBackwards
            | Mutant::SkipsBatches
            | Mutant::DropsEntries
            | Mutant::Reconnects
            | Mutant::ForgetsKeys => return None,
        };
        let mut batch = Batch::default();
        for (_, write) in writes.iter().enumerate().filter(|(place, _)| *place != lost) {
            let (table, key, value) = *write;
            match value {
                Some(value) => batch.put(table, key.to_vec(), value.to_vec()),
                None => batch.delete(table, key.to_vec()),
            }
        }
        Some(batch)
    }

    pub(super) fn written(&mut self, at: usize, run: RunNumber, ticket: Ticket) -> Step {
        let now = self.nodes[at].now(self.now);
        let Some(process) = self.nodes[at].process_of(run) else { return Ok(()) };
        process.replicator.handle_written(now, ticket);
        let point = process.replicator.replica().durable().clone();
        self.chronicle.note(self.now, b'd', at, point.digest.as_bytes());
        self.checkers.durability.durable(at, &point.vector)?;
        self.checkers.convergence.durable(at, &point)?;
        self.after_input(at)?;
        self.note_convergence();
        if self.plan.mutant == Some(Mutant::ReturnsFromACopy) && self.nodes[at].copy.is_none() {
            self.nodes[at].copy = Some(self.nodes[at].engine.copy());
        }
        Ok(())
    }

    fn publish(&mut self, at: usize, sealed: &Sealed) -> Step {
        let mut applied: Vec<&Applied> = sealed.applied.iter().collect();
        if self.plan.mutant == Some(Mutant::ShowsBatchesBackwards) {
            applied.reverse();
        }
        if self.plan.mutant == Some(Mutant::SkipsBatches) && sealed.ticket.is_multiple_of(3) {
            return Ok(());
        }
        self.tell(at, || describe(sealed));
        self.checkers.causality.published(at, &applied, &self.checkers.ledger)
    }
}

/// A batch in a line.
fn describe(sealed: &Sealed) -> String {
    let messages: usize = sealed.applied.iter().map(|applied| applied.messages.len()).sum();
    let aliases: usize = sealed.applied.iter().map(|applied| applied.aliases.len()).sum();
    let places: Vec<String> = sealed
        .applied
        .iter()
        .map(|applied| format!("{:?}/{}", applied.origin, applied.seq))
        .collect();
    let ticket = sealed.ticket;
    format!(
        "batch {ticket} is durable: {messages} messages, {aliases} aliases: {}",
        places.join(" ")
    )
}
