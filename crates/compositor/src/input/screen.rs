//! The filter between a stream and its decoder.
//!
//! In: tags of an untrusted stream. Out: the tags for the decoder, and the moments at which another decoder is needed.
//! Deliberately absent: the decoder.
//!
//! Only AVC, AAC and MP3 pass, so that a stream cannot choose among all decoders of ffmpeg. A stream may change its
//! configuration, or a second kind may start later: another decoder then starts with the tags since the last keyframe.
//! Times that jump are made continuous, because containers do not support jumps.

use std::time::Duration;

use lianmai_media_plane::{Kinds, MediaKind};
use tokio::time::{Instant, sleep_until};

use super::Wanted;
use crate::flv::Tag;

/// After the first kind has started, the decoder waits this long for the second.
const SECOND_KIND: Duration = Duration::from_millis(300);
/// Maximum number of bytes, and of tags, since the last keyframe that are stored for another decoder.
const KEPT: (usize, usize) = (8 << 20, 2000);
/// A time that differs by more than this from the newest one is a jump, in milliseconds.
const JUMP: i64 = 5000;
/// A jump is replaced by this step, in milliseconds.
const STEP: i64 = 20;
/// Maximum number of decoders that one stream may start, and the time span for it.
const BEGINNINGS: (usize, Duration) = (6, Duration::from_secs(10));

/// The result for a tag.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The tag is dropped.
    Drop,
    /// The tag passes; it also goes to the decoder if the flag is true.
    Pass(Tag, bool),
    /// The running decoder cannot decode what follows; another one has to start with [`Screen::begin`].
    Another,
}

#[derive(Debug)]
pub(super) struct Screen {
    wanted: Wanted,
    audio: Option<Tag>,
    video: Option<Tag>,
    /// The kinds that have started.
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
    line: Line,
    begun: Vec<Instant>,
}

impl Screen {
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
            line: Line::default(),
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
    pub(super) fn may_begin(&mut self, now: Instant) -> bool {
        self.begun.retain(|begun| now - *begun < BEGINNINGS.1);
        self.begun.push(now);
        self.begun.len() <= BEGINNINGS.0
    }

    /// The kinds of the decoder that starts, and its first tags.
    pub(super) fn begin(&mut self) -> (Kinds, Vec<Tag>) {
        self.begin_at = None;
        self.running = Some(self.kinds);
        let time = self.kept.first().map_or(self.line.last(), |tag| tag.time);
        let head = [&self.video, &self.audio].into_iter().flatten().cloned();
        let head = head.map(|tag| Tag { time, ..tag });
        let decodes = |tag: &Tag| self.decodes(tag.kind);
        (self.kinds, head.chain(self.kept.iter().cloned()).filter(decodes).collect())
    }

    pub(super) fn take(&mut self, tag: Tag, now: Instant) -> Verdict {
        let tag = match tag.kind {
            MediaKind::Audio if is_sound(&tag.body) => tag,
            MediaKind::Video if self.wants_pictures() && is_avc(&tag.body) => tag,
            _ => return Verdict::Drop,
        };
        let tag = Tag { time: self.line.put(tag.kind, tag.time), ..tag };
        let is_new_kind = !self.kinds.has(tag.kind) && self.decodes(tag.kind);
        if is_new_kind {
            match tag.kind {
                MediaKind::Audio => self.kinds.audio = true,
                _ => self.kinds.video = true,
            }
        }
        let mut is_new = false;
        if tag.is_config() {
            let known = match tag.kind {
                MediaKind::Audio => &mut self.audio,
                _ => &mut self.video,
            };
            is_new = known.as_ref().is_some_and(|known| known.body != tag.body);
            *known = Some(tag.clone());
            if is_new && tag.kind == MediaKind::Video {
                self.forget();
                self.broken = true;
            }
        } else if tag.kind == MediaKind::Video {
            if tag.is_key() {
                self.forget();
                self.broken = self.video.is_none();
            }
            if self.broken {
                return Verdict::Drop;
            }
            self.keep(&tag);
        } else if self.kinds.video {
            self.keep(&tag);
        }
        let other = self.running.is_some_and(|running| running != self.kinds);
        if self.running.is_some() && self.decodes(tag.kind) && (is_new || other) {
            self.running = None;
            self.begin_at = Some(now);
            return Verdict::Another;
        }
        if self.running.is_none() && self.kinds != Kinds::NONE {
            let all = self.kinds == Kinds::BOTH || !self.wanted.pictures;
            let latest = if all { now } else { now + SECOND_KIND };
            self.begin_at = Some(self.begin_at.map_or(latest, |at| at.min(latest)));
        }
        let to_decoder = self.running.is_some() && self.decodes(tag.kind);
        Verdict::Pass(tag, to_decoder)
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
        if self.kept_bytes > KEPT.0 || self.kept.len() > KEPT.1 {
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
        [first, packet, _, ..] if first >> 4 == 10 => *packet <= 1,
        [first, _, ..] => first >> 4 == 2,
        _ => false,
    }
}

fn is_avc(body: &[u8]) -> bool {
    // Excludes enhanced FLV and commands to a player; accepts headers and pictures.
    matches!(body, [first, packet, _, _, _, _, ..]
        if first & 0x8F == 7 && first >> 4 != 5 && *packet <= 1)
}

/// Continuous times, as a container needs them.
#[derive(Debug, Default)]
struct Line {
    /// Offset that is added to the times of the stream, in milliseconds.
    shift: i64,
    last: [Option<i64>; 2],
}

impl Line {
    fn put(&mut self, kind: MediaKind, time: u32) -> u32 {
        let index = usize::from(kind == MediaKind::Video);
        let newest = self.last.iter().flatten().max().copied();
        let Some(newest) = newest else {
            // Starts at 1 s, so that an earlier time is not negative.
            self.shift = 1000 - i64::from(time);
            self.last[index] = Some(1000);
            return 1000;
        };
        let mut at = i64::from(time) + self.shift;
        if (at - newest).abs() > JUMP {
            self.shift += newest + STEP - at;
            at = newest + STEP;
        }
        let last = self.last[index].unwrap_or(0);
        let at = at.max(last).max(0);
        self.last[index] = Some(at);
        u32::try_from(at).unwrap_or(u32::MAX)
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

    fn screen(pictures: bool) -> Screen {
        Screen::new(Wanted {
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
    const AAC: &[u8] = b"\xAF\0\x12\x10";
    const SOUND: &[u8] = b"\xAF\x01\x21";

    #[tokio::test(start_paused = true)]
    async fn a_decoder_begins_when_both_kinds_are_there() {
        let mut screen = screen(true);
        let now = Instant::now();
        assert!(matches!(screen.take(video(5000, AVC), now), Verdict::Pass(_, false)));
        assert!(matches!(screen.take(video(5000, KEY), now), Verdict::Pass(_, false)));
        assert_eq!(screen.begin_at, Some(now + SECOND_KIND));
        screen.take(audio(5000, AAC), now);
        assert_eq!(screen.begin_at, Some(now));
        screen.take(video(5040, INTER), now);
        let (kinds, first) = screen.begin();
        assert_eq!(kinds, Kinds::BOTH);
        let times: Vec<_> = first.iter().map(|tag| (tag.kind, tag.time)).collect();
        let (a, v) = (MediaKind::Audio, MediaKind::Video);
        assert_eq!(times, [(v, 1000), (a, 1000), (v, 1000), (v, 1040)]);
        let next = screen.take(audio(5050, SOUND), now);
        assert_eq!(next, Verdict::Pass(Tag { time: 1050, ..audio(0, SOUND) }, true));
    }

    #[tokio::test(start_paused = true)]
    async fn another_header_or_kind_is_another_decoder() {
        let mut screen = screen(true);
        let now = Instant::now();
        screen.take(video(0, AVC), now);
        screen.take(video(0, KEY), now);
        screen.begin();
        assert!(matches!(screen.take(video(0, AVC), now), Verdict::Pass(_, true)), "the same");
        assert_eq!(screen.take(audio(40, AAC), now), Verdict::Another);
        assert_eq!(screen.begin().1.len(), 3, "headers, and the keyframe");
        assert_eq!(screen.take(video(80, b"\x17\0\0\0\0\x02"), now), Verdict::Another);
        assert_eq!(screen.take(video(80, INTER), now), Verdict::Drop, "of the other sequence");
        screen.take(video(120, KEY), now);
        assert_eq!(screen.begin().1.len(), 3);
        assert!((0..6).all(|_| screen.may_begin(now)));
        assert!(!screen.may_begin(now), "too often");
        assert!(screen.may_begin(now + BEGINNINGS.1));
    }

    #[tokio::test(start_paused = true)]
    async fn other_codecs_and_commands_reach_no_decoder() {
        let mut screen = screen(true);
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
            assert_eq!(screen.take(tag, now), Verdict::Drop, "{body:?}");
        }
        for body in [&b"\x5F\x01\x01"[..], b"\xAF\x02\x01", b"\xAF\0", b"\xBF\x01\x01", b""] {
            let tag = Tag { kind: MediaKind::Audio, time: 0, body: body.into() };
            assert_eq!(screen.take(tag, now), Verdict::Drop, "{body:?}");
        }
        assert_eq!(screen.take(tag(MediaKind::Metadata, 0, b"x"), now), Verdict::Drop);
        assert!(matches!(screen.take(video(0, KEY), now), Verdict::Drop), "no header yet");
        let mut deaf = Screen::new(Wanted { pictures: false, ..screen.wanted });
        assert_eq!(deaf.take(video(0, AVC), now), Verdict::Drop);
        deaf.take(audio(0, SOUND), now);
        assert_eq!(deaf.begin_at, Some(now), "nothing else is waited for");
    }

    #[test]
    fn times_have_no_jumps() {
        let mut line = Line::default();
        let mut put = |time| line.put(MediaKind::Video, time);
        assert_eq!((put(70_000), put(70_040), put(70_030)), (1000, 1040, 1040));
        assert_eq!((put(0), put(40)), (1060, 1100), "back to the beginning");
        assert_eq!((put(u32::MAX), put(u32::MAX)), (1120, 1120));
        assert_eq!(put(3000), 1140);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_for_another_decoder_is_bounded() {
        let mut screen = screen(true);
        let now = Instant::now();
        screen.take(video(0, AVC), now);
        screen.take(video(0, KEY), now);
        for time in 0..10_000 {
            screen.take(video(time, INTER), now);
            assert!(screen.kept.len() <= KEPT.1);
        }
    }
}
