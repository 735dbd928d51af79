//! Why a publish to an upstream, or a play from it, fails or ends.
//!
//! In: errors of sockets, of TLS and of the protocol; answers. Out: one type with stable code words, which may be
//! logged. Absent: keys; they have been removed from the answers.

use std::io;

use thiserror::Error;

use crate::rtmp::{Answer, RtmpError};

/// Why a publish or play fails or ends. It holds no key of the URL.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// The host name has no address or cannot be looked up.
    #[error("resolve: {0}")]
    Resolve(io::Error),
    /// No address of the host accepts a connection.
    #[error("connect: {0}")]
    Connect(io::Error),
    /// The address is a listener of this server, so media would run in a circle.
    #[error("ownListener: the upstream is this server")]
    OwnListener,
    /// The host has an address that is not public, see [`public_only`](super::UpstreamOptions::public_only).
    #[error("notPublic: the upstream is not on the internet")]
    NotPublic,
    /// The TLS handshake failed, or the certificate is not trusted.
    #[error("tls: {0}")]
    Tls(io::Error),
    /// The upstream did not accept within [`connect_timeout`](super::UpstreamOptions::connect_timeout).
    #[error("timeout: the upstream did not answer in time")]
    Timeout,
    /// The upstream refused the publish or play.
    #[error("refused: {} {}", .0.code, .0.description)]
    Refused(Answer),
    /// The upstream ended the publish or play.
    #[error("closed: {} {}", .0.code, .0.description)]
    Closed(Answer),
    /// The connection broke.
    #[error("broken: {0}")]
    Broken(io::Error),
    /// The socket took nothing for [`write_timeout`](super::UpstreamOptions::write_timeout).
    #[error("stalled: the upstream takes nothing")]
    Stalled,
    /// The upstream takes less than the stream has: more waits for it than
    /// [`queue_bytes`](super::UpstreamOptions::queue_bytes) or [`queue_time`](super::UpstreamOptions::queue_time)
    /// allow.
    #[error("tooSlow: the upstream takes less than the stream has")]
    TooSlow,
    /// The memory for what upstreams have yet to take is used up, or the share of the member or app in it
    /// ([`forward_total_bytes`](crate::RelayConfig::forward_total_bytes)).
    #[error("noRoom: too much waits for upstreams")]
    NoRoom,
    /// The upstream broke the protocol or a bound.
    #[error("protocol: {0}")]
    Protocol(#[from] RtmpError),
}

impl UpstreamError {
    /// The stable code word, which is the part of the message before the colon.
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
