//! The configuration as written. Comes in: a TOML tree. Goes out: structs in which each key is optional and no unknown
//! key is accepted. Deliberately absent: defaults and checks, see `validate.rs`.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};

use super::Secret;

/// The source of a secret.
#[derive(Debug)]
pub(super) enum RawSecret {
    /// Written in place.
    Inline(Secret),
    /// In a file; white space at its ends is ignored.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
}

impl<'de> Deserialize<'de> for RawSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not derived, because serde's own messages quote the invalid value.
        const SHAPE: &str = "expected a string, { file = \"PATH\" } or { env = \"NAME\" }";
        let shape = || de::Error::custom(SHAPE);
        match toml::Value::deserialize(deserializer).map_err(|_| shape())? {
            toml::Value::String(text) => Ok(RawSecret::Inline(Secret::new(text))),
            toml::Value::Table(table) if table.len() == 1 => match table.into_iter().next() {
                Some((key, toml::Value::String(name))) if key == "file" => {
                    Ok(RawSecret::File(name.into()))
                }
                Some((key, toml::Value::String(name))) if key == "env" => Ok(RawSecret::Env(name)),
                _ => Err(shape()),
            },
            _ => Err(shape()),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    #[serde(default)]
    pub(super) server: RawServer,
    #[serde(default)]
    pub(super) debug: RawDebug,
    #[serde(default)]
    pub(super) tls: RawTls,
    pub(super) apps: Option<Vec<RawApp>>,
    #[serde(default)]
    pub(super) limits: RawLimits,
    #[serde(default)]
    pub(super) session: RawSession,
    #[serde(default)]
    pub(super) drain: RawDrain,
    #[serde(default)]
    pub(super) relay: RawRelay,
    #[serde(default)]
    pub(super) tasks: RawTasks,
    #[serde(default)]
    pub(super) webhooks: RawWebhooks,
    #[serde(default)]
    pub(super) history: RawHistory,
    #[serde(default)]
    pub(super) log: RawLog,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWebhooks {
    pub(super) allow: Option<Vec<String>>,
    pub(super) keep_s: Option<u64>,
    pub(super) keep_events: Option<u64>,
    pub(super) give_up_s: Option<u64>,
    pub(super) timeout_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHistory {
    pub(super) keep_s: Option<u64>,
    pub(super) keep_rows: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawServer {
    pub(super) listen: Option<String>,
    pub(super) admin_listen: Option<String>,
    pub(super) admin_tls: Option<bool>,
    pub(super) rtmp_listen: Option<String>,
    pub(super) rtmps_listen: Option<String>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) public_host: Option<String>,
    pub(super) public_port: Option<u16>,
    pub(super) public_rtmp_port: Option<u16>,
    pub(super) public_rtmps_port: Option<u16>,
    pub(super) prefer_rtmps: Option<bool>,
    pub(super) public_https: Option<bool>,
    pub(super) trusted_proxies: Option<Vec<String>>,
    pub(super) hosts: Option<Vec<String>>,
    pub(super) origins: Option<Vec<String>>,
    pub(super) page: Option<bool>,
    pub(super) shards: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDebug {
    pub(super) allow_from: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawMode {
    Debug,
    Safe,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawMedia {
    Relay,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum RawDuplicate {
    KickOld,
    RejectNew,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawApp {
    pub(super) appkey: Option<String>,
    pub(super) mode: Option<RawMode>,
    pub(super) duplicate: Option<RawDuplicate>,
    pub(super) creator_moderates: Option<bool>,
    pub(super) dissolve_on_creator_leave: Option<bool>,
    pub(super) tasks_end_with_owner: Option<bool>,
    pub(super) media: Option<RawMedia>,
    pub(super) basic: Option<RawBasic>,
    pub(super) jwt: Option<Vec<RawJwt>>,
    pub(super) forward: Option<Vec<RawForward>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawForward {
    pub(super) url: Option<RawSecret>,
    pub(super) ca: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBasic {
    pub(super) secret: Option<RawSecret>,
    pub(super) allowed_ttls_s: Option<Vec<u64>>,
    pub(super) allow_digit_names: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawJwt {
    pub(super) kid: Option<String>,
    pub(super) secret: Option<RawSecret>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) max_connections: Option<u64>,
    pub(super) max_connections_per_address: Option<u64>,
    pub(super) connections_per_second: Option<u64>,
    pub(super) connection_burst: Option<u64>,
    pub(super) max_lag_bytes: Option<u64>,
    pub(super) log_bytes: Option<u64>,
    pub(super) channels: Option<u64>,
    pub(super) members: Option<u64>,
    pub(super) broadcasters: Option<u64>,
    pub(super) subscriptions: Option<u64>,
    pub(super) tasks: Option<u64>,
    pub(super) attribute_bytes: Option<u64>,
    pub(super) channel_attribute_bytes: Option<u64>,
    pub(super) message_bytes: Option<u64>,
    pub(super) commands_per_second: Option<u64>,
    pub(super) command_burst: Option<u64>,
    pub(super) channel_bytes_per_second: Option<u64>,
    pub(super) bans: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSession {
    pub(super) ping_interval_ms: Option<u64>,
    pub(super) dead_after_ms: Option<u64>,
    pub(super) grace_ms: Option<u64>,
    pub(super) media_idle_ms: Option<u64>,
    pub(super) media_cap_ms: Option<u64>,
    pub(super) restart_grace_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDrain {
    pub(super) deadline_ms: Option<u64>,
    pub(super) notice_ms: Option<u64>,
    pub(super) retry_after_ms: Option<u64>,
    pub(super) jitter_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRelay {
    pub(super) url_ttl_s: Option<u64>,
    pub(super) auth_timeout_ms: Option<u64>,
    pub(super) handshake_timeout_ms: Option<u64>,
    pub(super) publisher_idle_timeout_ms: Option<u64>,
    pub(super) write_timeout_ms: Option<u64>,
    pub(super) publisher_gap_ms: Option<u64>,
    pub(super) takeover_silence_ms: Option<u64>,
    pub(super) stall_after_ms: Option<u64>,
    pub(super) heartbeat_ms: Option<u64>,
    pub(super) player_queue_bytes: Option<u64>,
    pub(super) player_queue_ms: Option<u64>,
    pub(super) gop_bytes: Option<u64>,
    pub(super) media_total_bytes: Option<u64>,
    pub(super) gop_packets: Option<u64>,
    pub(super) gop_ms: Option<u64>,
    pub(super) hls_segment_ms: Option<u64>,
    pub(super) hls_idle_ms: Option<u64>,
    pub(super) hls_total_bytes: Option<u64>,
    pub(super) forward_total_bytes: Option<u64>,
    pub(super) max_connections: Option<u64>,
    pub(super) max_connections_per_address: Option<u64>,
    pub(super) max_players: Option<u64>,
    pub(super) max_waiters: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTasks {
    pub(super) serve: Option<bool>,
    pub(super) compositor: Option<PathBuf>,
    pub(super) ffmpeg: Option<PathBuf>,
    pub(super) cpu_percent: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) idle_ms: Option<u64>,
    pub(super) max_retries: Option<u64>,
    pub(super) private_push: Option<bool>,
    pub(super) private_images: Option<bool>,
    pub(super) ca: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawLogFormat {
    Auto,
    Text,
    Json,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) format: Option<RawLogFormat>,
    pub(super) filter: Option<String>,
    pub(super) lines_per_second: Option<u64>,
    pub(super) line_burst: Option<u64>,
}
