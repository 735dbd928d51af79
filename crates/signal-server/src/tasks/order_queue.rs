//! The orders that a run has not received yet. Comes in: orders, in sequence. Goes out: the newest of each kind, so it
//! is bounded however slowly they are taken. Deliberately absent: lines and pipes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lianmai_signal_engine::task::Job;
use tokio::sync::{Notify, watch};

/// Orders for one run.
pub(super) struct OrderQueue {
    pending: Mutex<PendingOrders>,
    changed: Notify,
    stop: watch::Sender<Option<StopReason>>,
}

#[derive(Default)]
struct PendingOrders {
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
pub(super) enum StopReason {
    /// The engine ordered it.
    Ordered,
    /// There is no room for its job.
    NoCapacity,
    /// Its compositor refuses its job.
    Refused,
}

/// The next order.
#[derive(Debug, PartialEq)]
pub(super) enum NextOrder {
    Lease(Lease),
    Job(Box<Job>),
    Stop,
}

impl OrderQueue {
    pub(super) fn new() -> Self {
        OrderQueue {
            pending: Mutex::default(),
            changed: Notify::new(),
            stop: watch::Sender::new(None),
        }
    }

    pub(super) fn lease(&self, lease: Lease) {
        self.pending().lease = Some(lease);
        self.changed.notify_one();
    }

    pub(super) fn update(&self, job: Box<Job>) {
        self.pending().job = Some(job);
        self.changed.notify_one();
    }

    /// Orders a stop. The first reason counts.
    pub(super) fn stop(&self, why: StopReason) {
        self.stop.send_if_modified(|stop| {
            let is_first = stop.is_none();
            stop.get_or_insert(why);
            is_first
        });
        self.changed.notify_one();
    }

    pub(super) fn stop_reason(&self) -> Option<StopReason> {
        *self.stop.borrow()
    }

    /// Completes when the run must end.
    pub(super) async fn wait_for_stop(&self) {
        // `self` holds the sender, so this is no error.
        let _ = self.stop.subscribe().wait_for(Option::is_some).await;
    }

    /// The next order: a stop before all others, and a lease before a job.
    pub(super) async fn next(&self) -> NextOrder {
        loop {
            if self.stop_reason().is_some() {
                return NextOrder::Stop;
            }
            if let Some(next) = self.take() {
                return next;
            }
            self.changed.notified().await;
        }
    }

    fn take(&self) -> Option<NextOrder> {
        let mut pending = self.pending();
        let lease = pending.lease.take().map(NextOrder::Lease);
        lease.or_else(|| pending.job.take().map(NextOrder::Job))
    }

    fn pending(&self) -> MutexGuard<'_, PendingOrders> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: orders that wait for a run.

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_newest_order_of_each_kind_is_delivered() {
        let orders = OrderQueue::new();
        assert_eq!(orders.next().now_or_never(), None);
        orders.lease(Lease { ask: 1, ms: 2 });
        orders.lease(Lease { ask: 2, ms: 2 });
        assert_eq!(orders.next().await, NextOrder::Lease(Lease { ask: 2, ms: 2 }));
        assert_eq!(orders.next().now_or_never(), None);
        assert_eq!(orders.wait_for_stop().now_or_never(), None);
        orders.lease(Lease { ask: 3, ms: 2 });
        orders.stop(StopReason::NoCapacity);
        orders.stop(StopReason::Ordered);
        assert_eq!(orders.stop_reason(), Some(StopReason::NoCapacity));
        assert_eq!(orders.next().await, NextOrder::Stop);
        orders.wait_for_stop().await;
    }
}
