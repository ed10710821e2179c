//! A client of Warbler.
//!
//! ```text
//!   Space (a session) ──┐
//!   Follow (a position) ─┤── call ──> effort: this region, the next one, a pause ──> answer
//!                        │                 │ busy, away             │ behind
//!                        └── session <─────┴── wait, then adopt ────┘ and say so
//! ```
//!
//! A [`Client`] knows one node or a list of them, in any regions: what one does not answer is
//! asked of the next. A [`Space`] carries a [`Session`], so whichever region answers shows at
//! least what was seen before. A [`Follow`] goes on where it was, also in another region.
//!
//! ```no_run
//! # async fn example() -> Result<(), warbler_client::ClientError> {
//! use warbler_client::{Client, NewMessage, Wait, random_key};
//!
//! let regions = ["http://127.0.0.1:7420", "http://127.0.0.1:7430"];
//! let client = Client::builder().regions(regions).build()?;
//! let space = client.space("main");
//! let hello = NewMessage { body: "hello", author: "ann", ..NewMessage::default() };
//! let (_, receipt) = space.post("general", &hello, &random_key()?, &Wait::default()).await?;
//! println!("{} is on disk in {:?}", receipt.id, receipt.durability.regions);
//! # Ok(())
//! # }
//! ```
//!
//! It knows HTTP and JSON and nothing of how a node works. Invariant: every request ends: with an
//! answer, a refusal, or when the [`Patience`] is over; and whatever is made again has the same
//! effect as once.

mod call;
mod client;
mod deeds;
mod error;
mod follow;
mod patience;
mod regions;
mod session;
mod space;
mod sse;
mod stream;
mod wire;

pub use client::{Builder, Client};
pub use error::ClientError;
pub use follow::{Follow, Happening};
pub use patience::Patience;
pub use session::{Adopted, Session};
pub use space::{PAGE_MESSAGES, PageAt, Space, Taken, Wait, random_key};
pub use stream::{Followed, Stream};
pub use wire::{
    By, Component, Conversation, Conversations, Done, Durability, EditedMessage, Erased, History,
    Inbox, InboxConversation, Message, Messages, Missing, NewConversation, NewMessage, NodeStatus,
    PeerStatus, Problem, Receipt, SpaceStatus, Status, Swept, Verified, Version,
};
