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
//! ```

pub mod config;
pub mod data_directory;
pub mod http;
pub mod identity;
pub mod node;
pub mod space;
pub mod transport;

mod committer;

pub use node::{Node, StartError};
