//! Poison: an origin whose log is well chained, and one of whose entries nobody can apply.
//!
//! Made by hand and handed to one node as if a peer had pushed it; from there it goes its way.
//! Invariant: what follows the poisoned entry in its log is sound, so that who stops at it is
//! seen.

use warbler_replication::frame::Frame;
use warbler_store::entry::{
    Carried, Entry, EntryKind, Marker, Parcel, chain_digest, chain_link, chain_mark, chain_start,
};
use warbler_store::id::{ConversationId, Digest, Front, Identity, MessageId, OriginId};
use warbler_store::record::Body;
use warbler_store::vector::VersionVector;

use super::{Step, World};
use crate::checkers::planted;
use crate::link::place_of;
use crate::node::EPOCH_MILLIS;

/// The kind of an entry of a later version.
const LATER_KIND: u8 = 99;

/// A log in the making.
struct Log {
    origin: OriginId,
    depth: u64,
    digest: Digest,
    parcels: Vec<Parcel>,
}

impl Log {
    fn write(&mut self, saw: VersionVector, kind: EntryKind, bodies: Vec<Carried>) {
        let (depth, previous) = (self.depth, chain_link(self.digest));
        let entry = Entry { depth, saw, previous, kind }.encode();
        self.depth += 1;
        self.digest = chain_digest(self.digest, &entry);
        let seq = self.parcels.len() as u64 + 1;
        let chain = chain_mark(self.digest);
        self.parcels.push(Parcel { origin: self.origin, seq, entry, chain, bodies });
    }
}

impl World<'_> {
    pub(super) fn poison_any(&mut self) -> Step {
        let up = self.links.iter().find_map(|link| {
            let both = link.sides.iter().all(|side| side.is_some() && *side == link.connection);
            both.then_some(link.ends)
        });
        let Some([from, to]) = up else { return Ok(()) };
        let conversation = self.dice.trouble.index(self.faults.conversations);
        let name = self.checkers.ledger.name(conversation);
        let Ok(found) = self.nodes[to].reader.conversation(name) else { return Ok(()) };
        let kind = match self.dice.trouble.below(3) {
            0 => EntryKind::Unknown { kind: LATER_KIND, content: vec![1, 2, 3] },
            _ => EntryKind::Segment { conversation: found.id, ordinal: 0, change: vec![7; 40] },
        };
        let Some(parcels) = self.poisoned_log(from, to, found.id, kind) else { return Ok(()) };
        let checkers = &mut self.checkers;
        checkers.uniqueness.written(from, &parcels)?;
        for parcel in &parcels {
            if parcel.seq == 2 {
                let carries = !parcel.bodies.is_empty();
                checkers.archive.enter_poisoned(parcel, carries.then_some(found.id));
            } else {
                checkers.archive.enter(parcel).map_err(super::unsound)?;
            }
        }
        self.story.poisoned += 1;
        let origin = parcels[0].origin;
        self.tell(to, || format!("is sent the poisoned log of {origin:?}"));
        let (now, peer) = (self.nodes[to].now(self.now), self.nodes[from].id);
        let frame = Frame::Entries(parcels).encode();
        if let Some(process) = &mut self.nodes[to].process {
            process.replicator.handle_frame(now, peer, &frame);
        }
        self.after_input(to)?;
        // The peer does not hold what it seems to have sent: the next session starts from what
        // it says itself.
        let link = place_of(from, to, self.plan.nodes);
        let side = self.links[link].side_of(to);
        match self.links[link].sides[side] {
            Some(connection) => self.down(link, side, connection),
            None => Ok(()),
        }
    }

    /// An origin record, an entry that cannot be applied, and one that can.
    fn poisoned_log(
        &mut self,
        from: usize,
        to: usize,
        conversation: ConversationId,
        kind: EntryKind,
    ) -> Option<Vec<Parcel>> {
        let replica = self.nodes[to].process.as_ref()?.replicator.replica();
        let saw = replica.durable().vector.clone();
        // What is held and not durable yet may be deeper, never less deep.
        let depth = replica.counts().depth;
        let origin = OriginId(self.dice.identity.bytes());
        let digest = chain_start(self.space_id, origin);
        let mut log = Log { origin, depth, digest, parcels: Vec::new() };
        let (node, region) = (self.nodes[from].id, self.nodes[from].region.clone());
        let started = self.nodes[from].clock.read(self.now);
        log.write(saw, EntryKind::Origin { node, region, started }, Vec::new());
        let bodies = match &kind {
            EntryKind::Segment { .. } => {
                let bytes = planted(99_000_000 + self.story.poisoned);
                vec![Carried::Body(Body { salt: [5; 8], bytes })]
            }
            EntryKind::Origin { .. }
            | EntryKind::Conversation { .. }
            | EntryKind::Unknown { .. }
            | EntryKind::Markers(_)
            | EntryKind::Erasures { .. } => Vec::new(),
        };
        log.write(VersionVector::default(), kind, bodies);
        let front = Front { millis: EPOCH_MILLIS, counter: 0 };
        let message = MessageId::new(front, Identity([1; 16]));
        let user = self.clients[0].name.clone();
        let marker = Marker { conversation, user, message };
        log.write(VersionVector::default(), EntryKind::Markers(vec![marker]), Vec::new());
        Some(log.parcels)
    }
}
