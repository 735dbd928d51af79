//! Runs of tasks that were told to stop. Comes in: a run, until when it may push, a claim to release then. Goes out:
//! runs that are over. Plain state that `engine/tasks.rs` uses.

use std::collections::BTreeMap;

use lianmai_protocol::MonoTime;

use crate::task::{Claim, RunId};

/// Runs that were told to stop and may push until their lease is over. They outlive their task and channel.
#[derive(Debug, Default)]
pub(crate) struct StoppingRuns(BTreeMap<RunId, StoppingRun>);

#[derive(Debug)]
struct StoppingRun {
    until: MonoTime,
    /// Claims to release then.
    claims: Vec<Claim>,
}

impl StoppingRuns {
    /// A run may push until then; its claim is released after that.
    pub(crate) fn add(&mut self, run: RunId, until: MonoTime, claim: Option<Claim>) {
        let ending = self.0.entry(run).or_insert(StoppingRun { until, claims: Vec::new() });
        ending.until = ending.until.max(until);
        ending.claims.extend(claim);
    }

    /// Does not release a claim after all: its holder wants it again.
    pub(crate) fn keep(&mut self, claim: &Claim) {
        for ending in self.0.values_mut() {
            ending.claims.retain(|other| other != claim);
        }
    }

    /// Runs whose lease is over.
    pub(crate) fn expired(&self, now: MonoTime) -> Vec<RunId> {
        let expired = self.0.iter().filter(|(_, ending)| ending.until <= now);
        expired.map(|(run, _)| run.clone()).collect()
    }

    /// A run no longer pushes. Returns the claims to release; `None` if the run is not known.
    pub(crate) fn take(&mut self, run: &RunId) -> Option<Vec<Claim>> {
        self.0.remove(run).map(|ending| ending.claims)
    }
}
