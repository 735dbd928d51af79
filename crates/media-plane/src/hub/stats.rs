//! Counters and gauges.
//!
//! In: increments from all parts. Out: [`HubStats`]. Absent: labels and exposition formats.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// A snapshot of the counters of the relay. The first six fields are gauges; the others count since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HubStats {
    /// Streams with a publisher, a player or a pending claim.
    pub streams: usize,
    /// Publishers.
    pub publishers: usize,
    /// Players of all protocols, including those that wait for a publisher.
    pub players: usize,
    /// Players whose stream has no publisher.
    pub waiters: usize,
    /// Bytes that pushes hold; see [`crate::RelayConfig::media_total_bytes`].
    pub media_bytes: usize,
    /// Bytes of HLS segments; see [`crate::RelayConfig::hls_total_bytes`].
    pub segment_bytes: usize,
    /// Bytes of the media messages that publishers sent, without framing.
    pub bytes_in: u64,
    /// Bytes of media handed to sockets or to the HTTP listener, framing and HLS playlists included.
    pub bytes_out: u64,
    /// Players cut because they lagged, or because their push had no memory left.
    pub slow_players_cut: u64,
    /// Publishers, players and pending claims ended by a cut.
    pub cuts: u64,
    /// Publishers replaced by another one because they were silent.
    pub replaced: u64,
    /// Publish and play requests refused, including requests for HLS.
    pub refusals: u64,
    /// RTMP connections accepted.
    pub connections: u64,
    /// RTMP connections closed at once because of a limit on connections or on their rate.
    pub connections_refused: u64,
    /// RTMP connections closed because the peer broke the protocol or a bound, or failed the TLS handshake.
    pub protocol_errors: u64,
    /// Log lines omitted because their address caused too many.
    pub lines_left_out: u64,
    /// Facts that found a full sink, and were delivered later or merged into a newer fact.
    pub facts_delayed: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(super) publishers: AtomicUsize,
    pub(super) waiters: AtomicUsize,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    slow: AtomicU64,
    cuts: AtomicU64,
    replaced: AtomicU64,
    refusals: AtomicU64,
    connections: AtomicU64,
    connections_refused: AtomicU64,
    protocol_errors: AtomicU64,
    facts_delayed: AtomicU64,
}

impl Counters {
    pub(crate) fn bytes_in(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn bytes_out(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn slow(&self) {
        self.slow.fetch_add(1, Relaxed);
    }

    pub(super) fn cuts(&self, count: usize) {
        self.cuts.fetch_add(count as u64, Relaxed);
    }

    pub(super) fn replaced(&self) {
        self.replaced.fetch_add(1, Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refusals.fetch_add(1, Relaxed);
    }

    pub(crate) fn connection(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn connection_refused(&self) {
        self.connections_refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn protocol_error(&self) {
        self.protocol_errors.fetch_add(1, Relaxed);
    }

    pub(super) fn fact_delayed(&self) {
        self.facts_delayed.fetch_add(1, Relaxed);
    }

    /// The counters of this type. [`Hub::stats`](super::Hub::stats) adds the others.
    pub(super) fn snapshot(&self) -> HubStats {
        HubStats {
            publishers: self.publishers.load(Relaxed),
            waiters: self.waiters.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            slow_players_cut: self.slow.load(Relaxed),
            cuts: self.cuts.load(Relaxed),
            replaced: self.replaced.load(Relaxed),
            refusals: self.refusals.load(Relaxed),
            connections: self.connections.load(Relaxed),
            connections_refused: self.connections_refused.load(Relaxed),
            protocol_errors: self.protocol_errors.load(Relaxed),
            facts_delayed: self.facts_delayed.load(Relaxed),
            ..HubStats::default()
        }
    }
}
