use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use lianmai_protocol::{KindSet, MediaKind, Rights, WallTime};
use lianmai_signal_engine::AppPolicy;
use serde_json::{Value, json};
use sha2::{Sha256, Sha512};

use super::*;
use crate::config::{JwtKey, MediaServer, Secret, TokenKeys};

const JWT_SECRET: &str = "0123456789abcdef0123456789abcdef";
const OTHER_SECRET: &str = "fedcba9876543210fedcba9876543210";
const BASIC_SECRET: &str = "sixteen bytes ok";
/// 2023-11-14.
const NOW_S: u64 = 1_700_000_000;
const WEEK_S: u64 = 7 * 24 * 3600;

fn app(appkey: &str, mode: AppMode) -> AppConfig {
    AppConfig {
        appkey: appkey.parse().unwrap(),
        mode,
        policy: AppPolicy::default(),
        media: MediaServer::Relay,
        forwards: Vec::new(),
    }
}

fn key(kid: &str, secret: &str) -> JwtKey {
    JwtKey { kid: kid.into(), secret: Secret::new(secret) }
}

fn basic_key(allow_digit_names: bool) -> Option<BasicKey> {
    let secret = Secret::new(BASIC_SECRET);
    Some(BasicKey { secret, allowed_ttls: vec![3600, 86400], allow_digit_names })
}

/// Apps: `demo` (debug), `live` (one JWT key), `two` (two JWT keys), `nim` and `digits` (basic).
fn authenticator() -> Authenticator {
    let jwt = |keys: Vec<JwtKey>| AppMode::Safe(TokenKeys { basic: None, jwt: keys });
    let basic = |digits| AppMode::Safe(TokenKeys { basic: basic_key(digits), jwt: vec![] });
    Authenticator::new(&[
        app("demo", AppMode::Debug),
        app("live", jwt(vec![key("k1", JWT_SECRET)])),
        app("two", jwt(vec![key("k1", JWT_SECRET), key("k2", OTHER_SECRET)])),
        app("nim", basic(false)),
        app("digits", basic(true)),
    ])
}

fn join(appkey: &str, channel: &str, uid: Option<u64>, token: Option<String>) -> Join {
    Join {
        appkey: appkey.parse().unwrap(),
        channel_name: channel.parse().unwrap(),
        uid: uid.map(UserId),
        token,
        role: None,
        join_id: None,
        continues: None,
        name: None,
        attributes: Default::default(),
    }
}

fn enter(appkey: &str, token: impl Into<String>) -> Result<Grant, ErrorName> {
    authenticator().verify_join(&join(appkey, "room", Some(7), Some(token.into())))
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A JWT made by hand.
fn forge(header: &Value, claims: &Value, secret: &str) -> String {
    let signed = format!("{}.{}", encode(header), encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

fn header() -> Value {
    json!({"alg": "HS256", "kid": "k1"})
}

fn claims() -> Value {
    json!({"appkey": "live", "iat": NOW_S, "exp": NOW_S + 3600})
}

/// The usual claims with some changed; null removes one.
fn with(changes: Value) -> Value {
    let mut all = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => all.as_object_mut().unwrap().remove(name),
            _ => all.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    all
}

/// Proves AUT-1, TOK-2.
#[test]
fn debug_apps_need_no_token() {
    let authenticator = authenticator();
    let enter = |token: Option<&str>| {
        authenticator.verify_join(&join("demo", "room", None, token.map(str::to_owned)))
    };
    assert_eq!(enter(None), Ok(Grant::debug()));
    assert_eq!(enter(Some("")), Err(ErrorName::TokenUnexpected));
    assert_eq!(enter(Some("a.b.c")), Err(ErrorName::TokenUnexpected));
    let renewal = authenticator.verify_renewal(
        &"demo".parse().unwrap(),
        "a.b.c",
        UserId(7),
        &"room".parse().unwrap(),
    );
    assert_eq!(renewal, Err(ErrorName::TokenUnexpected));
}

/// Proves AUT-1.
#[test]
fn safe_apps_need_a_token() {
    let authenticator = authenticator();
    assert_eq!(
        authenticator.verify_join(&join("live", "room", Some(7), None)),
        Err(ErrorName::TokenMissing)
    );
    assert_eq!(
        authenticator.verify_join(&join("gone", "room", Some(7), None)),
        Err(ErrorName::BadAppkey)
    );
    for garbage in ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "e30=", "{}", "\u{1f600}"] {
        for app in ["live", "nim"] {
            assert_eq!(enter(app, garbage), Err(ErrorName::TokenInvalid), "{app} {garbage:?}");
        }
    }
}

/// Another implementation of HMAC and base64 made the token.
/// Proves AUT-3.
#[test]
fn a_jwt_of_another_library_is_accepted() {
    let token = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiSldUIn0.eyJhcHBrZXkiOiJsaXZlIiwiY2hhbm5lbCI6InJvb20iLCJ1aWQiOiI3IiwiaWF0IjoxNzAwMDAwMDAwLCJleHAiOjE3MDAwMDM2MDB9.L0uv_vuySTpMgJY0wOSWl0beQ0uRW991k2MXcwEkmz8";
    let expected = Grant {
        rights: Rights::MEMBER,
        uid: Some(UserId(7)),
        channel: Some("room".parse().unwrap()),
        issued_at: Some(WallTime(NOW_S * 1000)),
        not_before: None,
        expires: Some(WallTime((NOW_S + 3600) * 1000)),
        ends_membership: true,
    };
    assert_eq!(enter("live", token), Ok(expected));
    for at in 0..token.len() {
        let mut bytes = token.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert_eq!(enter("live", changed.as_str()), Err(ErrorName::TokenInvalid), "{changed}");
    }
}

/// Proves AUT-3.
#[test]
fn generated_jwts_are_accepted() {
    let rights =
        Rights { moderate: true, publish: KindSet::of(&MediaKind::Audio), ..Rights::default() };
    let spec = TokenSpec {
        appkey: "two".parse().unwrap(),
        channel: Some("room".parse().unwrap()),
        uid: Some(UserId(u64::MAX)),
        rights: Some(rights),
        issued_at: WallTime(NOW_S * 1000 + 999),
        ttl_s: WEEK_S,
        not_before: Some(WallTime((NOW_S + 5) * 1000)),
    };
    let token = gen_jwt(&key("k2", OTHER_SECRET), &spec).unwrap();
    let grant = enter("two", token.as_str()).unwrap();
    let expected = Grant {
        rights,
        uid: spec.uid,
        channel: spec.channel.clone(),
        issued_at: Some(WallTime(NOW_S * 1000)),
        not_before: spec.not_before,
        expires: Some(WallTime((NOW_S + WEEK_S) * 1000)),
        ends_membership: true,
    };
    assert_eq!(grant, expected);
    // The same for a renewal; the engine compares uid and channel with the session.
    let renewal = authenticator().verify_renewal(
        &spec.appkey,
        &token,
        UserId(1),
        &"elsewhere".parse().unwrap(),
    );
    assert_eq!(renewal, Ok(expected));
    for ttl_s in [0, WEEK_S + 1] {
        assert!(gen_jwt(&key("k2", OTHER_SECRET), &TokenSpec { ttl_s, ..spec.clone() }).is_err());
    }
}

/// Proves AUT-3.
#[test]
fn the_algorithm_is_pinned() {
    let unsigned =
        |alg: &str| format!("{}.{}.", encode(&json!({"alg": alg, "kid": "k1"})), encode(&claims()));
    for alg in ["none", "None", "", "HS256"] {
        assert_eq!(enter("live", unsigned(alg)), Err(ErrorName::TokenInvalid), "{alg}");
    }
    for alg in ["none", "HS384", "HS512", "RS256", "ES256", "EdDSA", "hs256"] {
        let token = forge(&json!({"alg": alg, "kid": "k1"}), &claims(), JWT_SECRET);
        assert_eq!(enter("live", token), Err(ErrorName::TokenInvalid), "{alg}");
    }
    // Signed correctly, but with HS512 instead of HS256.
    let signed = format!("{}.{}", encode(&json!({"alg": "HS512", "kid": "k1"})), encode(&claims()));
    let mut mac = Hmac::<Sha512>::new_from_slice(JWT_SECRET.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
    assert_eq!(enter("live", token), Err(ErrorName::TokenInvalid));
    let critical = json!({"alg": "HS256", "kid": "k1", "crit": ["exp"]});
    assert_eq!(
        enter("live", forge(&critical, &claims(), JWT_SECRET)),
        Err(ErrorName::TokenInvalid)
    );
}

/// Proves AUT-3.
#[test]
fn the_kid_selects_the_key() {
    let token = |app: &str, kid: Value, secret: &str| {
        let header = match kid {
            Value::Null => json!({"alg": "HS256"}),
            kid => json!({"alg": "HS256", "kid": kid}),
        };
        enter(app, forge(&header, &with(json!({"appkey": app})), secret)).map(|_| ())
    };
    assert_eq!(token("live", json!("k1"), JWT_SECRET), Ok(()));
    assert_eq!(token("live", Value::Null, JWT_SECRET), Ok(()), "one key needs no kid");
    assert_eq!(token("two", json!("k2"), OTHER_SECRET), Ok(()));
    for (app, kid, secret) in [
        ("live", json!("k2"), JWT_SECRET),
        ("live", json!("k1"), OTHER_SECRET),
        ("live", json!(""), JWT_SECRET),
        ("two", Value::Null, JWT_SECRET),
        ("two", json!("k1"), OTHER_SECRET),
        ("nim", json!("k1"), JWT_SECRET),
        ("nim", Value::Null, ""),
    ] {
        assert_eq!(token(app, kid.clone(), secret), Err(ErrorName::TokenInvalid), "{app} {kid}");
    }
}

/// Proves AUT-3, AUT-5, AUT-6.
#[test]
fn claims_are_checked() {
    let check = |changes: Value| enter("live", forge(&header(), &with(changes), JWT_SECRET));
    for (changes, expected) in [
        (json!({"appkey": "two"}), ErrorName::BadAppkey),
        (json!({"appkey": null}), ErrorName::TokenInvalid),
        (json!({"appkey": 5}), ErrorName::TokenInvalid),
        (json!({"exp": null}), ErrorName::TokenInvalid),
        (json!({"exp": NOW_S + WEEK_S + 1}), ErrorName::TokenInvalid),
        (json!({"exp": NOW_S - 1}), ErrorName::TokenInvalid),
        (json!({"exp": "1700003600"}), ErrorName::TokenInvalid),
        (json!({"exp": -1}), ErrorName::TokenInvalid),
        (json!({"exp": u64::MAX, "iat": u64::MAX}), ErrorName::TokenInvalid),
        (json!({"exp": 1e300, "iat": 1e300}), ErrorName::TokenInvalid),
        // Issued in 1970, so it lives too long (AUT-3).
        (json!({"iat": null}), ErrorName::TokenInvalid),
        (json!({"uid": "07"}), ErrorName::TokenInvalid),
        (json!({"uid": -1}), ErrorName::TokenInvalid),
        (json!({"uid": "18446744073709551616"}), ErrorName::TokenInvalid),
        (json!({"channel": ""}), ErrorName::TokenInvalid),
        (json!({"channel": "a/b"}), ErrorName::TokenInvalid),
        (json!({"rights": ["publish"]}), ErrorName::TokenInvalid),
        (json!({"nbf": "soon"}), ErrorName::TokenInvalid),
    ] {
        assert_eq!(check(changes.clone()), Err(expected), "{changes}");
    }
    let grant =
        |changes: Value| check(changes.clone()).unwrap_or_else(|e| panic!("{changes}: {e}"));
    assert_eq!(
        grant(json!({"exp": NOW_S + WEEK_S})).expires,
        Some(WallTime((NOW_S + WEEK_S) * 1000))
    );
    assert_eq!(grant(json!({"uid": 7})).uid, Some(UserId(7)));
    assert_eq!(grant(json!({"uid": "18446744073709551615"})).uid, Some(UserId(u64::MAX)));
    assert_eq!(grant(json!({"iat": NOW_S as f64 + 0.9})).issued_at, Some(WallTime(NOW_S * 1000)));
    assert_eq!(grant(json!({"nbf": NOW_S})).not_before, Some(WallTime(NOW_S * 1000)));
    assert_eq!(grant(json!({"aud": "x", "iss": 1, "sub": 7, "more": []})).rights, Rights::MEMBER);
    // Rights that `rights` does not name are not granted.
    let rights = grant(json!({"rights": {"publish": ["audio"], "moderate": true}})).rights;
    let expected =
        Rights { publish: KindSet::of(&MediaKind::Audio), moderate: true, ..Rights::default() };
    assert_eq!(rights, expected);
    assert_eq!(grant(json!({"rights": {}})).rights, Rights::default());
    // The library would check these with its own clock.
    assert!(check(json!({"iat": 10, "exp": 20})).is_ok());
    assert!(check(json!({"nbf": 253_402_300_799_u64})).is_ok());
}

/// Proves no rule of the protocol: which uid a join without one gets (table of `join`).
#[test]
fn a_token_needs_a_uid() {
    let authenticator = authenticator();
    let enter = |uid: Option<u64>, changes: Value| {
        let token = forge(&header(), &with(changes), JWT_SECRET);
        authenticator.verify_join(&join("live", "room", uid, Some(token))).map(|_| ())
    };
    assert_eq!(enter(None, json!({})), Err(ErrorName::BadUid));
    assert_eq!(enter(None, json!({"uid": "7"})), Ok(()));
    assert_eq!(enter(Some(7), json!({})), Ok(()));
    let token = nim_token(7, "room", NOW_MS, 3600);
    assert_eq!(
        authenticator.verify_join(&join("nim", "room", None, Some(token))),
        Err(ErrorName::BadUid)
    );
}

const NOW_MS: u64 = 1_700_000_000_123;

fn nim_token(uid: u64, channel: &str, cur_time_ms: u64, ttl_s: u32) -> String {
    let appkey = "nim".parse().unwrap();
    let secret = Secret::new(BASIC_SECRET);
    gen_basic_token(
        &secret,
        &appkey,
        &channel.parse().unwrap(),
        UserId(uid),
        WallTime(cur_time_ms),
        ttl_s,
    )
}

/// A basic token whose JSON is written by hand, correctly signed for (nim, 7, room).
fn nim_json(json: impl Fn(&str) -> String) -> String {
    let made = STANDARD.decode(nim_token(7, "room", NOW_MS, 3600)).unwrap();
    let made: Value = serde_json::from_slice(&made).unwrap();
    STANDARD.encode(json(made["signature"].as_str().unwrap()))
}

/// Another implementation made the signature and base64, for appkey `nim`.
/// Proves AUT-2, AUT-6.
#[test]
fn a_basic_token_of_another_library_is_accepted() {
    let token = "eyJzaWduYXR1cmUiOiAiMDdiOTNhYWEzZGUyNDEzZDYxOGQ4OGVmOWEyMTBjYTI1YmMwYjUxYyIsICJjdXJUaW1lIjogMTcwMDAwMDAwMDEyMywgInR0bCI6IDM2MDB9";
    let expected = Grant {
        rights: Rights::MEMBER,
        uid: Some(UserId(7)),
        channel: Some("room".parse().unwrap()),
        issued_at: Some(WallTime(NOW_MS)),
        not_before: None,
        expires: Some(WallTime(NOW_MS + 3_600_000)),
        ends_membership: false,
    };
    assert_eq!(enter("nim", token), Ok(expected.clone()));
    assert_eq!(enter("nim", token.trim_end_matches('=')), Ok(expected.clone()), "unpadded");
    let renewal = |uid, channel: &str| {
        let channel = channel.parse().unwrap();
        authenticator().verify_renewal(&"nim".parse().unwrap(), token, UserId(uid), &channel)
    };
    assert_eq!(renewal(7, "room"), Ok(expected));
    assert_eq!(renewal(8, "room"), Err(ErrorName::TokenInvalid));
    assert_eq!(renewal(7, "root"), Err(ErrorName::TokenInvalid));
}

/// Proves AUT-2.
#[test]
fn basic_tokens_are_for_one_uid_and_channel() {
    let authenticator = authenticator();
    let token = nim_token(7, "room", NOW_MS, 86400);
    let enter = |app: &str, channel: &str, uid| {
        let join = join(app, channel, Some(uid), Some(token.clone()));
        authenticator.verify_join(&join).map(|_| ())
    };
    assert_eq!(enter("nim", "room", 7), Ok(()));
    for (app, channel, uid) in
        [("nim", "room", 8), ("nim", "rooms", 7), ("digits", "room", 7), ("live", "room", 7)]
    {
        assert_eq!(enter(app, channel, uid), Err(ErrorName::TokenInvalid), "{app} {channel} {uid}");
    }
}

/// Fields are not delimited, so their spelling must be fixed.
/// Proves AUT-2.
#[test]
fn digits_cannot_move_between_fields() {
    let good =
        |signature: &str| format!(r#"{{"signature":"{signature}","curTime":{NOW_MS},"ttl":3600}}"#);
    assert!(enter("nim", nim_json(good)).is_ok());
    assert!(enter("nim", nim_json(|s| good(&s.to_ascii_uppercase()))).is_ok());
    let bad: [&dyn Fn(&str) -> String; 9] = [
        &|s| format!(r#"{{"signature":"{s}","curTime":{NOW_MS}.0,"ttl":3600}}"#),
        &|s| format!(r#"{{"signature":"{s}","curTime":"{NOW_MS}","ttl":3600}}"#),
        &|s| format!(r#"{{"signature":"{s}","curTime":{NOW_MS},"ttl":03600}}"#),
        &|s| format!(r#"{{"signature":"{s}","curTime":{NOW_MS},"ttl":3600.0}}"#),
        &|s| format!(r#"{{"signature":"{s}","curTime":{NOW_MS},"ttl":3600,"ttl":3600}}"#),
        &|s| format!(r#"{{"signature":"{s}","curTime":{NOW_MS},"ttl":3601}}"#),
        &|s| format!(r#"{{"signature":"{s}","curTime":{NOW_MS}}}"#),
        &|s| format!(r#"{{"signature":"{}","curTime":{NOW_MS},"ttl":3600}}"#, &s[1..]),
        &|_| format!(r#"{{"signature":"","curTime":{NOW_MS},"ttl":3600}}"#),
    ];
    for json in bad {
        let token = nim_json(json);
        assert_eq!(enter("nim", token.as_str()), Err(ErrorName::TokenInvalid), "{token}");
    }

    let authenticator = authenticator();
    let enter = |app: &str, channel: &str, uid, token: String| {
        authenticator.verify_join(&join(app, channel, Some(uid), Some(token))).map(|_| ())
    };
    // A `curTime` that has not 13 digits, and lifetimes that the app does not allow.
    for (cur_time_ms, ttl_s) in [
        (999_999_999_999, 3600),
        (10_000_000_000_000, 3600),
        (NOW_MS, 60),
        (NOW_MS, 0),
        (NOW_MS, 86401),
    ] {
        let token = nim_token(7, "room", cur_time_ms, ttl_s);
        assert_eq!(
            enter("nim", "room", 7, token),
            Err(ErrorName::TokenInvalid),
            "{cur_time_ms} {ttl_s}"
        );
    }
    // The signature for ttl 3600 and channel "room" also fits ttl 360 and channel "0room".
    let moved = nim_json(|s| format!(r#"{{"signature":"{s}","curTime":{NOW_MS},"ttl":360}}"#));
    assert_eq!(enter("nim", "0room", 7, moved), Err(ErrorName::TokenInvalid));
    // The signature for uid 71 and 1700… also fits uid 7 and 11700…, which has 14 digits.
    let signature = nim_token(71, "room", NOW_MS, 3600);
    let json: Value = serde_json::from_slice(&STANDARD.decode(signature).unwrap()).unwrap();
    let moved =
        json!({"signature": json["signature"], "curTime": 11_700_000_000_123_u64, "ttl": 3600});
    assert_eq!(
        enter("nim", "room", 7, STANDARD.encode(moved.to_string())),
        Err(ErrorName::TokenInvalid)
    );
    // A name that begins with a digit is refused unless the app allows it.
    assert_eq!(
        enter("nim", "4u", 7, nim_token(7, "4u", NOW_MS, 3600)),
        Err(ErrorName::TokenInvalid)
    );
    let token = gen_basic_token(
        &Secret::new(BASIC_SECRET),
        &"digits".parse().unwrap(),
        &"4u".parse().unwrap(),
        UserId(7),
        WallTime(NOW_MS),
        3600,
    );
    assert_eq!(enter("digits", "4u", 7, token), Ok(()));
}

/// Proves LIM-1.
#[test]
fn long_tokens_are_refused_unread() {
    let padded = |spaces: usize| {
        nim_json(|s| {
            format!(r#"{{"signature":"{s}","curTime":{NOW_MS},"ttl":3600}}{}"#, " ".repeat(spaces))
        })
    };
    let longest =
        (0..).map(padded).take_while(|token| token.len() <= MAX_TOKEN_BYTES).last().unwrap();
    assert!(enter("nim", longest.as_str()).is_ok());
    let longer = (0..).map(padded).find(|token| token.len() > MAX_TOKEN_BYTES).unwrap();
    assert_eq!(enter("nim", longer), Err(ErrorName::TokenInvalid));
    let jwt = |extra: usize| forge(&header(), &with(json!({"x": "x".repeat(extra)})), JWT_SECRET);
    assert!(jwt(5900).len() <= MAX_TOKEN_BYTES && enter("live", jwt(5900)).is_ok());
    assert!(jwt(6100).len() > MAX_TOKEN_BYTES);
    assert_eq!(enter("live", jwt(6100)), Err(ErrorName::TokenInvalid));
}

/// Proves no rule of the protocol: `Debug` output shows no secret.
#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?}", authenticator());
    for secret in [JWT_SECRET, OTHER_SECRET, BASIC_SECRET] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("k2"), "{shown}");
}
