//! The filter between a stream and its decoder.
//!
//! In: tags of an untrusted stream. Out: the tags for the decoder, and the moments at which another decoder is needed.
//! Deliberately absent: the decoder.
//!
//! Only AVC, AAC and MP3 are let through, so that nobody chooses among all decoders of ffmpeg. A stream may say anew how it
//! is decoded, or begin with a second kind: then another decoder begins with the pictures since the last keyframe. A kind
//! has begun with its first frame that can be decoded: a decoder waits for frames of each kind that it is told of, so a
//! header without frames would hold back the other kind. Times that jump are brought to where they were, since containers cannot jump.

use std::time::Duration;

use lianmai_media_plane::{Kinds, MediaKind};
use tokio::time::{Instant, sleep_until};

use super::Wanted;
use crate::flv::Tag;

/// After the first kind has started, the decoder waits this long for the second.
const SECOND_KIND: Duration = Duration::from_millis(300);
/// Maximum number of bytes, and of tags, since the last keyframe that are stored for another decoder.
const MAX_KEPT: (usize, usize) = (8 << 20, 2000);
/// A time that differs by more than this from the newest one is a jump, in milliseconds.
const JUMP: i64 = 5000;
/// A jump is replaced by this step, in milliseconds.
const STEP: i64 = 20;
/// Latest time of a timeline, in milliseconds: times of FLV have a sign. A timeline takes 24 days.
const MAX_TIME: u32 = i32::MAX as u32;
/// Decoders that one stream may begin in a span.
const MAX_DECODERS: (usize, Duration) = (6, Duration::from_secs(10));

/// The result for a tag.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FilterResult {
    /// The tag is dropped.
    Drop,
    /// The tag passes; it also goes to the decoder if the flag is true.
    Pass(Tag, bool),
    /// The running decoder cannot decode what follows; another one has to start with [`TagFilter::begin`].
    NewDecoder,
    /// No container takes later times: all begins anew.
    End,
}

#[derive(Debug)]
pub(super) struct TagFilter {
    wanted: Wanted,
    audio: Option<Tag>,
    video: Option<Tag>,
    /// Kinds that have begun: a frame came that can be decoded by the last header.
    kinds: Kinds,
    /// The kinds of the running decoder.
    running: Option<Kinds>,
    /// The time at which the decoder has to start.
    begin_at: Option<Instant>,
    /// The tags since the last keyframe, of all kinds.
    kept: Vec<Tag>,
    kept_bytes: usize,
    /// Whether pictures are dropped until the next keyframe.
    broken: bool,
    timeline: Timeline,
    begun: Vec<Instant>,
}

impl TagFilter {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            audio: None,
            video: None,
            kinds: Kinds::NONE,
            running: None,
            begin_at: None,
            kept: Vec::new(),
            kept_bytes: 0,
            broken: true,
            timeline: Timeline::default(),
            begun: Vec::new(),
        }
    }

    /// Completes when a decoder has to start.
    pub(super) async fn wait(&self) {
        match self.begin_at {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Whether another decoder may start. A stream that needs too many of them gets a pause.
    pub(super) fn admit_decoder(&mut self, now: Instant) -> bool {
        self.begun.retain(|begun| now - *begun < MAX_DECODERS.1);
        self.begun.push(now);
        self.begun.len() <= MAX_DECODERS.0
    }

    /// The kinds of the decoder that starts, and its first tags.
    pub(super) fn begin(&mut self) -> (Kinds, Vec<Tag>) {
        self.begin_at = None;
        self.running = Some(self.kinds);
        let time = self.kept.first().map_or(self.timeline.last(), |tag| tag.time);
        let head = [&self.video, &self.audio].into_iter().flatten().cloned();
        let head = head.map(|tag| Tag { time, ..tag });
        let decodes = |tag: &Tag| self.kinds.has(tag.kind);
        (self.kinds, head.chain(self.kept.iter().cloned()).filter(decodes).collect())
    }

    pub(super) fn apply(&mut self, tag: Tag, now: Instant) -> FilterResult {
        let tag = match tag.kind {
            MediaKind::Audio if is_sound(&tag.body) => tag,
            MediaKind::Video if self.wants_pictures() && is_avc(&tag.body) => tag,
            _ => return FilterResult::Drop,
        };
        let Some(time) = self.timeline.map(tag.kind, tag.time) else { return FilterResult::End };
        let tag = Tag { time, ..tag };
        if tag.is_config() {
            self.configure(&tag);
        } else {
            if tag.is_key() {
                self.forget();
                self.broken = self.video.is_none();
            }
            let is_of_use = match tag.kind {
                MediaKind::Video => !self.broken,
                _ => !is_aac(&tag.body) || self.audio.is_some(),
            };
            if !is_of_use {
                return FilterResult::Drop;
            }
            if self.decodes(tag.kind) {
                match tag.kind {
                    MediaKind::Audio => self.kinds.audio = true,
                    _ => self.kinds.video = true,
                }
            }
            if tag.kind == MediaKind::Video || self.kinds.video {
                self.keep(&tag);
            }
        }
        let is_over = self.running.is_some_and(|running| running != self.kinds);
        if is_over {
            self.running = None;
        }
        if self.kinds == Kinds::NONE {
            self.begin_at = None;
        } else if self.running.is_none() {
            let all = self.kinds == Kinds::BOTH || !self.wanted.pictures;
            let latest = if all { now } else { now + SECOND_KIND };
            self.begin_at = Some(self.begin_at.map_or(latest, |at| at.min(latest)));
        }
        if is_over {
            return FilterResult::NewDecoder;
        }
        let to_decoder = self.running.is_some_and(|running| running.has(tag.kind));
        FilterResult::Pass(tag, to_decoder)
    }

    /// Takes a header. By another one than before, nothing that came before is decoded.
    fn configure(&mut self, tag: &Tag) {
        let known = match tag.kind {
            MediaKind::Audio => &mut self.audio,
            _ => &mut self.video,
        };
        let is_other = known.as_ref().is_some_and(|known| known.body != tag.body);
        *known = Some(tag.clone());
        if !is_other {
            return;
        }
        if tag.kind == MediaKind::Video {
            self.kinds.video = false;
            self.broken = true;
            self.forget();
        } else {
            self.kinds.audio = false;
            self.kept.retain(|kept| kept.kind != MediaKind::Audio);
            self.kept_bytes = self.kept.iter().map(|kept| kept.body.len()).sum();
        }
    }

    fn wants_pictures(&self) -> bool {
        self.wanted.pictures || self.wanted.passing
    }

    fn decodes(&self, kind: MediaKind) -> bool {
        match kind {
            MediaKind::Audio => true,
            MediaKind::Video => self.wanted.pictures,
            MediaKind::Metadata => false,
        }
    }

    fn keep(&mut self, tag: &Tag) {
        self.kept_bytes += tag.body.len();
        self.kept.push(tag.clone());
        if self.kept_bytes > MAX_KEPT.0 || self.kept.len() > MAX_KEPT.1 {
            // The group is too long to be stored: another decoder starts with the next keyframe.
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.kept.clear();
        self.kept_bytes = 0;
    }
}

/// Whether this is AAC, or MP3 at a rate other than 8 kHz.
fn is_sound(body: &[u8]) -> bool {
    match body {
        [_, packet, _, ..] if is_aac(body) => *packet <= 1,
        [first, _, ..] => first >> 4 == 2,
        _ => false,
    }
}

fn is_aac(body: &[u8]) -> bool {
    body.first().is_some_and(|first| first >> 4 == 10)
}

fn is_avc(body: &[u8]) -> bool {
    // Excludes enhanced FLV and commands to a player; accepts headers and pictures.
    matches!(body, [first, packet, _, _, _, _, ..]
        if first & 0x8F == 7 && first >> 4 != 5 && *packet <= 1)
}

/// Continuous times, as a container needs them.
#[derive(Debug, Default)]
struct Timeline {
    /// Offset that is added to the times of the stream, in milliseconds.
    shift: i64,
    last: [Option<i64>; 2],
}

impl Timeline {
    /// The time on the timeline; `None` at the end of the timeline.
    fn map(&mut self, kind: MediaKind, time: u32) -> Option<u32> {
        let index = usize::from(kind == MediaKind::Video);
        let newest = self.last.iter().flatten().max().copied();
        let Some(newest) = newest else {
            // Starts at 1 s, so that an earlier time is not negative.
            self.shift = 1000 - i64::from(time);
            self.last[index] = Some(1000);
            return Some(1000);
        };
        let mut at = i64::from(time) + self.shift;
        if (at - newest).abs() > JUMP {
            self.shift += newest + STEP - at;
            at = newest + STEP;
        }
        let last = self.last[index].unwrap_or(0);
        let at = at.max(last).max(0);
        self.last[index] = Some(at);
        u32::try_from(at).ok().filter(|at| *at <= MAX_TIME)
    }

    fn last(&self) -> u32 {
        let newest = self.last.iter().flatten().max().copied().unwrap_or_default();
        u32::try_from(newest).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: what reaches a decoder.

    use super::*;

    fn filter(pictures: bool) -> TagFilter {
        TagFilter::new(Wanted {
            pictures,
            passing: false,
            rate: 48_000,
            channels: 2,
            longest_side: 1280,
            fps: 15,
        })
    }

    fn tag(kind: MediaKind, time: u32, body: &'static [u8]) -> Tag {
        Tag { kind, time, body: body.into() }
    }

    fn video(time: u32, body: &'static [u8]) -> Tag {
        tag(MediaKind::Video, time, body)
    }

    fn audio(time: u32, body: &'static [u8]) -> Tag {
        tag(MediaKind::Audio, time, body)
    }

    const AVC: &[u8] = b"\x17\0\0\0\0\x01";
    const KEY: &[u8] = b"\x17\x01\0\0\0abc";
    const INTER: &[u8] = b"\x27\x01\0\0\0abc";
    const OTHER_AVC: &[u8] = b"\x17\0\0\0\0\x02";
    const OTHER_AAC: &[u8] = b"\xAF\0\x11\x90";
    const AAC: &[u8] = b"\xAF\0\x12\x10";
    const SOUND: &[u8] = b"\xAF\x01\x21";

    #[tokio::test(start_paused = true)]
    async fn a_decoder_begins_when_both_kinds_are_there() {
        let mut filter = filter(true);
        let now = Instant::now();
        assert!(matches!(filter.apply(video(5000, AVC), now), FilterResult::Pass(_, false)));
        assert!(matches!(filter.apply(video(5000, KEY), now), FilterResult::Pass(_, false)));
        assert_eq!(filter.begin_at, Some(now + SECOND_KIND));
        filter.apply(audio(5000, AAC), now);
        assert_eq!(filter.begin_at, Some(now + SECOND_KIND), "no sound yet");
        filter.apply(audio(5000, SOUND), now);
        assert_eq!(filter.begin_at, Some(now));
        filter.apply(video(5040, INTER), now);
        let (kinds, first) = filter.begin();
        assert_eq!(kinds, Kinds::BOTH);
        let times: Vec<_> = first.iter().map(|tag| (tag.kind, tag.time)).collect();
        let (a, v) = (MediaKind::Audio, MediaKind::Video);
        assert_eq!(times, [(v, 1000), (a, 1000), (v, 1000), (a, 1000), (v, 1040)]);
        let next = filter.apply(audio(5050, SOUND), now);
        assert_eq!(next, FilterResult::Pass(Tag { time: 1050, ..audio(0, SOUND) }, true));
    }

    #[tokio::test(start_paused = true)]
    async fn another_header_or_kind_needs_another_decoder() {
        let mut filter = filter(true);
        let now = Instant::now();
        filter.apply(video(0, AVC), now);
        filter.apply(video(0, KEY), now);
        filter.begin();
        assert!(
            matches!(filter.apply(video(0, AVC), now), FilterResult::Pass(_, true)),
            "the same"
        );
        filter.apply(audio(40, AAC), now);
        assert_eq!(filter.apply(audio(40, SOUND), now), FilterResult::NewDecoder);
        assert_eq!(filter.begin().1.len(), 4, "headers, the keyframe, and sound");
        assert_eq!(filter.apply(video(80, OTHER_AVC), now), FilterResult::NewDecoder);
        assert_eq!(
            filter.apply(video(80, INTER), now),
            FilterResult::Drop,
            "of the other sequence"
        );
        filter.apply(video(120, KEY), now);
        assert_eq!(filter.begin_at, Some(now));
        assert_eq!(filter.begin().1.len(), 3);
        assert!((0..6).all(|_| filter.admit_decoder(now)));
        assert!(!filter.admit_decoder(now), "too often");
        assert!(filter.admit_decoder(now + MAX_DECODERS.1));
    }

    #[tokio::test(start_paused = true)]
    async fn other_codecs_and_commands_reach_no_decoder() {
        let mut filter = filter(true);
        let now = Instant::now();
        for body in [
            &b"\x12\x01\0\0\0\x01"[..],
            b"\x57\x01\0\0\0\x01",
            b"\x91hvc1\0\0\0\x01",
            b"\x17\x02\0\0\0\x01",
            b"\x17\x01",
            b"",
        ] {
            let tag = Tag { kind: MediaKind::Video, time: 0, body: body.into() };
            assert_eq!(filter.apply(tag, now), FilterResult::Drop, "{body:?}");
        }
        for body in [&b"\x5F\x01\x01"[..], b"\xAF\x02\x01", b"\xAF\0", b"\xBF\x01\x01", b""] {
            let tag = Tag { kind: MediaKind::Audio, time: 0, body: body.into() };
            assert_eq!(filter.apply(tag, now), FilterResult::Drop, "{body:?}");
        }
        assert_eq!(filter.apply(tag(MediaKind::Metadata, 0, b"x"), now), FilterResult::Drop);
        assert!(matches!(filter.apply(video(0, KEY), now), FilterResult::Drop), "no header yet");
        let mut deaf = TagFilter::new(Wanted { pictures: false, ..filter.wanted });
        assert_eq!(deaf.apply(video(0, AVC), now), FilterResult::Drop);
        assert_eq!(deaf.apply(audio(0, SOUND), now), FilterResult::Drop, "no header yet");
        deaf.apply(audio(0, AAC), now);
        deaf.apply(audio(0, SOUND), now);
        assert_eq!(deaf.begin_at, Some(now), "nothing else is waited for");
    }

    /// What a decoder is told of, and the kinds of the tags that it is given first.
    fn begun(filter: &mut TagFilter) -> (Kinds, Vec<MediaKind>) {
        let (kinds, first) = filter.begin();
        (kinds, first.iter().map(|tag| tag.kind).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_without_frames_holds_nothing_back() {
        let now = Instant::now();
        let (a, v) = (MediaKind::Audio, MediaKind::Video);
        let (sounds, pictures) =
            (Kinds { audio: true, video: false }, Kinds { audio: false, video: true });
        let fresh = || filter(true);
        let mut filter = fresh();
        filter.apply(video(0, AVC), now);
        assert_eq!(filter.begin_at, None, "nothing can be decoded yet");
        filter.apply(audio(0, AAC), now);
        filter.apply(video(0, INTER), now);
        filter.apply(audio(20, SOUND), now);
        assert_eq!(filter.begin_at, Some(now + SECOND_KIND));
        assert_eq!(begun(&mut filter), (sounds, vec![a]));
        assert!(matches!(filter.apply(video(40, AVC), now), FilterResult::Pass(_, false)));
        assert!(matches!(filter.apply(video(40, OTHER_AVC), now), FilterResult::Pass(_, false)));
        assert!(matches!(filter.apply(audio(40, SOUND), now), FilterResult::Pass(_, true)));
        assert_eq!(filter.apply(video(60, KEY), now), FilterResult::NewDecoder);
        assert_eq!(begun(&mut filter), (Kinds::BOTH, vec![v, a, v]));

        let mut filter = fresh();
        filter.apply(audio(0, AAC), now);
        assert_eq!(filter.begin_at, None, "nothing can be decoded yet");
        filter.apply(video(0, AVC), now);
        filter.apply(video(0, KEY), now);
        assert_eq!(begun(&mut filter), (pictures, vec![v, v]));
        assert!(matches!(filter.apply(audio(20, AAC), now), FilterResult::Pass(_, false)));
        assert!(matches!(filter.apply(video(40, INTER), now), FilterResult::Pass(_, true)));
        assert_eq!(filter.apply(audio(60, SOUND), now), FilterResult::NewDecoder);
        assert_eq!(begun(&mut filter), (Kinds::BOTH, vec![v, a, v, v, a]));

        // Another header in the middle, without frames of it.
        assert_eq!(filter.apply(video(80, OTHER_AVC), now), FilterResult::NewDecoder);
        assert_eq!(filter.begin_at, Some(now + SECOND_KIND));
        assert_eq!(begun(&mut filter), (sounds, vec![a]));
        filter.apply(video(120, KEY), now);
        assert_eq!(begun(&mut filter).0, Kinds::BOTH);
        assert_eq!(filter.apply(audio(140, OTHER_AAC), now), FilterResult::NewDecoder);
        assert_eq!(begun(&mut filter), (pictures, vec![v, v]));
        let mut filter = fresh();
        filter.apply(video(0, AVC), now);
        filter.apply(video(0, KEY), now);
        assert!(filter.begin_at.is_some());
        filter.apply(video(40, OTHER_AVC), now);
        assert_eq!(filter.begin_at, None, "nothing can be decoded any more");
    }

    #[tokio::test(start_paused = true)]
    async fn sound_of_another_header_is_not_decoded_by_the_new_one() {
        let mut filter = filter(true);
        let now = Instant::now();
        for tag in [
            video(0, AVC),
            audio(0, AAC),
            video(0, KEY),
            audio(20, SOUND),
            video(40, INTER),
            audio(40, OTHER_AAC),
            audio(60, SOUND),
        ] {
            filter.apply(tag, now);
        }
        let times: Vec<_> = filter.begin().1.iter().map(|tag| (tag.kind, tag.time)).collect();
        let (a, v) = (MediaKind::Audio, MediaKind::Video);
        assert_eq!(times, [(v, 1000), (a, 1000), (v, 1000), (v, 1040), (a, 1060)]);
        assert_eq!(filter.kept_bytes, KEY.len() + INTER.len() + SOUND.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeline_at_its_end_begins_anew() {
        let mut filter = filter(true);
        let now = Instant::now();
        filter.apply(audio(0, AAC), now);
        filter.timeline.shift += i64::from(MAX_TIME) - 2000;
        filter.timeline.last = [Some(i64::from(MAX_TIME) - 1000), None];
        assert!(matches!(filter.apply(audio(1000, SOUND), now), FilterResult::Pass(..)));
        assert_eq!(filter.apply(audio(1001, SOUND), now), FilterResult::End);
    }

    #[test]
    fn times_have_no_jumps() {
        let mut timeline = Timeline::default();
        let mut map = |time| timeline.map(MediaKind::Video, time).unwrap();
        assert_eq!((map(70_000), map(70_040), map(70_030)), (1000, 1040, 1040));
        assert_eq!((map(0), map(40)), (1060, 1100), "back to the beginning");
        assert_eq!((map(u32::MAX), map(u32::MAX)), (1120, 1120));
        assert_eq!(map(3000), 1140);
    }

    #[tokio::test(start_paused = true)]
    async fn media_kept_for_another_decoder_is_bounded() {
        let mut filter = filter(true);
        let now = Instant::now();
        filter.apply(video(0, AVC), now);
        filter.apply(video(0, KEY), now);
        for time in 0..10_000 {
            filter.apply(video(time, INTER), now);
            assert!(filter.kept.len() <= MAX_KEPT.1);
        }
    }
}
