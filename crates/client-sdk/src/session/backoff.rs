//! The wait before the next attempt (CLI-7): full jitter in a window that doubles. The window stays narrow at first and
//! while a server restarts. In: attempts that are made, connections that lasted. Out: milliseconds. Deliberately
//! absent: the clock, and the attempts themselves.

use lianmai_protocol::MonoTime;

use super::rng::Rng;

/// The first window; it doubles with each attempt.
const FIRST_WINDOW_MS: u64 = 500;
/// Most servers are back soon: for this time after a loss the window is at most [`EARLY_WINDOW_MS`].
const EARLY_PHASE_MS: u64 = 30_000;
/// The widest window in the first [`EARLY_PHASE_MS`]; after that it continues to double.
const EARLY_WINDOW_MS: u64 = 2_000;
/// The widest window.
const MAX_WINDOW_MS: u64 = 30_000;
/// A connection that lasted this long resets the backoff.
pub(super) const STABLE_MS: u64 = 10_000;
/// The longest wait that a server can ask for, so that a wrong value does not keep a client away.
const MAX_REQUESTED_WAIT_MS: u64 = 300_000;
/// The window while a restarting server is expected back (RST-1).
const RESTART_WINDOW_MS: u64 = 1_000;

pub(super) struct Backoff {
    rng: Rng,
    /// The window of the next wait.
    window: u64,
    /// Time of the first wait since the last stable connection.
    since: Option<MonoTime>,
    /// The end of the wait that a server asked for. No attempt is made before it, whatever ends other waits.
    pub(super) not_before: MonoTime,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Backoff {
        let not_before = MonoTime::default();
        Backoff { rng: Rng::new(seed), window: FIRST_WINDOW_MS, since: None, not_before }
    }

    /// The wait before the next attempt, in milliseconds.
    pub(super) fn wait(&mut self, now: MonoTime) -> u64 {
        let since = *self.since.get_or_insert(now);
        if now.since(since) < EARLY_PHASE_MS {
            self.window = self.window.min(EARLY_WINDOW_MS);
        }
        let wait = self.rng.up_to(self.window);
        self.failed();
        wait
    }

    /// The wait before the next attempt while a restarting server is expected back, in milliseconds.
    pub(super) fn soon(&mut self) -> u64 {
        self.rng.up_to(RESTART_WINDOW_MS)
    }

    /// The wait that a server asked for: `at_least`, plus a random share of `jitter`.
    pub(super) fn asked(&mut self, at_least: u64, jitter: u64) -> u64 {
        at_least.min(MAX_REQUESTED_WAIT_MS) + self.rng.up_to(jitter.min(MAX_REQUESTED_WAIT_MS))
    }

    /// Counts a failure that has no wait of its own.
    pub(super) fn failed(&mut self) {
        self.window = (2 * self.window).min(MAX_WINDOW_MS);
    }

    /// Called after a stable connection was lost, or when a new `join` begins.
    pub(super) fn reset(&mut self) {
        self.window = FIRST_WINDOW_MS;
        self.since = None;
        self.not_before = MonoTime::default();
    }
}
