//! The lease of a run: until when it may push.
//!
//! In: requests and grants. Out: the end of the lease. Deliberately absent: clocks, and the sending of requests.
//!
//! A lease counts from the moment of its request. Therefore it ends here before it ends for the parent that granted it,
//! however long the messages take.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Maximum number of remembered requests; an answer to an older one comes too late to be useful.
const REMEMBERED: usize = 64;
/// Maximum duration of a lease; a longer grant is shortened to it.
const MAX_LEASE: Duration = Duration::from_secs(60);

/// A lease and the requests for it.
#[derive(Debug, Default)]
pub struct Lease {
    asked: VecDeque<(u64, Instant)>,
    last: u64,
    until: Option<Instant>,
}

impl Lease {
    /// Records a request for a lease and returns its number.
    pub fn ask(&mut self, now: Instant) -> u64 {
        self.last += 1;
        self.asked.push_back((self.last, now));
        if self.asked.len() > REMEMBERED {
            self.asked.pop_front();
        }
        self.last
    }

    /// Applies a grant of `ms` milliseconds. A grant for an unknown request has no effect, and no grant shortens the
    /// lease.
    pub fn grant(&mut self, ask: u64, ms: u64) {
        let Some(at) = self.asked.iter().position(|(number, _)| *number == ask) else { return };
        let (_, asked) = self.asked[at];
        self.asked.drain(..=at);
        let until = asked + Duration::from_millis(ms).min(MAX_LEASE);
        self.until = Some(self.until.map_or(until, |before| before.max(until)));
    }

    /// The time until which the run may push; `None` before the first grant.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: leases.

    use super::*;

    #[test]
    fn a_lease_counts_from_its_ask() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut lease = Lease::default();
        assert_eq!(lease.until(), None);
        let first = lease.ask(at(0));
        let second = lease.ask(at(500));
        lease.grant(second, 2000);
        assert_eq!(lease.until(), Some(at(2500)));
        lease.grant(first, 2000);
        assert_eq!(lease.until(), Some(at(2500)), "an old answer");
        lease.grant(77, 2000);
        lease.grant(second, 90_000);
        assert_eq!(lease.until(), Some(at(2500)), "an unknown ask and an answered one");
        let third = lease.ask(at(900));
        lease.grant(third, u64::MAX);
        assert_eq!(lease.until(), Some(at(900) + MAX_LEASE));
    }
}
