//! Publishes a stream of the hub to an upstream for as long as the stream lives.
//!
//! In: a player of the hub, an [`UpstreamUrl`]. Out: a publish at the upstream, started again after each failure; its
//! progress as [`ForwardState`]. Absent: the choice of streams and upstreams; channels.
//!
//! The forward is a player like any other, so it delays nobody. While there is no upstream, the player is paused and
//! no media waits. Then it starts as a late player does, with headers and the last group of pictures.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{Upstream, UpstreamError, UpstreamOptions, UpstreamUrl};
use crate::hub::{EndReason, Player};
use crate::media::Packet;

/// Pause before the second attempt. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After a publish of at least this duration, the pauses begin with the first one again.
const STABLE_AFTER: Duration = Duration::from_secs(30);
/// Packets taken from the hub at once.
const BATCH: usize = 64;

/// The phase of a forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardPhase {
    /// The forward connects to the upstream.
    Connecting,
    /// The upstream takes the stream.
    Publishing,
    /// The forward waits for its next attempt.
    Waiting,
}

/// The progress of a forward.
#[derive(Debug, Clone)]
pub struct ForwardState {
    /// The current phase.
    pub phase: ForwardPhase,
    /// When the current phase began.
    pub since: Instant,
    /// Attempts that failed, and publishes that ended before their stream.
    pub failures: u64,
    /// Why the last of them failed or ended. It holds no key.
    pub last_error: Option<Arc<UpstreamError>>,
}

impl Default for ForwardState {
    fn default() -> Self {
        Self {
            phase: ForwardPhase::Connecting,
            since: Instant::now(),
            failures: 0,
            last_error: None,
        }
    }
}

/// Publishes the packets of `player` to the upstream until the play ends. Returns why it ended. Every change of the
/// progress is sent to `state`.
pub async fn forward(
    player: Player,
    url: &UpstreamUrl,
    options: &UpstreamOptions,
    state: &watch::Sender<ForwardState>,
) -> EndReason {
    let seeds = RandomState::new();
    let mut attempt = 0;
    player.pause(true);
    loop {
        enter(state, ForwardPhase::Connecting);
        let connected = tokio::select! {
            reason = ended(&player) => return reason,
            connected = Upstream::publish(url, options) => connected,
        };
        let error = match connected {
            Ok(mut upstream) => {
                enter(state, ForwardPhase::Publishing);
                let begun = Instant::now();
                player.pause(false);
                match relay(&player, &mut upstream).await {
                    Ended::Stream(reason) => {
                        // After a cut the upstream gets nothing more: the drop resets the connection.
                        if reason == EndReason::StreamEnded {
                            tokio::select! {
                                _ = player.cut() => {}
                                () = upstream.finish() => {}
                            }
                        }
                        return reason;
                    }
                    Ended::Upstream(error) => {
                        player.pause(true);
                        if begun.elapsed() >= STABLE_AFTER {
                            attempt = 0;
                        }
                        error
                    }
                }
            }
            Err(error) => error,
        };
        let pause = pause(attempt, seeds.hash_one(state.borrow().failures));
        attempt = attempt.saturating_add(1);
        state.send_modify(|state| {
            state.phase = ForwardPhase::Waiting;
            state.since = Instant::now();
            state.failures += 1;
            state.last_error = Some(Arc::new(error));
        });
        tokio::select! {
            reason = ended(&player) => return reason,
            () = sleep(pause) => {}
        }
    }
}

enum Ended {
    Stream(EndReason),
    Upstream(UpstreamError),
}

async fn relay(player: &Player, upstream: &mut Upstream) -> Ended {
    let mut batch: Vec<Arc<Packet>> = Vec::new();
    let mut charged = charge(player, upstream);
    while player.take_ready(&mut batch, BATCH) {
        for packet in batch.drain(..) {
            player.count_out(packet.flv().len());
            if let Err(error) = upstream.send_first(&packet) {
                return Ended::Upstream(error);
            }
        }
    }
    loop {
        tokio::select! {
            error = upstream.serve() => return Ended::Upstream(error),
            next = player.next(&mut batch, BATCH) => {
                if let Err(reason) = next {
                    return Ended::Stream(reason);
                }
                charged = charged || charge(player, upstream);
                for packet in batch.drain(..) {
                    player.count_out(packet.flv().len());
                    if let Err(error) = upstream.send(&packet) {
                        return Ended::Upstream(error);
                    }
                }
            }
        }
    }
}

/// Charges the waiting bytes to the owner of the stream. False while the stream has no publisher, and so no owner: an
/// upstream may accept during the gap between two publishes.
fn charge(player: &Player, upstream: &mut Upstream) -> bool {
    let account = player.forward_account();
    if let Some(account) = &account {
        upstream.charge_to(account);
    }
    account.is_some()
}

/// Completes when a paused play has ended.
async fn ended(player: &Player) -> EndReason {
    let mut batch = Vec::new();
    loop {
        if let Err(reason) = player.next(&mut batch, BATCH).await {
            return reason;
        }
        batch.clear();
    }
}

fn enter(state: &watch::Sender<ForwardState>, phase: ForwardPhase) {
    state.send_modify(|state| {
        state.phase = phase;
        state.since = Instant::now();
    });
}

/// The pause after an attempt. It doubles with each attempt, up to a bound. `random` chooses a value between half of
/// that and the whole, so that forwards that failed together do not try again together.
fn pause(attempt: u32, random: u64) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << attempt.min(16)).min(LONGEST_PAUSE);
    let half = whole / 2;
    half + half.mul_f64((random % 1024) as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: how often an upstream is tried.

    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        for (attempt, whole) in [(0, 1), (1, 2), (2, 4), (4, 16), (5, 30), (1000, 30)] {
            let whole = Duration::from_secs(whole);
            assert_eq!(pause(attempt, 0), whole / 2);
            let longest = pause(attempt, 1023);
            assert!(longest > whole * 9 / 10 && longest <= whole, "{longest:?}");
        }
    }
}
