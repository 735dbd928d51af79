//! Proves no rule of the protocol: the configuration.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;

/// A file that is removed with the test.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("lianmai-config-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        TempFile(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn load(name: &str, text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigProblems> {
    let file = TempFile::new(name, text);
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some(&file.0), env, &[])
}

fn problems(name: &str, text: &str) -> Vec<(String, String)> {
    let ConfigProblems(found) = load(name, text, &[]).expect_err(text);
    found.into_iter().map(|problem| (problem.path, problem.text)).collect()
}

fn paths(name: &str, text: &str) -> Vec<String> {
    problems(name, text).into_iter().map(|(path, _)| path).collect()
}

fn builtin() -> Config {
    Config::load(None, std::iter::empty(), &[]).unwrap()
}

/// `default.toml` with its commented settings in force.
fn uncommented() -> String {
    let is_setting = |line: &str| {
        line.strip_prefix('#')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
    };
    DEFAULT_TOML
        .lines()
        .map(|line| if is_setting(line) { &line[1..] } else { line })
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn without_a_file_there_is_a_local_demo() {
    let config = builtin();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8600");
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:8601");
    assert_eq!(config.rtmp_listen.to_string(), "127.0.0.1:1935");
    assert_eq!(config.data_dir, PathBuf::from("./lianmai-data"));
    let [app] = &config.apps[..] else { panic!("{:?}", config.apps) };
    assert_eq!((app.appkey.as_str(), &app.mode), ("demo", &AppMode::Debug));
    assert!(app.policy.creator_moderates && config.has_debug_app());
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.session, SessionTimers::default());
    let relay = RelayConfig { exempt_loopback: true, ..RelayConfig::default() };
    assert_eq!(format!("{:?}", config.relay), format!("{relay:?}"));
}

#[test]
fn default_toml_is_the_builtin_configuration() {
    let expected = format!("{:?}", builtin());
    for (name, text) in [("as-printed", DEFAULT_TOML.to_owned()), ("uncommented", uncommented())] {
        let config = load(name, &text, &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(format!("{config:?}"), expected, "{name}");
    }
    assert!(uncommented().lines().filter(|line| line.contains(" = ")).count() > 50);
}

#[test]
fn default_toml_mentions_every_key() {
    // The keys are those that serde lists in its message about an unknown one.
    for table in [
        "server",
        "debug",
        "tls",
        "[apps]",
        "apps.basic",
        "[apps.jwt]",
        "[apps.forward]",
        "limits",
        "session",
        "drain",
        "relay",
        "tasks",
        "webhooks",
        "history",
        "log",
    ] {
        let header = match table {
            "apps.basic" | "[apps.jwt]" | "[apps.forward]" => format!("[[apps]]\n[{table}]"),
            _ => format!("[{table}]"),
        };
        let found = problems(&table.replace(['[', ']'], ""), &format!("{header}\nnonsense = 1\n"));
        let (path, text) = found.iter().find(|(path, _)| path.ends_with(".nonsense")).unwrap();
        // The message has `cert` or `key`, one of `a`, `b`, or a single `allow_from`.
        let keys: Vec<&str> = text.split('`').skip(3).step_by(2).collect();
        assert!(!keys.is_empty(), "{path}: {text}");
        let section = section(table);
        for key in keys {
            let mentioned = section.lines().any(|line| {
                let line = line.trim_start_matches(['#', ' ']).trim_start_matches("Example: ");
                line.starts_with(&format!("{key} = "))
                    || line == format!("[apps.{key}]")
                    || line.starts_with(&format!("[apps.{key}] "))
                    || line.starts_with(&format!("[[apps.{key}]] "))
            });
            assert!(mentioned, "{table}: {key}");
        }
    }
}

/// The part of `default.toml` about a table: from its header to the next table.
fn section(table: &str) -> &str {
    if table.contains("apps") {
        let from = DEFAULT_TOML.find("# The apps.").unwrap();
        return &DEFAULT_TOML[from..DEFAULT_TOML.find("[limits]").unwrap()];
    }
    let header = format!("\n[{table}]\n");
    let from = DEFAULT_TOML.find(&header).unwrap() + header.len();
    let rest = &DEFAULT_TOML[from..];
    &rest[..rest.find("\n[").unwrap_or(rest.len())]
}

#[test]
fn later_sources_win() {
    let file = TempFile::new(
        "sources",
        "[session]\ngrace_ms = 1000\nmedia_cap_ms = 9000\n[server]\nlisten = \"127.0.0.1:1\"\n",
    );
    let env = [
        ("LIANMAI_SESSION__GRACE_MS", "2000"),
        ("LIANMAI_SERVER__LISTEN", "127.0.0.1:2"),
        ("LIANMAI_SERVER__HOSTS", "[\"a.example\", \"B.example\"]"),
        ("LIANMAI_SERVER__PUBLIC_HOST", "\"quoted.example\""),
        ("LIANMAI_LOG__FILTER", "debug"),
        ("LIANMAI_CONFIG", "elsewhere"),
        ("LIANMAI_PORT_1935_TCP", "tcp://10.0.0.1:1935"),
        ("OTHER_SESSION__GRACE_MS", "3"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let flags = [("server.listen", "127.0.0.1:3".to_owned())];
    let config = Config::load(Some(&file.0), env.into_iter(), &flags).unwrap();
    assert_eq!(config.session.grace_ms, 2000);
    assert_eq!(config.session.media_cap_ms, 9000);
    assert_eq!(config.listen.port(), 3);
    assert_eq!(config.hosts, ["a.example", "b.example"]);
    assert_eq!(config.public_host.as_deref(), Some("quoted.example"));
    assert_eq!(config.log_filter, "debug");
}

#[test]
fn a_number_is_read_as_text_for_a_text_setting() {
    let flags = [("server.data_dir", "2026".to_owned())];
    let config = Config::load(None, std::iter::empty(), &flags).unwrap();
    assert_eq!(config.data_dir, PathBuf::from("2026"));
}

#[test]
fn the_environment_is_checked_like_the_file() {
    let env = [
        ("LIANMAI_SESSION__GRACE_MS", "soon"),
        ("LIANMAI_SESSION__GRACE", "1"),
        ("LIANMAI_NONSENSE__KEY", "1"),
        ("LIANMAI_APPS", "[{ appkey = \"a\", mode = \"debug\" }]"),
        ("LIANMAI_APPS__APPKEY", "b"),
    ];
    let ConfigProblems(found) = load("env", "", &env).unwrap_err();
    let paths: Vec<_> = found.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["apps.appkey", "nonsense", "session.grace", "session.grace_ms"]);
}

#[test]
fn all_problems_are_reported_together() {
    let text = r#"
surprise = true
[server]
listen = "localhost:8600"
rtmp_listen = 1935
hosts = ["ok.example", 5, "with:port", 6, "also.example"]
trusted_proxies = ["10.0.0.1", "10.0.0.0/33", "2001:db8::/32", "nginx"]
origins = ["https://ok.example", "https://a.example/path", "null", "*"]
shards = 0
liten = "127.0.0.1:1"
[debug]
allow_from = ["10.0.0.0/8", "10.0.0.1/8", "::/129", "x"]
[[apps]]
appkey = "no spaces"
mode = "safe"
[[apps.jwt]]
kid = "a"
secret = "short"
[[apps]]
mode = "unsafe"
[limits]
members = 0
tasks = 1000000
max_connections_per_address = 0
max_lag_bytes = 65535
attribute_bytes = -1
[session]
ping_interval_ms = 5000
dead_after_ms = 5000
media_cap_ms = 10
[relay]
gop_bytes = 1000000000
url_ttl_s = 59
heartbeat_ms = "5 s"
[log]
format = "xml"
filter = "lianmai=loud=quiet"
"#;
    let mut found = paths("every", text);
    found.sort();
    let mut expected = vec![
        "apps[0].appkey",
        "apps[0].jwt[0].secret",
        "apps[1].appkey",
        "apps[1].jwt",
        "apps[1].mode",
        "debug.allow_from[1]",
        "debug.allow_from[2]",
        "debug.allow_from[3]",
        "limits.attribute_bytes",
        "limits.max_connections_per_address",
        "limits.max_lag_bytes",
        "limits.members",
        "limits.tasks",
        "log.filter",
        "log.format",
        "relay.gop_bytes",
        "relay.heartbeat_ms",
        "relay.url_ttl_s",
        "server.hosts[1]",
        "server.hosts[2]",
        "server.hosts[3]",
        "server.liten",
        "server.listen",
        "server.origins[1]",
        "server.origins[2]",
        "server.origins[3]",
        "server.rtmp_listen",
        "server.shards",
        "server.trusted_proxies[1]",
        "server.trusted_proxies[3]",
        "session.dead_after_ms",
        "session.media_cap_ms",
        "surprise",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
    let shown = load("every", text, &[]).unwrap_err().to_string();
    assert_eq!(shown.lines().count(), expected.len(), "{shown}");
    let distinct: BTreeSet<&str> = shown.lines().collect();
    assert_eq!(distinct.len(), expected.len(), "{shown}");
}

#[test]
fn a_malformed_or_missing_file_is_one_problem() {
    let found = problems("syntax", &format!("[server]\n\n[[apps]]\nsecret = \"{SECRET}\n"));
    let [(_, text)] = &found[..] else { panic!("{found:?}") };
    assert!(text.starts_with("line 4, column ") && !text.contains(SECRET), "{text}");
    let missing = Config::load(Some("/nonexistent/x.toml".as_ref()), std::iter::empty(), &[]);
    let shown = missing.unwrap_err().to_string();
    assert!(shown.starts_with("/nonexistent/x.toml: cannot be read"), "{shown}");
}

fn safe(rest: &str) -> String {
    format!("[[apps]]\nappkey = \"live\"\n{rest}")
}

#[test]
fn all_settings_of_a_safe_app_are_read() {
    let file = TempFile::new("jwt-secret", &format!("{SECRET}\n"));
    let text = safe(&format!(
        "duplicate = \"rejectNew\"\ndissolve_on_creator_leave = true\n\
         [[apps.jwt]]\nkid = \"f\"\nsecret = {{ file = {:?} }}\n\
         [[apps.jwt]]\nkid = \"e\"\nsecret = {{ env = \"LIVE_SECRET\" }}\n\
         [apps.basic]\nsecret = \"sixteen bytes ok\"\nallowed_ttls_s = [3600, 86400]\n\
         allow_digit_names = true\n",
        file.0
    ));
    let other = "another secret that is long enough!!";
    let config = load("safe", &text, &[("LIVE_SECRET", other)]).unwrap();
    let [app] = &config.apps[..] else { panic!() };
    assert!(!config.has_debug_app());
    assert_eq!(app.policy.duplicate, lianmai_signal_engine::DuplicatePolicy::RejectNew);
    assert!(app.policy.dissolve_on_creator_leave && !app.policy.creator_moderates);
    let expected = TokenKeys {
        basic: Some(BasicKey {
            secret: Secret::new("sixteen bytes ok"),
            allowed_ttls: vec![3600, 86400],
            allow_digit_names: true,
        }),
        jwt: vec![
            JwtKey { kid: "f".into(), secret: Secret::new(SECRET) },
            JwtKey { kid: "e".into(), secret: Secret::new(other) },
        ],
    };
    assert_eq!(app.mode, AppMode::Safe(expected));
    let shown = format!("{config:?}");
    assert!(!shown.contains(SECRET) && !shown.contains(other) && !shown.contains("sixteen"));
}

#[test]
fn problems_of_apps_are_reported() {
    let jwt = format!("[[apps.jwt]]\nkid = \"a\"\nsecret = \"{SECRET}\"\n");
    let basic = |ttls: &str| {
        safe(&format!("[apps.basic]\nsecret = \"{SECRET}\"\nallowed_ttls_s = {ttls}\n"))
    };
    let cases: [(&str, String, &[&str]); 16] = [
        ("none", "apps = []".into(), &["apps"]),
        ("keyless", safe(""), &["apps[0].jwt"]),
        ("twice", safe(&jwt) + &safe(&jwt), &["apps[1].appkey"]),
        ("debug-keys", safe("mode = \"debug\"\n") + &jwt, &["apps[0].mode"]),
        ("same-kid", safe(&jwt) + &jwt, &["apps[0].jwt[1].kid"]),
        ("no-kid", safe(&format!("[[apps.jwt]]\nsecret = \"{SECRET}\"")), &["apps[0].jwt[0].kid"]),
        ("no-secret", safe("[[apps.jwt]]\nkid = \"a\""), &["apps[0].jwt[0].secret"]),
        (
            "no-env",
            safe("[[apps.jwt]]\nkid = \"a\"\nsecret = { env = \"NOT_SET\" }"),
            &["apps[0].jwt[0].secret"],
        ),
        (
            "no-file",
            safe("[[apps.jwt]]\nkid = \"a\"\nsecret = { file = \"/nonexistent\" }"),
            &["apps[0].jwt[0].secret"],
        ),
        (
            "no-ttls",
            safe("[apps.basic]\nsecret = \"sixteen bytes ok\""),
            &["apps[0].basic.allowed_ttls_s"],
        ),
        ("empty-ttls", basic("[]"), &["apps[0].basic.allowed_ttls_s"]),
        (
            "prefix",
            basic("[86400, 3600, 36, 864]"),
            &["apps[0].basic.allowed_ttls_s[2]", "apps[0].basic.allowed_ttls_s[3]"],
        ),
        ("longer", basic("[864, 86400]"), &["apps[0].basic.allowed_ttls_s[1]"]),
        (
            "long-ttl",
            basic("[86401, 0]"),
            &["apps[0].basic.allowed_ttls_s[0]", "apps[0].basic.allowed_ttls_s[1]"],
        ),
        (
            "short-basic",
            safe("[apps.basic]\nsecret = \"fifteen bytes !\"\nallowed_ttls_s = [60]"),
            &["apps[0].basic.secret"],
        ),
        (
            "shared-secret",
            basic("[60]") + &basic("[60]").replace("live", "live2"),
            &["apps[1].basic.secret"],
        ),
    ];
    for (name, text, expected) in cases {
        assert_eq!(paths(name, &text), expected, "{name}");
    }
}

#[test]
fn problems_hold_no_secret() {
    for (name, value) in
        [("number", "12345678"), ("array", "[\"12345678\"]"), ("table", "{ fil = \"12345678\" }")]
    {
        let text = safe(&format!("[[apps.jwt]]\nkid = 87654321\nsecret = {value}\n"));
        let shown = load(name, &text, &[]).unwrap_err().to_string();
        assert!(!shown.contains("1234") && !shown.contains("8765"), "{shown}");
        assert!(
            shown.contains("apps[0].jwt[0].secret: ") && shown.contains("apps[0].jwt[0].kid: "),
            "{shown}"
        );
    }
    let broken = format!("[{{ appkey = \"a\", secret = \"{SECRET}\"");
    let shown = load("broken-env", "", &[("LIANMAI_APPS", &broken)]).unwrap_err().to_string();
    assert!(shown.starts_with("apps: ") && !shown.contains(SECRET), "{shown}");
}

/// Access from other machines must be configured: safe mode, or the addresses that may use debug mode.
#[test]
fn listeners_beyond_loopback_need_a_safe_app_or_allow_from() {
    let jwt = format!("[[apps.jwt]]\nkid = \"a\"\nsecret = \"{SECRET}\"\n");
    let case = |name: &str, server: &str, rest: &str| {
        let text = format!("[server]\n{server}\n{rest}");
        load(name, &text, &[])
            .map_or_else(|e| e.0.into_iter().map(|p| p.path).collect(), |_| vec![])
    };
    for key in ["listen", "admin_listen", "rtmp_listen"] {
        let path = format!("server.{key}");
        let lan = format!("{key} = \"192.0.2.1:9000\"");
        assert_eq!(case("lan", &lan, ""), [path.as_str()], "debug");
        assert!(case("lan-safe", &lan, &safe(&jwt)).is_empty(), "safe");
        let consent = "[debug]\nallow_from = [\"192.0.2.0/24\"]";
        assert!(case("lan-consent", &lan, consent).is_empty(), "debug with allow_from");

        let any = format!("{key} = \"[::]:9000\"");
        let expected: &[&str] = if key == "admin_listen" { &[] } else { &[&path] };
        assert_eq!(case("any", &any, &safe(&jwt)), expected, "{key}");
        let named = format!("{any}\npublic_host = \"live.example.com\"");
        assert!(case("named", &named, &safe(&jwt)).is_empty(), "{key}");
    }
    assert_eq!(case("same", "admin_listen = \"127.0.0.1:8600\"", ""), ["server.admin_listen"]);
    assert!(
        case("zero", "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"", "").is_empty()
    );
}

#[test]
fn tls_needs_two_existing_files() {
    let file = TempFile::new("cert", "");
    let there = file.0.display();
    let cases = [
        ("tls-ok", format!("[tls]\ncert = \"{there}\"\nkey = \"{there}\""), vec![]),
        ("tls-half", format!("[tls]\ncert = \"{there}\""), vec!["tls.key"]),
        (
            "tls-missing",
            "[tls]\ncert = \"/nonexistent/a\"\nkey = \"/nonexistent/b\"".into(),
            vec!["tls.cert", "tls.key"],
        ),
        ("admin-alone", "[server]\nadmin_tls = true".into(), vec!["server.admin_tls"]),
        (
            "rtmps-alone",
            "[server]\nrtmps_listen = \"127.0.0.1:1936\"".into(),
            vec!["server.rtmps_listen"],
        ),
        ("rtmps-preferred", "[server]\nprefer_rtmps = true".into(), vec!["server.prefer_rtmps"]),
        (
            "rtmps-twice",
            format!(
                "[server]\nrtmps_listen = \"127.0.0.1:1935\"\n[tls]\ncert = \"{there}\"\nkey = \"{there}\""
            ),
            vec!["server.rtmps_listen"],
        ),
    ];
    for (name, text, expected) in cases {
        let found = match load(name, &text, &[]) {
            Ok(config) => {
                assert!(config.tls.is_some() && config.is_https());
                vec![]
            }
            Err(ConfigProblems(found)) => found.into_iter().map(|problem| problem.path).collect(),
        };
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn hosts_and_origins_are_normalized() {
    let config = load(
        "normal",
        "[server]\nhosts = [\"LIVE.example\", \"10.0.0.1\", \"2001:DB8:0::1\"]\n\
         origins = [\"HTTPS://App.example:443\", \"http://a.example:8080\", \"http://[2001:DB8::1]:80\"]\n",
        &[],
    )
    .unwrap();
    assert_eq!(config.hosts, ["live.example", "10.0.0.1", "2001:db8::1"]);
    assert_eq!(
        config.origins,
        ["https://app.example", "http://a.example:8080", "http://[2001:db8::1]"]
    );
    for host in
        ["", "a b", "a/b", "http://a", "a:1", "[::1]", "0.0.0.0", "1.2.3", "-a", "a..b", "*.a"]
    {
        let found = paths("host", &format!("[server]\npublic_host = \"{host}\""));
        assert_eq!(found, ["server.public_host"], "{host}");
    }
}

#[test]
fn ip_ranges_contain_the_right_addresses() {
    let contains =
        |range: &str, ip: &str| range.parse::<Cidr>().unwrap().contains(ip.parse().unwrap());
    assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.0"));
    assert!(contains("10.0.0.0/8", "::ffff:10.1.1.1") && !contains("10.0.0.0/8", "::10.1.1.1"));
    assert!(contains("192.0.2.7", "192.0.2.7") && !contains("192.0.2.7", "192.0.2.6"));
    assert!(contains("0.0.0.0/0", "203.0.113.9") && !contains("0.0.0.0/0", "::1"));
    assert!(
        contains("2001:db8::/32", "2001:db8:ffff::1") && !contains("2001:db8::/32", "2001:db9::")
    );
    assert!(contains("::/0", "::1") && contains("::1/128", "::1"));
    for (range, read) in [
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ] {
        assert_eq!(range.parse::<Cidr>().unwrap().to_string(), read);
        assert!(contains(range, "10.0.0.1") && contains(range, "::ffff:10.0.0.1"), "{range}");
    }
    for bad in ["::ffff:10.0.0.1/104", "::ffff:0:0/95", "::ffff:10.0.0.0/64"] {
        assert!(bad.parse::<Cidr>().is_err(), "{bad}");
    }
    for bad in
        ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.1/8", "a/8", "2001:db8::1/32"]
    {
        assert!(bad.parse::<Cidr>().is_err(), "{bad}");
    }
}

#[test]
fn secrets_compare_equal_and_are_hidden_in_debug_output() {
    let secret = Secret::new("abc");
    assert!(secret.equals("abc"));
    for other in ["", "ab", "abcd", "abd", "Abc"] {
        assert!(!secret.equals(other), "{other}");
    }
    assert_eq!(format!("{secret:?}"), "Secret(***)");
}

#[test]
fn rst_1_a_drain_leaves_time_between_notice_and_freeze() {
    let drain = builtin().drain;
    assert_eq!((drain.freeze_ms(), drain.notice_ms), (8_000, 1_000));
    for (name, text, path) in [
        ("drain-short", "[drain]\ndeadline_ms = 3000", "drain.notice_ms"),
        ("drain-notice", "[drain]\nnotice_ms = 8000", "drain.notice_ms"),
        ("drain-none", "[drain]\ndeadline_ms = 2000", "drain.deadline_ms"),
        ("drain-old", "[server]\nstop_deadline_ms = 10000", "server.stop_deadline_ms"),
    ] {
        assert_eq!(paths(name, text), [path], "{text}");
    }
    let config = load("drain-least", "[drain]\ndeadline_ms = 2001\nnotice_ms = 0", &[]).unwrap();
    assert_eq!(config.drain.freeze_ms(), 1);
}

#[test]
fn a_connection_rate_of_zero_means_no_limit() {
    let ConnectionRate { per_second, burst } = builtin().connection_rate().unwrap();
    assert_eq!((per_second, burst), (50, 200));
    let config = load("rate", "[limits]\nconnections_per_second = 0", &[]).unwrap();
    assert_eq!(config.connection_rate(), None);
    assert_eq!(paths("burst", "[limits]\nconnection_burst = 0"), ["limits.connection_burst"]);
}
