//! Checks the table `relay`. Comes in: the table as written. Goes out: the configuration of the relay, and reports of
//! problems. Deliberately absent: checks that involve other tables, see `validate.rs`.

use std::ops::RangeInclusive;
use std::time::Duration;

use lianmai_media_plane::RelayConfig;

use super::HOUR_MS;
use super::raw::RawRelay;
use super::validate::{Check, KIB, MIB};

pub(super) fn relay(check: &mut Check, raw: &RawRelay) -> RelayConfig {
    let d = RelayConfig::default();
    let mut ms =
        |key: &str, value, default| check.duration(&format!("relay.{key}"), value, default);
    let times = RelayConfig {
        auth_timeout: ms("auth_timeout_ms", raw.auth_timeout_ms, d.auth_timeout),
        handshake_timeout: ms(
            "handshake_timeout_ms",
            raw.handshake_timeout_ms,
            d.handshake_timeout,
        ),
        publisher_idle_timeout: ms(
            "publisher_idle_timeout_ms",
            raw.publisher_idle_timeout_ms,
            d.publisher_idle_timeout,
        ),
        write_timeout: ms("write_timeout_ms", raw.write_timeout_ms, d.write_timeout),
        publisher_gap: ms("publisher_gap_ms", raw.publisher_gap_ms, d.publisher_gap),
        takeover_silence: ms("takeover_silence_ms", raw.takeover_silence_ms, d.takeover_silence),
        stall_after: ms("stall_after_ms", raw.stall_after_ms, d.stall_after),
        heartbeat: ms("heartbeat_ms", raw.heartbeat_ms, d.heartbeat),
        player_queue_time: ms("player_queue_ms", raw.player_queue_ms, d.player_queue_time),
        gop_time: ms("gop_ms", raw.gop_ms, d.gop_time),
        hls_idle: ms("hls_idle_ms", raw.hls_idle_ms, d.hls_idle),
        ..d.clone()
    };
    // Segment numbers begin with the Unix time in seconds. They never go back if no segment is shorter than a second.
    let segment = u64::try_from(d.hls_segment.as_millis()).unwrap_or(u64::MAX);
    let segment = check.number("relay.hls_segment_ms", raw.hls_segment_ms, segment, 1000..=HOUR_MS);
    let mut size = |key: &str, value, default, range: RangeInclusive<usize>| {
        check.number(&format!("relay.{key}"), value, default, range)
    };
    RelayConfig {
        player_queue_bytes: size(
            "player_queue_bytes",
            raw.player_queue_bytes,
            d.player_queue_bytes,
            64 * KIB..=64 * MIB,
        ),
        gop_bytes: size("gop_bytes", raw.gop_bytes, d.gop_bytes, 0..=256 * MIB),
        media_total_bytes: size(
            "media_total_bytes",
            raw.media_total_bytes,
            d.media_total_bytes,
            64 * MIB..=1024 * 1024 * MIB,
        ),
        hls_total_bytes: size(
            "hls_total_bytes",
            raw.hls_total_bytes,
            d.hls_total_bytes,
            0..=1024 * 1024 * MIB,
        ),
        forward_total_bytes: size(
            "forward_total_bytes",
            raw.forward_total_bytes,
            d.forward_total_bytes,
            64 * MIB..=1024 * 1024 * MIB,
        ),
        gop_packets: size("gop_packets", raw.gop_packets, d.gop_packets, 1..=65_536),
        max_connections: size(
            "max_connections",
            raw.max_connections,
            d.max_connections,
            1..=1_000_000,
        ),
        max_connections_per_address: size(
            "max_connections_per_address",
            raw.max_connections_per_address,
            d.max_connections_per_address,
            1..=1_000_000,
        ),
        max_players: size("max_players", raw.max_players, d.max_players, 1..=1_000_000),
        max_waiters: size("max_waiters", raw.max_waiters, d.max_waiters, 1..=1_000_000),
        hls_segment: Duration::from_millis(segment),
        ..times
    }
}
