//! Frames in and out: vectors, heartbeats, pushes, and the delivery of entries.

use std::sync::Arc;

use warbler_store::digest::PROJECTION_VERSION;
use warbler_store::engine::EngineError;
use warbler_store::entry::{Entry, Parcel, chain_mark};
use warbler_store::id::{Digest, NodeId, OriginId};
use warbler_store::log::{self, LogWalk, WalkError};
use warbler_store::replica::{Readiness, Refusal, Sealed, Taken};
use warbler_store::vector::VersionVector;

use super::{Alarm, HEARTBEAT_MILLIS, Now, Output, Replicator};
use crate::frame::{Frame, Held};

/// Bytes pushed to a peer that it has not said it holds, above which pushing pauses: 4 MiB. The
/// peer then pulls: the log is the truth, and memory does not grow with a dead region.
pub(super) const PUSH_WINDOW_BYTES: usize = 4 << 20;
/// Bytes of entries in one frame, about: 256 KiB.
pub(super) const FRAME_FILL_BYTES: usize = 256 * 1024;
/// So many own entries are pushed at once to a peer that has just caught up to them.
const BRIDGE_ENTRIES: u64 = 64;

impl Replicator {
    pub(super) fn on_frame(&mut self, now: Now, peer: NodeId, frame: Frame) {
        match frame {
            Frame::Vector { whole, held } => self.on_vector(now, peer, whole, &held),
            Frame::Heartbeat { vector, aside, projection, space } => {
                self.on_heartbeat(now, peer, (vector, aside), projection, space);
            }
            Frame::AskVector => self.send_vector(peer, true),
            Frame::Entries(parcels) => self.on_entries(now, peer, parcels),
            Frame::Pull { request, budget, wanted } => {
                self.on_pull(peer, request, budget, &wanted);
            }
            Frame::PullEnd { request } => self.on_pull_end(now, peer, request),
        }
    }

    fn on_vector(&mut self, now: Now, peer: NodeId, whole: bool, held: &[Held]) {
        let own = self.replica.writer().origin;
        for held in held {
            let agrees = match self.chain_agrees(held) {
                Ok(agrees) => agrees,
                Err(error) => {
                    self.suffer(error);
                    continue;
                }
            };
            let Some(session) = self.sessions.get_mut(&peer) else { return };
            let Held { origin, seq, .. } = *held;
            if agrees {
                session.raise(origin, seq, own);
            } else if session.forked.insert(origin) {
                self.alarm(Alarm::Forked { peer, origin, seq });
            }
        }
        if let Some(session) = self.sessions.get_mut(&peer) {
            session.greeted |= whole;
        }
        self.resume_push(peer);
        self.answer_commands(now);
        self.pull_missing(now);
    }

    /// Whether a peer's component names the chain that is held here, as far as it can be told.
    /// Of our own log nobody holds more than we made durable.
    fn chain_agrees(&self, held: &Held) -> Result<bool, EngineError> {
        let durable = self.replica.durable().vector.get(held.origin);
        if held.seq == 0 {
            return Ok(true);
        }
        if held.seq > durable {
            return Ok(held.origin != self.replica.writer().origin);
        }
        let trimmed = self.replica.origin(held.origin).map_or(0, |row| row.trimmed);
        if held.seq < trimmed {
            // Late on the way, or lost since: there is nothing left here to compare it with.
            return Ok(true);
        }
        let view = &**self.replica.engine();
        let chain = log::chain_at(view, self.replica.space(), held.origin, held.seq)?;
        Ok(chain.is_some_and(|chain| chain_mark(chain) == held.chain))
    }

    fn on_heartbeat(
        &mut self,
        now: Now,
        peer: NodeId,
        (vector, aside): (Digest, Digest),
        projection: u8,
        space: Digest,
    ) {
        let Some(session) = self.sessions.get_mut(&peer) else { return };
        let ours = self.replica.durable();
        // At an equal vector over a forked log other entries are held.
        let comparable = projection == PROJECTION_VERSION
            && vector == ours.vector.digest()
            && aside == ours.aside()
            && session.forked.is_empty();
        if comparable {
            let differing = (space != ours.digest).then_some((space, ours.digest));
            if let Some((theirs, ours)) = differing
                && session.diverged != differing
            {
                self.outputs.push_back(Output::Alarm(Alarm::Diverged { peer, theirs, ours }));
            }
            session.diverged = differing;
        }
        // Something it said was lost on the way, or is still under way.
        if !session.greeted || session.holds.digest() != vector {
            self.send(peer, &Frame::AskVector);
        }
        self.pull_missing(now);
    }

    /// Sends what is held durably: all, or what moved since it was told last.
    pub(super) fn send_vector(&mut self, peer: NodeId, whole: bool) {
        let durable = self.replica.durable().vector.clone();
        let Some(session) = self.sessions.get_mut(&peer) else { return };
        let base = if whole { VersionVector::default() } else { session.told.clone() };
        session.told = durable.clone();
        let held = self.held(durable.above(&base));
        if whole || !held.is_empty() {
            self.send(peer, &Frame::Vector { whole, held });
        }
    }

    /// Components with the chain at their durable end.
    fn held(&mut self, components: impl Iterator<Item = (OriginId, u64)>) -> Vec<Held> {
        let space = self.replica.space();
        let view = Arc::clone(self.replica.engine());
        let mut held = Vec::new();
        for (origin, seq) in components {
            match log::chain_at(&*view, space, origin, seq) {
                Ok(Some(digest)) => held.push(Held { origin, seq, chain: chain_mark(digest) }),
                Ok(None) => {}
                Err(error) => self.suffer(error),
            }
        }
        held
    }

    /// Tells every peer what became durable.
    pub(super) fn tell_all(&mut self) {
        let peers: Vec<NodeId> = self.sessions.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.send_vector(peer, false));
    }

    pub(super) fn send_heartbeats(&mut self, now: Now) {
        let point = self.replica.durable();
        let frame = Frame::Heartbeat {
            vector: point.vector.digest(),
            aside: point.aside(),
            projection: PROJECTION_VERSION,
            space: point.digest,
        };
        let mut due = Vec::new();
        for (peer, session) in &mut self.sessions {
            if session.heartbeat_due <= now.elapsed {
                session.heartbeat_due = now.elapsed + HEARTBEAT_MILLIS;
                due.push(*peer);
            }
        }
        due.into_iter().for_each(|peer| self.send(peer, &frame));
    }

    /// Pushes own entries that became durable to every peer that keeps up.
    pub(super) fn push_own(&mut self, sealed: &Sealed) {
        let (Some(first), Some(last)) = (sealed.own.first(), sealed.own.last()) else { return };
        let bytes: usize = sealed.own.iter().map(Parcel::bytes).sum();
        let own = first.origin;
        let mut keeping_up = Vec::new();
        for (peer, session) in &mut self.sessions {
            let next = session.push_next == Some(first.seq);
            if !next || session.in_flight() + bytes > PUSH_WINDOW_BYTES {
                session.push_next = None;
                continue;
            }
            session.push_next = Some(last.seq + 1);
            session.unacknowledged.push_back((last.seq, bytes));
            session.told.raise(own, last.seq);
            keeping_up.push(*peer);
        }
        for frame in frames_of(&sealed.own) {
            let frame = frame.encode();
            for peer in &keeping_up {
                self.outputs.push_back(Output::Send { peer: *peer, frame: frame.clone() });
            }
        }
    }

    /// Goes on pushing to a peer that has caught up, or nearly.
    fn resume_push(&mut self, peer: NodeId) {
        let own = self.replica.writer().origin;
        let durable = self.replica.durable().vector.get(own);
        let Some(session) = self.sessions.get_mut(&peer) else { return };
        let held = session.holds.get(own);
        let missing = durable.saturating_sub(held);
        if session.push_next.is_some() || !session.greeted || missing > BRIDGE_ENTRIES {
            return;
        }
        let parcels = match self.read_own(held, durable) {
            Ok(parcels) => parcels,
            Err(WalkError::Engine(error)) => return self.suffer(error),
            // A peer that is held to lack what was trimmed is told so when it pulls.
            Err(WalkError::Trimmed { .. }) => return,
        };
        let bytes: usize = parcels.iter().map(Parcel::bytes).sum();
        let Some(session) = self.sessions.get_mut(&peer) else { return };
        if bytes > PUSH_WINDOW_BYTES {
            return;
        }
        session.push_next = Some(durable + 1);
        session.unacknowledged.clear();
        if !parcels.is_empty() {
            session.unacknowledged.push_back((durable, bytes));
            session.told.raise(own, durable);
        }
        frames_of(&parcels).iter().for_each(|frame| self.send(peer, frame));
    }

    /// Reads a stretch of the own log; a little more than [`PUSH_WINDOW_BYTES`] at most.
    fn read_own(&self, after: u64, until: u64) -> Result<Vec<Parcel>, WalkError> {
        let (space, own) = (self.replica.space(), self.replica.writer().origin);
        let engine = Arc::clone(self.replica.engine());
        let view = engine.view();
        let vector = |seq| [(own, seq)].into_iter().collect::<VersionVector>();
        let walk = LogWalk::between(&*view, space, &vector(after), &vector(until))?;
        let mut parcels = Vec::new();
        let mut bytes = 0;
        for entry in walk {
            let parcel = log::parcel(&*view, space, entry?)?;
            bytes += parcel.bytes();
            parcels.push(parcel);
            if bytes > PUSH_WINDOW_BYTES {
                break;
            }
        }
        Ok(parcels)
    }

    fn on_entries(&mut self, now: Now, peer: NodeId, parcels: Vec<Parcel>) {
        self.extend_pull(now, peer);
        let own = self.replica.writer().origin;
        for parcel in parcels {
            let Some(session) = self.sessions.get_mut(&peer) else { return };
            // Only a vector, with its chain, acknowledges what is ours.
            if parcel.origin != own {
                session.raise(parcel.origin, parcel.seq, own);
            }
            // Without room it is pulled later, like anything that was lost on the way.
            if self.no_room || parcel.seq <= self.replica.applied().get(parcel.origin) {
                continue;
            }
            let entry = match Entry::decode(&parcel.entry) {
                Ok(entry) => entry,
                Err(error) => return self.refuse(peer, &parcel, error.to_string()),
            };
            match self.replica.readiness(parcel.origin, parcel.seq, &entry.saw) {
                Readiness::Ready => {
                    if !self.deliver(now, peer, &parcel, entry) {
                        return;
                    }
                }
                Readiness::Held => {}
                Readiness::Waits(..) => {
                    session.dropped += session.waiting.add(parcel, entry) as u64;
                }
            }
        }
        self.deliver_waiting(now);
        self.pull_missing(now);
    }

    /// Applies an entry whose past is held. False if the session ended over it.
    fn deliver(&mut self, now: Now, peer: NodeId, parcel: &Parcel, entry: Entry) -> bool {
        let roster = &self.roster;
        let allowed = |node: &NodeId, region: &_| roster.allows(node, region);
        match self.replica.apply(now.wall, parcel, entry, allowed) {
            Ok(Taken::Applied) => true,
            Ok(Taken::Quarantined(why)) => {
                let (origin, seq) = (parcel.origin, parcel.seq);
                self.alarm(Alarm::Quarantined { origin, seq, why });
                true
            }
            Err(Refusal::Replica(error)) => {
                self.fail(error);
                false
            }
            Err(refusal) => {
                self.refuse(peer, parcel, refusal.to_string());
                false
            }
        }
    }

    /// Applies waiting entries whose past is held by now, of all sessions. An entry's past has
    /// a lesser depth, so taking the least first finds all there is to find.
    pub(super) fn deliver_waiting(&mut self, now: Now) {
        let peers: Vec<NodeId> = self.sessions.keys().copied().collect();
        let mut progress = !self.failed && !self.no_room;
        while progress {
            progress = false;
            for peer in &peers {
                while let Some((parcel, entry)) = self.take_deliverable(*peer) {
                    let held = self.replica.applied().get(parcel.origin) >= parcel.seq;
                    if !held && !self.deliver(now, *peer, &parcel, entry) {
                        break;
                    }
                    progress = !self.failed;
                }
            }
        }
    }

    fn take_deliverable(&mut self, peer: NodeId) -> Option<(Parcel, Entry)> {
        let replica = &self.replica;
        let session = self.sessions.get_mut(&peer)?;
        session.waiting.take_first(|parcel, entry| {
            match replica.readiness(parcel.origin, parcel.seq, &entry.saw) {
                Readiness::Ready | Readiness::Held => true,
                Readiness::Waits(..) => false,
            }
        })
    }

    fn refuse(&mut self, peer: NodeId, parcel: &Parcel, why: String) {
        let (origin, seq) = (parcel.origin, parcel.seq);
        self.disconnect(peer, format!("entry {origin}/{seq} is refused: {why}"));
        self.alarm(Alarm::Refused { peer, origin, seq, why });
    }
}

/// Cuts parcels into frames of bounded size.
pub(super) fn frames_of(parcels: &[Parcel]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut frame: Vec<Parcel> = Vec::new();
    let mut bytes = 0;
    for parcel in parcels {
        if !frame.is_empty() && bytes + parcel.bytes() > FRAME_FILL_BYTES {
            frames.push(Frame::Entries(std::mem::take(&mut frame)));
            bytes = 0;
        }
        bytes += parcel.bytes();
        frame.push(parcel.clone());
    }
    if !frame.is_empty() {
        frames.push(Frame::Entries(frame));
    }
    frames
}
