//! The settings of a session. In: values from the host. Out: the same, with defaults. Deliberately absent: files,
//! environment, tokens.

use crate::prelude::*;
/// Settings of a session. Times are milliseconds.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// WebSocket addresses of one deployment, 1 to 16, passed back with `Connect`: `ws://host:port/v1/signal`. The
    /// first is preferred; the session tries the next one when an address cannot be reached.
    pub urls: Vec<String>,
    /// Seed for the random part of waits. The host draws it from the system: clients that share a seed reconnect at the
    /// same moments.
    pub seed: u64,
    /// Time limit of an attempt to open a socket.
    pub connect_timeout_ms: u64,
    /// Time limit of every call, extended by the time that a restarting server asks for or that the host was frozen.
    /// Also the time limit for the answer to `reconnect`.
    pub command_timeout_ms: u64,
    /// Maximum number of calls that wait in addition to the 32 that were sent; a further call fails with
    /// `tooManyInFlight`.
    pub max_queued: usize,
    /// After `closing` the server has this long to close the socket; then the session closes it.
    pub closing_timeout_ms: u64,
    /// A membership without a connection is given up after this time.
    pub give_up_after_ms: u64,
}

impl SessionConfig {
    /// The defaults for one server address, with seed 0.
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
