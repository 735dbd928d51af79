//! How long to wait before the next attempt (CLI-7): full jitter in a window that doubles, and stays narrow at first
//! and while a server restarts. Comes in: that an attempt is made, that a connection lasted. Goes out: milliseconds.
//! Deliberately absent: the clock, and what is attempted.

use lianmai_protocol::MonoTime;

use super::rng::Rng;

/// The first window; it doubles with each attempt.
const FIRST_MS: u64 = 500;
/// Most servers that go away are back soon: for so long after a loss the window stays below [`EARLY_WINDOW_MS`].
const EARLY_MS: u64 = 30_000;
/// The widest window at first; it goes on doubling from here.
const EARLY_WINDOW_MS: u64 = 2_000;
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
    /// The window of the next wait.
    window: u64,
    /// The first wait since the last good connection.
    since: Option<MonoTime>,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Backoff {
        Backoff { rng: Rng::new(seed), window: FIRST_MS, since: None }
    }

    /// The wait before one more attempt.
    pub(super) fn wait(&mut self, now: MonoTime) -> u64 {
        let since = *self.since.get_or_insert(now);
        if now.since(since) < EARLY_MS {
            self.window = self.window.min(EARLY_WINDOW_MS);
        }
        let wait = self.rng.up_to(self.window);
        self.failed();
        wait
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
        self.window = (2 * self.window).min(WIDEST_MS);
    }

    /// A good connection was lost, or a new membership begins.
    pub(super) fn reset(&mut self) {
        self.window = FIRST_MS;
        self.since = None;
    }
}
