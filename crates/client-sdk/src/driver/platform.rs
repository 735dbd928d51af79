//! The only file of the crate that reads a clock or entropy. In: nothing. Out: the time since the client was created,
//! join ids, seeds. Deliberately absent: wall-clock time, which no client needs.
#![expect(clippy::disallowed_methods, reason = "this is the file that may")]

use lianmai_protocol::MonoTime;
use tokio::time::{Duration, Instant};

/// A monotonic clock that counts milliseconds from its creation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    pub(super) fn now(self) -> MonoTime {
        let ms = Instant::now().duration_since(self.origin).as_millis();
        MonoTime(u64::try_from(ms).unwrap_or(u64::MAX))
    }

    /// The instant of `at`, or one far in the future if `at` cannot be expressed. A timer must not fire before the
    /// session considers it due.
    pub(super) fn instant(self, at: MonoTime) -> Instant {
        const MAX_AHEAD_MS: u64 = 365 * 24 * 3600 * 1000;
        self.origin + Duration::from_millis(at.0.min(MAX_AHEAD_MS))
    }
}

/// 128 random bits from the system, as 32 hexadecimal digits.
pub(super) fn join_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// The seed for the random part of waits. It is no secret: on a system without entropy all clients use 0 and only lose
/// their spread over time.
pub(super) fn seed() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_be_bytes(bytes),
        Err(_) => 0,
    }
}
