//! Limits how often one address may connect. Comes in: addresses and times. Goes out: whether that is too often.
//! Deliberately absent: the number of its connections, see `places.rs`; and invalid tickets or tokens. These are
//! refused, but never block an address: they cannot be guessed, and many clients may share one address (ADR 0044).
//!
//! Behind a proxy that is not trusted all clients have one address (see `proxies.rs`), so the rate must fit many
//! clients, and loopback has no limit while an app is in debug mode.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use lianmai_shares::RateLimiter;
use tokio::time::Instant;

use crate::config::Rate;
use crate::socket::places::group;

/// Maximum number of remembered addresses. Beyond it, those with the fewest recent connections are forgotten.
const MAX_ADDRESSES: usize = 50_000;

/// The connection rates of all addresses.
#[derive(Debug)]
pub(crate) struct Budgets {
    begin: Instant,
    /// `None` for no limit.
    rates: Option<Mutex<RateLimiter<IpAddr>>>,
    exempt_loopback: bool,
}

impl Budgets {
    /// Without a rate, all addresses may connect as often as they like.
    pub(crate) fn new(rate: Option<Rate>, exempt_loopback: bool) -> Self {
        let rates = rate.map(|Rate { per_second, burst }| {
            let rate = lianmai_shares::Rate::per_second(per_second, burst);
            Mutex::new(RateLimiter::new(rate, MAX_ADDRESSES))
        });
        Budgets { begin: Instant::now(), rates, exempt_loopback }
    }

    /// Whether one more connection is allowed now.
    pub(crate) fn connect(&self, peer: IpAddr, now: Instant) -> bool {
        let Some((rates, address)) = self.rates.as_ref().zip(self.counted(peer)) else {
            return true;
        };
        let mut rates = rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.take(&address, now.saturating_duration_since(self.begin)).is_ok()
    }

    /// The address group that counts for a peer; `None` if it has no limit.
    fn counted(&self, peer: IpAddr) -> Option<IpAddr> {
        let peer = peer.to_canonical();
        (!(self.exempt_loopback && peer.is_loopback())).then(|| group(peer))
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

    fn budgets(per_second: u32, burst: u32) -> Budgets {
        Budgets::new(Some(Rate { per_second, burst }), true)
    }

    fn remembered(budgets: &Budgets) -> usize {
        budgets.rates.as_ref().unwrap().lock().unwrap().len()
    }

    #[test]
    fn an_address_comes_at_once_and_then_at_its_rate() {
        let (budgets, start) = (budgets(10, 3), Instant::now());
        let come =
            |address: &str, ms| budgets.connect(ip(address), start + Duration::from_millis(ms));
        assert!(come("192.0.2.1", 0) && come("192.0.2.1", 0) && come("::ffff:192.0.2.1", 0));
        assert!(!come("192.0.2.1", 0) && !come("192.0.2.1", 99), "a refusal costs nothing");
        assert!(come("192.0.2.2", 0), "another address");
        assert!(come("192.0.2.1", 100) && !come("192.0.2.1", 100));
        for _ in 0..3 {
            assert!(come("192.0.2.1", 10_000), "all is earned again");
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
        let debug = budgets(1, 1);
        let safe = Budgets::new(Some(Rate { per_second: 1, burst: 1 }), false);
        for local in ["127.0.0.1", "127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(debug.connect(ip(local), now));
        }
        assert!(safe.connect(ip("127.0.0.1"), now) && !safe.connect(ip("127.0.0.1"), now));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (budgets, start) = (budgets(1, 2), Instant::now());
        let address = |n: u32| IpAddr::V4(n.into());
        assert!(budgets.connect(address(0), start) && budgets.connect(address(0), start));
        for n in 1..60_000 {
            assert!(budgets.connect(address(n), start));
        }
        assert_eq!(remembered(&budgets), MAX_ADDRESSES);
        assert!(!budgets.connect(address(0), start), "who came most is still remembered");
        assert!(budgets.connect(address(70_000), start + Duration::from_secs(60)));
        assert_eq!(remembered(&budgets), 1, "the rest is forgotten");
    }
}
