//! HTTP-FLV: one play as a stream of byte blocks (a *pull*).
//!
//! In: a request, the hub, the authorizer. Out: blocks of an FLV file until the pull ends. Dropping the [`FlvStream`]
//! removes its player. Absent: HTTP; the end of slow readers, which the hub cuts. A reader that takes nothing at all is
//! reported by [`FlvStream::stall_signal`], and the HTTP listener ends it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{Stream, unfold};
use tokio::time::{Instant, timeout_at};

use crate::auth::{Authorizer, Denied, StreamRequest};
use crate::flv::file_header;
use crate::hub::{EndReason, Hub, KINDS_SETTLE_TIME, Player};
use crate::kinds::Kinds;
use crate::media::Packet;
use crate::rtmp::MediaKind;

/// Tags that wait are merged into blocks of at most this size. A larger tag is a block of its own and is not copied.
const MERGE_BYTES: usize = 16 << 10;
/// Largest piece of a tag in [`FlvStream::into_stream`], bytes. A peer with 56 kbit/s takes one piece within the
/// default [`crate::RelayConfig::write_timeout`].
pub const PIECE_BYTES: usize = 64 << 10;
/// Packets taken from the hub at once.
const BATCH: usize = 64;

/// Bytes that are held back at most while it is not known which kinds the stream has.
const MAX_BUFFERED_BYTES: usize = 2 << 20;

/// Authorizes a pull and starts it.
///
/// # Errors
/// [`Denied`] when the authorizer refuses or a limit is reached.
pub async fn open<A: Authorizer>(
    hub: &Hub,
    authorizer: &A,
    request: StreamRequest,
) -> Result<FlvStream, Denied> {
    let player = hub.play(authorizer, request).await?;
    let tracks = player.tracks().unwrap_or_default();
    let settled = player.tracks().map(|_| Instant::now());
    Ok(FlvStream {
        player,
        ready: VecDeque::new(),
        buffered_bytes: 0,
        batch: Vec::new(),
        tracks,
        settled,
        begun: false,
        reader: Arc::new(ReaderProgress { begin: Instant::now(), given: AtomicU64::new(WAITING) }),
        ended: None,
    })
}

/// The value of [`ReaderProgress::given`] while the reader waits for a block.
const WAITING: u64 = u64::MAX;

/// Whether the consumer of the blocks still asks for more.
#[derive(Debug)]
struct ReaderProgress {
    begin: Instant,
    /// When the reader last received a block or read on, ms since `begin`; [`WAITING`] while it waits for a block.
    given: AtomicU64,
}

impl ReaderProgress {
    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(WAITING - 1)
    }

    /// How much longer the reader may take before it counts as stalled. `None` when it has stalled.
    fn remaining(&self, limit: Duration) -> Option<Duration> {
        let given = self.given.load(Relaxed);
        let waits = if given == WAITING { 0 } else { self.now().saturating_sub(given) };
        limit.checked_sub(Duration::from_millis(waits)).filter(|rest| !rest.is_zero())
    }
}

/// A pull in progress.
#[derive(Debug)]
pub struct FlvStream {
    player: Player,
    ready: VecDeque<Bytes>,
    /// Bytes in `ready` while the file header is not known.
    buffered_bytes: usize,
    batch: Vec<Arc<Packet>>,
    /// The kinds of the media that came. Once the file header is written: the kinds that it names.
    tracks: Kinds,
    /// When the file header stops waiting for further kinds. Unset before the first audio or video.
    settled: Option<Instant>,
    /// Whether the file header is written.
    begun: bool,
    reader: Arc<ReaderProgress>,
    ended: Option<EndReason>,
}

impl FlvStream {
    /// The next block, or `None` when the pull has ended. The first block begins with the file header, followed by the
    /// headers of a live stream. The file header names the kinds of the stream. It is held back until media shows them,
    /// because some players wait for ever for a kind that is named and does not come. If another kind begins later, the
    /// pull ends with [`EndReason::KindBegan`]; the file header of the next pull names that kind. Cancel safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.reader.given.store(WAITING, Relaxed);
        let block = self.next_block().await?;
        self.reader.given.store(self.reader.now(), Relaxed);
        Some(block)
    }

    async fn next_block(&mut self) -> Option<Bytes> {
        if !self.begun {
            if let Err(reason) = self.learn_tracks().await {
                self.ended = Some(reason);
                return None;
            }
            self.begun = true;
            if self.tracks == Kinds::NONE {
                // A lot of metadata came and no media, so the kinds are unknown.
                self.tracks = Kinds::BOTH;
            }
            let Kinds { audio, video } = self.tracks;
            self.ready.push_front(Bytes::copy_from_slice(&file_header(audio, video)));
        }
        while self.ready.is_empty() {
            if self.ended.is_some() {
                return None;
            }
            if let Err(reason) = self.player.next(&mut self.batch, BATCH).await {
                self.ended = Some(reason);
                return None;
            }
            self.queue_batch();
        }
        if self.player.cut_reason().is_some() {
            self.ready.clear();
            self.ended = self.player.cut_reason();
            return None;
        }
        let block = self.merge();
        self.player.count_out(block.len());
        Some(block)
    }

    /// Takes packets until the kinds of the stream are known: media of all kinds that the pull gets has come, or
    /// media of one of them has come and no other followed within [`KINDS_SETTLE_TIME`].
    async fn learn_tracks(&mut self) -> Result<(), EndReason> {
        // The headers and the group of a live stream are queued already.
        self.player.take_ready(&mut self.batch, BATCH);
        self.queue_batch();
        while !self.has_all()
            && self.settled.is_none_or(|settled| settled > Instant::now())
            && self.buffered_bytes < MAX_BUFFERED_BYTES
        {
            let next = self.player.next(&mut self.batch, BATCH);
            let result = match self.settled {
                None => next.await,
                Some(settled) => timeout_at(settled, next).await.unwrap_or(Ok(())),
            };
            match result {
                // What came before the end is still a valid file.
                Err(EndReason::StreamEnded) if self.settled.is_some() => return Ok(()),
                result => result?,
            }
            self.queue_batch();
        }
        Ok(())
    }

    /// Whether media of all kinds has come that the pull gets now. The kinds that it gets may change.
    fn has_all(&self) -> bool {
        self.tracks != Kinds::NONE
            && self.player.delivered_kinds().without(self.tracks) == Kinds::NONE
    }

    /// Why the pull ended. `None` until [`FlvStream::next`] has returned `None`.
    #[must_use]
    pub fn ended(&self) -> Option<EndReason> {
        self.ended
    }

    /// Completes when the pull is cut, even while nobody asks for blocks: an HTTP listener that is busy writing to a
    /// slow client then closes the connection. The future may outlive the pull, but then it never completes.
    pub fn cut_signal(&self) -> impl Future<Output = EndReason> + Send + use<> {
        self.player.cut_signal()
    }

    /// Ends the pull as the end of its stream would: queued media is still delivered.
    pub fn end_handle(&self) -> impl FnOnce() + Send + use<> {
        self.player.end_handle()
    }

    /// Tells that the peer has taken a part of the last block, for callers that pass a block on in pieces.
    pub fn note_progress(&self) {
        self.reader.given.store(self.reader.now(), Relaxed);
    }

    /// Completes when the reader has stalled: for [`write_timeout`](crate::RelayConfig::write_timeout) after it
    /// received a block it has neither asked for the next one nor [read on](Self::note_progress), whether or not the
    /// stream goes on. The HTTP listener then closes the connection. The future may outlive the pull.
    pub fn stall_signal(&self) -> impl Future<Output = ()> + Send + use<> {
        let reader = self.reader.clone();
        let limit = self.player.write_timeout();
        async move {
            while let Some(rest) = reader.remaining(limit) {
                tokio::time::sleep(rest).await;
            }
        }
    }

    /// The pull as a `Stream`, for a response body. Large tags come in pieces of [`PIECE_BYTES`], and each piece that
    /// the peer takes counts as reading on.
    pub fn into_stream(self) -> impl Stream<Item = Bytes> + Send {
        unfold((self, Bytes::new()), |(mut pull, mut rest)| async move {
            if rest.is_empty() {
                rest = pull.next().await?;
            } else {
                pull.note_progress();
            }
            let piece = rest.split_to(rest.len().min(PIECE_BYTES));
            Some((piece, (pull, rest)))
        })
    }

    fn queue_batch(&mut self) {
        for packet in self.batch.drain(..) {
            let kind = packet.kind();
            if self.begun {
                match kind {
                    _ if self.tracks.has(kind) => {}
                    MediaKind::Metadata => continue,
                    MediaKind::Audio | MediaKind::Video => {
                        self.ended = Some(EndReason::KindBegan);
                        break;
                    }
                }
            } else {
                self.buffered_bytes += packet.flv().len();
                self.tracks.add(kind);
                if kind != MediaKind::Metadata {
                    self.settled.get_or_insert_with(|| Instant::now() + KINDS_SETTLE_TIME);
                }
            }
            self.ready.push_back(packet.flv().clone());
        }
    }

    fn merge(&mut self) -> Bytes {
        let mut size = 0;
        let mut count = 0;
        for tag in &self.ready {
            if size + tag.len() > MERGE_BYTES {
                break;
            }
            size += tag.len();
            count += 1;
        }
        if count <= 1 {
            return self.ready.pop_front().unwrap_or_default();
        }
        let mut block = Vec::with_capacity(size);
        self.ready.drain(..count).for_each(|tag| block.extend_from_slice(&tag));
        block.into()
    }
}
