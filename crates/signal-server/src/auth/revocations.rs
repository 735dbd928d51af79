//! Tokens that were revoked by their time of issue. Comes in: decisions of the API. Goes out: whether a token is
//! revoked. Deliberately absent: storage, and memberships, which a revocation does not end.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use lianmai_protocol::{Appkey, UserId, WallTime};
use lianmai_signal_engine::Grant;

/// Times before which tokens are revoked, by app, and by uid or for all uids (`None`).
type RevocationTimes = BTreeMap<Appkey, BTreeMap<Option<UserId>, WallTime>>;

/// The revocations of all apps. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct RevocationList(Arc<RwLock<RevocationTimes>>);

impl RevocationList {
    /// Revokes the tokens of one uid or of all that were issued before `moment`. The time of a revocation never moves
    /// back. Forgets the revocations of the app from before `forget_before`, as the file does: no token is as old.
    pub(crate) fn revoke(
        &self,
        appkey: Appkey,
        uid: Option<UserId>,
        moment: WallTime,
        forget_before: WallTime,
    ) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let of = all.entry(appkey).or_default();
        of.retain(|_, known| *known >= forget_before);
        let known = of.entry(uid).or_insert(moment);
        *known = moment.max(*known);
    }

    /// Whether a token of the app for `uid` is revoked. Times of a JWT are whole seconds, so one from the second of the
    /// revocation is revoked, too. A grant without a time does not come from a token.
    pub(super) fn is_revoked(&self, appkey: &Appkey, uid: Option<UserId>, grant: &Grant) -> bool {
        let Some(issued_at) = grant.issued_at else { return false };
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(of) = all.get(appkey) else { return false };
        let own = uid.or(grant.uid).and_then(|uid| of.get(&Some(uid)));
        own.into_iter().chain(of.get(&None)).any(|moment| issued_at < *moment)
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: which tokens are revoked.

    use super::*;

    #[test]
    fn tokens_issued_before_a_revocation_are_refused() {
        let app = |text: &str| text.parse::<Appkey>().unwrap();
        let issued = |at| Grant { issued_at: Some(WallTime(at)), ..Grant::debug() };
        let revoked = RevocationList::default();
        let revoke = |uid: Option<UserId>, at: u64| {
            revoked.revoke(app("a"), uid, WallTime(at), WallTime(at.saturating_sub(5_000)));
        };
        let is = |uid: u64, at| revoked.is_revoked(&app("a"), Some(UserId(uid)), &issued(at));
        assert!(!is(7, 0));
        revoke(Some(UserId(7)), 5_000);
        assert!(is(7, 4_999) && !is(7, 5_000) && !is(8, 0));
        revoke(Some(UserId(7)), 4_000);
        assert!(is(7, 4_999), "an earlier time changes nothing");
        revoke(None, 6_000);
        assert!(is(7, 5_999) && is(8, 5_999) && !is(8, 6_000));
        assert!(!revoked.is_revoked(&app("b"), Some(UserId(7)), &issued(0)));
        assert!(
            !revoked.is_revoked(&app("a"), Some(UserId(7)), &Grant::debug()),
            "debug mode has no token"
        );
        let named = Grant { uid: Some(UserId(7)), ..issued(5_999) };
        assert!(revoked.is_revoked(&app("a"), None, &named));
        revoke(Some(UserId(8)), 20_000);
        let all = revoked.0.read().unwrap();
        assert_eq!(all[&app("a")].len(), 1, "the others are too old for any token");
    }
}
