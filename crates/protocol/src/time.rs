//! The two clocks that the cores use. Their values come in with every input: durations use [`MonoTime`] only; token
//! times, URL expiry and ban ends use [`WallTime`] only.

use core::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// Milliseconds of a clock that never goes back. Its origin has no meaning and differs per process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoTime(pub u64);

impl MonoTime {
    /// Milliseconds from `earlier` to `self`; 0 when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: MonoTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for MonoTime {
    type Output = MonoTime;
    /// Adds milliseconds, saturating.
    fn add(self, ms: u64) -> MonoTime {
        MonoTime(self.0.saturating_add(ms))
    }
}

impl Sub<u64> for MonoTime {
    type Output = MonoTime;
    /// Subtracts milliseconds, saturating.
    fn sub(self, ms: u64) -> MonoTime {
        MonoTime(self.0.saturating_sub(ms))
    }
}

/// Milliseconds since 1970-01-01 UTC. May jump in either direction.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct WallTime(pub u64);

impl WallTime {
    /// Whole seconds since 1970, rounded down: the unit of JWT times.
    #[must_use]
    pub fn unix_seconds(self) -> u64 {
        self.0 / 1000
    }
}

/// The moment of one input, on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For durations and deadlines.
    pub mono: MonoTime,
    /// For token, URL and ban validity.
    pub wall: WallTime,
}
