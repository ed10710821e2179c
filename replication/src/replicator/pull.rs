//! Pulling what is missing, and answering the pulls of peers.
//!
//! A region that is cut off from an origin gets its entries through a third. Invariant: a range
//! is asked of one peer at a time; whoever does not answer is passed over for a while.

use std::collections::BTreeMap;
use std::sync::Arc;

use warbler_store::id::{Millis, NodeId, OriginId};
use warbler_store::log::{self, LogWalk, WalkError};
use warbler_store::vector::VersionVector;

use super::exchange::{FRAME_FILL_BYTES, frames_of};
use super::{Alarm, Now, Replicator};
use crate::frame::{Frame, Wanted};
use crate::session::Pull;

/// How long entries of an origin that pushes to us itself are waited for before they are pulled
/// from another peer: 500 ms.
const GRACE_MILLIS: Millis = 500;
/// How long a pull may bring nothing before it is given up: 5 s.
const PATIENCE_MILLIS: Millis = 5_000;
/// Bytes of entries asked for at once: 1 MiB.
const BUDGET_BYTES: u32 = 1 << 20;
/// The most bytes of entries sent for one pull, whatever was asked: 4 MiB.
const MAX_BUDGET_BYTES: u32 = 4 << 20;

/// Bytes in the batch that is being built above which nothing more is pulled: 8 MiB.
const MAX_UNWRITTEN_BYTES: usize = 8 << 20;

/// What is known to be missing.
#[derive(Default)]
pub(super) struct Pulls {
    last_request: u32,
    /// Since when an origin has stood where it stands while a peer has more of it.
    stuck: BTreeMap<OriginId, (u64, Millis)>,
    /// When something that is given time now may be pulled.
    pub(super) due: Option<Millis>,
}

impl Replicator {
    /// Asks for what peers hold and this node does not.
    pub(super) fn pull_missing(&mut self, now: Now) {
        // A disk that does not keep up must not fill the memory: pulling goes on after a write.
        if self.failed || self.replica.building_bytes() > MAX_UNWRITTEN_BYTES {
            return;
        }
        self.pulls.due = None;
        if self.no_room {
            return;
        }
        self.note_stuck(now);
        let peers: Vec<NodeId> = self.sessions.keys().copied().collect();
        for peer in peers {
            let wanted = self.wanted_of(now, peer);
            let Some(session) = self.sessions.get_mut(&peer) else { continue };
            if wanted.is_empty() {
                continue;
            }
            self.pulls.last_request = self.pulls.last_request.wrapping_add(1);
            let request = self.pulls.last_request;
            let deadline = now.elapsed + PATIENCE_MILLIS;
            session.pull = Some(Pull { request, wanted: wanted.clone(), deadline });
            self.send(peer, &Frame::Pull { request, budget: BUDGET_BYTES, wanted });
        }
    }

    /// Takes note of origins that stand still while a peer has more of them.
    fn note_stuck(&mut self, now: Now) {
        let applied = self.replica.applied();
        let mut stuck = BTreeMap::new();
        for session in self.sessions.values() {
            for (origin, _) in session.holds.above(applied) {
                let seq = applied.get(origin);
                let known = self.pulls.stuck.get(&origin).filter(|(at, _)| *at == seq);
                stuck.insert(origin, known.copied().unwrap_or((seq, now.elapsed)));
            }
        }
        self.pulls.stuck = stuck;
    }

    /// What to ask of `peer` now.
    fn wanted_of(&mut self, now: Now, peer: NodeId) -> Vec<Wanted> {
        let Some(session) = self.sessions.get(&peer) else { return Vec::new() };
        if session.pull.is_some() {
            return Vec::new();
        }
        let own = self.replica.writer().origin;
        let applied = self.replica.applied();
        let mut wanted = Vec::new();
        let mut due: Vec<Millis> = Vec::new();
        for (origin, until) in session.holds.above(applied) {
            if origin == own || self.is_pulled(origin) {
                continue;
            }
            let since = self.pulls.stuck.get(&origin).map_or(now.elapsed, |(_, since)| *since);
            let grace = if self.comes_by_push(peer, origin) { GRACE_MILLIS } else { 0 };
            let when = since.saturating_add(grace).max(session.no_pull_before);
            if when > now.elapsed {
                due.push(when);
                continue;
            }
            wanted.push(Wanted { origin, after: applied.get(origin), until });
        }
        self.pulls.due = self.pulls.due.into_iter().chain(due).min();
        wanted
    }

    /// Whether `origin` belongs to a connected node, other than `peer`, that pushes it to us.
    fn comes_by_push(&self, peer: NodeId, origin: OriginId) -> bool {
        let node = self.replica.origin(origin).map(|row| row.node);
        node.is_some_and(|node| node != peer && self.sessions.contains_key(&node))
    }

    fn is_pulled(&self, origin: OriginId) -> bool {
        self.sessions.values().any(|session| {
            let pull = session.pull.as_ref();
            pull.is_some_and(|pull| pull.wanted.iter().any(|wanted| wanted.origin == origin))
        })
    }

    /// Entries came from `peer`: a pull of its answer has more time.
    pub(super) fn extend_pull(&mut self, now: Now, peer: NodeId) {
        let session = self.sessions.get_mut(&peer);
        if let Some(pull) = session.and_then(|session| session.pull.as_mut()) {
            pull.deadline = now.elapsed + PATIENCE_MILLIS;
        }
    }

    pub(super) fn on_pull_end(&mut self, now: Now, peer: NodeId, request: u32) {
        let Some(session) = self.sessions.get_mut(&peer) else { return };
        let Some(pull) = session.pull.take_if(|pull| pull.request == request) else { return };
        // An answer without progress must not become a loop at the speed of the link.
        let applied = self.replica.applied();
        let moved = pull.wanted.iter().any(|wanted| applied.get(wanted.origin) > wanted.after);
        if !moved {
            session.no_pull_before = now.elapsed + GRACE_MILLIS;
        }
        self.pull_missing(now);
    }

    pub(super) fn give_up_pulls(&mut self, now: Now) {
        for session in self.sessions.values_mut() {
            let late = session.pull.take_if(|pull| pull.deadline <= now.elapsed);
            if late.is_some() {
                session.no_pull_before = now.elapsed + GRACE_MILLIS;
            }
        }
    }

    /// Answers a pull from the log, in causal order, as far as the budget goes.
    pub(super) fn on_pull(&mut self, peer: NodeId, request: u32, budget: u32, wanted: &[Wanted]) {
        match self.answer_pull(peer, budget.min(MAX_BUDGET_BYTES), wanted) {
            Ok(()) | Err(WalkError::Trimmed { .. }) => {}
            Err(WalkError::Engine(error)) => self.suffer(error),
        }
        self.send(peer, &Frame::PullEnd { request });
    }

    fn answer_pull(
        &mut self,
        peer: NodeId,
        budget: u32,
        wanted: &[Wanted],
    ) -> Result<(), WalkError> {
        let space = self.replica.space();
        let mut from = VersionVector::default();
        let mut until = VersionVector::default();
        let trimmed = self.trimmed_of(wanted);
        for (origin, seq) in &trimmed {
            self.tell_trimmed(peer, *origin, *seq);
        }
        let served = wanted
            .iter()
            .filter(|wanted| trimmed.iter().all(|(origin, _)| *origin != wanted.origin));
        let durable = &self.replica.durable().vector;
        for Wanted { origin, after, until: most } in served {
            from.raise(*origin, *after);
            until.raise(*origin, durable.get(*origin).min(*most));
        }
        let engine = Arc::clone(self.replica.engine());
        let view = engine.view();
        let mut parcels = Vec::new();
        let (mut bytes, mut sent) = (0, 0);
        for entry in LogWalk::between(&*view, space, &from, &until)? {
            let parcel = log::parcel(&*view, space, entry?)?;
            bytes += parcel.bytes();
            sent += parcel.bytes();
            parcels.push(parcel);
            if bytes >= FRAME_FILL_BYTES {
                frames_of(&parcels).iter().for_each(|frame| self.send(peer, frame));
                parcels.clear();
                bytes = 0;
            }
            if sent >= budget as usize {
                break;
            }
        }
        frames_of(&parcels).iter().for_each(|frame| self.send(peer, frame));
        Ok(())
    }

    /// The origins of which a peer asks for entries that are not in the log any more.
    fn trimmed_of(&self, wanted: &[Wanted]) -> Vec<(OriginId, u64)> {
        let trimmed = |wanted: &Wanted| {
            let row = self.replica.origin(wanted.origin)?;
            (row.trimmed > wanted.after).then_some((wanted.origin, row.trimmed))
        };
        wanted.iter().filter_map(trimmed).collect()
    }

    /// The operator is told once of a peer that lacks what is gone from the log here. A pull that
    /// was late or doubled on the way lacks nothing: the peer has said since that it holds more.
    fn tell_trimmed(&mut self, peer: NodeId, origin: OriginId, seq: u64) {
        let Some(session) = self.sessions.get_mut(&peer) else { return };
        if session.holds.get(origin) < seq && session.trimmed.insert(origin) {
            self.alarm(Alarm::Trimmed { peer, origin, seq });
        }
    }
}
