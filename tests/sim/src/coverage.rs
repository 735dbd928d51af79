//! Counts what happened in all worlds of a run, so that a run reports what it never exercised. Comes in: counts. Goes
//! out: a table, and what is missing. Deliberately absent: whether the events were right.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lianmai_protocol::message::event::{LeaveReason, RoomCloseReason};
use lianmai_protocol::message::session::ResumeReason;
use lianmai_protocol::{CloseCode, ErrorName};

/// Everything that docs/protocol.md lists must occur `OFTEN` times in `SEEDS` seeds.
const OFTEN: u64 = 100;
const SEEDS: u64 = 10_000;

/// Errors that a server without push tasks does not answer (NSY-1).
const TASK_ERRORS: &[ErrorName] = &[
    ErrorName::TaskOverridden,
    ErrorName::BadTask,
    ErrorName::TaskChannelGone,
    ErrorName::TaskLimitExceeded,
    ErrorName::DuplicateTask,
    ErrorName::NoSuchTask,
    ErrorName::TaskFailed,
    ErrorName::TaskInternal,
    ErrorName::BadLayout,
    ErrorName::BadImage,
    ErrorName::StreamUrlBusy,
];

/// What cannot occur here, with the reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("error:kicked", "names the end of a membership in `Disconnected`; no answer carries it"),
    ("error:replaced", "as `kicked`"),
    ("error:internalError", "no path of the engine answers it; clients make it of a broken host"),
    ("leave:whileAway", "made by clients, of what they did not see"),
];

/// The faults that worlds inject.
const FAULTS: &[&str] = &[
    "suspend",
    "network",
    "offline",
    "slow",
    "clientRestart",
    "cut",
    "trip",
    "swallow",
    "half",
    "stall",
    "lateFrame",
    "lateClose",
    "reentrant",
    "pause",
    "wall",
    "disk",
    "mint",
];

/// Counters of one world, or of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<String, u64>,
    /// Number of worlds.
    pub seeds: u64,
    /// Number of calls of apps.
    pub calls: u64,
    /// Number of events that apps received.
    pub delivered: u64,
    /// The smallest number of events delivered in one world.
    pub least_delivered: u64,
    /// Number of `reconnect` requests.
    pub resumes: u64,
    /// Crashes of the server.
    pub crashes: u64,
    /// Drains of the server.
    pub drains: u64,
}

impl Coverage {
    pub(crate) fn count(&mut self, name: &str) {
        self.add(name, 1);
    }

    pub(crate) fn add(&mut self, name: &str, n: u64) {
        match self.counts.get_mut(name) {
            Some(count) => *count += n,
            None => drop(self.counts.insert(name.to_owned(), n)),
        }
    }

    pub(crate) fn close(&mut self, code: u16) {
        self.count(&format!("close:{code}"));
    }

    pub(crate) fn client_close(&mut self, code: u16) {
        self.count(&format!("close:{code}"));
    }

    pub(crate) fn error(&mut self, name: &ErrorName) {
        self.count(&format!("error:{name}"));
    }

    pub(crate) fn settled_error(&mut self, name: &str) {
        self.count(&format!("settled:{name}"));
        // Errors that clients make themselves appear in no answer.
        if ["timeout", "outcomeUnknown", "notConnected", "frameTooLarge"].contains(&name) {
            self.count(&format!("error:{name}"));
        }
    }

    /// How often something occurred.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Adds the counters of another world or of many worlds.
    pub fn merge(&mut self, other: &Coverage) {
        for (name, n) in &other.counts {
            self.add(name, *n);
        }
        self.least_delivered = match (self.seeds, other.seeds) {
            (0, _) => other.least_delivered,
            (_, 0) => self.least_delivered,
            _ => self.least_delivered.min(other.least_delivered),
        };
        self.seeds += other.seeds;
        self.calls += other.calls;
        self.delivered += other.delivered;
        self.resumes += other.resumes;
        self.crashes += other.crashes;
        self.drains += other.drains;
    }

    fn required() -> Vec<String> {
        let errors = ErrorName::ALL.iter().filter(|name| !TASK_ERRORS.contains(name));
        let mut names: Vec<String> = errors.map(|name| format!("error:{name}")).collect();
        names.extend(CloseCode::TABLE.iter().map(|row| format!("close:{}", row.code.0)));
        names.extend(ResumeReason::ALL.iter().map(|reason| format!("resume:{reason}")));
        names.extend(LeaveReason::ALL.iter().map(|reason| format!("leave:{reason}")));
        names.extend(RoomCloseReason::ALL.iter().map(|reason| format!("roomClose:{reason}")));
        names.extend(FAULTS.iter().map(|fault| format!("fault:{fault}")));
        names.retain(|name| EXCEPTIONS.iter().all(|(exception, _)| name != exception));
        names
    }

    /// What occurred less often than required. The thresholds shrink with the number of worlds.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let share = |of: u64| of * self.seeds.min(SEEDS) / SEEDS;
        let mut missing = Vec::new();
        for name in Self::required() {
            let (is, least) = (self.get(&name), share(OFTEN));
            if is < least {
                missing.push(format!("{name}: {is} of {least}"));
            }
        }
        let totals = [
            ("resumes", self.resumes, share(100_000)),
            ("crashes", self.crashes, share(2_000)),
            ("drains", self.drains, share(2_000)),
            ("least events delivered in a world", self.least_delivered, 2_000),
        ];
        for (name, is, least) in totals {
            if is < least {
                missing.push(format!("{name}: {is} of {least}"));
            }
        }
        let all = ["replayed", "snapshot", "rejoined", "refused"];
        let sum: u64 = all.iter().map(|name| self.get(&format!("outcome:{name}"))).sum();
        for name in all {
            let is = self.get(&format!("outcome:{name}"));
            if is * 20 < sum {
                missing.push(format!("outcome:{name}: {is} of {sum} is less than 5 %"));
            }
        }
        missing
    }

    /// All counters, for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let per = |n: u64| n / self.seeds.max(1);
        let _ = writeln!(
            text,
            "seeds {}, calls {} ({} a seed), events delivered {} ({} a seed, at least {}), resumes {}, crashes {}, drains {}",
            self.seeds,
            self.calls,
            per(self.calls),
            self.delivered,
            per(self.delivered),
            self.least_delivered,
            self.resumes,
            self.crashes,
            self.drains
        );
        for (name, n) in &self.counts {
            let _ = writeln!(text, "  {name:<32} {n:>10}");
        }
        for (name, why) in EXCEPTIONS {
            let _ = writeln!(text, "  {name:<32} not required: {why}");
        }
        text
    }
}
