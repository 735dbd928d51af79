//! Leaves out of a failing scenario what its failure does not need: first the actions of one client, then halves of the
//! rest, quarters, down to single actions, as long as the same checker still fails. Comes in: a scenario that fails.
//! Goes out: a smaller one, and its report with the log.

use std::collections::BTreeSet;

use crate::run::{Report, run_scenario};
use crate::scenario::{Action, Scenario};

/// Shrinks with at most `runs` runs; `None` if the scenario does not fail.
pub(crate) fn shrink(scenario: &Scenario, runs: usize) -> Option<(Scenario, Report)> {
    let first = run_scenario(scenario, false);
    let failure = first.failure?;
    let checker = failure.checker;
    let mut best = scenario.clone();
    // Later actions cannot matter, unless the failure is found at rest.
    let early: Vec<Action> =
        best.actions.iter().filter(|action| action.at <= failure.at).cloned().collect();
    let mut left = runs;
    let fails = |actions: &[Action], left: &mut usize| {
        *left = left.saturating_sub(1);
        let scenario = Scenario { actions: actions.to_vec(), ..scenario.clone() };
        run_scenario(&scenario, false).failure.is_some_and(|failure| failure.checker == checker)
    };
    if fails(&early, &mut left) {
        best.actions = early;
    }
    // Clients without a part in the failure, and actions that concern no client.
    let parts: BTreeSet<Option<usize>> = best.actions.iter().map(|a| a.what.client()).collect();
    for part in parts {
        let fewer: Vec<Action> =
            best.actions.iter().filter(|a| a.what.client() != part).cloned().collect();
        if left > 0 && fails(&fewer, &mut left) {
            best.actions = fewer;
        }
    }
    let mut size = best.actions.len().div_ceil(2);
    while size > 0 && left > 0 {
        let mut at = 0;
        let before = best.actions.len();
        while at < best.actions.len() && left > 0 {
            let mut fewer = best.actions.clone();
            fewer.drain(at..(at + size).min(fewer.len()));
            if fails(&fewer, &mut left) {
                best.actions = fewer;
            } else {
                at += size;
            }
        }
        if size == 1 && best.actions.len() == before {
            break;
        }
        size = if size == 1 { 1 } else { size.div_ceil(2) };
    }
    let report = run_scenario(&best, true);
    Some((best, report))
}
