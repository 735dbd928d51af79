//! Limits how often one address may connect. Comes in: addresses and times. Goes out: whether that is too often.
//! Deliberately absent: the number of its connections, see `connection_limit.rs`; and invalid tickets or tokens. These
//! are refused, but never block an address: they cannot be guessed, and many clients may share one address (ADR 0044).
//!
//! Behind a proxy that is not trusted all clients have one address (see `proxies.rs`), so the rate must fit many
//! clients, and loopback has no limit while an app is in debug mode.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use lianmai_shares::RateLimiter;
use tokio::time::Instant;

use crate::config::ConnectionRate;
use crate::socket::connection_limit::address_group;

/// Maximum number of remembered addresses. Beyond it, those with the fewest recent connections are forgotten.
const MAX_ADDRESSES: usize = 50_000;

/// The connection rates of all addresses.
#[derive(Debug)]
pub(crate) struct ConnectLimiter {
    begin: Instant,
    /// `None` for no limit.
    buckets: Option<Mutex<RateLimiter<IpAddr>>>,
    exempt_loopback: bool,
}

impl ConnectLimiter {
    /// Without a rate, all addresses may connect as often as they like.
    pub(crate) fn new(rate: Option<ConnectionRate>, exempt_loopback: bool) -> Self {
        let buckets = rate.map(|ConnectionRate { per_second, burst }| {
            let rate = lianmai_shares::Rate::per_second(per_second, burst);
            Mutex::new(RateLimiter::new(rate, MAX_ADDRESSES))
        });
        ConnectLimiter { begin: Instant::now(), buckets, exempt_loopback }
    }

    /// Whether one more connection is allowed now.
    pub(crate) fn allow(&self, peer: IpAddr, now: Instant) -> bool {
        let Some((buckets, address)) = self.buckets.as_ref().zip(self.limited_address(peer)) else {
            return true;
        };
        let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.take(&address, now.saturating_duration_since(self.begin)).is_ok()
    }

    /// The address group that counts for a peer; `None` if it has no limit.
    fn limited_address(&self, peer: IpAddr) -> Option<IpAddr> {
        let peer = peer.to_canonical();
        (!(self.exempt_loopback && peer.is_loopback())).then(|| address_group(peer))
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: the connection rate of an address.

    use std::time::Duration;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn limiter(per_second: u32, burst: u32) -> ConnectLimiter {
        ConnectLimiter::new(Some(ConnectionRate { per_second, burst }), true)
    }

    fn remembered(limiter: &ConnectLimiter) -> usize {
        limiter.buckets.as_ref().unwrap().lock().unwrap().len()
    }

    #[test]
    fn an_address_has_a_burst_and_then_its_rate() {
        let (limiter, start) = (limiter(10, 3), Instant::now());
        let come =
            |address: &str, ms| limiter.allow(ip(address), start + Duration::from_millis(ms));
        assert!(come("192.0.2.1", 0) && come("192.0.2.1", 0) && come("::ffff:192.0.2.1", 0));
        assert!(!come("192.0.2.1", 0) && !come("192.0.2.1", 99), "a refusal costs nothing");
        assert!(come("192.0.2.2", 0), "another address");
        assert!(come("192.0.2.1", 100) && !come("192.0.2.1", 100));
        for _ in 0..3 {
            assert!(come("192.0.2.1", 10_000), "the burst is refilled");
        }
        assert!(!come("192.0.2.1", 10_000));
        for _ in 0..3 {
            assert!(come("2001:db8::1", 0));
        }
        assert!(!come("2001:db8::ffff:1", 0), "the same /64");
        assert!(come("2001:db8:0:1::1", 0), "another /64");
    }

    /// Behind a proxy on this machine all clients have a loopback address.
    #[test]
    fn loopback_is_exempt_in_debug_mode_only() {
        let now = Instant::now();
        let debug = limiter(1, 1);
        let safe = ConnectLimiter::new(Some(ConnectionRate { per_second: 1, burst: 1 }), false);
        for local in ["127.0.0.1", "127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(debug.allow(ip(local), now));
        }
        assert!(safe.allow(ip("127.0.0.1"), now) && !safe.allow(ip("127.0.0.1"), now));
    }

    #[test]
    fn the_number_of_tracked_addresses_is_bounded() {
        let (limiter, start) = (limiter(1, 2), Instant::now());
        let address = |n: u32| IpAddr::V4(n.into());
        assert!(limiter.allow(address(0), start) && limiter.allow(address(0), start));
        for n in 1..60_000 {
            assert!(limiter.allow(address(n), start));
        }
        assert_eq!(remembered(&limiter), MAX_ADDRESSES);
        assert!(!limiter.allow(address(0), start), "the most frequent address is still tracked");
        assert!(limiter.allow(address(70_000), start + Duration::from_secs(60)));
        assert_eq!(remembered(&limiter), 1, "the other addresses are dropped");
    }
}
