//! What is asked of whoever carries push tasks out. Comes in: what somebody wants, and orders of the engines. Goes out:
//! whether it can be carried out; reports come as [`lianmai_signal_engine::Input::Task`] at the shard of their channel.
//! Deliberately absent: any one way to carry a task out, which has its own folder; and what a report leads to, which the
//! engine knows.

use std::future::Future;
use std::pin::Pin;

use lianmai_signal_engine::task::{Admission, Order, Refusal};

/// Carries push tasks out: on this machine, or elsewhere.
pub(crate) trait Executor: Send + Sync + 'static {
    /// Whether tasks can be carried out. Those that can have their room for a moment, in which their runs begin.
    fn admit(&self, admission: Admission) -> Admitting;

    /// Takes an order, without waiting. Orders of one run are heeded in order, of which a later one may replace an earlier
    /// one that was not carried out yet.
    fn order(&self, order: Order);
}

/// An answer, which comes in bounded time.
pub(crate) type Admitting = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;
