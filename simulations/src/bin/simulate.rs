//! `simulate`: runs seeds, tells their story, and prints the command that replays what failed.
//!
//! Knows the command line and the terminal; what a run is, the library knows. Invariant: the last
//! line is `N passed, M failed`, and the exit code is 1 exactly when something failed.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its terminal")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, bail};
use clap::Parser;
use warbler_simulations::mutant::Mutant;
use warbler_simulations::plan::{DEFAULT_SECONDS, Plan};
use warbler_simulations::story::Story;

/// How often a seed of a long range is run twice.
const EVERY: u64 = 50;
/// A range of so many seeds is run twice as a whole.
const SHORT_RANGE: u64 = 20;
/// Nodes of a seed where the command line does not say: 2, 3, 5, 3 by turns.
const NODES_BY_TURNS: [usize; 4] = [3, 5, 2, 3];

/// Simulates Warbler's regions, networks, disks, clocks and people: a run is a pure function of
/// its seed.
#[derive(Parser)]
#[command(name = "simulate", version)]
struct Arguments {
    /// Run this one seed
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run the seeds from A up to, not including, B
    #[arg(long, value_name = "A..B", value_parser = parse_range, default_value = "0..20")]
    seeds: Range<u64>,
    /// Nodes, one a region, 2 to 8; unless given, by turns 3, 5, 2 and 3
    #[arg(long, value_name = "N")]
    nodes: Option<usize>,
    /// For how many virtual seconds there is trouble
    #[arg(long, value_name = "N", default_value_t = DEFAULT_SECONDS)]
    seconds: u64,
    /// How many seeds are run at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: usize,
    /// Run every seed twice and compare; unless given, every 50th, and all of up to 20
    #[arg(long)]
    twice: bool,
    /// Tell everything that happens, by virtual time and region
    #[arg(long)]
    trace: bool,
    /// Break something on purpose, to see it caught
    #[arg(long, value_name = "NAME")]
    mutant: Option<Mutant>,
}

impl Arguments {
    fn range(&self) -> Range<u64> {
        self.seed.map_or(self.seeds.clone(), |seed| seed..seed.saturating_add(1))
    }

    fn plan(&self, seed: u64) -> Plan {
        let turn = (seed % NODES_BY_TURNS.len() as u64) as usize;
        let nodes = self.nodes.unwrap_or(NODES_BY_TURNS[turn]);
        Plan { seed, nodes, seconds: self.seconds, mutant: self.mutant }
    }

    fn is_run_twice(&self, seed: u64) -> bool {
        let range = self.range();
        let length = range.end.saturating_sub(range.start);
        self.twice || length <= SHORT_RANGE || seed.is_multiple_of(EVERY)
    }

    /// The one command that repeats a run.
    fn replay(&self, plan: &Plan) -> String {
        let Plan { seed, nodes, seconds, mutant } = plan;
        let mutant = mutant.map(|mutant| format!(" --mutant {mutant}")).unwrap_or_default();
        format!(
            "cargo run -p warbler-simulations --bin simulate -- --seed {seed} --nodes {nodes} \
             --seconds {seconds}{mutant} --trace"
        )
    }
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("`{text}` is no range of seeds such as 0..300");
    let (start, end) = text.split_once("..").ok_or_else(wrong)?;
    let start: u64 = start.parse().map_err(|_| wrong())?;
    let end: u64 = end.parse().map_err(|_| wrong())?;
    if start >= end {
        return Err(format!("the range {text} is empty"));
    }
    Ok(start..end)
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let range = arguments.range();
    arguments.plan(range.start).check().context("the run is impossible")?;
    if arguments.trace && range.end - range.start > 1 {
        bail!("a trace of several seeds is of no use: give --seed");
    }
    if arguments.jobs == 0 {
        bail!("--jobs must be at least 1");
    }
    let tally = Tally::default();
    let next = AtomicU64::new(range.start);
    thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= range.end {
                        return;
                    }
                    let outcome = try_seed(arguments, seed);
                    tally.count(arguments, seed, outcome);
                }
            });
        }
    });
    Ok(tally.finish())
}

/// Runs a seed, once or twice.
fn try_seed(arguments: &Arguments, seed: u64) -> Result<Story, String> {
    let plan = arguments.plan(seed);
    let story = attempt(plan, arguments.trace)?;
    if arguments.is_run_twice(seed) && attempt(plan, false)? != story {
        return Err(format!("seed {seed} went another way the second time"));
    }
    Ok(story)
}

/// Runs a plan; a panic is a failure like others.
fn attempt(plan: Plan, trace: bool) -> Result<Story, String> {
    let outcome = catch_unwind(|| {
        let mut tell = |line: &str| println!("{line}");
        plan.run(trace.then_some(&mut tell as &mut dyn FnMut(&str)))
    });
    match outcome {
        Ok(Ok(story)) => Ok(story),
        Ok(Err(failure)) => Err(failure.to_string()),
        Err(_) => Err(format!("seed {} panicked: see above", plan.seed)),
    }
}

/// Counts what passed, and prints it.
#[derive(Default)]
struct Tally {
    inner: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    passed: u64,
    failed: BTreeMap<u64, String>,
    posts: u64,
    slowest_millis: u64,
}

impl Tally {
    fn count(&self, arguments: &Arguments, seed: u64, outcome: Result<Story, String>) {
        let mut counts = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match outcome {
            Ok(story) => {
                counts.passed += 1;
                counts.posts += story.posts;
                counts.slowest_millis = counts.slowest_millis.max(story.converged_millis);
                if arguments.seed.is_some() {
                    print_story(&arguments.plan(seed), &story);
                } else if counts.passed.is_multiple_of(EVERY) {
                    println!("{} seeds passed, {} posts", counts.passed, counts.posts);
                }
            }
            Err(why) => {
                println!("{why}");
                println!("  replay: {}", arguments.replay(&arguments.plan(seed)));
                counts.failed.insert(seed, why);
            }
        }
    }

    fn finish(self) -> bool {
        let counts = self.inner.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Counts { passed, failed, posts, slowest_millis } = counts;
        println!("{posts} posts; the slowest run converged {slowest_millis} ms after the calm");
        println!("{passed} passed, {} failed", failed.len());
        failed.is_empty()
    }
}

fn print_story(plan: &Plan, story: &Story) {
    let seconds = story.virtual_millis as f64 / 1_000.0;
    println!(
        "seed {}: {} nodes, {seconds:.1} virtual seconds, {} events",
        plan.seed, plan.nodes, story.events
    );
    println!(
        "  people    {} posts, {} acknowledged ({} in several regions), {} retries, {} pages, {} resumes",
        story.posts,
        story.acknowledged,
        story.acknowledged_wider,
        story.retries,
        story.pages,
        story.resumes
    );
    println!(
        "  trouble   {} crashes, {} torn writes, {} pauses, {} clock jumps, {} partitions",
        story.crashes, story.torn_writes, story.pauses, story.clock_jumps, story.partitions
    );
    println!(
        "  deeds     {} asked, {} done, {} rows of erasures, {} looks at all that shows",
        story.deeds, story.done, story.erasures, story.looks
    );
    println!(
        "  upkeep    {} entries trimmed, {} snapshots, {} sweeps, {} followers outrun",
        story.trimmed, story.snapshots, story.sweeps, story.outrun
    );
    println!(
        "  disks     {} full, {} lost, {} flipped bits; {} poisoned logs",
        story.full_disks, story.wiped_disks, story.flipped_bits, story.poisoned
    );
    println!(
        "  network   {} frames ({} lost, {} doubled), {} bytes, {} connections",
        story.frames, story.frames_lost, story.frames_doubled, story.bytes, story.connections
    );
    println!(
        "  result    {} messages in {} conversations, {} batches, converged {} ms after the calm",
        story.messages, story.conversations, story.batches, story.converged_millis
    );
    if let Some(hash) = story.hash {
        println!("  hash      {hash}");
    }
}
