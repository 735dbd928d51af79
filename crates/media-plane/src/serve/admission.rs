//! Admission of RTMP connections.
//!
//! In: addresses of peers that connect. Out: slots, or the reason of a refusal. Absent: sockets; the identity of a
//! peer, of which only the address is known here.

use std::net::IpAddr;
use std::time::Duration;

use lianmai_shares::{Rate, RateLimiter, Share, Slot, Slots};
use tokio::time::Instant;

use crate::address::group;
use crate::config::RelayConfig;

/// Addresses whose connection rate is remembered.
const MAX_ADDRESSES: usize = 50_000;

#[derive(Debug)]
pub(super) struct ConnectionAdmission {
    begin: Instant,
    slots: Slots<IpAddr>,
    share: Share,
    rates: Option<RateLimiter<IpAddr>>,
    exempt_loopback: bool,
}

impl ConnectionAdmission {
    pub(super) fn new(config: &RelayConfig) -> Self {
        let rate = Rate::per_second(config.connections_per_second, config.connection_burst);
        Self {
            begin: Instant::now(),
            slots: Slots::new(config.max_connections),
            share: Share::capped(config.max_connections_per_address, config.max_connections),
            rates: (config.connections_per_second > 0)
                .then(|| RateLimiter::new(rate, MAX_ADDRESSES)),
            exempt_loopback: config.exempt_loopback,
        }
    }

    /// A slot for a peer that connects now, or the code of the refusal.
    pub(super) fn admit(&mut self, peer: IpAddr) -> Result<Slot<IpAddr>, &'static str> {
        let address = group(peer);
        let now: Duration = self.begin.elapsed();
        if let Some(rates) = &mut self.rates
            && !(self.exempt_loopback && address.is_loopback())
            && rates.take(&address, now).is_err()
        {
            return Err("connectionRate");
        }
        self.slots.acquire([(address, self.share)]).map_err(|_| "tooManyConnections")
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: who may have a connection of RTMP.

    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4((0x0A00_0000 + number).into())
    }

    /// Enough addresses to fill all slots, if only the bound for each address applied.
    #[tokio::test(start_paused = true)]
    async fn addresses_at_their_limit_leave_slots_for_others() {
        let mut admission = ConnectionAdmission::new(&RelayConfig::default());
        let mut slots = Vec::new();
        for number in 0..17 {
            // As slowly as the rate of the address allows.
            for _ in 0..300 {
                slots.extend(admission.admit(address(number)));
                tokio::time::advance(Duration::from_millis(20)).await;
            }
        }
        assert!(slots.len() < 3600, "{}", slots.len());
        for number in 100..200 {
            slots.push(admission.admit(address(number)).unwrap());
        }
        let mut own = Vec::new();
        while let Ok(slot) = admission.admit(address(200)) {
            own.push(slot);
        }
        assert!(own.len() > 32, "{}", own.len());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_connects_no_faster_than_its_rate() {
        let config = RelayConfig { connection_burst: 3, ..RelayConfig::default() };
        let mut admission = ConnectionAdmission::new(&config);
        let six = |text: &str| text.parse::<IpAddr>().unwrap();
        for _ in 0..3 {
            admission.admit(six("2001:db8::1")).unwrap();
        }
        assert_eq!(admission.admit(six("2001:db8::2")).unwrap_err(), "connectionRate");
        admission.admit(six("2001:db8:0:1::1")).unwrap();
        tokio::time::advance(Duration::from_millis(20)).await;
        admission.admit(six("2001:db8::2")).unwrap();
        let loopback = six("::ffff:127.0.0.1");
        assert_eq!((0..10).filter(|_| admission.admit(loopback).is_ok()).count(), 3);
        let config = RelayConfig { exempt_loopback: true, ..config };
        let mut admission = ConnectionAdmission::new(&config);
        assert_eq!((0..10).filter(|_| admission.admit(loopback).is_ok()).count(), 10);
        let config = RelayConfig { connections_per_second: 0, ..config };
        let mut admission = ConnectionAdmission::new(&config);
        assert_eq!((0..10).filter(|_| admission.admit(address(1)).is_ok()).count(), 10);
    }
}
