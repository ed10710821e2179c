//! One peer of the cluster file: which connection to it counts, and what is known of it.
//!
//! It must not know what travels on a connection. Its one invariant: at most one connection sits
//! in the peer's seat, and the node with the lower id decides which.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};
use warbler_store::id::{NodeId, OriginId, SpaceId};
use warbler_store::name::Name;

use super::clock::{self, Reading};
use super::lane::Lane;
use super::reason::{Code, GAVE_WAY, Refusal, close, describe};
use super::{PeerState, control};
use crate::config::{Cluster, ClusterNode, HostPort};

/// The first pause between two dials.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two dials.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A connection that lived this long was a good one: dials begin again with the first pause. A
/// shorter one, such as after a violation, counts like a failed dial.
const STEADY_AFTER: Duration = Duration::from_secs(10);
/// How long an alarm shows after its cause was last seen; longer than any pause between dials.
const ALARM_SHOWS_FOR: Duration = Duration::from_secs(60);

/// A peer.
pub(super) struct Peer {
    pub(super) id: NodeId,
    pub(super) name: Name,
    pub(super) region: Name,
    pub(super) address: HostPort,
    /// What both may see, by our cluster file.
    pub(super) spaces: Vec<SpaceId>,
    lanes: BTreeMap<SpaceId, Lane>,
    /// Whether we decide which of two connections stays.
    we_decide: bool,
    seat: Mutex<Seat>,
    occupied: watch::Sender<bool>,
    /// Held from before `Connected` to after `Disconnected` is told, so that two connections'
    /// events never mix.
    pub(super) turn: tokio::sync::Mutex<()>,
}

struct Seat {
    occupant: Option<Occupant>,
    since: SystemTime,
    last_error: Option<String>,
    /// A run that was refused because of the occupant; an alarm once the occupant proves alive.
    contest: Option<String>,
    alarm: Option<(String, Instant)>,
    past: Traffic,
    pause: Duration,
}

struct Occupant {
    connection: quinn::Connection,
    origin: OriginId,
    control: mpsc::Sender<u8>,
    began: Instant,
    /// What its clock said last.
    clock: Option<Reading>,
    /// Why we closed it, if we did.
    ended_by_us: Option<String>,
}

#[derive(Clone, Copy, Default)]
struct Traffic {
    sent: u64,
    received: u64,
}

impl Traffic {
    fn and_of(self, connection: &quinn::Connection) -> Self {
        let stats = connection.stats();
        Self { sent: self.sent + stats.udp_tx.bytes, received: self.received + stats.udp_rx.bytes }
    }
}

/// What is done with a connection whose greetings were agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It sits down.
    Take,
    /// It sits down in place of the other one.
    Replace,
    /// It gives way.
    GiveWay,
    /// It is refused: another run of the peer sits here.
    OtherRun,
}

/// Settles two connections with one peer. `sitting` is the run of the peer that sits here. The node
/// that decides keeps the first and says so to the other, which follows.
fn settle(sitting: Option<OriginId>, new: OriginId, we_decide: bool) -> Verdict {
    match sitting {
        None => Verdict::Take,
        Some(origin) if origin != new => Verdict::OtherRun,
        Some(_) if we_decide => Verdict::GiveWay,
        Some(_) => Verdict::Replace,
    }
}

/// The seat of a peer, taken by a connection until this is dropped.
pub(super) struct Taken {
    peer: Arc<Peer>,
    stable_id: usize,
}

impl Taken {
    pub(super) const fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.peer.leave(self.stable_id);
    }
}

impl Peer {
    /// The peer that `node` of `cluster` is to `us`.
    pub(super) fn new(us: NodeId, node: &ClusterNode, cluster: &Cluster) -> Self {
        let spaces = cluster.shared_spaces(us, node.id);
        Self {
            id: node.id,
            name: node.name.clone(),
            region: node.region.clone(),
            address: node.address.clone(),
            lanes: spaces.iter().map(|space| (*space, Lane::default())).collect(),
            spaces,
            we_decide: us < node.id,
            seat: Mutex::new(Seat {
                occupant: None,
                since: SystemTime::now(),
                last_error: None,
                contest: None,
                alarm: None,
                past: Traffic::default(),
                pause: FIRST_PAUSE,
            }),
            occupied: watch::Sender::new(false),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// What waits for the peer in `space`; none if the two do not share it.
    pub(super) fn lane(&self, space: SpaceId) -> Option<&Lane> {
        self.lanes.get(&space)
    }

    pub(super) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.values()
    }

    /// Whether it is us who decide which of two connections stays: the node with the lower id.
    pub(super) const fn we_decide(&self) -> bool {
        self.we_decide
    }

    /// Gives the seat to a connection, or says why not.
    pub(super) fn take_seat(
        self: &Arc<Self>,
        connection: &quinn::Connection,
        origin: OriginId,
        control: mpsc::Sender<u8>,
    ) -> Result<Taken, Refusal> {
        let mut seat = self.seat();
        let sitting = seat.occupant.as_ref().map(|occupant| occupant.origin);
        match settle(sitting, origin, self.we_decide) {
            Verdict::Take => {}
            Verdict::Replace => self.retire(&mut seat),
            Verdict::GiveWay => {
                seat.ask_whether_alive();
                return Err(Refusal::GaveWay);
            }
            Verdict::OtherRun => return Err(self.refuse_other_run(&mut seat, origin)),
        }
        seat.occupant = Some(Occupant {
            connection: connection.clone(),
            origin,
            control,
            began: Instant::now(),
            clock: None,
            ended_by_us: None,
        });
        seat.since = SystemTime::now();
        self.occupied.send_replace(true);
        Ok(Taken { peer: Arc::clone(self), stable_id: connection.stable_id() })
    }

    /// Refuses a run of the peer while another one is connected.
    pub(super) fn check_run(&self, origin: OriginId) -> Result<(), Refusal> {
        let mut seat = self.seat();
        match &seat.occupant {
            Some(occupant) if occupant.origin != origin => {
                Err(self.refuse_other_run(&mut seat, origin))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The refusal of a second run. The sitting one is asked for a sign of life: only if it gives
    /// one are there two live runs. Otherwise it was killed, its end is learned by asking, and the
    /// new run is let in at its next dial.
    fn refuse_other_run(&self, seat: &mut Seat, new: OriginId) -> Refusal {
        let sitting = seat.occupant.as_ref().map(|occupant| occupant.origin);
        let text = format!(
            "another run of {} ({}) is connected: run {} is kept, run {new} is refused until the \
             first is silent",
            self.name,
            self.id.short(),
            sitting.map_or_else(|| "?".to_owned(), |origin| origin.to_string()),
        );
        seat.contest = Some(text.clone());
        seat.ask_whether_alive();
        Refusal::Ours(Code::OtherRun, text)
    }

    /// The occupant gave a sign of life after it was asked for one.
    pub(super) fn note_alive(&self, origin: OriginId) {
        let mut seat = self.seat();
        if seat.occupant.as_ref().is_none_or(|occupant| occupant.origin != origin) {
            return;
        }
        if let Some(text) = seat.contest.take() {
            tracing::error!(peer = %self.name, id = %self.id, "two live runs of one node id: {text}");
            seat.alarm = Some((text, Instant::now()));
        }
    }

    /// The occupant told its time.
    pub(super) fn note_time(&self, origin: OriginId, time: [u8; clock::BYTES]) {
        if let Some(occupant) = &mut self.seat().occupant
            && occupant.origin == origin
        {
            occupant.clock = Some(Reading::of(time, occupant.connection.rtt()));
        }
    }

    /// Closes the connection that sits here, if one does.
    pub(super) fn end_sitting(&self, code: Code, reason: &str) {
        let sitting = self.seat().occupant.as_ref().map(|occupant| occupant.connection.clone());
        if let Some(connection) = sitting {
            self.end(&connection, code, reason);
        }
    }

    /// Closes a connection to this peer.
    pub(super) fn end(&self, connection: &quinn::Connection, code: Code, reason: &str) {
        if let Some(occupant) = &mut self.seat().occupant
            && occupant.connection.stable_id() == connection.stable_id()
        {
            occupant.ended_by_us.get_or_insert_with(|| reason.to_owned());
        }
        close(connection, code, reason);
    }

    /// Why a connection of this peer ended, for people.
    pub(super) fn reason_of_end(&self, connection: &quinn::Connection) -> String {
        let seat = self.seat();
        let ours = seat.occupant.as_ref().and_then(|occupant| {
            let same = occupant.connection.stable_id() == connection.stable_id();
            occupant.ended_by_us.clone().filter(|_| same)
        });
        let theirs = || connection.close_reason().as_ref().map(describe);
        ours.or_else(theirs).unwrap_or_else(|| "it gave way to another connection".to_owned())
    }

    /// Makes room for a newer connection.
    fn retire(&self, seat: &mut Seat) {
        if let Some(occupant) = seat.occupant.take() {
            close(&occupant.connection, Code::Duplicate, GAVE_WAY);
            seat.past = seat.past.and_of(&occupant.connection);
        }
    }

    fn leave(&self, stable_id: usize) {
        let mut seat = self.seat();
        let leaves = |occupant: &mut Occupant| occupant.connection.stable_id() == stable_id;
        // A connection that was replaced has left already.
        let Some(occupant) = seat.occupant.take_if(leaves) else { return };
        seat.past = seat.past.and_of(&occupant.connection);
        seat.since = SystemTime::now();
        seat.contest = None;
        if occupant.began.elapsed() >= STEADY_AFTER {
            seat.pause = FIRST_PAUSE;
        }
        self.occupied.send_replace(false);
    }

    /// Notes why there is no connection. Repetitions are logged at debug only: a region can be
    /// away for days.
    pub(super) fn note_failure(&self, text: &str) {
        let mut seat = self.seat();
        if seat.last_error.as_deref() == Some(text) {
            tracing::debug!(peer = %self.name, "still no connection: {text}");
        } else {
            tracing::warn!(peer = %self.name, address = %self.address, "no connection: {text}");
            seat.last_error = Some(text.to_owned());
        }
    }

    /// Notes how a connection ended.
    pub(super) fn note_end(&self, reason: &str) {
        self.seat().last_error = Some(reason.to_owned());
    }

    /// Waits until no connection sits here.
    pub(super) async fn vacant(&self) {
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = self.occupied.subscribe().wait_for(|occupied| !occupied).await;
    }

    pub(super) fn is_occupied(&self) -> bool {
        *self.occupied.borrow()
    }

    /// How long to wait before the next dial: doubled each time, and between half and all of that
    /// by `chance` (0 to 255), so that nodes that fell together do not dial together.
    pub(super) fn next_pause(&self, chance: u8) -> Duration {
        let mut seat = self.seat();
        let half = seat.pause / 2;
        seat.pause = (seat.pause * 2).min(LONGEST_PAUSE);
        half + half * u32::from(chance) / 255
    }

    pub(super) fn state(&self) -> PeerState {
        let seat = self.seat();
        let connection = seat.occupant.as_ref().map(|occupant| &occupant.connection);
        let traffic = connection.map_or(seat.past, |connection| seat.past.and_of(connection));
        let shown = |alarm: &(String, Instant)| alarm.1.elapsed() < ALARM_SHOWS_FOR;
        PeerState {
            id: self.id,
            name: self.name.clone(),
            region: self.region.clone(),
            address: self.address.clone(),
            connected: connection.is_some(),
            since: seat.since,
            remote: connection.map(quinn::Connection::remote_address),
            rtt: connection.map(quinn::Connection::rtt),
            clock_ahead_millis: seat.occupant.as_ref().and_then(|it| it.clock?.ahead()),
            sent_bytes: traffic.sent,
            received_bytes: traffic.received,
            dropped_frames: self.lanes.values().map(Lane::dropped).sum(),
            last_error: seat.last_error.clone(),
            alarm: seat.alarm.as_ref().filter(|alarm| shown(alarm)).map(|(text, _)| text.clone()),
        }
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Asks the occupant for a sign of life. If its process is gone, whatever runs at its address
    /// now answers that it does not know the connection, which ends it at once.
    fn ask_whether_alive(&self) {
        if let Some(occupant) = &self.occupant {
            // A full queue holds a question already.
            let _ = occupant.control.try_send(control::ARE_YOU_ALIVE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: OriginId = OriginId([1; 16]);
    const SECOND: OriginId = OriginId([2; 16]);

    #[test]
    fn the_node_that_decides_keeps_the_first_connection_and_the_other_one_follows() {
        for we_decide in [true, false] {
            assert_eq!(settle(None, FIRST, we_decide), Verdict::Take);
        }
        assert_eq!(settle(Some(FIRST), FIRST, true), Verdict::GiveWay);
        assert_eq!(settle(Some(FIRST), FIRST, false), Verdict::Replace);
    }

    #[test]
    fn a_second_run_is_refused_by_either_side() {
        for we_decide in [true, false] {
            assert_eq!(settle(Some(FIRST), SECOND, we_decide), Verdict::OtherRun);
        }
    }

    #[test]
    fn pauses_double_with_jitter_up_to_the_longest() {
        let text = "version = 1\n[[node]]\nname = \"a\"\nregion = \"r\"\naddress = \"127.0.0.1:1\"\n\
                    id = \"0101010101010101010101010101010101010101010101010101010101010101\"\n\
                    [[space]]\nname = \"main\"\nregions = [\"r\"]\n";
        let cluster = Cluster::parse(std::path::Path::new("c"), text).expect("a cluster");
        let pauses = |chance| -> Vec<u128> {
            let peer = Peer::new(NodeId([0; 32]), &cluster.nodes[0], &cluster);
            (0..9).map(|_| peer.next_pause(chance).as_millis()).collect()
        };
        assert_eq!(pauses(255), [50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(pauses(0), [25, 50, 100, 200, 400, 800, 1_600, 2_500, 2_500]);
    }
}
