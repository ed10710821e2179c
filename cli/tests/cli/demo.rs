//! The demo from outside: what it promises holds, and it leaves nothing behind however it ends.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Running, command, end};

/// How long processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A folder that stands for the system's temporary one, so that all that is left behind is seen.
fn temporary() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn text_of(folder: &TempDir) -> &str {
    folder.path().to_str().expect("UTF-8")
}

fn left_behind(folder: &TempDir) -> usize {
    fs::read_dir(folder.path()).expect("it can be read").count()
}

/// Processes that name the folder in their command line, as the demo's nodes do.
fn processes_in(folder: &TempDir) -> Vec<String> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").expect("Linux") {
        let command = process.expect("an entry").path().join("cmdline");
        // Processes end while we look.
        let line = fs::read(&command).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text_of(folder)) {
            found.push(line);
        }
    }
    found
}

/// Starts the demo and waits until people write in all regions.
fn in_the_middle(folder: &TempDir) -> Running {
    let demo = Running::start_with(&["demo"], &[("TMPDIR", text_of(folder))]);
    while demo.line() != "People write in all three regions at once" {}
    assert_eq!(processes_in(folder).len(), 3, "three nodes run");
    demo
}

#[test]
fn the_demo_keeps_every_promise_and_leaves_nothing_behind() {
    let folder = temporary();
    let mut demo = command(&["demo", "--seconds", "4", "--json"]);
    let ended = end(demo.env("TMPDIR", text_of(&folder)).spawn().expect("started"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let figures: Value = serde_json::from_str(&ended.stdout).expect("JSON and nothing else");
    let checks = figures["checks"].as_array().expect("a list");
    assert!(checks.len() >= 4 && checks.iter().all(|check| check.get("broken").is_none()));
    assert_eq!(figures["imported"]["messages"], 2_136);
    let posts = figures["posts_acknowledged"].as_u64().expect("a number");
    assert_eq!(figures["messages"].as_u64(), Some(2_136 + posts));
    assert!(posts > 300, "{posts}");
    assert!(figures["posts_moved"].as_u64().expect("a number") > 0, "people of the killed region");
    for lag in figures["lag"].as_array().expect("a list") {
        let (one_way, p50) = (lag["one_way_ms"].as_f64(), lag["p50_ms"].as_f64());
        assert!(p50 >= one_way, "faster than the distance: {lag}");
    }

    assert_eq!(left_behind(&folder), 0);
    assert_eq!(processes_in(&folder), [] as [String; 0]);
}

#[test]
fn a_demo_that_is_interrupted_ends_its_nodes_and_removes_its_folder() {
    let folder = temporary();
    let ended = in_the_middle(&folder).stop("INT");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("the demo was ended before it was done"), "{}", ended.stderr);
    assert_eq!(processes_in(&folder), [] as [String; 0]);
    assert_eq!(left_behind(&folder), 0);
}

#[test]
fn a_demo_that_is_killed_takes_its_nodes_with_it() {
    if !Path::new("/usr/bin/setpriv").exists() {
        // Without it nobody tells the kernel, as the demo's documentation says.
        return;
    }
    let folder = temporary();
    let ended = in_the_middle(&folder).stop("KILL");
    assert_eq!(ended.code, None);
    let began = Instant::now();
    while !processes_in(&folder).is_empty() {
        assert!(began.elapsed() < PATIENCE, "{:?}", processes_in(&folder));
        std::thread::yield_now();
    }
}
