//! The control stream: the greetings, the agreement on them, and signs of life.
//!
//! It must not know of frames or spaces' streams. Its one invariant: a connection takes the seat
//! of its peer only after both sides agreed to both greetings, and on the word of the node with
//! the lower id.
//!
//! ```text
//! dialling node          accepting node
//!   greeting  ───────────▶
//!             ◀───────────  greeting, AGREED
//!   AGREED    ───────────▶
//!      whoever has the lower id: YOU_ARE_IN to the other
//!      later, either: ARE_YOU_ALIVE, answered by ALIVE; THE_TIME_IS with 8 bytes
//! ```

use std::sync::Arc;

use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;
use warbler_replication::greeting::{
    Agreement, Greeting, HEADER_BYTES, MAX_FRAME_BYTES, PROTOCOL_VERSIONS, agree,
};
use warbler_store::id::{NodeId, OriginId};

use super::peer::{Peer, Taken};
use super::reason::{Code, Refusal};
use super::{Shared, clock, tls};

/// The sender agrees to both greetings.
pub(super) const AGREED: u8 = 1;
/// The connection is the one that counts.
pub(super) const YOU_ARE_IN: u8 = 2;
/// A sign of life is asked for.
pub(super) const ARE_YOU_ALIVE: u8 = 3;
/// A sign of life.
pub(super) const ALIVE: u8 = 4;

/// The sender's time follows.
pub(super) const THE_TIME_IS: u8 = 5;

/// How many bytes may wait for the control stream; there is rarely more than one.
const WAITING_BYTES: usize = 4;

/// Above the data streams, whose priority is 0: a sign of life must not wait for a backlog.
const PRIORITY: i32 = 1;

/// A connection in its peer's seat, with its control stream.
pub(super) struct Seated {
    pub(super) connection: Connection,
    pub(super) taken: Taken,
    pub(super) agreement: Agreement,
    pub(super) control: Control,
}

/// The control stream after the greetings.
pub(super) struct Control {
    origin: OriginId,
    send: SendStream,
    receive: RecvStream,
    replies: mpsc::Sender<u8>,
    waiting: mpsc::Receiver<u8>,
}

/// Greets on a fresh connection that we dialled (`Some`, with who should answer there) or accepted.
pub(super) async fn greet(
    shared: &Shared,
    connection: &Connection,
    dialled: Option<NodeId>,
) -> Result<Seated, Refusal> {
    let peer = identify(shared, connection, dialled)?;
    let streams = match dialled {
        Some(_) => connection.open_bi().await,
        None => connection.accept_bi().await,
    };
    let (mut send, mut receive) = streams.map_err(|error| Refusal::of_end(&error))?;
    let lost = |error: &dyn std::fmt::Display| Refusal::of_lost(connection, error);
    send.set_priority(PRIORITY).map_err(|error| lost(&error))?;

    let run = shared.run()?;
    let ours = shared.greeting(run, peer);
    send.write_all(&ours.encode()).await.map_err(|error| lost(&error))?;
    let theirs = read_greeting(connection, &mut receive).await?;
    let agreement = agree(&ours, &theirs, peer.id)
        .map_err(|refusal| Refusal::Ours(Code::Refused, refusal.to_string()))?;
    peer.check_run(theirs.origin)?;
    send.write_all(&[AGREED]).await.map_err(|error| lost(&error))?;
    expect(connection, &mut receive, AGREED).await?;

    if !peer.we_decide() {
        expect(connection, &mut receive, YOU_ARE_IN).await?;
    }
    let (replies, waiting) = mpsc::channel(WAITING_BYTES);
    let taken = peer.take_seat(connection, theirs.origin, replies.clone())?;
    shared.check_still_runs(run)?;
    if peer.we_decide() {
        send.write_all(&[YOU_ARE_IN]).await.map_err(|error| lost(&error))?;
    }
    let control = Control { origin: theirs.origin, send, receive, replies, waiting };
    Ok(Seated { connection: connection.clone(), taken, agreement, control })
}

/// Who TLS proved the other side to be.
fn identify<'a>(
    shared: &'a Shared,
    connection: &Connection,
    dialled: Option<NodeId>,
) -> Result<&'a Arc<Peer>, Refusal> {
    let refuse = |reason| Err(Refusal::Ours(Code::Refused, reason));
    let Some(proven) = tls::proven_id(connection) else {
        return refuse("the peer proved no key".to_owned());
    };
    if proven == shared.id {
        return refuse(format!(
            "node {proven} reached its own id: check the cluster file's addresses"
        ));
    }
    if let Some(expected) = dialled.filter(|expected| *expected != proven) {
        return refuse(format!("node {expected} was expected at this address, {proven} answered"));
    }
    match shared.peers.get(&proven) {
        Some(peer) => Ok(peer),
        None => refuse(format!("node {proven} is not in the cluster file")),
    }
}

async fn read_greeting(
    connection: &Connection,
    receive: &mut RecvStream,
) -> Result<Greeting, Refusal> {
    let lost = |error: &dyn std::fmt::Display| Refusal::of_lost(connection, error);
    let mut header = [0; HEADER_BYTES];
    receive.read_exact(&mut header).await.map_err(|error| lost(&error))?;
    let invalid = |error: &dyn std::fmt::Display| Refusal::Ours(Code::Refused, error.to_string());
    let length = Greeting::body_length(&header).map_err(|error| invalid(&error))?;
    let mut body = vec![0; length];
    receive.read_exact(&mut body).await.map_err(|error| lost(&error))?;
    Greeting::decode(&body).map_err(|error| invalid(&error))
}

async fn expect(
    connection: &Connection,
    receive: &mut RecvStream,
    expected: u8,
) -> Result<(), Refusal> {
    let mut byte = [0];
    receive.read_exact(&mut byte).await.map_err(|error| Refusal::of_lost(connection, &error))?;
    if byte == [expected] {
        return Ok(());
    }
    let text = format!("the byte {} came on the control stream instead of {expected}", byte[0]);
    Err(Refusal::Ours(Code::Violation, text))
}

impl Shared {
    fn greeting(&self, origin: OriginId, peer: &Peer) -> Greeting {
        Greeting {
            versions: PROTOCOL_VERSIONS.to_vec(),
            origin,
            node: self.id,
            cluster_version: self.cluster_version,
            spaces: peer.spaces.clone(),
            max_frame_bytes: MAX_FRAME_BYTES,
        }
    }
}

impl Control {
    /// Asks and answers for signs of life, and tells times, as long as the connection lives. Ends early only with the
    /// reason for which the connection has to be closed.
    pub(super) async fn run(self, peer: Arc<Peer>) -> Result<(), String> {
        let Self { origin, mut send, mut receive, replies, mut waiting } = self;
        let write = async {
            let mut clock = tokio::time::interval(clock::INTERVAL);
            clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                let sent = tokio::select! {
                    byte = waiting.recv() => match byte {
                        Some(byte) => send.write_all(&[byte]).await,
                        None => break,
                    },
                    _ = clock.tick() => {
                        send.write_all(&[&[THE_TIME_IS][..], &clock::now()].concat()).await
                    }
                };
                if sent.is_err() {
                    break;
                }
            }
        };
        let read = async {
            let mut byte = [0];
            while receive.read_exact(&mut byte).await.is_ok() {
                match byte[0] {
                    // A full queue holds a sign of life already.
                    ARE_YOU_ALIVE => drop(replies.try_send(ALIVE)),
                    ALIVE => peer.note_alive(origin),
                    THE_TIME_IS => {
                        let mut time = [0; clock::BYTES];
                        if receive.read_exact(&mut time).await.is_err() {
                            break;
                        }
                        peer.note_time(origin, time);
                    }
                    other => {
                        return Err(format!("the byte {other} is unknown on the control stream"));
                    }
                }
            }
            Ok(())
        };
        let ((), read) = tokio::join!(write, read);
        read
    }
}
