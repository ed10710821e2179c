//! Nodes on loopback sockets, and peers that do not behave.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::{Connection, Endpoint, RecvStream, SendStream, TokioRuntime};
use tokio::sync::mpsc;
use warbler_replication::greeting::{Greeting, HEADER_BYTES, MAX_FRAME_BYTES, PROTOCOL_VERSIONS};
use warbler_store::id::{NodeId, OriginId, SpaceId};

use crate::config::Cluster;
use crate::identity::Identity;
use crate::transport::{
    OurSide, PeerEvent, PeerState, Transport, TransportError, control, quic, tls,
};

/// How long anything may take; far more than it does.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// A cluster whose nodes stand in regions `r0`, `r1`, …; the space `main` is in all of them and
/// `bank` in the first two.
pub(super) struct World {
    pub(super) identities: Vec<Identity>,
    pub(super) cluster: Arc<Cluster>,
    addresses: Vec<SocketAddr>,
}

/// A node and what it reports.
pub(super) struct Node {
    pub(super) transport: Transport,
    pub(super) events: mpsc::UnboundedReceiver<PeerEvent>,
}

pub(super) fn space(name: &str) -> SpaceId {
    SpaceId::of(&name.parse().expect("a name"))
}

pub(super) fn identity() -> Identity {
    Identity::generate().expect("random bytes")
}

pub(super) fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

/// A new origin, as at every start.
pub(super) fn origin() -> OriginId {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("random bytes");
    OriginId(bytes)
}

impl World {
    /// The nodes' ids ascend, so that of two the first decides which connection stays.
    pub(super) fn of(nodes: usize) -> Self {
        let mut identities: Vec<_> = (0..nodes).map(|_| identity()).collect();
        identities.sort_by_key(Identity::node_id);
        Self::with(identities)
    }

    fn with(identities: Vec<Identity>) -> Self {
        // All are held until each has its port, so that no two get the same.
        let held: Vec<_> =
            identities.iter().map(|_| UdpSocket::bind(any_port()).expect("a free port")).collect();
        let addresses = held.iter().map(|socket| socket.local_addr().expect("bound")).collect();
        Self::at(identities, addresses)
    }

    pub(super) fn at(identities: Vec<Identity>, addresses: Vec<SocketAddr>) -> Self {
        let mut text = "version = 1\n".to_owned();
        for (index, (identity, address)) in identities.iter().zip(&addresses).enumerate() {
            let id = identity.node_id();
            text += &format!(
                "[[node]]\nname = \"n{index}\"\nregion = \"r{index}\"\naddress = \"{address}\"\nid = \"{id}\"\n"
            );
        }
        let regions: Vec<_> = (0..identities.len()).map(|index| format!("r{index}")).collect();
        text += &format!("[[space]]\nname = \"main\"\nregions = {regions:?}\n");
        text += &format!(
            "[[space]]\nname = \"bank\"\nregions = {:?}\n",
            &regions[..2.min(regions.len())]
        );
        let cluster = Cluster::parse(Path::new("cluster.toml"), &text).expect("a cluster");
        Self { identities, cluster: Arc::new(cluster), addresses }
    }

    pub(super) fn id(&self, index: usize) -> NodeId {
        self.identities[index].node_id()
    }

    pub(super) fn address(&self, index: usize) -> SocketAddr {
        self.addresses[index]
    }

    /// Starts the first two nodes, and waits until one connection between them is left.
    pub(super) async fn start_pair(&self) -> (Node, Node) {
        let (mut left, mut right) = tokio::join!(self.start(0), self.start(1));
        left.expect_connected(self.id(1)).await;
        right.expect_connected(self.id(0)).await;
        settled(&left, &right).await;
        (left, right)
    }

    pub(super) async fn start(&self, index: usize) -> Node {
        self.start_at(index, self.addresses[index]).await
    }

    /// Starts a new run of a node. A run before it may need a moment to let go of its socket.
    pub(super) async fn start_at(&self, index: usize, listen: SocketAddr) -> Node {
        let began = Instant::now();
        loop {
            match self.bind(index, listen, Arc::clone(&self.cluster)) {
                Ok(node) => return node,
                Err(error) => assert!(began.elapsed() < DEADLINE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The cluster file with other addresses for some nodes.
    pub(super) fn cluster_with(&self, moved: &[(usize, SocketAddr)]) -> Arc<Cluster> {
        let mut cluster = (*self.cluster).clone();
        for (index, address) in moved {
            cluster.nodes[*index].address = address.to_string().parse().expect("an address");
        }
        Arc::new(cluster)
    }

    pub(super) fn bind(
        &self,
        index: usize,
        listen: SocketAddr,
        cluster: Arc<Cluster>,
    ) -> Result<Node, TransportError> {
        let (sender, events) = mpsc::unbounded_channel();
        let us = OurSide { origin: origin(), cluster };
        let transport = Transport::bind(listen, &self.identities[index], us, move |event| {
            // Late events of a test that is over have nobody to go to.
            let _ = sender.send(event);
        })?;
        Ok(Node { transport, events })
    }

    /// A peer that speaks QUIC with the key of a node of the cluster, and says what it wants.
    pub(super) async fn dial_by_hand(&self, index: usize, node: &Node) -> Connection {
        let pinned: BTreeSet<_> = self.identities.iter().map(Identity::node_id).collect();
        let (client, _) = tls::configure(&self.identities[index], pinned).expect("TLS");
        let mut client = quinn::ClientConfig::new(Arc::new(client));
        client.transport_config(quic::transport_config(self.cluster.spaces.len()));
        let socket = quic::socket(any_port()).expect("a socket");
        let config = quic::endpoint_config(&self.identities[index]);
        let endpoint =
            Endpoint::new(config, None, socket, Arc::new(TokioRuntime)).expect("an endpoint");
        let connecting = endpoint.connect_with(client, node.transport.local_addr(), "warbler");
        connecting.expect("a dial").await.expect("a handshake")
    }

    /// What node `index` says first, as it should.
    pub(super) fn greeting(&self, index: usize, to: usize) -> Greeting {
        Greeting {
            versions: PROTOCOL_VERSIONS.to_vec(),
            origin: origin(),
            node: self.id(index),
            cluster_version: 1,
            spaces: self.cluster.shared_spaces(self.id(index), self.id(to)),
            max_frame_bytes: MAX_FRAME_BYTES,
        }
    }

    /// Greets as node `index` should, until both sides are in.
    pub(super) async fn greet_by_hand(
        &self,
        index: usize,
        to: usize,
        connection: &Connection,
    ) -> (SendStream, RecvStream) {
        let (mut send, mut receive) =
            self.agree_by_hand(&self.greeting(index, to), connection).await;
        if self.id(index) < self.id(to) {
            send.write_all(&[control::YOU_ARE_IN]).await.expect("sent");
        } else {
            let mut byte = [0];
            receive.read_exact(&mut byte).await.expect("in");
            assert_eq!(byte, [control::YOU_ARE_IN]);
        }
        (send, receive)
    }

    /// Says this greeting, and agrees to the answer.
    pub(super) async fn agree_by_hand(
        &self,
        greeting: &Greeting,
        connection: &Connection,
    ) -> (SendStream, RecvStream) {
        let (send, mut receive) = say(greeting, connection).await;
        let mut header = [0; HEADER_BYTES];
        receive.read_exact(&mut header).await.expect("a header");
        let length = Greeting::body_length(&header).expect("a greeting");
        receive.read_exact(&mut vec![0; length]).await.expect("a body");
        let mut byte = [0];
        receive.read_exact(&mut byte).await.expect("agreed");
        assert_eq!(byte, [control::AGREED]);
        (send, receive)
    }
}

/// Says this greeting, and agrees to whatever is answered.
pub(super) async fn say(greeting: &Greeting, connection: &Connection) -> (SendStream, RecvStream) {
    let (mut send, receive) = connection.open_bi().await.expect("a stream");
    let bytes = [greeting.encode().as_slice(), &[control::AGREED]].concat();
    send.write_all(&bytes).await.expect("sent");
    (send, receive)
}

impl Node {
    pub(super) async fn next(&mut self) -> PeerEvent {
        let event = tokio::time::timeout(DEADLINE, self.events.recv()).await;
        event.expect("an event before the deadline").expect("the transport runs")
    }

    pub(super) async fn expect_connected(&mut self, expected: NodeId) -> Vec<SpaceId> {
        match self.next().await {
            PeerEvent::Connected { peer, spaces, .. } if peer == expected => spaces,
            other @ (PeerEvent::Connected { .. }
            | PeerEvent::Frame { .. }
            | PeerEvent::Disconnected { .. }) => {
                panic!("{expected} should be connected, but: {other:?}")
            }
        }
    }

    pub(super) async fn expect_frame(&mut self, expected: NodeId) -> (SpaceId, Vec<u8>) {
        match self.next().await {
            PeerEvent::Frame { peer, space, frame } if peer == expected => (space, frame),
            other @ (PeerEvent::Connected { .. }
            | PeerEvent::Frame { .. }
            | PeerEvent::Disconnected { .. }) => {
                panic!("{expected} should have sent a frame, but: {other:?}")
            }
        }
    }

    pub(super) async fn expect_disconnected(&mut self, expected: NodeId) -> String {
        match self.next().await {
            PeerEvent::Disconnected { peer, reason } if peer == expected => reason,
            other @ (PeerEvent::Connected { .. }
            | PeerEvent::Frame { .. }
            | PeerEvent::Disconnected { .. }) => {
                panic!("{expected} should be disconnected, but: {other:?}")
            }
        }
    }

    pub(super) fn state(&self, peer: NodeId) -> PeerState {
        let peers = self.transport.peers();
        peers.into_iter().find(|state| state.id == peer).expect("a peer of the cluster")
    }

    /// Waits until what is known of a peer is as it should be.
    pub(super) async fn until_peer(&self, peer: NodeId, holds: impl Fn(&PeerState) -> bool) {
        let last = || format!("{:?}", self.state(peer));
        until(last, || holds(&self.state(peer))).await;
    }

    pub(super) async fn until_error(&self, peer: NodeId, text: &str) {
        self.until_peer(peer, |state| {
            state.last_error.as_deref().is_some_and(|error| error.contains(text))
        })
        .await;
    }
}

/// Sends one frame each way, which shows that the connection works.
pub(super) async fn ping_pong(left: (&mut Node, NodeId), right: (&mut Node, NodeId)) {
    let main = space("main");
    left.0.transport.send(right.1, main, b"ping".to_vec());
    assert_eq!(right.0.expect_frame(left.1).await, (main, b"ping".to_vec()));
    right.0.transport.send(left.1, main, b"pong".to_vec());
    assert_eq!(left.0.expect_frame(right.1).await, (main, b"pong".to_vec()));
}

/// Waits until one connection between two nodes is left: both dial at first.
pub(super) async fn settled(left: &Node, right: &Node) {
    let open = || [left, right].map(|node| node.transport.shared.endpoint.open_connections());
    until(|| format!("{:?}", open()), || open() == [1, 1]).await;
}

/// Waits for a condition, looking again every few milliseconds.
pub(super) async fn until(last: impl Fn() -> String, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < DEADLINE, "waited in vain; last seen: {}", last());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// How the other side closed a connection.
pub(super) async fn reason_of_close(connection: &Connection) -> String {
    let ended = tokio::time::timeout(DEADLINE, connection.closed()).await;
    ended.expect("closed before the deadline").to_string()
}
