//! Slots that many keys share.
//!
//! In: keys with their shares. Out: a slot, which is given back when it is dropped. Absent: amounts, see `pool.rs`.

use crate::pool::{Full, Pool, Reservation};
use crate::share::Share;

/// A bounded number of slots. Clones share the slots.
#[derive(Debug)]
pub struct Slots<K> {
    pool: Pool<K>,
}

/// One slot. It is held until this is dropped.
#[derive(Debug)]
pub struct Slot<K: Ord> {
    #[expect(dead_code, reason = "held for its drop")]
    held: Reservation<K>,
}

impl<K> Clone for Slots<K> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone() }
    }
}

impl<K: Ord + Clone> Slots<K> {
    /// `count` slots, all of them free.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { pool: Pool::new(count) }
    }

    /// Takes a slot that counts for all keys of `path`, from the outermost key inwards. However small its share is,
    /// each key may have one slot as long as its parents have room.
    ///
    /// # Errors
    /// [`Full`] if all slots are taken or the share of a key is used up.
    pub fn acquire(&self, path: impl IntoIterator<Item = (K, Share)>) -> Result<Slot<K>, Full<K>> {
        let path = path.into_iter().map(|(key, share)| (key, share.at_least(1)));
        Ok(Slot { held: self.pool.account(path).take(1)? })
    }

    /// Slots that are taken now.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.pool.used()
    }

    /// Number of keys that hold slots.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.pool.keys()
    }
}
