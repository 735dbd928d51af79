//! Why a publish to an upstream does not come about, or ends.
//!
//! In: errors of sockets, of TLS and of the protocol, and answers. Out: one type with a stable code word, that may go to a
//! log. Absent: keys; answers come without them.

use std::io;

use thiserror::Error;

use crate::rtmp::{Answer, RtmpError};

/// Why a publish does not come about, or ends. Holds no key of the URL.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// The name has no address, or cannot be looked up.
    #[error("resolve: {0}")]
    Resolve(io::Error),
    /// No address can be connected to.
    #[error("connect: {0}")]
    Connect(io::Error),
    /// The address is one of this server's own: media would go round in a circle.
    #[error("ownListener: the upstream is this server")]
    OwnListener,
    /// The name has an address that is not public, and only such are served.
    #[error("notPublic: the upstream is not on the internet")]
    NotPublic,
    /// No TLS, or a certificate that is not trusted.
    #[error("tls: {0}")]
    Tls(io::Error),
    /// The upstream took longer than
    /// [`connect_timeout`](super::UpstreamOptions::connect_timeout).
    #[error("timeout: the upstream did not answer in time")]
    Timeout,
    /// It refused the publish.
    #[error("refused: {} {}", .0.code, .0.description)]
    Refused(Answer),
    /// It ended the publish.
    #[error("closed: {} {}", .0.code, .0.description)]
    Closed(Answer),
    /// The connection broke.
    #[error("broken: {0}")]
    Broken(io::Error),
    /// The socket took nothing for [`write_timeout`](super::UpstreamOptions::write_timeout).
    #[error("stalled: the upstream takes nothing")]
    Stalled,
    /// The upstream takes less than the stream has: more waits than
    /// [`queue_bytes`](super::UpstreamOptions::queue_bytes) or
    /// [`queue_time`](super::UpstreamOptions::queue_time) allow.
    #[error("tooSlow: the upstream takes less than the stream has")]
    TooSlow,
    /// The memory for what upstreams have yet to take is used up, or the member's or app's share of it
    /// ([`forward_total_bytes`](crate::RelayConfig::forward_total_bytes)).
    #[error("noRoom: too much waits for upstreams")]
    NoRoom,
    /// The upstream broke the protocol or a bound.
    #[error("protocol: {0}")]
    Protocol(#[from] RtmpError),
}

impl UpstreamError {
    /// The stable code word: what stands before the colon.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Resolve(_) => "resolve",
            Self::Connect(_) => "connect",
            Self::OwnListener => "ownListener",
            Self::NotPublic => "notPublic",
            Self::Tls(_) => "tls",
            Self::Timeout => "timeout",
            Self::Refused(_) => "refused",
            Self::Closed(_) => "closed",
            Self::Broken(_) => "broken",
            Self::Stalled => "stalled",
            Self::TooSlow => "tooSlow",
            Self::NoRoom => "noRoom",
            Self::Protocol(_) => "protocol",
        }
    }
}
