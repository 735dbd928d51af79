//! One audio, video or metadata message as the hub shares it.
//!
//! In: FLV tag bodies. Out: [`Packet`]s, encoded once for FLV and once, when first asked for, for
//! RTMP. Absent: what a message is, see `class.rs`.

mod class;
mod coded;
mod survey;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::time::Instant;

use crate::flv;
use crate::rtmp::MediaKind;
use crate::rtmp::chunk::encode_shared;
use crate::rtmp::limits::OUT_CHUNK_SIZE;
use crate::rtmp::message::{MEDIA_STREAM, Message, chunk_stream, message_type};
use crate::shares::{Charge, Charged};

pub(crate) use class::{Class, Role, Tracks, classify, fourcc};
pub(crate) use coded::coded;
pub(crate) use survey::{PushSummary, Survey, codec_name};

/// A message shared by all players of a stream.
#[derive(Debug)]
pub struct Packet {
    kind: MediaKind,
    timestamp: u32,
    pub(crate) class: Class,
    /// When it came from the publisher.
    pub(crate) received: Instant,
    tag: Bytes,
    rtmp: OnceLock<Bytes>,
    /// Given back when nobody holds either encoding any more.
    charge: Option<Arc<Charge>>,
}

/// What a message takes beside its bytes: its fields and places in queues. Many small messages are much of that.
const OVERHEAD: usize = 256;

impl Packet {
    pub(crate) fn new(
        kind: MediaKind,
        class: Class,
        timestamp: u32,
        received: Instant,
        body: &[u8],
        charge: Option<Charge>,
    ) -> Self {
        let charge = charge.map(Arc::new);
        let tag = flv::encode_tag(kind, timestamp, body);
        Self {
            kind,
            timestamp,
            class,
            received,
            tag: Charged { bytes: tag, charge: charge.clone() }.share(),
            rtmp: OnceLock::new(),
            charge,
        }
    }

    /// A message for an upstream, where it does not come from the hub; nothing where it is cut short, or a command to a
    /// player.
    #[must_use]
    pub fn of_message(kind: MediaKind, timestamp: u32, body: &[u8]) -> Option<Self> {
        let class = classify(kind, body);
        let received = Instant::now();
        (class.role != Role::Void).then(|| Self::new(kind, class, timestamp, received, body, None))
    }

    /// Bytes of memory that a message may take, in both encodings.
    pub(crate) fn memory(body: &[u8]) -> usize {
        // Chunks of RTMP have a byte of their own each.
        OVERHEAD + 2 * body.len() + body.len() / OUT_CHUNK_SIZE
    }

    /// The same message at another time; a small one, that is charged to nobody.
    pub(crate) fn at(&self, timestamp: u32) -> Self {
        Self::new(self.kind, self.class, timestamp, self.received, &self.body(), None)
    }

    /// Kind.
    #[must_use]
    pub fn kind(&self) -> MediaKind {
        self.kind
    }

    /// Milliseconds on the time line of the stream, which does not restart with the publisher; 0 for
    /// metadata.
    #[must_use]
    pub fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// Metadata, or what a decoder must know before it can decode.
    #[must_use]
    pub fn is_header(&self) -> bool {
        matches!(self.class.role, Role::Metadata | Role::Config | Role::Extra)
    }

    /// A video keyframe.
    #[must_use]
    pub fn is_keyframe(&self) -> bool {
        self.class.role == Role::Key
    }

    /// The FLV tag body, shared.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.tag.slice(flv::TAG_HEADER..self.tag.len() - flv::TAG_TRAILER)
    }

    /// The whole FLV tag with the size that follows it, shared.
    #[must_use]
    pub fn flv(&self) -> &Bytes {
        &self.tag
    }

    /// The RTMP message in chunks of [`OUT_CHUNK_SIZE`], encoded once and shared.
    #[must_use]
    pub fn rtmp(&self) -> &Bytes {
        self.rtmp.get_or_init(|| {
            let (type_id, chunk_stream) = match self.kind {
                MediaKind::Audio => (message_type::AUDIO, chunk_stream::AUDIO),
                MediaKind::Video => (message_type::VIDEO, chunk_stream::VIDEO),
                MediaKind::Metadata => (message_type::DATA, chunk_stream::DATA),
            };
            let message = Message {
                timestamp: self.timestamp,
                type_id,
                stream_id: MEDIA_STREAM,
                payload: self.body(),
            };
            let bytes = encode_shared(chunk_stream, &message, OUT_CHUNK_SIZE);
            Charged { bytes, charge: self.charge.clone() }.share()
        })
    }
}
