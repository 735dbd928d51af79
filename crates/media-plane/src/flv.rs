//! The FLV encoding.
//!
//! In: message bodies. Out: the header and the tags of an FLV file that has no end. Absent: who reads the file, and
//! decoding.

use bytes::Bytes;

use crate::block::Block;
use crate::rtmp::MediaKind;

/// Bytes before the body of a tag.
pub const TAG_HEADER: usize = 11;
/// Bytes after the body of a tag, which repeat the size of the tag.
pub const TAG_TRAILER: usize = 4;

/// The file header, followed by the size of the (missing) previous tag, which is 0.
#[must_use]
pub fn file_header(audio: bool, video: bool) -> [u8; 13] {
    let flags = u8::from(audio) << 2 | u8::from(video);
    [b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0]
}

/// One tag, followed by its size. A body has fewer than 2^24 bytes, as every RTMP message has. The timestamp is in
/// milliseconds.
#[must_use]
pub fn encode_tag(kind: MediaKind, timestamp: u32, body: &[u8]) -> Bytes {
    let tag_type = match kind {
        MediaKind::Audio => 8,
        MediaKind::Video => 9,
        MediaKind::Metadata => 18,
    };
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let [_, l0, l1, l2] = length.to_be_bytes();
    let [t3, t0, t1, t2] = timestamp.to_be_bytes();
    let mut tag = Block::with_capacity(TAG_HEADER + body.len() + TAG_TRAILER);
    tag.put(&[tag_type, l0, l1, l2, t0, t1, t2, t3, 0, 0, 0]);
    tag.put(body);
    tag.put(&length.wrapping_add(11).to_be_bytes());
    tag.share()
}
