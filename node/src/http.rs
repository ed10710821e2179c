//! The HTTP API: listening, connections, and their orderly end.
//!
//! This file knows sockets and time limits, not paths: those are `routes`' and the files below
//! it. Invariant: no connection costs more than it should: a half-sent request ends after
//! [`Limits::header`], and there are never more than [`Limits::connections`] of them.
//!
//! ```text
//!   connection ── guard (Host, Origin) ── routes ── space (name, session token) ── a call
//!                                                                                   │
//!                               Space::submit, Reader, Space::follow, Progress  <───┘
//! ```

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tower::ServiceExt;

use crate::node::Services;

mod actor;
mod calls;
mod conversations;
mod deeds;
mod durability;
mod events;
mod guard;
mod messages;
mod people;
mod problem;
mod request;
mod routes;
mod session;
mod settings;
mod status;
mod sweep;
mod verify;
mod wire;
mod write;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// Bytes of a request's line and headers over HTTP/1.1: 64 KiB.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// How long requests that are under way at a shutdown may take: 5 s.
const GOODBYE: Duration = Duration::from_secs(5);
/// The pause after the system refuses to accept, for want of file descriptors: 50 ms.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a server allows itself.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long the line and headers of a request may take to come, also on a connection that is
    /// kept alive; then the connection is ended.
    pub header: Duration,
    /// How long the body of a request may take to come.
    pub body: Duration,
    /// Connections at once; further ones wait to be accepted.
    pub connections: usize,
    /// Followers at once; further ones are told that the node is busy.
    pub followers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let wait = Duration::from_secs(10);
        Self { header: wait, body: wait, connections: 10_000, followers: 10_000 }
    }
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is in use.
    #[error("the TCP address {0} is in use by another process")]
    InUse(SocketAddr),
    /// The socket cannot be opened.
    #[error("the TCP address {address} cannot be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

impl HttpError {
    /// What to do now, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::InUse(_) => {
                "end the other process, or give this node another address with `[http] listen` or \
                 WARBLER_HTTP_LISTEN"
            }
            Self::Listen { .. } => "`[http] listen` must be a loopback address of this machine",
        };
        Some(hint.to_owned())
    }
}

/// What every call works on.
#[derive(Clone)]
struct Api {
    services: Arc<Services>,
    limits: Limits,
    followers: Arc<Semaphore>,
    /// True once the server shuts down: what waits, ends.
    closing: watch::Receiver<bool>,
}

/// A server that runs. It ends with [`HttpServer::shutdown`], or abruptly when it is dropped.
#[derive(Debug)]
pub struct HttpServer {
    local: SocketAddr,
    closing: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

/// Serves the API of `services` on `address`.
///
/// # Errors
/// When the address is in use or not one of this machine.
pub async fn serve(address: SocketAddr, services: Services) -> Result<HttpServer, HttpError> {
    serve_within(address, services, Limits::default()).await
}

/// Serves the API within limits of the caller's choice.
///
/// # Errors
/// When the address is in use or not one of this machine.
#[expect(clippy::unused_async, reason = "listening needs a runtime, as the signature should say")]
pub async fn serve_within(
    address: SocketAddr,
    services: Services,
    limits: Limits,
) -> Result<HttpServer, HttpError> {
    let failed = |source: std::io::Error| {
        if source.kind() == std::io::ErrorKind::AddrInUse {
            HttpError::InUse(address)
        } else {
            HttpError::Listen { address, source }
        }
    };
    let listener = listen(address).map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    let (closing, closed) = watch::channel(false);
    let api = Api {
        services: Arc::new(services),
        limits,
        followers: Arc::new(Semaphore::new(limits.followers)),
        closing: closed.clone(),
    };
    let connections = Connections { router: routes::router(api), limits, closing: closed };
    let accepting = tokio::spawn(connections.accept(listener));
    Ok(HttpServer { local, closing, accepting })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A node that comes back at once finds its address free, though old connections linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl HttpServer {
    /// Where it listens; tells the port if the system was asked to choose one.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Takes no more requests, ends what follows or waits at once, lets the rest finish for a few
    /// seconds, and ends all connections.
    pub async fn shutdown(mut self) {
        self.closing.send_replace(true);
        if let Err(error) = (&mut self.accepting).await {
            tracing::error!(%error, "the HTTP server ended badly");
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The connections of one server.
struct Connections {
    router: Router,
    limits: Limits,
    closing: watch::Receiver<bool>,
}

impl Connections {
    async fn accept(mut self, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(self.limits.connections));
        let mut open = JoinSet::new();
        let mut closing = self.closing.clone();
        loop {
            let accepted = async {
                let permit = Arc::clone(&room).acquire_owned().await;
                (permit, listener.accept().await)
            };
            tokio::select! {
                () = closed(&mut closing) => break,
                Some(ended) = open.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a connection's task failed");
                    }
                }
                (permit, accepted) = accepted => match accepted {
                    Ok((stream, _)) => {
                        let serving = self.serve(stream);
                        open.spawn(async move {
                            serving.await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        // Nothing may keep the engine open: the connections go, and what they serve with.
        self.router = Router::new();
        let ended = async { while open.join_next().await.is_some() {} };
        if tokio::time::timeout(GOODBYE, ended).await.is_err() {
            tracing::warn!(left = open.len(), "requests did not end in time");
            open.shutdown().await;
        }
    }

    /// Serves one connection to its end.
    fn serve(&self, stream: TcpStream) -> impl Future<Output = ()> + Send + 'static {
        let spoken = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&spoken);
        let service = self.router.clone().map_request(move |request: hyper::Request<_>| {
            noted.store(true, Ordering::Relaxed);
            request.map(axum::body::Body::new)
        });
        let service = TowerToHyperService::new(service);
        let builder = protocol(&self.limits);
        let mut closing = self.closing.clone();
        let patience = self.limits.header;
        async move {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY cannot be set");
            }
            let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
            // Before it knows which HTTP is spoken, the builder waits without a limit of its own.
            let mut silence = pin!(tokio::time::sleep(patience));
            let mut asked_to_end = false;
            let mut listening = true;
            loop {
                tokio::select! {
                    ended = connection.as_mut() => {
                        if let Err(error) = ended {
                            tracing::debug!(%error, "a connection ended");
                        }
                        return;
                    }
                    () = silence.as_mut(), if listening => {
                        listening = false;
                        if !spoken.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                    () = closed(&mut closing), if !asked_to_end => {
                        asked_to_end = true;
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        }
    }
}

/// Resolves once the server shuts down.
async fn closed(closing: &mut watch::Receiver<bool>) {
    // A sender that is gone was dropped without a shutdown: that is one, too.
    let _ = closing.wait_for(|closing| *closing).await;
}

fn protocol(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.header)
        .keep_alive_timeout(limits.header)
        .max_concurrent_streams(MAX_STREAMS);
    builder
}
