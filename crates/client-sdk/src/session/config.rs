//! What a session is told once. Comes in: values. Deliberately absent: files, environment, tokens.

use crate::prelude::*;
/// Settings of a session. Times are milliseconds.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// WebSocket addresses of one deployment, 1 to 16, handed out again with `Connect`:
    /// `ws://host:port/v1/signal`. The first is preferred; the next is tried when one cannot be reached.
    pub urls: Vec<String>,
    /// Where the random share of waits comes from. A host draws it from the system: clients that share
    /// a seed come back at the same moments.
    pub seed: u64,
    /// An attempt to open a socket is given up after this.
    pub connect_timeout_ms: u64,
    /// Every call is settled after this at the latest, but for the time that a restarting
    /// server asks for and that a frozen host slept. An attempt to come back waits so long for its answer.
    pub command_timeout_ms: u64,
    /// Most calls that wait behind the 32 that are on the wire; one more fails with `tooManyInFlight`.
    pub max_queued: usize,
    /// After the server said `closing`, it has this long to close before the session does.
    pub closing_timeout_ms: u64,
    /// A membership that had no connection for so long is given up.
    pub give_up_after_ms: u64,
}

impl SessionConfig {
    /// The defaults for a server address, with seed 0.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        SessionConfig {
            urls: vec![url.into()],
            seed: 0,
            connect_timeout_ms: 5_000,
            command_timeout_ms: 10_000,
            max_queued: 256,
            closing_timeout_ms: 3_000,
            give_up_after_ms: 600_000,
        }
    }
}
