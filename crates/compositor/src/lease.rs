//! How long a run may push.
//!
//! In: when it asked, and what was granted. Out: until when it may. Absent: clocks; asking.
//!
//! A lease counts from the moment at which it was asked for, so it is over here before it is over for whoever granted it,
//! whatever the way between them took.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Asks that are remembered: an answer to an older one comes too late to be of use.
const REMEMBERED: usize = 64;
/// Longest lease that is taken.
const LONGEST: Duration = Duration::from_secs(60);

/// A lease and the asks for it.
#[derive(Debug, Default)]
pub struct Lease {
    asked: VecDeque<(u64, Instant)>,
    last: u64,
    until: Option<Instant>,
}

impl Lease {
    /// Takes down that a lease is asked for now; says under which number.
    pub fn ask(&mut self, now: Instant) -> u64 {
        self.last += 1;
        self.asked.push_back((self.last, now));
        if self.asked.len() > REMEMBERED {
            self.asked.pop_front();
        }
        self.last
    }

    /// Takes an answer. One to an ask that was not made means nothing, and none makes a lease shorter.
    pub fn grant(&mut self, ask: u64, ms: u64) {
        let Some(at) = self.asked.iter().position(|(number, _)| *number == ask) else { return };
        let (_, asked) = self.asked[at];
        self.asked.drain(..=at);
        let until = asked + Duration::from_millis(ms).min(LONGEST);
        self.until = Some(self.until.map_or(until, |before| before.max(until)));
    }

    /// Until when it may push, once something was granted.
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
        assert_eq!(lease.until(), Some(at(2500)), "no ask, and one that was answered");
        let third = lease.ask(at(900));
        lease.grant(third, u64::MAX);
        assert_eq!(lease.until(), Some(at(900) + LONGEST));
    }
}
