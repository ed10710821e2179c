//! What a run is like and what goes wrong in it: each seed draws its own mix.
//!
//! Swarm testing (Groce et al., 2012): a run in which everything goes wrong at once hides what a
//! run of few faults shows, so each seed switches most kinds off and draws the rates of the rest.
//! Invariant: once calm, no fault here has an effect any more.

use crate::dice::Dice;
use crate::mutant::Mutant;

/// A stretch of milliseconds.
pub type Stretch = (u64, u64);

/// The mix of a seed. Rates are per mille; 0 is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// Frames lost.
    pub loss: u64,
    /// Frames doubled.
    pub copies: u64,
    /// Frames held back so that later ones pass them.
    pub disorder: u64,
    /// Bytes a millisecond that a link carries one way; 0 is without bound.
    pub bandwidth: u64,
    /// Partitions in the run.
    pub partitions: u64,
    /// Of those, how many are one-way.
    pub one_way: u64,
    /// Of frames that meet a partition, how many wait for its end instead of being lost.
    pub clogged: u64,
    /// Crashes in the run.
    pub crashes: u64,
    /// Writes that fail in the run.
    pub torn_writes: u64,
    /// Stretches in which a node stands still.
    pub pauses: u64,
    /// Logs in the run with an entry that nobody can apply.
    pub poisons: u64,
    /// Disks that fill up in the run.
    pub full_disks: u64,
    /// Disks that are lost in the run; then logs are not trimmed.
    pub wiped_disks: u64,
    /// Bits that flip on disks in the run; then logs are not trimmed.
    pub flipped_bits: u64,
    /// Jumps of wall clocks in the run.
    pub clock_jumps: u64,
    /// How far wall clocks are apart, in milliseconds.
    pub skew: u64,
    /// How much faster or slower clocks run, in millionths.
    pub drift: u64,
    /// Whether one node's clock is further off than ids are believed.
    pub wild_clock: bool,
    /// How long a flush takes, in microseconds.
    pub flush: Stretch,
    /// How long inputs are gathered before a batch is ended, in microseconds.
    pub gather: u64,
    /// Bytes of documents that a replica keeps open.
    pub document_cache_bytes: usize,
    /// How many conversations people write in.
    pub conversations: usize,
    /// How many times as much as usual people do: enough to fill segments, in one conversation.
    pub hurry: u64,
    /// Posts with bodies of many kilobytes: enough to fill windows, budgets and buffers.
    pub long_bodies: u64,
    /// Of what people ask for, what is to be durable in two regions or more.
    pub wide: u64,
    /// Of what people do, what is done to what was said before.
    pub deeds: u64,
    /// Of what people do, what has something forgotten: a message, an author, a conversation.
    pub forgets: u64,
    /// Milliseconds between rounds of upkeep at a node, at most; 0 is none.
    pub upkeep: u64,
    /// Whether logs are trimmed.
    pub trims: bool,
}

impl Faults {
    /// The mix of a seed.
    pub(crate) fn draw(dice: &mut Dice, mutant: Option<Mutant>) -> Self {
        let mut some = |chance: u64, least: u64, most: u64| {
            let drawn = dice.between(least, most);
            if dice.chance(chance) { drawn } else { 0 }
        };
        let mut faults = Self {
            loss: some(500, 5, 150),
            copies: some(400, 5, 150),
            disorder: some(400, 10, 300),
            bandwidth: some(200, 20, 2_000),
            partitions: some(600, 1, 8),
            one_way: some(500, 200, 1_000),
            clogged: some(500, 300, 1_000),
            crashes: some(600, 1, 8),
            torn_writes: some(300, 1, 4),
            pauses: some(300, 1, 5),
            clock_jumps: some(300, 1, 5),
            skew: some(500, 10, 20_000),
            drift: some(300, 10, 1_000),
            wild_clock: some(150, 1, 1) > 0,
            flush: (100, 4_000 + some(250, 10_000, 400_000)),
            gather: some(700, 100, 5_000),
            document_cache_bytes: 64 << 20,
            conversations: 1 + some(800, 0, 5) as usize,
            hurry: 1,
            long_bodies: 4 + some(60, 100, 600),
            wide: 250,
            deeds: some(750, 100, 600),
            forgets: some(600, 4, 60),
            upkeep: some(800, 50, 4_000),
            trims: some(750, 1, 1) > 0,
            poisons: some(200, 1, 3),
            full_disks: some(250, 1, 3),
            wiped_disks: some(150, 1, 2),
            flipped_bits: some(150, 1, 3),
        };
        if faults.wiped_disks + faults.flipped_bits > 0 {
            // Who has lost what all have trimmed could not get it again from a log.
            faults.trims = false;
        }
        if some(40, 1, 1) > 0 {
            faults.hurry = 5;
            faults.conversations = 1;
        }
        if some(100, 1, 1) > 0 {
            faults.document_cache_bytes = 16 << 10;
        }
        if let Some(mutant) = mutant {
            // A disk that is replaced takes what a mutant did to it along.
            (faults.wiped_disks, faults.flipped_bits) = (0, 0);
            mutant.provoke(&mut faults);
        }
        faults
    }

    /// Switches off everything that a network or a machine does to a run.
    pub(crate) fn calm(&mut self) {
        (self.loss, self.copies, self.disorder, self.bandwidth) = (0, 0, 0, 0);
        self.flush = (100, 4_000);
    }
}
