//! Checks where a push leads. Comes in: a `streamUrl` of a client. Goes out: whether it leads back to this server, or
//! to an address that is not public while that is not allowed. Deliberately absent: later changes of a name; the
//! compositor checks the address that it connects to (ADR 0045). A name that cannot be resolved is accepted here, and
//! fails then.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use lianmai_media_plane::is_public;
use lianmai_media_plane::upstream::UpstreamUrl;
use lianmai_signal_engine::task::RefusalReason;
use tokio::net::lookup_host;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Maximum time of a look-up. After it, the name is accepted.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of concurrent look-ups. One that takes longer than [`LOOKUP_TIMEOUT`] counts until it ends.
const MAX_LOOKUPS: usize = 16;

/// Where pushes may lead.
pub(super) struct PushTargets {
    /// Listeners of this server.
    own: Vec<SocketAddr>,
    /// Names and ports that clients use for this server.
    names: Vec<(String, u16)>,
    /// Whether addresses that are not public are allowed.
    private: bool,
    lookups: Arc<Semaphore>,
}

/// The URL for a push, with a lower-case scheme: schemes are case-insensitive.
pub(super) fn push_url(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => format!("{}://{rest}", scheme.to_ascii_lowercase()),
        None => url.to_owned(),
    }
}

impl PushTargets {
    pub(super) fn new(own: Vec<SocketAddr>, names: Vec<(String, u16)>, private: bool) -> Self {
        PushTargets { own, names, private, lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }

    /// Checks whether a push may go to a URL.
    ///
    /// # Errors
    /// The reason why not.
    pub(super) async fn check(&self, url: &str) -> Result<(), RefusalReason> {
        let url = UpstreamUrl::parse(&push_url(url)).map_err(|_| RefusalReason::Address)?;
        let host = url.host().strip_suffix('.').unwrap_or(url.host()).to_owned();
        let is_own_name =
            |(name, port): &(String, u16)| *port == url.port() && name.eq_ignore_ascii_case(&host);
        if self.names.iter().any(is_own_name) {
            return Err(RefusalReason::OwnAddress);
        }
        self.addresses(host, url.port())
            .await
            .into_iter()
            .try_for_each(|address| self.check_address(address))
    }

    async fn addresses(&self, host: String, port: u16) -> Vec<SocketAddr> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return vec![SocketAddr::new(ip, port)];
        }
        let Ok(permit) = self.lookups.clone().try_acquire_owned() else { return Vec::new() };
        // A system look-up cannot be cancelled, so its permit is held until it ends.
        let looked = tokio::spawn(async move {
            let addresses = lookup_host((host, port)).await.map(Iterator::collect::<Vec<_>>);
            drop(permit);
            addresses
        });
        match timeout(LOOKUP_TIMEOUT, looked).await {
            Ok(Ok(Ok(addresses))) => addresses,
            _ => Vec::new(),
        }
    }

    fn check_address(&self, address: SocketAddr) -> Result<(), RefusalReason> {
        let ip = address.ip().to_canonical();
        let is_own = |own: &SocketAddr| {
            let listens = own.ip().to_canonical();
            own.port() == address.port()
                && (listens == ip
                    || listens.is_unspecified() && is_local(ip)
                    || ip.is_unspecified())
        };
        if self.own.iter().any(is_own) {
            Err(RefusalReason::OwnAddress)
        } else if self.private || is_public(ip) {
            Ok(())
        } else {
            Err(RefusalReason::PrivateAddress)
        }
    }
}

/// Whether an address is one of this machine.
fn is_local(ip: IpAddr) -> bool {
    // Sends nothing: a socket can only be bound to an address of this machine.
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: where pushes may lead.

    use super::*;

    fn targets(private: bool) -> PushTargets {
        let own = vec!["127.0.0.1:1935".parse().unwrap(), "0.0.0.0:1936".parse().unwrap()];
        PushTargets::new(own, vec![("live.example.com".to_owned(), 1935)], private)
    }

    #[tokio::test]
    async fn a_push_to_this_server_is_refused() {
        for url in [
            "rtmp://127.0.0.1/live/a",
            "RTMP://127.0.0.1:1935/live/a?x",
            "rtmp://[::ffff:127.0.0.1]:1935/live/a",
            "rtmp://localhost:1935/live/a",
            "rtmps://127.0.0.9:1936/live/a",
            "rtmp://0.0.0.0:1935/live/a",
            "rtmp://Live.Example.com./live/a",
        ] {
            assert_eq!(targets(true).check(url).await, Err(RefusalReason::OwnAddress), "{url}");
        }
        assert_eq!(targets(true).check("rtmp://127.0.0.9:1935/live/a").await, Ok(()));
        assert_eq!(targets(true).check("rtmp://127.0.0.1:1940/live/a").await, Ok(()));
        assert_eq!(targets(true).check("rtmp://h/live/").await, Err(RefusalReason::Address));
    }

    #[tokio::test]
    async fn a_push_goes_to_public_addresses_only() {
        for url in [
            "rtmp://127.0.0.1:1940/live/a",
            "rtmp://localhost:1940/live/a",
            "rtmp://10.1.2.3/live/a",
            "rtmp://169.254.169.254/live/a",
            "rtmp://[::1]:1940/live/a",
            "rtmp://[fd00::1]/live/a",
            "rtmp://[::ffff:192.168.0.1]/live/a",
        ] {
            assert_eq!(
                targets(false).check(url).await,
                Err(RefusalReason::PrivateAddress),
                "{url}"
            );
        }
        assert_eq!(targets(false).check("rtmp://198.51.99.1/live/a").await, Ok(()));
        // A name that cannot be resolved fails when the compositor connects.
        assert_eq!(targets(false).check("rtmp://none.invalid/live/a").await, Ok(()));
    }
}
