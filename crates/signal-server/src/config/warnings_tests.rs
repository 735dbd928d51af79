//! Proves no rule of the protocol: warnings about unwise settings.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;

const GOOD: &str = "8a7035ecb6819f36cf0e57c0c973d15a";
const OTHER: &str = "ce286494254cf4dbe49995a178e347b1";

/// Files that are removed with the test.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let name = format!("lianmai-warnings-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Files(path)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    }

    /// The paths of the warnings about a configuration that is valid otherwise.
    fn warnings(&self, text: &str, mode: u32) -> Vec<String> {
        let path = self.write("config.toml", text, mode);
        let config = Config::load(Some(path.as_ref()), std::iter::empty(), &[]).expect(text);
        for warning in &config.warnings {
            let text = warning.to_string();
            assert!(!text.contains(GOOD) && !text.contains(OTHER), "a secret: {text}");
        }
        let name =
            |warning: &crate::config::ConfigProblem| warning.path.replace(&path, "config.toml");
        config.warnings.iter().map(name).collect()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn app(name: &str, secret: &str) -> String {
    format!("[[apps]]\nappkey = \"{name}\"\n[[apps.jwt]]\nkid = \"a\"\nsecret = {secret}\n")
}

#[test]
fn open_settings_are_warned_of() {
    let files = Files::new("open");
    let safe = app("live", &format!("{GOOD:?}"));
    let pem = files.write("pem", "", 0o600);
    let tls = format!("[tls]\ncert = {pem:?}\nkey = {pem:?}\n");
    for (server, rest, expected) in [
        ("", "", &[][..]),
        ("admin_listen = \"192.0.2.1:8601\"", "", &["server.admin_listen"]),
        ("admin_listen = \"[::]:8601\"", "", &["server.admin_listen"]),
        ("admin_listen = \"192.0.2.1:8601\"\nadmin_tls = true", &*tls, &[]),
        ("admin_listen = \"[::1]:8601\"", "", &[]),
        ("trusted_proxies = [\"10.0.0.0/8\", \"0.0.0.0/0\"]", "", &["server.trusted_proxies[1]"]),
        (
            "trusted_proxies = [\"0.0.0.0/1\", \"::/0\", \"2001:db8::/32\"]",
            "",
            &["server.trusted_proxies[0]", "server.trusted_proxies[1]"],
        ),
    ] {
        let text = format!("[server]\n{server}\n{rest}{safe}");
        assert_eq!(files.warnings(&text, 0o600), expected, "{server}");
    }
}

#[test]
fn secret_files_must_not_be_accessible_to_others() {
    let files = Files::new("modes");
    let inline = app("live", &format!("{GOOD:?}"));
    for (mode, expected) in [
        (0o600, &[][..]),
        (0o640, &[]),
        (0o644, &["config.toml"]),
        (0o660, &["config.toml"]),
        (0o602, &["config.toml"]),
    ] {
        assert_eq!(files.warnings(&inline, mode), expected, "{mode:o}");
    }
    assert!(files.warnings("[server]\n", 0o644).is_empty(), "the file holds no secret");
    assert_eq!(files.warnings("[server]\n", 0o646), ["config.toml"], "debug mode can be set");
    let forward = "[[apps.forward]]\nurl = \"rtmp://cdn.example/app/{uid}?key=secret\"\n";
    let debug = format!("[[apps]]\nappkey = \"live\"\nmode = \"debug\"\n{forward}");
    assert_eq!(files.warnings(&debug, 0o644), ["config.toml"]);

    for (mode, expected) in [
        (0o600, &[][..]),
        (0o640, &[]),
        (0o604, &["apps[0].jwt[0].secret"]),
        (0o644, &["apps[0].jwt[0].secret"]),
    ] {
        let secret = files.write("secret", GOOD, mode);
        let text = app("live", &format!("{{ file = {secret:?} }}"));
        assert_eq!(files.warnings(&text, 0o644), expected, "{mode:o}");
        let key = files.write("key.pem", "", mode);
        let text = format!("[tls]\ncert = {key:?}\nkey = {key:?}\n");
        let expected: &[&str] = if expected.is_empty() { &[] } else { &["tls.key"] };
        assert_eq!(files.warnings(&text, 0o600), expected, "{mode:o}");
    }
}

#[test]
fn a_secret_shared_by_two_apps_is_warned_of() {
    let files = Files::new("shared");
    let [good, other] = [GOOD, OTHER].map(|secret| format!("{secret:?}"));
    let text = app("one", &good) + &app("two", &other) + &app("three", &good);
    assert_eq!(files.warnings(&text, 0o600), ["apps[2].jwt[0].secret"]);
    let basic = "[apps.basic]\nallowed_ttls_s = [60]\nsecret = ";
    let text = app("one", &good) + &app("two", &other) + basic + &good + "\n";
    assert_eq!(files.warnings(&text, 0o600), ["apps[1].basic.secret"]);
}

#[test]
fn a_repetitive_secret_is_refused() {
    for weak in [
        "0123456789abcdef0123456789abcdef",
        "abcdefghijklmnopqrstuvwxyz012345",
        "passwordpasswordpasswordpassword",
        "change-me-change-me-change-me-change-me",
        "11111111111111111111111111111111",
        "zyxwvutsrqponmlkjihgfedcba987654",
    ] {
        assert!(bits(weak.as_bytes()) < JWT_BITS, "{weak}: {}", bits(weak.as_bytes()));
    }
    for good in
        [GOOD, OTHER, "Zx8uD2pQ7LmN4vTr1sWy6KbHc9JgFa3E", "this needs no digits, if it is long"]
    {
        assert!(bits(good.as_bytes()) >= JWT_BITS, "{good}: {}", bits(good.as_bytes()));
    }
    assert!(bits(b"1111111111111111") < BASIC_BITS && bits(b"abababababababab") < BASIC_BITS);
    assert!(bits(&GOOD.as_bytes()[..16]) >= BASIC_BITS);
    assert!(bits(b"") < 1.0 && bits(&[7; 1 << 20]) < JWT_BITS, "of any length");
    let files = Files::new("weak");
    let text = app("live", "\"0123456789abcdef0123456789abcdef\"")
        + "[apps.basic]\nallowed_ttls_s = [60]\nsecret = \"aaaaaaaaaaaaaaaa\"\n";
    assert_eq!(files.warnings(&text, 0o600), ["apps[0].jwt[0].secret", "apps[0].basic.secret"]);
}
