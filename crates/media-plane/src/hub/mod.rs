//! The streams of this process: who publishes, who plays, what a late player needs.
//!
//! In: claims, media, cuts, ticks. Out: packets for players, ends, [`StreamFact`]s, [`HubStats`].
//! Absent: sockets, and tasks of its own; [`Hub::tick`] is called by [`crate::RtmpServer::serve`] or
//! by the embedding server.
//!
//! Lock order: the map of streams, then one stream, then one queue or the facts; the index
//! of viewers is taken with none of the first two held. No lock is held across an await.

mod admit;
mod cache;
mod claim;
mod claim_core;
mod facts;
mod player;
mod player_state;
mod publisher;
mod samples;
mod stats;
mod stream;
mod timeline;
mod viewers;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::auth::StreamName;
use crate::config::RelayConfig;
use crate::kinds::Kinds;
use crate::log_limiter::LogLimiter;
use crate::shares::Shares;

use claim_core::ClaimCore;
use facts::FactSink;
use stats::Counters;
use stream::Stream;
use viewers::Viewers;

pub use claim_core::EndReason;
pub use facts::{FactState, StreamFact};
pub use player::Player;
pub use publisher::Publisher;
pub use samples::{PlaySample, PushSample, StreamSample};
pub use stats::HubStats;
pub(crate) use stream::KINDS_SETTLE_TIME;

/// The registry of streams. Clones share it.
#[derive(Clone, Debug)]
pub struct Hub {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: RelayConfig,
    streams: Mutex<HashMap<StreamName, Arc<Stream>>>,
    viewers: Viewers,
    next_claim: AtomicU64,
    counters: Counters,
    facts: FactSink,
    shares: Shares,
    log_limiter: LogLimiter,
}

impl Hub {
    /// A hub that reports no facts.
    #[must_use]
    pub fn new(config: RelayConfig) -> Self {
        Self::build(config, None)
    }

    /// A hub that reports facts to `sink`. A full sink delays facts, it never blocks.
    #[must_use]
    pub fn with_facts(config: RelayConfig, sink: mpsc::Sender<StreamFact>) -> Self {
        Self::build(config, Some(sink))
    }

    fn build(config: RelayConfig, sink: Option<mpsc::Sender<StreamFact>>) -> Self {
        Self {
            inner: Arc::new(Inner {
                shares: Shares::new(&config),
                log_limiter: LogLimiter::new(
                    config.log_lines_per_second,
                    config.log_line_burst,
                    config.exempt_loopback,
                ),
                config,
                streams: Mutex::default(),
                viewers: Viewers::default(),
                next_claim: AtomicU64::new(1),
                counters: Counters::default(),
                facts: FactSink::new(sink),
            }),
        }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &RelayConfig {
        &self.inner.config
    }

    /// Ends the publisher and all players of a stream, and all claims on it whose verdict is open or
    /// not yet acted on. Says how many. Claims made later are not touched.
    pub fn cut_stream(&self, stream: &StreamName) -> usize {
        let streams = lock(&self.inner.streams);
        let cut = streams.get(stream).map_or(0, |stream| stream.cut(&self.inner));
        drop(streams);
        self.inner.counters.cuts(cut);
        cut
    }

    /// Ends all plays of a viewer, those with an open verdict included when their request names the
    /// viewer. Says how many.
    pub fn cut_viewer(&self, viewer: &str) -> usize {
        self.cut_plays(viewer, |_| true)
    }

    /// As [`Hub::cut_viewer`], for one stream.
    pub fn cut_viewer_of(&self, viewer: &str, stream: &StreamName) -> usize {
        self.cut_plays(viewer, |core| core.stream == *stream)
    }

    fn cut_plays(&self, viewer: &str, wanted: impl Fn(&ClaimCore) -> bool) -> usize {
        let cut = self.inner.viewers.cut(viewer, wanted);
        self.inner.counters.cuts(cut);
        cut
    }

    /// Says which kinds of a stream are published from now on. What else its publisher sends is left out. Does nothing
    /// where nobody publishes, plays or has asked to: the verdict on the next request says it then.
    pub fn set_published(&self, stream: &StreamName, kinds: Kinds) {
        let streams = lock(&self.inner.streams);
        if let Some(stream) = streams.get(stream) {
            stream.set_published(&self.inner, kinds);
        }
    }

    /// Says which kinds of a stream a viewer may have from now on, in all of its plays, those with an open verdict included
    /// when their request names the viewer. To take the last one, cut it.
    pub fn set_subscribed(&self, viewer: &str, stream: &StreamName, kinds: Kinds) {
        let claims = self.inner.viewers.claims(viewer, stream);
        for claim in &claims {
            claim.allow(kinds);
        }
        if claims.is_empty() {
            return;
        }
        let streams = lock(&self.inner.streams);
        if let Some(stream) = streams.get(stream) {
            stream.refresh(&claims);
        }
    }

    /// Does what time asks for: stall reports, heartbeats, ends of players whose publisher did not
    /// return, the word on lines that were left out. Call it about twice a second; more often does no harm.
    pub fn tick(&self) {
        let now = Instant::now();
        let streams: Vec<_> = lock(&self.inner.streams).values().cloned().collect();
        for stream in streams {
            stream.tick(&self.inner, now);
        }
        self.inner.facts.flush();
        self.inner.log_limiter.report_omitted();
    }

    /// Reports a sample of every stream that has a publisher or players: what came since the previous sample. Call it
    /// every few seconds, from one task.
    pub fn sample(&self, mut report: impl FnMut(StreamSample)) {
        let now = Instant::now();
        let streams: Vec<_> = lock(&self.inner.streams).values().cloned().collect();
        streams.iter().filter_map(|stream| stream.sample(now)).for_each(&mut report);
    }

    /// What peers may write into the log. The embedding server may let lines of its own count there, too.
    #[must_use]
    pub fn log_limiter(&self) -> &LogLimiter {
        &self.inner.log_limiter
    }

    /// A snapshot of the counters.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        let streams = lock(&self.inner.streams).len();
        let shares = &self.inner.shares;
        HubStats {
            streams,
            players: shares.players(),
            media_bytes: shares.media_bytes(),
            segment_bytes: shares.segment_bytes(),
            lines_left_out: self.inner.log_limiter.omitted(),
            ..self.inner.counters.snapshot()
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.inner.counters
    }
}

/// A poisoned lock is taken anyway: no code panics while it holds one in a half-done state, and one
/// broken stream must not end the others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
