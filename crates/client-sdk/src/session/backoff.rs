//! How long to wait before the next attempt (CLI-7): full jitter in a window that doubles, or stays while a server
//! restarts. Comes in: that an attempt is made, that a connection lasted. Goes out: milliseconds. Deliberately absent:
//! the clock, and what is attempted.

use super::rng::Rng;

/// The first window; it doubles with each attempt.
const FIRST_MS: u64 = 500;
/// The widest window.
const WIDEST_MS: u64 = 30_000;
/// A connection that lasted so long was a good one: the next wait is short again.
pub(super) const STABLE_MS: u64 = 10_000;
/// Longest wait that a server can ask for; a wrong figure must not keep a client away for good.
const ASKED_MS: u64 = 300_000;
/// The window while a restarting server is awaited (RST-1).
const RESTART_WINDOW_MS: u64 = 1_000;

pub(super) struct Backoff {
    rng: Rng,
    /// Attempts since the last good connection, and what counts like one.
    attempts: u32,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Backoff {
        Backoff { rng: Rng::new(seed), attempts: 0 }
    }

    /// The wait before one more attempt.
    pub(super) fn wait(&mut self) -> u64 {
        let window = FIRST_MS.saturating_mul(1 << self.attempts.min(16)).min(WIDEST_MS);
        self.failed();
        self.rng.up_to(window)
    }

    /// The wait before one more attempt to reach a server that is about to be back.
    pub(super) fn soon(&mut self) -> u64 {
        self.rng.up_to(RESTART_WINDOW_MS)
    }

    /// What a server asked for: `at_least`, plus a random share of `jitter`.
    pub(super) fn asked(&mut self, at_least: u64, jitter: u64) -> u64 {
        at_least.min(ASKED_MS) + self.rng.up_to(jitter.min(ASKED_MS))
    }

    /// Counts something that failed without a wait of its own.
    pub(super) fn failed(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
    }

    /// A good connection was lost, or a new membership begins.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }
}
