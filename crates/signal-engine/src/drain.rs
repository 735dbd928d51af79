//! How far a stop is. Comes in: a plan. Goes out: moments of it. Deliberately absent: what is done at them
//! (`engine/restart.rs`).

use lianmai_protocol::MonoTime;

/// How a server stops. All in milliseconds from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainPlan {
    /// Clients stay connected at least so long after they were told.
    pub notice_ms: u64,
    /// The last of them is closed then at the latest, and nothing more is taken in.
    pub freeze_ms: u64,
    /// The process is gone then; told to clients.
    pub deadline_ms: u64,
    /// Clients are told to stay away so long after their close: until the next process listens.
    pub retry_after_ms: u64,
    /// And a random share of this; they are closed spread over as much.
    pub jitter_ms: u64,
}

/// A drain that has begun.
#[derive(Debug)]
pub(crate) struct Drain {
    pub(crate) plan: DrainPlan,
    began: MonoTime,
    /// Nothing more is taken in.
    pub(crate) frozen: bool,
    pub(crate) handing_over: bool,
}

impl Drain {
    pub(crate) fn begin(plan: DrainPlan, now: MonoTime) -> Self {
        Drain { plan, began: now, frozen: false, handing_over: false }
    }

    /// When the last socket is closed: as spread as the clients come back, and no later than planned.
    pub(crate) fn closed_by(&self) -> MonoTime {
        let spread = self.plan.notice_ms.saturating_add(self.plan.jitter_ms);
        self.began + spread.min(self.plan.freeze_ms)
    }

    /// When the process is gone.
    pub(crate) fn gone_by(&self) -> MonoTime {
        self.began + self.plan.deadline_ms
    }

    /// Milliseconds until the next process is expected.
    pub(crate) fn away_ms(&self, now: MonoTime) -> u64 {
        self.closed_by().since(now) + self.plan.retry_after_ms
    }
}
