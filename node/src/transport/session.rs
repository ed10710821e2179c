//! A connection at work: from its seat to the peer's `Disconnected`.
//!
//! It must not know how the connection came to be. Its one invariant: for one peer, `Connected`
//! comes first, then frames, then `Disconnected`, and nothing of this connection after that.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use quinn::{Connection, RecvStream};
use tokio::task::JoinSet;
use warbler_store::id::SpaceId;

use super::control::Seated;
use super::frames::{FrameDecoder, append};
use super::peer::Peer;
use super::reason::Code;
use super::{PeerEvent, Shared};

/// The first byte of a stream of frames of one space; 16 bytes of space id follow. Other kinds of
/// streams come with later versions.
pub(super) const FRAMES: u8 = 1;

/// Length of what stands before the first frame of a stream, in bytes.
const STREAM_HEADER_BYTES: usize = 1 + SpaceId::BYTES;

/// Frames are written together up to about this many bytes.
const WRITE_BYTES: usize = 64 * 1024;

/// What a session's tasks end with: an error is the reason for which the connection is closed.
type End = Result<(), String>;

/// Runs a connection until it ends, however that happens.
pub(super) async fn run(shared: Arc<Shared>, seated: Seated) {
    let Seated { connection, taken, agreement, control } = seated;
    let peer = Arc::clone(taken.peer());
    let _turn = peer.turn.lock().await;

    for lane in agreement.spaces.iter().filter_map(|space| peer.lane(*space)) {
        lane.open(agreement.max_frame_bytes);
    }
    tracing::info!(
        peer = %peer.name, id = %peer.id, address = %connection.remote_address(),
        spaces = agreement.spaces.len(), version = agreement.version, "connected"
    );
    let spaces = agreement.spaces.clone();
    let version = agreement.version;
    (shared.events)(PeerEvent::Connected { peer: peer.id, version, spaces: spaces.clone() });

    let mut tasks: JoinSet<End> = JoinSet::new();
    tasks.spawn(control.run(Arc::clone(&peer)));
    for space in &spaces {
        tasks.spawn(write_frames(connection.clone(), Arc::clone(&peer), *space));
    }
    watch(&shared, &connection, &peer, spaces, &mut tasks).await;

    peer.lanes().for_each(super::lane::Lane::close);
    // Aborted tasks end at an await, so that a reader that is delivering a frame delivers it first.
    tasks.shutdown().await;
    let reason = peer.reason_of_end(&connection);
    peer.note_end(&reason);
    drop(taken);
    tracing::info!(peer = %peer.name, id = %peer.id, "disconnected: {reason}");
    (shared.events)(PeerEvent::Disconnected { peer: peer.id, reason });
}

/// Takes the peer's streams until the connection has ended.
async fn watch(
    shared: &Arc<Shared>,
    connection: &Connection,
    peer: &Arc<Peer>,
    spaces: Vec<SpaceId>,
    tasks: &mut JoinSet<End>,
) {
    let expected = Expected(Arc::new(Mutex::new(spaces.into_iter().collect())));
    let mut closing = shared.closing.subscribe();
    loop {
        tokio::select! {
            stream = connection.accept_uni() => match stream {
                Ok(stream) => {
                    let reader = Reader { shared: Arc::clone(shared), peer: Arc::clone(peer) };
                    tasks.spawn(reader.run(stream, expected.clone()));
                }
                Err(_) => return,
            },
            Some(ended) = tasks.join_next() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(violation)) => peer.end(connection, Code::Violation, &violation),
                Err(panic) => {
                    tracing::error!(peer = %peer.name, "a task of the connection failed: {panic}");
                    peer.end(connection, Code::GoingAway, "internal error");
                }
            },
            reason = closing.wait_for(Option::is_some) => {
                let reason = reason.ok().and_then(|reason| reason.clone()).unwrap_or_default();
                peer.end(connection, Code::GoingAway, &reason);
                return;
            }
        }
    }
}

/// The spaces whose stream the peer has yet to open; each is opened once.
#[derive(Clone)]
struct Expected(Arc<Mutex<BTreeSet<SpaceId>>>);

impl Expected {
    fn take(&self, space: SpaceId) -> Result<(), String> {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&space) {
            return Ok(());
        }
        Err(format!("a stream was opened for space {space}, which is not agreed on or has one"))
    }
}

/// Writes what waits for the peer in one space to a stream of its own.
async fn write_frames(connection: Connection, peer: Arc<Peer>, space: SpaceId) -> End {
    let Some(lane) = peer.lane(space) else { return Ok(()) };
    // An error means that the connection is at its end, or that the peer wants no more of the
    // stream, which no honest one does.
    let Ok(mut stream) = connection.open_uni().await else { return Ok(()) };
    let mut bytes = Vec::with_capacity(WRITE_BYTES);
    bytes.push(FRAMES);
    bytes.extend(space.0);
    let stopped = |error| match error {
        quinn::WriteError::Stopped(code) => {
            Err(format!("the peer stopped the stream of space {space} with code {code}"))
        }
        quinn::WriteError::ConnectionLost(_)
        | quinn::WriteError::ClosedStream
        | quinn::WriteError::ZeroRttRejected => Ok(()),
    };
    loop {
        if let Err(error) = stream.write_all(&bytes).await {
            return stopped(error);
        }
        let mut room = 0;
        bytes.clear();
        for frame in lane.take().await {
            room += frame.len();
            append(&mut bytes, &frame);
            if bytes.len() >= WRITE_BYTES {
                if let Err(error) = stream.write_all(&bytes).await {
                    return stopped(error);
                }
                bytes.clear();
                lane.written(std::mem::take(&mut room));
            }
        }
        lane.written(room);
    }
}

/// Reads one of the peer's streams.
struct Reader {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
}

impl Reader {
    async fn run(self, mut stream: RecvStream, expected: Expected) -> End {
        let mut header = [0; STREAM_HEADER_BYTES];
        if let Err(error) = stream.read_exact(&mut header).await {
            return match error {
                quinn::ReadExactError::FinishedEarly(_) => {
                    Err("a stream ended within its header".to_owned())
                }
                quinn::ReadExactError::ReadError(error) => lost_or_reset(&error),
            };
        }
        let [kind, space @ ..] = header;
        if kind != FRAMES {
            return Err(format!("a stream of the unknown kind {kind} was opened"));
        }
        let space = SpaceId(space);
        expected.take(space)?;
        self.read_frames(stream, space).await
    }

    async fn read_frames(self, mut stream: RecvStream, space: SpaceId) -> End {
        let peer = self.peer.id;
        let mut decoder = FrameDecoder::new(self.shared.max_frame_bytes);
        loop {
            let chunk = match stream.read_chunk(usize::MAX, true).await {
                Ok(Some(chunk)) => chunk.bytes,
                Ok(None) if decoder.is_between_frames() => {
                    return Err(format!("the stream of space {space} was ended"));
                }
                Ok(None) => return Err(format!("the stream of space {space} ended in a frame")),
                Err(error) => return lost_or_reset(&error),
            };
            decoder
                .feed(&chunk, |frame| {
                    (self.shared.events)(PeerEvent::Frame { peer, space, frame });
                })
                .map_err(|error| error.to_string())?;
        }
    }
}

/// A lost connection speaks for itself; a stream that the peer reset is a violation.
fn lost_or_reset(error: &quinn::ReadError) -> End {
    match error {
        quinn::ReadError::ConnectionLost(_) => Ok(()),
        quinn::ReadError::Reset(_)
        | quinn::ReadError::ClosedStream
        | quinn::ReadError::IllegalOrderedRead
        | quinn::ReadError::ZeroRttRejected => Err(format!("a stream broke off: {error}")),
    }
}
