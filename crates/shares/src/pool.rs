//! An amount that many keys share.
//!
//! In: keys with their shares, amounts. Out: guards, or the key whose share is used up. Absent: waiting. A holder
//! that is refused may give back something of its own and try again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::share::Share;

/// A bounded amount. Clones share the amount.
#[derive(Debug)]
pub struct Pool<K> {
    inner: Arc<Inner<K>>,
}

#[derive(Debug)]
struct Inner<K> {
    capacity: usize,
    state: Mutex<State<K>>,
}

#[derive(Debug)]
struct State<K> {
    used: usize,
    /// All keys that have an account. Their amounts change only while the lock is held.
    keys: BTreeMap<K, Node>,
}

#[derive(Debug)]
struct Node {
    held: Arc<AtomicUsize>,
    accounts: usize,
}

/// There is no room for the requested amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full<K> {
    /// The outermost key whose share is used up. `None` if the whole pool is.
    pub key: Option<K>,
}

impl<K> Clone for Pool<K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K: Ord + Clone> Pool<K> {
    /// A pool of the amount `capacity`.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let state = Mutex::new(State { used: 0, keys: BTreeMap::new() });
        Self { inner: Arc::new(Inner { capacity, state }) }
    }

    /// An account for one holder. `path` names the keys that are charged, from the outermost inwards, for instance an
    /// app and one of its members. The share of a key is a part of what its parent has left. A key must have the same
    /// parents in every path.
    #[must_use]
    pub fn account(&self, path: impl IntoIterator<Item = (K, Share)>) -> PoolAccount<K> {
        let mut state = self.inner.lock();
        let path = path.into_iter().map(|(key, share)| {
            let node = state
                .keys
                .entry(key.clone())
                .or_insert_with(|| Node { held: Arc::default(), accounts: 0 });
            node.accounts += 1;
            Level { held: node.held.clone(), key, share }
        });
        let path = path.collect();
        drop(state);
        PoolAccount { owner: Arc::new(Owner { pool: self.inner.clone(), path }) }
    }

    /// The amount that all accounts hold together.
    #[must_use]
    pub fn used(&self) -> usize {
        self.inner.lock().used
    }

    /// The amount of the pool, whether used or not.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.inner.capacity
    }

    /// Number of keys that have an account or hold something.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.inner.lock().keys.len()
    }
}

impl<K> Inner<K> {
    /// A poisoned lock is taken anyway: no code panics while it holds one.
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys that are charged for what a holder takes. Clones are the same account. The account is forgotten when it,
/// and all amounts that were taken on it, are dropped.
#[derive(Debug)]
pub struct PoolAccount<K: Ord> {
    owner: Arc<Owner<K>>,
}

#[derive(Debug)]
struct Owner<K: Ord> {
    pool: Arc<Inner<K>>,
    path: Vec<Level<K>>,
}

#[derive(Debug)]
struct Level<K> {
    key: K,
    share: Share,
    held: Arc<AtomicUsize>,
}

impl<K: Ord> Clone for PoolAccount<K> {
    fn clone(&self) -> Self {
        Self { owner: self.owner.clone() }
    }
}

impl<K: Ord + Clone> PoolAccount<K> {
    /// A guard that holds nothing yet.
    #[must_use]
    pub fn empty(&self) -> Reservation<K> {
        Reservation { owner: self.owner.clone(), amount: 0 }
    }

    /// Takes an amount. It is held until the guard is dropped.
    ///
    /// # Errors
    /// [`Full`] if the pool or the share of a key has no room for all of it. Nothing is taken then.
    pub fn take(&self, amount: usize) -> Result<Reservation<K>, Full<K>> {
        let mut held = self.empty();
        held.resize(amount)?;
        Ok(held)
    }

    /// The amount that could be taken on this account now.
    #[must_use]
    pub fn room(&self) -> usize {
        self.owner.room(&self.owner.pool.lock())
    }

    /// The amount that the innermost key holds, on all of its accounts. For an empty path, the amount that the whole
    /// pool holds.
    #[must_use]
    pub fn held(&self) -> usize {
        let state = self.owner.pool.lock();
        self.owner.path.last().map_or(state.used, |level| level.held.load(Relaxed))
    }
}

impl<K: Ord> Owner<K> {
    fn room(&self, state: &State<K>) -> usize {
        let left = self.pool.capacity.saturating_sub(state.used);
        self.path.iter().fold(left, |left, level| level.share.room(left, level.held.load(Relaxed)))
    }

    /// Changes the held amount. The caller has checked under the same lock that there is room.
    fn change(&self, state: &mut State<K>, from: usize, to: usize) {
        state.used = state.used + to - from;
        for level in &self.path {
            level.held.store(level.held.load(Relaxed) + to - from, Relaxed);
        }
    }
}

impl<K: Ord + Clone> Owner<K> {
    /// Finds the outermost key that has no room for the amount.
    fn full(&self, state: &State<K>, amount: usize) -> Full<K> {
        let mut left = self.pool.capacity.saturating_sub(state.used);
        for level in &self.path {
            if left < amount {
                break;
            }
            left = level.share.room(left, level.held.load(Relaxed));
            if left < amount {
                return Full { key: Some(level.key.clone()) };
            }
        }
        Full { key: None }
    }
}

impl<K: Ord> Drop for Owner<K> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        for level in &self.path {
            if let Some(node) = state.keys.get_mut(&level.key) {
                node.accounts -= 1;
                if node.accounts == 0 {
                    state.keys.remove(&level.key);
                }
            }
        }
    }
}

/// An amount that is held until this is dropped.
#[derive(Debug)]
pub struct Reservation<K: Ord> {
    owner: Arc<Owner<K>>,
    amount: usize,
}

impl<K: Ord> Reservation<K> {
    /// The held amount.
    #[must_use]
    pub fn amount(&self) -> usize {
        self.amount
    }
}

impl<K: Ord + Clone> Reservation<K> {
    /// Changes the held amount.
    ///
    /// # Errors
    /// [`Full`] if it would grow and there is no room for the difference. The previous amount stays held.
    pub fn resize(&mut self, amount: usize) -> Result<(), Full<K>> {
        let mut state = self.owner.pool.lock();
        if let Some(more) = amount.checked_sub(self.amount)
            && more > self.owner.room(&state)
        {
            return Err(self.owner.full(&state, more));
        }
        self.owner.change(&mut state, self.amount, amount);
        self.amount = amount;
        Ok(())
    }

    /// Changes the held amount, and the account that it is held on. The new account must be of this pool and have the
    /// same keys; its shares may differ.
    ///
    /// # Errors
    /// [`Full`] if the amount would grow and there is no room for the difference. Nothing changes then.
    ///
    /// # Panics
    /// If the account is of another pool or has other keys.
    pub fn resize_on(&mut self, account: &PoolAccount<K>, amount: usize) -> Result<(), Full<K>> {
        let (old, new) = (&self.owner, &account.owner);
        let keys = |owner: &Owner<K>| owner.path.iter().map(|level| level.key.clone()).collect();
        let same: (Vec<K>, Vec<K>) = (keys(old), keys(new));
        assert!(
            Arc::ptr_eq(&old.pool, &new.pool) && same.0 == same.1,
            "both accounts must have the same keys"
        );
        let mut state = new.pool.lock();
        if let Some(more) = amount.checked_sub(self.amount)
            && more > new.room(&state)
        {
            return Err(new.full(&state, more));
        }
        new.change(&mut state, self.amount, amount);
        drop(state);
        self.amount = amount;
        self.owner = account.owner.clone();
        Ok(())
    }
}

impl<K: Ord> Drop for Reservation<K> {
    fn drop(&mut self) {
        self.owner.change(&mut self.owner.pool.lock(), self.amount, 0);
    }
}
