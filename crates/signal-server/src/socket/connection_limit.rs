//! Limits for the connections of a listener: in total and for each address. Comes in: the address of a peer. Goes out:
//! a [`ConnectionPermit`], held while its socket is open.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use lianmai_shares::Share;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limits for the connections of one listener.
#[derive(Debug)]
pub(crate) struct ConnectionLimit {
    free: Arc<Semaphore>,
    max: usize,
    addresses: Arc<AddressShares>,
}

/// The number of connections of each address, and the share that an address may have.
#[derive(Debug)]
struct AddressShares {
    slots: lianmai_shares::Slots<IpAddr>,
    share: Share,
}

/// One connection in the limits. It is given back when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionPermit(Arc<PermitInner>);

#[derive(Debug)]
struct PermitInner {
    #[expect(dead_code, reason = "held for its drop")]
    semaphore: OwnedSemaphorePermit,
    addresses: Arc<AddressShares>,
    /// The slot among those of its address.
    slot: Mutex<Option<lianmai_shares::Slot<IpAddr>>>,
}

impl ConnectionLimit {
    /// An address may have at most `max_per_address` connections, and at most an eighth of the free ones; or the part
    /// `max_per_address / max` of the free ones, if that is more than an eighth.
    pub(crate) fn new(max: usize, max_per_address: usize) -> Self {
        let max = max.clamp(1, u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        ConnectionLimit {
            free: Arc::new(Semaphore::new(max)),
            max,
            addresses: Arc::new(AddressShares {
                slots: lianmai_shares::Slots::new(max),
                share: Share::capped(max_per_address, max),
            }),
        }
    }

    /// A permit for a peer, or `None` when all are taken or its address has used its share.
    pub(crate) fn try_acquire(&self, peer: IpAddr) -> Option<ConnectionPermit> {
        self.try_acquire_unassigned().filter(|permit| permit.try_assign(peer))
    }

    /// A permit that counts for no address yet, or `None` when all are taken.
    pub(crate) fn try_acquire_unassigned(&self) -> Option<ConnectionPermit> {
        self.free.clone().try_acquire_owned().ok().map(|permit| self.permit(permit))
    }

    /// Waits for a free permit for a peer; `None` when its address has used its share.
    pub(crate) async fn acquire(&self, peer: IpAddr) -> Option<ConnectionPermit> {
        let permit = self.free.clone().acquire_owned().await.ok()?;
        Some(self.permit(permit)).filter(|permit| permit.try_assign(peer))
    }

    fn permit(&self, semaphore: OwnedSemaphorePermit) -> ConnectionPermit {
        let (addresses, slot) = (self.addresses.clone(), Mutex::default());
        ConnectionPermit(Arc::new(PermitInner { semaphore, addresses, slot }))
    }

    /// Completes when all permits are free.
    pub(crate) async fn wait_until_unused(&self) {
        let _ = self.free.acquire_many(u32::try_from(self.max).unwrap_or(u32::MAX)).await;
    }
}

impl ConnectionPermit {
    /// Counts the permit for this address from now on, and no longer for an earlier one: a proxy uses one connection for
    /// several clients in turn. Returns `false` when the address has used its share. Loopback has no share: behind a
    /// proxy on this machine, all clients have that address.
    pub(crate) fn try_assign(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let mut slot = self.0.slot.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = None;
        if address.is_loopback() {
            return true;
        }
        let AddressShares { slots, share } = &*self.0.addresses;
        *slot = slots.acquire([(address_group(address), *share)]).ok();
        slot.is_some()
    }
}

/// The address that counts: an IPv6 subscriber has a whole /64.
pub(crate) fn address_group(address: IpAddr) -> IpAddr {
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
    fn an_address_has_its_own_limit() {
        let limit = ConnectionLimit::new(100, 2);
        let first = limit.try_acquire(ip("192.0.2.1")).unwrap();
        // The same address through an IPv6 socket.
        let second = limit.try_acquire(ip("::ffff:192.0.2.1")).unwrap();
        assert!(limit.try_acquire(ip("192.0.2.1")).is_none());
        let other = limit.try_acquire(ip("192.0.2.2")).unwrap();
        drop(first.clone());
        assert!(limit.try_acquire(ip("192.0.2.1")).is_none(), "one of two holders left");
        drop(first);
        let third = limit.try_acquire(ip("192.0.2.1")).unwrap();

        let six =
            [ip("2001:db8::1"), ip("2001:db8::ffff:1")].map(|ip| limit.try_acquire(ip).unwrap());
        assert!(limit.try_acquire(ip("2001:db8:0:0:8000::")).is_none(), "the same /64");
        assert!(limit.try_acquire(ip("2001:db8:0:1::1")).is_some(), "another /64");

        drop((second, third, other, six));
        assert!(limit.addresses.slots.keys() == 0, "addresses are forgotten");
        assert_eq!(limit.free.available_permits(), 100, "a refusal holds nothing");
    }

    #[test]
    fn a_permit_moves_from_client_to_client() {
        let limit = ConnectionLimit::new(10, 1);
        let (one, other) =
            (limit.try_acquire_unassigned().unwrap(), limit.try_acquire_unassigned().unwrap());
        assert!(limit.addresses.slots.keys() == 0, "the proxy has no limit of its own");
        assert!(one.try_assign(ip("192.0.2.1")) && one.try_assign(ip("192.0.2.1")), "again");
        assert!(!other.try_assign(ip("192.0.2.1")), "the client has reached its limit");
        assert!(other.try_assign(ip("192.0.2.2")) && one.try_assign(ip("192.0.2.3")));
        assert!(other.try_assign(ip("192.0.2.1")), "the permit is released");
        assert!(
            limit.try_acquire(ip("192.0.2.2")).is_some()
                && limit.try_acquire(ip("192.0.2.3")).is_none()
        );
        assert!(one.try_assign(ip("127.0.0.1")));
        drop(other);
        assert!(limit.addresses.slots.keys() == 0, "addresses are forgotten");
    }

    #[test]
    fn greedy_addresses_leave_permits_for_others() {
        let limit = ConnectionLimit::new(50_000, 1024);
        let address = |number: u32| IpAddr::V4((0x0A00_0000 + number).into());
        let fill = |number| -> Vec<_> {
            (0..).map_while(|_| limit.try_acquire(address(number))).collect()
        };
        let held: Vec<_> = (0..60).map(fill).collect();
        assert_eq!(held[0].len(), 1024);
        assert!(limit.free.available_permits() > 600);
        assert!(fill(60).len() > 70, "enough for new addresses");
    }

    #[test]
    fn loopback_is_bound_by_the_total_limit_only() {
        let limit = ConnectionLimit::new(4, 1);
        let loopback = ["127.0.0.1", "127.0.0.1", "::1", "::ffff:127.0.0.1"];
        let held = loopback.map(|local| limit.try_acquire(ip(local)).unwrap());
        assert!(
            limit.try_acquire(ip("127.0.0.1")).is_none()
                && limit.try_acquire(ip("192.0.2.1")).is_none()
        );
        drop(held);
        assert!(limit.try_acquire(ip("192.0.2.1")).is_some());
    }
}
