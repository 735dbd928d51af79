//! The protocol between an engine and an *executor*, which carries tasks out (recordings are to use the same). Goes
//! out: orders. Comes in: reports. An executor decides nothing, and a wrong, late or missing report harms only its own
//! run (ADR 0041).
//!
//! ```text
//!   engine                              executor
//!     |--- Start{run, job} --------------->|
//!     |<-- Accepted{ask} ------------------|  asks for the first lease: before it nothing is pushed
//!     |--- Lease{run, ask, ms} ----------->|  counted from the moment of that ask
//!     |<-- Pushing ------------------------|  the receiver took the stream
//!     |<-- Renew{ask} ---------------------|  several times in a lease
//!     |--- Lease, Update{run, job} ------->|
//!     |<-- Retrying, Failed, Stopped ------|
//!     |--- Stop{run} --------------------->|
//! ```
//!
//! A run whose lease is over has stopped by itself, since its executor counts from an earlier moment than the engine
//! does. So the next run, which waits for that, is never the second publisher at a receiver.

use lianmai_protocol::{Mid, TaskId, UserId};

use super::layout::Composition;
use super::spec::Spec;
use crate::key::ChannelKey;

/// The id of a run: one execution of one task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId {
    /// The channel; its [`ChannelKey::route`] selects the engine that a report is for.
    pub channel: ChannelKey,
    /// The task.
    pub task: TaskId,
    /// The life of the task; a later task with the same id has another one.
    pub life: u64,
    /// Counts the runs of this life from 1, over restarts.
    pub number: u64,
}

/// The work of an executor.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The owner of the task; `None` for the app's server.
    pub owner: Option<UserId>,
    /// The specification of the task, the address with its secret included.
    pub spec: Spec,
    /// The streams that are seen and heard at the moment.
    pub shown: Composition,
    /// Signed into the pull URLs of the run, which are valid as long as the run, and only for streams that it shows.
    pub viewer: Mid,
}

/// An order to an executor.
#[derive(Clone, Debug, PartialEq)]
pub enum RunOrder {
    /// Begin. Nothing is pushed before the first [`RunOrder::Lease`].
    Start {
        /// The run.
        run: RunId,
        /// What to do.
        job: Box<Job>,
    },
    /// The run may push for this long, counted from the moment at which the executor asked. A lease for an ask that the
    /// executor did not make is ignored.
    Lease {
        /// The run.
        run: RunId,
        /// The number of that ask.
        ask: u64,
        /// Milliseconds.
        ms: u64,
    },
    /// Do this from now on. The address is the same place as before; other changes of it take effect with the next
    /// connection.
    Update {
        /// The run.
        run: RunId,
        /// What to do.
        job: Box<Job>,
    },
    /// End, and report [`RunReport::Stopped`] when nothing is pushed any more.
    Stop {
        /// The run.
        run: RunId,
    },
}

/// Why a push failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunFailure {
    /// The receiver does not answer.
    Unreachable,
    /// The receiver refuses the stream.
    Rejected,
    /// The connection broke.
    Broken,
    /// The streams of the members cannot be read.
    Input,
    /// The encoder failed.
    Encoder,
    /// The executor has no room.
    Overloaded,
    /// The executor did not answer, or not in time.
    Silent,
    /// An internal error of the server.
    Internal,
}

impl RunFailure {
    /// One sentence for everybody.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            RunFailure::Unreachable => "The receiver cannot be reached.",
            RunFailure::Rejected => "The receiver refused the stream.",
            RunFailure::Broken => "The connection to the receiver broke.",
            RunFailure::Input => "The streams of the channel could not be read.",
            RunFailure::Encoder => "The encoder failed.",
            RunFailure::Overloaded => "The server has no room for the task.",
            RunFailure::Silent => "What carries the task out did not answer.",
            RunFailure::Internal => "The task failed inside the server.",
        }
    }
}

/// An executor's report on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunReport {
    /// It has begun, and asks for its first lease.
    Accepted {
        /// A number that the run uses once.
        ask: u64,
    },
    /// It asks for a further lease.
    Renew {
        /// A number that the run uses once.
        ask: u64,
    },
    /// The receiver takes the stream.
    Pushing,
    /// The stream broke off, and the run connects again by itself.
    Retrying(RunFailure),
    /// A picture of the layout could not be used; the run goes on without it.
    ImageFailed,
    /// The run is over and pushes nothing.
    Failed(RunFailure),
    /// The run is over and pushes nothing, as it was told.
    Stopped,
}
