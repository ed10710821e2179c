//! Worlds of many nodes: the promises hold under all kinds of trouble, runs repeat, and what is
//! broken on purpose is seen.

use warbler_simulations::checkers::Promise;
use warbler_simulations::mutant::Mutant;
use warbler_simulations::plan::{InvalidPlan, Plan};
use warbler_simulations::story::Story;

/// Runs seeds; all must keep every promise.
fn expect_all(nodes: usize, seeds: std::ops::Range<u64>) -> Vec<Story> {
    let run = |seed| Plan::new(seed, nodes).run(None);
    seeds.map(|seed| run(seed).unwrap_or_else(|failure| panic!("{failure}"))).collect()
}

fn total(stories: &[Story], figure: impl Fn(&Story) -> u64) -> u64 {
    stories.iter().map(figure).sum()
}

#[test]
fn two_regions_keep_every_promise() {
    let stories = expect_all(2, 1_000..1_010);
    assert!(total(&stories, |story| story.acknowledged) > 500);
}

#[test]
fn three_regions_keep_every_promise() {
    let stories = expect_all(3, 2_000..2_010);
    assert!(total(&stories, |story| story.acknowledged_wider) > 50);
}

#[test]
fn five_regions_keep_every_promise() {
    let stories = expect_all(5, 3_000..3_020);
    // A world without trouble proves nothing: every kind must have struck.
    assert!(total(&stories, |story| story.crashes) > 0, "no crash");
    assert!(total(&stories, |story| story.torn_writes) > 0, "no torn write");
    assert!(total(&stories, |story| story.partitions) > 0, "no partition");
    assert!(total(&stories, |story| story.pauses) > 0, "no pause");
    assert!(total(&stories, |story| story.clock_jumps) > 0, "no clock jump");
    assert!(total(&stories, |story| story.frames_lost) > 0, "no lost frame");
    assert!(total(&stories, |story| story.frames_doubled) > 0, "no doubled frame");
    assert!(total(&stories, |story| story.retries) > 0, "no retry");
    assert!(total(&stories, |story| story.resumes) > 0, "nobody resumed");
    assert!(total(&stories, |story| story.done) > 0, "nothing was done");
    assert!(total(&stories, |story| story.erasures) > 0, "nothing was erased");
    assert!(total(&stories, |story| story.looks) > 0, "nobody looked");
    assert!(total(&stories, |story| story.trimmed) > 0, "nothing was trimmed");
    assert!(total(&stories, |story| story.snapshots) > 0, "no snapshot");
    assert!(total(&stories, |story| story.sweeps) > 0, "nothing was swept");
    assert!(total(&stories, |story| story.poisoned) > 0, "no poison");
    assert!(total(&stories, |story| story.full_disks) > 0, "no full disk");
    assert!(total(&stories, |story| story.wiped_disks) > 0, "no lost disk");
    assert!(total(&stories, |story| story.flipped_bits) > 0, "no flipped bit");
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    for nodes in [2, 3, 5] {
        let run = || Plan::new(77, nodes).run(None).unwrap_or_else(|failure| panic!("{failure}"));
        let (first, second) = (run(), run());
        assert!(first.hash.is_some());
        assert_eq!(first, second);
        let other = Plan::new(78, nodes).run(None).unwrap_or_else(|failure| panic!("{failure}"));
        assert_ne!(first.hash, other.hash);
    }
}

#[test]
fn who_listens_hears_the_story_and_changes_nothing() {
    let mut lines = Vec::new();
    let mut listen = |line: &str| lines.push(line.to_owned());
    let heard =
        Plan::new(5, 3).run(Some(&mut listen)).unwrap_or_else(|failure| panic!("{failure}"));
    let unheard = Plan::new(5, 3).run(None).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(heard, unheard);
    assert!(lines.iter().any(|line| line.contains("acknowledges")), "{lines:?}");
    assert!(lines.last().is_some_and(|line| line.contains("converged")));
}

#[test]
fn an_impossible_plan_is_refused() {
    assert_eq!(Plan::new(0, 1).check(), Err(InvalidPlan::Nodes(1)));
    assert_eq!(Plan::new(0, 9).check(), Err(InvalidPlan::Nodes(9)));
    assert_eq!(Plan { seconds: 0, ..Plan::new(0, 2) }.check(), Err(InvalidPlan::Seconds(0)));
    assert_eq!(Plan::new(0, 8).check(), Ok(()));
}

/// Runs a mutant until it is caught; it must be within so many seeds, and for breaking one of
/// these promises.
fn expect_caught(mutant: Mutant, within: u64, promises: &[Promise]) {
    for seed in 0..within {
        let plan = Plan { mutant: Some(mutant), ..Plan::new(seed, 3) };
        let Err(failure) = plan.run(None) else { continue };
        assert!(promises.contains(&failure.broken.promise), "{mutant}: {failure}");
        return;
    }
    panic!("{mutant} was not caught within {within} seeds");
}

#[test]
fn disks_that_lose_flushes_are_caught() {
    expect_caught(Mutant::DisksLoseFlushes, 3, &[Promise::Durability]);
}

#[test]
fn a_driver_that_answers_before_the_disk_is_caught() {
    expect_caught(Mutant::AnswersBeforeTheDisk, 1, &[Promise::Durability]);
}

#[test]
fn a_disk_that_drops_a_row_is_caught() {
    expect_caught(Mutant::DisksDropARow, 1, &[Promise::Durability, Promise::Causality]);
}

#[test]
fn a_disk_whose_batches_are_not_atomic_is_caught() {
    expect_caught(Mutant::DisksTearBatches, 5, &[Promise::Convergence]);
}

#[test]
fn a_node_that_reuses_its_origin_is_caught() {
    // Nodes see the fork themselves, and alarm, where they compare logs before a checker does.
    expect_caught(Mutant::ReusesItsOrigin, 5, &[Promise::Uniqueness, Promise::Soundness]);
}

#[test]
fn a_node_that_returns_from_an_old_copy_is_caught() {
    expect_caught(Mutant::ReturnsFromACopy, 3, &[Promise::Durability, Promise::Uniqueness]);
}

#[test]
fn a_driver_that_shows_batches_backwards_is_caught() {
    expect_caught(Mutant::ShowsBatchesBackwards, 3, &[Promise::Causality]);
}

#[test]
fn a_driver_that_skips_batches_is_caught() {
    expect_caught(Mutant::SkipsBatches, 1, &[Promise::Causality]);
}

#[test]
fn a_link_that_drops_the_entries_of_a_node_is_caught() {
    expect_caught(Mutant::DropsEntries, 1, &[Promise::Convergence]);
}

#[test]
fn connections_that_are_made_again_all_the_time_are_caught() {
    expect_caught(Mutant::Reconnects, 1, &[Promise::Quiescence]);
}

#[test]
fn a_gateway_that_forgets_keys_is_caught() {
    expect_caught(Mutant::ForgetsKeys, 5, &[Promise::Uniqueness]);
}

#[test]
fn a_disk_that_forgets_what_was_erased_is_caught() {
    let promises = [Promise::Erasure, Promise::Durability, Promise::Model];
    expect_caught(Mutant::ForgetsErasures, 2, &promises);
}

#[test]
fn a_disk_that_keeps_erased_words_is_caught() {
    expect_caught(Mutant::KeepsErasedWords, 2, &[Promise::Erasure]);
}

#[test]
fn a_link_that_puts_erased_words_back_is_caught() {
    expect_caught(Mutant::SendsErasedWords, 10, &[Promise::Erasure]);
}

#[test]
fn a_disk_that_forgets_redactions_is_caught() {
    expect_caught(Mutant::ForgetsRedactions, 2, &[Promise::Model]);
}

#[test]
fn edits_that_the_clock_decides_are_caught() {
    expect_caught(Mutant::EditsByTheClock, 20, &[Promise::Model]);
}

#[test]
fn settings_that_stand_beside_those_that_replace_them_are_caught() {
    expect_caught(Mutant::KeepsReplacedSettings, 5, &[Promise::Model, Promise::Convergence]);
}

#[test]
fn logs_that_are_trimmed_before_all_hold_them_are_caught() {
    expect_caught(Mutant::PeersExaggerate, 10, &[Promise::Trimming]);
}
