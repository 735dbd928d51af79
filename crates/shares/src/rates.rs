//! How often each key may do something (GCRA).
//!
//! In: keys, moments since any fixed begin. Out: whether it may now, or how long it has to wait. Absent: a clock.
//!
//! Memory is bounded: a key whose budget is whole again is forgotten, which changes nothing for it. Where more keys than
//! that are remembered, the one that has least to wait for its whole budget is forgotten. Its gain is the smallest: to be
//! forgotten with a used budget, it needs as many other keys as are remembered, all of which used more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Once each `interval` in the long run, and `burst` times at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Time in which one is earned. Zero: no bound.
    pub interval: Duration,
    /// How many may come at once, when all are earned. 0 counts as 1.
    pub burst: u32,
}

impl Rate {
    /// So many in a second, and so many at once. 0 in a second counts as 1.
    #[must_use]
    pub fn per_second(count: u32, burst: u32) -> Self {
        Self { interval: Duration::from_secs(1) / count.max(1), burst }
    }
}

/// A budget for each key.
#[derive(Debug)]
pub struct Rates<K> {
    rate: Rate,
    most: usize,
    /// When all of a key's budget is earned again.
    earned: BTreeMap<K, Duration>,
    /// The same by time.
    order: BTreeSet<(Duration, K)>,
}

impl<K: Ord + Clone> Rates<K> {
    /// The same rate for each key, of which `most` are remembered, at least 1.
    #[must_use]
    pub fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most: most.max(1), earned: BTreeMap::new(), order: BTreeSet::new() }
    }

    /// Takes one of a key's budget. `now` never goes back; where it does, the key waits for it.
    ///
    /// # Errors
    /// How long the key has to wait for the next one. A refusal costs nothing.
    pub fn take(&mut self, key: &K, now: Duration) -> Result<(), Duration> {
        self.forget_idle(now);
        let Rate { interval, burst } = self.rate;
        let earned = self.earned.get(key).copied().unwrap_or(now).max(now);
        let limit = now + interval * burst.saturating_sub(1);
        if earned > limit {
            return Err(earned - limit);
        }
        if interval.is_zero() {
            return Ok(());
        }
        self.remember(key, earned + interval);
        Ok(())
    }

    /// Takes so much time of a key's budget, whether it has that or not. What it owes then it has to wait for.
    pub fn charge(&mut self, key: &K, time: Duration, now: Duration) {
        self.forget_idle(now);
        if !time.is_zero() {
            let earned = self.earned.get(key).copied().unwrap_or(now).max(now);
            self.remember(key, earned.saturating_add(time));
        }
    }

    /// How long a key has to wait for its whole budget.
    pub fn owed(&mut self, key: &K, now: Duration) -> Duration {
        self.forget_idle(now);
        self.earned.get(key).map_or(Duration::ZERO, |earned| *earned - now)
    }

    /// As [`Rates::owed`], and the key is forgotten: somebody else counts for it from now on.
    pub fn release(&mut self, key: &K, now: Duration) -> Duration {
        let owed = self.owed(key, now);
        if let Some(earned) = self.earned.get(key).copied() {
            self.remove(earned, key);
        }
        owed
    }

    /// Keys that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.earned.len()
    }

    /// Whether no key is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.earned.is_empty()
    }

    fn remember(&mut self, key: &K, earned: Duration) {
        match self.earned.get(key).copied() {
            Some(before) => self.remove(before, key),
            None if self.earned.len() >= self.most => self.forget_first(),
            None => {}
        }
        self.earned.insert(key.clone(), earned);
        self.order.insert((earned, key.clone()));
    }

    fn forget_idle(&mut self, now: Duration) {
        while self.order.first().is_some_and(|(earned, _)| *earned <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.order.pop_first() {
            self.earned.remove(&key);
        }
    }

    fn remove(&mut self, earned: Duration, key: &K) {
        self.earned.remove(key);
        self.order.remove(&(earned, key.clone()));
    }
}
