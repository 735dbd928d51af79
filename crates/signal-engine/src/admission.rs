//! Who may enter: judges what a verified token grants, and remembers kicks and closes. Comes in: a grant
//! whose signature the shell has checked. Goes out: admitted rights, or the error.
//!
//! Deliberately absent: cryptography.

use std::collections::BTreeMap;

use lianmai_protocol::message::session::{Join, ResumeReason};
use lianmai_protocol::{ChannelName, ErrorName, Now, Rights, RpcError, UserId, WallTime};

use crate::key::ChannelKey;
use crate::record::BanRecord;
use crate::rows::{Restored, Row, RowOp};
use crate::ticket::Claims;

/// Clocks of app servers may differ from ours by this much (AUT-5).
const SKEW_S: u64 = 60;
/// A token is accepted this long after its end and before its begin.
const LEEWAY_MS: u64 = 5_000;
/// A kick makes tokens issued before it void for this long; no token may live longer.
/// Skew and leeway are on top of that.
const WATERMARK_MS: u64 = 7 * 24 * 3600 * 1000 + SKEW_S * 1000 + LEEWAY_MS;

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

    /// What a ticket stands in for shortly after a crash (RES-9).
    pub(crate) fn of_ticket(claims: &Claims) -> Self {
        // The end of a membership has the leeway in it already.
        let token_end = claims.token_end.map(|end| WallTime(end.0.saturating_sub(LEEWAY_MS)));
        Grant {
            rights: claims.rights,
            uid: Some(claims.uid),
            channel: Some(claims.channel.name.clone()),
            issued_at: Some(claims.issued_at),
            not_before: None,
            expires: token_end,
            ends_membership: token_end.is_some(),
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

    /// Whether the token was issued before `watermark`, with room for skewed clocks (KIC-3).
    fn issued_before(&self, watermark: WallTime) -> bool {
        self.issued_at.is_some_and(|at| at.unix_seconds() <= watermark.0.div_ceil(1000) + SKEW_S)
    }
}

/// Bans of one channel; beyond it the one that soonest concerns no token any more is forgotten.
const MAX_CHANNEL_BANS: usize = 1_000;
/// Bans of one shard; beyond it a channel forgets one of its own for each new one.
const MAX_BANS: usize = 100_000;
/// Channels with bans or a hold of one shard; beyond it new ones are not kept.
const MAX_RESTRICTED: usize = 50_000;

/// From then on a ban concerns nobody.
fn end(ban: &BanRecord) -> WallTime {
    ban.until.max(WallTime(ban.watermark.0.saturating_add(WATERMARK_MS)))
}

#[derive(Debug, Default)]
struct Restricted {
    bans: BTreeMap<UserId, BanRecord>,
    hold: Option<BanRecord>,
}

/// Kicks and closes, keyed by name so that they outlive the channel (KIC-2, CLS-2). What strangers can make a
/// server remember is bounded per channel, so that nobody makes another channel forget.
#[derive(Debug, Default)]
pub(crate) struct Restrictions {
    channels: BTreeMap<ChannelKey, Restricted>,
    /// Bans of all channels.
    bans: usize,
}

impl Restrictions {
    fn restricted(&mut self, channel: &ChannelKey) -> Option<&mut Restricted> {
        if self.channels.len() >= MAX_RESTRICTED && !self.channels.contains_key(channel) {
            return None;
        }
        Some(self.channels.entry(channel.clone()).or_default())
    }

    /// Bans a uid, and hands out what is to be written down. False if there is no room to remember it.
    pub(crate) fn ban(
        &mut self,
        channel: &ChannelKey,
        uid: UserId,
        now: Now,
        duration_s: u32,
        ops: &mut Vec<RowOp>,
    ) -> bool {
        let mut until = WallTime(now.wall.0 + u64::from(duration_s) * 1000);
        let full = self.bans >= MAX_BANS;
        let Some(restricted) = self.restricted(channel) else { return false };
        let mut watermark = now.wall;
        // A later, shorter kick does not shorten a ban, nor does a clock that went back.
        if let Some(old) = restricted.bans.get(&uid) {
            until = until.max(old.until);
            watermark = watermark.max(old.watermark);
        } else if (full || restricted.bans.len() >= MAX_CHANNEL_BANS)
            && let Some((&first, _)) = restricted.bans.iter().min_by_key(|(_, ban)| end(ban))
        {
            ops.push(RowOp::drop(channel, Row::Ban(first)));
            restricted.bans.remove(&first);
            self.bans -= 1;
        } else if full {
            return false;
        }
        let ban = BanRecord { until, watermark };
        ops.push(RowOp::put_ban(channel, uid, ban));
        self.set_ban(channel, uid, ban);
        true
    }

    fn set_ban(&mut self, channel: &ChannelKey, uid: UserId, ban: BanRecord) {
        let had = self.channels.entry(channel.clone()).or_default().bans.insert(uid, ban);
        self.bans += usize::from(had.is_none());
    }

    /// Holds a channel's name, as [`Restrictions::ban`].
    pub(crate) fn hold(
        &mut self,
        channel: &ChannelKey,
        now: Now,
        hold_s: u32,
        ops: &mut Vec<RowOp>,
    ) -> bool {
        let until = WallTime(now.wall.0 + u64::from(hold_s) * 1000);
        let Some(restricted) = self.restricted(channel) else { return false };
        // A later, shorter close does not shorten a hold.
        let until = restricted.hold.map_or(until, |old| old.until.max(until));
        let watermark = restricted.hold.map_or(now.wall, |old| old.watermark.max(now.wall));
        let hold = BanRecord { until, watermark };
        restricted.hold = Some(hold);
        ops.push(RowOp::put_hold(channel, hold));
        true
    }

    /// What an earlier process left behind, all of it: that had bounds, too, if for more shards. A wall clock
    /// that went back makes no ban longer than it was.
    pub(crate) fn restore(&mut self, now: Now, restored: &Restored, ops: &mut Vec<RowOp>) {
        let fit = |ban: &BanRecord| {
            let length = ban.until.0.saturating_sub(ban.watermark.0);
            BanRecord { until: ban.until.min(WallTime(now.wall.0.saturating_add(length))), ..*ban }
        };
        for (channel, uid, ban) in &restored.bans {
            let fitting = fit(ban);
            if fitting != *ban {
                ops.push(RowOp::put_ban(channel, *uid, fitting));
            }
            self.set_ban(channel, *uid, fitting);
        }
        for (channel, hold) in &restored.holds {
            let fitting = fit(hold);
            if fitting != *hold {
                ops.push(RowOp::put_hold(channel, fitting));
            }
            self.channels.entry(channel.clone()).or_default().hold = Some(fitting);
        }
    }

    /// Forgets what concerns no token any more.
    pub(crate) fn sweep(&mut self, now: Now, ops: &mut Vec<RowOp>) {
        self.channels.retain(|channel, restricted| {
            restricted.bans.retain(|uid, ban| {
                let stays = end(ban) > now.wall;
                if !stays {
                    ops.push(RowOp::drop(channel, Row::Ban(*uid)));
                }
                stays
            });
            if restricted.hold.is_some_and(|hold| hold.until <= now.wall) {
                ops.push(RowOp::drop(channel, Row::Hold));
                restricted.hold = None;
            }
            restricted.hold.is_some() || !restricted.bans.is_empty()
        });
        self.bans = self.channels.values().map(|restricted| restricted.bans.len()).sum();
    }

    /// Whether a ticket of that time may still resume.
    pub(crate) fn check_ticket(
        &self,
        now: Now,
        channel: &ChannelKey,
        uid: UserId,
        issued_at: WallTime,
    ) -> Result<(), ResumeReason> {
        let Some(restricted) = self.channels.get(channel) else { return Ok(()) };
        let concerns = |of: &BanRecord| of.until > now.wall || issued_at <= of.watermark;
        if restricted.bans.get(&uid).is_some_and(concerns) {
            return Err(ResumeReason::Kicked);
        }
        let held = |hold: &BanRecord| hold.until > now.wall && issued_at <= hold.watermark;
        if restricted.hold.as_ref().is_some_and(held) {
            return Err(ResumeReason::ChannelClosed);
        }
        Ok(())
    }

    pub(crate) fn check(
        &self,
        now: Now,
        channel: &ChannelKey,
        uid: UserId,
        grant: &Grant,
    ) -> Result<(), RpcError> {
        let Some(restricted) = self.channels.get(channel) else { return Ok(()) };
        if let Some(ban) = restricted.bans.get(&uid) {
            if ban.until > now.wall {
                return Err(
                    RpcError::new(ErrorName::Banned).retry_after_ms(ban.until.0 - now.wall.0)
                );
            }
            if grant.issued_before(ban.watermark) {
                return Err(ErrorName::TokenRevoked.into());
            }
        }
        if let Some(hold) = restricted.hold
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

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> ChannelKey {
        ChannelKey { appkey: "demo".parse().unwrap(), name: name.parse().unwrap() }
    }

    fn is_banned(restrictions: &Restrictions, name: &str, uid: u64) -> bool {
        let now = Now::default();
        restrictions.check(now, &channel(name), UserId(uid), &Grant::debug()).is_err()
    }

    /// Proves KIC-2.
    #[test]
    fn a_flood_of_kicks_in_one_channel_makes_only_that_one_forget() {
        let (mut restrictions, mut ops) = (Restrictions::default(), Vec::new());
        assert!(restrictions.ban(&channel("quiet"), UserId(1), Now::default(), 60, &mut ops));
        restrictions.ban(&channel("loud"), UserId(1), Now::default(), 60, &mut ops);
        for uid in 2..2_000 {
            restrictions.ban(&channel("loud"), UserId(uid), Now::default(), 3600, &mut ops);
        }
        assert!(is_banned(&restrictions, "quiet", 1));
        assert!(!is_banned(&restrictions, "loud", 1), "it would have ended first");
        assert!(is_banned(&restrictions, "loud", 1_999));
        assert_eq!(restrictions.bans, MAX_CHANNEL_BANS + 1);
    }

    /// Proves KIC-5.
    #[test]
    fn what_there_is_no_room_for_says_so() {
        let (mut restrictions, mut ops) = (Restrictions::default(), Vec::new());
        for n in 0..MAX_RESTRICTED {
            assert!(restrictions.hold(&channel(&format!("{n}")), Now::default(), 60, &mut ops));
        }
        ops.clear();
        assert!(!restrictions.hold(&channel("one more"), Now::default(), 60, &mut ops));
        assert!(!restrictions.ban(&channel("one more"), UserId(1), Now::default(), 60, &mut ops));
        assert!(ops.is_empty());
        assert!(restrictions.ban(&channel("7"), UserId(1), Now::default(), 60, &mut ops));
    }

    /// Proves no rule of the protocol: no memory is left of what is over.
    #[test]
    fn what_is_over_is_swept() {
        let (mut restrictions, mut ops) = (Restrictions::default(), Vec::new());
        restrictions.ban(&channel("a"), UserId(1), Now::default(), 60, &mut ops);
        restrictions.hold(&channel("b"), Now::default(), 60, &mut ops);
        let later = Now { wall: WallTime(WATERMARK_MS + 1), ..Now::default() };
        restrictions.sweep(later, &mut ops);
        assert!(restrictions.channels.is_empty() && restrictions.bans == 0);
    }

    /// Proves CLS-2.
    #[test]
    fn a_later_close_does_not_shorten_a_hold() {
        let (mut restrictions, mut ops) = (Restrictions::default(), Vec::new());
        restrictions.hold(&channel("a"), Now::default(), 60, &mut ops);
        restrictions.hold(&channel("a"), Now::default(), 0, &mut ops);
        assert!(is_banned(&restrictions, "a", 1));
    }
}
