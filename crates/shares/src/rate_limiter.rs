//! How often each key may do something (GCRA).
//!
//! In: keys; moments, as the time since any fixed beginning. Out: whether the key may act now, or how long it has to
//! wait. Absent: a clock.
//!
//! Memory is bounded. A key that has its whole budget is forgotten, which changes nothing for it. If the limit of
//! remembered keys is reached, the key that would have its whole budget soonest is forgotten. This key gains least by
//! it: a key is forgotten with a used budget only if all other remembered keys have used at least as much.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One action per `interval` in the long run, and `burst` actions at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Time in which a key earns one action. Zero means no bound.
    pub interval: Duration,
    /// Actions at once if the whole budget is earned. 0 counts as 1.
    pub burst: u32,
}

impl Rate {
    /// A rate of `count` actions per second and `burst` actions at once. A `count` of 0 counts as 1.
    #[must_use]
    pub fn per_second(count: u32, burst: u32) -> Self {
        Self { interval: Duration::from_secs(1) / count.max(1), burst }
    }
}

/// A budget for each key.
#[derive(Debug)]
pub struct RateLimiter<K> {
    rate: Rate,
    max_keys: usize,
    /// When the whole budget of a key is earned again.
    earned: BTreeMap<K, Duration>,
    /// The same entries, ordered by that time.
    order: BTreeSet<(Duration, K)>,
}

impl<K: Ord + Clone> RateLimiter<K> {
    /// Budgets with the same rate for each key. At most `max_keys` keys are remembered, and at least 1.
    #[must_use]
    pub fn new(rate: Rate, max_keys: usize) -> Self {
        Self { rate, max_keys: max_keys.max(1), earned: BTreeMap::new(), order: BTreeSet::new() }
    }

    /// Takes one action of a key's budget. `now` should never go back; if it does, the key only has to wait longer.
    ///
    /// # Errors
    /// How long the key has to wait for its next action. A refusal costs nothing.
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

    /// Charges a key the budget that it earns in `time`, whether it has so much or not. If it does not, it has to
    /// wait until it has earned the rest.
    pub fn charge(&mut self, key: &K, time: Duration, now: Duration) {
        self.forget_idle(now);
        if !time.is_zero() {
            let earned = self.earned.get(key).copied().unwrap_or(now).max(now);
            self.remember(key, earned.saturating_add(time));
        }
    }

    /// How long it takes until a key has its whole budget again.
    pub fn owed(&mut self, key: &K, now: Duration) -> Duration {
        self.forget_idle(now);
        self.earned.get(key).map_or(Duration::ZERO, |earned| *earned - now)
    }

    /// As [`RateLimiter::owed`], and forgets the key. The caller takes over what the key owes, for example for another
    /// key.
    pub fn release(&mut self, key: &K, now: Duration) -> Duration {
        let owed = self.owed(key, now);
        if let Some(earned) = self.earned.get(key).copied() {
            self.remove(earned, key);
        }
        owed
    }

    /// Number of keys that are remembered.
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
            None if self.earned.len() >= self.max_keys => self.forget_first(),
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
