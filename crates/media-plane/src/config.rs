//! What an operator may tune.
//!
//! In: nothing. Out: [`RelayConfig`]. Absent: the protocol bounds, see [`crate::rtmp::limits`], and
//! parsing, which is the embedding server's.

use std::time::Duration;

/// Limits and times of the relay. All of them are per process unless they say otherwise.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// How long the authorizer may take; then the peer is told `authTimeout` and may ask again. Default 11 s:
    /// after a restart the one who decides may wait 10 s for somebody who comes back (RST-4).
    pub auth_timeout: Duration,
    /// From accept to a publish or play, and from the end of one to the next; for the handshake of TLS as long once more.
    /// Default 10 s.
    pub handshake_timeout: Duration,
    /// A publisher that sends nothing for so long is disconnected. Default 30 s.
    pub publisher_idle_timeout: Duration,
    /// A player whose socket takes nothing for so long is disconnected. Default 10 s.
    pub write_timeout: Duration,
    /// Players outlive their publisher for so long, so that it may return. Default 15 s.
    pub publisher_gap: Duration,
    /// A publisher without payload for so long may be replaced by another. Default 1 s.
    pub takeover_silence: Duration,
    /// A publisher without payload for so long is reported as stalled. Default 2 s.
    pub stall_after: Duration,
    /// Interval of the repeated report of a flowing stream. Default 5 s.
    pub heartbeat: Duration,
    /// Bytes a player may lag before it is cut, beside the largest message that waits; what it got at its start is not
    /// counted. Default 2 MiB.
    pub player_queue_bytes: usize,
    /// A player is cut when it lags by more bytes than that for so long, and by eight times as many at once. Default 1 s.
    pub player_queue_time: Duration,
    /// Bytes of the cached group of pictures of a stream; 0 keeps none. Default 16 MiB: ten seconds between keyframes at
    /// 12 Mbit/s.
    pub gop_bytes: usize,
    /// Bytes that all pushes hold together: sequence headers and groups, in the encoding of FLV and in that of RTMP, what
    /// slow players have yet to get of them, and messages that are not whole yet. One of several apps holds three
    /// quarters of that at most, a member an eighth of its app's part, and a push half of its member's; each of them less where others hold
    /// something. Who has no room loses its group, then its slowest players, then its push. Default 1 GiB.
    pub media_total_bytes: usize,
    /// Length of the cached group of pictures of a stream. Default 15 s.
    pub gop_time: Duration,
    /// Packets of the cached group of pictures of a stream. Default 4096.
    pub gop_packets: usize,
    /// A segment of HLS ends with the first keyframe behind so much. Default 2 s.
    pub hls_segment: Duration,
    /// A stream is cut into segments until nobody has asked for it for so long. Default 30 s.
    pub hls_idle: Duration,
    /// Bytes of the segments of all streams, shared out in the same way; of one that finds no room, fewer are kept.
    /// Default 1 GiB.
    pub hls_total_bytes: usize,
    /// Bytes that all forwards hold together for upstreams that have yet to take them, shared out in the same way; a
    /// forward that finds no room begins anew. Default 1 GiB.
    pub forward_total_bytes: usize,
    /// RTMP connections. Default 4096.
    pub max_connections: usize,
    /// RTMP connections of one IPv4 address or IPv6 /64; fewer where little is left: an eighth of that, or the part of all
    /// that this is. Default 256.
    pub max_connections_per_address: usize,
    /// New RTMP connections of such an address in a second, in the long run; 0: no limit. Default 50.
    pub connections_per_second: u32,
    /// And at once. Default 200.
    pub connection_burst: u32,
    /// Whether the bounds of rates and log lines are not for loopback, where a proxy of this machine comes from. Default no.
    pub exempt_loopback: bool,
    /// Lines of the log that one IPv4 address or IPv6 /64 may cause in a second, in the long run; 0: no limit. Default 20.
    pub log_lines_per_second: u32,
    /// And at once. Default 200.
    pub log_line_burst: u32,
    /// Players of all protocols. A viewer has an eighth of its app's share at most. Default 8192.
    pub max_players: usize,
    /// Players that wait for the first publisher of their stream. A stream has half at most, an address that is not
    /// loopback a quarter unless it may have all connections, and a viewer an eighth of its app's share. Default 4096.
    pub max_waiters: usize,
    /// Apps that accounts are of. One has everything; of several, each has three quarters of what it shares with the
    /// others at most. Default 1.
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
