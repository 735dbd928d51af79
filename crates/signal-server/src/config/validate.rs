//! Checks the configuration as written. Comes in: raw structs, and the problems found so far. Goes out: a [`Config`],
//! or all problems. Deliberately absent: the sources, see `load.rs`, and apps, see `apps.rs`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lianmai_media_plane::RelayConfig;
use lianmai_protocol::limits::{Limits, MAX_CLIENT_FRAME_BYTES, MAX_SERVER_FRAME_BYTES};
use lianmai_signal_engine::{STALL_MS, SessionTimers};
use tracing_subscriber::EnvFilter;

use super::load::Removed;
use super::raw::{RawConfig, RawDrain, RawLimits, RawLogFormat, RawServer, RawSession, RawTls};
use super::{
    Cidr, Config, ConfigProblem, ConfigProblems, DrainConfig, FREEZE_MS, HOUR_MS, HistoryConfig,
    LogFormat, TasksConfig, TlsConfig, WebhooksConfig, apps, forward, history, relay,
    split_authority, tasks, warnings, webhooks,
};

pub(super) const KIB: usize = 1024;
pub(super) const MIB: usize = 1024 * KIB;

/// Collects problems and warnings.
pub(super) struct Check<'a> {
    /// Environment variables, which secrets may refer to.
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) problems: Vec<ConfigProblem>,
    pub(super) warnings: Vec<ConfigProblem>,
    pub(super) removed: Removed,
}

impl Check<'_> {
    /// Records a problem.
    pub(super) fn problem(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.problems.push(ConfigProblem { path: path.into(), text: text.into() });
    }

    /// Records a setting that works but is unwise.
    pub(super) fn warn(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.warnings.push(ConfigProblem { path: path.into(), text: text.into() });
    }

    /// Path of an element of an array, with the index of its source.
    pub(super) fn element(&self, array: &str, index: usize) -> String {
        format!("{array}[{}]", self.removed.original(array, index))
    }

    /// Records that a key is missing, unless something at or below it was reported already.
    pub(super) fn missing(&mut self, path: &str, text: &str) {
        if !self.reported(path) {
            self.problem(path, text);
        }
    }

    /// Whether something at or below a key was reported.
    pub(super) fn reported(&self, path: &str) -> bool {
        self.problems.iter().any(|problem| {
            let rest = problem.path.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// A number within bounds, or the default where it is absent or out of bounds.
    pub(super) fn number<N>(
        &mut self,
        path: &str,
        value: Option<u64>,
        default: N,
        range: RangeInclusive<N>,
    ) -> N
    where
        N: Copy + PartialOrd + Display + TryFrom<u64>,
    {
        let Some(value) = value else { return default };
        match N::try_from(value) {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let text = format!("{value} is not in {}..={}", range.start(), range.end());
                self.problem(path, text);
                default
            }
        }
    }

    /// A duration in milliseconds, from 1 to one hour.
    pub(super) fn duration(
        &mut self,
        path: &str,
        value: Option<u64>,
        default: Duration,
    ) -> Duration {
        let ms = u64::try_from(default.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.number(path, value, ms, 1..=HOUR_MS))
    }

    fn address(&mut self, path: &str, value: Option<String>, port: u16) -> SocketAddr {
        let default = SocketAddr::from(([127, 0, 0, 1], port));
        let Some(text) = value else { return default };
        text.parse().unwrap_or_else(|_| {
            self.problem(path, format!("`{text}` is no IP:PORT, as `127.0.0.1:{port}`"));
            default
        })
    }

    fn port(&mut self, path: &str, value: Option<u16>) -> Option<u16> {
        if value == Some(0) {
            self.problem(path, "0 is no port that a URL can name");
        }
        value
    }
}

/// Checks the whole configuration.
pub(super) fn config(raw: RawConfig, mut check: Check) -> Result<Config, ConfigProblems> {
    let limits = limits(&mut check, &raw.limits);
    let session = session(&mut check, &raw.session);
    if limits.snapshot_bytes() > MAX_SERVER_FRAME_BYTES {
        check.problem(
            "limits.broadcasters",
            format!(
                "with limits.subscriptions and limits.channel_attribute_bytes the largest snapshot is {} \
                 bytes, {MAX_SERVER_FRAME_BYTES} fit into a frame",
                limits.snapshot_bytes()
            ),
        );
    }
    // A snapshot waits in the outbox like all other frames (ADR 0010).
    let least_lag = limits.snapshot_bytes().saturating_mul(2).min(64 * MIB);
    let max_lag_bytes = check.number(
        "limits.max_lag_bytes",
        raw.limits.max_lag_bytes,
        (2 * MIB).max(least_lag),
        least_lag..=64 * MIB,
    );
    let max_connections =
        check.number("limits.max_connections", raw.limits.max_connections, 50_000, 1..=1_000_000);
    let max_connections_per_address = check.number(
        "limits.max_connections_per_address",
        raw.limits.max_connections_per_address,
        1024,
        1..=1_000_000,
    );
    let connections_per_second = check.number(
        "limits.connections_per_second",
        raw.limits.connections_per_second,
        50,
        0..=1_000_000,
    );
    let connection_burst =
        check.number("limits.connection_burst", raw.limits.connection_burst, 200, 1..=1_000_000);
    let log_bytes =
        check.number("limits.log_bytes", raw.limits.log_bytes, 64 * MIB, MIB..=64 * 1024 * MIB);
    let restart_grace_ms =
        check.number("session.restart_grace_ms", raw.session.restart_grace_ms, 60_000, 0..=HOUR_MS);
    let url_ttl_s =
        check.number("relay.url_ttl_s", raw.relay.url_ttl_s, 24 * 3600, 60..=7 * 24 * 3600);
    let log_filter = raw.log.filter.unwrap_or_else(|| "info".to_owned());
    if let Err(error) = EnvFilter::builder().parse(&log_filter) {
        check.problem("log.filter", error.to_string());
    }
    let defaults = RelayConfig::default();
    let log_lines_per_second = check.number(
        "log.lines_per_second",
        raw.log.lines_per_second,
        defaults.log_lines_per_second,
        0..=1_000_000,
    );
    let log_line_burst =
        check.number("log.line_burst", raw.log.line_burst, defaults.log_line_burst, 1..=1_000_000);
    let relay = relay::relay(&mut check, &raw.relay);
    // Media counts as life only as often as the relay reports it (LIV-3).
    if relay.heartbeat.as_millis() * 2 > u128::from(session.media_idle_ms) {
        check.problem("relay.heartbeat_ms", "at most half of session.media_idle_ms");
    }
    let page = raw.server.page;
    let raw_tasks = raw.tasks;
    let mut config = Config {
        tls: tls(&mut check, raw.tls),
        debug_allow_from: ranges(&mut check, "debug.allow_from", raw.debug.allow_from),
        apps: apps::apps(&mut check, raw.apps),
        relay,
        limits,
        session,
        restart_grace_ms,
        drain: drain(&mut check, &raw.drain),
        webhooks: webhooks::webhooks(&mut check, raw.webhooks),
        history: history::history(&mut check, raw.history),
        log_bytes,
        max_lag_bytes,
        max_connections,
        max_connections_per_address,
        connections_per_second,
        connection_burst,
        url_ttl_s,
        log_format: match raw.log.format {
            None | Some(RawLogFormat::Auto) => LogFormat::Auto,
            Some(RawLogFormat::Text) => LogFormat::Text,
            Some(RawLogFormat::Json) => LogFormat::Json,
        },
        log_filter,
        ..server(&mut check, raw.server)
    };
    config.page = page.unwrap_or_else(|| config.has_debug_app());
    // In debug mode all clients are on this machine and reach its private addresses anyway.
    let is_local = config.has_debug_app() && config.debug_allow_from.is_empty();
    config.tasks = tasks::tasks(&mut check, raw_tasks, is_local);
    config.relay = RelayConfig {
        connections_per_second: config.connections_per_second,
        connection_burst: config.connection_burst,
        exempt_loopback: config.has_debug_app(),
        apps: config.apps.len(),
        log_lines_per_second,
        log_line_burst,
        ..config.relay
    };
    listeners(&mut check, &config);
    forward::loops(&mut check, &config);
    warnings::collect(&mut check, &config);
    config.warnings = std::mem::take(&mut check.warnings);
    if check.problems.is_empty() { Ok(config) } else { Err(ConfigProblems(check.problems)) }
}

/// The table `server`. The caller replaces all other fields.
fn server(check: &mut Check, raw: RawServer) -> Config {
    let data_dir = raw.data_dir.unwrap_or_else(|| PathBuf::from("./lianmai-data"));
    if data_dir.as_os_str().is_empty() {
        check.problem("server.data_dir", "is empty");
    }
    let public_host = raw.public_host.map(|host| normal_host(&host));
    if let Some(host) = public_host.as_deref().filter(|host| !is_host(host)) {
        check.problem("server.public_host", format!("`{host}` is no host name or IP address"));
    }
    let mut hosts = Vec::new();
    for (i, host) in raw.hosts.unwrap_or_default().into_iter().enumerate() {
        let host = normal_host(&host);
        if is_host(&host) {
            hosts.push(host);
        } else {
            let text = format!("`{host}` is no host name or IP address; leave out the port");
            check.problem(check.element("server.hosts", i), text);
        }
    }
    let mut origins = Vec::new();
    for (i, origin) in raw.origins.unwrap_or_default().into_iter().enumerate() {
        match normal_origin(&origin) {
            Some(origin) => origins.push(origin),
            None => check.problem(
                check.element("server.origins", i),
                format!("`{origin}` is no origin, as `https://app.example.com` without a path"),
            ),
        }
    }
    let rtmps_listen =
        raw.rtmps_listen.map(|text| check.address("server.rtmps_listen", Some(text), 1936));
    let prefer_rtmps = raw.prefer_rtmps.unwrap_or(false);
    if rtmps_listen.is_none() && prefer_rtmps {
        check.problem("server.prefer_rtmps", "needs server.rtmps_listen");
    }
    let shards = raw.shards.map(|_| check.number("server.shards", raw.shards, 1, 1..=256));
    Config {
        listen: check.address("server.listen", raw.listen, 8600),
        admin_listen: check.address("server.admin_listen", raw.admin_listen, 8601),
        admin_tls: raw.admin_tls.unwrap_or(false),
        rtmp_listen: check.address("server.rtmp_listen", raw.rtmp_listen, 1935),
        rtmps_listen,
        data_dir,
        public_host,
        public_port: check.port("server.public_port", raw.public_port),
        public_rtmp_port: check.port("server.public_rtmp_port", raw.public_rtmp_port),
        public_rtmps_port: check.port("server.public_rtmps_port", raw.public_rtmps_port),
        prefer_rtmps,
        public_https: raw.public_https.unwrap_or(false),
        trusted_proxies: ranges(check, "server.trusted_proxies", raw.trusted_proxies),
        hosts,
        origins,
        page: false,
        debug_allow_from: Vec::new(),
        shards,
        max_connections: 0,
        max_connections_per_address: 0,
        connections_per_second: 0,
        connection_burst: 0,
        tls: None,
        apps: Vec::new(),
        limits: Limits::default(),
        session: SessionTimers::default(),
        restart_grace_ms: 0,
        log_bytes: 0,
        max_lag_bytes: 0,
        url_ttl_s: 0,
        relay: RelayConfig::default(),
        tasks: TasksConfig::new(false),
        drain: DrainConfig { deadline_ms: 0, notice_ms: 0, retry_after_ms: 0, jitter_ms: 0 },
        webhooks: WebhooksConfig::default(),
        history: HistoryConfig::default(),
        log_format: LogFormat::Auto,
        log_filter: String::new(),
        warnings: Vec::new(),
    }
}

/// A host in the form that is compared: lower-case, IP addresses as the standard library writes them.
fn normal_host(host: &str) -> String {
    host.parse::<IpAddr>().map_or_else(|_| host.to_ascii_lowercase(), |ip| ip.to_string())
}

/// Whether this is a name or IP address for a URL: lower-case, without port or brackets.
fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // Browsers, for instance, read a last label of digits as a number.
    let is_name = || {
        host.len() <= 253
            && host.split('.').all(is_label)
            && host.rsplit('.').next().is_some_and(|top| !top.bytes().all(|b| b.is_ascii_digit()))
    };
    match host.parse::<IpAddr>() {
        Ok(ip) => !ip.is_unspecified(),
        Err(_) => is_name(),
    }
}

/// An origin as browsers write it: lower-case, without the default port of its scheme.
fn normal_origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let (host, port) = split_authority(authority)?;
    let bare = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(|ip| ip.to_string())?,
        None => host.to_owned(),
    };
    if !is_host(&bare) {
        return None;
    }
    let host = if bare.contains(':') { format!("[{bare}]") } else { bare };
    Some(match port {
        Some(port) if port != default_port => format!("{scheme}://{host}:{port}"),
        _ => format!("{scheme}://{host}"),
    })
}

fn tls(check: &mut Check, raw: RawTls) -> Option<TlsConfig> {
    let mut file = |path: &str, file: &Path| {
        if let Err(error) = std::fs::File::open(file) {
            check.problem(path, format!("`{}` cannot be read: {error}", file.display()));
        }
    };
    if let Some(cert) = &raw.cert {
        file("tls.cert", cert);
    }
    if let Some(key) = &raw.key {
        file("tls.key", key);
        warnings::exposed(check, "tls.key", key, true);
    }
    match (raw.cert, raw.key) {
        (Some(cert), Some(key)) => Some(TlsConfig { cert, key }),
        (None, None) => None,
        (Some(_), None) => {
            check.missing("tls.key", "is needed beside tls.cert");
            None
        }
        (None, Some(_)) => {
            check.missing("tls.cert", "is needed beside tls.key");
            None
        }
    }
}

pub(super) fn ranges(check: &mut Check, path: &str, raw: Option<Vec<String>>) -> Vec<Cidr> {
    let mut ranges = Vec::new();
    for (i, text) in raw.unwrap_or_default().iter().enumerate() {
        match text.parse() {
            Ok(range) => ranges.push(range),
            Err(error) => check.problem(check.element(path, i), error),
        }
    }
    ranges
}

fn limits(check: &mut Check, raw: &RawLimits) -> Limits {
    let d = Limits::default();
    // Leaves room in a command for the escapes of a string and the envelope.
    let most_text = MAX_CLIENT_FRAME_BYTES * 3 / 4;
    let members = check.number("limits.members", raw.members, d.members, 1..=1_000_000);
    // A snapshot with more would not fit into a server frame.
    let broadcasters =
        check.number("limits.broadcasters", raw.broadcasters, d.broadcasters, 1..=5_000);
    Limits {
        members,
        // Only a configured number can be too large.
        broadcasters: if raw.broadcasters.is_none() {
            broadcasters.min(members)
        } else {
            if broadcasters > members {
                let text = format!("{broadcasters} is more than limits.members, {members}");
                check.problem("limits.broadcasters", text);
            }
            broadcasters
        },
        channels: check.number("limits.channels", raw.channels, d.channels, 1..=10_000_000),
        subscriptions: check.number(
            "limits.subscriptions",
            raw.subscriptions,
            d.subscriptions,
            1..=20_000,
        ),
        tasks: check.number("limits.tasks", raw.tasks, d.tasks, 1..=64),
        attribute_bytes: check.number(
            "limits.attribute_bytes",
            raw.attribute_bytes,
            d.attribute_bytes,
            1..=most_text,
        ),
        channel_attribute_bytes: check.number(
            "limits.channel_attribute_bytes",
            raw.channel_attribute_bytes,
            d.channel_attribute_bytes,
            1..=MIB,
        ),
        message_bytes: check.number(
            "limits.message_bytes",
            raw.message_bytes,
            d.message_bytes,
            1..=most_text,
        ),
        commands_per_second: check.number(
            "limits.commands_per_second",
            raw.commands_per_second,
            d.commands_per_second,
            1..=10_000,
        ),
        command_burst: check.number(
            "limits.command_burst",
            raw.command_burst,
            d.command_burst,
            1..=100_000,
        ),
        channel_bytes_per_second: check.number(
            "limits.channel_bytes_per_second",
            raw.channel_bytes_per_second,
            d.channel_bytes_per_second,
            65_536..=1 << 30,
        ),
        bans: check.number("limits.bans", raw.bans, d.bans, 1..=10_000_000),
    }
}

fn session(check: &mut Check, raw: &RawSession) -> SessionTimers {
    let d = SessionTimers::default();
    let mut ms = |path: &str, value, default| check.number(path, value, default, 1..=HOUR_MS);
    let timers = SessionTimers {
        ping_interval_ms: ms("session.ping_interval_ms", raw.ping_interval_ms, d.ping_interval_ms),
        dead_after_ms: ms("session.dead_after_ms", raw.dead_after_ms, d.dead_after_ms),
        grace_ms: ms("session.grace_ms", raw.grace_ms, d.grace_ms),
        media_idle_ms: ms("session.media_idle_ms", raw.media_idle_ms, d.media_idle_ms),
        media_cap_ms: ms("session.media_cap_ms", raw.media_cap_ms, d.media_cap_ms),
    };
    let SessionTimers { ping_interval_ms, dead_after_ms, grace_ms, media_cap_ms, .. } = timers;
    // The deadlines of peers are not extended when the server stalls for less than [`STALL_MS`].
    let least = ping_interval_ms + STALL_MS;
    if dead_after_ms <= least {
        check.problem(
            "session.dead_after_ms",
            format!("{dead_after_ms} is not more than session.ping_interval_ms and 2 s, {least}"),
        );
    }
    if media_cap_ms < grace_ms {
        check.problem(
            "session.media_cap_ms",
            format!("{media_cap_ms} is less than session.grace_ms, {grace_ms}"),
        );
    }
    timers
}

fn drain(check: &mut Check, raw: &RawDrain) -> DrainConfig {
    let mut ms = |path: &str, value, default, range| check.number(path, value, default, range);
    let drain = DrainConfig {
        deadline_ms: ms("drain.deadline_ms", raw.deadline_ms, 10_000, FREEZE_MS + 1..=600_000),
        notice_ms: ms("drain.notice_ms", raw.notice_ms, 1_000, 0..=600_000),
        retry_after_ms: ms("drain.retry_after_ms", raw.retry_after_ms, 1_000, 0..=HOUR_MS),
        jitter_ms: ms("drain.jitter_ms", raw.jitter_ms, 2_000, 0..=HOUR_MS),
    };
    let DrainConfig { deadline_ms, notice_ms, .. } = drain;
    if drain.freeze_ms() <= notice_ms {
        check.problem(
            "drain.notice_ms",
            format!(
                "{notice_ms} is not less than drain.deadline_ms, {deadline_ms}, without the \
                 {FREEZE_MS} ms in which everything is written"
            ),
        );
    }
    drain
}

/// Checks that involve several keys: which clients can reach a listener, and the host of URLs.
fn listeners(check: &mut Check, config: &Config) {
    let mut listeners = vec![
        ("server.listen", config.listen),
        ("server.admin_listen", config.admin_listen),
        ("server.rtmp_listen", config.rtmp_listen),
    ];
    if config.admin_tls && config.tls.is_none() && !check.reported("tls") {
        check.problem("server.admin_tls", "needs tls.cert and tls.key");
    }
    if let Some(rtmps) = config.rtmps_listen {
        listeners.push(("server.rtmps_listen", rtmps));
        if config.tls.is_none() && !check.reported("tls") {
            check.problem("server.rtmps_listen", "needs tls.cert and tls.key");
        }
    }
    for (i, (path, address)) in listeners.iter().enumerate() {
        let ip = address.ip();
        if config.has_debug_app() && config.debug_allow_from.is_empty() && !ip.is_loopback() {
            check.problem(
                *path,
                format!(
                    "{address} is not on loopback and an app is in debug mode: give every app \
                     `mode = \"safe\"`, or name in debug.allow_from who may come"
                ),
            );
        }
        let in_urls = *path != "server.admin_listen";
        if in_urls && ip.is_unspecified() && config.public_host.is_none() {
            let text = format!("{address} names no host for URLs: set server.public_host");
            check.problem(*path, text);
        }
        if let Some((other, _)) =
            listeners[..i].iter().find(|(_, before)| address.port() != 0 && before == address)
        {
            check.problem(*path, format!("{address} is {other} too"));
        }
    }
}
