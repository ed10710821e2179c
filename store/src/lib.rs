//! Conversations as CRDT documents on a local disk: ids, clock, documents, log, timeline.
//!
//! ```text
//!            post, create            entries of peers
//!                  \                    /
//!                   Replica (one thread a space)  ── reads through ── Overlay
//!                   |  documents (Automerge)                             |
//!                   |  log, vector, timeline, bodies, indexes            |
//!                   v                                                    v
//!              Sealed batch ── committer: Engine::persist (one fsync) ── Engine ── Reader
//!                   |                                                      RocksDB or memory
//!                   v after the fsync, and only then
//!         acknowledge, show to readers, push to peers
//! ```
//!
//! Knows no network, no async, and reads no clock: time and randomness are arguments.

#![warn(missing_docs)]

pub mod base;
pub mod bytes;
pub mod clock;
pub mod digest;
pub mod document;
pub mod engine;
pub mod entropy;
pub mod entry;
pub mod erasure;
pub mod id;
pub mod log;
pub mod name;
pub mod open;
pub mod overlay;
mod projection;
pub mod reader;
pub mod record;
pub mod replica;
#[cfg(test)]
mod scene;
pub mod seal;
pub mod succession;
pub mod tables;
pub mod token;
mod upgrade;
pub mod vector;
pub mod verify;
