//! The checked configuration of the server. Comes in: one TOML file, environment, flags (later ones win). Goes out:
//! [`Config`], or all problems at once. Deliberately absent: defaults that the comments of `default.toml` do not name.

mod address;
mod apps;
mod forward;
mod history;
mod load;
mod raw;
mod relay;
mod tasks;
mod validate;
mod warnings;
mod webhooks;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use lianmai_media_plane::RelayConfig;
use lianmai_protocol::Appkey;
use lianmai_protocol::limits::Limits;
use lianmai_signal_engine::{AppPolicy, SessionTimers};

pub use address::Cidr;
pub(crate) use address::{split_authority, without_brackets};
pub use forward::{ForwardConfig, ForwardTemplate};
pub use history::HistoryConfig;
pub use tasks::TasksConfig;
pub use webhooks::WebhooksConfig;

const HOUR_MS: u64 = 3_600_000;

/// Time from the freeze to the end of the process, in milliseconds: for the hand-over, and for the last answers.
pub(crate) const FREEZE_MS: u64 = 2_000;

/// The default configuration with its comments, as `gen-config` prints it. It holds no secret.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// A secret: never printed, not even by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The secret itself. The result must not reach a log, an error or an answer.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `given` is the secret. The time depends only on the lengths.
    #[must_use]
    pub fn equals(&self, given: &str) -> bool {
        let (a, b) = (self.0.as_bytes(), given.as_bytes());
        let difference = a.iter().zip(b).fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
        a.len() == b.len() && difference == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// One problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The key, such as `session.grace_ms` or `apps[0].appkey`, or the path of a file.
    pub path: String,
    /// The description. It never holds a secret.
    pub text: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}

/// All problems of a configuration, at least one. `Display` writes one per line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblems(pub Vec<ConfigProblem>);

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigProblems {}

/// Whether an app checks tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppMode {
    /// No tokens (AUT-1); loopback only (CON-5).
    Debug,
    /// Every join needs a token of one of the configured kinds.
    Safe(TokenKeys),
}

/// The keys that tokens of an app are checked with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenKeys {
    /// For NERTC basic tokens; without it they are refused.
    pub basic: Option<BasicKey>,
    /// JWT (HS256) keys by key id.
    pub jwt: Vec<JwtKey>,
}

/// The key that NERTC basic tokens are checked with (AUT-2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicKey {
    /// The app's secret.
    pub secret: Secret,
    /// Lifetimes in seconds that tokens may state; no entry is a decimal prefix of another.
    pub allowed_ttls: Vec<u32>,
    /// Whether channel names may begin with a digit.
    pub allow_digit_names: bool,
}

/// One JWT key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtKey {
    /// Matches the token's `kid`.
    pub kid: String,
    /// HS256 secret, at least 32 bytes.
    pub secret: Secret,
}

/// One app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppConfig {
    /// Its key.
    pub appkey: Appkey,
    /// Whether it checks tokens.
    pub mode: AppMode,
    /// Its channel rules.
    pub policy: AppPolicy,
    /// The server that carries its media.
    pub media: MediaServer,
    /// Other servers that get each publish.
    pub forwards: Vec<ForwardConfig>,
}

/// The server that carries the media of an app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaServer {
    /// The relay in this process.
    #[default]
    Relay,
}

/// TLS of the public listener, of RTMPS, and of the admin listener if [`Config::admin_tls`] is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM file with the certificate chain.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// Connection rate of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionRate {
    /// Connections per second in the long run.
    pub(crate) per_second: u32,
    /// Connections at once.
    pub(crate) burst: u32,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object per line.
    Json,
}

/// Timing of a stop (RST-1), in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainConfig {
    /// Maximum time of a stop.
    pub deadline_ms: u64,
    /// Minimum time that clients stay connected after the notice.
    pub notice_ms: u64,
    /// Time that clients are told to stay away: until the next process listens.
    pub retry_after_ms: u64,
    /// Range of the random time that is added to it.
    pub jitter_ms: u64,
}

impl DrainConfig {
    /// Time from the begin of a stop until the last client is closed and nothing changes any more.
    #[must_use]
    pub fn freeze_ms(&self) -> u64 {
        self.deadline_ms.saturating_sub(FREEZE_MS)
    }
}

/// The complete configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Public listener: WebSocket, HTTP-FLV, HLS and the page.
    pub listen: SocketAddr,
    /// Admin listener.
    pub admin_listen: SocketAddr,
    /// Whether the admin listener speaks TLS, with the certificate of [`Config::tls`].
    pub admin_tls: bool,
    /// RTMP listener of the embedded relay.
    pub rtmp_listen: SocketAddr,
    /// RTMPS listener of the embedded relay, with the certificate of [`Config::tls`].
    pub rtmps_listen: Option<SocketAddr>,
    /// Directory of secrets and the store; created with mode 0700 if missing.
    pub data_dir: PathBuf,
    /// Host in URLs; the listener's address when absent.
    pub public_host: Option<String>,
    /// Port of the public listener in URLs, where a proxy changes it.
    pub public_port: Option<u16>,
    /// RTMP port in URLs, where a proxy changes it.
    pub public_rtmp_port: Option<u16>,
    /// RTMPS port in URLs, where a proxy changes it.
    pub public_rtmps_port: Option<u16>,
    /// Whether the field `url` of media URLs is the RTMPS one.
    pub prefer_rtmps: bool,
    /// Whether clients use `https` for the public listener, although this process serves plain HTTP.
    pub public_https: bool,
    /// Trusted proxies: peers whose `X-Forwarded-For` or `Forwarded` counts.
    pub trusted_proxies: Vec<Cidr>,
    /// Host names that requests may carry, besides loopback (CON-3).
    pub hosts: Vec<String>,
    /// Origins whose pages may connect, besides the listener's own.
    pub origins: Vec<String>,
    /// Whether the public listener has the page at `/`.
    pub page: bool,
    /// Addresses from which debug mode may be used besides loopback (CON-5).
    pub debug_allow_from: Vec<Cidr>,
    /// Worker shards; the number of cores when absent.
    pub shards: Option<usize>,
    /// Maximum number of connections of the public listener.
    pub max_connections: usize,
    /// Maximum number of them for one IPv4 address or IPv6 /64 that is not loopback.
    pub max_connections_per_address: usize,
    /// New connections of one address per second in the long run; 0 for no limit.
    pub connections_per_second: u32,
    /// New connections of one address at once.
    pub connection_burst: u32,
    /// Certificate of the listeners with TLS.
    pub tls: Option<TlsConfig>,
    /// The apps.
    pub apps: Vec<AppConfig>,
    /// Protocol limits.
    pub limits: Limits,
    /// Session timers.
    pub session: SessionTimers,
    /// Time after a crash in which tickets replace expired tokens, in milliseconds (RES-9).
    pub restart_grace_ms: u64,
    /// Maximum size of the logs of all channels in bytes.
    pub log_bytes: usize,
    /// Maximum number of bytes that may wait for a slow reader.
    pub max_lag_bytes: usize,
    /// Validity of push and pull URLs in seconds.
    pub url_ttl_s: u64,
    /// The embedded relay.
    pub relay: RelayConfig,
    /// How push tasks are carried out.
    pub tasks: TasksConfig,
    /// How the server stops.
    pub drain: DrainConfig,
    /// Storage and delivery of events.
    pub webhooks: WebhooksConfig,
    /// Limits of the history of calls.
    pub history: HistoryConfig,
    /// Format of log lines.
    pub log_format: LogFormat,
    /// `tracing` filter, such as `info` or `lianmai=debug,info`.
    pub log_filter: String,
    /// Settings that work but are unwise. They hold no secret.
    pub warnings: Vec<ConfigProblem>,
}

impl Config {
    /// Whether an app is in debug mode. Then all listeners refuse requests that are not local (CON-5).
    #[must_use]
    pub fn has_debug_app(&self) -> bool {
        self.apps.iter().any(|app| app.mode == AppMode::Debug)
    }

    /// Turns warnings into problems.
    ///
    /// # Errors
    /// All warnings.
    pub fn strict(self) -> Result<Self, ConfigProblems> {
        if self.warnings.is_empty() { Ok(self) } else { Err(ConfigProblems(self.warnings)) }
    }

    /// The connection rate of one address; `None` for no limit.
    pub(crate) fn connection_rate(&self) -> Option<ConnectionRate> {
        let (per_second, burst) = (self.connections_per_second, self.connection_burst);
        (per_second > 0).then_some(ConnectionRate { per_second, burst })
    }

    /// Whether clients use `https` and `wss` for the public listener.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.tls.is_some() || self.public_https
    }
}
