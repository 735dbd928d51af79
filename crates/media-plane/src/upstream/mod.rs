//! Publishing to another media server, and playing from it.
//!
//! In: an [`UpstreamUrl`], packets. Out: a publish or a play on a socket, by RTMP or RTMPS, or why there is none. Absent: the
//! protocol, which is [`Client`]'s; where packets come from; another attempt after a failure, see [`forward()`].
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
    /// From the look-up of the name until the upstream has accepted. Default 10 s.
    pub connect_timeout: Duration,
    /// A publish whose socket takes nothing for so long is given up. Default 10 s.
    pub write_timeout: Duration,
    /// Bytes that may wait for the socket, beside what a publish begins with. Default 16 MiB.
    pub queue_bytes: usize,
    /// How long a packet may wait for the socket, once it has taken what the publish began with. Default 10 s.
    pub queue_time: Duration,
    /// Listeners of this process, which are no upstreams. An unspecified address means all addresses of this machine.
    pub own: Vec<SocketAddr>,
    /// Only addresses of the internet at large are upstreams. Set it where a stranger chooses the URL. Default false.
    pub public_only: bool,
    /// Whom RTMPS trusts.
    pub tls: Arc<rustls::ClientConfig>,
}

impl UpstreamOptions {
    /// The defaults, with these certificate authorities.
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
