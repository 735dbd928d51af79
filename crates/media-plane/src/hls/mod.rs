//! HLS: streams as lists of segments, for players that read only HLS.
//!
//! In: requests for playlists and segments, the hub, and the authorizer, which decides about each request. Out: the
//! bytes of playlists and segments. Absent: HTTP; work and memory for streams that nobody requests. A stream is cut
//! into segments from the first request for its playlist until nobody has requested it for
//! [`crate::RelayConfig::hls_idle`]. Viewers that may have the same kinds share the segments.

mod elementary;
mod segment;
mod transport;
mod window;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::auth::{Authorizer, Denied, DeniedKind, Direction, StreamName, StreamRequest, Verdict};
use crate::hub::{Hub, Player};
use crate::kinds::Kinds;
use crate::shares::{BytesAccount, Charge, Charged};
use window::Window;

pub use segment::{Segment, Segmenter};

/// Time that a request for a playlist waits for the first segment.
const FIRST_SEGMENT: Duration = Duration::from_secs(10);
/// A pause of the media, after which the incomplete segment ends. Viewers then get it while they wait for a publisher
/// that may return.
const PAUSE: Duration = Duration::from_secs(3);
/// Packets taken from the hub at once.
const BATCH: usize = 64;

/// The streams of a hub as HLS. Clones share them.
#[derive(Debug, Clone)]
pub struct Hls {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    hub: Hub,
    streams: Mutex<HashMap<PackageKey, Arc<Packaged>>>,
}

/// A stream, and the kinds that its segments may contain.
type PackageKey = (StreamName, Kinds);

/// A stream that is being cut into segments.
#[derive(Debug)]
struct Packaged {
    window: Mutex<Window>,
    last_request: Mutex<Instant>,
    /// Changes with each segment. True when no more segments come.
    updates: watch::Sender<bool>,
}

/// Authorizes the relay's own play of these kinds. The viewer's request was authorized before.
struct RelayAuthorizer(Kinds);

impl Authorizer for RelayAuthorizer {
    async fn authorize(&self, _: StreamRequest) -> Verdict {
        Verdict::Allow { viewer: None, kinds: self.0, account: None }
    }
}

impl Hls {
    /// HLS for the streams of `hub`. No stream is packaged yet.
    #[must_use]
    pub fn new(hub: Hub) -> Self {
        let inner = Inner { hub, streams: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// The number of packagings that run now. A stream counts once for each set of kinds that its viewers may have.
    #[must_use]
    pub fn streams(&self) -> usize {
        lock(&self.inner.streams).len()
    }

    /// The playlist of a stream. The URLs in it carry the query of the request. The first request for a stream waits
    /// for its first segment.
    ///
    /// # Errors
    /// [`Denied`] if the authorizer refuses, if a limit of the relay is reached, or if no segment comes in time.
    pub async fn playlist<A: Authorizer>(
        &self,
        authorizer: &A,
        request: StreamRequest,
    ) -> Result<String, Denied> {
        let kinds = self.inner.hub.probe(authorizer, request.clone()).await?;
        let packaged = self.packaged(&request, kinds).await?;
        let mut updates = packaged.updates.subscribe();
        if lock(&packaged.window).is_empty() {
            let has_segments = updates.wait_for(|over| *over || !lock(&packaged.window).is_empty());
            let waited = timeout(FIRST_SEGMENT, has_segments).await.is_ok();
            if !waited || lock(&packaged.window).is_empty() {
                return Err(no_segment());
            }
            // The viewer may have left meanwhile, or may now have other kinds.
            if self.inner.hub.probe(authorizer, request.clone()).await? != kinds {
                return Err(no_segment());
            }
        }
        let list = lock(&packaged.window).playlist(&request.stream, &request.query);
        self.inner.hub.counters().bytes_out(list.len());
        Ok(list)
    }

    /// The segment with this number. `None` if it does not exist (any more).
    ///
    /// # Errors
    /// [`Denied`] if the authorizer refuses.
    pub async fn segment<A: Authorizer>(
        &self,
        authorizer: &A,
        request: StreamRequest,
        number: u64,
    ) -> Result<Option<Bytes>, Denied> {
        let name = request.name();
        let kinds = self.inner.hub.probe(authorizer, request).await?;
        let packaged = lock(&self.inner.streams).get(&(name, kinds)).cloned();
        let Some(packaged) = packaged else { return Ok(None) };
        *lock(&packaged.last_request) = Instant::now();
        let segment = lock(&packaged.window).segment(number);
        if let Some(segment) = &segment {
            self.inner.hub.counters().bytes_out(segment.len());
        }
        Ok(segment)
    }

    /// The packaging of a stream, which begins now if it does not run yet.
    async fn packaged(
        &self,
        request: &StreamRequest,
        kinds: Kinds,
    ) -> Result<Arc<Packaged>, Denied> {
        let key = (request.name(), kinds);
        if let Some(packaged) = lock(&self.inner.streams).get(&key) {
            *lock(&packaged.last_request) = Instant::now();
            return Ok(packaged.clone());
        }
        let request = StreamRequest { direction: Direction::Play, ..request.clone() };
        let player = self.inner.hub.play(&RelayAuthorizer(kinds), request).await?;
        let mut streams = lock(&self.inner.streams);
        // Another request may have started it first; then this player is dropped.
        if let Some(packaged) = streams.get(&key) {
            return Ok(packaged.clone());
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let packaged = Arc::new(Packaged {
            // The numbers begin with the Unix time in seconds. The next window of the stream begins with a larger
            // number if segments last a second or more on average.
            window: Mutex::new(Window::new(now.unwrap_or_default().as_secs())),
            last_request: Mutex::new(Instant::now()),
            updates: watch::Sender::new(false),
        });
        streams.insert(key.clone(), packaged.clone());
        drop(streams);
        let (packaging, of) = (self.clone(), packaged.clone());
        tokio::spawn(async move {
            packaging.package(key, of.clone(), player).await;
            // A request that waits for a segment holds the packaging, so the channel does not close.
            of.updates.send_replace(true);
        });
        Ok(packaged)
    }

    /// Cuts a stream into segments until it ends or nobody has requested it for a while.
    async fn package(self, key: PackageKey, packaged: Arc<Packaged>, player: Player) {
        let config = self.inner.hub.config();
        let idle = config.hls_idle;
        let span = u32::try_from(config.hls_segment.as_millis()).unwrap_or(u32::MAX);
        let mut segmenter = Segmenter::new(span);
        let mut batch = Vec::new();
        let mut reported = false;
        let mut delivered = player.delivered_kinds();
        let mut budget: Option<SegmentBudget> = None;
        let mut last_packet = Instant::now();
        loop {
            let end = *lock(&packaged.last_request) + idle;
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(end) => {
                    // Under this lock: a request that comes meanwhile either finds this packaging and updates
                    // `last_request`, or starts another one.
                    let mut streams = lock(&self.inner.streams);
                    if *lock(&packaged.last_request) + idle <= Instant::now() {
                        streams.remove(&key);
                        break;
                    }
                }
                next = player.next(&mut batch, BATCH) => match next {
                    Ok(()) => {
                        last_packet = Instant::now();
                        if budget.is_none()
                            && let Some(account) = player.segments_account()
                        {
                            budget = Some(SegmentBudget { open: account.empty(), account });
                        }
                        for packet in batch.drain(..) {
                            let segment = segmenter.push(&packet);
                            if let (Some(segment), Some(budget)) = (segment, &mut budget) {
                                packaged.add(segment, budget);
                            }
                        }
                        // Queued video was dropped when the kind ended, so no more video follows.
                        let has_ended = delivered.without(player.delivered_kinds()).video;
                        delivered = player.delivered_kinds();
                        if has_ended
                            && let Some(segment) = segmenter.end_video()
                            && let Some(budget) = &mut budget
                        {
                            packaged.add(segment, budget);
                        }
                        if let Some(budget) = &mut budget
                            && !packaged.make_room(|| budget.open.resize(segmenter.open_bytes()).is_ok())
                        {
                            segmenter.abandon();
                            // Giving back always succeeds.
                            let _ = budget.open.resize(0);
                        }
                        if segmenter.has_skipped() && !std::mem::replace(&mut reported, true) && player.may_log() {
                            let code = "notInHls";
                            tracing::info!(stream = ?key.0, code, "a codec is left out of HLS");
                        }
                    }
                    Err(_) => {
                        lock(&self.inner.streams).remove(&key);
                        break;
                    }
                },
                () = tokio::time::sleep_until(last_packet + PAUSE), if segmenter.open_bytes() > 0 => {
                    last_packet = Instant::now();
                    if let (Some(segment), Some(budget)) = (segmenter.pause(), &mut budget) {
                        packaged.add(segment, budget);
                    }
                }
            }
        }
    }
}

/// The share of a stream in the memory for segments.
struct SegmentBudget {
    account: BytesAccount,
    /// The charge for the incomplete segment.
    open: Charge,
}

impl Packaged {
    /// Adds a segment, or omits it if there is no room. The segment is charged until nobody holds it; a slow player
    /// may hold it for some time.
    fn add(&self, segment: Segment, budget: &mut SegmentBudget) {
        // So far the segment was charged as the incomplete one.
        let _ = budget.open.resize(0);
        let mut charge = budget.account.empty();
        if !self.make_room(|| charge.resize(segment.bytes.len()).is_ok()) {
            return;
        }
        let charged = Charged { bytes: segment.bytes, charge: Some(Arc::new(charge)) };
        lock(&self.window).push(Segment { bytes: charged.share(), ..segment });
        self.updates.send_replace(false);
    }

    /// Drops the oldest segments until there is room. Returns whether there is.
    fn make_room(&self, mut has_room: impl FnMut() -> bool) -> bool {
        while !has_room() {
            if !lock(&self.window).drop_oldest() {
                return false;
            }
        }
        true
    }
}

fn no_segment() -> Denied {
    Denied::new(DeniedKind::Overload, "noSegment", "the stream has no segment yet")
}

/// A poisoned lock is taken anyway: no code panics while it holds one.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
