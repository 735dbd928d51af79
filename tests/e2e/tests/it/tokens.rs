//! Tokens as an app server makes them, implemented a second time so that the test does not depend on the server's code,
//! and the server's answer to each.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha1::Digest as _;

use crate::hostile::{Input, Row, lobby, member, run_topic};

const SECRET: &str = "a secret of thirty-two bytes or more";
const OTHER_SECRET: &str = "another secret of thirty-two bytes or more";
const BASIC_SECRET: &str = "sixteen bytes at least";

/// Apps of the tests: `demo` without tokens, `safe` with both kinds, `other` with its own key.
pub(crate) const APPS: &str = r#"
[[apps]]
appkey = "demo"
mode = "debug"
creator_moderates = true
[[apps]]
appkey = "safe"
[[apps.jwt]]
kid = "k1"
secret = "a secret of thirty-two bytes or more"
[apps.basic]
secret = "sixteen bytes at least"
allowed_ttls_s = [3600]
[[apps]]
appkey = "other"
[[apps.jwt]]
kid = "k1"
secret = "another secret of thirty-two bytes or more"
"#;

/// Unix time in seconds.
pub(crate) fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn sign(header: &Value, claims: &Value, secret: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(header), part(claims));
    let mut block = hmac::digest::Key::<Hmac<sha2::Sha256>>::default();
    block[..secret.len()].copy_from_slice(secret.as_bytes());
    let mut mac = Hmac::<sha2::Sha256>::new(&block);
    mac.update(text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// A JWT of the app `safe` for a uid in a channel, with every right of a member. `change` may make it wrong.
pub(crate) fn jwt(channel: &str, uid: &str, change: impl FnOnce(&mut Value, &mut Value)) -> String {
    let now = now_s();
    let kinds = ["audio", "video", "screenShare", "slaveAudio"];
    let mut header = json!({"alg": "HS256", "typ": "JWT", "kid": "k1"});
    let mut claims = json!({
        "appkey": "safe", "channel": channel, "uid": uid, "iat": now, "exp": now + 600,
        "rights": {"publish": kinds, "subscribe": kinds, "broadcast": true, "tasks": false,
                   "message": true, "moderate": false},
    });
    change(&mut header, &mut claims);
    sign(&header, &claims, SECRET)
}

/// A basic token of the app `safe` that was issued `age_s` ago.
pub(crate) fn basic(channel: &str, uid: &str, age_s: i64, ttl_s: u32) -> String {
    let cur_time = (now_s() - age_s) * 1000;
    let text = format!("safe{uid}{cur_time}{ttl_s}{channel}{BASIC_SECRET}");
    let signature: String =
        sha1::Sha1::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    let token = json!({"signature": signature, "curTime": cur_time, "ttl": ttl_s});
    STANDARD.encode(token.to_string())
}

/// A join of uid 7 to channel `room` of an app.
fn join(appkey: &str, token: Option<String>) -> Vec<Input> {
    let mut params = json!({"appkey": appkey, "channelName": "room", "uid": "7"});
    if let Some(token) = token {
        params["token"] = token.into();
    }
    vec![Input::Call("join", params)]
}

/// A row whose join is refused with `error`; the notice `closing` says whether to renew the token.
fn refused(name: &'static str, say: Vec<Input>, error: &'static str) -> Row {
    let action = if error == "tokenExpired" { "renewToken" } else { "none" };
    let closing = if action == "none" { "closing 4503 none" } else { "closing 4503 renewToken" };
    lobby(name, say, &[error, closing, "close 4503 joinRefused"])
}

fn rows() -> Vec<Row> {
    let safe = |token: String| join("safe", Some(token));
    let spoiled = |change: fn(&mut Value, &mut Value)| safe(jwt("room", "7", change));
    let good = || jwt("room", "7", |_, _| {});
    let unsigned = |alg: &str| {
        let signed = jwt("room", "7", |header, _| header["alg"] = alg.into());
        let end = signed.rfind('.').map_or(signed.len(), |at| at + 1);
        signed[..end].to_owned()
    };
    let mut flipped = good().into_bytes();
    let middle = flipped.len() - 20;
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    let invalid = "tokenInvalid";
    vec![
        refused("unknown appkey", join("nobody", None), "badAppkey"),
        refused("token in debug mode", join("demo", Some(good())), "tokenUnexpected"),
        refused("no token in safe mode", join("safe", None), "tokenMissing"),
        refused("empty token", safe(String::new()), invalid),
        refused("token of dots", safe("..".to_owned()), invalid),
        refused("token of noise", safe("\u{1F980}".repeat(50)), invalid),
        refused("token of 9000 bytes", safe("A".repeat(9000)), invalid),
        refused("changed signature", safe(String::from_utf8_lossy(&flipped).into_owned()), invalid),
        refused("alg none", safe(unsigned("none")), invalid),
        refused("alg none, signed", spoiled(|header, _| header["alg"] = "none".into()), invalid),
        refused("alg HS512 by name", spoiled(|header, _| header["alg"] = "HS512".into()), invalid),
        refused("unknown kid", spoiled(|header, _| header["kid"] = "k2".into()), invalid),
        refused("critical extension", spoiled(|header, _| header["crit"] = json!(["x"])), invalid),
        refused(
            "expired",
            spoiled(|_, claims| {
                (claims["iat"], claims["exp"]) = ((now_s() - 60).into(), (now_s() - 10).into());
            }),
            "tokenExpired",
        ),
        refused(
            "not yet valid",
            spoiled(|_, claims| claims["nbf"] = (now_s() + 60).into()),
            "tokenNotYetValid",
        ),
        refused(
            "issued in future",
            spoiled(|_, claims| {
                (claims["iat"], claims["exp"]) = ((now_s() + 600).into(), (now_s() + 900).into());
            }),
            "tokenNotYetValid",
        ),
        refused("without exp", spoiled(|_, claims| claims["exp"] = Value::Null), invalid),
        refused(
            "without iat",
            spoiled(|_, claims| {
                claims.as_object_mut().map(|claims| claims.remove("iat"));
            }),
            invalid,
        ),
        refused("exp of 1e300", spoiled(|_, claims| claims["exp"] = 1e300.into()), invalid),
        refused(
            "for another app",
            spoiled(|_, claims| claims["appkey"] = "other".into()),
            "badAppkey",
        ),
        refused(
            "with another app's key",
            safe(sign(
                &json!({"alg": "HS256", "kid": "k1"}),
                &json!({"appkey": "safe", "channel": "room", "uid": "7", "iat": now_s(), "exp": now_s() + 60}),
                OTHER_SECRET,
            )),
            invalid,
        ),
        refused(
            "for another channel",
            spoiled(|_, claims| claims["channel"] = "room2".into()),
            "channelMismatch",
        ),
        refused("for another uid", spoiled(|_, claims| claims["uid"] = "8".into()), "uidMismatch"),
        refused(
            "broadcaster without right",
            {
                let token = jwt("room", "7", |_, claims| {
                    claims["rights"] = json!({"subscribe": ["audio"]})
                });
                let params = json!({"appkey": "safe", "channelName": "room", "uid": "7", "role": "broadcaster", "token": token});
                vec![Input::Call("join", params)]
            },
            "forbidden",
        ),
        refused("basic: not base64", safe("***".to_owned()), invalid),
        refused("basic: not JSON", safe(STANDARD.encode("hello")), invalid),
        refused("basic: another uid", safe(basic("room", "8", 0, 3600)), invalid),
        refused("basic: another channel", safe(basic("room2", "7", 0, 3600)), invalid),
        refused("basic: another lifetime", safe(basic("room", "7", 0, 7200)), invalid),
        refused("basic: expired", safe(basic("room", "7", 3700, 3600)), "tokenExpired"),
        refused("basic: of the future", safe(basic("room", "7", -400, 3600)), "tokenNotYetValid"),
        refused(
            "basic: digits moved",
            {
                // The same digest, read as uid 71 and a time without its first digit.
                let token = basic("room", "7", 0, 3600);
                let params =
                    json!({"appkey": "safe", "channelName": "room", "uid": "71", "token": token});
                vec![Input::Call("join", params)]
            },
            invalid,
        ),
        member(
            "renewal in debug mode",
            vec![Input::Call("renewToken", json!({"token": good()}))],
            &["tokenUnexpected"],
        ),
        // Each kind of token is accepted if nothing is wrong with it.
        lobby(
            "good JWT",
            [safe(good()), vec![Input::Call("leave", json!({}))]].concat(),
            &["ok", "ok", "closing 1000 none", "close 1000 left"],
        )
        .once(),
        lobby(
            "good basic token",
            [safe(basic("room", "7", 0, 3600)), vec![Input::Call("leave", json!({}))]].concat(),
            &["ok", "ok", "closing 1000 none", "close 1000 left"],
        )
        .once(),
    ]
}

/// Proves AUT-1, AUT-2, AUT-3, AUT-5, JOI-6, JOI-9, LIM-1, SES-4, TOK-2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bad_token_opens_a_channel() -> Result<()> {
    println!("{}", run_topic("tokens", &rows()).await?);
    Ok(())
}
