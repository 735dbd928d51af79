//! What a session is told once. Comes in: values. Deliberately absent: files, environment, tokens.

/// Settings of a session. Times are milliseconds.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// WebSocket address, handed out again with `Connect`: `ws://host:port/v1/signal`.
    pub url: String,
    /// An attempt to open a socket is given up after this. NERTC and Agora users retry after about 5 s.
    pub connect_timeout_ms: u64,
    /// Every call is settled after this at the latest (NERTC: 10 s).
    pub command_timeout_ms: u64,
    /// Most calls that wait behind the 32 that are on the wire; one more fails with `tooManyInFlight`.
    pub max_queued: usize,
    /// After the server said `closing`, it has this long to close before the session does.
    pub closing_timeout_ms: u64,
}

impl SessionConfig {
    /// The defaults for a server address.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        SessionConfig {
            url: url.into(),
            connect_timeout_ms: 5_000,
            command_timeout_ms: 10_000,
            max_queued: 256,
            closing_timeout_ms: 3_000,
        }
    }
}
