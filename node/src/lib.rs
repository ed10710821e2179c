//! The server: replica threads, the QUIC transport, the HTTP API and the configuration.
//!
//! ```text
//!   HTTP ── Space::submit ──┐                         ┌── peers (QUIC)
//!                           v                         v
//!                    mailbox of the replica thread (one a space; drives the Replicator)
//!                           |            ^
//!                 sealed batch           | written
//!                           v            |
//!                      committer: one thread, one fsync for all spaces
//!
//!   replica thread ── chores (snapshots, purges) ──> caretaker ── finished ──> mailbox
//!                           |
//!       a write fails       v
//!     keeper: closes the engine, opens it again, gives each replica thread its next run
//! ```

pub mod config;
pub mod data_directory;
pub mod http;
pub mod identity;
pub mod node;
pub mod retention;
pub mod room;
pub mod scrub;
pub mod space;
pub mod standing;
pub mod transport;

mod caretaker;
mod committer;
mod keeper;
mod opening;
mod reserve;
mod watchdog;

pub use node::{Node, StartError};
