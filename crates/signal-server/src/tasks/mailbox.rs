//! The orders that a run has not received yet. Comes in: orders, in sequence. Goes out: the newest of each kind, so it
//! is bounded however slowly they are taken. Deliberately absent: lines and pipes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lianmai_signal_engine::task::Job;
use tokio::sync::{Notify, watch};

/// Orders for one run.
pub(super) struct Mailbox {
    waiting: Mutex<Waiting>,
    more: Notify,
    stop: watch::Sender<Option<Stop>>,
}

#[derive(Default)]
struct Waiting {
    lease: Option<Lease>,
    job: Option<Box<Job>>,
}

/// A lease, and the request that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) ask: u64,
    pub(super) ms: u64,
}

/// Why a run must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The engine ordered it.
    Ordered,
    /// There is no room for its job.
    NoRoom,
    /// Its compositor refuses its job.
    Refused,
}

/// The next order.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Lease(Lease),
    Job(Box<Job>),
    Stop,
}

impl Mailbox {
    pub(super) fn new() -> Self {
        Mailbox { waiting: Mutex::default(), more: Notify::new(), stop: watch::Sender::new(None) }
    }

    pub(super) fn lease(&self, lease: Lease) {
        self.waiting().lease = Some(lease);
        self.more.notify_one();
    }

    pub(super) fn update(&self, job: Box<Job>) {
        self.waiting().job = Some(job);
        self.more.notify_one();
    }

    /// Orders a stop. The first reason counts.
    pub(super) fn stop(&self, why: Stop) {
        self.stop.send_if_modified(|stop| {
            let is_first = stop.is_none();
            stop.get_or_insert(why);
            is_first
        });
        self.more.notify_one();
    }

    pub(super) fn stopped(&self) -> Option<Stop> {
        *self.stop.borrow()
    }

    /// Completes when the run must end.
    pub(super) async fn to_stop(&self) {
        // `self` holds the sender, so this is no error.
        let _ = self.stop.subscribe().wait_for(Option::is_some).await;
    }

    /// The next order: a stop before all others, and a lease before a job.
    pub(super) async fn next(&self) -> Next {
        loop {
            if self.stopped().is_some() {
                return Next::Stop;
            }
            if let Some(next) = self.take() {
                return next;
            }
            self.more.notified().await;
        }
    }

    fn take(&self) -> Option<Next> {
        let mut waiting = self.waiting();
        let lease = waiting.lease.take().map(Next::Lease);
        lease.or_else(|| waiting.job.take().map(Next::Job))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: orders that wait for a run.

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_newest_of_each_kind_is_told() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.next().now_or_never(), None);
        mailbox.lease(Lease { ask: 1, ms: 2 });
        mailbox.lease(Lease { ask: 2, ms: 2 });
        assert_eq!(mailbox.next().await, Next::Lease(Lease { ask: 2, ms: 2 }));
        assert_eq!(mailbox.next().now_or_never(), None);
        assert_eq!(mailbox.to_stop().now_or_never(), None);
        mailbox.lease(Lease { ask: 3, ms: 2 });
        mailbox.stop(Stop::NoRoom);
        mailbox.stop(Stop::Ordered);
        assert_eq!(mailbox.stopped(), Some(Stop::NoRoom));
        assert_eq!(mailbox.next().await, Next::Stop);
        mailbox.to_stop().await;
    }
}
