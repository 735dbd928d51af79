//! Checks a grant against the clock, the channel and the uid. Comes in: a grant whose signature the shell has verified.
//! Goes out: whether it is valid, when it ends the membership, or the error.
//!
//! Deliberately absent: cryptography; bans and holds (`restrictions.rs`).

use lianmai_protocol::{ChannelName, ErrorName, Now, Rights, RpcError, UserId, WallTime};

use crate::ticket::TicketClaims;

/// Clocks of app servers may differ from ours by this much (AUT-5).
const SKEW_S: u64 = 60;
/// A token is accepted this long after its end and before its begin.
const LEEWAY_MS: u64 = 5_000;
/// Lifetime of a watermark: a kick revokes the tokens that were issued before it. No token may live longer than 7 days;
/// skew and leeway are added.
pub(crate) const WATERMARK_MS: u64 = 7 * 24 * 3600 * 1000 + SKEW_S * 1000 + LEEWAY_MS;

/// What a verified token, or the debug mode, grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The rights of the session.
    pub rights: Rights,
    /// The only uid that the token is for; `None` if it names none.
    pub uid: Option<UserId>,
    /// The only channel that the token is for; `None` if it names none.
    pub channel: Option<ChannelName>,
    /// When it was issued; `None` for a debug join, to which no watermark applies.
    pub issued_at: Option<WallTime>,
    /// Not valid before.
    pub not_before: Option<WallTime>,
    /// Not valid after.
    pub expires: Option<WallTime>,
    /// Whether `expires` ends the membership too (JWT), or gates `join` only (basic token).
    pub ends_membership: bool,
}

impl Grant {
    /// The grant of a join to an app in debug mode.
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

    /// The grant of a ticket that replaces a token shortly after a crash (RES-9).
    pub(crate) fn of_ticket(claims: &TicketClaims) -> Self {
        // The ticket's `token_end` includes the leeway already.
        let token_end = claims.token_end.map(|end| WallTime(end.0.saturating_sub(LEEWAY_MS)));
        Grant {
            rights: claims.rights,
            // The caller requires the ticket's uid in the join. Whether the token named that uid is not known.
            uid: None,
            channel: Some(claims.channel.name.clone()),
            issued_at: Some(claims.issued_at),
            not_before: None,
            expires: token_end,
            ends_membership: token_end.is_some(),
        }
    }

    /// When the token ends the membership: no sooner than a join with the token is refused.
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

    /// Whether the token is for this uid alone, or the join is a debug join. Then rights that belong to the uid belong
    /// to the member (AUT-6).
    pub(crate) fn names_uid(&self, uid: UserId) -> bool {
        self.uid == Some(uid) || self.issued_at.is_none()
    }

    /// Whether the token was issued before `watermark`, with room for skewed clocks (KIC-3).
    pub(crate) fn issued_before(&self, watermark: WallTime) -> bool {
        self.issued_at.is_some_and(|at| at.unix_seconds() <= watermark.0.div_ceil(1000) + SKEW_S)
    }
}
