//! Tokens and keys of an app. Comes in: requests about them. Goes out: tokens, keys, and revocations. Deliberately
//! absent: memberships; a revoked token is refused from then on, but ends no membership.

use std::sync::Arc;

use http::StatusCode;
use lianmai_protocol::{Appkey, ChannelName, Rights, UserId, WallTime};

use super::Service;
use crate::api::error::ApiError;
use crate::api::keys::{ApiKey, Scope, random_id};
use crate::auth::{TokenSpec, gen_jwt};
use crate::clock::wall_now;
use crate::config::{AppMode, Secret};
use crate::records::Revocation;

/// Maximum lifetime of a token in milliseconds. Older revocations concern no token.
const TOKEN_LIFE_MS: u64 = 7 * 24 * 3600 * 1000;
/// How far the clock of an app's server may be ahead, in milliseconds: as far as a join allows.
const MAX_AHEAD_MS: u64 = 60_000;
/// Maximum number of uids of an app with revoked tokens.
const MAX_REVOCATIONS: usize = 10_000;

/// The content of a token to mint.
#[derive(Clone, Debug)]
pub(crate) struct MintToken {
    pub(crate) uid: Option<UserId>,
    pub(crate) channel: Option<ChannelName>,
    pub(crate) rights: Option<Rights>,
    pub(crate) ttl_s: u64,
    pub(crate) not_before: Option<WallTime>,
}

impl Service {
    /// Mints a token of an app. Returns it with its expiry.
    pub(crate) fn mint(
        &self,
        appkey: &Appkey,
        of: MintToken,
    ) -> Result<(Secret, WallTime), ApiError> {
        let conflict = |name, text| Err(ApiError::new(StatusCode::CONFLICT, name, text));
        let keys = match self.apps.get(appkey) {
            Some(AppMode::Safe(keys)) => keys,
            _ => return conflict("debugMode", "The app is in debug mode and takes no tokens."),
        };
        let Some(key) = keys.jwt.first() else {
            return conflict("noSigningKey", "The configuration of the app has no JWT key.");
        };
        let MintToken { uid, channel, rights, ttl_s, not_before } = of;
        let issued_at = wall_now();
        let expires = issued_at.unix_seconds().saturating_add(ttl_s).saturating_mul(1000);
        let expires = WallTime(expires);
        if not_before.is_some_and(|begin| begin >= expires) {
            let text = "The token would end before it is valid.";
            return Err(ApiError::invalid_params(text).field("notBefore"));
        }
        let appkey = appkey.clone();
        let spec = TokenSpec { appkey, channel, uid, rights, issued_at, ttl_s, not_before };
        let token = gen_jwt(key, &spec)
            .map_err(|error| ApiError::invalid_params(error.to_string()).field("ttlS"))?;
        Ok((Secret::new(token), expires))
    }

    /// Revokes the tokens of one uid or of all that were issued before `not_before`, or before now. Returns that time.
    pub(crate) async fn revoke_tokens(
        &self,
        appkey: &Appkey,
        uid: Option<UserId>,
        not_before: Option<WallTime>,
    ) -> Result<WallTime, ApiError> {
        let now = wall_now();
        let not_before = not_before.unwrap_or(now);
        if not_before.0 > now.0 + MAX_AHEAD_MS {
            let text = "The moment is more than 60 s in the future: nobody could join until then.";
            return Err(ApiError::new(StatusCode::CONFLICT, "inFuture", text).field("notBefore"));
        }
        let forget_before = now.0.saturating_sub(2 * TOKEN_LIFE_MS);
        if not_before.0 < forget_before {
            return Ok(not_before);
        }
        let row = Revocation {
            appkey: appkey.to_string(),
            uid: uid.map(|uid| uid.to_string()).unwrap_or_default(),
            not_before: not_before.0,
        };
        if !self.database.revoke(row, forget_before, MAX_REVOCATIONS).await? {
            let text = "As many uids have revoked tokens as may; revoke those of the whole app.";
            return Err(ApiError::new(StatusCode::CONFLICT, "tooManyRevocations", text));
        }
        self.revocations.revoke(appkey.clone(), uid, not_before, WallTime(forget_before));
        Ok(not_before)
    }

    /// Makes a key of an app, or for all apps. Returns its text, which is given only here.
    pub(crate) async fn add_key(
        &self,
        appkey: Option<Appkey>,
        name: String,
        scopes: Vec<Scope>,
        expires_at: Option<WallTime>,
    ) -> Result<(Arc<ApiKey>, Secret), ApiError> {
        let now = wall_now();
        if expires_at.is_some_and(|end| end <= now) {
            let error = ApiError::new(StatusCode::CONFLICT, "hasPassed", "The moment has passed.");
            return Err(error.field("expiresAt"));
        }
        let id = random_id().map_err(|_| lianmai_protocol::ErrorName::InternalError)?;
        let key = ApiKey { id, appkey, scopes, name, created_at: now, expires_at };
        match self.keys.add(key.clone()).await? {
            Some(text) => Ok((Arc::new(key), text)),
            None => {
                let text = "There are as many keys as there may be.";
                Err(ApiError::new(StatusCode::CONFLICT, "tooManyKeys", text))
            }
        }
    }

    /// Revokes a key.
    pub(crate) async fn revoke_key(
        &self,
        appkey: Option<&Appkey>,
        id: &str,
    ) -> Result<(), ApiError> {
        if self.keys.revoke(appkey, id).await? {
            return Ok(());
        }
        Err(ApiError::not_found("noSuchKey", "No such key."))
    }
}
