//! Checks the apps. Comes in: their tables as written. Goes out: apps, and reports of problems. Deliberately absent:
//! the format of tokens, see `auth/`.

use std::path::Path;

use lianmai_protocol::Appkey;
use lianmai_signal_engine::{AppPolicy, DuplicatePolicy};

use super::forward;
use super::raw::{RawApp, RawBasic, RawDuplicate, RawJwt, RawMedia, RawMode, RawSecret};
use super::validate::Check;
use super::{AppConfig, AppMode, BasicKey, JwtKey, MediaServer, Secret, TokenKeys, warnings};

/// HS256 needs a key as long as its hash.
const MIN_JWT_SECRET_BYTES: usize = 32;
/// With one basic token, an attacker can test secrets offline.
const MIN_BASIC_SECRET_BYTES: usize = 16;
/// Maximum lifetime of a basic token in seconds (AUT-2).
const MAX_BASIC_TTL_S: u32 = 86_400;
/// Maximum length of a key id in bytes.
const MAX_KID_BYTES: usize = 128;

/// The app of a server without configured apps.
const DEMO: &str = "demo";

/// Checks all apps. If the key is absent, there is the app `demo` in debug mode.
pub(super) fn apps(check: &mut Check, raw: Option<Vec<RawApp>>) -> Vec<AppConfig> {
    let Some(raw) = raw else { return demo().into_iter().collect() };
    if raw.is_empty() {
        check.missing("apps", "no app is configured");
    }
    let mut apps: Vec<AppConfig> = Vec::new();
    for (i, raw) in raw.into_iter().enumerate() {
        let path = check.element("apps", i);
        let Some(app) = app(check, &path, raw) else { continue };
        if apps.iter().any(|other| other.appkey == app.appkey) {
            check.problem(format!("{path}.appkey"), format!("`{}` is there already", app.appkey));
        }
        // A basic token has no delimiter between appkey and uid, so one secret would sign for both apps.
        let secret = basic_secret(&app);
        if secret.is_some() && apps.iter().any(|other| basic_secret(other) == secret) {
            check.problem(format!("{path}.basic.secret"), "is the secret of another app too");
        }
        apps.push(app);
    }
    apps
}

fn demo() -> Option<AppConfig> {
    let policy = AppPolicy { creator_moderates: true, ..AppPolicy::default() };
    Some(AppConfig {
        appkey: DEMO.parse().ok()?,
        mode: AppMode::Debug,
        policy,
        media: MediaServer::Relay,
        forwards: Vec::new(),
    })
}

fn basic_secret(app: &AppConfig) -> Option<&Secret> {
    match &app.mode {
        AppMode::Safe(keys) => keys.basic.as_ref().map(|basic| &basic.secret),
        AppMode::Debug => None,
    }
}

fn app(check: &mut Check, path: &str, raw: RawApp) -> Option<AppConfig> {
    let key_path = format!("{path}.appkey");
    let appkey = match raw.appkey.as_deref().map(str::parse::<Appkey>) {
        Some(Ok(appkey)) => Some(appkey),
        Some(Err(_)) => {
            check.problem(key_path, "is not 1-64 letters, digits, `_`, `-` and `.`");
            None
        }
        None => {
            check.missing(&key_path, "is missing");
            None
        }
    };
    let has_keys = raw.basic.is_some() || raw.jwt.is_some();
    let keys = TokenKeys {
        basic: raw.basic.and_then(|raw| basic(check, &format!("{path}.basic"), raw)),
        jwt: jwt(check, &format!("{path}.jwt"), raw.jwt.unwrap_or_default()),
    };
    let mode = match raw.mode {
        Some(RawMode::Debug) => {
            if has_keys {
                check.problem(
                    format!("{path}.mode"),
                    "`debug` looks at no token: leave out the keys",
                );
            }
            AppMode::Debug
        }
        Some(RawMode::Safe) | None => {
            if !has_keys && !check.reported(&format!("{path}.basic")) {
                let text = "is missing: safe mode needs `jwt` keys or a `basic` key";
                check.missing(&format!("{path}.jwt"), text);
            }
            AppMode::Safe(keys)
        }
    };
    let policy = AppPolicy {
        duplicate: match raw.duplicate {
            None | Some(RawDuplicate::KickOld) => DuplicatePolicy::KickOld,
            Some(RawDuplicate::RejectNew) => DuplicatePolicy::RejectNew,
        },
        creator_moderates: raw.creator_moderates.unwrap_or(false),
        dissolve_on_creator_leave: raw.dissolve_on_creator_leave.unwrap_or(false),
        tasks_end_with_owner: raw.tasks_end_with_owner.unwrap_or(false),
        ..AppPolicy::default()
    };
    let media = match raw.media {
        None | Some(RawMedia::Relay) => MediaServer::Relay,
    };
    let forwards = forward::forwards(check, &format!("{path}.forward"), raw.forward);
    Some(AppConfig { appkey: appkey?, mode, policy, media, forwards })
}

fn basic(check: &mut Check, path: &str, raw: RawBasic) -> Option<BasicKey> {
    let ttls_path = format!("{path}.allowed_ttls_s");
    let mut allowed_ttls = Vec::new();
    match raw.allowed_ttls_s {
        None => check.missing(&ttls_path, "is missing: name the lifetimes that tokens may have"),
        Some(ttls) if ttls.is_empty() => check.missing(&ttls_path, "is empty"),
        Some(ttls) => {
            for (i, ttl) in ttls.into_iter().enumerate() {
                let path = check.element(&ttls_path, i);
                let ttl = check.number(&path, Some(ttl), 0, 1..=MAX_BASIC_TTL_S);
                if ttl > 0 {
                    prefixes(check, &path, ttl, &allowed_ttls);
                    allowed_ttls.push(ttl);
                }
            }
        }
    }
    let secret = secret(check, &format!("{path}.secret"), raw.secret, MIN_BASIC_SECRET_BYTES)?;
    let allow_digit_names = raw.allow_digit_names.unwrap_or(false);
    Some(BasicKey { secret, allowed_ttls, allow_digit_names })
}

/// A lifetime must not be a prefix of another: no delimiter separates lifetime and channel name (AUT-2).
fn prefixes(check: &mut Check, path: &str, ttl: u32, others: &[u32]) {
    let digits = ttl.to_string();
    let clash = others.iter().find(|other| {
        let other = other.to_string();
        other.starts_with(&digits) || digits.starts_with(&other)
    });
    if let Some(other) = clash {
        check
            .problem(path, format!("one of {ttl} and {other} begins with the digits of the other"));
    }
}

fn jwt(check: &mut Check, path: &str, raw: Vec<RawJwt>) -> Vec<JwtKey> {
    let mut keys: Vec<JwtKey> = Vec::new();
    for (i, raw) in raw.into_iter().enumerate() {
        let path = check.element(path, i);
        let kid_path = format!("{path}.kid");
        let kid = raw.kid.unwrap_or_else(|| {
            check.missing(&kid_path, "is missing");
            String::new()
        });
        if kid.is_empty() || kid.len() > MAX_KID_BYTES {
            check.missing(&kid_path, &format!("is not 1-{MAX_KID_BYTES} bytes long"));
        } else if keys.iter().any(|key| key.kid == kid) {
            check.problem(kid_path, "is the key id of another key too");
        }
        let secret = secret(check, &format!("{path}.secret"), raw.secret, MIN_JWT_SECRET_BYTES);
        keys.extend(secret.map(|secret| JwtKey { kid, secret }));
    }
    keys
}

/// Reads a secret from its source.
pub(super) fn secret(
    check: &mut Check,
    path: &str,
    raw: Option<RawSecret>,
    min_bytes: usize,
) -> Option<Secret> {
    let secret = match raw {
        None => {
            check.missing(path, "is missing");
            return None;
        }
        Some(RawSecret::Inline(secret)) => secret,
        Some(RawSecret::File(file)) => match read_secret(&file) {
            Ok(secret) => {
                warnings::exposed(check, path, &file, true);
                secret
            }
            Err(error) => {
                check.problem(path, format!("`{}` cannot be read: {error}", file.display()));
                return None;
            }
        },
        Some(RawSecret::Env(name)) => match check.env.get(&name) {
            Some(value) => Secret::new(value.trim()),
            None => {
                check.problem(path, format!("environment variable `{name}` is not set"));
                return None;
            }
        },
    };
    if secret.expose().len() < min_bytes {
        check.problem(path, format!("is shorter than {min_bytes} bytes"));
    }
    Some(secret)
}

fn read_secret(file: &Path) -> std::io::Result<Secret> {
    std::fs::read_to_string(file).map(|text| Secret::new(text.trim()))
}
