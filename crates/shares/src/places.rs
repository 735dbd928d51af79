//! Places that many share.
//!
//! In: keys with their shares. Out: a place, given back when it is dropped. Absent: amounts, see `pool.rs`.

use crate::pool::{Full, Held, Pool};
use crate::share::Share;

/// A bounded number of places. Clones share them.
#[derive(Debug)]
pub struct Places<K> {
    pool: Pool<K>,
}

/// One place, held until this is dropped.
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
    /// So many places.
    #[must_use]
    pub fn new(whole: usize) -> Self {
        Self { pool: Pool::new(whole) }
    }

    /// Takes a place on the account of these keys, from the outermost inwards. As long as a place is free, each key whose
    /// parents have room may have one, however small its share.
    ///
    /// # Errors
    /// [`Full`] when all are taken, or the share of a key is used up.
    pub fn enter(&self, path: impl IntoIterator<Item = (K, Share)>) -> Result<Place<K>, Full<K>> {
        let path = path.into_iter().map(|(key, share)| (key, share.at_least(1)));
        Ok(Place { held: self.pool.account(path).take(1)? })
    }

    /// Places that are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.pool.used()
    }

    /// Keys that hold places.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.pool.keys()
    }
}
