//! Proves no rule of the protocol: amounts and slots that are shared.

use std::collections::BTreeMap;

use lianmai_shares::{Full, Pool, PoolAccount, Reservation, Share, Slot, Slots};
use proptest::prelude::*;

const WHOLE: usize = 1 << 20;
const APP: Share = Share::of(3, 4);
const MEMBER: Share = Share::of(1, 8);

/// An app, or a member of it.
type Key = (u8, Option<u8>);

fn member(pool: &Pool<Key>, app: u8, member: u8) -> PoolAccount<Key> {
    pool.account([((app, None), APP), ((app, Some(member)), MEMBER)])
}

/// Takes everything that an account may have, in several parts.
fn take_all(account: &PoolAccount<Key>) -> Vec<Reservation<Key>> {
    let mut held = Vec::new();
    while account.room() > 0 {
        held.push(account.take(account.room().div_ceil(3)).unwrap());
    }
    held
}

fn sum(held: &[Reservation<Key>]) -> usize {
    held.iter().map(Reservation::amount).sum()
}

#[test]
fn a_single_key_gets_its_fraction() {
    let pool = Pool::new(WHOLE);
    let account = member(&pool, 1, 1);
    let held = take_all(&account);
    assert_eq!(sum(&held), WHOLE * 3 / 4 / 8);
    assert_eq!(account.take(1).unwrap_err(), Full { key: Some((1, Some(1))) });
    assert_eq!((pool.used(), account.held()), (sum(&held), sum(&held)));
    drop((held, account));
    assert_eq!((pool.used(), pool.keys()), (0, 0), "everything is released");
}

/// Forty members take all they can, and after each of them another member comes.
#[test]
fn greedy_keys_leave_capacity_for_the_next() {
    let pool = Pool::new(WHOLE);
    let mut greedy = Vec::new();
    let mut left = WHOLE * 3 / 4;
    for hog in 0..40 {
        greedy.push(take_all(&member(&pool, 1, hog)));
        left -= left / 8;
        let next = member(&pool, 1, 200).room();
        assert!(next.abs_diff(left / 8) < 16, "{next} behind {hog}");
    }
    let app: usize = greedy.iter().map(|held| sum(held)).sum();
    assert!(app > WHOLE / 2 && app <= WHOLE * 3 / 4);
    // Another app has three quarters of what is left, as the first app had of the whole.
    let other = member(&pool, 2, 1).room();
    assert!(other.abs_diff((WHOLE - app) * 3 / 4 / 8) < 2, "{other}");
    greedy.truncate(1);
    assert_eq!(pool.used(), sum(&greedy[0]));
}

#[test]
fn the_minimum_is_granted_until_the_parent_is_full() {
    let pool: Pool<u8> = Pool::new(100);
    let account = |key| pool.account([(key, Share::of(1, 10).at_least(3))]);
    let held: Vec<_> = (0..200).map_while(|key| account(key).take(3).ok()).collect();
    assert_eq!((held.len(), pool.used()), (33, 99));
    assert_eq!(account(250).take(2).unwrap_err(), Full { key: None });
    assert!(account(250).take(1).is_ok());
    let small = Pool::new(10);
    let _all = small.account([(1, Share::ALL)]).take(10).unwrap();
    assert_eq!(small.account([(2, Share::ALL.at_least(5))]).room(), 0);
}

#[test]
fn a_guard_grows_and_shrinks() {
    let pool = Pool::new(100);
    let account = pool.account([("a", Share::capped(60, 100))]);
    let mut held = account.take(10).unwrap();
    held.resize(60).unwrap();
    assert_eq!(held.resize(61).unwrap_err(), Full { key: Some("a") });
    assert_eq!((held.amount(), account.held()), (60, 60), "the amount is unchanged");
    held.resize(5).unwrap();
    // Another account of the same key shares its amount.
    let other = pool.account([("a", Share::capped(60, 100))]);
    let more = other.take(55).unwrap();
    assert!(account.take(1).is_err() && pool.used() == 60);
    drop(account);
    assert_eq!(pool.keys(), 1, "the key still holds some");
    drop((held, more, other));
    assert_eq!((pool.used(), pool.keys()), (0, 0));
}

/// Seventeen addresses take all the slots they can.
#[test]
fn a_slot_is_left_for_a_new_key() {
    let slots = Slots::new(4096);
    let share = Share::capped(256, 4096);
    let fill = |address: u32| -> Vec<Slot<u32>> {
        (0..).map_while(|_| slots.acquire([(address, share)]).ok()).collect()
    };
    let mut greedy: Vec<_> = (0..17).map(fill).collect();
    let counts: Vec<_> = greedy.iter().map(Vec::len).collect();
    assert_eq!(counts[..9], [256; 9], "some capacity is left");
    assert!(counts.is_sorted_by(|a, b| a >= b) && counts[16] > 80, "{counts:?}");
    let next = fill(17);
    assert!(next.len() > 70, "{}", next.len());
    // All slots can be used, one by each further address.
    let others: Vec<_> =
        (18..).map_while(|address| slots.acquire([(address, share)]).ok()).collect();
    assert_eq!(greedy.iter().map(Vec::len).sum::<usize>() + next.len() + others.len(), 4096);
    assert_eq!(slots.acquire([(9999, share)]).unwrap_err(), Full { key: None });
    greedy.clear();
    assert_eq!(fill(18).len(), 255, "released slots are available, and the key held one");
    drop((next, others));
    assert_eq!((slots.taken(), slots.keys()), (0, 0));
}

#[test]
fn a_key_has_its_own_maximum() {
    let pool = Pool::new(1000);
    let room = |key, share| pool.account([(key, share)]).room();
    assert_eq!(room(1, Share::capped(2, 1000)), 2);
    assert_eq!(room(1, Share::capped(124, 1000)), 124);
    assert_eq!(room(1, Share::capped(500, 1000)), 500);
    assert_eq!((room(1, Share::capped(1000, 1000)), room(1, Share::ALL)), (1000, 1000));
    assert_eq!((room(1, Share::of(3, 0)), room(1, Share::of(0, 3))), (1000, 0));
    let _others = pool.account([(2, Share::ALL)]).take(900).unwrap();
    assert_eq!(room(1, Share::capped(124, 1000)), 12, "an eighth of the rest");
    assert_eq!(room(1, Share::capped(500, 1000)), 50);
    assert_eq!(room(1, Share::capped(2, 1000).at_least(5)), 2);
}

#[derive(Debug, Clone)]
enum Op {
    Take { app: u8, member: u8, amount: usize },
    TakeAll { app: u8, member: u8 },
    Resize { which: usize, amount: usize },
    Drop { which: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let amount = || prop_oneof![0usize..50, 0usize..20_000];
    prop_oneof![
        4 => (0u8..3, 0u8..5, amount())
            .prop_map(|(app, member, amount)| Op::Take { app, member, amount }),
        1 => (0u8..3, 0u8..5).prop_map(|(app, member)| Op::TakeAll { app, member }),
        3 => (any::<usize>(), amount()).prop_map(|(which, amount)| Op::Resize { which, amount }),
        3 => any::<usize>().prop_map(|which| Op::Drop { which }),
    ]
}

proptest! {
    /// The amounts add up, no key has more than its part, and each grant leaves its part free.
    #[test]
    fn amounts_stay_within_every_share(ops in proptest::collection::vec(op(), 0..200)) {
        let whole = 100_000;
        let pool = Pool::new(whole);
        let mut held: Vec<((u8, u8), Reservation<Key>)> = Vec::new();
        for op in ops {
            let before = pool.used();
            let mut grew = None;
            match op {
                Op::Take { app, member: of, amount } => {
                    let account = member(&pool, app, of);
                    let room = account.room();
                    let taken = account.take(amount);
                    prop_assert_eq!(taken.is_ok(), amount <= room);
                    if let Ok(taken) = taken {
                        held.push(((app, of), taken));
                        grew = Some((app, of));
                    }
                }
                Op::TakeAll { app, member: of } => {
                    held.extend(take_all(&member(&pool, app, of)).into_iter().map(|held| ((app, of), held)));
                    prop_assert_eq!(member(&pool, app, of).room(), 0);
                }
                Op::Resize { which, amount } if !held.is_empty() => {
                    let at = which % held.len();
                    let (key, one) = &mut held[at];
                    let was = one.amount();
                    let done = one.resize(amount).is_ok();
                    prop_assert!(done || amount > was);
                    prop_assert_eq!(one.amount(), if done { amount } else { was });
                    if amount > was && done {
                        grew = Some(*key);
                    }
                }
                Op::Drop { which } if !held.is_empty() => drop(held.swap_remove(which % held.len())),
                Op::Resize { .. } | Op::Drop { .. } => {}
            }
            let mut sums: BTreeMap<Key, usize> = BTreeMap::new();
            for ((app, of), one) in &held {
                *sums.entry((*app, None)).or_default() += one.amount();
                *sums.entry((*app, Some(*of))).or_default() += one.amount();
            }
            let used: usize = held.iter().map(|(_, one)| one.amount()).sum();
            prop_assert_eq!(pool.used(), used);
            prop_assert_eq!(pool.keys(), sums.len());
            for ((_, of), sum) in &sums {
                let most = if of.is_some() { whole * 3 / 4 / 8 } else { whole * 3 / 4 };
                prop_assert!(*sum <= most);
            }
            if let Some((app, _)) = grew.filter(|_| used > before) {
                // If the app has three quarters, one quarter is left.
                prop_assert!(sums[&(app, None)] <= 3 * (whole - used));
            }
        }
        drop(held);
        prop_assert_eq!((pool.used(), pool.keys()), (0, 0));
    }

    /// However much other keys hold, a key that holds nothing gets its part of what is left.
    #[test]
    fn a_key_that_holds_nothing_is_refused_by_a_full_pool_only(
        takers in proptest::collection::vec((0u8..3, 0u8..30, 1usize..20_000), 0..100),
    ) {
        let pool = Pool::new(100_000);
        let held: Vec<_> =
            takers.into_iter().filter_map(|(app, of, amount)| member(&pool, app, of).take(amount).ok()).collect();
        let left = pool.capacity() - pool.used();
        // Another app, and another member of each app.
        prop_assert!(member(&pool, 9, 99).room() >= left * 3 / 4 / 8 - 1);
        for app in 0..3 {
            let of_app = pool.account([((app, None), APP)]).room();
            prop_assert_eq!(member(&pool, app, 99).room(), of_app / 8);
        }
        drop(held);
    }
}
