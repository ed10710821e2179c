//! A link between two nodes: its directions, and the connection over it.
//!
//! Knows delays and cuts, not what frames mean. Invariants: a frame belongs to the connection it
//! was sent on and arrives on no other; without disorder, frames of a direction arrive in the
//! order in which they were sent, as they do on a stream.

use crate::agenda::{ConnectionNumber, Micros};
use crate::dice::Dice;
use crate::faults::Faults;
use crate::geography::delay_millis;

/// One way of a link.
#[derive(Debug, Clone, Default)]
pub(crate) struct Direction {
    /// How many partitions cut it now.
    cuts: u32,
    /// Since when it has been cut.
    since: Micros,
    /// Until when the frames sent so far keep it busy.
    busy: Micros,
    /// When the last frame in order arrives.
    last: Micros,
}

impl Direction {
    pub(crate) fn is_cut(&self) -> bool {
        self.cuts > 0
    }

    /// Whether it has been cut ever since then.
    pub(crate) fn is_cut_since(&self, since: Micros) -> bool {
        self.is_cut() && self.since == since
    }

    pub(crate) fn cut(&mut self, now: Micros) {
        if self.cuts == 0 {
            self.since = now;
        }
        self.cuts += 1;
    }

    pub(crate) fn mend(&mut self) {
        self.cuts = self.cuts.saturating_sub(1);
    }

    pub(crate) fn mend_all(&mut self) {
        self.cuts = 0;
        self.busy = 0;
    }
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Link {
    /// The two nodes, the lesser first.
    pub(crate) ends: [usize; 2],
    /// The ways from each end to the other.
    pub(crate) ways: [Direction; 2],
    /// The newest connection, until one end gives it up.
    pub(crate) connection: Option<ConnectionNumber>,
    /// The connection that each end believes in.
    pub(crate) sides: [Option<ConnectionNumber>; 2],
    /// Whether an attempt to connect is entered in the agenda.
    pub(crate) dialling: bool,
    delay: Micros,
}

impl Link {
    pub(crate) fn between(one: usize, other: usize) -> Self {
        Self {
            ends: [one.min(other), one.max(other)],
            ways: [Direction::default(), Direction::default()],
            connection: None,
            sides: [None, None],
            dialling: false,
            delay: delay_millis(one, other) * 1_000,
        }
    }

    /// Which end `node` is.
    pub(crate) fn side_of(&self, node: usize) -> usize {
        usize::from(self.ends[1] == node)
    }

    /// The way that leaves from `node`.
    pub(crate) fn way_from(&mut self, node: usize) -> &mut Direction {
        let side = self.side_of(node);
        &mut self.ways[side]
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.ways.iter().any(Direction::is_cut)
    }

    /// One-way delay, with a little jitter.
    pub(crate) fn delay(&self, dice: &mut Dice) -> Micros {
        self.delay + dice.below(self.delay / 10)
    }

    /// When a frame of `bytes` that leaves `node` now arrives.
    pub(crate) fn arrival(
        &mut self,
        now: Micros,
        node: usize,
        bytes: usize,
        faults: &Faults,
        dice: &mut Dice,
    ) -> Micros {
        let delay = self.delay(dice);
        let way = self.way_from(node);
        let mut leaves = now;
        if let Some(busy) = (bytes as u64 * 1_000).checked_div(faults.bandwidth) {
            leaves = way.busy.max(now) + busy;
            way.busy = leaves;
        }
        if dice.chance(faults.disorder) {
            return leaves + delay + dice.below(delay + 200_000);
        }
        way.last = (leaves + delay).max(way.last + 1);
        way.last
    }
}

/// The place of the link between two of `nodes` nodes in a list of all links.
pub(crate) fn place_of(one: usize, other: usize, nodes: usize) -> usize {
    let (low, high) = (one.min(other), one.max(other));
    low * (2 * nodes - low - 1) / 2 + (high - low - 1)
}

/// All links of `nodes` nodes, each at its place.
pub(crate) fn links_of(nodes: usize) -> Vec<Link> {
    let mut links = Vec::new();
    for low in 0..nodes {
        links.extend((low + 1..nodes).map(|high| Link::between(low, high)));
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Stream;

    #[test]
    fn every_pair_has_its_place() {
        for nodes in 2..=8 {
            for (place, link) in links_of(nodes).iter().enumerate() {
                let [low, high] = link.ends;
                assert_eq!(place_of(high, low, nodes), place);
            }
        }
    }

    #[test]
    fn frames_keep_their_order_unless_disorder_is_on() {
        let mut dice = Dice::new(5, Stream::Network);
        let mut faults = Faults::draw(&mut Dice::new(5, Stream::Mix), None);
        let mut arrivals = |faults: &Faults| -> Vec<Micros> {
            let mut link = Link::between(0, 1);
            (0..200).map(|sent| link.arrival(sent * 10, 0, 100, faults, &mut dice)).collect()
        };
        faults.calm();
        assert!(arrivals(&faults).is_sorted());
        faults.disorder = 300;
        assert!(!arrivals(&faults).is_sorted());
    }

    #[test]
    fn a_way_that_is_cut_twice_must_be_mended_twice() {
        let mut way = Direction::default();
        way.cut(5);
        way.cut(9);
        way.mend();
        assert!(way.is_cut_since(5));
        way.mend();
        assert!(!way.is_cut());
    }
}
