//! The promises, each with a checker that is told of everything that happens.
//!
//! Checkers stand outside the system: they know what people asked for and what they were
//! answered, and look at what readers see. They share [`Ledger`] and nothing else. Invariant: no
//! list of excuses; whatever breaks a promise ends the run.

mod archive;
mod causality;
pub(crate) mod containment;
mod convergence;
mod durability;
mod erasure;
mod ledger;
mod model;
mod post_set;
mod quiescence;
mod rows;
mod trimming;
mod uniqueness;

use std::fmt;

use warbler_store::id::SpaceId;

pub(crate) use archive::Archive;
pub(crate) use causality::{Causality, Floor, Truth};
pub(crate) use convergence::{BOUND_MILLIS, Convergence, Timelines};
pub(crate) use durability::{Acknowledgement, Durability};
pub(crate) use erasure::{Erasures, planted};
pub(crate) use ledger::{Ledger, Post};
pub(crate) use model::Model;
pub(crate) use post_set::PostSet;
pub(crate) use quiescence::{Quiescence, SILENCE_MILLIS};
pub(crate) use rows::Rows;
pub(crate) use trimming::Trimming;
pub(crate) use uniqueness::Uniqueness;

/// What was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// P2: what was acknowledged, pushed or shown is durable, and stays.
    Durability,
    /// P3 and P4: equal vectors have equal digests; after calm all nodes converge in time.
    Convergence,
    /// P4: then nothing flows but heartbeats.
    Quiescence,
    /// P5: nothing is seen before what its author's node had seen; tokens are honoured.
    Causality,
    /// P6, and origins: one entry at one place of a log, one message for one key.
    Uniqueness,
    /// Edits, reactions, redactions, settings: what shows is what the entries held say.
    Model,
    /// P8: what was erased or has expired never comes back; what was redacted never shows.
    Erasure,
    /// No entry leaves a log before every node of the space held it durably.
    Trimming,
    /// P9: damage is reported and never passed on; a poisoned entry stops nothing else.
    Containment,
    /// No alarm, no refusal without cause, no peer that breaks the protocol, no endless loop.
    Soundness,
}

impl fmt::Display for Promise {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Durability => "durability (P2)",
            Self::Convergence => "convergence (P3, P4)",
            Self::Quiescence => "quiescence (P4)",
            Self::Causality => "causality (P5)",
            Self::Uniqueness => "uniqueness (P6)",
            Self::Model => "what shows (the model)",
            Self::Erasure => "erasure (P8)",
            Self::Trimming => "trimming",
            Self::Containment => "containment (P9)",
            Self::Soundness => "soundness",
        })
    }
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub promise: Promise,
    /// How.
    pub how: String,
}

impl Broken {
    pub(crate) fn new(promise: Promise, how: impl Into<String>) -> Self {
        Self { promise, how: how.into() }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} is broken: {}", self.promise, self.how)
    }
}

/// All checkers of a world.
pub(crate) struct Checkers {
    pub(crate) ledger: Ledger,
    pub(crate) convergence: Convergence,
    pub(crate) durability: Durability,
    pub(crate) causality: Causality,
    pub(crate) uniqueness: Uniqueness,
    pub(crate) quiescence: Quiescence,
    pub(crate) archive: Archive,
    pub(crate) erasures: Erasures,
    pub(crate) trimming: Trimming,
    /// What each node must show, by the entries on its disk.
    pub(crate) models: Vec<Model>,
}

impl Checkers {
    /// Checkers of a world of `nodes`; `sane_clocks` says that ids must follow what was seen.
    pub(crate) fn new(ledger: Ledger, space: SpaceId, nodes: usize, sane_clocks: bool) -> Self {
        Self {
            ledger,
            convergence: Convergence::default(),
            durability: Durability::new(nodes),
            causality: Causality::new(nodes, sane_clocks),
            uniqueness: Uniqueness::default(),
            quiescence: Quiescence::default(),
            archive: Archive::new(space),
            erasures: Erasures::new(nodes),
            trimming: Trimming::new(nodes),
            models: vec![Model::default(); nodes],
        }
    }
}
