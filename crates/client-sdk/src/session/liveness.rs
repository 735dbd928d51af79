//! When to send a ping, and when a silent server counts as dead. In: the server's timers, and the times of sent and
//! received data. Out: deadlines. Deliberately absent: the pings themselves, sockets.

use crate::prelude::*;

use lianmai_protocol::MonoTime;
use lianmai_protocol::message::session::Timers;

use super::backoff::STABLE_MS;

/// Maximum number of pings whose answer is awaited. An answer to an older one is ignored, which does no harm.
const PINGS_REMEMBERED: usize = 16;
/// After [`super::Input::Foreground`] a server that is silent for this time counts as dead.
const PROBE_MS: u64 = 3_000;

pub(super) struct Liveness {
    since: MonoTime,
    ping_interval_ms: u64,
    dead_after_ms: u64,
    last_sent: MonoTime,
    last_heard: MonoTime,
    probe_until: Option<MonoTime>,
    reading_paused: bool,
    pings: Vec<u64>,
}

impl Liveness {
    /// Takes over the server's timers, limited to a range in which the client neither floods the server nor waits too
    /// long.
    pub(super) fn new(timers: &Timers, now: MonoTime, reading_paused: bool) -> Self {
        let ping_interval_ms = timers.ping_interval_ms.clamp(100, 60_000);
        Liveness {
            since: now,
            ping_interval_ms,
            dead_after_ms: timers.dead_after_ms.clamp(2 * ping_interval_ms, 600_000),
            last_sent: now,
            last_heard: now,
            probe_until: None,
            reading_paused,
            pings: Vec::new(),
        }
    }

    /// Whether the connection lasted long enough to count as stable. Returns `true` once per such period.
    pub(super) fn take_stable(&mut self, now: MonoTime) -> bool {
        let stable = now.since(self.since) >= STABLE_MS;
        self.since = self.since.max(now);
        stable
    }

    pub(super) fn sent(&mut self, now: MonoTime) {
        self.last_sent = now;
    }

    pub(super) fn heard(&mut self, now: MonoTime) {
        self.last_heard = now;
        self.probe_until = None;
    }

    pub(super) fn pause_reading(&mut self, paused: bool, now: MonoTime) {
        if self.reading_paused && !paused {
            self.heard(now);
        }
        self.reading_paused = paused;
    }

    /// Requires a message from the server within [`PROBE_MS`]. Returns whether a ping has to be sent for it.
    pub(super) fn probe(&mut self, now: MonoTime) -> bool {
        let begins = self.probe_until.is_none();
        if begins {
            self.probe_until = Some(now + PROBE_MS);
        }
        begins
    }

    pub(super) fn pinged(&mut self, id: u64) {
        if self.pings.len() == PINGS_REMEMBERED {
            self.pings.remove(0);
        }
        self.pings.push(id);
    }

    /// Whether `id` belongs to an unanswered ping, which is then forgotten.
    pub(super) fn take_ping(&mut self, id: u64) -> bool {
        let at = self.pings.iter().position(|ping| *ping == id);
        at.map(|at| self.pings.remove(at)).is_some()
    }

    pub(super) fn ping_at(&self) -> MonoTime {
        self.last_sent + self.ping_interval_ms
    }

    /// The time at which the server counts as dead; `None` while reading is paused.
    pub(super) fn dead_at(&self) -> Option<MonoTime> {
        let silent = self.last_heard + self.dead_after_ms;
        let at = self.probe_until.map_or(silent, |probe| probe.min(silent));
        (!self.reading_paused).then_some(at)
    }
}
