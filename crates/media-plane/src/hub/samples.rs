//! What comes from pushes and goes to plays between two samples.
//!
//! In: media of a publisher, and when samples are taken. Out: [`StreamSample`]. Absent: what it means; plays of HLS,
//! which come and go with each segment.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::auth::StreamName;
use crate::media::{Class, Role, codec_name};
use crate::rtmp::MediaKind;

/// A publisher that sends nothing for so long makes a gap.
const GAP: Duration = Duration::from_millis(500);

/// A stream since the previous sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSample {
    /// The stream.
    pub stream: StreamName,
    /// How long ago the previous sample was taken.
    pub passed: Duration,
    /// Its publisher.
    pub push: Option<PushSample>,
    /// Its players that have a viewer.
    pub plays: Vec<PlaySample>,
}

/// A publisher since the previous sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushSample {
    /// Bytes of media, of kinds that are not published as well.
    pub bytes: u64,
    /// Frames of video.
    pub frames: u64,
    /// The longest distance of two keyframes by their timestamps, ms.
    pub keyframe_ms: Option<u32>,
    /// How often nothing came for half a second or longer.
    pub gaps: u64,
    /// The longest time in which nothing came, that of now included.
    pub longest_gap: Duration,
    /// Codec of the audio, as the log names it.
    pub audio: Option<String>,
    /// Codec of the video.
    pub video: Option<String>,
}

/// A player since the previous sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaySample {
    /// Its viewer, as the authorizer said.
    pub viewer: Arc<str>,
    /// Bytes that were handed to it.
    pub bytes: u64,
    /// How long ago the oldest that waits for it came.
    pub lag: Duration,
}

/// Counts what comes from one publisher.
#[derive(Debug, Default)]
pub(super) struct PushMeter {
    sample: PushSample,
    audio: Option<u32>,
    video: Option<u32>,
    last: Option<Instant>,
    last_key: Option<u32>,
}

impl PushMeter {
    /// Takes a message of audio or video.
    pub(super) fn record(
        &mut self,
        kind: MediaKind,
        class: Class,
        timestamp: u32,
        bytes: usize,
        now: Instant,
    ) {
        let gap = self.last.replace(now).map_or(Duration::ZERO, |last| now - last);
        let sample = &mut self.sample;
        sample.bytes += bytes as u64;
        sample.gaps += u64::from(gap >= GAP);
        sample.longest_gap = sample.longest_gap.max(gap);
        match (kind, class.role) {
            (MediaKind::Audio, Role::Sample) => self.audio = Some(class.codec),
            (MediaKind::Video, Role::Key | Role::Inter) => {
                self.video = Some(class.codec);
                sample.frames += 1;
            }
            _ => {}
        }
        if class.role == Role::Key
            && let Some(last) = self.last_key.replace(timestamp)
        {
            sample.keyframe_ms = sample.keyframe_ms.max(Some(timestamp.wrapping_sub(last)));
        }
    }

    /// What came since the previous sample.
    pub(super) fn sample(&mut self, now: Instant) -> PushSample {
        let mut sample = std::mem::take(&mut self.sample);
        let silent = self.last.map_or(Duration::ZERO, |last| now - last);
        sample.longest_gap = sample.longest_gap.max(silent);
        (sample.audio, sample.video) = (self.audio.map(codec_name), self.video.map(codec_name));
        sample
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: what is counted of a push.

    use super::*;
    use crate::media::classify;

    fn feed(meter: &mut PushMeter, kind: MediaKind, body: &[u8], from: Instant, ms: u32) {
        let now = from + Duration::from_millis(ms.into());
        meter.record(kind, classify(kind, body), ms, body.len(), now);
    }

    #[test]
    fn a_sample_covers_the_time_since_the_last_sample() {
        let (mut meter, from) = (PushMeter::default(), Instant::now());
        assert_eq!(meter.sample(from), PushSample::default());
        for (ms, body) in
            [(0, b"\x17\x01\0\0\0a"), (100, b"\x27\x01\0\0\0a"), (900, b"\x17\x01\0\0\0a")]
        {
            feed(&mut meter, MediaKind::Video, body, from, ms);
        }
        feed(&mut meter, MediaKind::Audio, b"\xAF\x01\x05", from, 910);
        let ms = Duration::from_millis;
        let sample = PushSample {
            bytes: 21,
            frames: 3,
            keyframe_ms: Some(900),
            gaps: 1,
            longest_gap: ms(800),
            audio: Some("mp4a".to_owned()),
            video: Some("avc1".to_owned()),
        };
        assert_eq!(meter.sample(from + ms(1_000)), sample);
        let silent = meter.sample(from + ms(3_000));
        assert_eq!((silent.bytes, silent.gaps, silent.longest_gap), (0, 0, ms(2_090)));
        assert_eq!(silent.video, sample.video);
        feed(&mut meter, MediaKind::Audio, b"\xAF\x01\x05", from, 3_410);
        let after = meter.sample(from + ms(3_500));
        assert_eq!((after.gaps, after.longest_gap), (1, ms(2_500)), "a gap counts when it is over");
    }
}
