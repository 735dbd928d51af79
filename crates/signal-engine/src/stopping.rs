//! Runs of tasks that were told to stop. Comes in: a run, until when it may push, a claim that is given back then. Goes
//! out: what is over. Plain state; who looks at it is `engine/tasks.rs`.

use std::collections::BTreeMap;

use lianmai_protocol::MonoTime;

use crate::task::{Claim, RunId};

/// Runs that were told to stop and may push until their lease is over. They outlive their task and channel.
#[derive(Debug, Default)]
pub(crate) struct Stopping(BTreeMap<RunId, Ending>);

#[derive(Debug)]
struct Ending {
    until: MonoTime,
    /// What is given back then.
    claims: Vec<Claim>,
}

impl Stopping {
    /// A run may push until then; a claim is given back after it.
    pub(crate) fn add(&mut self, run: RunId, until: MonoTime, claim: Option<Claim>) {
        let ending = self.0.entry(run).or_insert(Ending { until, claims: Vec::new() });
        ending.until = ending.until.max(until);
        ending.claims.extend(claim);
    }

    /// A claim is not given back after all: its holder wants it again.
    pub(crate) fn keep(&mut self, claim: &Claim) {
        for ending in self.0.values_mut() {
            ending.claims.retain(|other| other != claim);
        }
    }

    /// Runs whose lease is over.
    pub(crate) fn over(&self, now: MonoTime) -> Vec<RunId> {
        let over = self.0.iter().filter(|(_, ending)| ending.until <= now);
        over.map(|(run, _)| run.clone()).collect()
    }

    /// A run pushes nothing any more: the claims that are given back then; `None` for one that is not known.
    pub(crate) fn take(&mut self, run: &RunId) -> Option<Vec<Claim>> {
        self.0.remove(run).map(|ending| ending.claims)
    }
}
