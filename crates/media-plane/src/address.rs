//! What counts as one address.
//!
//! In: addresses of peers. Out: who they are of. Absent: proxies, which the embedding server knows.

use std::net::{IpAddr, Ipv6Addr};

/// One IPv6 subscriber has a whole /64.
pub(crate) fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address => address,
    }
}
