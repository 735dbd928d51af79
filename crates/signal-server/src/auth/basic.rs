//! NERTC basic tokens: base64 of the JSON `{signature, curTime, ttl}`. Comes in: a token, and the uid and channel of
//! its user. Goes out: a grant. Deliberately absent: the clock.
//!
//! `signature` is the SHA-1 of appKey, uid, curTime, ttl, channelName and secret without delimiters, so digits could
//! move between adjacent fields. The checks here allow only one spelling of each field (AUT-2); `config/` ensures that
//! no lifetime is a prefix of another and that no two apps share a secret.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use lianmai_protocol::{Appkey, ChannelName, ErrorName, Rights, UserId, WallTime};
use lianmai_signal_engine::Grant;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::config::{BasicKey, Secret};

/// `curTime` in milliseconds has 13 digits from 2001 to 2286.
const CUR_TIME: std::ops::RangeInclusive<u64> = 1_000_000_000_000..=9_999_999_999_999;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    signature: String,
    cur_time: u64,
    ttl: u32,
}

/// Checks a token for `uid` and `channel`.
pub(super) fn verify(
    key: &BasicKey,
    appkey: &Appkey,
    token: &str,
    uid: UserId,
    channel: &ChannelName,
) -> Result<Grant, ErrorName> {
    let invalid = || ErrorName::TokenInvalid;
    let json = BASE64.decode(token).map_err(|_| invalid())?;
    let token: Token = serde_json::from_slice(&json).map_err(|_| invalid())?;
    let signed = signature(&key.secret, appkey, channel, uid, token.cur_time, token.ttl);
    let is_signed = Secret::new(signed).equals(&token.signature.to_ascii_lowercase());
    let begins_with_digit = channel.as_str().starts_with(|c: char| c.is_ascii_digit());
    if !is_signed
        || !CUR_TIME.contains(&token.cur_time)
        || !key.allowed_ttls.contains(&token.ttl)
        || (begins_with_digit && !key.allow_digit_names)
    {
        return Err(invalid());
    }
    Ok(Grant {
        rights: Rights::MEMBER,
        uid: Some(uid),
        channel: Some(channel.clone()),
        issued_at: Some(WallTime(token.cur_time)),
        // The engine checks a `curTime` in the future by `issued_at`.
        not_before: None,
        expires: Some(WallTime(token.cur_time + u64::from(token.ttl) * 1000)),
        ends_membership: false,
    })
}

/// Lower-case hexadecimal SHA-1. The integers are written in their canonical decimal form.
fn signature(
    secret: &Secret,
    appkey: &Appkey,
    channel: &ChannelName,
    uid: UserId,
    cur_time_ms: u64,
    ttl_s: u32,
) -> String {
    let text = format!("{appkey}{uid}{cur_time_ms}{ttl_s}{channel}{}", secret.expose());
    Sha1::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a token in the way of an app server.
#[must_use]
pub fn gen_token(
    secret: &Secret,
    appkey: &Appkey,
    channel: &ChannelName,
    uid: UserId,
    issued_at: WallTime,
    ttl_s: u32,
) -> String {
    let signature = signature(secret, appkey, channel, uid, issued_at.0, ttl_s);
    let token = Token { signature, cur_time: issued_at.0, ttl: ttl_s };
    BASE64.encode(serde_json::to_vec(&token).unwrap_or_default())
}
