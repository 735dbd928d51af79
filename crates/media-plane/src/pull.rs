//! HTTP-FLV: one pull as a stream of byte blocks.
//!
//! In: a request, the hub, the authorizer. Out: blocks of FLV until the pull ends; dropping the
//! stream removes its player. Absent: HTTP; a slow reader is cut by the hub, one that does not read is told of by
//! [`FlvStream::stall_signal`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{Stream, unfold};
use tokio::time::{Instant, timeout_at};

use crate::auth::{Authorizer, Denied, StreamRequest};
use crate::flv::file_header;
use crate::hub::{EndReason, Hub, Player, SETTLED};
use crate::kinds::Kinds;
use crate::media::Packet;
use crate::rtmp::MediaKind;

/// Ready tags are copied into one block up to this size; larger tags pass shared.
const MERGE_BYTES: usize = 16 << 10;
/// Pieces in which a large tag is handed on: at 56 kbit/s one goes within [`crate::RelayConfig::write_timeout`].
pub const PIECE_BYTES: usize = 64 << 10;
/// Packets taken from the hub at once.
const BATCH: usize = 64;

/// Bytes that are held at most while it is not known which kinds there are.
const HELD_BYTES: usize = 2 << 20;

/// Admits a pull and starts it.
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
        held: 0,
        batch: Vec::new(),
        tracks,
        settled,
        begun: false,
        reader: Arc::new(Reader { begin: Instant::now(), given: AtomicU64::new(ASKING) }),
        ended: None,
    })
}

/// Nothing was given that was not followed by the wish for more.
const ASKING: u64 = u64::MAX;

/// Whether whoever writes the blocks comes for more.
#[derive(Debug)]
struct Reader {
    begin: Instant,
    /// When it was given a block, ms since the begin; [`ASKING`] while it waits for one.
    given: AtomicU64,
}

impl Reader {
    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(ASKING - 1)
    }

    /// How much longer it may take; nothing once it has stalled.
    fn patience(&self, limit: Duration) -> Option<Duration> {
        let given = self.given.load(Relaxed);
        let waits = if given == ASKING { 0 } else { self.now().saturating_sub(given) };
        limit.checked_sub(Duration::from_millis(waits)).filter(|rest| !rest.is_zero())
    }
}

/// A pull in progress.
#[derive(Debug)]
pub struct FlvStream {
    player: Player,
    ready: VecDeque<Bytes>,
    /// Bytes of them while the file header is not known.
    held: usize,
    batch: Vec<Arc<Packet>>,
    /// The kinds that came; once the file header is written, those that it names.
    tracks: Kinds,
    /// When no other kind is waited for; unset before the first audio or video.
    settled: Option<Instant>,
    /// The file header is written.
    begun: bool,
    reader: Arc<Reader>,
    ended: Option<EndReason>,
}

impl FlvStream {
    /// The next block, or nothing when the pull has ended. The first block is the file header with the headers of a
    /// live stream. It says which kinds there are, so it waits for media: some players wait for ever for a kind that it
    /// announces and that does not come. A kind that comes later ends the pull with [`EndReason::KindBegan`], for the next
    /// one has it in its header. Cancel safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.reader.given.store(ASKING, Relaxed);
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
                // Only metadata, and much of it, says nothing.
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
            self.stage();
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

    /// Takes packets until it is known which kinds there are: all came that it gets, or one of them did a while ago.
    async fn learn_tracks(&mut self) -> Result<(), EndReason> {
        // Those of a live stream are ready.
        self.player.take_ready(&mut self.batch, BATCH);
        self.stage();
        while !self.has_all()
            && self.settled.is_none_or(|settled| settled > Instant::now())
            && self.held < HELD_BYTES
        {
            let next = self.player.next(&mut self.batch, BATCH);
            let result = match self.settled {
                None => next.await,
                Some(settled) => timeout_at(settled, next).await.unwrap_or(Ok(())),
            };
            match result {
                // What came before the end is a file all the same.
                Err(EndReason::StreamEnded) if self.settled.is_some() => return Ok(()),
                result => result?,
            }
            self.stage();
        }
        Ok(())
    }

    /// Whether all kinds came that the pull gets, which may change.
    fn has_all(&self) -> bool {
        self.tracks != Kinds::NONE && self.player.gets().without(self.tracks) == Kinds::NONE
    }

    /// Why the pull has ended, once [`FlvStream::next`] gave nothing.
    #[must_use]
    pub fn ended(&self) -> Option<EndReason> {
        self.ended
    }

    /// Completes when the pull is cut, even while nobody asks for blocks: an HTTP listener that
    /// writes to a slow client closes the connection then. Outlives the pull harmlessly, but then
    /// never completes.
    pub fn cut_signal(&self) -> impl Future<Output = EndReason> + Send + use<> {
        self.player.cut_signal()
    }

    /// Ends the pull as its stream's end would: what is queued still comes.
    pub fn ender(&self) -> impl FnOnce() + Send + use<> {
        self.player.ender()
    }

    /// The peer has taken a part of the block that was given last: for whoever hands it on piece by piece.
    pub fn reads_on(&self) {
        self.reader.given.store(self.reader.now(), Relaxed);
    }

    /// Completes when nobody has asked for a block, or said that it [reads on](Self::reads_on), for [`write_timeout`](crate::RelayConfig::write_timeout) since the
    /// last one was given, whether or not the stream goes on: the peer does not read, and an HTTP listener closes the
    /// connection then. Outlives the pull harmlessly.
    pub fn stall_signal(&self) -> impl Future<Output = ()> + Send + use<> {
        let reader = self.reader.clone();
        let limit = self.player.write_timeout();
        async move {
            while let Some(rest) = reader.patience(limit) {
                tokio::time::sleep(rest).await;
            }
        }
    }

    /// The pull as a `Stream`, for a response body. Large tags come in pieces: whoever reads a part of one reads.
    pub fn into_stream(self) -> impl Stream<Item = Bytes> + Send {
        unfold((self, Bytes::new()), |(mut pull, mut rest)| async move {
            if rest.is_empty() {
                rest = pull.next().await?;
            } else {
                pull.reads_on();
            }
            let piece = rest.split_to(rest.len().min(PIECE_BYTES));
            Some((piece, (pull, rest)))
        })
    }

    fn stage(&mut self) {
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
                self.held += packet.flv().len();
                self.tracks.add(kind);
                if kind != MediaKind::Metadata {
                    self.settled.get_or_insert_with(|| Instant::now() + SETTLED);
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
