//! The driver of each node's replicator: what the node's thread and its committer do.
//!
//! Invariants: one batch is at the disk at a time; `handle_written` comes after the disk has it;
//! outputs are drained after every input.

use std::sync::Arc;

use warbler_replication::replicator::{Alarm, Output};
use warbler_store::engine::{Engine, Table};
use warbler_store::erasure::Erasure;
use warbler_store::id::Millis;
use warbler_store::name::Name;
use warbler_store::overlay::Ticket;
use warbler_store::replica::{Applied, Sealed};
use warbler_store::tables;

use super::{Step, World};
use crate::agenda::{Event, RunNumber};
use crate::checkers::{Broken, Checkers, Promise, Rows, Truth, containment};
use crate::mutant::Mutant;

/// After so many wakes at one moment a replicator runs in a circle.
const MOST_SPINS: u32 = 8;
/// So often all that a node shows is compared when it has written a batch, per mille.
const LOOK_PER_MILLE: u64 = 15;

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
                Output::Alarm(Alarm::Quarantined { origin, seq, why }) => {
                    containment::quarantined(at, &self.checkers.archive, (origin, seq))?;
                    self.tell(at, || format!("cannot apply {origin:?}/{seq}: {why}"));
                }
                Output::Alarm(Alarm::Damaged(what)) if self.nodes[at].is_damaged => {
                    self.tell(at, || what);
                }
                Output::Failed(error) if self.nodes[at].is_damaged => {
                    self.tell(at, || format!("stops: {error}"));
                    return self.replace(at);
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
        self.note_written(at, &sealed)?;
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

    /// What checkers take note of when a batch goes to the disk.
    fn note_written(&mut self, at: usize, sealed: &Sealed) -> Step {
        let checkers = &mut self.checkers;
        checkers.uniqueness.written(at, &sealed.own)?;
        for parcel in &sealed.own {
            let written = checkers.archive.enter(parcel).map_err(|error| {
                let how = format!("node {at} writes an entry that cannot be read: {error}");
                Broken::new(Promise::Soundness, how)
            })?;
            self.story.erasures += written.erasures.len() as u64;
            checkers.erasures.written(written);
        }
        let places = sealed.own.iter().map(|parcel| (parcel.origin, parcel.seq));
        checkers.causality.written(at, places);
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
        let spoilt = self.spoil(at, sealed, dying);
        let node = &mut self.nodes[at];
        let written = node.engine.persist(spoilt.as_ref().unwrap_or(&*sealed.batch)).is_ok();
        let kept = written || node.tear.take() == Some(true);
        if !written {
            node.engine.reopen();
        }
        if kept {
            self.story.batches += 1;
            self.note_durable(at, sealed)?;
        }
        Ok(written)
    }

    /// What checkers take note of when a batch is on the disk.
    fn note_durable(&mut self, at: usize, sealed: &Sealed) -> Step {
        if self.nodes[at].is_damaged {
            // The table may not be readable as a whole any more; the batch is.
            let mut rows = self.checkers.erasures.rows(at).clone();
            for (key, value) in sealed.batch.table(Table::Erasures) {
                let row = value.and_then(|value| tables::open::<Erasure>(key, value).ok());
                row.iter().for_each(|row| rows.add(row));
            }
            self.checkers.erasures.told(at, rows)?;
        } else if sealed.batch.table(Table::Erasures).next().is_some() {
            self.note_erasures(at)?;
            self.checkers.erasures.search(at, &self.nodes[at].engine, false)?;
        }
        self.checkers.trimming.written(at, &sealed.batch, &self.checkers.durability)?;
        let Checkers { models, archive, ledger, causality, uniqueness, erasures, .. } =
            &mut self.checkers;
        for applied in sealed.applied.iter() {
            if let Some(written) = archive.get(applied.origin, applied.seq) {
                models[at].take(written);
            }
            applied.messages.iter().try_for_each(|message| uniqueness.announced(at, message))?;
        }
        causality.durable(at, sealed, Truth { ledger, archive }, erasures.rows(at))?;
        if self.dice.upkeep.chance(LOOK_PER_MILLE) {
            self.look_at(at)?;
        }
        Ok(())
    }

    /// Reads what a node is to forget from its disk.
    pub(super) fn note_erasures(&mut self, at: usize) -> Step {
        let rows = Rows::read(&self.nodes[at].engine, self.space_id).map_err(|error| {
            let how = format!("the erasure table of node {at} cannot be read: {error}");
            Broken::new(Promise::Soundness, how)
        })?;
        self.checkers.erasures.told(at, rows)
    }

    /// Compares all that a node shows with what it must show, and searches its disk.
    pub(super) fn look_at(&mut self, at: usize) -> Step {
        if self.nodes[at].is_damaged {
            return Ok(());
        }
        self.story.looks += 1;
        let checkers = &self.checkers;
        let names: Vec<Name> = checkers.ledger.names().cloned().collect();
        let rows = checkers.erasures.rows(at);
        checkers.models[at].compare(at, &self.nodes[at].reader, &names, rows)?;
        checkers.erasures.search(at, &self.nodes[at].engine, false)
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
        let Checkers { ledger, archive, erasures, causality, .. } = &mut self.checkers;
        for message in applied.iter().flat_map(|applied| &applied.messages) {
            erasures.shown(at, &message.body, "tells followers")?;
        }
        causality.published(at, &applied, Truth { ledger, archive }, erasures.rows(at))
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
