//! Shared code of the loopback tests and the load generator: servers, clients, media, receivers. In: programs and
//! addresses. Out: what they did. Deliberately absent: mocks.

use std::time::Duration;

/// Time limit of every wait, so that a test that hangs fails and names what it waits for. Normal waits are far shorter,
/// even on a busy machine. A test therefore proves nothing about durations; `cargo xtask bench` measures those.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(60);

pub mod arrivals;
pub mod children;
pub mod decoding;
pub mod media;
pub mod nginx;
pub mod process;
pub mod raw_ws;
pub mod receiver;
pub mod samples;
