//! What to simulate.
//!
//! Invariant: a plan is all there is to know to repeat a run.

use std::fmt;

use crate::checkers::Broken;
use crate::geography::REGIONS;
use crate::mutant::Mutant;
use crate::story::Story;
use crate::world::World;

/// The fewest nodes that replicate.
pub const LEAST_NODES: usize = 2;
/// The most nodes: one in each region that the geography knows.
pub const MOST_NODES: usize = REGIONS.len();
/// For how long trouble lasts unless told otherwise, in virtual seconds.
pub const DEFAULT_SECONDS: u64 = 20;
/// The longest run of trouble, in virtual seconds: a day.
pub const MOST_SECONDS: u64 = 86_400;

/// A run, in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Determines everything that is not said here.
    pub seed: u64,
    /// How many nodes, one a region: [`LEAST_NODES`] to [`MOST_NODES`].
    pub nodes: usize,
    /// For how long trouble lasts and people write, in virtual seconds: 1 to [`MOST_SECONDS`].
    pub seconds: u64,
    /// What is broken on purpose.
    pub mutant: Option<Mutant>,
}

/// A plan that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidPlan {
    /// Too few or too many nodes.
    Nodes(usize),
    /// Too short or too long.
    Seconds(u64),
}

impl fmt::Display for InvalidPlan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes(nodes) => {
                write!(
                    out,
                    "{nodes} nodes are asked for, {LEAST_NODES} to {MOST_NODES} are possible"
                )
            }
            Self::Seconds(seconds) => {
                write!(out, "{seconds} seconds are asked for, 1 to {MOST_SECONDS} are possible")
            }
        }
    }
}

impl std::error::Error for InvalidPlan {}

/// A promise was broken in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The run.
    pub plan: Plan,
    /// When, in virtual microseconds from the start.
    pub at_micros: u64,
    /// Which promise, and how.
    pub broken: Broken,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, at_micros, broken } = self;
        let (seconds, micros) = (at_micros / 1_000_000, at_micros % 1_000_000);
        write!(out, "seed {} failed at {seconds}.{micros:06} s: {broken}", plan.seed)
    }
}

impl std::error::Error for Failure {}

impl Plan {
    /// A run of the usual length with nothing broken on purpose.
    #[must_use]
    pub fn new(seed: u64, nodes: usize) -> Self {
        Self { seed, nodes, seconds: DEFAULT_SECONDS, mutant: None }
    }

    /// Whether the plan can be run.
    ///
    /// # Errors
    /// When there are too few or too many nodes or seconds.
    pub fn check(&self) -> Result<(), InvalidPlan> {
        if !(LEAST_NODES..=MOST_NODES).contains(&self.nodes) {
            return Err(InvalidPlan::Nodes(self.nodes));
        }
        if !(1..=MOST_SECONDS).contains(&self.seconds) {
            return Err(InvalidPlan::Seconds(self.seconds));
        }
        Ok(())
    }

    /// Runs it. `tell` is given a line for each thing that happens.
    ///
    /// # Errors
    /// When a promise is broken.
    ///
    /// # Panics
    /// When the plan does not pass [`Plan::check`].
    pub fn run(self, tell: Option<&mut dyn FnMut(&str)>) -> Result<Story, Box<Failure>> {
        self.check().expect("the plan was checked");
        World::new(self, tell).run()
    }
}
