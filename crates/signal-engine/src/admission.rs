//! Who may enter: judges what a verified token grants. Comes in: a grant whose signature the shell has checked.
//! Goes out: admitted rights, or the error.
//!
//! Deliberately absent: cryptography, and who is kept out (`restrictions.rs`).

use lianmai_protocol::{ChannelName, ErrorName, Now, Rights, RpcError, UserId, WallTime};

use crate::ticket::Claims;

/// Clocks of app servers may differ from ours by this much (AUT-5).
const SKEW_S: u64 = 60;
/// A token is accepted this long after its end and before its begin.
const LEEWAY_MS: u64 = 5_000;
/// A kick makes tokens issued before it void for this long; no token may live longer.
/// Skew and leeway are on top of that.
pub(crate) const WATERMARK_MS: u64 = 7 * 24 * 3600 * 1000 + SKEW_S * 1000 + LEEWAY_MS;

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
            // Its join is for the uid of the ticket in any case. Whether a token named it is not known.
            uid: None,
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

    /// Whether it is for this uid and no other, or the debug mode lets everybody be whom it says: then what belongs to
    /// a uid belongs to the member (AUT-6).
    pub(crate) fn names(&self, uid: UserId) -> bool {
        self.uid == Some(uid) || self.issued_at.is_none()
    }

    /// Whether the token was issued before `watermark`, with room for skewed clocks (KIC-3).
    pub(crate) fn issued_before(&self, watermark: WallTime) -> bool {
        self.issued_at.is_some_and(|at| at.unix_seconds() <= watermark.0.div_ceil(1000) + SKEW_S)
    }
}
