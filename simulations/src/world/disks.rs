//! Disks that fill up, rot, or are lost.
//!
//! A node whose disk is damaged is left alone by people and looked at with indulgence: it may say
//! that it is damaged, and stop; it may not show or send anything wrong. Then its disk is
//! replaced by an empty one, and it pulls everything again. Invariant: in calm no disk is damaged
//! or full.

use warbler_store::engine::{Direction, Engine, MemoryEngine, Table, View};
use warbler_store::reader::{Range, ReadError};

use super::{Step, World};
use crate::agenda::{Event, Micros};
use crate::checkers::{Broken, Model, Promise};

/// Messages on a page.
const PAGE: usize = 50;
/// For so long after its disk was lost peers may believe what a node said before, in
/// microseconds.
const BELIEVED_MICROS: Micros = 6_000_000;

impl World<'_> {
    pub(super) fn fill_any(&mut self) {
        let Some(at) = self.any_running() else { return };
        self.story.full_disks += 1;
        let room = self.dice.trouble.below(4_000);
        let engine = &self.nodes[at].engine;
        engine.fill_up(Some(engine.disk_bytes() + room));
        let again = self.now + self.dice.trouble.between(500_000, 4_000_000);
        self.nodes[at].full = again;
        self.agenda.enter(again, Event::Room { node: at });
        self.tell(at, || "its disk is nearly full".to_owned());
    }

    pub(super) fn make_room(&mut self, at: usize) {
        self.nodes[at].engine.fill_up(None);
        self.nodes[at].full = 0;
        let run = self.nodes[at].run;
        if !self.nodes[at].is_running() {
            self.agenda.enter(self.now + 1_000, Event::Start { node: at, run });
        }
    }

    pub(super) fn wipe_any(&mut self) -> Step {
        let Some(at) = self.any_running() else { return Ok(()) };
        self.lose_power(at)?;
        self.wipe(at);
        let back = self.now + self.dice.trouble.between(50_000, 3_000_000);
        let run = self.nodes[at].run;
        self.agenda.enter(back, Event::Start { node: at, run });
        Ok(())
    }

    /// An empty disk takes the place of a node's.
    pub(super) fn wipe(&mut self, at: usize) {
        self.story.wiped_disks += 1;
        self.tell(at, || "has an empty disk".to_owned());
        let node = &mut self.nodes[at];
        node.exchange_disk(MemoryEngine::new(), self.space_id);
        (node.is_damaged, node.wiped, node.tear) = (false, Some(self.now), None);
        self.checkers.causality.wiped(at);
        self.checkers.erasures.wiped(at);
        self.checkers.uniqueness.wiped(at);
        self.checkers.durability.wiped(at);
        self.checkers.models[at] = Model::default();
    }

    /// Whether what was said to be on the disk of a node can be looked for there.
    pub(super) fn is_sound(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        let is_new = node.wiped.is_some_and(|wiped| wiped + BELIEVED_MICROS > self.now);
        !node.is_damaged && !is_new
    }

    pub(super) fn flip_any(&mut self) -> Step {
        let Some(at) = self.any_running() else { return Ok(()) };
        let table = Table::ALL[self.dice.trouble.index(Table::ALL.len())];
        let engine = self.nodes[at].engine.clone();
        let rows = engine.scan(table, &[], &[0xff; 80], Direction::Forward);
        let keys: Vec<Vec<u8>> = rows.filter_map(|row| row.ok().map(|(key, _)| key)).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let key = &keys[self.dice.trouble.index(keys.len())];
        let bit = self.dice.trouble.below(1 << 20) as usize;
        if !engine.flip_bit(table, key, bit) {
            return Ok(());
        }
        self.story.flipped_bits += 1;
        self.tell(at, || format!("a bit flips in its table `{table}`"));
        self.nodes[at].is_damaged = true;
        let replaced = self.now + self.dice.trouble.between(200_000, 3_000_000);
        self.agenda.enter(replaced, Event::Replace { node: at });
        self.look_at_damage(at)
    }

    /// Whatever a damaged disk lets be read must be what was written.
    fn look_at_damage(&self, at: usize) -> Step {
        let Self { checkers, nodes, .. } = self;
        let (reader, rows) = (&nodes[at].reader, checkers.erasures.rows(at));
        for name in checkers.ledger.names() {
            let page = match reader.page(name, Range::Last, PAGE) {
                Ok(page) => page,
                Err(ReadError::UnknownConversation(_) | ReadError::Engine(_)) => continue,
            };
            for message in page.messages {
                let due = checkers.models[at].message(name, message.id, rows);
                if due.as_ref() != Some(&message) {
                    let how = format!("damaged, node {at} shows {message:?}, not {due:?}");
                    return Err(Broken::new(Promise::Containment, how));
                }
            }
        }
        Ok(())
    }

    /// A damaged disk is replaced.
    pub(super) fn replace(&mut self, at: usize) -> Step {
        if !self.nodes[at].is_damaged {
            return Ok(());
        }
        self.lose_power(at)?;
        self.wipe(at);
        let run = self.nodes[at].run;
        self.agenda.enter(self.now + 50_000, Event::Start { node: at, run });
        Ok(())
    }
}
