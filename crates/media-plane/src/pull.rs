//! HTTP-FLV: one pull as a stream of byte blocks.
//!
//! In: a request, the hub, the authorizer. Out: blocks of FLV until the pull ends; dropping the
//! stream removes its player. Absent: HTTP; a slow reader is cut by the hub, not here.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{Stream, unfold};

use crate::auth::{Authorizer, Denied, StreamRequest};
use crate::flv::file_header;
use crate::hub::{EndReason, Hub, Player};
use crate::media::Packet;

/// Ready tags are copied into one block up to this size; larger tags pass shared.
const MERGE_BYTES: usize = 16 << 10;
/// Packets taken from the hub at once.
const BATCH: usize = 64;

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
    let (audio, video) = player.tracks();
    Ok(FlvStream {
        player,
        ready: VecDeque::new(),
        batch: Vec::new(),
        first: Some(Bytes::copy_from_slice(&file_header(audio, video))),
        ended: None,
    })
}

/// A pull in progress.
#[derive(Debug)]
pub struct FlvStream {
    player: Player,
    ready: VecDeque<Bytes>,
    batch: Vec<Arc<Packet>>,
    first: Option<Bytes>,
    ended: Option<EndReason>,
}

impl FlvStream {
    /// The next block, or nothing when the pull has ended. The first block is the file header with
    /// the headers of a live stream. Cancel safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            self.ready.push_back(first);
            self.player.take_ready(&mut self.batch, BATCH);
            self.stage();
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

    /// The pull as a `Stream`, for a response body.
    pub fn into_stream(self) -> impl Stream<Item = Bytes> + Send {
        unfold(self, |mut pull| async move { pull.next().await.map(|block| (block, pull)) })
    }

    fn stage(&mut self) {
        self.ready.extend(self.batch.drain(..).map(|packet| packet.flv().clone()));
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
