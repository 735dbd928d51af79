//! Cuts the packets of a stream into segments.
//!
//! In: packets of a stream in their order. Out: segments, each of which begins with a keyframe, or with audio if
//! there is no video. Exceptions are the segments that follow one of maximum length, a pause of the media, or another
//! codec of the audio. Absent: who reads the segments; clocks.

use std::time::Duration;

use bytes::Bytes;
use mpeg2ts::es::StreamType;

use super::elementary::{Audio, Video};
use super::transport::{ContinuityCounters, Frame, PacketWriter, TrackKind};
use crate::hub::KINDS_SETTLE_TIME;
use crate::media::{Packet, Role, coded, fourcc};
use crate::rtmp::MediaKind;
use crate::rtmp::limits::MAX_MEDIA_MESSAGE;

/// A segment ends without a keyframe at this many bytes, or after [`MAX_SPAN`] milliseconds.
const MAX_BYTES: usize = 2 * MAX_MEDIA_MESSAGE;
const MAX_SPAN: u32 = 15_000;
/// The FLV number of MP3.
const MP3: u32 = 2;
/// Largest distance from the end of a segment to the first packet of the next, ms. After a larger gap the playlist
/// has a discontinuity.
const GAP: u32 = 1000;
/// Longest pause of the media within a segment, ms. At a longer one the segment ends with its latest frame.
const MAX_PAUSE: u32 = 5000;
/// Time that the first audio waits for video that is announced. It leaves time for a segment before a request for the
/// playlist is given up.
const ANNOUNCED_VIDEO_WAIT: Duration = Duration::from_secs(5);

/// A complete segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The segment as MPEG-TS.
    pub bytes: Bytes,
    /// Duration, ms.
    pub span: u32,
    /// Whether the segment does not continue the one before it: it is the first one, there is a gap, or the codecs
    /// differ.
    pub breaks: bool,
}

#[derive(Debug)]
struct OpenSegment {
    packets: PacketWriter,
    begin: u32,
    /// Time of the latest frame, ms.
    latest: u32,
    has_video: bool,
    has_audio: bool,
    breaks: bool,
}

/// Cuts a stream into segments.
#[derive(Debug)]
pub struct Segmenter {
    /// Time after which a segment ends at the next keyframe, ms.
    span: u32,
    video: Option<Video>,
    audio: Option<Audio>,
    counters: ContinuityCounters,
    open: Option<OpenSegment>,
    /// The codecs of the previous segment, and its end.
    before: Option<([Option<StreamType>; 2], u32)>,
    /// Time of the first audio that waits for video before it begins a segment.
    waits_since: Option<u32>,
    /// The next segment continues the previous one, so it begins with any frame.
    goes_on: bool,
    skipped: bool,
}

impl Segmenter {
    /// A segmenter whose segments end at the first keyframe after `span` milliseconds.
    #[must_use]
    pub fn new(span: u32) -> Self {
        Self {
            span,
            video: None,
            audio: None,
            counters: ContinuityCounters::default(),
            open: None,
            before: None,
            waits_since: None,
            goes_on: false,
            skipped: false,
        }
    }

    /// Whether media has come that HLS cannot carry.
    #[must_use]
    pub fn has_skipped(&self) -> bool {
        self.skipped
    }

    /// Bytes of memory of the incomplete segment.
    #[must_use]
    pub fn open_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.packets.memory())
    }

    /// Drops the incomplete segment. The next segment begins like the first one.
    pub fn abandon(&mut self) {
        self.open = None;
        self.goes_on = false;
    }

    /// Takes a packet. Returns the segment that it completes.
    pub fn push(&mut self, packet: &Packet) -> Option<Segment> {
        let (kind, class, body) = (packet.kind(), packet.class, packet.body());
        let is_key = class.role == Role::Key;
        match (kind, class.role) {
            (_, Role::Config) => {
                // A message with several tracks changes nothing for the frames of the single track.
                let Some(coded) = coded(kind, &body) else {
                    self.skipped = true;
                    return None;
                };
                match kind {
                    MediaKind::Video => self.change_video(match class.codec {
                        fourcc::AVC => Video::h264(coded.data),
                        fourcc::HEVC => Video::h265(coded.data),
                        _ => None,
                    }),
                    _ => self.change_audio(match class.codec {
                        fourcc::AAC => Audio::aac(coded.data),
                        _ => None,
                    }),
                }
            }
            (MediaKind::Video, Role::Key | Role::Inter) => {
                let video = self.video.as_ref();
                let Some(video) = video.filter(|it| is_of(class.codec, it.stream_type)) else {
                    self.skipped = true;
                    return None;
                };
                let coded = coded(kind, &body)?;
                let data = video.frame(coded.data, is_key)?;
                let frame = Frame {
                    track: TrackKind::Video,
                    time: packet.timestamp(),
                    composition: coded.composition,
                    is_key,
                    data: &data,
                };
                self.take(frame)
            }
            (MediaKind::Audio, Role::Sample) => {
                // MP3 has no sequence header that announces it.
                let ended =
                    if class.codec == MP3 { self.change_audio(Some(Audio::Mp3)) } else { None };
                let audio = self.audio.filter(|it| is_of(class.codec, it.stream_type()));
                let Some(audio) = audio else {
                    self.skipped = true;
                    return None;
                };
                let data = coded(kind, &body).and_then(|coded| audio.frame(coded.data));
                let Some(data) = data else { return ended };
                let time = packet.timestamp();
                let track = TrackKind::Audio;
                // If a segment has just ended, none is open that could end here.
                let frame = Frame { track, time, composition: 0, is_key: true, data: &data };
                self.take(frame).or(ended)
            }
            _ => None,
        }
    }

    /// Tells that no more video follows, so audio does not wait for it. Returns the segment that ends with the video.
    pub fn end_video(&mut self) -> Option<Segment> {
        let ended = self.end_if(|_| true);
        self.video = None;
        self.goes_on = ended.is_some();
        ended
    }

    /// Tells that the media pauses. Returns the segment that ends with the latest frame. A single frame has no duration
    /// yet, so it waits for the next one.
    pub fn pause(&mut self) -> Option<Segment> {
        let ended = self.end_if(|open| open.latest != open.begin);
        self.goes_on |= ended.is_some();
        ended
    }

    /// Takes the parameters of the next pictures. A segment with other pictures ends.
    fn change_video(&mut self, video: Option<Video>) -> Option<Segment> {
        self.skipped |= video.is_none();
        if video == self.video {
            return None;
        }
        let ended = self.end_if(|open| open.has_video);
        // The new pictures begin with a keyframe. If none come, the audio goes on.
        self.goes_on = video.is_none();
        self.video = video;
        ended
    }

    /// Takes the parameters of the next audio. A segment with other audio ends, and the next one continues its pictures.
    fn change_audio(&mut self, audio: Option<Audio>) -> Option<Segment> {
        self.skipped |= audio.is_none();
        if audio == self.audio {
            return None;
        }
        let ended = self.end_if(|open| open.has_audio);
        self.goes_on |= ended.is_some();
        self.audio = audio;
        ended
    }

    fn take(&mut self, frame: Frame<'_>) -> Option<Segment> {
        let pauses =
            self.open.as_ref().is_some_and(|open| passed(open.latest, frame.time) > MAX_PAUSE);
        let paused = if pauses { self.pause() } else { None };
        let ends = self.is_too_long(frame) || self.ends_before(frame);
        let ended = paused.or_else(|| ends.then(|| self.end(frame.time)).flatten());
        // The frame that ends a segment begins the next one.
        self.goes_on |= ends;
        if self.open.is_none() && self.begins_with(frame) {
            let breaks = !self.follows(frame.time);
            self.waits_since = None;
            self.goes_on = false;
            self.open = Some(OpenSegment {
                packets: PacketWriter::new(frame.track),
                begin: frame.time,
                latest: frame.time,
                has_video: false,
                has_audio: false,
                breaks,
            });
        }
        let Some(open) = &mut self.open else { return ended };
        if passed(open.latest, frame.time) > 0 {
            open.latest = frame.time;
        }
        match frame.track {
            TrackKind::Video => open.has_video = true,
            TrackKind::Audio => open.has_audio = true,
        }
        if let Err(error) = open.packets.push(&mut self.counters, frame) {
            // No frame is too long for MPEG-TS: the bounds on messages are smaller.
            tracing::error!(%error, "a frame cannot be packed");
        }
        ended
    }

    fn is_too_long(&self, frame: Frame<'_>) -> bool {
        self.open.as_ref().is_some_and(|open| {
            passed(open.begin, frame.time) >= MAX_SPAN || open.packets.len() >= MAX_BYTES
        })
    }

    fn ends_before(&self, frame: Frame<'_>) -> bool {
        let Some(open) = &self.open else { return false };
        let span = passed(open.begin, frame.time);
        match (open.packets.leader(), frame.track) {
            (TrackKind::Video, TrackKind::Video) => frame.is_key && span >= self.span,
            (TrackKind::Audio, TrackKind::Video) => frame.is_key,
            // Pictures that go on after another segment do so until the next keyframe.
            (TrackKind::Audio, TrackKind::Audio) => span >= self.span && !open.has_video,
            (TrackKind::Video, TrackKind::Audio) => false,
        }
    }

    /// Whether a segment may begin with this frame. Audio waits for video, longest for the first video of a push that
    /// announces it.
    fn begins_with(&mut self, frame: Frame<'_>) -> bool {
        match frame.track {
            TrackKind::Video => frame.is_key || self.goes_on,
            // After a pause another publisher may send, whose first audio may come before its first keyframe.
            TrackKind::Audio if self.goes_on && self.follows(frame.time) => true,
            TrackKind::Audio => {
                let since = *self.waits_since.get_or_insert(frame.time);
                let is_first = self.before.is_none() && self.video.is_some();
                let max_wait = if is_first { ANNOUNCED_VIDEO_WAIT } else { KINDS_SETTLE_TIME };
                u128::from(passed(since, frame.time)) >= max_wait.as_millis()
            }
        }
    }

    /// Whether a segment that begins at this time continues the previous one.
    fn follows(&self, time: u32) -> bool {
        let end = self.before.map(|(_, end)| end);
        end.is_some_and(|end| time.wrapping_sub(end).cast_signed().unsigned_abs() <= GAP)
    }

    /// Ends the open segment with its latest frame, if there is one for which `ends` holds.
    fn end_if(&mut self, ends: impl FnOnce(&OpenSegment) -> bool) -> Option<Segment> {
        let latest = self.open.as_ref().filter(|open| ends(open))?.latest;
        self.end(latest)
    }

    /// Ends the open segment, if there is one, at this time.
    fn end(&mut self, time: u32) -> Option<Segment> {
        let open = self.open.take()?;
        let span = passed(open.begin, time);
        let video = self.video.as_ref().filter(|_| open.has_video).map(|video| video.stream_type);
        let audio = self.audio.filter(|_| open.has_audio).map(Audio::stream_type);
        let kinds = [video, audio];
        let breaks = open.breaks || self.before.is_some_and(|(before, _)| before != kinds);
        self.before = Some((kinds, open.begin.wrapping_add(span)));
        let bytes = open.packets.finish(&mut self.counters, video, audio);
        let bytes = bytes.inspect_err(|error| tracing::error!(%error, "a segment cannot be made"));
        Some(Segment { bytes: bytes.ok()?.into(), span, breaks })
    }
}

/// Time from `from` to `to`, ms; 0 if `to` is earlier. Both wrap at 2^32.
fn passed(from: u32, to: u32) -> u32 {
    u32::try_from(to.wrapping_sub(from).cast_signed()).unwrap_or(0)
}

/// Whether frames of this codec are for a stream of this type.
fn is_of(codec: u32, stream_type: StreamType) -> bool {
    codec
        == match stream_type {
            StreamType::H264 => fourcc::AVC,
            StreamType::H265 => fourcc::HEVC,
            StreamType::AdtsAac => fourcc::AAC,
            _ => MP3,
        }
}
