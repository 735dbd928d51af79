//! The log line about the media of a push, which is written once.
//!
//! In: the messages of a push, and when they came. Out: codecs, resolution, bitrate and keyframe interval, as soon as
//! they are known. Absent: a look at the coded data; the resolution is what the publisher's metadata says.

use std::time::Duration;

use tokio::time::Instant;

use super::class::{Class, Role};
use crate::rtmp::MediaKind;
use crate::rtmp::amf0;

/// Time since the first media after which the bitrate is representative.
const MIN_BITRATE_TIME: Duration = Duration::from_secs(5);
/// Time since the first media after which nothing further is awaited. No usual encoder has longer keyframe intervals.
const MAX_DURATION: Duration = Duration::from_secs(15);

/// The measurements of one push.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    findings: Findings,
    begin: Option<Instant>,
    bytes: u64,
    last_key: Option<u32>,
    reported: bool,
}

#[derive(Debug, Default)]
struct Findings {
    video: Option<u32>,
    audio: Option<u32>,
    size: Option<(u32, u32)>,
    /// The longest keyframe interval, ms.
    keyframes: Option<u32>,
}

/// The content of the log line. Unknown fields are empty.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PushSummary {
    pub(crate) video: String,
    pub(crate) audio: String,
    pub(crate) resolution: String,
    pub(crate) kbit_per_s: u64,
    pub(crate) keyframes_ms: Option<u32>,
}

impl Survey {
    /// Takes a message. Returns the content of the log line once, when it is known.
    pub(crate) fn take(
        &mut self,
        kind: MediaKind,
        class: Class,
        timestamp: u32,
        body: &[u8],
        now: Instant,
    ) -> Option<PushSummary> {
        if self.reported {
            return None;
        }
        match (kind, class.role) {
            (MediaKind::Metadata, _) => {
                self.findings.size = size(body).or(self.findings.size);
                return None;
            }
            (MediaKind::Audio, Role::Sample) => self.findings.audio = Some(class.codec),
            (MediaKind::Video, Role::Key | Role::Inter) => self.findings.video = Some(class.codec),
            _ => return None,
        }
        if class.role == Role::Key
            && let Some(last) = self.last_key.replace(timestamp)
        {
            let distance = timestamp.wrapping_sub(last);
            self.findings.keyframes = self.findings.keyframes.max(Some(distance));
        }
        let passed = now - *self.begin.get_or_insert(now);
        let is_whole = self.findings.video.is_none() || self.findings.keyframes.is_some();
        if passed >= MAX_DURATION || passed >= MIN_BITRATE_TIME && is_whole {
            return self.finish(now);
        }
        // The message that ends the measured time is not counted: it would belong to the next interval.
        self.bytes += body.len() as u64;
        None
    }

    /// The content of the log line for a push that ends before that. `None` if there was no media, or if the line was
    /// written.
    pub(crate) fn finish(&mut self, now: Instant) -> Option<PushSummary> {
        let passed = now - self.begin?;
        if std::mem::replace(&mut self.reported, true) {
            return None;
        }
        let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
        let codec = |codec: Option<u32>| codec.map_or(String::new(), codec_name);
        Some(PushSummary {
            video: codec(self.findings.video),
            audio: codec(self.findings.audio),
            resolution: self.findings.size.map_or(String::new(), |(w, h)| format!("{w}x{h}")),
            kbit_per_s: self.bytes * 8 / passed,
            keyframes_ms: self.findings.keyframes,
        })
    }
}

/// The name of a codec: its four-character code, or its FLV number.
pub(crate) fn codec_name(codec: u32) -> String {
    let bytes = codec.to_be_bytes();
    match bytes.iter().all(u8::is_ascii_graphic) {
        true => String::from_utf8_lossy(&bytes).into_owned(),
        false => codec.to_string(),
    }
}

fn size(metadata: &[u8]) -> Option<(u32, u32)> {
    let values = amf0::decode_all(metadata).ok()?;
    let side = |name| {
        let number = values.iter().find_map(|value| value.get(name)?.as_number())?;
        // Casting turns NaN and negative numbers into 0, which is no size.
        Some(number as u32).filter(|side| (1..=65_536).contains(side))
    };
    Some((side("width")?, side("height")?))
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: what the log says of a push.

    use super::*;
    use crate::media::classify;
    use crate::rtmp::amf0::Value;

    fn metadata(width: f64) -> Vec<u8> {
        let mut bytes = Vec::new();
        amf0::encode(&mut bytes, &Value::String("onMetaData".into()));
        let fields = [("width", width), ("height", 720.0)];
        let fields = fields.map(|(name, side)| (name.into(), Value::Number(side)));
        amf0::encode(&mut bytes, &Value::EcmaArray(fields.into()));
        bytes
    }

    fn feed(
        survey: &mut Survey,
        kind: MediaKind,
        body: &[u8],
        from: Instant,
        ms: u32,
    ) -> Option<PushSummary> {
        let now = from + Duration::from_millis(ms.into());
        survey.take(kind, classify(kind, body), ms, body, now)
    }

    #[test]
    fn a_push_is_logged_once() {
        let (mut survey, from) = (Survey::default(), Instant::now());
        let key = [&b"\x17\x01\0\0\0"[..], &[0; 12_495]].concat();
        let mut told = Vec::new();
        told.extend(feed(&mut survey, MediaKind::Metadata, &metadata(1280.0), from, 0));
        for second in 0..20 {
            told.extend(feed(&mut survey, MediaKind::Video, &key, from, second * 1000));
            let sound = [&b"\xAF\x01"[..], &[0; 1248]].concat();
            told.extend(feed(&mut survey, MediaKind::Audio, &sound, from, second * 1000));
        }
        let wanted = PushSummary {
            video: "avc1".into(),
            audio: "mp4a".into(),
            resolution: "1280x720".into(),
            kbit_per_s: 110,
            keyframes_ms: Some(1000),
        };
        assert_eq!(told, [wanted]);
        assert_eq!(survey.finish(from), None);
    }

    #[test]
    fn the_summary_does_not_wait_for_unknown_values() {
        let (mut survey, from) = (Survey::default(), Instant::now());
        assert_eq!(survey.finish(from), None, "no media");
        feed(&mut survey, MediaKind::Metadata, &metadata(f64::NAN), from, 0);
        assert_eq!(feed(&mut survey, MediaKind::Video, b"\x12", from, 0), None);
        assert_eq!(feed(&mut survey, MediaKind::Video, b"\x22", from, 14_999), None);
        let told = feed(&mut survey, MediaKind::Video, b"\x22", from, 15_000).unwrap();
        assert_eq!((told.video.as_str(), told.audio.as_str(), told.keyframes_ms), ("2", "", None));
        assert_eq!(told.resolution, "");
        let mut sound = Survey::default();
        assert_eq!(feed(&mut sound, MediaKind::Audio, b"\x91Opus\x01", from, 0), None);
        let told = feed(&mut sound, MediaKind::Audio, b"\x91Opus\x01", from, 5000).unwrap();
        assert_eq!((told.audio.as_str(), told.video.as_str()), ("Opus", ""));
    }
}
