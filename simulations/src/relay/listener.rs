//! The address where others reach one node, and the flows that come in there.
//!
//! Works as a NAT does: each address that dials gets an upstream socket of its own towards the node, and what the node
//! answers to that socket goes back to the address. So reconnects, restarts from another port and many dialers at once
//! need nothing special. It must not know of delays. Invariant: at most `MAX_FLOWS` upstream sockets are open.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::path::{Exit, Path};

/// Upstream sockets of one listener; the one unused for longest makes room for a new one.
const MAX_FLOWS: usize = 512;

/// A flow that nothing was sent on for so long may be forgotten. Longer than QUIC's idle timeout of 15 s.
const FLOW_IDLE: Duration = Duration::from_secs(60);

/// The largest UDP payload, in bytes.
const MAX_DATAGRAM: usize = 65_535;

/// What the system may hold for us in each direction, in bytes. Its default loses packets even on loopback.
const SOCKET_BUFFER: usize = 4 << 20;

/// The two directions between a dialer's place and the listener's node.
#[derive(Clone)]
pub(super) struct Paths {
    pub(super) there: Arc<Path>,
    pub(super) back: Arc<Path>,
}

/// Which paths the packets of a dialer take.
pub(super) struct Routes {
    /// By the address that a node sends from.
    pub(super) known: BTreeMap<SocketAddr, Paths>,
    /// For every other address.
    pub(super) elsewhere: Paths,
}

/// Where others reach one node.
pub(super) struct Listener {
    socket: Arc<UdpSocket>,
    node: SocketAddr,
    routes: Routes,
    flows: BTreeMap<SocketAddr, Flow>,
    /// The tasks that read the upstream sockets; they end with the listener.
    upstream: JoinSet<()>,
}

struct Flow {
    exit: Exit,
    there: Arc<Path>,
    last_used: Instant,
    reader: AbortHandle,
}

impl Listener {
    pub(super) fn new(socket: Arc<UdpSocket>, node: SocketAddr, routes: Routes) -> Self {
        Self { socket, node, routes, flows: BTreeMap::new(), upstream: JoinSet::new() }
    }

    /// Takes packets in, for ever.
    pub(super) async fn run(mut self) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            // An error here is about a packet sent earlier (its receiver was gone), not about the socket.
            let Ok((len, dialer)) = self.socket.recv_from(&mut buffer).await else { continue };
            self.on_packet(dialer, &buffer[..len]);
        }
    }

    fn on_packet(&mut self, dialer: SocketAddr, payload: &[u8]) {
        let now = Instant::now();
        if !self.flows.contains_key(&dialer) {
            // No socket to be had is like a packet lost: the dialer tries again.
            let Ok(flow) = self.open(dialer, now) else { return };
            self.flows.insert(dialer, flow);
        }
        if let Some(flow) = self.flows.get_mut(&dialer) {
            flow.last_used = now;
            flow.there.put(flow.exit.clone(), payload);
        }
    }

    fn open(&mut self, dialer: SocketAddr, now: Instant) -> io::Result<Flow> {
        self.make_room(now);
        let paths = self.routes.known.get(&dialer).unwrap_or(&self.routes.elsewhere).clone();
        let socket = Arc::new(bind(SocketAddr::new(self.node.ip(), 0))?);
        let back = Exit { socket: Arc::clone(&self.socket), to: dialer };
        let reader = self.upstream.spawn(read_answers(
            Arc::clone(&socket),
            self.node,
            Arc::clone(&paths.back),
            back,
        ));
        Ok(Flow {
            exit: Exit { socket, to: self.node },
            there: paths.there,
            last_used: now,
            reader,
        })
    }

    fn make_room(&mut self, now: Instant) {
        while self.upstream.try_join_next().is_some() {}
        self.flows.retain(|_, flow| {
            let keep = now - flow.last_used < FLOW_IDLE;
            if !keep {
                flow.reader.abort();
            }
            keep
        });
        if self.flows.len() >= MAX_FLOWS
            && let Some(oldest) =
                self.flows.iter().min_by_key(|(_, flow)| flow.last_used).map(|(dialer, _)| *dialer)
            && let Some(flow) = self.flows.remove(&oldest)
        {
            flow.reader.abort();
        }
    }
}

/// Sends what the node answers on one flow back to its dialer.
async fn read_answers(socket: Arc<UdpSocket>, node: SocketAddr, path: Arc<Path>, back: Exit) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let Ok((len, from)) = socket.recv_from(&mut buffer).await else { continue };
        if from == node {
            path.put(back.clone(), &buffer[..len]);
        }
    }
}

/// A UDP socket with large buffers. The system may grant less; then more is lost, which is what a relay may do.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    let options = SockRef::from(&socket);
    options.set_recv_buffer_size(SOCKET_BUFFER)?;
    options.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// Any free port on the loopback interface of the same family as `node`.
pub(super) fn loopback_like(node: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match node {
        SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, 0)
}
