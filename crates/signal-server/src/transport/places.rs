//! Places among the connections of a listener: how many there are in all, and of one address. Comes in: the
//! address of a peer. Goes out: a [`Place`], held for as long as its socket is open.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The connections of one listener.
#[derive(Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    most: usize,
    addresses: Arc<Addresses>,
    most_per_address: usize,
}

/// A place; given back when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Place(
    #[expect(dead_code, reason = "held for its drop")] Arc<(OwnedSemaphorePermit, Option<Share>)>,
);

impl Places {
    pub(crate) fn new(most: usize, most_per_address: usize) -> Self {
        let most = most.clamp(1, u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Places {
            free: Arc::new(Semaphore::new(most)),
            most,
            addresses: Arc::default(),
            most_per_address,
        }
    }

    /// A place for a peer, or `None` when all are taken, or its address has its share. Loopback has no share of
    /// its own: there everybody is one address, for instance behind a proxy of this machine (contract rule C15).
    pub(crate) fn enter(&self, peer: IpAddr) -> Option<Place> {
        let place = self.free.clone().try_acquire_owned().ok()?;
        let peer = peer.to_canonical();
        let share = if peer.is_loopback() {
            None
        } else {
            Some(self.addresses.enter(group(peer), self.most_per_address)?)
        };
        Some(Place(Arc::new((place, share))))
    }

    /// Completes when every place is free.
    pub(crate) async fn empty(&self) {
        let _ = self.free.acquire_many(u32::try_from(self.most).unwrap_or(u32::MAX)).await;
    }
}

/// Connections by address.
#[derive(Debug, Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

impl Addresses {
    fn enter(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Share> {
        let mut held = self.lock();
        let count = held.get(&address).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        held.insert(address, count + 1);
        Some(Share { addresses: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's share of its address; given back when dropped.
#[derive(Debug)]
struct Share {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.addresses.lock();
        match held.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                held.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: one IPv6 subscriber has a whole /64.
pub(crate) fn group(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: how connections are counted.

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_share() {
        let places = Places::new(100, 2);
        let first = places.enter(ip("192.0.2.1")).unwrap();
        // The same address through an IPv6 socket.
        let second = places.enter(ip("::ffff:192.0.2.1")).unwrap();
        assert!(places.enter(ip("192.0.2.1")).is_none());
        let other = places.enter(ip("192.0.2.2")).unwrap();
        drop(first.clone());
        assert!(places.enter(ip("192.0.2.1")).is_none(), "one of two holders left");
        drop(first);
        let third = places.enter(ip("192.0.2.1")).unwrap();

        let six = [ip("2001:db8::1"), ip("2001:db8::ffff:1")].map(|ip| places.enter(ip).unwrap());
        assert!(places.enter(ip("2001:db8:0:0:8000::")).is_none(), "the same /64");
        assert!(places.enter(ip("2001:db8:0:1::1")).is_some(), "another /64");

        drop((second, third, other, six));
        assert!(places.addresses.lock().is_empty(), "addresses are forgotten");
        assert_eq!(places.free.available_permits(), 100, "a refusal holds nothing");
    }

    #[test]
    fn loopback_is_bound_by_the_whole_only() {
        let places = Places::new(4, 1);
        let loopback = ["127.0.0.1", "127.0.0.1", "::1", "::ffff:127.0.0.1"];
        let held = loopback.map(|local| places.enter(ip(local)).unwrap());
        assert!(places.enter(ip("127.0.0.1")).is_none() && places.enter(ip("192.0.2.1")).is_none());
        drop(held);
        assert!(places.enter(ip("192.0.2.1")).is_some());
    }
}
