//! Runs one seed, or one scenario of a file. Comes in: a seed or text. Goes out: a report. A panic anywhere in the
//! world is a failure like any other.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::coverage::Coverage;
use crate::generator;
use crate::scenario::Scenario;
use crate::shrink;
use crate::tasks;
use crate::trace::Trace;
use crate::world::{Failure, World};

/// Seeds that failed once: the number first, then the reason.
const REGRESSIONS: &str = include_str!("../seeds/regressions.txt");

/// The result of a world.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Hash of its log.
    pub hash: u64,
    /// Lines of its log.
    pub lines: u64,
    /// Counters of what happened.
    pub coverage: Coverage,
    /// Greatest footprint of an engine per member, in bytes.
    pub largest: usize,
    /// The first failure.
    pub failure: Option<Failure>,
    /// Its log, if it was asked for.
    pub text: String,
}

pub(crate) fn run_scenario(scenario: &Scenario, keep_text: bool) -> Report {
    let mut world = World::new(scenario.clone(), keep_text);
    let lived = catch_unwind(AssertUnwindSafe(|| world.live()));
    if let Err(panic) = lived {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = format!("panic: {}", text.unwrap_or_default());
        world.failure.get_or_insert(Failure { checker: "errors", at: world.now, what });
    }
    Report {
        seed: scenario.seed,
        hash: world.log.hash(),
        lines: world.log.lines(),
        coverage: world.cov.clone(),
        largest: world.checks.largest,
        failure: world.failure.clone(),
        text: world.log.take_text(),
    }
}

/// Runs the world of a seed.
#[must_use]
pub fn run_seed(seed: u64, keep_text: bool) -> Report {
    let mut report = run_scenario(&generator::scenario(seed), keep_text);
    if report.failure.is_none() {
        report.failure = run_tasks(seed);
    }
    report
}

/// Runs the world of push tasks of a seed. Returns its failure.
#[must_use]
pub fn run_tasks(seed: u64) -> Option<Failure> {
    let lived = catch_unwind(AssertUnwindSafe(|| tasks::run(seed)));
    lived.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = format!("panic: {}", text.unwrap_or_default());
        Some(Failure { checker: "errors", at: 0, what })
    })
}

/// Records the inputs and outputs of each session in the world of a seed, up to the first end of the session: one list
/// of lines each.
#[must_use]
pub fn record_seed(seed: u64) -> Vec<Vec<String>> {
    let mut world = World::new(generator::scenario(seed), false);
    for client in &mut world.clients {
        client.trace = Some(Trace::new(&client.config));
    }
    world.live();
    world.clients.into_iter().filter_map(|client| client.trace).map(Trace::into_lines).collect()
}

/// Runs a scenario that is given as text.
///
/// # Errors
/// The text cannot be read.
pub fn run_file(text: &str, keep_text: bool) -> Result<Report, String> {
    Ok(run_scenario(&Scenario::from_text(text)?, keep_text))
}

/// Shrinks the scenario of a failing seed. Returns the scenario as text, and its report; `None` if it does not fail.
#[must_use]
pub fn shrink_seed(seed: u64, runs: usize) -> Option<(String, Report)> {
    let (scenario, report) = shrink::shrink(&generator::scenario(seed), runs)?;
    Some((scenario.to_text(), report))
}

/// The seeds that failed once.
#[must_use]
pub fn regressions() -> Vec<u64> {
    let lines = REGRESSIONS.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}
