//! One direction of a path as a task: a pipe, and the pump that empties it into sockets.
//!
//! Responsible for handing packets over at their time. It must not know who sends or why a packet goes where it goes.
//! Invariant: the pump sleeps until the next packet is due or a new one comes in; it never spins.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::pipe::{Next, Pipe, Shape, Traffic};

/// The socket that a packet leaves by, and its destination.
#[derive(Clone)]
pub(super) struct Exit {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) to: SocketAddr,
}

/// One direction between two places, shared by all flows between them: they share its bandwidth and its fate.
pub(super) struct Path {
    pipe: Mutex<Pipe<Exit>>,
    changed: Notify,
}

impl Path {
    pub(super) fn new(shape: Shape, seed: u64) -> Self {
        Self { pipe: Mutex::new(Pipe::new(shape, seed)), changed: Notify::new() }
    }

    pub(super) fn put(&self, exit: Exit, payload: &[u8]) {
        self.pipe().put(Instant::now(), exit, payload);
        self.changed.notify_one();
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.pipe().traffic()
    }

    pub(super) fn cut(&self) {
        self.pipe().cut();
    }

    pub(super) fn heal(&self) {
        self.pipe().heal();
    }

    pub(super) fn reshape(&self, shape: Shape) {
        self.pipe().reshape(shape);
    }

    /// Delivers packets when they are due, for ever.
    pub(super) async fn pump(self: Arc<Self>) {
        loop {
            // Bound first, so that the lock is not held across an await.
            let next = self.pipe().next(Instant::now());
            match next {
                // UDP may lose it here too: a socket that is gone is the receiver's affair, and quinn sends again.
                Next::Deliver(exit, payload) => drop(exit.socket.send_to(&payload, exit.to).await),
                Next::WaitUntil(due) => drop(timeout_at(due, self.changed.notified()).await),
                Next::Idle => self.changed.notified().await,
            }
        }
    }

    /// A panic elsewhere leaves no half-changed pipe: each call on it is complete in itself.
    fn pipe(&self) -> MutexGuard<'_, Pipe<Exit>> {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
