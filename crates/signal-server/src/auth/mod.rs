//! Checks tokens. Comes in: a `join`, or the token of a `renewToken`. Goes out: what it grants, or the
//! error that the client is told. Deliberately absent: the clock. The engine judges times, channel, uid
//! and revocation (decisions D11).

mod basic;
mod jwt;

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

/// Checks the tokens of every app.
#[derive(Debug)]
pub struct Authenticator {
    apps: BTreeMap<Appkey, Mode>,
}

#[derive(Debug)]
enum Mode {
    Debug,
    Safe { basic: Option<BasicKey>, jwt: JwtVerifier },
}

impl Authenticator {
    /// Takes over the keys of the apps.
    #[must_use]
    pub fn new(apps: &[AppConfig]) -> Self {
        let mode = |app: &AppConfig| match &app.mode {
            AppMode::Debug => Mode::Debug,
            AppMode::Safe(keys) => {
                Mode::Safe { basic: keys.basic.clone(), jwt: JwtVerifier::new(&keys.jwt) }
            }
        };
        Authenticator { apps: apps.iter().map(|app| (app.appkey.clone(), mode(app))).collect() }
    }

    /// What a `join` is granted.
    ///
    /// # Errors
    /// `badAppkey`, `tokenUnexpected`, `tokenMissing`, `tokenInvalid`, `badUid` (a token needs a uid).
    pub fn verify_join(&self, join: &Join) -> Result<Grant, ErrorName> {
        match (self.mode(&join.appkey)?, join.token.as_deref()) {
            (Mode::Debug, None) => Ok(Grant::debug()),
            (Mode::Debug, Some(_)) => Err(ErrorName::TokenUnexpected),
            (Mode::Safe { .. }, None) => Err(ErrorName::TokenMissing),
            (Mode::Safe { basic, jwt }, Some(token)) => {
                let seat = join.uid.map(|uid| (uid, &join.channel_name));
                let grant = verify(basic.as_ref(), jwt, &join.appkey, token, seat)?;
                // Without a uid on either side the server would have to invent one.
                join.uid.or(grant.uid).ok_or(ErrorName::BadUid)?;
                Ok(grant)
            }
        }
    }

    /// What the token of a `renewToken` grants. A basic token says not for whom it is, so it can only be
    /// checked with `seat`, the uid and channel of the session; without that it is refused.
    ///
    /// # Errors
    /// As [`Authenticator::verify_join`].
    pub fn verify_renewal(
        &self,
        appkey: &Appkey,
        token: &str,
        seat: Option<(UserId, &ChannelName)>,
    ) -> Result<Grant, ErrorName> {
        match self.mode(appkey)? {
            Mode::Debug => Err(ErrorName::TokenUnexpected),
            Mode::Safe { basic, jwt } => match verify(basic.as_ref(), jwt, appkey, token, seat) {
                Err(ErrorName::BadUid) => Err(ErrorName::TokenInvalid),
                result => result,
            },
        }
    }

    fn mode(&self, appkey: &Appkey) -> Result<&Mode, ErrorName> {
        self.apps.get(appkey).ok_or(ErrorName::BadAppkey)
    }
}

fn verify(
    basic: Option<&BasicKey>,
    jwt: &JwtVerifier,
    appkey: &Appkey,
    token: &str,
    seat: Option<(UserId, &ChannelName)>,
) -> Result<Grant, ErrorName> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(ErrorName::TokenInvalid);
    }
    // No character of base64 is a dot.
    if token.bytes().filter(|&byte| byte == b'.').count() == 2 {
        return jwt.verify(appkey, token);
    }
    let key = basic.ok_or(ErrorName::TokenInvalid)?;
    let (uid, channel) = seat.ok_or(ErrorName::BadUid)?;
    basic::verify(key, appkey, token, uid, channel)
}

/// Whether two secrets are equal, in a time that depends on their lengths only.
#[must_use]
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    a.len() == b.len() && difference == 0
}
