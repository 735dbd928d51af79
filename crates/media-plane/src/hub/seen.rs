//! What a hub sees of pushes and plays between two looks.
//!
//! In: media of a publisher, looks. Out: [`StreamSeen`]. Absent: what it means; plays of HLS, which come and go with each
//! segment.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::auth::StreamName;
use crate::media::{Class, Role, codec_name};
use crate::rtmp::MediaKind;

/// A publisher that sends nothing for so long makes a gap.
const GAP: Duration = Duration::from_millis(500);

/// A stream since the look before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSeen {
    /// The stream.
    pub stream: StreamName,
    /// How long ago the look before was.
    pub passed: Duration,
    /// Its publisher.
    pub push: Option<PushSeen>,
    /// Its players that have a viewer.
    pub plays: Vec<PlaySeen>,
}

/// A publisher since the look before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushSeen {
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

/// A player since the look before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaySeen {
    /// Its viewer, as the authorizer said.
    pub viewer: Arc<str>,
    /// Bytes that were handed to it.
    pub bytes: u64,
    /// How long ago the oldest that waits for it came.
    pub lag: Duration,
}

/// Counts what comes from one publisher.
#[derive(Debug, Default)]
pub(super) struct Meter {
    seen: PushSeen,
    audio: Option<u32>,
    video: Option<u32>,
    last: Option<Instant>,
    last_key: Option<u32>,
}

impl Meter {
    /// Takes a message of audio or video.
    pub(super) fn take(
        &mut self,
        kind: MediaKind,
        class: Class,
        timestamp: u32,
        bytes: usize,
        now: Instant,
    ) {
        let gap = self.last.replace(now).map_or(Duration::ZERO, |last| now - last);
        let seen = &mut self.seen;
        seen.bytes += bytes as u64;
        seen.gaps += u64::from(gap >= GAP);
        seen.longest_gap = seen.longest_gap.max(gap);
        match (kind, class.role) {
            (MediaKind::Audio, Role::Sample) => self.audio = Some(class.codec),
            (MediaKind::Video, Role::Key | Role::Inter) => {
                self.video = Some(class.codec);
                seen.frames += 1;
            }
            _ => {}
        }
        if class.role == Role::Key
            && let Some(last) = self.last_key.replace(timestamp)
        {
            seen.keyframe_ms = seen.keyframe_ms.max(Some(timestamp.wrapping_sub(last)));
        }
    }

    /// What came since the look before.
    pub(super) fn look(&mut self, now: Instant) -> PushSeen {
        let mut seen = std::mem::take(&mut self.seen);
        let silent = self.last.map_or(Duration::ZERO, |last| now - last);
        seen.longest_gap = seen.longest_gap.max(silent);
        (seen.audio, seen.video) = (self.audio.map(codec_name), self.video.map(codec_name));
        seen
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: what is counted of a push.

    use super::*;
    use crate::media::classify;

    fn feed(meter: &mut Meter, kind: MediaKind, body: &[u8], from: Instant, ms: u32) {
        let now = from + Duration::from_millis(ms.into());
        meter.take(kind, classify(kind, body), ms, body.len(), now);
    }

    #[test]
    fn a_look_tells_what_came_since_the_one_before() {
        let (mut meter, from) = (Meter::default(), Instant::now());
        assert_eq!(meter.look(from), PushSeen::default());
        for (ms, body) in
            [(0, b"\x17\x01\0\0\0a"), (100, b"\x27\x01\0\0\0a"), (900, b"\x17\x01\0\0\0a")]
        {
            feed(&mut meter, MediaKind::Video, body, from, ms);
        }
        feed(&mut meter, MediaKind::Audio, b"\xAF\x01\x05", from, 910);
        let ms = Duration::from_millis;
        let seen = PushSeen {
            bytes: 21,
            frames: 3,
            keyframe_ms: Some(900),
            gaps: 1,
            longest_gap: ms(800),
            audio: Some("mp4a".to_owned()),
            video: Some("avc1".to_owned()),
        };
        assert_eq!(meter.look(from + ms(1_000)), seen);
        let silent = meter.look(from + ms(3_000));
        assert_eq!((silent.bytes, silent.gaps, silent.longest_gap), (0, 0, ms(2_090)));
        assert_eq!(silent.video, seen.video);
        feed(&mut meter, MediaKind::Audio, b"\xAF\x01\x05", from, 3_410);
        let after = meter.look(from + ms(3_500));
        assert_eq!((after.gaps, after.longest_gap), (1, ms(2_500)), "a gap counts when it is over");
    }
}
