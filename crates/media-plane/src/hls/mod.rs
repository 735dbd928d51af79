//! HLS: streams as lists of segments, for players that read nothing else.
//!
//! In: requests for playlists and segments, the hub, the authorizer, which is asked for each request. Out: their bytes.
//! Absent: HTTP; work and memory for streams that nobody asks for: a stream is cut into segments from the first request
//! for its playlist on, until nobody asked for a while. Viewers who may have the same kinds share the segments.

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

/// A playlist without segments is waited for so long.
const FIRST_SEGMENT: Duration = Duration::from_secs(10);
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
    streams: Mutex<HashMap<Cut, Arc<Packaged>>>,
}

/// A stream, and the kinds of it that its segments may have.
type Cut = (StreamName, Kinds);

/// A stream that is cut into segments.
#[derive(Debug)]
struct Packaged {
    window: Mutex<Window>,
    asked: Mutex<Instant>,
    /// Changes with each segment; closed when there will be none.
    news: watch::Sender<()>,
}

/// The relay's own play of these kinds, which comes after one that was allowed.
struct Inside(Kinds);

impl Authorizer for Inside {
    async fn authorize(&self, _: StreamRequest) -> Verdict {
        Verdict::Allow { viewer: None, kinds: self.0, account: None }
    }
}

impl Hls {
    /// The streams of `hub`; none is packaged yet.
    #[must_use]
    pub fn new(hub: Hub) -> Self {
        let inner = Inner { hub, streams: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Streams that are packaged now; one counts as often as its viewers differ in the kinds that they may have.
    #[must_use]
    pub fn streams(&self) -> usize {
        lock(&self.inner.streams).len()
    }

    /// The playlist of a stream. The URLs in it have the query of the request. The first request waits for the first
    /// segment.
    ///
    /// # Errors
    /// [`Denied`] by the authorizer, by a limit of the relay, or because no segment comes in time.
    pub async fn playlist<A: Authorizer>(
        &self,
        authorizer: &A,
        request: StreamRequest,
    ) -> Result<String, Denied> {
        let kinds = self.inner.hub.probe(authorizer, request.clone()).await?;
        let packaged = self.packaged(&request, kinds).await?;
        let mut news = packaged.news.subscribe();
        if lock(&packaged.window).is_empty() {
            let has_segments = news.wait_for(|()| !lock(&packaged.window).is_empty());
            if !matches!(timeout(FIRST_SEGMENT, has_segments).await, Ok(Ok(_))) {
                return Err(no_segment());
            }
            // The viewer may have left meanwhile, or may have other kinds.
            if self.inner.hub.probe(authorizer, request.clone()).await? != kinds {
                return Err(no_segment());
            }
        }
        let list = lock(&packaged.window).playlist(&request.stream, &request.query);
        self.inner.hub.counters().bytes_out(list.len());
        Ok(list)
    }

    /// A segment, if it is still there.
    ///
    /// # Errors
    /// [`Denied`] by the authorizer.
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
        *lock(&packaged.asked) = Instant::now();
        let segment = lock(&packaged.window).segment(number);
        if let Some(segment) = &segment {
            self.inner.hub.counters().bytes_out(segment.len());
        }
        Ok(segment)
    }

    /// The stream as it is packaged, which begins if it is not.
    async fn packaged(
        &self,
        request: &StreamRequest,
        kinds: Kinds,
    ) -> Result<Arc<Packaged>, Denied> {
        let cut = (request.name(), kinds);
        if let Some(packaged) = lock(&self.inner.streams).get(&cut) {
            *lock(&packaged.asked) = Instant::now();
            return Ok(packaged.clone());
        }
        let request = StreamRequest { direction: Direction::Play, ..request.clone() };
        let player = self.inner.hub.play(&Inside(kinds), request).await?;
        let mut streams = lock(&self.inner.streams);
        // Another may have come first; then this player is dropped.
        if let Some(packaged) = streams.get(&cut) {
            return Ok(packaged.clone());
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let packaged = Arc::new(Packaged {
            // Segments are longer than a second, so the next window of the stream begins behind this one.
            window: Mutex::new(Window::new(now.unwrap_or_default().as_secs())),
            asked: Mutex::new(Instant::now()),
            news: watch::Sender::new(()),
        });
        streams.insert(cut.clone(), packaged.clone());
        drop(streams);
        tokio::spawn(self.clone().package(cut, packaged.clone(), player));
        Ok(packaged)
    }

    /// Cuts a stream into segments until it ends or nobody has asked for a while.
    async fn package(self, cut: Cut, packaged: Arc<Packaged>, player: Player) {
        let config = self.inner.hub.config();
        let idle = config.hls_idle;
        let span = u32::try_from(config.hls_segment.as_millis()).unwrap_or(u32::MAX);
        let mut segmenter = Segmenter::new(span);
        let mut batch = Vec::new();
        let mut told = false;
        let mut gets = player.gets();
        let mut room: Option<Room> = None;
        loop {
            let end = *lock(&packaged.asked) + idle;
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(end) => {
                    // Who asks meanwhile finds it, and says so, or begins it anew.
                    let mut streams = lock(&self.inner.streams);
                    if *lock(&packaged.asked) + idle <= Instant::now() {
                        streams.remove(&cut);
                        break;
                    }
                }
                next = player.next(&mut batch, BATCH) => match next {
                    Ok(()) => {
                        if room.is_none()
                            && let Some(account) = player.segments_account()
                        {
                            room = Some(Room { open: account.empty(), account });
                        }
                        for packet in batch.drain(..) {
                            let segment = segmenter.push(&packet);
                            if let (Some(segment), Some(room)) = (segment, &mut room) {
                                packaged.add(segment, room);
                            }
                        }
                        // What was queued of a picture that has ended is dropped with it, so nothing of it follows.
                        let has_ended = gets.without(player.gets()).video;
                        gets = player.gets();
                        if has_ended
                            && let Some(segment) = segmenter.end_video()
                            && let Some(room) = &mut room
                        {
                            packaged.add(segment, room);
                        }
                        if let Some(room) = &mut room
                            && !packaged.make_room(|| room.open.resize(segmenter.open_bytes()).is_ok())
                        {
                            segmenter.abandon();
                            // Less needs no room.
                            let _ = room.open.resize(0);
                        }
                        if segmenter.has_left_out() && !std::mem::replace(&mut told, true) && player.may_log() {
                            let code = "notInHls";
                            tracing::info!(stream = ?cut.0, code, "a codec is left out of HLS");
                        }
                    }
                    Err(_) => {
                        lock(&self.inner.streams).remove(&cut);
                        break;
                    }
                },
            }
        }
    }
}

/// What a stream takes of the bytes of all segments.
struct Room {
    account: BytesAccount,
    /// For the segment that is not whole yet.
    open: Charge,
}

impl Packaged {
    /// Adds a segment; one that finds no room is left out. It is charged until nobody holds it, as a slow player may.
    fn add(&self, segment: Segment, room: &mut Room) {
        // What it was charged for so far.
        let _ = room.open.resize(0);
        let mut charge = room.account.empty();
        if !self.make_room(|| charge.resize(segment.bytes.len()).is_ok()) {
            return;
        }
        let charged = Charged { bytes: segment.bytes, charge: Some(Arc::new(charge)) };
        lock(&self.window).push(Segment { bytes: charged.share(), ..segment });
        self.news.send_replace(());
    }

    /// Drops the oldest segments until there is room; says whether there is.
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
