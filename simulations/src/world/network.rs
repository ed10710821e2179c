//! Frames on their way, and connections that come and go.
//!
//! Invariants: a frame reaches a node on the connection that it was sent on, or not at all; a
//! node is told that a connection is gone before it is told of the next one to that peer.

use std::sync::Arc;

use warbler_replication::frame::Frame;
use warbler_replication::greeting::PROTOCOL_VERSION;
use warbler_store::entry::chain_mark;
use warbler_store::id::NodeId;

use super::{Step, World};
use crate::agenda::{ConnectionNumber, Event, Micros};
use crate::checkers::{Broken, Checkers, Promise, containment};
use crate::link::place_of;
use crate::mutant::Mutant;

/// After so long without a sign of life a connection is given up, in microseconds.
const SILENCE_MICROS: (Micros, Micros) = (2_000_000, 4_000_000);
/// How long it takes the other side to notice that a connection is gone, at most.
const NOTICE_MICROS: Micros = 2_000_000;
/// The longest pause between attempts to connect, in microseconds.
const BACKOFF_MICROS: (Micros, Micros) = (50_000, 800_000);

/// The frame that was read last.
pub(super) struct Inspected {
    from: usize,
    bytes: Vec<u8>,
    frame: Frame,
}

impl World<'_> {
    pub(super) fn send(&mut self, from: usize, peer: NodeId, bytes: Vec<u8>) -> Step {
        let to = usize::from(peer.0[0]) - 1;
        let bytes = self.forge(from, to, bytes);
        let mutant_drops = self.inspect(from, &bytes)?;
        self.story.frames += 1;
        self.story.bytes += bytes.len() as u64;
        let link = &mut self.links[place_of(from, to, self.plan.nodes)];
        let (network, faults) = (&mut self.dice.network, &self.faults);
        let stuck = link.way_from(from).is_cut() && !network.chance(faults.clogged);
        let lost = stuck || network.chance(faults.loss) || mutant_drops;
        let side = link.side_of(from);
        let Some(connection) = link.sides[side].filter(|_| !lost) else {
            self.story.frames_lost += 1;
            return Ok(());
        };
        let bytes: Arc<[u8]> = bytes.into();
        let doubled = network.chance(faults.copies);
        self.story.frames_doubled += u64::from(doubled);
        for _ in 0..=usize::from(doubled) {
            let arrival = link.arrival(self.now, from, bytes.len(), faults, network);
            let bytes = Arc::clone(&bytes);
            self.agenda.enter(arrival, Event::Frame { from, to, connection, bytes });
        }
        Ok(())
    }

    /// What a mutant makes of a frame.
    fn forge(&self, from: usize, to: usize, bytes: Vec<u8>) -> Vec<u8> {
        let Ok(frame) = (match self.plan.mutant {
            Some(Mutant::SendsErasedWords | Mutant::PeersExaggerate) => Frame::decode(&bytes),
            Some(_) | None => return bytes,
        }) else {
            return bytes;
        };
        match (self.plan.mutant, frame) {
            (Some(Mutant::SendsErasedWords), Frame::Entries(mut parcels)) => {
                let archive = &self.checkers.archive;
                parcels.iter_mut().for_each(|parcel| archive.restore(parcel));
                Frame::Entries(parcels).encode()
            }
            (Some(Mutant::PeersExaggerate), Frame::Vector { whole, mut held }) if from > to => {
                // As if all that the receiver holds had been said to be held here too.
                let Some(process) = &self.nodes[to].process else { return bytes };
                for held in &mut held {
                    let Some(row) = process.replicator.replica().origin(held.origin) else {
                        continue;
                    };
                    let durable = process.replicator.replica().durable().vector.get(held.origin);
                    if row.seq == durable && row.seq > held.seq {
                        (held.seq, held.chain) = (row.seq, chain_mark(row.digest));
                    }
                }
                Frame::Vector { whole, held }.encode()
            }
            _ => bytes,
        }
    }

    /// What checkers say of a frame that leaves a node. True if a mutant drops it. A frame that
    /// goes to several peers is read once.
    fn inspect(&mut self, from: usize, bytes: &[u8]) -> Result<bool, Broken> {
        let known = self.inspected.take().filter(|last| last.from == from && last.bytes == bytes);
        let last = match known {
            Some(last) => last,
            None => {
                let frame = Frame::decode(bytes).map_err(|error| {
                    let how = format!("node {from} sends a frame that cannot be read: {error}");
                    Broken::new(Promise::Soundness, how)
                })?;
                if let Frame::Entries(parcels) = &frame {
                    self.checkers.uniqueness.sent(from, parcels)?;
                    self.checkers.durability.pushed(from, parcels)?;
                    let Checkers { erasures, archive, .. } = &self.checkers;
                    erasures.sent(from, parcels)?;
                    containment::sent(from, archive, erasures.rows(from), parcels)?;
                }
                Inspected { from, bytes: bytes.to_vec(), frame }
            }
        };
        self.checkers.quiescence.sent(&last.frame);
        let carries = matches!(last.frame, Frame::Entries(_));
        self.inspected = Some(last);
        Ok(carries && from == 0 && self.plan.mutant == Some(Mutant::DropsEntries))
    }

    pub(super) fn deliver(
        &mut self,
        from: usize,
        to: usize,
        connection: ConnectionNumber,
        bytes: Arc<[u8]>,
    ) -> Step {
        let link = &mut self.links[place_of(from, to, self.plan.nodes)];
        let side = link.side_of(to);
        let is_open = link.sides[side] == Some(connection);
        if is_open && link.way_from(from).is_cut() {
            if self.dice.network.chance(self.faults.clogged) {
                let later = self.now + 100_000;
                self.agenda.enter(later, Event::Frame { from, to, connection, bytes });
            } else {
                self.story.frames_lost += 1;
            }
            return Ok(());
        }
        let (now, peer) = (self.nodes[to].now(self.now), self.nodes[from].id);
        let Some(process) = self.nodes[to].process.as_mut().filter(|_| is_open) else {
            self.story.frames_lost += 1;
            return Ok(());
        };
        process.replicator.handle_frame(now, peer, &bytes);
        self.after_input(to)
    }

    /// Sees that a link is dialled.
    pub(super) fn redial(&mut self, link: usize) {
        if !self.links[link].dialling {
            self.links[link].dialling = true;
            let (least, most) = BACKOFF_MICROS;
            let soon = self.now + self.dice.network.between(least, most);
            self.agenda.enter(soon, Event::Dial { link });
        }
    }

    pub(super) fn dial(&mut self, link: usize) {
        self.links[link].dialling = false;
        if self.links[link].connection.is_some() {
            return;
        }
        let both_run = self.links[link].ends.iter().all(|end| self.nodes[*end].is_running());
        if !both_run || self.links[link].is_cut() {
            self.redial(link);
            return;
        }
        self.connections += 1;
        let connection = self.connections;
        self.links[link].connection = Some(connection);
        let delay = self.links[link].delay(&mut self.dice.network);
        let first = self.dice.network.index(2);
        for (side, trips) in [(first, 2), (1 - first, 3)] {
            let done = self.now + trips * delay;
            self.agenda.enter(done, Event::Up { link, side, connection });
        }
    }

    pub(super) fn up(&mut self, link: usize, side: usize, connection: ConnectionNumber) -> Step {
        let at = self.links[link].ends[side];
        let peer = self.links[link].ends[1 - side];
        if self.links[link].connection != Some(connection) {
            return Ok(());
        }
        let old = self.links[link].sides[side].replace(connection);
        let (now, peer_id) = (self.nodes[at].now(self.now), self.nodes[peer].id);
        let Some(process) = &mut self.nodes[at].process else { return Ok(()) };
        if old.is_some() {
            process.replicator.handle_disconnected(now, peer_id);
        }
        process.replicator.handle_connected(now, peer_id, PROTOCOL_VERSION);
        self.story.connections += 1;
        self.tell(at, || format!("connection {connection} to node {peer} is up"));
        self.after_input(at)
    }

    pub(super) fn down(&mut self, link: usize, side: usize, connection: ConnectionNumber) -> Step {
        if self.links[link].sides[side] != Some(connection) {
            return Ok(());
        }
        self.links[link].sides[side] = None;
        let at = self.links[link].ends[side];
        let peer = self.links[link].ends[1 - side];
        self.give_up(link, side, connection);
        let (now, peer_id) = (self.nodes[at].now(self.now), self.nodes[peer].id);
        let Some(process) = &mut self.nodes[at].process else { return Ok(()) };
        process.replicator.handle_disconnected(now, peer_id);
        self.tell(at, || format!("connection {connection} to node {peer} is gone"));
        self.after_input(at)
    }

    /// One side has given a connection up: the other will notice, and it is dialled again.
    fn give_up(&mut self, link: usize, side: usize, connection: ConnectionNumber) {
        if self.links[link].connection == Some(connection) {
            self.links[link].connection = None;
        }
        let noticed = self.now + self.dice.network.below(NOTICE_MICROS);
        self.agenda.enter(noticed, Event::Down { link, side: 1 - side, connection });
        self.redial(link);
    }

    /// A node has lost power: what it had of connections is gone with it.
    pub(super) fn hang_up(&mut self, at: usize) {
        for link in 0..self.links.len() {
            if !self.links[link].ends.contains(&at) {
                continue;
            }
            let side = self.links[link].side_of(at);
            self.links[link].sides[side] = None;
            if let Some(connection) = self.links[link].connection {
                self.give_up(link, side, connection);
            }
        }
    }

    /// A direction was cut: its connection may time out.
    pub(super) fn await_silence(&mut self, from: usize, to: usize) {
        let place = place_of(from, to, self.plan.nodes);
        let Some(connection) = self.links[place].connection else { return };
        let (least, most) = SILENCE_MICROS;
        let end = self.now + self.dice.network.between(least, most);
        let since = self.now;
        self.agenda.enter(end, Event::Silent { from, to, connection, since });
    }

    pub(super) fn fall_silent(
        &mut self,
        from: usize,
        to: usize,
        connection: ConnectionNumber,
        since: Micros,
    ) -> Step {
        let place = place_of(from, to, self.plan.nodes);
        if !self.links[place].way_from(from).is_cut_since(since) {
            return Ok(());
        }
        let side = self.dice.network.index(2);
        self.down(place, side, connection)
    }

    /// A mutant ends a connection that nothing is wrong with.
    pub(super) fn reconnect_any(&mut self) -> Step {
        let link = self.dice.network.index(self.links.len());
        self.agenda.enter(self.now + 700_000, Event::Reconnect);
        match self.links[link].connection {
            Some(connection) => self.down(link, 0, connection),
            None => Ok(()),
        }
    }
}
