//! Checks tokens. Comes in: a `join`, or the token of a `renewToken`. Goes out: its grant, or the error for the client.
//! Deliberately absent: the clock. The engine checks times, channel, uid and bans, because it knows the time and the
//! bans.

mod basic;
mod jwt;
mod revocations;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use lianmai_protocol::limits::MAX_TOKEN_BYTES;
use lianmai_protocol::message::session::Join;
use lianmai_protocol::{Appkey, ChannelName, ErrorName, UserId};
use lianmai_signal_engine::Grant;

use crate::config::{AppConfig, AppMode, BasicKey};
use jwt::JwtVerifier;

pub use basic::gen_token as gen_basic_token;
pub use jwt::{GenError, TokenSpec, gen_token as gen_jwt};
pub(crate) use revocations::RevocationList;

/// Checks the tokens of all apps.
#[derive(Debug)]
pub struct Authenticator {
    apps: BTreeMap<Appkey, Mode>,
    revocations: RevocationList,
}

#[derive(Debug)]
enum Mode {
    Debug,
    Safe(Box<TokenVerifier>),
}

#[derive(Debug)]
struct TokenVerifier {
    basic: Option<BasicKey>,
    jwt: JwtVerifier,
}

impl Authenticator {
    /// An authenticator with the keys of these apps.
    #[must_use]
    pub fn new(apps: &[AppConfig]) -> Self {
        let mode = |app: &AppConfig| match &app.mode {
            AppMode::Debug => Mode::Debug,
            AppMode::Safe(keys) => Mode::Safe(Box::new(TokenVerifier {
                basic: keys.basic.clone(),
                jwt: JwtVerifier::new(&keys.jwt),
            })),
        };
        let apps = apps.iter().map(|app| (app.appkey.clone(), mode(app))).collect();
        Authenticator { apps, revocations: RevocationList::default() }
    }

    /// The tokens that were revoked.
    pub(crate) fn revocations(&self) -> &RevocationList {
        &self.revocations
    }

    /// The grant for a `join`.
    ///
    /// # Errors
    /// `badAppkey`, `tokenUnexpected`, `tokenMissing`, `tokenInvalid`, `tokenRevoked`, `badUid` (a token needs a uid).
    pub fn verify_join(&self, join: &Join) -> Result<Grant, ErrorName> {
        match (self.mode(&join.appkey)?, join.token.as_deref()) {
            (Mode::Debug, None) => Ok(Grant::debug()),
            (Mode::Debug, Some(_)) => Err(ErrorName::TokenUnexpected),
            (Mode::Safe(_), None) => Err(ErrorName::TokenMissing),
            (Mode::Safe(keys), Some(token)) => {
                let grant = keys.verify(&join.appkey, token, join.uid, &join.channel_name)?;
                // Without a uid in the join and in the token, the server would have to invent one.
                join.uid.or(grant.uid).ok_or(ErrorName::BadUid)?;
                self.unless_revoked(&join.appkey, join.uid, grant)
            }
        }
    }

    /// The grant of a `renewToken` for a session of `uid` in `channel`. A basic token contains neither, so its check
    /// needs both.
    ///
    /// # Errors
    /// `badAppkey`, `tokenUnexpected`, `tokenInvalid`, `tokenRevoked`.
    pub fn verify_renewal(
        &self,
        appkey: &Appkey,
        token: &str,
        uid: UserId,
        channel: &ChannelName,
    ) -> Result<Grant, ErrorName> {
        match self.mode(appkey)? {
            Mode::Debug => Err(ErrorName::TokenUnexpected),
            Mode::Safe(keys) => {
                let grant = keys.verify(appkey, token, Some(uid), channel)?;
                self.unless_revoked(appkey, Some(uid), grant)
            }
        }
    }

    fn unless_revoked(
        &self,
        appkey: &Appkey,
        uid: Option<UserId>,
        grant: Grant,
    ) -> Result<Grant, ErrorName> {
        if self.revocations.is_revoked(appkey, uid, &grant) {
            return Err(ErrorName::TokenRevoked);
        }
        Ok(grant)
    }

    fn mode(&self, appkey: &Appkey) -> Result<&Mode, ErrorName> {
        self.apps.get(appkey).ok_or(ErrorName::BadAppkey)
    }
}

impl TokenVerifier {
    fn verify(
        &self,
        appkey: &Appkey,
        token: &str,
        uid: Option<UserId>,
        channel: &ChannelName,
    ) -> Result<Grant, ErrorName> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(ErrorName::TokenInvalid);
        }
        // Base64 contains no dot.
        if token.bytes().filter(|&byte| byte == b'.').count() == 2 {
            return self.jwt.verify(appkey, token);
        }
        let key = self.basic.as_ref().ok_or(ErrorName::TokenInvalid)?;
        basic::verify(key, appkey, token, uid.ok_or(ErrorName::BadUid)?, channel)
    }
}
