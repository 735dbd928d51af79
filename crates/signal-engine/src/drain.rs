//! The state of a drain. Comes in: a plan. Goes out: its deadlines. Deliberately absent: the actions at these
//! (`engine/restart.rs`).

use lianmai_protocol::MonoTime;

/// How a server stops. Milliseconds, counted from the begin of the drain unless stated otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainPlan {
    /// Clients stay connected at least this long after the notice.
    pub notice_ms: u64,
    /// By then the last socket is closed, and no more input is accepted.
    pub freeze_ms: u64,
    /// By then the process has exited; clients are told this.
    pub deadline_ms: u64,
    /// Clients stay away this long after their close, until the next process listens.
    pub retry_after_ms: u64,
    /// Clients stay away for a random part of this in addition; their sockets are closed spread over the same time.
    pub jitter_ms: u64,
}

/// A drain that has begun.
#[derive(Debug)]
pub(crate) struct Drain {
    pub(crate) plan: DrainPlan,
    began: MonoTime,
    /// No more input is accepted.
    pub(crate) frozen: bool,
    pub(crate) handing_over: bool,
}

impl Drain {
    pub(crate) fn begin(plan: DrainPlan, now: MonoTime) -> Self {
        Drain { plan, began: now, frozen: false, handing_over: false }
    }

    /// When the last socket is closed: spread as the returns of the clients, but no later than the planned freeze.
    pub(crate) fn closed_by(&self) -> MonoTime {
        let spread = self.plan.notice_ms.saturating_add(self.plan.jitter_ms);
        self.began + spread.min(self.plan.freeze_ms)
    }

    /// When the process has exited.
    pub(crate) fn gone_by(&self) -> MonoTime {
        self.began + self.plan.deadline_ms
    }

    /// Milliseconds until the next process is expected.
    pub(crate) fn away_ms(&self, now: MonoTime) -> u64 {
        self.closed_by().since(now) + self.plan.retry_after_ms
    }
}
