//! The clocks of the server. The engine reads none: it gets [`Now`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lianmai_protocol::{MonoTime, Now, WallTime};
use tokio::time::Instant;

/// The engine's clock starts at one day, so that times from an earlier process are not before its start.
const BEGIN_MS: u64 = 24 * 3600 * 1000;

/// Converts between the runtime's clock and the engine's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Clock { origin: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        let since = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { mono: MonoTime(BEGIN_MS.saturating_add(since)), wall: wall_now() }
    }

    /// The instant of the runtime for a time of the engine.
    pub(crate) fn instant(&self, at: MonoTime) -> Instant {
        // One millisecond later, because the engine's clock is rounded down.
        self.origin + Duration::from_millis(at.0.saturating_sub(BEGIN_MS).saturating_add(1))
    }
}

/// The wall clock.
pub(crate) fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
