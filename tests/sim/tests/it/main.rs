//! Runs a few worlds in the profile of the other tests and the seeds that failed once, and checks that one seed gives
//! one run. `cargo xtask sim` runs many.
//! Proves no rule of the protocol: that one seed is one run.

use std::process::Command;

use lianmai_sim::{regressions, run_file, run_seed, run_tasks};

/// Seeds with each kind of world.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=12;

/// Proves EVT-3, IDS-7, LIV-3, ORD-1, ORD-3, ORD-4, RES-2, RES-7, RES-8, RES-12, RST-3, RST-5, SES-7.
#[test]
fn fixed_seeds_pass() {
    for seed in SEEDS {
        let report = run_seed(seed, false);
        assert_eq!(report.failure, None, "seed {seed}");
    }
}

/// Proves EVT-3, IDS-7, LIV-3, ORD-1, ORD-3, ORD-4, RES-2, RES-7, RES-8, RES-12, RST-3, RST-5, SES-7.
#[test]
fn regression_seeds_pass() {
    for seed in regressions() {
        let report = run_seed(seed, false);
        assert_eq!(report.failure, None, "seed {seed}");
    }
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/seeds");
    for entry in std::fs::read_dir(seeds).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "scenario") {
            let report = run_file(&std::fs::read_to_string(&path).unwrap(), false).unwrap();
            assert_eq!(report.failure, None, "{}", path.display());
        }
    }
}

/// Proves TSK-2, TSK-7, TSK-9, TSK-10, TSK-11, TSK-12.
#[test]
fn fixed_seeds_of_tasks_pass() {
    for seed in 1..=60 {
        assert_eq!(run_tasks(seed), None, "seed {seed}");
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in [3, 4] {
        let (one, other) = (run_seed(seed, true), run_seed(seed, true));
        assert!(one.lines > 10_000, "{} lines", one.lines);
        assert_eq!(one.hash, other.hash);
        assert_eq!(one.text, other.text);
    }
}

#[test]
fn two_processes_agree() {
    let hash = |_| {
        let output = Command::new(env!("CARGO_BIN_EXE_lianmai-sim")).args(["--seed", "3"]).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let line = text.lines().rev().find(|line| line.starts_with("seed ")).unwrap().to_owned();
        (line, text)
    };
    let (one, other) = (hash(1), hash(2));
    assert_eq!(one.0, other.0);
    assert_eq!(one.1, other.1);
    let here = run_seed(3, false);
    assert!(one.0.contains(&format!("{:016x}", here.hash)), "{} {:016x}", one.0, here.hash);
}
