//! The `warbler` command as its users and their scripts see it: real processes, their output and
//! their exit codes. What needs no node comes first, then a scripted stand-in for one, then the
//! real thing.

#[path = "cli/deeds.rs"]
mod deeds;
#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/failover.rs"]
mod failover;
#[path = "cli/follow.rs"]
mod follow;
#[path = "cli/import.rs"]
mod import;
#[path = "cli/process.rs"]
mod process;
#[path = "cli/regions.rs"]
mod regions;
#[path = "cli/requests.rs"]
mod requests;
#[path = "cli/story.rs"]
mod story;
#[path = "cli/stub.rs"]
mod stub;
#[path = "cli/usage.rs"]
mod usage;
