//! JWT with HS256. Comes in: a token. Goes out: a grant. Deliberately absent: the clock, other algorithms and all
//! claims that are not in [`Claims`].

use std::collections::BTreeMap;
use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use lianmai_protocol::{Appkey, ChannelName, ErrorName, Rights, UserId, WallTime};
use lianmai_signal_engine::Grant;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::config::JwtKey;

/// Maximum lifetime of a token in seconds. Bans look back no further.
const MAX_LIFE_S: u64 = 7 * 24 * 3600;
/// Latest time in a token, in Unix seconds: the end of the year 9999.
const MAX_TIME_S: u64 = 253_402_300_799;

/// The keys of one app.
pub(super) struct JwtVerifier {
    keys: BTreeMap<String, DecodingKey>,
    validation: Validation,
}

impl fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtVerifier").field("kids", &self.keys.keys()).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    appkey: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channel: Option<ChannelName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rights: Option<Rights>,
    /// Without it, 1970 is assumed, and the token is refused because it lives too long (AUT-3).
    #[serde(default)]
    iat: Seconds,
    exp: Seconds,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<Seconds>,
}

/// Unix time in whole seconds; fractions are dropped.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(transparent)]
struct Seconds(u64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        let whole = number.as_u64().or_else(|| {
            // Exact: MAX_TIME_S is far below 2^53.
            let in_range = |seconds: &f64| (0.0..=MAX_TIME_S as f64).contains(seconds);
            number.as_f64().filter(in_range).map(|seconds| seconds as u64)
        });
        whole
            .filter(|seconds| *seconds <= MAX_TIME_S)
            .map(Seconds)
            .ok_or_else(|| de::Error::custom("time out of range"))
    }
}

impl From<Seconds> for WallTime {
    fn from(Seconds(seconds): Seconds) -> Self {
        WallTime(seconds * 1000)
    }
}

/// The header field that marks extensions as critical.
#[derive(Deserialize)]
struct Extensions {
    #[serde(default)]
    crit: Option<de::IgnoredAny>,
}

impl JwtVerifier {
    pub(super) fn new(keys: &[JwtKey]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // The engine checks the times. The library would use its own clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let decoding = |key: &JwtKey| DecodingKey::from_secret(key.secret.expose().as_bytes());
        let keys = keys.iter().map(|key| (key.kid.clone(), decoding(key))).collect();
        JwtVerifier { keys, validation }
    }

    pub(super) fn verify(&self, appkey: &Appkey, token: &str) -> Result<Grant, ErrorName> {
        let claims = self.claims(token).ok_or(ErrorName::TokenInvalid)?;
        if claims.appkey != appkey.as_str() {
            return Err(ErrorName::BadAppkey);
        }
        if claims.exp.0.checked_sub(claims.iat.0).is_none_or(|life| life > MAX_LIFE_S) {
            return Err(ErrorName::TokenInvalid);
        }
        Ok(Grant {
            rights: claims.rights.unwrap_or(Rights::MEMBER),
            uid: claims.uid,
            channel: claims.channel,
            issued_at: Some(claims.iat.into()),
            not_before: claims.nbf.map(WallTime::from),
            expires: Some(claims.exp.into()),
            ends_membership: true,
        })
    }

    /// The claims, if the signature is valid.
    fn claims(&self, token: &str) -> Option<Claims> {
        // Fails for `none` and all other algorithms that the library does not know; `validation` allows only HS256.
        let header = jsonwebtoken::decode_header(token).ok()?;
        let key = match header.kid {
            Some(kid) => self.keys.get(&kid)?,
            None if self.keys.len() == 1 => self.keys.values().next()?,
            None => return None,
        };
        let claims = jsonwebtoken::decode::<Claims>(token, key, &self.validation).ok()?.claims;
        has_no_extensions(token).then_some(claims)
    }
}

/// RFC 7515 §4.1.11: a verifier without extensions must refuse all tokens that mark one as critical.
fn has_no_extensions(token: &str) -> bool {
    use base64::Engine as _;
    let header = token.split('.').next().unwrap_or_default();
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(header)
        .ok()
        .and_then(|json| serde_json::from_slice::<Extensions>(&json).ok())
        .is_some_and(|header| header.crit.is_none())
}

/// The content of a token to make.
#[derive(Clone, Debug)]
pub struct TokenSpec {
    /// The app.
    pub appkey: Appkey,
    /// The only channel; any when absent.
    pub channel: Option<ChannelName>,
    /// The only user; any when absent.
    pub uid: Option<UserId>,
    /// Rights; those of a member when absent.
    pub rights: Option<Rights>,
    /// Time of issue; fractions of a second are dropped.
    pub issued_at: WallTime,
    /// Validity in seconds, at most 7 days.
    pub ttl_s: u64,
    /// The token is not valid before this time.
    pub not_before: Option<WallTime>,
}

/// Why a token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GenError {
    /// The validity is out of range, so the server would refuse the token.
    #[error("a token is valid for 1..={MAX_LIFE_S} seconds")]
    Life,
    /// The library failed.
    #[error("the token could not be signed")]
    Sign,
}

/// Makes a token in the way of an app server.
///
/// # Errors
/// [`GenError`].
pub fn gen_token(key: &JwtKey, spec: &TokenSpec) -> Result<String, GenError> {
    if !(1..=MAX_LIFE_S).contains(&spec.ttl_s) {
        return Err(GenError::Life);
    }
    let iat = spec.issued_at.unix_seconds();
    let claims = Claims {
        appkey: spec.appkey.to_string(),
        channel: spec.channel.clone(),
        uid: spec.uid,
        rights: spec.rights,
        iat: Seconds(iat),
        exp: Seconds(iat.saturating_add(spec.ttl_s)),
        nbf: spec.not_before.map(|at| Seconds(at.unix_seconds())),
    };
    let header = Header { kid: Some(key.kid.clone()), ..Header::new(Algorithm::HS256) };
    let secret = EncodingKey::from_secret(key.secret.expose().as_bytes());
    jsonwebtoken::encode(&header, &claims, &secret).map_err(|_| GenError::Sign)
}
