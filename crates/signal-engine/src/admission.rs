//! Who may enter: judges what a verified token grants, and remembers kicks and closes. Comes in: a grant
//! whose signature the shell has checked. Goes out: admitted rights, or the error.
//!
//! Deliberately absent: cryptography.

use std::collections::BTreeMap;

use lianmai_protocol::message::session::Join;
use lianmai_protocol::{ChannelName, ErrorName, Now, Rights, RpcError, UserId, WallTime};

use crate::key::ChannelKey;

/// Clocks of app servers may differ from ours by this much (contract rule C13).
const SKEW_S: u64 = 60;
/// A token is accepted this long after its end and before its begin.
const LEEWAY_MS: u64 = 5_000;
/// A kick makes tokens issued before it void for this long; no token may live longer.
const WATERMARK_MS: u64 = 7 * 24 * 3600 * 1000;

/// What a verified token, or the debug mode, grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What the session may do.
    pub rights: Rights,
    /// The only uid that it is for.
    pub uid: Option<UserId>,
    /// The only channel that it is for.
    pub channel: Option<ChannelName>,
    /// When it was issued; `None` for a debug join, which no watermark concerns.
    pub issued_at: Option<WallTime>,
    /// Not valid before.
    pub not_before: Option<WallTime>,
    /// Not valid after.
    pub expires: Option<WallTime>,
    /// Whether `expires` ends the membership too (JWT), or gates `join` only (basic token).
    pub ends_membership: bool,
}

impl Grant {
    /// What a join to an app in debug mode gets.
    #[must_use]
    pub fn debug() -> Self {
        Grant {
            rights: Rights::MEMBER,
            uid: None,
            channel: None,
            issued_at: None,
            not_before: None,
            expires: None,
            ends_membership: false,
        }
    }

    /// When the membership ends by this token: no sooner than a join with it would be refused.
    pub(crate) fn membership_end(&self) -> Option<WallTime> {
        let expires = self.expires.filter(|_| self.ends_membership)?;
        Some(WallTime(expires.0.saturating_add(LEEWAY_MS)))
    }

    /// Checks times, uid and channel.
    pub(crate) fn check(
        &self,
        now: Now,
        channel: &ChannelName,
        uid: Option<UserId>,
    ) -> Result<(), RpcError> {
        let wall = now.wall.0;
        if self.not_before.is_some_and(|at| at.0 > wall + LEEWAY_MS)
            || self.issued_at.is_some_and(|at| at.0 > wall + SKEW_S * 1000)
        {
            return Err(ErrorName::TokenNotYetValid.into());
        }
        if self.expires.is_some_and(|at| at.0.saturating_add(LEEWAY_MS) <= wall) {
            return Err(ErrorName::TokenExpired.into());
        }
        if self.channel.as_ref().is_some_and(|name| name != channel) {
            return Err(ErrorName::ChannelMismatch.into());
        }
        if let (Some(granted), Some(asked)) = (self.uid, uid)
            && granted != asked
        {
            return Err(ErrorName::UidMismatch.into());
        }
        Ok(())
    }

    /// Whether the token was issued before `watermark`, with room for skewed clocks (rule C13).
    fn issued_before(&self, watermark: WallTime) -> bool {
        self.issued_at.is_some_and(|at| at.unix_seconds() <= watermark.0.div_ceil(1000) + SKEW_S)
    }
}

/// Bans, and holds, of one shard; beyond it the one that concerns tokens no longer first is forgotten. Whoever may kick is
/// trusted in safe mode; in debug mode this bounds what a stranger can make the server remember.
const MAX_RESTRICTIONS: usize = 100_000;

/// Keeps a map within [`MAX_RESTRICTIONS`].
fn evict<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, until: impl Fn(&V) -> WallTime) {
    if map.len() > MAX_RESTRICTIONS
        && let Some(first) =
            map.iter().min_by_key(|(_, value)| until(value)).map(|(key, _)| key.clone())
    {
        map.remove(&first);
    }
}

#[derive(Clone, Copy, Debug)]
struct Ban {
    until: WallTime,
    watermark: WallTime,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    until: WallTime,
    watermark: WallTime,
}

/// Kicks and closes, keyed by name so that they outlive the channel (rule A21). Bounded by expiry.
#[derive(Debug, Default)]
pub(crate) struct Restrictions {
    bans: BTreeMap<(ChannelKey, UserId), Ban>,
    holds: BTreeMap<ChannelKey, Hold>,
}

impl Restrictions {
    pub(crate) fn ban(&mut self, channel: &ChannelKey, uid: UserId, now: Now, duration_s: u32) {
        let until = WallTime(now.wall.0 + u64::from(duration_s) * 1000);
        let ban = Ban { until, watermark: now.wall };
        // A later, shorter kick does not shorten a ban.
        let stored = self.bans.entry((channel.clone(), uid)).or_insert(ban);
        *stored = Ban { until: stored.until.max(until), watermark: now.wall };
        evict(&mut self.bans, |ban| ban.until.max(WallTime(ban.watermark.0 + WATERMARK_MS)));
    }

    pub(crate) fn hold(&mut self, channel: &ChannelKey, now: Now, hold_s: u32) {
        let until = WallTime(now.wall.0 + u64::from(hold_s) * 1000);
        self.holds.insert(channel.clone(), Hold { until, watermark: now.wall });
        evict(&mut self.holds, |hold| hold.until);
    }

    /// Forgets what no longer concerns any token.
    pub(crate) fn sweep(&mut self, now: Now) {
        let wall = now.wall.0;
        self.bans.retain(|_, ban| ban.until.0.max(ban.watermark.0 + WATERMARK_MS) > wall);
        self.holds.retain(|_, hold| hold.until.0 > wall);
    }

    pub(crate) fn check(
        &self,
        now: Now,
        channel: &ChannelKey,
        uid: UserId,
        grant: &Grant,
    ) -> Result<(), RpcError> {
        if let Some(ban) = self.bans.get(&(channel.clone(), uid)) {
            if ban.until > now.wall {
                return Err(
                    RpcError::new(ErrorName::Banned).retry_after_ms(ban.until.0 - now.wall.0)
                );
            }
            if grant.issued_before(ban.watermark) {
                return Err(ErrorName::TokenRevoked.into());
            }
        }
        if let Some(hold) = self.holds.get(channel)
            && hold.until > now.wall
            && (grant.issued_at.is_none() || grant.issued_before(hold.watermark))
        {
            return Err(
                RpcError::new(ErrorName::ChannelClosed).retry_after_ms(hold.until.0 - now.wall.0)
            );
        }
        Ok(())
    }

    /// Judges a join: the grant against the clock, the channel and the uid, then bans and holds.
    pub(crate) fn admit(
        &self,
        now: Now,
        channel: &ChannelKey,
        join: &Join,
        uid: UserId,
        grant: &Grant,
    ) -> Result<(), RpcError> {
        grant.check(now, &channel.name, join.uid)?;
        self.check(now, channel, uid, grant)
    }
}
