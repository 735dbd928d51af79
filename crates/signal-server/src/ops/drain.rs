//! How a server stops (RST-1, RST-2). Comes in: the request to stop. Goes out: the [`Phase`]s that all other parts
//! watch, and whether the next process can continue from the state of this one. Deliberately absent: which connection
//! is closed when; the engine decides that.
//!
//! ```text
//!   Serving --stop--> Draining --every shard is through, or T1--> Frozen --all is written--> Stopping
//!   listeners serve   joins are refused, resumes are not          503 for upgrades          media ends, exit
//! ```

use std::future::Future;
use std::time::Duration;

use lianmai_signal_engine::DrainPlan;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::{info, warn};

use crate::clock::wall_now;
use crate::config::DrainConfig;
use crate::records::Records;
use crate::shard::Shards;

/// Time for the store to write when the drain was cut short.
const LAST_FLUSH: Duration = Duration::from_millis(200);

/// Progress of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The server does not stop.
    Serving,
    /// Members are moved away; resumes are still accepted.
    Draining,
    /// Nothing changes any more, and no connection is accepted.
    Frozen,
    /// Everything ends.
    Stopping,
}

/// Completes when the server stops. A dropped sender counts as a stop.
pub(crate) async fn wait_for_stop(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase == Phase::Stopping).await;
}

/// The result of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drained {
    /// The next process can continue from the state of this one.
    pub(crate) handed_over: bool,
    /// Time at which everything that has not ended is abandoned.
    pub(crate) deadline: Instant,
}

/// Moves all members away and stores what the next process needs. Ends in the phase `Stopping`, at the deadline at the
/// latest, or when `at_once` completes.
pub(crate) async fn drain(
    config: &DrainConfig,
    shards: &Shards,
    store: &dyn Records,
    phase: &watch::Sender<Phase>,
    at_once: impl Future<Output = ()>,
) -> Drained {
    let start = Instant::now();
    let mut deadline = start + Duration::from_millis(config.deadline_ms);
    let freeze = start + Duration::from_millis(config.freeze_ms());
    let hand_over_deadline = deadline - LAST_FLUSH;
    phase.send_replace(Phase::Draining);
    info!(deadline_ms = config.deadline_ms, "draining");
    let hand_over = async {
        let all_drained = shards.drain(plan(config)).await;
        phase.send_replace(Phase::Frozen);
        info!(handed_over = all_drained, "frozen");
        store.close(all_drained.then(wall_now)).await && all_drained
    };
    let freeze_at_deadline = async {
        sleep_until(freeze).await;
        phase.send_replace(Phase::Frozen);
        std::future::pending().await
    };
    let handed_over = tokio::select! {
        // A completed hand-over takes precedence.
        biased;
        done = timeout_at(hand_over_deadline, hand_over) => done.unwrap_or(false),
        () = freeze_at_deadline => false,
        () = at_once => {
            warn!("told to stop at once");
            deadline = Instant::now();
            false
        }
    };
    if !handed_over {
        warn!("not everything is handed over: the next process starts as after a crash");
        let _ = timeout(LAST_FLUSH, store.close(None)).await;
    }
    phase.send_replace(Phase::Stopping);
    Drained { handed_over, deadline }
}

fn plan(config: &DrainConfig) -> DrainPlan {
    DrainPlan {
        notice_ms: config.notice_ms,
        freeze_ms: config.freeze_ms(),
        deadline_ms: config.deadline_ms,
        retry_after_ms: config.retry_after_ms,
        jitter_ms: config.jitter_ms,
    }
}

#[cfg(test)]
#[path = "drain_tests.rs"]
mod tests;
