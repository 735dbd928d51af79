//! Cuts the packets of a stream into segments.
//!
//! In: packets of a stream in their order. Out: segments, each of which begins with a keyframe, or with audio if
//! there is no video. Exceptions are the segments that follow one of maximum length. Absent: who reads the segments;
//! clocks.

use bytes::Bytes;
use mpeg2ts::es::StreamType;

use super::elementary::{Audio, Video};
use super::transport::{Counters, Frame, Lane, Packets};
use crate::hub::SETTLED;
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
struct Open {
    packets: Packets,
    begin: u32,
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
    counters: Counters,
    open: Option<Open>,
    /// The codecs of the previous segment, and its end.
    before: Option<([Option<StreamType>; 2], u32)>,
    /// Time of the first audio that waits for video before it begins a segment.
    waits_since: Option<u32>,
    /// The previous segment ended because it was too long, or because video ended. The next one continues it with any
    /// frame.
    goes_on: bool,
    /// Time of the latest frame, ms.
    latest: u32,
    left_out: bool,
}

impl Segmenter {
    /// A segmenter whose segments end at the first keyframe after `span` milliseconds.
    #[must_use]
    pub fn new(span: u32) -> Self {
        Self {
            span,
            video: None,
            audio: None,
            counters: Counters::default(),
            open: None,
            before: None,
            waits_since: None,
            goes_on: false,
            latest: 0,
            left_out: false,
        }
    }

    /// Whether media has come that HLS cannot carry.
    #[must_use]
    pub fn has_left_out(&self) -> bool {
        self.left_out
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
            (MediaKind::Video, Role::Config) => {
                let video = coded(kind, &body).and_then(|coded| match class.codec {
                    fourcc::AVC => Video::h264(coded.data),
                    fourcc::HEVC => Video::h265(coded.data),
                    _ => None,
                });
                let ended = (video != self.video).then(|| self.end(packet.timestamp())).flatten();
                self.left_out |= video.is_none();
                self.video = video;
                ended
            }
            (MediaKind::Audio, Role::Config) => {
                let audio = coded(kind, &body).and_then(|coded| match class.codec {
                    fourcc::AAC => Audio::aac(coded.data),
                    _ => None,
                });
                let ended = (audio != self.audio).then(|| self.end(packet.timestamp())).flatten();
                self.left_out |= audio.is_none();
                self.audio = audio;
                ended
            }
            (MediaKind::Video, Role::Key | Role::Inter) => {
                let Some(video) = &self.video else {
                    self.left_out = true;
                    return None;
                };
                let coded = coded(kind, &body)?;
                let data = video.frame(coded.data, is_key)?;
                let frame = Frame {
                    lane: Lane::Video,
                    time: packet.timestamp(),
                    composition: coded.composition,
                    is_key,
                    data: &data,
                };
                self.take(frame)
            }
            (MediaKind::Audio, Role::Sample) => {
                // MP3 has no sequence header that announces it.
                let is_other = class.codec == MP3 && self.audio != Some(Audio::Mp3);
                let ended = is_other.then(|| self.end(packet.timestamp())).flatten();
                if is_other {
                    self.audio = Some(Audio::Mp3);
                }
                let Some(audio) = self.audio else {
                    self.left_out = true;
                    return None;
                };
                let data = coded(kind, &body).and_then(|coded| audio.frame(coded.data));
                let Some(data) = data else { return ended };
                let time = packet.timestamp();
                let lane = Lane::Audio;
                // If a segment has just ended, none is open that could end here.
                let frame = Frame { lane, time, composition: 0, is_key: true, data: &data };
                self.take(frame).or(ended)
            }
            _ => None,
        }
    }

    /// Tells that no more video follows, so audio does not wait for it. Returns the segment that ends with the video.
    pub fn end_video(&mut self) -> Option<Segment> {
        let ended = self.end(self.latest);
        self.video = None;
        self.goes_on = ended.is_some();
        ended
    }

    fn take(&mut self, frame: Frame<'_>) -> Option<Segment> {
        self.latest = self.latest.max(frame.time);
        let is_long = self.is_too_long(frame);
        let ended = (is_long || self.ends_before(frame)).then(|| self.end(frame.time)).flatten();
        self.goes_on |= is_long;
        if self.open.is_none() && self.begins_with(frame) {
            let breaks = self.before.is_none_or(|(_, end)| frame.time.abs_diff(end) > GAP);
            self.waits_since = None;
            self.goes_on = false;
            self.open = Some(Open {
                packets: Packets::new(frame.lane),
                begin: frame.time,
                has_video: false,
                has_audio: false,
                breaks,
            });
        }
        let Some(open) = &mut self.open else { return ended };
        match frame.lane {
            Lane::Video => open.has_video = true,
            Lane::Audio => open.has_audio = true,
        }
        if let Err(error) = open.packets.push(&mut self.counters, frame) {
            // No frame is too long for MPEG-TS: the bounds on messages are smaller.
            tracing::error!(%error, "a frame cannot be packed");
        }
        ended
    }

    fn is_too_long(&self, frame: Frame<'_>) -> bool {
        self.open.as_ref().is_some_and(|open| {
            let span = frame.time.saturating_sub(open.begin);
            span >= MAX_SPAN || open.packets.len() >= MAX_BYTES
        })
    }

    fn ends_before(&self, frame: Frame<'_>) -> bool {
        let Some(open) = &self.open else { return false };
        let span = frame.time.saturating_sub(open.begin);
        match (open.packets.leader(), frame.lane) {
            (Lane::Video, Lane::Video) => frame.is_key && span >= self.span,
            (Lane::Audio, Lane::Video) => frame.is_key,
            (Lane::Audio, Lane::Audio) => span >= self.span,
            (Lane::Video, Lane::Audio) => false,
        }
    }

    /// Whether a segment may begin with this frame. Audio begins one only if no video is expected.
    fn begins_with(&mut self, frame: Frame<'_>) -> bool {
        match frame.lane {
            _ if self.goes_on => true,
            Lane::Video => frame.is_key,
            Lane::Audio if self.video.is_none() || self.before.is_some() => {
                let since = *self.waits_since.get_or_insert(frame.time);
                u128::from(frame.time.saturating_sub(since)) >= SETTLED.as_millis()
            }
            Lane::Audio => false,
        }
    }

    /// Ends the open segment, if there is one, at the time of the frame that follows.
    fn end(&mut self, time: u32) -> Option<Segment> {
        let open = self.open.take()?;
        let end = time.max(open.begin);
        let video = self.video.as_ref().filter(|_| open.has_video).map(|video| video.stream_type);
        let audio = self.audio.filter(|_| open.has_audio).map(Audio::stream_type);
        let kinds = [video, audio];
        let breaks = open.breaks || self.before.is_some_and(|(before, _)| before != kinds);
        self.before = Some((kinds, end));
        let bytes = open.packets.finish(&mut self.counters, video, audio);
        let bytes = bytes.inspect_err(|error| tracing::error!(%error, "a segment cannot be made"));
        let span = end.saturating_sub(open.begin);
        Some(Segment { bytes: bytes.ok()?.into(), span, breaks })
    }
}
