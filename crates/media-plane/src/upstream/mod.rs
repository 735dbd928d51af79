//! Publishing to other media servers, and playing from them.
//!
//! In: an [`UpstreamUrl`], packets. Out: a publish or play on a socket, by RTMP or RTMPS, or the reason why there is
//! none. Absent: the protocol, see [`Client`]; the source of the packets; another attempt after a failure, see
//! [`forward()`].
//!
//! [`Client`]: crate::rtmp::Client

mod connect;
mod error;
mod forward;
mod playing;
mod publishing;
mod url;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use error::UpstreamError;
pub use forward::{ForwardPhase, ForwardState, forward};
pub use playing::UpstreamPlay;
pub use publishing::Upstream;
pub use url::{BadUrl, UpstreamUrl};

/// How upstreams are reached.
#[derive(Clone, Debug)]
pub struct UpstreamOptions {
    /// Longest time from the look-up of the name until the upstream has accepted. Default 10 s.
    pub connect_timeout: Duration,
    /// A connection whose socket takes nothing for this long is given up. Default 10 s.
    pub write_timeout: Duration,
    /// Bytes that may wait for the socket, in addition to those that a publish begins with. Default 16 MiB.
    pub queue_bytes: usize,
    /// Longest time that a packet may wait for the socket, after the socket has taken what the publish began with.
    /// Default 10 s.
    pub queue_time: Duration,
    /// Listeners of this process, which are refused as upstreams. An unspecified address means all addresses of this
    /// machine.
    pub own: Vec<SocketAddr>,
    /// Whether only public addresses are accepted as upstreams. Set it if untrusted users choose the URL. Default
    /// false.
    pub public_only: bool,
    /// The TLS configuration for RTMPS, with the trusted certificate authorities.
    pub tls: Arc<rustls::ClientConfig>,
}

impl UpstreamOptions {
    /// The defaults, with this TLS configuration.
    #[must_use]
    pub fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            queue_bytes: 16 << 20,
            queue_time: Duration::from_secs(10),
            own: Vec::new(),
            public_only: false,
            tls,
        }
    }
}
