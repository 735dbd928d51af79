//! What the loopback tests and the load generator share.

use std::time::Duration;

/// Ends every wait: a test that hangs ends with a word of what it waits for. Nothing else comes near it, however busy
/// the machine is, so it proves nothing of how long something takes: that is what `cargo xtask bench` measures.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub mod arrivals;
pub mod children;
pub mod flashing;
pub mod media;
pub mod nginx;
pub mod process;
pub mod raw_ws;
pub mod receiver;
pub mod watching;
