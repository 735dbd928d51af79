//! The recent part of a stream that a new connection needs to start decoding.
//!
//! In: tags. Out: headers, and all tags since the last keyframe. Deliberately absent: sending.

use lianmai_media_plane::MediaKind;

use crate::flv::Tag;

/// Maximum number of stored bytes; a longer group of pictures is dropped.
const MAX_BYTES: usize = 16 << 20;
/// Maximum number of stored tags.
const MAX_TAGS: usize = 8192;

/// The headers and the last group of pictures.
#[derive(Debug, Default)]
pub struct GopCache {
    metadata: Option<Tag>,
    audio: Option<Tag>,
    video: Option<Tag>,
    group: Vec<Tag>,
    bytes: usize,
    /// Time of the newest tag.
    newest: u32,
    /// A keyframe came, and everything since then is kept.
    whole: bool,
}

impl GopCache {
    /// Stores the next tag.
    pub fn put(&mut self, tag: &Tag) {
        self.newest = tag.time;
        match tag.kind {
            MediaKind::Metadata => {
                self.metadata = Some(tag.clone());
                return;
            }
            MediaKind::Audio if tag.is_config() => {
                self.audio = Some(tag.clone());
                return;
            }
            MediaKind::Video if tag.is_config() => {
                self.video = Some(tag.clone());
                self.forget();
                return;
            }
            MediaKind::Video if tag.is_key() => {
                self.forget();
                self.whole = true;
            }
            _ => {}
        }
        if self.whole {
            self.bytes += tag.body.len();
            self.group.push(tag.clone());
            if self.bytes > MAX_BYTES || self.group.len() > MAX_TAGS {
                self.forget();
            }
        }
    }

    /// Whether a tag changes the encoding of the pictures.
    #[must_use]
    pub fn changes_video(&self, tag: &Tag) -> bool {
        tag.kind == MediaKind::Video
            && tag.is_config()
            && self.video.as_ref().is_some_and(|known| known.body != tag.body)
    }

    /// The tags that a new connection is sent first.
    pub fn tags(&self) -> impl Iterator<Item = Tag> {
        let time = self.group.first().map_or(self.newest, |tag| tag.time);
        let head = [&self.metadata, &self.video, &self.audio].into_iter().flatten();
        // Headers are of now, whenever they came.
        let head = head.map(move |tag| Tag { time, ..tag.clone() });
        head.chain(self.group.iter().cloned())
    }

    /// Whether it starts with a keyframe, so that the following tags can be decoded.
    #[must_use]
    pub fn starts_with_keyframe(&self) -> bool {
        self.whole
    }

    fn forget(&mut self) {
        self.group.clear();
        self.bytes = 0;
        self.whole = false;
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: what a publish begins with.

    use super::*;

    fn tag(kind: MediaKind, time: u32, body: &'static [u8]) -> Tag {
        Tag { kind, time, body: body.into() }
    }

    #[test]
    fn a_publish_begins_with_headers_and_the_last_keyframe() {
        let (a, v) = (MediaKind::Audio, MediaKind::Video);
        let mut cache = GopCache::default();
        for tag in [
            tag(v, 0, b"\x17\0\0\0\0\x01"),
            tag(a, 0, b"\xAF\0\x12\x10"),
            tag(v, 0, b"\x17\x01\0\0\0\x01"),
            tag(v, 40, b"\x27\x01\0\0\0\x01"),
            tag(v, 80, b"\x17\x01\0\0\0\x02"),
            tag(a, 81, b"\xAF\x01\x21"),
        ] {
            cache.put(&tag);
        }
        let times: Vec<_> = cache.tags().map(|tag| (tag.kind, tag.time)).collect();
        assert_eq!(times, [(v, 80), (a, 80), (v, 80), (a, 81)]);
        assert!(cache.starts_with_keyframe());
        assert!(!cache.changes_video(&tag(v, 90, b"\x17\0\0\0\0\x01")));
        let other = tag(v, 90, b"\x17\0\0\0\0\x02");
        assert!(cache.changes_video(&other));
        cache.put(&other);
        assert!(!cache.starts_with_keyframe() && cache.tags().count() == 2);
    }

    #[test]
    fn headers_have_the_newest_time() {
        let mut cache = GopCache::default();
        cache.put(&tag(MediaKind::Audio, 0, b"\xAF\0\x12\x10"));
        cache.put(&tag(MediaKind::Audio, 9_000_000, b"\xAF\x01\x21"));
        assert_eq!(cache.tags().map(|tag| tag.time).collect::<Vec<_>>(), [9_000_000]);
    }

    #[test]
    fn the_gop_cache_is_bounded() {
        let mut cache = GopCache::default();
        cache.put(&tag(MediaKind::Video, 0, b"\x17\x01\0\0\0\x01"));
        for time in 0..20_000 {
            cache.put(&tag(MediaKind::Audio, time, b"\xAF\x01\x21"));
            assert!(cache.group.len() <= MAX_TAGS);
        }
        assert!(!cache.starts_with_keyframe());
    }
}
