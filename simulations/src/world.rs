//! A world: nodes, links and people on one agenda of virtual time.
//!
//! This file is the hub: it sets the world up, takes events from the agenda and dispatches them.
//! Invariant: everything that happens is an event or follows from one, at one virtual moment.

mod deeds;
mod disks;
mod driver;
mod network;
mod people;
mod poison;
mod spoil;
mod trouble;
mod upkeep;
mod verdict;

use std::collections::BTreeMap;

use warbler_replication::replicator::{CommandId, Roster};
use warbler_store::id::{NodeId, SpaceId};
use warbler_store::name::Name;
use warbler_store::reader::Reader;

use self::network::Inspected;
use self::people::Asked;
use crate::agenda::{Agenda, ConnectionNumber, Event, Micros};
use crate::checkers::{Broken, Checkers, Ledger};
use crate::clients::Client;
use crate::dice::{Dice, Stream};
use crate::faults::Faults;
use crate::geography::REGIONS;
use crate::link::{Link, links_of};
use crate::node::Node;
use crate::plan::{Failure, Plan};
use crate::story::{Chronicle, Story};

/// People in each region.
const CLIENTS_A_NODE: usize = 2;

/// What an event comes to.
type Step = Result<(), Broken>;

/// A stream of random numbers for each concern.
struct Streams {
    trouble: Dice,
    network: Dice,
    disk: Dice,
    clients: Dice,
    identity: Dice,
    upkeep: Dice,
}

/// See the module's comment.
pub(crate) struct World<'t> {
    plan: Plan,
    faults: Faults,
    now: Micros,
    /// When all trouble ended.
    calm: Option<Micros>,
    /// Whether all nodes held the same when that was looked at last, in calm.
    agreed: bool,
    agenda: Agenda,
    dice: Streams,
    space: Name,
    space_id: SpaceId,
    roster: Roster,
    nodes: Vec<Node>,
    links: Vec<Link>,
    clients: Vec<Client>,
    asked: BTreeMap<CommandId, Asked>,
    commands: u64,
    connections: ConnectionNumber,
    inspected: Option<Inspected>,
    checkers: Checkers,
    story: Story,
    chronicle: Chronicle<'t>,
}

impl<'t> World<'t> {
    pub(crate) fn new(plan: Plan, tell: Option<&'t mut dyn FnMut(&str)>) -> Self {
        let faults = Faults::draw(&mut Dice::new(plan.seed, Stream::Mix), plan.mutant);
        let stream = |stream| Dice::new(plan.seed, stream);
        let space: Name = "main".parse().expect("a name");
        let space_id = SpaceId::of(&space);
        let nodes: Vec<Node> = (0..plan.nodes)
            .map(|place| {
                let region = REGIONS[place].parse().expect("a name");
                Node::new(NodeId([place as u8 + 1; 32]), region, space_id)
            })
            .collect();
        let roster = Roster {
            regions: nodes.iter().map(|node| node.region.clone()).collect(),
            nodes: nodes.iter().map(|node| (node.id, node.region.clone())).collect(),
        };
        let clients = (0..plan.nodes * CLIENTS_A_NODE)
            .map(|number| Client::new(number, number % plan.nodes))
            .collect();
        let ledger = Ledger::new(space_id, faults.conversations);
        Self {
            checkers: Checkers::new(ledger, space_id, plan.nodes, !faults.wild_clock),
            plan,
            faults,
            now: 0,
            calm: None,
            agreed: false,
            agenda: Agenda::default(),
            dice: Streams {
                trouble: stream(Stream::Trouble),
                network: stream(Stream::Network),
                disk: stream(Stream::Disk),
                clients: stream(Stream::Clients),
                identity: stream(Stream::Identity),
                upkeep: stream(Stream::Upkeep),
            },
            space,
            space_id,
            roster,
            nodes,
            links: links_of(plan.nodes),
            clients,
            asked: BTreeMap::new(),
            commands: 0,
            connections: 0,
            inspected: None,
            story: Story::default(),
            chronicle: Chronicle::new(tell),
        }
    }

    /// Lets it all happen.
    pub(crate) fn run(mut self) -> Result<Story, Box<Failure>> {
        self.tell_of("world", |world| format!("{:?}", world.faults));
        self.plan_everything();
        while let Some((at, event)) = self.agenda.next() {
            self.now = at;
            let ends = matches!(event, Event::End);
            if let Err(broken) = self.happen(event) {
                self.tell_of("world", |_| broken.to_string());
                return Err(Box::new(Failure { plan: self.plan, at_micros: at, broken }));
            }
            if ends {
                break;
            }
        }
        self.story.virtual_millis = self.now / 1_000;
        self.story.hash = Some(self.chronicle.hash());
        Ok(self.story)
    }

    fn happen(&mut self, event: Event) -> Step {
        if let Some(node) = event.node()
            && self.nodes[node].paused > self.now
        {
            self.agenda.enter(self.nodes[node].paused, event);
            return Ok(());
        }
        self.story.events += 1;
        let (tag, place, bytes) = event.mark();
        self.chronicle.note(self.now, tag, place, bytes);
        match event {
            Event::Frame { from, to, connection, bytes } => {
                self.deliver(from, to, connection, bytes)
            }
            Event::Command { node, command } => self.take_command(node, command),
            Event::Flushed { node, run } => self.flushed(node, run),
            Event::Written { node, run, ticket } => self.written(node, run, ticket),
            Event::Idle { node, run } => self.idle(node, run),
            Event::Wake { node, run, at } => self.wake(node, run, at),
            Event::Upkeep { node, run } => self.upkeep(node, run),
            Event::Built { node, run, document, built } => {
                self.built(node, run, document, built.map(|built| *built))
            }
            Event::Purged { node, run, conversation, sweep } => {
                self.purged(node, run, conversation, sweep)
            }
            Event::Act { client } => self.act(client),
            Event::Impatient { client, attempt } => self.grow_impatient(client, attempt),
            Event::Dial { link } => {
                self.dial(link);
                Ok(())
            }
            Event::Up { link, side, connection } => self.up(link, side, connection),
            Event::Down { link, side, connection } => self.down(link, side, connection),
            Event::Silent { from, to, connection, since } => {
                self.fall_silent(from, to, connection, since)
            }
            Event::Crash => self.crash_any(),
            Event::Start { node, run } => self.start(node, run),
            Event::Tear => {
                self.tear_any();
                Ok(())
            }
            Event::Pause => {
                self.pause_any();
                Ok(())
            }
            Event::Jump => {
                self.jump_any();
                Ok(())
            }
            Event::Cut => {
                self.cut_any();
                Ok(())
            }
            Event::Mend { cut } => {
                self.mend(&cut);
                Ok(())
            }
            Event::Poison => self.poison_any(),
            Event::Fill => {
                self.fill_any();
                Ok(())
            }
            Event::Room { node } => {
                self.make_room(node);
                Ok(())
            }
            Event::Wipe => self.wipe_any(),
            Event::Flip => self.flip_any(),
            Event::Replace { node } => self.replace(node),
            Event::Reconnect => self.reconnect_any(),
            Event::Calm => {
                self.grow_calm();
                Ok(())
            }
            Event::Converged => self.judge(),
            Event::End => self.checkers.quiescence.end(self.plan.nodes),
        }
    }

    fn is_calm(&self) -> bool {
        self.calm.is_some()
    }

    fn readers(&self) -> Vec<Reader> {
        self.nodes.iter().map(|node| node.reader.clone()).collect()
    }

    /// Tells a line about a node.
    fn tell(&mut self, node: usize, line: impl FnOnce() -> String) {
        self.chronicle.tell(self.now, REGIONS[node], line);
    }

    /// Tells a line about something that belongs to no node.
    fn tell_of(&mut self, place: &str, line: impl FnOnce(&World<'_>) -> String) {
        if self.chronicle.is_heard() {
            let line = line(self);
            self.chronicle.tell(self.now, place, || line);
        }
    }
}

/// Something that must not be, of which no promise speaks.
fn unsound(how: String) -> Broken {
    Broken::new(crate::checkers::Promise::Soundness, how)
}
