//! Prints the medians of the last Criterion run side by side, each as a ratio to its ceilings.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A bench's median in nanoseconds and the elements of one iteration, by its name.
type Medians = BTreeMap<String, (f64, f64)>;

fn main() -> Result<()> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, PathBuf::from);
    let groups = read_groups(&directory)?;
    if groups.is_empty() {
        bail!("{} holds no results: run `make bench` first", directory.display());
    }
    println!("| what | how | median | messages/s | Warbler's rate to it |");
    println!("|---|---|---:|---:|---:|");
    for (group, medians) in groups {
        let warbler = medians.iter().find(|(name, _)| name.starts_with("warbler"));
        for (name, (median, elements)) in &medians {
            let ratio = match warbler {
                Some((_, (ours, _))) if !name.starts_with("warbler") => {
                    format!("{:.2}", median / ours)
                }
                Some(_) | None => String::new(),
            };
            let rate = elements / median * 1e9;
            println!("| {group} | {name} | {} | {rate:.0} | {ratio} |", in_words(*median));
        }
    }
    Ok(())
}

fn default_directory() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    target.join("criterion")
}

fn in_words(nanoseconds: f64) -> String {
    match nanoseconds {
        ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}

fn read_groups(directory: &Path) -> Result<BTreeMap<String, Medians>> {
    let mut groups: BTreeMap<String, Medians> = BTreeMap::new();
    for group in subdirectories(directory)? {
        for bench in subdirectories(&group)? {
            let about = bench.join("new/benchmark.json");
            if !about.is_file() {
                continue;
            }
            let about = read_json(&about)?;
            let estimates = read_json(&bench.join("new/estimates.json"))?;
            let text = |key: &str| about[key].as_str().map(str::to_owned).context("a name");
            let median = estimates["median"]["point_estimate"].as_f64().context("a median")?;
            let elements = about["throughput"]["Elements"].as_f64().context("a throughput")?;
            let medians = groups.entry(text("group_id")?).or_default();
            medians.insert(text("function_id")?, (median, elements));
        }
    }
    Ok(groups)
}

fn subdirectories(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory).with_context(|| {
        format!("{} cannot be read: run `make bench` first", directory.display())
    })?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let paths = paths.collect::<Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.is_dir()).collect())
}

fn read_json(path: &Path) -> Result<serde_json::Value> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}
