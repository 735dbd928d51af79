//! Debts of ended memberships (IDS-9). A membership has its own rate while it lasts. When it ends, the part that it has
//! used and not earned again stays with its uid in that channel. If its token names no uid, a part of what it has used
//! itself stays with its address as well. Comes in: members that enter or leave, and their debts. Goes out: the debt of
//! a new member, and the time that an address has to wait.
//!
//! Memory is bounded: a debt is forgotten when it is earned again, and the smallest first if there are too many.

use std::collections::BTreeMap;
use std::time::Duration;

use lianmai_protocol::limits::Limits;
use lianmai_protocol::{MonoTime, UserId};
use lianmai_shares::{Rate, RateLimiter};

use crate::ids::AddrId;
use crate::key::ChannelKey;
use crate::session_rate::burst;

/// Most debts that are remembered, of each kind.
const MAX_DEBTS: usize = 20_000;
/// The debt of an address is divided by its number of members, or by this number if it has fewer.
const LEAST_MEMBERS: u32 = 2;
/// An address is barred while its debt exceeds this many bursts of a session.
const MAX_BURSTS: u32 = 6;

#[derive(Debug)]
pub(crate) struct Debts {
    uids: RateLimiter<(ChannelKey, UserId)>,
    addresses: RateLimiter<AddrId>,
    members: BTreeMap<AddrId, u32>,
}

impl Default for Debts {
    fn default() -> Self {
        let rate = Rate { interval: Duration::ZERO, burst: 0 };
        Debts {
            uids: RateLimiter::new(rate, MAX_DEBTS),
            addresses: RateLimiter::new(rate, MAX_DEBTS),
            members: BTreeMap::new(),
        }
    }
}

fn moment(now: MonoTime) -> Duration {
    Duration::from_millis(now.0)
}

impl Debts {
    /// Counts a membership for an address.
    pub(crate) fn count_member(&mut self, addr: AddrId) {
        *self.members.entry(addr).or_insert(0) += 1;
    }

    /// No longer counts a membership for an address.
    pub(crate) fn uncount_member(&mut self, addr: AddrId) {
        if let Some(count) = self.members.get_mut(&addr) {
            *count -= 1;
            if *count == 0 {
                self.members.remove(&addr);
            }
        }
    }

    /// Charges the debt of an ended membership to its uid in the channel.
    pub(crate) fn charge_uid(
        &mut self,
        now: MonoTime,
        channel: &ChannelKey,
        uid: UserId,
        owed: Duration,
    ) {
        if !owed.is_zero() {
            self.uids.charge(&(channel.clone(), uid), owed, moment(now));
        }
    }

    /// Charges an address for an ended membership, which no longer counts for it. `owed`: the debt that earlier
    /// memberships did not cause.
    pub(crate) fn charge_address(&mut self, now: MonoTime, addr: AddrId, owed: Duration) {
        let members = self.members.get(&addr).copied().unwrap_or(0).max(LEAST_MEMBERS);
        if !owed.is_zero() {
            self.addresses.charge(&addr, owed / members, moment(now));
        }
        self.uncount_member(addr);
    }

    /// The debt of a uid in a channel.
    pub(crate) fn uid_debt(
        &mut self,
        now: MonoTime,
        channel: &ChannelKey,
        uid: UserId,
    ) -> Duration {
        self.uids.owed(&(channel.clone(), uid), moment(now))
    }

    /// Forgets the debt of a uid: its new membership owes it from now on.
    pub(crate) fn forget_uid(&mut self, now: MonoTime, channel: &ChannelKey, uid: UserId) {
        self.uids.release(&(channel.clone(), uid), moment(now));
    }

    /// Milliseconds that an address has to wait before a member whose token names no uid may enter from it; 0 for no
    /// wait.
    pub(crate) fn address_wait_ms(&mut self, now: MonoTime, addr: AddrId, limits: &Limits) -> u64 {
        let owed = self.addresses.owed(&addr, moment(now));
        let wait = owed.saturating_sub(burst(limits) * MAX_BURSTS);
        u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
    }
}
