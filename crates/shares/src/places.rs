//! Places that many keys share.
//!
//! In: keys with their shares. Out: a place, which is given back when it is dropped. Absent: amounts, see `pool.rs`.

use crate::pool::{Full, Held, Pool};
use crate::share::Share;

/// A bounded number of places. Clones share the places.
#[derive(Debug)]
pub struct Places<K> {
    pool: Pool<K>,
}

/// One place. It is held until this is dropped.
#[derive(Debug)]
pub struct Place<K: Ord> {
    #[expect(dead_code, reason = "held for its drop")]
    held: Held<K>,
}

impl<K> Clone for Places<K> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone() }
    }
}

impl<K: Ord + Clone> Places<K> {
    /// `whole` places, all of them free.
    #[must_use]
    pub fn new(whole: usize) -> Self {
        Self { pool: Pool::new(whole) }
    }

    /// Takes a place that counts for all keys of `path`, from the outermost key inwards. However small its share is,
    /// each key may have one place as long as its parents have room.
    ///
    /// # Errors
    /// [`Full`] if all places are taken or the share of a key is used up.
    pub fn enter(&self, path: impl IntoIterator<Item = (K, Share)>) -> Result<Place<K>, Full<K>> {
        let path = path.into_iter().map(|(key, share)| (key, share.at_least(1)));
        Ok(Place { held: self.pool.account(path).take(1)? })
    }

    /// Places that are taken now.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.pool.used()
    }

    /// Number of keys that hold places.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.pool.keys()
    }
}
