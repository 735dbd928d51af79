//! Warns about settings that work but leave the server open to attackers. Comes in: the configuration, and the modes of
//! files. Goes out: warnings. Deliberately absent: settings that cannot work, see `validate.rs`; and the data
//! directory, which the server refuses if others could have read or written it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use toml::Value;

use super::validate::Check;
use super::{AppConfig, AppMode, Cidr, Config, Secret};

/// Minimum entropy of a JWT secret in bits. Random hexadecimal digits of the minimum length have more.
const JWT_BITS: f64 = 75.0;
/// Minimum entropy of a basic secret in bits.
const BASIC_BITS: f64 = 30.0;
/// Maximum number of bytes of a secret that are examined.
const MAX_CHECKED_BYTES: usize = 256;
/// Minimum length of a repetition in bytes.
const REPEAT: usize = 3;

/// Checks everything but files.
pub(super) fn collect(check: &mut Check, config: &Config) {
    let admin = config.admin_listen;
    if !admin.ip().is_loopback() && !config.admin_tls {
        let text = format!(
            "{admin} is not on loopback and speaks no TLS: who is on the way reads the token and can do everything; set \
             server.admin_tls, or bind it to loopback behind something that does"
        );
        check.warn("server.admin_listen", text);
    }
    for (i, range) in config.trusted_proxies.iter().enumerate() {
        if is_anybody(range) {
            let path = check.element("server.trusted_proxies", i);
            let text = format!(
                "{range} is everybody: each client can name any address as its own, and has no limit of its own then"
            );
            check.warn(path, text);
        }
    }
    for (i, app) in config.apps.iter().enumerate() {
        let path = check.element("apps", i);
        secrets(check, &path, app, config.apps.get(..i).unwrap_or_default());
    }
}

/// Whether a range is too large to hold only the proxies of an operator.
fn is_anybody(range: &Cidr) -> bool {
    range.prefix < if matches!(range.address, IpAddr::V4(_)) { 8 } else { 16 }
}

fn secrets(check: &mut Check, path: &str, app: &AppConfig, before: &[AppConfig]) {
    let AppMode::Safe(keys) = &app.mode else { return };
    let jwt = keys.jwt.iter().enumerate().map(|(i, key)| {
        (check.element(&format!("{path}.jwt"), i) + ".secret", &key.secret, JWT_BITS)
    });
    let basic =
        keys.basic.iter().map(|key| (format!("{path}.basic.secret"), &key.secret, BASIC_BITS));
    for (path, secret, least) in jwt.chain(basic).collect::<Vec<_>>() {
        if bits(secret.expose().as_bytes()) < least {
            let text = "can be guessed, as far as its letters tell: take random bytes, for instance from \
                        `openssl rand -hex 32`";
            check.warn(&path, text);
        }
        if before.iter().any(|other| has(other, secret)) {
            check.warn(path, "is a secret of another app too: who signs for one signs for both");
        }
    }
}

fn has(app: &AppConfig, secret: &Secret) -> bool {
    let AppMode::Safe(keys) = &app.mode else { return false };
    let basic = keys.basic.iter().map(|key| &key.secret);
    keys.jwt.iter().map(|key| &key.secret).chain(basic).any(|other| other == secret)
}

/// Checks the file of the configuration.
pub(super) fn config_file(check: &mut Check, file: &Path, content: &toml::Table) {
    let secret = content.get("apps").is_some_and(holds_secret);
    exposed(check, &file.display().to_string(), file, secret);
}

/// Whether a secret is written in place.
fn holds_secret(value: &Value) -> bool {
    match value {
        Value::Table(table) => table.iter().any(|(key, value)| {
            (matches!(&**key, "secret" | "url") && value.is_str()) || holds_secret(value)
        }),
        Value::Array(values) => values.iter().any(holds_secret),
        _ => false,
    }
}

/// Warns if others can write a file, or can read it while it holds a secret. A group may read it: a server that is not
/// root can so read a file of root.
pub(super) fn exposed(check: &mut Check, path: &str, file: &Path, secret: bool) {
    // A missing file is reported elsewhere.
    let Ok(meta) = std::fs::metadata(file) else { return };
    let mode = meta.mode() & 0o7777;
    let (read, written) = (secret && mode & 0o004 != 0, mode & 0o022 != 0);
    let what = match (read, written) {
        (false, false) => return,
        (true, false) => "read",
        (false, true) => "written",
        (true, true) => "read and written",
    };
    let rights = if read { "o-r,go-w" } else { "go-w" };
    let text =
        format!("`{}` can be {what} by others (mode {mode:04o}): `chmod {rights}`", file.display());
    check.warn(path, text);
}

/// The bits that an attacker has to guess. Repetitions and sequences add almost nothing; other bytes count by their
/// frequency. Words are not detected.
fn bits(secret: &[u8]) -> f64 {
    let secret = &secret[..secret.len().min(MAX_CHECKED_BYTES)];
    let length = secret.len() as f64;
    let mut counts = HashMap::<u8, f64>::new();
    for byte in secret {
        *counts.entry(*byte).or_default() += 1.0;
    }
    let each: f64 = counts.values().map(|count| count / length * (length / count).log2()).sum();
    let (mut at, mut sum) = (0, 0.0);
    while at < secret.len() {
        let repeated = (0..at).map(|from| common_prefix(&secret[from..], &secret[at..])).max();
        match repeated {
            Some(repeated) if repeated >= REPEAT => {
                sum += length.log2();
                at += repeated;
            }
            _ => {
                sum += if continues_sequence(&secret[..=at]) { 0.0 } else { each };
                at += 1;
            }
        }
    }
    sum
}

/// Length of the common prefix of two texts.
fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// Whether the last byte continues the two before it, as in `abc` and `aaa`.
fn continues_sequence(text: &[u8]) -> bool {
    let [.., a, b, c] = text else { return false };
    let step = i16::from(*b) - i16::from(*a);
    step.abs() <= 1 && i16::from(*c) - i16::from(*b) == step
}

#[cfg(test)]
#[path = "warnings_tests.rs"]
mod tests;
