//! Tokens, and the tickets for resuming. In: a program that creates tokens, changes them, or writes them by hand.
//! Checked: a created token gives exactly its grant; a changed token is refused, or gives the same grant; an accepted
//! token has the right signature, and serves no other user; join and renewal judge alike. Deliberately absent: the
//! engine.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use lianmai_protocol::message::session::Join;
use lianmai_protocol::{
    Appkey, ChannelName, ErrorName, KindSet, MediaKind, Mid, Rights, UserId, WallTime,
};
use lianmai_signal_engine::{AppPolicy, ChannelKey, Grant, TicketClaims, TicketKey};
use lianmai_signal_server::auth::{Authenticator, TokenSpec, gen_basic_token, gen_jwt};
use lianmai_signal_server::config::{
    AppConfig, AppMode, BasicKey, JwtKey, MediaServer, Secret, TokenKeys,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::program::Program;

const JWT_SECRETS: [(&str, &str); 2] =
    [("k1", "0123456789abcdef0123456789abcdef"), ("k2", "fedcba9876543210fedcba9876543210")];
const BASIC_SECRET: &str = "sixteen bytes ok";
const BASIC_TTLS: [u32; 2] = [3600, 86_400];
const MAX_LIFE_S: u64 = 7 * 24 * 3600;
const MAX_TIME_S: u64 = 253_402_300_799;
/// 2023-11-14, in milliseconds since the epoch.
const NOW_MS: u64 = 1_700_000_000_000;
/// The range of the times of the tokens that are created here.
const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;

/// Apps: debug mode, one JWT key, two JWT keys, a basic key, and everything.
const APPS: [&str; 5] = ["demo", "live", "two", "nim", "all"];
const CHANNELS: [&str; 6] = ["room", "rooms", "4u", "0", "r", "~ \"|"];

/// Interprets any bytes as a token, and as a program that creates tokens.
pub fn tokens(data: &[u8]) {
    let mut program = Program::new(data);
    match program.byte() & 7 {
        0 => by_hand(&String::from_utf8_lossy(program.rest())),
        1 => made_jwt(&mut program),
        2 => timed_jwt(&mut program),
        3 => made_basic(&mut program),
        4 => made_ticket(&mut program),
        5 => signed_jwt(&mut program),
        6 => signed_basic(&mut program),
        _ => moved_digits(&mut program),
    }
}

fn authenticator() -> &'static Authenticator {
    static AUTHENTICATOR: OnceLock<Authenticator> = OnceLock::new();
    AUTHENTICATOR.get_or_init(|| {
        let app = |appkey: &str, basic: bool, keys: usize| AppConfig {
            appkey: name(appkey),
            mode: AppMode::Safe(TokenKeys {
                basic: basic.then(|| BasicKey {
                    secret: basic_secret(appkey),
                    allowed_ttls: BASIC_TTLS.to_vec(),
                    allow_digit_names: false,
                }),
                jwt: (0..keys).map(jwt_key).collect(),
            }),
            policy: AppPolicy::default(),
            media: MediaServer::Relay,
            forwards: Vec::new(),
        };
        let debug = AppMode::Debug;
        let demo = AppConfig { mode: debug, ..app("demo", false, 0) };
        Authenticator::new(&[
            demo,
            app("live", false, 1),
            app("two", false, 2),
            app("nim", true, 0),
            app("all", true, 2),
        ])
    })
}

fn name<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is a name"))
}

fn jwt_key(which: usize) -> JwtKey {
    let (kid, secret) = JWT_SECRETS[which % 2];
    JwtKey { kid: kid.to_owned(), secret: Secret::new(secret) }
}

/// Each app has its own secret.
fn basic_secret(appkey: &str) -> Secret {
    Secret::new(format!("{BASIC_SECRET} {appkey}"))
}

/// The grant for a join, which must equal that of a renewal.
fn enter(
    appkey: &str,
    token: &str,
    uid: Option<UserId>,
    channel: &str,
) -> Result<Grant, ErrorName> {
    let mut join: Join = serde_json::from_value(json!({
        "appkey": appkey, "channelName": channel, "uid": uid, "token": token,
    }))
    .expect("a join");
    join.token = Some(token.to_owned());
    let granted = authenticator().verify_join(&join);
    if let Some(uid) = uid {
        let renewed = authenticator().verify_renewal(&join.appkey, token, uid, &join.channel_name);
        assert_eq!(granted, renewed, "joining and renewing judge alike");
    }
    match &granted {
        Ok(grant) => check_grant(appkey, token, grant),
        Err(error) => assert!(
            matches!(
                error,
                ErrorName::TokenInvalid
                    | ErrorName::TokenUnexpected
                    | ErrorName::BadAppkey
                    | ErrorName::BadUid
            ),
            "{error}"
        ),
    }
    granted
}

/// Checks the grant of an accepted token, and for a JWT also its signature, with a separate implementation.
fn check_grant(appkey: &str, token: &str, grant: &Grant) {
    let expires = grant.expires.expect("every token ends");
    let issued = grant.issued_at.expect("every token was issued");
    assert!(issued <= expires && expires.0 - issued.0 <= MAX_LIFE_S * 1000);
    assert!(expires.0 <= MAX_TIME_S * 1000);
    if !grant.ends_membership {
        assert_eq!(grant.rights, Rights::MEMBER);
        assert!(grant.uid.is_some() && grant.channel.is_some());
        return;
    }
    let (signed, signature) = token.rsplit_once('.').expect("a JWT has three parts");
    let header = signed.split('.').next().unwrap_or_default();
    let header = decode(header).expect("a header in JSON");
    assert_eq!(header["alg"], "HS256");
    assert!(header.get("crit").is_none_or(Value::is_null), "nothing critical is understood");
    let keys = if appkey == "live" { 1 } else { 2 };
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
    let matches = |(kid, secret): &(&str, &str)| {
        let named = header["kid"].as_str().map_or(keys == 1, |named| named == *kid);
        named && mac(secret, signed) == signature
    };
    assert!(JWT_SECRETS[..keys].iter().any(matches), "signed with the key that it names");
    let claims = decode(signed.split('.').nth(1).unwrap_or_default()).expect("claims in JSON");
    assert_eq!(claims["appkey"], appkey);
}

fn decode(part: &str) -> Option<Value> {
    read(std::str::from_utf8(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()?)
}

/// Parses JSON as a reader does that skips unknown members: there the text may contain values that [`Value`] cannot
/// hold, such as `5e400`.
fn read(text: &str) -> Option<Value> {
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    let known = members.into_iter().filter_map(|(name, raw)| Some((name, read(raw.get())?)));
    Some(Value::Object(known.collect()))
}

fn mac(secret: &str, signed: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(signed.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Any text as a token. `check_grant` checks an accepted one.
fn by_hand(token: &str) {
    assert_eq!(
        TicketClaims::open(&TicketKey::new([7; 32]), token),
        None,
        "no token opens with another key"
    );
    for appkey in APPS {
        for uid in [None, Some(UserId(7))] {
            let granted = enter(appkey, token, uid, "room");
            assert!(appkey != "demo" || granted == Err(ErrorName::TokenUnexpected));
        }
    }
}

fn made_jwt(program: &mut Program<'_>) {
    let which = usize::from(program.byte());
    let appkey = program.pick(&["live", "two", "all"]);
    let which = if appkey == "live" { 0 } else { which };
    let channel = program.pick(&CHANNELS);
    let for_channel = program.flag();
    let uid = program.flag().then(|| UserId(program.huge()));
    let rights = program.flag().then(|| rights(program));
    let ttl_s = 1 + u64::from(program.long()) % MAX_LIFE_S;
    let issued_at = WallTime(NOW_MS + u64::from(program.long()));
    let not_before = program.flag().then(|| WallTime(NOW_MS + u64::from(program.word()) * 1000));
    let spec = TokenSpec {
        appkey: name(appkey),
        channel: for_channel.then(|| name(channel)),
        uid,
        rights,
        issued_at,
        ttl_s,
        not_before,
    };
    let token = gen_jwt(&jwt_key(which), &spec).expect("a token within its limits");
    let seconds = |at: WallTime| WallTime(at.unix_seconds() * 1000);
    let expected = Grant {
        rights: rights.unwrap_or(Rights::MEMBER),
        uid,
        channel: spec.channel,
        issued_at: Some(seconds(issued_at)),
        not_before,
        expires: Some(WallTime(seconds(issued_at).0 + ttl_s * 1000)),
        ends_membership: true,
    };
    let enter = |appkey, token: &str| enter(appkey, token, Some(UserId(7)), channel);
    assert_eq!(enter(appkey, &token), Ok(expected), "the granted rights are those of the token");
    for other in APPS {
        assert!(other == appkey || enter(other, &token).is_err(), "a token is for one app");
    }
    let changed = changed(program, &token);
    if changed != token {
        assert_eq!(enter(appkey, &changed), Err(ErrorName::TokenInvalid), "{changed}");
    }
}

fn rights(program: &mut Program<'_>) -> Rights {
    let bits = program.word();
    let kinds = |bits: u16| -> KindSet {
        let chosen = MediaKind::ALL.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
        chosen.map(|(_, kind)| kind.clone()).collect()
    };
    Rights {
        publish: kinds(bits),
        subscribe: kinds(bits >> 4),
        broadcast: bits >> 8 & 1 == 1,
        tasks: bits >> 9 & 1 == 1,
        message: bits >> 10 & 1 == 1,
        moderate: bits >> 11 & 1 == 1,
    }
}

/// A basic token and its contents.
struct Basic {
    appkey: &'static str,
    channel: &'static str,
    uid: UserId,
    issued_at: WallTime,
    ttl_s: u32,
    token: String,
}

fn basic(program: &mut Program<'_>) -> Basic {
    let appkey = program.pick(&["nim", "all"]);
    let channel = program.pick(&CHANNELS);
    let uid = UserId(program.huge() >> (program.byte() & 63));
    let ttl_s = program.pick(&BASIC_TTLS);
    let issued_at = WallTime(NOW_MS + u64::from(program.long()));
    let secret = basic_secret(appkey);
    let token = gen_basic_token(&secret, &name(appkey), &name(channel), uid, issued_at, ttl_s);
    Basic { appkey, channel, uid, issued_at, ttl_s, token }
}

fn made_basic(program: &mut Program<'_>) {
    let made = basic(program);
    let Basic { appkey, channel, uid, issued_at, ttl_s, token } = &made;
    let expected = Grant {
        rights: Rights::MEMBER,
        uid: Some(*uid),
        channel: Some(name(channel)),
        issued_at: Some(*issued_at),
        not_before: None,
        expires: Some(WallTime(issued_at.0 + u64::from(*ttl_s) * 1000)),
        ends_membership: false,
    };
    let own = |token: &str| enter(appkey, token, Some(*uid), channel);
    if channel.starts_with(|first: char| first.is_ascii_digit()) {
        assert_eq!(own(token), Err(ErrorName::TokenInvalid), "digits could move");
        return;
    }
    assert_eq!(own(token), Ok(expected.clone()), "the granted rights are those of the token");
    assert_eq!(enter(appkey, token, None, channel), Err(ErrorName::BadUid));
    for other in APPS {
        let elsewhere = enter(other, token, Some(*uid), channel);
        assert!(other == *appkey || elsewhere.is_err(), "a token is for one app");
    }
    // Padding, spaces and the case of the signature are not signed.
    if let Ok(grant) = own(&changed(program, token)) {
        assert_eq!(grant, expected, "a changed token that is accepted grants the same");
    }
}

/// A ticket opens to the claims that it was sealed with, under one key only.
fn made_ticket(program: &mut Program<'_>) {
    let key = TicketKey::new([program.byte(); 32]);
    let claims = TicketClaims {
        channel: ChannelKey {
            appkey: name(program.pick(&APPS)),
            name: name(program.pick(&CHANNELS)),
        },
        uid: UserId(program.huge()),
        mid: Mid([program.byte(); 12]),
        k: program.huge(),
        rights: rights(program),
        issued_at: WallTime(program.huge()),
        // No accepted token ends later.
        token_end: program.flag().then(|| WallTime(program.huge() % (MAX_TIME_S * 1000))),
    };
    let ticket = claims.seal(&key);
    assert_eq!(TicketClaims::open(&key, &ticket), Some(claims));
    let other = TicketKey::new([program.byte(); 32]);
    assert!(other == key || TicketClaims::open(&other, &ticket).is_none(), "a ticket has one key");
    let changed = changed(program, &ticket);
    assert!(changed == ticket || TicketClaims::open(&key, &changed).is_none(), "{changed}");
}

/// Other tokens that a basic token could serve as, by moving digits between its fields.
fn moved_digits(program: &mut Program<'_>) {
    let made = basic(program);
    let json = STANDARD.decode(&made.token).expect("base64");
    let json: Value = serde_json::from_slice(&json).expect("JSON");
    let signature = json["signature"].as_str().expect("a signature");
    // All fields between appkey and secret.
    let text = format!("{}{}{}{}", made.uid, made.issued_at.0, made.ttl_s, made.channel);
    let mut cut = || 1 + usize::from(program.byte()) % text.len();
    let mut cuts = [cut(), cut(), cut()];
    cuts.sort_unstable();
    let [a, b, c] = cuts;
    let (uid, time, ttl, channel) = (&text[..a], &text[a..b], &text[b..c], &text[c..]);
    let (Ok(other), Ok(_)) = (uid.parse::<UserId>(), channel.parse::<ChannelName>()) else {
        return;
    };
    let forged = format!(r#"{{"signature":"{signature}","curTime":{time},"ttl":{ttl}}}"#);
    let granted = enter(made.appkey, &STANDARD.encode(forged), Some(other), channel);
    let is_own = other == made.uid && channel == made.channel;
    if let (Ok(grant), false) = (granted, is_own) {
        // The engine refuses it because of its time, at every moment at which the true token is valid.
        let at = grant.issued_at.expect("every token was issued");
        assert!(
            at.0.abs_diff(made.issued_at.0) > YEAR_MS,
            "{text} as {uid} {time} {ttl} {channel}"
        );
    }
}

/// A JWT with arbitrary claims and header of the program, correctly signed.
fn signed_jwt(program: &mut Program<'_>) {
    let which = usize::from(program.byte());
    let (kid, secret) = JWT_SECRETS[which % 2];
    let header = match program.text() {
        text if text.is_empty() => format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#),
        text => text,
    };
    let claims = String::from_utf8_lossy(program.rest()).into_owned();
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&claims));
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac(secret, &signed)));
    for appkey in APPS {
        let Ok(grant) = enter(appkey, &token, None, "room") else { continue };
        let claims = read(&claims).expect("claims that were read");
        let text = |name: &str| claims[name].as_str().map(str::to_owned);
        assert_eq!(grant.channel.map(|channel| channel.to_string()), text("channel"));
        let uid = text("uid").or_else(|| claims["uid"].as_u64().map(|uid| uid.to_string()));
        assert_eq!(grant.uid.map(|uid| uid.to_string()), uid);
        for (granted, name) in
            [(grant.issued_at, "iat"), (grant.expires, "exp"), (grant.not_before, "nbf")]
        {
            if let Some(asked) = claims[name].as_u64() {
                assert_eq!(granted, Some(WallTime(asked * 1000)), "{name}");
            }
        }
        if claims.get("rights").is_none_or(Value::is_null) {
            assert_eq!(grant.rights, Rights::MEMBER);
        } else {
            let asked = &claims["rights"];
            for (granted, name) in [
                (grant.rights.moderate, "moderate"),
                (grant.rights.tasks, "tasks"),
                (grant.rights.broadcast, "broadcast"),
                (grant.rights.message, "message"),
            ] {
                assert_eq!(granted, asked[name] == Value::Bool(true), "{name}");
            }
        }
    }
}

/// A JWT with arbitrary times of the program, correctly signed.
fn timed_jwt(program: &mut Program<'_>) {
    let iat = NOW_MS / 1000 + u64::from(program.word());
    let life = u64::from(program.long()) % (3 * MAX_LIFE_S);
    let early = program.flag();
    let exp = if early { iat - life } else { iat + life };
    let claims = json!({"appkey": "live", "uid": "7", "iat": iat, "exp": exp});
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac(JWT_SECRETS[0].1, &signed)));
    let granted = enter("live", &token, None, "room");
    let good = life == 0 || (!early && life <= MAX_LIFE_S);
    assert_eq!(granted.is_ok(), good, "{claims}");
}

/// A basic token with arbitrary times of the program, correctly signed.
fn signed_basic(program: &mut Program<'_>) {
    let appkey = program.pick(&["nim", "all"]);
    let cur_time_ms = match program.byte() & 3 {
        0 => program.huge() >> (program.byte() & 63),
        _ => NOW_MS + u64::from(program.long()),
    };
    let ttl_s = match program.byte() & 3 {
        0 => program.long(),
        1 => u32::from(program.word()),
        _ => program.pick(&BASIC_TTLS),
    };
    let uid = UserId(program.huge());
    let key: Appkey = name(appkey);
    let secret = basic_secret(appkey);
    let token = gen_basic_token(&secret, &key, &name("room"), uid, WallTime(cur_time_ms), ttl_s);
    let granted = enter(appkey, &token, Some(uid), "room");
    let good = BASIC_TTLS.contains(&ttl_s) && cur_time_ms.to_string().len() == 13;
    assert_eq!(granted.is_ok(), good, "{cur_time_ms} {ttl_s}");
}

/// A token with some of its bytes changed.
fn changed(program: &mut Program<'_>, token: &str) -> String {
    let mut bytes = token.as_bytes().to_vec();
    for _ in 0..1 + program.byte() % 4 {
        let at = usize::from(program.word()) % bytes.len().max(1);
        match program.byte() & 7 {
            _ if bytes.is_empty() => break,
            0 => bytes[at] ^= 1 << (program.byte() & 7),
            1 => bytes[at] = program.byte(),
            2 => bytes.insert(at, program.byte()),
            3 => _ = bytes.remove(at),
            4 => bytes.truncate(at),
            5 => bytes.extend_from_slice(program.short()),
            6 => {
                let other = usize::from(program.word()) % bytes.len();
                bytes.swap(at, other);
            }
            _ => {
                let of = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=";
                bytes[at] = program.pick(of);
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
