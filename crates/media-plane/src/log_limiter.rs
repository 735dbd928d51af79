//! Bounds on the log lines that one address can cause.
//!
//! In: the address of a peer, before something about that peer is logged. Out: whether the line may be logged, and
//! how many lines were omitted. Absent: the text of the lines.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lianmai_shares::{Rate, RateLimiter};
use tokio::time::Instant;

use crate::address::group;

/// Addresses whose lines are counted.
const MAX_ADDRESSES: usize = 50_000;
/// Shortest time between two lines that report omitted lines.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// The address that counts for lines whose cause has no known address.
const UNKNOWN_PEER: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Limits the log lines that peers can cause. Clones share their counts.
#[derive(Debug, Clone)]
pub struct LogLimiter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    begin: Instant,
    rates: Option<Mutex<RateLimiter<IpAddr>>>,
    exempt_loopback: bool,
    omitted: AtomicU64,
    report: Mutex<LastReport>,
}

/// What the last summary reported, and what the next one needs.
#[derive(Debug, Default)]
struct LastReport {
    at: Option<Instant>,
    omitted: u64,
    /// The address whose line was omitted last.
    peer: Option<IpAddr>,
}

impl LogLimiter {
    /// Allows each IPv4 address or IPv6 /64 `per_second` lines per second in the long run, and `burst` lines at once.
    /// A `per_second` of 0 means no bound. `exempt_loopback` removes the bound for loopback addresses.
    #[must_use]
    pub fn new(per_second: u32, burst: u32, exempt_loopback: bool) -> Self {
        let rate = Rate::per_second(per_second, burst);
        let rates = (per_second > 0).then(|| Mutex::new(RateLimiter::new(rate, MAX_ADDRESSES)));
        let (omitted, report) = (AtomicU64::new(0), Mutex::default());
        let begin = Instant::now();
        Self { inner: Arc::new(Inner { begin, rates, exempt_loopback, omitted, report }) }
    }

    /// Whether a line about this peer may be logged now. If not, the line counts as omitted.
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
            self.inner.omitted.fetch_add(1, Relaxed);
            self.report().peer = Some(peer);
        }
        allowed
    }

    /// As [`LogLimiter::allow`], for a line whose cause has no known address. All such lines count together.
    #[must_use]
    pub fn allow_any(&self) -> bool {
        self.allow(UNKNOWN_PEER)
    }

    /// Lines omitted since the start.
    #[must_use]
    pub fn omitted(&self) -> u64 {
        self.inner.omitted.load(Relaxed)
    }

    /// Logs one line that says how many lines were omitted, if there were any since the last such line and that was
    /// at least 10 s ago. Call it about once a second.
    pub fn report_omitted(&self) {
        let now = Instant::now();
        let mut report = self.report();
        let omitted = self.omitted() - report.omitted;
        if omitted == 0 || report.at.is_some_and(|at| now < at + REPORT_INTERVAL) {
            return;
        }
        report.at = Some(now);
        report.omitted += omitted;
        let peer = report.peer.map(|peer| peer.to_string());
        drop(report);
        tracing::warn!(
            left_out = omitted,
            last_peer = peer,
            "lines of addresses that cause too many were left out"
        );
    }

    fn report(&self) -> std::sync::MutexGuard<'_, LastReport> {
        self.inner.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
