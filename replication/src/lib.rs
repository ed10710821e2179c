//! The exchange between nodes as state machines without I/O: no sockets, no threads, no clock.
//!
//! A driver (the node, the simulator, a test) owns one [`Replicator`](replicator::Replicator) a
//! space and feeds it; after every input it drains the outputs until `WakeAt`:
//!
//! ```text
//!   handle_command(now, …)   handle_frame(now, peer, …)   handle_written(now, …)
//!   handle_connected(…)      handle_disconnected(…)       handle_wake(now)
//!                         \        |        /
//!                            Replicator ── owns the Replica (storage, called synchronously)
//!                                |
//!      loop { match replicator.poll_output() {
//!          Persist(sealed)   hand the batch to the committer; call handle_written when durable
//!          Send { .. }       put the frame on the wire; it may be lost
//!          Answer { .. }     tell the client
//!          Publish(sealed)   show followers what became durable
//!          Disconnect { .. } the peer broke the protocol
//!          Alarm(..)         tell the operator
//!          Failed(..)        the replica must be opened again, under a new origin
//!          WakeAt(when)      nothing more to do until then: call handle_wake
//!      } }
//! ```
//!
//! `PROTOCOL.md` tells the exchange as a story.

#![warn(missing_docs)]

pub mod frame;
pub mod greeting;
pub mod replicator;
mod session;
mod waiting;
