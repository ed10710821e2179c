//! The exchange between regions, as stories: real replicators over disks in memory, frames as
//! bytes, virtual time. What goes on between many nodes under all faults at once is the
//! simulator's.

#[path = "replication/catching_up.rs"]
mod catching_up;
#[path = "replication/durability.rs"]
mod durability;
#[path = "replication/exchange.rs"]
mod exchange;
#[path = "replication/liars.rs"]
mod liars;
#[path = "replication/operations.rs"]
mod operations;
#[path = "replication/station.rs"]
mod station;
#[path = "replication/wire.rs"]
mod wire;
#[path = "replication/world.rs"]
mod world;
