//! The interface of executors of push tasks. Comes in: tasks to admit, and orders of the engines. Goes out: whether the
//! tasks can be carried out; reports come as [`lianmai_signal_engine::Input::Task`] at the shard of their channel.
//! Deliberately absent: the executors, which have their own folders; and the consequences of reports, which the engine
//! decides.

use std::future::Future;
use std::pin::Pin;

use lianmai_signal_engine::task::{Admission, Refusal, RunOrder};

/// Carries push tasks out: on this machine, or elsewhere.
pub(crate) trait Executor: Send + Sync + 'static {
    /// Checks whether tasks can be carried out. Admitted tasks keep their room for a short time, in which their runs
    /// begin.
    fn admit(&self, admission: Admission) -> AdmitFuture;

    /// Takes an order, without waiting. Orders of one run are carried out in sequence; a later one may replace an
    /// earlier one that was not carried out yet.
    fn order(&self, order: RunOrder);
}

/// An answer, which comes within bounded time.
pub(crate) type AdmitFuture = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;
