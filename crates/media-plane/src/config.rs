//! The settings of the relay that an operator may tune.
//!
//! In: nothing. Out: [`RelayConfig`]. Absent: the bounds of the protocol, see [`crate::rtmp::limits`]; parsing and
//! validation, which the embedding server does.

use std::time::Duration;

/// Limits and times of the relay. Each limit is for the whole process unless its description says otherwise.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// Time for the authorizer to decide. After it, the request is refused with `authTimeout`, and the peer may ask
    /// again. Default 11 s: after a restart the server may wait up to 10 s for a member that comes back before it
    /// decides (RST-4).
    pub auth_timeout: Duration,
    /// Time for an RTMP connection from accept until it asks to publish or play, and again after each publish or play
    /// that the peer stopped. A TLS handshake has the same time in addition. Default 10 s.
    pub handshake_timeout: Duration,
    /// A publisher that sends nothing for this long is disconnected. Default 30 s.
    pub publisher_idle_timeout: Duration,
    /// A player whose socket takes nothing for this long is disconnected. Default 10 s.
    pub write_timeout: Duration,
    /// Time that players wait when their publisher is gone, so that it may return. Default 15 s.
    pub publisher_gap: Duration,
    /// A publisher that has sent no audio or video for this long may be replaced by another one. Default 1 s.
    pub takeover_silence: Duration,
    /// A publisher that has sent no audio or video for this long is reported as stalled. Default 2 s.
    pub stall_after: Duration,
    /// Interval at which [`FactState::Flowing`](crate::FactState::Flowing) is repeated while media flows.
    /// Default 5 s.
    pub heartbeat: Duration,
    /// Bytes that may wait for a player, in addition to the largest message. What the player got at its start does
    /// not count. Default 2 MiB.
    pub player_queue_bytes: usize,
    /// A player is cut when more bytes than that wait for it and the first of them has waited this long; with eight
    /// times as many bytes it is cut at once. Default 1 s.
    pub player_queue_time: Duration,
    /// Bytes of the cached group of pictures of one stream; 0 caches none. Default 16 MiB, which is ten seconds
    /// between keyframes at 12 Mbit/s.
    pub gop_bytes: usize,
    /// Bytes that all pushes together may hold: sequence headers and groups of pictures, each in FLV and in RTMP
    /// encoding, the messages that slow players have yet to get, and incomplete messages. One of several apps may
    /// hold at most three quarters, a member an eighth of the part of its app, and a push half of the part of its
    /// member; each may hold less while others hold something. A push without room first loses its group of pictures,
    /// then its slowest players; then it ends. Default 1 GiB.
    pub media_total_bytes: usize,
    /// Longest time that the cached group of pictures of one stream covers. Default 15 s.
    pub gop_time: Duration,
    /// Packets in the cached group of pictures of one stream. Default 4096.
    pub gop_packets: usize,
    /// An HLS segment ends at the first keyframe after this time. Default 2 s.
    pub hls_segment: Duration,
    /// HLS segments of a stream are made until nobody has requested it for this long. Default 30 s.
    pub hls_idle: Duration,
    /// Bytes of the HLS segments of all streams, divided like [`media_total_bytes`](Self::media_total_bytes). A
    /// stream without room keeps fewer segments. Default 1 GiB.
    pub hls_total_bytes: usize,
    /// Bytes that all forwards together may hold for upstreams that have yet to take them, divided like
    /// [`media_total_bytes`](Self::media_total_bytes). A forward without room ends its connection and begins again.
    /// Default 1 GiB.
    pub forward_total_bytes: usize,
    /// RTMP connections. Default 4096.
    pub max_connections: usize,
    /// RTMP connections of one IPv4 address or IPv6 /64. When few connections are left, an address gets fewer: an
    /// eighth of what is left, or, if it is more, the part of what is left that this value is of `max_connections`. A
    /// value of at least `max_connections` removes the bound. Default 256.
    pub max_connections_per_address: usize,
    /// New RTMP connections per second of one IPv4 address or IPv6 /64, in the long run; 0 means no limit.
    /// Default 50.
    pub connections_per_second: u32,
    /// New RTMP connections of one IPv4 address or IPv6 /64 at once. Default 200.
    pub connection_burst: u32,
    /// Exempts loopback from the rates of connections and log lines, because a proxy on this machine connects from
    /// there. Default false.
    pub exempt_loopback: bool,
    /// Log lines per second that one IPv4 address or IPv6 /64 may cause, in the long run; 0 means no limit.
    /// Default 20.
    pub log_lines_per_second: u32,
    /// Log lines that one IPv4 address or IPv6 /64 may cause at once. Default 200.
    pub log_line_burst: u32,
    /// Players of all protocols. One viewer has at most an eighth of the share of its app. Default 8192.
    pub max_players: usize,
    /// Players that wait for the first publisher of their stream. One stream has at most half of these slots, one
    /// viewer an eighth of the share of its app, and one address a quarter. The bound on an address applies neither
    /// to loopback nor if one address may have all connections. Default 4096.
    pub max_waiters: usize,
    /// Number of apps that use the relay. A single app may hold everything. One of several apps may hold at most
    /// three quarters, and less while others hold something. Default 1.
    pub apps: usize,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            auth_timeout: Duration::from_secs(11),
            handshake_timeout: Duration::from_secs(10),
            publisher_idle_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(10),
            publisher_gap: Duration::from_secs(15),
            takeover_silence: Duration::from_secs(1),
            stall_after: Duration::from_secs(2),
            heartbeat: Duration::from_secs(5),
            player_queue_bytes: 2 << 20,
            player_queue_time: Duration::from_secs(1),
            gop_bytes: 16 << 20,
            media_total_bytes: 1 << 30,
            gop_time: Duration::from_secs(15),
            gop_packets: 4096,
            hls_segment: Duration::from_secs(2),
            hls_idle: Duration::from_secs(30),
            hls_total_bytes: 1 << 30,
            forward_total_bytes: 1 << 30,
            max_connections: 4096,
            max_connections_per_address: 256,
            connections_per_second: 50,
            connection_burst: 200,
            exempt_loopback: false,
            log_lines_per_second: 20,
            log_line_burst: 200,
            max_players: 8192,
            max_waiters: 4096,
            apps: 1,
        }
    }
}
