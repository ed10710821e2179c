//! The end of a run: has everything converged, and is it silent?
//!
//! Reads whole timelines through readers, on some nodes forward and on others backward, so that
//! both ways must show the same.

use warbler_store::id::MessageId;
use warbler_store::reader::{Range, ReadError, Reader};
use warbler_store::record::Message;
use warbler_store::replica::Point;

use super::{Step, World};
use crate::agenda::Event;
use crate::checkers::{Broken, Checkers, Promise, SILENCE_MILLIS, Timelines, Truth, containment};

/// Messages on a page.
const PAGE: usize = 50;

impl World<'_> {
    /// Takes note of the moment at which all nodes hold the same.
    pub(super) fn note_convergence(&mut self) {
        let Some(calm) = self.calm else { return };
        let mut points = self.nodes.iter().map(|node| {
            node.process.as_ref().map(|process| &process.replicator.replica().durable().vector)
        });
        let first = points.next().flatten();
        let agree = first.is_some() && points.all(|point| point == first);
        if agree && !self.agreed {
            self.story.converged_millis = (self.now - calm) / 1_000;
        }
        self.agreed = agree;
    }

    /// The bound has passed.
    pub(super) fn judge(&mut self) -> Step {
        let points: Vec<Option<Point>> = self
            .nodes
            .iter()
            .map(|node| {
                let process = node.process.as_ref()?;
                Some(process.replicator.replica().durable().clone())
            })
            .collect();
        let timelines =
            (0..self.plan.nodes).map(|node| self.timelines(node)).collect::<Result<Vec<_>, _>>()?;
        self.checkers.convergence.at_the_end(&points, &timelines)?;
        let Checkers { ledger, archive, erasures, durability, .. } = &self.checkers;
        durability.at_the_end(&self.readers(), Truth { ledger, archive }, erasures)?;
        for at in 0..self.plan.nodes {
            self.look_at(at)?;
            let swept = self.faults.upkeep > 0;
            let Checkers { archive, erasures, durability, .. } = &self.checkers;
            let (disk, held) = (&self.nodes[at].engine, durability.held(at));
            let held = (held, erasures.rows(at));
            containment::at_the_end(at, disk, self.space_id, archive, held)?;
            self.checkers.erasures.search(at, &self.nodes[at].engine, swept)?;
        }
        self.check_peers()?;
        self.check_lists(&timelines[0])?;
        self.story.messages = timelines[0].iter().map(|timeline| timeline.len() as u64).sum();
        self.tell_of("world", |_| "converged".to_owned());
        self.checkers.quiescence.begin();
        self.agenda.enter(self.now + SILENCE_MILLIS * 1_000, Event::End);
        Ok(())
    }

    /// Whole timelines of all conversations at a node, each message checked.
    fn timelines(&self, at: usize) -> Result<Timelines, Broken> {
        let reader = &self.nodes[at].reader;
        let mut timelines = Vec::new();
        for name in self.checkers.ledger.names() {
            let read =
                if at.is_multiple_of(2) { forward(reader, name) } else { backward(reader, name) };
            let messages = match read {
                Ok(messages) => messages,
                Err(ReadError::UnknownConversation(_)) => Vec::new(),
                Err(error @ ReadError::Engine(_)) => {
                    let how = format!("node {at} cannot read `{name}`: {error}");
                    return Err(Broken::new(Promise::Soundness, how));
                }
            };
            self.checkers.uniqueness.shown(at, &messages, &self.checkers.ledger)?;
            timelines.push(messages);
        }
        Ok(timelines)
    }

    /// Nobody may believe that anybody lacks anything.
    fn check_peers(&self) -> Step {
        for (at, node) in self.nodes.iter().enumerate() {
            let Some(process) = &node.process else { continue };
            let peers = process.replicator.peers();
            let unsettled = |peer: &&warbler_replication::replicator::PeerProgress| {
                peer.behind > 0 || peer.ahead > 0 || peer.waiting > 0 || peer.catching_up
            };
            if let Some(peer) = peers.iter().find(unsettled) {
                let how = format!("all is converged, but node {at} believes {peer:?}");
                return Err(Broken::new(Promise::Convergence, how));
            }
            if peers.len() + 1 != self.plan.nodes {
                let how = format!("node {at} is connected to {} peers only", peers.len());
                return Err(Broken::new(Promise::Convergence, how));
            }
        }
        Ok(())
    }

    /// Lists of conversations must be equal, and count what the timelines show.
    fn check_lists(&mut self, timelines: &Timelines) -> Step {
        let broken = |how: String| Err(Broken::new(Promise::Convergence, how));
        let mut first = None;
        for (at, node) in self.nodes.iter().enumerate() {
            let list = match node.reader.conversations(None, usize::MAX) {
                Ok(list) => list,
                Err(error) => return broken(format!("node {at} cannot list: {error}")),
            };
            for (number, name) in self.checkers.ledger.names().enumerate() {
                let row = list.iter().find(|row| row.name == *name);
                let (count, last) = row.map_or((0, None), |row| (row.messages, row.last));
                let shown = &timelines[number];
                let newest = shown.last().map(|message| message.id);
                if (count, last) != (shown.len() as u64, newest) {
                    return broken(format!(
                        "node {at} lists {count} messages of `{name}`, the last {last:?}, and shows \
                         {}, the last {newest:?}",
                        shown.len()
                    ));
                }
            }
            self.story.conversations = list.len() as u64;
            if *first.get_or_insert_with(|| list.clone()) != list {
                return broken(format!("nodes 0 and {at} list different conversations"));
            }
        }
        Ok(())
    }
}

fn forward(reader: &Reader, name: &warbler_store::name::Name) -> Result<Vec<Message>, ReadError> {
    let mut messages: Vec<Message> = Vec::new();
    loop {
        let after = messages.last().map_or(MessageId::MIN, |message| message.id);
        let page = reader.page(name, Range::After(after), PAGE)?;
        messages.extend(page.messages);
        if !page.newer {
            return Ok(messages);
        }
    }
}

fn backward(reader: &Reader, name: &warbler_store::name::Name) -> Result<Vec<Message>, ReadError> {
    let mut messages: Vec<Message> = Vec::new();
    let mut range = Range::Last;
    loop {
        let mut page = reader.page(name, range, PAGE)?;
        page.messages.append(&mut messages);
        messages = page.messages;
        match messages.first() {
            Some(first) if page.older => range = Range::Before(first.id),
            Some(_) | None => return Ok(messages),
        }
    }
}
