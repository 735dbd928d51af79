//! Proves no rule of the protocol: how often each key may do something.

use std::collections::BTreeMap;
use std::time::Duration;

use lianmai_shares::{Rate, RateLimiter};
use proptest::prelude::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_burst_at_once_and_then_the_rate() {
    let mut rates = RateLimiter::new(Rate::per_second(10, 3), 100);
    let mut take = |key: &'static str, at| rates.take(&key, ms(at));
    assert_eq!([take("a", 0), take("a", 0), take("a", 0)], [Ok(()); 3]);
    assert_eq!(
        (take("a", 0), take("a", 99)),
        (Err(ms(100)), Err(ms(1))),
        "a refusal costs nothing"
    );
    assert_eq!(take("b", 99), Ok(()), "another key");
    assert_eq!((take("a", 100), take("a", 100)), (Ok(()), Err(ms(100))));
    assert_eq!([take("a", 10_000), take("a", 10_000), take("a", 10_000)], [Ok(()); 3]);
    assert!(take("a", 10_000).is_err());
}

#[test]
fn zero_rates_and_backward_clocks_are_handled() {
    let mut none = RateLimiter::new(Rate { interval: Duration::ZERO, burst: 0 }, 1);
    assert!((0..1000).all(|_| none.take(&1, ms(0)).is_ok()) && none.is_empty());
    let mut one = RateLimiter::new(Rate { interval: ms(5), burst: 0 }, 0);
    assert_eq!((one.take(&1, ms(0)), one.take(&1, ms(0))), (Ok(()), Err(ms(5))));
    // A clock that goes back grants nothing.
    assert_eq!(one.take(&1, ms(9)), Ok(()));
    assert_eq!(one.take(&1, ms(1)), Err(ms(13)));
}

#[test]
fn the_heaviest_user_is_remembered_longest() {
    let mut rates = RateLimiter::new(Rate::per_second(1, 5), 10);
    while rates.take(&0, ms(0)).is_ok() {}
    for other in 1..10_000 {
        assert_eq!(rates.take(&other, ms(0)), Ok(()), "a new key is not refused");
        assert!(rates.len() <= 10);
    }
    assert!(rates.take(&0, ms(0)).is_err(), "other keys do not displace it");
    assert_eq!(rates.take(&1, ms(6000)), Ok(()));
    assert_eq!(rates.len(), 1, "a key with a full budget is dropped");
}

proptest! {
    /// Compares with a plain model that forgets nothing.
    #[test]
    fn no_key_gets_more_than_its_rate(
        steps in proptest::collection::vec((0u8..6, 0u64..40), 0..400),
        burst in 1u32..5,
    ) {
        let interval = ms(25);
        let mut rates = RateLimiter::new(Rate { interval, burst }, 6);
        let mut granted: BTreeMap<u8, Vec<Duration>> = BTreeMap::new();
        let mut now = ms(0);
        for (key, passed) in steps {
            now += ms(passed);
            match rates.take(&key, now) {
                Ok(()) => granted.entry(key).or_default().push(now),
                Err(wait) => {
                    prop_assert!(!wait.is_zero() && wait <= interval);
                    // One more grant would have exceeded the rate.
                    let times = &granted[&key];
                    let long = times.iter().enumerate().any(|(first, begin)| {
                        let count = u32::try_from(times.len() - first).unwrap() + 1;
                        count > burst && now - *begin < interval * (count - burst)
                    });
                    prop_assert!(long, "refused for nothing");
                }
            }
            prop_assert!(rates.len() <= 6);
        }
        for times in granted.values() {
            for (first, begin) in times.iter().enumerate() {
                for (last, end) in times.iter().enumerate().skip(first) {
                    let count = u32::try_from(last - first).unwrap() + 1;
                    prop_assert!(count <= burst || *end - *begin >= interval * (count - burst));
                }
            }
        }
    }
}

#[test]
fn a_release_returns_and_removes_the_debt() {
    let mut rates = RateLimiter::new(Rate::per_second(10, 3), 100);
    assert_eq!((rates.owed(&"a", ms(0)), rates.release(&"a", ms(0))), (ms(0), ms(0)));
    rates.charge(&"a", ms(0), ms(0));
    assert!(rates.is_empty(), "there is no debt");
    // The key is charged more than a burst, in addition to what it owes already.
    rates.charge(&"a", ms(400), ms(0));
    rates.charge(&"a", ms(200), ms(100));
    assert_eq!(rates.owed(&"a", ms(100)), ms(500));
    assert_eq!(rates.take(&"a", ms(100)), Err(ms(300)));
    assert_eq!(rates.release(&"a", ms(350)), ms(250));
    assert!(rates.is_empty());
    rates.charge(&"b", ms(100), ms(0));
    assert_eq!((rates.owed(&"b", ms(100)), rates.len()), (ms(0), 0), "the debt is paid off");
}
