//! The timeline of a stream.
//!
//! In: timestamps of publishers, and when their packets came. Out: timestamps for players. Within a kind they never
//! go back, and gaps are as long as in reality, whatever the publisher's clock does and whoever publishes next.
//! Absent: clocks.

use std::time::Duration;

use tokio::time::Instant;

use crate::rtmp::MediaKind;

/// A timestamp further behind the previous one is a jump of the publisher's clock, ms. A smaller step back gets the
/// timestamp of the previous packet.
const MAX_BACKWARD_STEP_MS: i64 = 500;
/// A timestamp further ahead of the previous one than the time that has really passed plus this value is a jump, ms.
const MAX_FORWARD_STEP_MS: i64 = 3000;
/// Largest distance between the first packet of one kind and the other kind, ms, if both have a common clock.
const MAX_KIND_DISTANCE_MS: i64 = 10_000;
/// Shortest distance from the last packet of a publisher to the first packet of the next, ms. It is larger than the
/// interleaving of audio and video.
const RESUME_STEP: i64 = 100;

#[derive(Debug, Default)]
pub(super) struct Timeline {
    audio: KindTimeline,
    video: KindTimeline,
    /// The latest timestamp given out.
    last: u32,
    /// When `last` was given out. Unset before the first packet.
    at: Option<Instant>,
}

/// The timeline of one kind of media.
#[derive(Debug, Default, Clone, Copy)]
struct KindTimeline {
    /// The last packet of the current publisher. Unset while it has sent none.
    publisher: Option<Sent>,
    /// The latest timestamp given out, for any publisher.
    last: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    time: u32,
    at: Instant,
    offset: u32,
}

impl Timeline {
    /// Makes the next packets those of a new publisher.
    pub(super) fn restart(&mut self) {
        self.audio.publisher = None;
        self.video.publisher = None;
    }

    /// The latest timestamp of this kind; before the first one, the latest of the stream. Headers get it, because
    /// encoders send headers with arbitrary timestamps.
    pub(super) fn last(&self, kind: MediaKind) -> u32 {
        let track = match kind {
            MediaKind::Audio => self.audio,
            MediaKind::Video | MediaKind::Metadata => self.video,
        };
        track.last.unwrap_or(self.last)
    }

    /// The timestamp for players of a packet that comes now.
    pub(super) fn map(&mut self, kind: MediaKind, time: u32, now: Instant) -> u32 {
        let (track, other) = match kind {
            MediaKind::Audio => (self.audio, self.video),
            MediaKind::Video | MediaKind::Metadata => (self.video, self.audio),
        };
        let offset = match track.publisher {
            Some(sent) if track.goes_on(sent, time, now) => sent.offset,
            _ => self.rebase(track, other, time, now),
        };
        let mut out = time.wrapping_add(offset);
        if let Some(last) = track.last
            && ahead(out, last) < 0
        {
            out = last;
        }
        if self.at.is_none() || ahead(out, self.last) > 0 {
            self.last = out;
            self.at = Some(now);
        }
        let track =
            KindTimeline { publisher: Some(Sent { time, at: now, offset }), last: Some(out) };
        match kind {
            MediaKind::Audio => self.audio = track,
            MediaKind::Video | MediaKind::Metadata => self.video = track,
        }
        out
    }

    /// The offset of a kind that begins or whose clock has jumped.
    fn rebase(&self, track: KindTimeline, other: KindTimeline, time: u32, now: Instant) -> u32 {
        let Some(at) = self.at else {
            // Players do not know that timestamps wrap, so a clock that is about to wrap starts at 0.
            return if time < 1 << 31 { 0 } else { time.wrapping_neg() };
        };
        let begins = track.publisher.is_none() && other.publisher.is_none();
        let step = passed(at, now).max(if begins { RESUME_STEP } else { 1 });
        let here = self.last.wrapping_add(u32::try_from(step).unwrap_or(u32::MAX));
        // If both kinds have a common clock, they keep their distance.
        if let Some(sent) = other.publisher {
            let distance = ahead(time.wrapping_add(sent.offset), here);
            let (back, ahead) = match track.publisher {
                None => (MAX_KIND_DISTANCE_MS, MAX_KIND_DISTANCE_MS),
                Some(_) => (MAX_BACKWARD_STEP_MS, MAX_FORWARD_STEP_MS),
            };
            if (-back..=ahead).contains(&distance) {
                return sent.offset;
            }
        }
        here.wrapping_sub(time)
    }
}

impl KindTimeline {
    /// Whether a timestamp continues from the previous one.
    fn goes_on(&self, sent: Sent, time: u32, now: Instant) -> bool {
        let behind = self.last.map_or(0, |last| ahead(last, time.wrapping_add(sent.offset)));
        let step = ahead(time, sent.time);
        step >= -MAX_BACKWARD_STEP_MS
            && behind <= MAX_BACKWARD_STEP_MS
            && step <= passed(sent.at, now) + MAX_FORWARD_STEP_MS
    }
}

/// How far `time` is ahead of `other`, ms; negative if it is behind. Both wrap at 2^32.
fn ahead(time: u32, other: u32) -> i64 {
    i64::from(time.wrapping_sub(other).cast_signed())
}

fn passed(from: Instant, to: Instant) -> i64 {
    let passed = to.saturating_duration_since(from).min(Duration::from_secs(1_000_000));
    i64::try_from(passed.as_millis()).unwrap_or(i64::MAX)
}
