//! What one address may do in a time: come, and present tickets that are none. Comes in:
//! addresses and moments. Goes out: whether that is too much. Deliberately absent: how many connections it holds,
//! see `places.rs`.
//!
//! Behind a proxy that is not trusted everybody is one address (see `proxies.rs`), so the numbers are those of a crowd,
//! and loopback has no budget while an app is in debug mode.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lianmai_shares::Rates;
use tokio::time::Instant;

use crate::config::Rate;
use crate::socket::places::group;

/// Addresses that are remembered. Where more come with forged tickets in a minute, those of the rest are not counted;
/// guessing is hopeless all the same.
const MAX_ADDRESSES: usize = 50_000;
/// Forged tickets of one address in a [`MINUTE`], after which it is not let in.
const MAX_FORGED: u32 = 5;
const MINUTE: Duration = Duration::from_secs(60);
/// A full table is looked through this often for what can be forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// The budgets of every address.
#[derive(Debug)]
pub(crate) struct Budgets {
    begin: Instant,
    /// Of connections.
    rates: Option<Mutex<Rates<IpAddr>>>,
    exempt_loopback: bool,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    addresses: HashMap<IpAddr, Forged>,
    swept: Option<Instant>,
}

/// Forged tickets of an address.
#[derive(Clone, Copy, Debug)]
struct Forged {
    count: u32,
    since: Instant,
}

impl Budgets {
    /// Budgets without a rate let everybody come as often as they like.
    pub(crate) fn new(rate: Option<Rate>, exempt_loopback: bool) -> Self {
        let rates = rate.map(|Rate { per_second, burst }| {
            let rate = lianmai_shares::Rate::per_second(per_second, burst);
            Mutex::new(Rates::new(rate, MAX_ADDRESSES))
        });
        Budgets { begin: Instant::now(), rates, exempt_loopback, table: Mutex::default() }
    }

    /// Whether one more connection may come now.
    pub(crate) fn connect(&self, peer: IpAddr, now: Instant) -> bool {
        let Some((rates, address)) = self.rates.as_ref().zip(self.counted(peer)) else {
            return true;
        };
        let mut rates = rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.take(&address, now.saturating_duration_since(self.begin)).is_ok()
    }

    /// A ticket was none.
    pub(crate) fn forged(&self, peer: IpAddr, now: Instant) {
        let Some(address) = self.counted(peer) else { return };
        let mut table = self.lock();
        if table.addresses.len() >= MAX_ADDRESSES && !table.addresses.contains_key(&address) {
            if table.swept.is_none_or(|at| now >= at + SWEEP) {
                table.swept = Some(now);
                table.addresses.retain(|_, forged| now < forged.since + MINUTE);
            }
            if table.addresses.len() >= MAX_ADDRESSES {
                return;
            }
        }
        let forged = table.addresses.entry(address).or_insert(Forged { count: 0, since: now });
        if now >= forged.since + MINUTE {
            *forged = Forged { count: 0, since: now };
        }
        forged.count = forged.count.saturating_add(1);
    }

    /// How long an address is not let in yet, since its tickets were none.
    pub(crate) fn barred(&self, peer: IpAddr, now: Instant) -> Option<Duration> {
        let forged = *self.lock().addresses.get(&self.counted(peer)?)?;
        let left = (forged.since + MINUTE).checked_duration_since(now)?;
        (forged.count >= MAX_FORGED && !left.is_zero()).then_some(left)
    }

    /// What counts as the address of a peer, where it has a budget.
    fn counted(&self, peer: IpAddr) -> Option<IpAddr> {
        let peer = peer.to_canonical();
        (!(self.exempt_loopback && peer.is_loopback())).then(|| group(peer))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: what one address may do in a time.

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

    /// Behind a proxy of this machine everybody is loopback.
    #[test]
    fn loopback_is_exempt_in_debug_mode_only() {
        let now = Instant::now();
        let debug = budgets(1, 1);
        let safe = Budgets::new(Some(Rate { per_second: 1, burst: 1 }), false);
        for local in ["127.0.0.1", "127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(debug.connect(ip(local), now));
        }
        assert!(safe.connect(ip("127.0.0.1"), now) && !safe.connect(ip("127.0.0.1"), now));
        for _ in 0..=MAX_FORGED {
            debug.forged(ip("127.0.0.1"), now);
            safe.forged(ip("127.0.0.1"), now);
        }
        assert!(debug.barred(ip("127.0.0.1"), now).is_none());
        assert!(safe.barred(ip("127.0.0.1"), now).is_some());
    }

    /// Who guesses at tickets gets five guesses a minute.
    #[test]
    fn res_4_who_presents_forged_tickets_waits_for_the_rest_of_the_minute() {
        let (budgets, start) = (Budgets::new(None, true), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        let (one, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
        for n in 0..4 {
            budgets.forged(one, at(n));
            assert!(budgets.barred(one, at(n)).is_none(), "{n}");
        }
        budgets.forged(one, at(10));
        assert_eq!(budgets.barred(one, at(10)), Some(Duration::from_secs(50)));
        assert!(budgets.barred(other, at(10)).is_none() && budgets.connect(one, at(10)));
        assert!(budgets.barred(one, at(59)).is_some() && budgets.barred(one, at(60)).is_none());
        budgets.forged(one, at(60));
        assert!(budgets.barred(one, at(60)).is_none(), "a new minute");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (budgets, start) = (budgets(1, 2), Instant::now());
        let address = |n: u32| IpAddr::V4(n.into());
        assert!(budgets.connect(address(0), start) && budgets.connect(address(0), start));
        for n in 1..60_000 {
            assert!(budgets.connect(address(n), start));
            budgets.forged(address(n), start);
        }
        assert_eq!(
            (remembered(&budgets), budgets.lock().addresses.len()),
            (MAX_ADDRESSES, MAX_ADDRESSES)
        );
        assert!(!budgets.connect(address(0), start), "who came most is still remembered");
        let later = start + MINUTE;
        assert!(budgets.connect(address(70_000), later));
        budgets.forged(address(70_000), later);
        assert_eq!(
            (remembered(&budgets), budgets.lock().addresses.len()),
            (1, 1),
            "the rest is forgotten"
        );
    }
}
