//! Nodes in one process, on real sockets and real stores, seen through their API.

#[path = "node/convergence.rs"]
mod convergence;
#[path = "node/deeds.rs"]
mod deeds;
#[path = "node/failing.rs"]
mod failing;
#[path = "node/faulty.rs"]
mod faulty;
#[path = "node/following.rs"]
mod following;
#[path = "node/requests.rs"]
mod requests;
#[path = "node/room.rs"]
mod room;
#[path = "node/sessions.rs"]
mod sessions;
#[path = "node/starting.rs"]
mod starting;
#[path = "node/stream.rs"]
mod stream;
#[path = "node/upkeep.rs"]
mod upkeep;
#[path = "node/world.rs"]
mod world;
