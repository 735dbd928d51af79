//! A reader for FLV streams.
//!
//! In: bytes, in parts of any size. Out: tags. Deliberately absent: writing, which `lianmai_media_plane::flv` does; the
//! contents of tags.

use bytes::{Buf, Bytes, BytesMut};
use lianmai_media_plane::MediaKind;
use thiserror::Error;

/// Maximum length of a tag's body in bytes, as in the relay.
const MAX_BODY: usize = 8 << 20;
/// Maximum length of the file header, in bytes.
const MAX_HEADER: usize = 1 << 10;

/// One tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The kind.
    pub kind: MediaKind,
    /// Timestamp in milliseconds.
    pub time: u32,
    /// The body.
    pub body: Bytes,
}

impl Tag {
    /// Whether this is a sequence header of AAC or AVC, which configures the decoder.
    #[must_use]
    pub fn is_config(&self) -> bool {
        match (self.kind, &self.body[..]) {
            (MediaKind::Audio, [first, 0, ..]) => first >> 4 == 10,
            (MediaKind::Video, [first, 0, ..]) => first & 0x8F == 7,
            _ => false,
        }
    }

    /// Whether this is a keyframe of AVC.
    #[must_use]
    pub fn is_key(&self) -> bool {
        self.kind == MediaKind::Video && matches!(self.body[..], [0x17, 1, ..])
    }
}

/// The bytes are not FLV, or a tag is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this is no FLV, or a tag of it is too long")]
pub struct BadFlv;

/// Reads tags from a stream.
#[derive(Debug, Default)]
pub struct FlvReader {
    held: BytesMut,
    begun: bool,
    skip: usize,
}

impl FlvReader {
    /// Adds bytes. Read all tags before adding more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next tag, or `None` until more bytes have been added. Skips tags of other kinds.
    ///
    /// # Errors
    /// [`BadFlv`]; nothing can be read after that.
    #[expect(clippy::should_implement_trait, reason = "it can fail, and go on after an end")]
    pub fn next(&mut self) -> Result<Option<Tag>, BadFlv> {
        loop {
            if self.skip > 0 {
                let count = self.skip.min(self.held.len());
                self.held.advance(count);
                self.skip -= count;
                if self.skip > 0 {
                    return Ok(None);
                }
            }
            if !self.begun {
                let Some(head) = self.held.first_chunk::<9>() else { return Ok(None) };
                let [b'F', b'L', b'V', _, _, a, b, c, d] = *head else { return Err(BadFlv) };
                let size = u32::from_be_bytes([a, b, c, d]) as usize;
                if !(9..=MAX_HEADER).contains(&size) {
                    return Err(BadFlv);
                }
                // The header is followed by the size of a previous tag, which does not exist.
                self.skip = size + 4;
                self.begun = true;
                continue;
            }
            let Some(head) = self.held.first_chunk::<11>() else { return Ok(None) };
            let [kind, s0, s1, s2, t0, t1, t2, t3, ..] = *head;
            let size = u32::from_be_bytes([0, s0, s1, s2]) as usize;
            if size > MAX_BODY {
                return Err(BadFlv);
            }
            if self.held.len() < 11 + size {
                self.held.reserve(11 + size - self.held.len());
                return Ok(None);
            }
            self.held.advance(11);
            let body = self.held.split_to(size).freeze();
            self.skip = 4;
            let kind = match kind {
                8 => MediaKind::Audio,
                9 => MediaKind::Video,
                18 => MediaKind::Metadata,
                _ => continue,
            };
            return Ok(Some(Tag { kind, time: u32::from_be_bytes([t3, t0, t1, t2]), body }));
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: FLV from other processes.

    use lianmai_media_plane::flv::{encode_tag, file_header};

    use super::*;

    fn tags() -> Vec<Tag> {
        let tag = |kind, time, body: &'static [u8]| Tag { kind, time, body: body.into() };
        vec![
            tag(MediaKind::Metadata, 0, b"onMetaData"),
            tag(MediaKind::Video, 0, b"\x17\0\0\0\0\x01"),
            tag(MediaKind::Audio, 7, b"\xAF\0\x12\x10"),
            tag(MediaKind::Video, 0xFEDC_BA98, b"\x17\x01\0\0\0abc"),
            tag(MediaKind::Audio, 9, b""),
        ]
    }

    #[test]
    fn tags_are_read_however_they_are_cut() {
        let mut bytes = file_header(true, true).to_vec();
        for tag in tags() {
            bytes.extend_from_slice(&encode_tag(tag.kind, tag.time, &tag.body));
        }
        for size in [1, 5, bytes.len()] {
            let mut reader = FlvReader::default();
            let mut read = Vec::new();
            for part in bytes.chunks(size) {
                reader.push(part);
                while let Some(tag) = reader.next().unwrap() {
                    read.push(tag);
                }
            }
            assert_eq!(read, tags(), "{size}");
        }
    }

    #[test]
    fn kinds_of_tags() {
        let tags = tags();
        let configs: Vec<bool> = tags.iter().map(Tag::is_config).collect();
        assert_eq!(configs, [false, true, true, false, false]);
        let keys: Vec<bool> = tags.iter().map(Tag::is_key).collect();
        assert_eq!(keys, [false, false, false, true, false]);
    }

    #[test]
    fn other_data_than_flv_is_refused() {
        for bytes in [&b"HTTP/1.1 "[..], b"FLV\x01\x05\xFF\0\0\x09", b"FLV\x01\x05\0\0\0\x08"] {
            let mut reader = FlvReader::default();
            reader.push(bytes);
            assert_eq!(reader.next(), Err(BadFlv));
        }
        let mut reader = FlvReader::default();
        reader.push(&file_header(true, true));
        reader.push(b"\x09\x80\0\x01\0\0\0\0\0\0\0");
        assert_eq!(reader.next(), Err(BadFlv), "a tag that is too long");
    }
}
