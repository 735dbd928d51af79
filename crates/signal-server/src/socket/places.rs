//! Limits for the connections of a listener: in total and for each address. Comes in: the address of a peer. Goes out:
//! a [`Place`], held while its socket is open.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use lianmai_shares::Share;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limits for the connections of one listener.
#[derive(Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    most: usize,
    addresses: Arc<Addresses>,
}

/// The number of connections of each address, and the share that an address may have.
#[derive(Debug)]
struct Addresses {
    places: lianmai_shares::Slots<IpAddr>,
    share: Share,
}

/// One connection in the limits. It is given back when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Place(Arc<Held>);

#[derive(Debug)]
struct Held {
    #[expect(dead_code, reason = "held for its drop")]
    permit: OwnedSemaphorePermit,
    addresses: Arc<Addresses>,
    /// The place among those of its address.
    own: Mutex<Option<lianmai_shares::Slot<IpAddr>>>,
}

impl Places {
    /// An address may have at most `most_per_address` places, and at most an eighth of the free ones; or the part
    /// `most_per_address / most` of the free ones, if that is more than an eighth.
    pub(crate) fn new(most: usize, most_per_address: usize) -> Self {
        let most = most.clamp(1, u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Places {
            free: Arc::new(Semaphore::new(most)),
            most,
            addresses: Arc::new(Addresses {
                places: lianmai_shares::Slots::new(most),
                share: Share::capped(most_per_address, most),
            }),
        }
    }

    /// A place for a peer, or `None` when all places are taken or its address has used its share.
    pub(crate) fn enter(&self, peer: IpAddr) -> Option<Place> {
        self.take().filter(|place| place.belongs_to(peer))
    }

    /// A place that counts for no address yet, or `None` when all places are taken.
    pub(crate) fn take(&self) -> Option<Place> {
        self.free.clone().try_acquire_owned().ok().map(|permit| self.place(permit))
    }

    /// Waits for a free place for a peer; `None` when its address has used its share.
    pub(crate) async fn next(&self, peer: IpAddr) -> Option<Place> {
        let permit = self.free.clone().acquire_owned().await.ok()?;
        Some(self.place(permit)).filter(|place| place.belongs_to(peer))
    }

    fn place(&self, permit: OwnedSemaphorePermit) -> Place {
        let (addresses, own) = (self.addresses.clone(), Mutex::default());
        Place(Arc::new(Held { permit, addresses, own }))
    }

    /// Completes when all places are free.
    pub(crate) async fn empty(&self) {
        let _ = self.free.acquire_many(u32::try_from(self.most).unwrap_or(u32::MAX)).await;
    }
}

impl Place {
    /// Counts the place for this address from now on, and no longer for an earlier one: a proxy uses one connection for
    /// several clients in turn. Returns `false` when the address has used its share. Loopback has no share: behind a
    /// proxy on this machine, all clients have that address.
    pub(crate) fn belongs_to(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let mut own = self.0.own.lock().unwrap_or_else(PoisonError::into_inner);
        *own = None;
        if address.is_loopback() {
            return true;
        }
        let Addresses { places, share } = &*self.0.addresses;
        *own = places.acquire([(group(address), *share)]).ok();
        own.is_some()
    }
}

/// The address that counts: an IPv6 subscriber has a whole /64.
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
        assert!(places.addresses.places.keys() == 0, "addresses are forgotten");
        assert_eq!(places.free.available_permits(), 100, "a refusal holds nothing");
    }

    #[test]
    fn a_place_goes_from_client_to_client() {
        let places = Places::new(10, 1);
        let (one, other) = (places.take().unwrap(), places.take().unwrap());
        assert!(places.addresses.places.keys() == 0, "the proxy has no share");
        assert!(one.belongs_to(ip("192.0.2.1")) && one.belongs_to(ip("192.0.2.1")), "again");
        assert!(!other.belongs_to(ip("192.0.2.1")), "it has its share");
        assert!(other.belongs_to(ip("192.0.2.2")) && one.belongs_to(ip("192.0.2.3")));
        assert!(other.belongs_to(ip("192.0.2.1")), "given back");
        assert!(places.enter(ip("192.0.2.2")).is_some() && places.enter(ip("192.0.2.3")).is_none());
        assert!(one.belongs_to(ip("127.0.0.1")));
        drop(other);
        assert!(places.addresses.places.keys() == 0, "addresses are forgotten");
    }

    #[test]
    fn greedy_addresses_leave_places_for_others() {
        let places = Places::new(50_000, 1024);
        let address = |number: u32| IpAddr::V4((0x0A00_0000 + number).into());
        let fill =
            |number| -> Vec<_> { (0..).map_while(|_| places.enter(address(number))).collect() };
        let held: Vec<_> = (0..60).map(fill).collect();
        assert_eq!(held[0].len(), 1024);
        assert!(places.free.available_permits() > 600);
        assert!(fill(60).len() > 70, "enough for whoever comes");
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
