//! QUIC as peers speak it: times, windows, the UDP socket and its buffers.
//!
//! It must not know who the peers are. Its one invariant: everything that a peer can make us hold
//! in memory is bounded here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::{CryptoError, HmacKey};
use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, VarInt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::identity::Identity;

/// A connection that is silent for this long is dead.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// How often an idle connection says that it lives: thrice within the idle timeout.
const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// What is asked of the system for each direction of the socket, in bytes.
const SOCKET_BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// Below this, in bytes, packets are lost even on loopback, and a warning is due.
const LEAST_SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// What one stream may have on the way, in bytes: 1 Gbit/s over a round trip of 130 ms.
const STREAM_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// What one connection may have on the way, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 24 * 1024 * 1024;

/// How long a connection id is, in bytes.
const CONNECTION_ID_BYTES: usize = 8;

/// Opens the UDP socket; the error is the system's.
pub(super) fn socket(listen: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    if listen.is_ipv6() {
        // `[::]` takes IPv4 too, whatever the system's default.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&listen.into())?;
    widen(&socket)?;
    Ok(socket.into())
}

fn widen(socket: &Socket) -> std::io::Result<()> {
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    let (receive, send) = (socket.recv_buffer_size()?, socket.send_buffer_size()?);
    if receive.min(send) < LEAST_SOCKET_BUFFER_BYTES {
        tracing::warn!(
            receive_bytes = receive,
            send_bytes = send,
            wanted_bytes = SOCKET_BUFFER_BYTES,
            "the system grants small UDP buffers, so that bursts lose packets; \
             raise net.core.rmem_max and net.core.wmem_max"
        );
    }
    Ok(())
}

/// What every connection keeps to; `spaces` is how many there are in the cluster.
pub(super) fn transport_config(spaces: usize) -> Arc<quinn::TransportConfig> {
    let mut config = quinn::TransportConfig::default();
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("a few seconds fit");
    let streams = VarInt::from_u32(u32::try_from(spaces).unwrap_or(u32::MAX));
    config
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(CONNECTION_WINDOW_BYTES))
        // The control stream, and one data stream a space from the peer.
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(streams)
        .datagram_receive_buffer_size(None);
    Arc::new(config)
}

/// What the endpoint keeps to. The key of its stateless resets is the same at every start: a node
/// that was killed and is back can so tell its peers at once that their old connections are dead.
pub(super) fn endpoint_config(identity: &Identity) -> EndpointConfig {
    let key = identity.derive_secret("warbler 2026 QUIC stateless reset");
    let mut config = EndpointConfig::new(Arc::new(ResetKey(key)));
    // quinn's own generator knows the ids of its own run only and would not reset older ones.
    config.cid_generator(|| Box::new(RandomIds));
    config
}

struct ResetKey([u8; blake3::KEY_LEN]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        blake3::Hasher::new_keyed(&self.0).update(data).finalize_xof().fill(signature_out);
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let given = <[u8; blake3::OUT_LEN]>::try_from(signature).map_err(|_| CryptoError)?;
        // Comparing two `Hash`es takes the same time wherever they differ.
        let equal = blake3::keyed_hash(&self.0, data) == blake3::Hash::from_bytes(given);
        if equal { Ok(()) } else { Err(CryptoError) }
    }
}

struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CONNECTION_ID_BYTES];
        getrandom::fill(&mut id).expect("the system gave random bytes when it made the TLS keys");
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
