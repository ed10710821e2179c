//! Trouble: what strikes nodes, disks, clocks and links, and how it ends.
//!
//! Invariant: after [`Event::Calm`] nothing strikes any more: all nodes run, all links carry.

use super::{Step, World};
use crate::agenda::{Event, Micros, RunNumber};
use crate::checkers::{BOUND_MILLIS, Broken, Promise, Truth};
use crate::link::place_of;
use crate::mutant::Mutant;

/// Trouble is drawn for runs of this length; longer runs have more of it.
const USUAL_SECONDS: u64 = 20;
/// How far clocks of a world may be apart before ids are not believed: wild ones are further off.
const WILD_MILLIS: i64 = 600_000;

impl World<'_> {
    /// Enters everything that is bound to happen.
    pub(super) fn plan_everything(&mut self) {
        self.set_clocks();
        let end = self.plan.seconds * 1_000_000;
        for node in 0..self.plan.nodes {
            let begin = self.dice.trouble.below(300_000);
            self.agenda.enter(begin, Event::Start { node, run: 0 });
        }
        (0..self.links.len()).for_each(|link| self.redial(link));
        for client in 0..self.clients.len() {
            let begin = 300_000 + self.dice.clients.below(500_000);
            self.agenda.enter(begin, Event::Act { client });
        }
        let Self { faults, dice, agenda, plan, .. } = self;
        let mut strike = |times: u64, event: fn() -> Event| {
            for _ in 0..(times * plan.seconds).div_ceil(USUAL_SECONDS) {
                agenda.enter(dice.trouble.between(end / 40, end - 1), event());
            }
        };
        strike(faults.crashes, || Event::Crash);
        strike(faults.torn_writes, || Event::Tear);
        strike(faults.pauses, || Event::Pause);
        strike(faults.clock_jumps, || Event::Jump);
        strike(faults.partitions, || Event::Cut);
        strike(faults.poisons, || Event::Poison);
        strike(faults.full_disks, || Event::Fill);
        strike(faults.wiped_disks, || Event::Wipe);
        strike(faults.flipped_bits, || Event::Flip);
        if plan.mutant == Some(Mutant::Reconnects) {
            // All are converged by then: nothing but the noise is there to be seen.
            let silence = end + BOUND_MILLIS * 1_000 + 1_000_000;
            agenda.enter(silence, Event::Reconnect);
        }
        agenda.enter(end, Event::Calm);
    }

    fn set_clocks(&mut self) {
        let (skew, drift) = (self.faults.skew, self.faults.drift);
        for node in &mut self.nodes {
            node.clock.offset = self.dice.trouble.around_zero(skew);
            node.clock.drift = self.dice.trouble.around_zero(drift);
        }
        if self.faults.wild_clock {
            let node = self.dice.trouble.index(self.plan.nodes);
            let wild = if self.dice.trouble.chance(500) { WILD_MILLIS } else { -WILD_MILLIS };
            self.nodes[node].clock.offset = wild;
        }
    }

    /// One of the nodes that run.
    pub(super) fn any_running(&mut self) -> Option<usize> {
        let running: Vec<usize> =
            (0..self.plan.nodes).filter(|node| self.nodes[*node].is_running()).collect();
        if running.is_empty() {
            None
        } else {
            Some(running[self.dice.trouble.index(running.len())])
        }
    }

    pub(super) fn crash_any(&mut self) -> Step {
        let Some(at) = self.any_running() else { return Ok(()) };
        self.story.crashes += 1;
        self.tell(at, || "loses power".to_owned());
        self.lose_power(at)?;
        let back = self.now + self.dice.trouble.between(50_000, 5_000_000);
        let run = self.nodes[at].run;
        self.agenda.enter(back, Event::Start { node: at, run });
        Ok(())
    }

    /// All memory of a node is gone. The batch that the disk is busy with is there as a whole, or
    /// not at all.
    pub(super) fn lose_power(&mut self, at: usize) -> Step {
        let Some(process) = self.nodes[at].process.take() else { return Ok(()) };
        if let Some(sealed) = process.flushing
            && self.dice.disk.chance(500)
        {
            self.persist(at, &sealed, true)?;
        }
        let node = &mut self.nodes[at];
        node.engine.crash();
        node.tear = None;
        node.paused = 0;
        self.asked.retain(|_, asked| !asked.was_taken_by(at));
        self.hang_up(at);
        Ok(())
    }

    /// A node returns, unless it runs again by now.
    pub(super) fn start(&mut self, at: usize, run: RunNumber) -> Step {
        if self.nodes[at].is_running() || self.nodes[at].run != run {
            return Ok(());
        }
        if self.nodes[at].full > self.now {
            // There is no room to write anything: it returns when there is.
            return Ok(());
        }
        if self.nodes[at].is_damaged {
            self.wipe(at);
        }
        self.mistreat(at);
        let keeps_origin =
            matches!(self.plan.mutant, Some(Mutant::ReusesItsOrigin | Mutant::ReturnsFromACopy));
        let origin = self.dice.identity.bytes();
        if run == 0 || !keeps_origin {
            self.nodes[at].origin.0 = origin;
        }
        let entropy = self.dice.identity.bytes();
        let cache = self.faults.document_cache_bytes;
        self.note_erasures(at)?;
        let Self { nodes, space, roster, now, checkers, .. } = self;
        let node = &mut nodes[at];
        node.start(*now, space, roster, entropy, cache).map_err(|error| {
            Broken::new(Promise::Soundness, format!("node {at} cannot start: {error}"))
        })?;
        checkers.causality.restarted(at);
        let truth = Truth { ledger: &checkers.ledger, archive: &checkers.archive };
        checkers.durability.restarted(at, &node.reader, truth, checkers.erasures.rows(at))?;
        if let Some(process) = &node.process {
            let point = process.replicator.replica().durable();
            checkers.durability.durable(at, &point.vector)?;
            checkers.convergence.durable(at, point)?;
        }
        let origin = node.origin;
        self.look_at(at)?;
        self.keep_up(at);
        self.tell(at, || format!("begins run {} as {origin:?}", run + 1));
        self.after_input(at)
    }

    /// What a mutant does to a node before it starts.
    fn mistreat(&mut self, at: usize) {
        let (mutant, space) = (self.plan.mutant, self.space_id);
        let node = &mut self.nodes[at];
        if mutant == Some(Mutant::DisksLoseFlushes) {
            node.engine.lose_flushes(true);
        }
        if mutant == Some(Mutant::ReturnsFromACopy)
            && let Some(copy) = &node.copy
        {
            let restored = copy.copy();
            node.exchange_disk(restored, space);
        }
    }

    pub(super) fn tear_any(&mut self) {
        let Some(at) = self.any_running() else { return };
        let keep = self.dice.disk.chance(500);
        self.nodes[at].engine.tear_next(keep);
        self.nodes[at].tear = Some(keep);
    }

    pub(super) fn pause_any(&mut self) {
        let Some(at) = self.any_running() else { return };
        self.story.pauses += 1;
        self.nodes[at].paused = self.now + self.dice.trouble.between(50_000, 2_500_000);
        self.tell(at, || "stands still".to_owned());
    }

    pub(super) fn jump_any(&mut self) {
        let at = self.dice.trouble.index(self.plan.nodes);
        self.story.clock_jumps += 1;
        let most = if self.faults.wild_clock { 120_000 } else { 20_000 };
        let jump = self.dice.trouble.around_zero(most);
        let clock = &mut self.nodes[at].clock;
        clock.offset += jump;
        if !self.faults.wild_clock {
            clock.offset = clock.offset.clamp(-25_000, 25_000);
        }
        self.tell(at, || format!("its clock jumps by {jump} ms"));
    }

    /// Cuts one link, or all of one node; both ways or one.
    pub(super) fn cut_any(&mut self) {
        let (dice, nodes) = (&mut self.dice.trouble, self.plan.nodes);
        let alone = dice.index(nodes);
        let other = (alone + 1 + dice.index(nodes - 1)) % nodes;
        let whole = dice.chance(400);
        let one_way = dice.chance(self.faults.one_way);
        let outward = dice.chance(500);
        let lasts: Micros = dice.between(200_000, 8_000_000);
        let mut cut = Vec::new();
        for peer in (0..nodes).filter(|peer| *peer != alone && (whole || *peer == other)) {
            cut.extend((!one_way || outward).then_some((alone, peer)));
            cut.extend((!one_way || !outward).then_some((peer, alone)));
        }
        for (from, to) in &cut {
            self.links[place_of(*from, *to, nodes)].way_from(*from).cut(self.now);
            self.await_silence(*from, *to);
        }
        self.story.partitions += 1;
        self.tell(alone, || format!("cut for {} ms: {cut:?}", lasts / 1_000));
        self.agenda.enter(self.now + lasts, Event::Mend { cut });
    }

    pub(super) fn mend(&mut self, cut: &[(usize, usize)]) {
        for (from, to) in cut {
            self.links[place_of(*from, *to, self.plan.nodes)].way_from(*from).mend();
        }
    }

    /// All trouble ends; everything must converge within the bound.
    pub(super) fn grow_calm(&mut self) {
        self.calm = Some(self.now);
        self.faults.calm();
        for link in 0..self.links.len() {
            self.links[link].ways.iter_mut().for_each(crate::link::Direction::mend_all);
            if self.links[link].connection.is_none() {
                self.redial(link);
            }
        }
        for at in 0..self.plan.nodes {
            let run = self.nodes[at].run;
            self.nodes[at].engine.fill_up(None);
            self.nodes[at].full = 0;
            if self.nodes[at].is_damaged {
                self.agenda.enter(self.now, Event::Replace { node: at });
            }
            if self.nodes[at].tear.take().is_some() {
                self.nodes[at].engine.reopen();
            }
            if !self.nodes[at].is_running() {
                let soon = self.now + self.dice.trouble.below(300_000);
                self.agenda.enter(soon, Event::Start { node: at, run });
            }
        }
        self.tell_of("world", |_| "calm".to_owned());
        let bound = self.now + BOUND_MILLIS * 1_000;
        self.agenda.enter(bound, Event::Converged);
    }
}
