//! What those owe who have gone (IDS-9). While a membership lasts it keeps its own rate. When it ends, what it has used and
//! not earned again stays with its uid in that channel; where its token names no uid, a part of what it has used itself
//! stays with its address, too. Comes in: who enters, who has gone with what. Goes out: what a newcomer owes, and how long an
//! address has to wait.
//!
//! Memory is bounded: a debt is forgotten when it is earned, and the smallest first where there are too many.

use std::collections::BTreeMap;
use std::time::Duration;

use lianmai_protocol::limits::Limits;
use lianmai_protocol::{MonoTime, UserId};
use lianmai_shares::{Rate, Rates};

use crate::ids::Peer;
use crate::key::ChannelKey;
use crate::rate::burst;

/// Most debts that are remembered, of each kind.
const MAX_DEBTS: usize = 20_000;
/// An address earns what those owe who have gone from it as fast as this many members would, or as many as it has.
const LEAST_MEMBERS: u32 = 2;
/// From an address whose debt takes so many times as long as all that a session may send at once, nobody enters.
const MAX_BURSTS: u32 = 6;

#[derive(Debug)]
pub(crate) struct Budgets {
    uids: Rates<(ChannelKey, UserId)>,
    addresses: Rates<Peer>,
    members: BTreeMap<Peer, u32>,
}

impl Default for Budgets {
    fn default() -> Self {
        let rate = Rate { interval: Duration::ZERO, burst: 0 };
        Budgets {
            uids: Rates::new(rate, MAX_DEBTS),
            addresses: Rates::new(rate, MAX_DEBTS),
            members: BTreeMap::new(),
        }
    }
}

fn moment(now: MonoTime) -> Duration {
    Duration::from_millis(now.0)
}

impl Budgets {
    /// A membership is of that address from now on.
    pub(crate) fn enter(&mut self, peer: Peer) {
        *self.members.entry(peer).or_insert(0) += 1;
    }

    /// And no more.
    pub(crate) fn moved(&mut self, peer: Peer) {
        if let Some(count) = self.members.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.members.remove(&peer);
            }
        }
    }

    /// A membership has ended, and owes so much.
    pub(crate) fn part(
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

    /// A membership of that address has ended, and owes so much that none before it has used.
    pub(crate) fn leave(&mut self, now: MonoTime, peer: Peer, owed: Duration) {
        let members = self.members.get(&peer).copied().unwrap_or(0).max(LEAST_MEMBERS);
        if !owed.is_zero() {
            self.addresses.charge(&peer, owed / members, moment(now));
        }
        self.moved(peer);
    }

    /// What a uid owes that enters a channel.
    pub(crate) fn owed(&mut self, now: MonoTime, channel: &ChannelKey, uid: UserId) -> Duration {
        self.uids.owed(&(channel.clone(), uid), moment(now))
    }

    /// It has entered, and owes it itself from now on.
    pub(crate) fn taken(&mut self, now: MonoTime, channel: &ChannelKey, uid: UserId) {
        self.uids.release(&(channel.clone(), uid), moment(now));
    }

    /// How many milliseconds an address has to wait before anybody whose token names no uid enters from it; 0 for at once.
    pub(crate) fn barred_ms(&mut self, now: MonoTime, peer: Peer, limits: &Limits) -> u64 {
        let owed = self.addresses.owed(&peer, moment(now));
        let wait = owed.saturating_sub(burst(limits) * MAX_BURSTS);
        u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
    }
}
