//! How a server stops (RST-1, RST-2). Comes in: that it should. Goes out: the [`Phase`]s that everything
//! else watches, and whether the next process can go on where this one ends. Deliberately absent: who is closed
//! when; the engine says.
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

/// Who wants the end at once waits so long for the store.
const LAST_FLUSH: Duration = Duration::from_millis(200);

/// How far a server is with stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It does not stop.
    Serving,
    /// Members are moved away; who resumes is served.
    Draining,
    /// Nothing changes any more, and no connection is taken in.
    Frozen,
    /// Everything ends.
    Stopping,
}

/// Completes when the server stops. A dropped sender means that it is gone, which is a stop too.
pub(crate) async fn wait_for_stop(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase == Phase::Stopping).await;
}

/// What a drain came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drained {
    /// The next process can go on where this one ends.
    pub(crate) handed_over: bool,
    /// Whatever has not ended then is left.
    pub(crate) deadline: Instant,
}

/// Moves every member away and writes down what the next process needs. Ends in the phase `Stopping`, at the
/// deadline at the latest, or when `at_once` completes.
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
    let last_call = deadline - LAST_FLUSH;
    phase.send_replace(Phase::Draining);
    info!(deadline_ms = config.deadline_ms, "draining");
    let hand_over = async {
        let through = shards.drain(plan(config)).await;
        phase.send_replace(Phase::Frozen);
        info!(handed_over = through, "frozen");
        store.close(through.then(wall_now)).await && through
    };
    let freezes = async {
        sleep_until(freeze).await;
        phase.send_replace(Phase::Frozen);
        std::future::pending().await
    };
    let handed_over = tokio::select! {
        // A hand-over that came about counts.
        biased;
        done = timeout_at(last_call, hand_over) => done.unwrap_or(false),
        () = freezes => false,
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
