//! The store as its callers see it: replicas, readers and logs on real engines. Stories first,
//! then the property that the rest stands on, then everything that must be refused.

#[path = "store/convergence.rs"]
mod convergence;
#[path = "store/copies.rs"]
mod copies;
#[path = "store/damage.rs"]
mod damage;
#[path = "store/deeds.rs"]
mod deeds;
#[path = "store/erasing.rs"]
mod erasing;
#[path = "store/files.rs"]
mod files;
#[path = "store/forge.rs"]
mod forge;
#[path = "store/format.rs"]
mod format;
#[path = "store/managing.rs"]
mod managing;
#[path = "store/node.rs"]
mod node;
#[path = "store/posting.rs"]
mod posting;
#[path = "store/quarantine.rs"]
mod quarantine;
#[path = "store/reading.rs"]
mod reading;
#[path = "store/refusals.rs"]
mod refusals;
#[path = "store/restarts.rs"]
mod restarts;
#[path = "store/world.rs"]
mod world;
