//! Signed media URLs. Comes in: a stream, a viewer, the time. Goes out: URLs, or the access that a presented URL
//! grants. Deliberately absent: whether the stream lives and who may watch it; the engine knows that.

mod own_hmac;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use crate::config::Config;

pub use lianmai_media_plane::Direction;
pub use own_hmac::{SignError, UrlSigner};

/// App part of the URLs, and name of the relay's application. URLs of other applications are not signed.
pub const MEDIA_APP: &str = "live";

/// The bases of media URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlBases {
    /// RTMP push, without a trailing slash: `rtmp://127.0.0.1:1935/live`.
    pub push: String,
    /// RTMP pull, likewise.
    pub pull_rtmp: String,
    /// HTTP-FLV and HLS pull, likewise.
    pub pull_flv: String,
    /// RTMPS push and pull, likewise, if there is such a listener.
    pub rtmps: Option<String>,
    /// Whether the RTMPS URL is the preferred one.
    pub prefer_rtmps: bool,
}

impl UrlBases {
    /// The bases for clients of the listeners that are bound to `public`, `rtmp` and `rtmps`.
    #[must_use]
    pub fn new(
        config: &Config,
        public: SocketAddr,
        rtmp: SocketAddr,
        rtmps: Option<SocketAddr>,
    ) -> Self {
        let host = |bound: SocketAddr| match &config.public_host {
            Some(host) => host.parse::<IpAddr>().map_or_else(|_| host.clone(), bracketed),
            None => bracketed(bound.ip()),
        };
        let rtmp_port = config.public_rtmp_port.unwrap_or(rtmp.port());
        let rtmp = format!("rtmp://{}:{rtmp_port}/{MEDIA_APP}", host(rtmp));
        let scheme = if config.is_https() { "https" } else { "http" };
        let port = config.public_port.unwrap_or(public.port());
        let pull_flv = format!("{scheme}://{}:{port}/{MEDIA_APP}", host(public));
        let rtmps = rtmps.map(|bound| {
            let port = config.public_rtmps_port.unwrap_or(bound.port());
            format!("rtmps://{}:{port}/{MEDIA_APP}", host(bound))
        });
        let prefer_rtmps = config.prefer_rtmps && rtmps.is_some();
        UrlBases { push: rtmp.clone(), pull_rtmp: rtmp, pull_flv, rtmps, prefer_rtmps }
    }
}

/// An IP address as it stands in URLs.
fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
