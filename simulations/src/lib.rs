//! Warbler's proving ground: a deterministic simulator, and a relay that emulates distance.
//!
//! ```text
//!   seed ──▶ Plan ──▶ World ───────────────────────────────▶ Story, or Failure
//!                      │  agenda: events by virtual time
//!                      │  nodes: real Replicator, real Replica, memory engine, a disk, a clock
//!                      │  links: delay, loss, copies, disorder, partitions, broken connections
//!                      │  clients: unique posts, replies, retries, imports, pages, tokens
//!                      └─▶ checkers: one promise a file, told of everything that happens
//! ```
//!
//! A run is a pure function of its [`Plan`](plan::Plan): no clock, no thread, no random number
//! from outside, no iteration over hash maps. A hash over every event and every output proves it.
//! First all kinds of trouble, each seed with a mix of its own; then calm, in which everything
//! must converge within a stated bound, and fall silent.
//!
//! The checkers are trusted because of the [`mutants`](mutant): each breaks the system from
//! outside, and a test says within how many seeds it must be caught.
//!
//! [`relay`] is another thing: real sockets in real time, for the demo.

mod agenda;
pub mod checkers;
mod clients;
mod dice;
pub mod faults;
mod geography;
mod link;
pub mod mutant;
mod node;
pub mod plan;
pub mod relay;
pub mod story;
mod world;
