//! What the loopback tests and the load generator share.

use std::time::Duration;

/// Ends every wait for something that only has to happen: to start a program or a stream takes seconds on a machine
/// that is busy. What has to happen in time is measured against a bound of its own.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub mod arrivals;
pub mod media;
pub mod process;
pub mod raw_ws;
