//! How much of the log one address may cause.
//!
//! In: addresses of peers that something is about to be logged of. Out: whether it may be, and how many lines were left
//! out. Absent: what is logged.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lianmai_shares::{Rate, Rates};
use tokio::time::Instant;

use crate::address::group;

/// Addresses whose lines are counted.
const MAX_ADDRESSES: usize = 50_000;
/// That lines are left out is said this often.
const WORD: Duration = Duration::from_secs(10);
/// Lines that no address is known of count for this one.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What peers may write into the log. Clones share it.
#[derive(Debug, Clone)]
pub struct Lines {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    begin: Instant,
    rates: Option<Mutex<Rates<IpAddr>>>,
    exempt_loopback: bool,
    left_out: AtomicU64,
    told: Mutex<Told>,
}

/// What was said of lines that were left out.
#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    left_out: u64,
    /// Whose line was left out last.
    peer: Option<IpAddr>,
}

impl Lines {
    /// So many lines in a second for each IPv4 address or IPv6 /64 in the long run, and `burst` at once. 0 in a second: no
    /// bound. Loopback may have none.
    #[must_use]
    pub fn new(per_second: u32, burst: u32, exempt_loopback: bool) -> Self {
        let rate = Rate::per_second(per_second, burst);
        let rates = (per_second > 0).then(|| Mutex::new(Rates::new(rate, MAX_ADDRESSES)));
        let (left_out, told) = (AtomicU64::new(0), Mutex::default());
        let begin = Instant::now();
        Self { inner: Arc::new(Inner { begin, rates, exempt_loopback, left_out, told }) }
    }

    /// Whether a line about a peer may be logged now. If not, it is counted as left out.
    #[must_use]
    pub fn allow(&self, peer: IpAddr) -> bool {
        let address = group(peer);
        let Inner { rates: Some(rates), exempt_loopback, .. } = &*self.inner else { return true };
        if *exempt_loopback && address.is_loopback() {
            return true;
        }
        let mut rates = rates.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = rates.take(&address, self.inner.begin.elapsed()).is_ok();
        drop(rates);
        if !allowed {
            self.inner.left_out.fetch_add(1, Relaxed);
            self.told().peer = Some(peer);
        }
        allowed
    }

    /// As [`Lines::allow`], for a line that anybody may have caused. All of these count together.
    #[must_use]
    pub fn allow_any(&self) -> bool {
        self.allow(NOBODY)
    }

    /// Lines that were left out since the start.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.inner.left_out.load(Relaxed)
    }

    /// Says in one line how many were left out, if there were any and some time has passed since the last such line. To be
    /// called about every second.
    pub fn sum_up(&self) {
        let now = Instant::now();
        let mut told = self.told();
        let left_out = self.left_out() - told.left_out;
        if left_out == 0 || told.at.is_some_and(|at| now < at + WORD) {
            return;
        }
        told.at = Some(now);
        told.left_out += left_out;
        let peer = told.peer.map(|peer| peer.to_string());
        drop(told);
        tracing::warn!(
            left_out,
            last_peer = peer,
            "lines of addresses that cause too many were left out"
        );
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.inner.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
