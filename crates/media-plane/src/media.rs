//! One audio, video or metadata message as the hub shares it.
//!
//! In: FLV tag bodies. Out: [`Packet`]s, encoded once for FLV and once, when first asked for, for
//! RTMP. Absent: codecs beyond "is this a sequence header" and "is this a keyframe".

use std::sync::OnceLock;

use bytes::Bytes;

use crate::flv;
use crate::rtmp::MediaKind;
use crate::rtmp::chunk::encode_message;
use crate::rtmp::limits::OUT_CHUNK_SIZE;
use crate::rtmp::message::{MEDIA_STREAM, Message, chunk_stream, message_type};

/// What the hub must know of a message to serve late players.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Metadata or decoder configuration: cached, given to every late player first.
    Header,
    /// A keyframe: starts a group of pictures.
    Key,
    /// Anything else.
    Frame,
}

/// Classifies an FLV tag body. Enhanced RTMP (`isExHeader` in video, format 9 in audio) keeps frame
/// type and packet type in known places, so its codecs need no support here.
pub(crate) fn role(kind: MediaKind, body: &[u8]) -> Role {
    let first = body.first().copied().unwrap_or(0);
    let second = body.get(1).copied();
    match kind {
        MediaKind::Metadata => Role::Header,
        MediaKind::Audio => match first >> 4 {
            10 if second == Some(0) => Role::Header,
            9 if first & 0x0F == 0 => Role::Header,
            _ => Role::Frame,
        },
        MediaKind::Video => {
            let header = match first & 0x80 {
                0 => matches!(first & 0x0F, 7 | 12 | 13) && second == Some(0),
                _ => first & 0x0F == 0,
            };
            match (first >> 4) & 0x07 {
                _ if header => Role::Header,
                1 => Role::Key,
                _ => Role::Frame,
            }
        }
    }
}

/// A message shared by all players of a stream.
#[derive(Debug)]
pub struct Packet {
    kind: MediaKind,
    timestamp: u32,
    pub(crate) role: Role,
    tag: Bytes,
    rtmp: OnceLock<Bytes>,
}

impl Packet {
    pub(crate) fn new(kind: MediaKind, role: Role, timestamp: u32, body: &[u8]) -> Self {
        Self {
            kind,
            timestamp,
            role,
            tag: flv::encode_tag(kind, timestamp, body),
            rtmp: OnceLock::new(),
        }
    }

    /// The same message at another time.
    pub(crate) fn at(&self, timestamp: u32) -> Self {
        Self::new(self.kind, self.role, timestamp, &self.body())
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

    /// Metadata or decoder configuration.
    #[must_use]
    pub fn is_header(&self) -> bool {
        self.role == Role::Header
    }

    /// A video keyframe.
    #[must_use]
    pub fn is_keyframe(&self) -> bool {
        self.role == Role::Key
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
            let mut out = Vec::new();
            encode_message(&mut out, chunk_stream, &message, OUT_CHUNK_SIZE);
            out.into()
        })
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: which packets are headers and keyframes.

    use super::*;

    #[test]
    fn roles() {
        let video = |body: &[u8]| role(MediaKind::Video, body);
        let audio = |body: &[u8]| role(MediaKind::Audio, body);
        assert_eq!(video(&[0x17, 0]), Role::Header);
        assert_eq!(video(&[0x17, 1]), Role::Key);
        assert_eq!(video(&[0x27, 1]), Role::Frame);
        assert_eq!(video(&[0x1C, 0]), Role::Header);
        assert_eq!(video(b"\x90hvc1"), Role::Header);
        assert_eq!(video(b"\x91hvc1"), Role::Key);
        assert_eq!(video(b"\xA3hvc1"), Role::Frame);
        assert_eq!(video(&[0x12]), Role::Key);
        assert_eq!(audio(&[0xAF, 0]), Role::Header);
        assert_eq!(audio(&[0xAF, 1]), Role::Frame);
        assert_eq!(audio(b"\x90Opus"), Role::Header);
        assert_eq!(audio(&[0x2F, 0]), Role::Frame);
    }
}
