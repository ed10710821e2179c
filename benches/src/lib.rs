//! Workloads for the benches: the same words, the same shapes, for Warbler and for its ceilings.

pub mod pipeline;
pub mod raw;
pub mod workload;
