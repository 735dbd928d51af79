//! Video that is passed through unchanged.
//!
//! In: tags of one input, and the conversion of its times to the time line of the output. Out: tags in sync with the
//! sound. Deliberately absent: the sound, which is mixed and encoded as always.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::composer::Micros;
use crate::flv::Tag;
use crate::output::OUTPUT_START_MS;

/// Maximum number of tags, and of bytes, that wait for their time.
const MAX_WAITING: (usize, usize) = (1024, 8 << 20);

#[derive(Debug, Default)]
pub(super) struct Passthrough {
    input: Option<String>,
    waiting: VecDeque<Tag>,
    bytes: usize,
    /// The last header that was due, or lost.
    header: Option<Tag>,
    /// Something was lost, or nothing was sent yet: what comes before the next keyframe is of no use, and the header goes
    /// before that keyframe.
    broken: bool,
    /// Time of the last tag.
    last: i64,
}

impl Passthrough {
    /// Sets the input whose video is passed through.
    pub(super) fn follow(&mut self, input: Option<&str>) {
        if self.input.as_deref() != input {
            self.input = input.map(str::to_owned);
            self.forget();
            self.header = None;
        }
    }

    /// The times of an input start again.
    pub(super) fn restarted(&mut self, input: &str) {
        if self.input.as_deref() == Some(input) {
            self.forget();
        }
    }

    pub(super) fn put(&mut self, input: &str, tag: Tag) {
        if self.input.as_deref() != Some(input) {
            return;
        }
        self.bytes += tag.body.len();
        self.waiting.push_back(tag);
        if self.waiting.len() > MAX_WAITING.0 || self.bytes > MAX_WAITING.1 {
            self.forget();
        }
    }

    /// Sends the tags that are due at a time of the output.
    pub(super) fn release(
        &mut self,
        at: Micros,
        output_time: impl Fn(&str, Micros) -> Option<Micros>,
        out: &mpsc::Sender<Tag>,
    ) {
        while let (Some(input), Some(tag)) = (&self.input, self.waiting.front()) {
            let Some(time) = output_time(input, Micros::from(tag.time) * 1000) else { return };
            if time > at {
                return;
            }
            let Some(tag) = self.waiting.pop_front() else { return };
            self.bytes -= tag.body.len();
            // The output time never goes back, whatever the input's times do.
            self.last = self.last.max(OUTPUT_START_MS + time / 1000);
            let time = (self.last.max(0) & i64::from(u32::MAX)) as u32;
            self.send(Tag { time, ..tag }, out);
        }
    }

    fn send(&mut self, tag: Tag, out: &mpsc::Sender<Tag>) {
        if tag.is_config() {
            self.header = Some(tag.clone());
        }
        let header = if self.broken {
            if !tag.is_key() {
                return;
            }
            self.header.clone().map(|header| Tag { time: tag.time, ..header })
        } else {
            None
        };
        self.broken = header.into_iter().chain([tag]).any(|tag| out.try_send(tag).is_err());
    }

    fn forget(&mut self) {
        let header = self.waiting.drain(..).rfind(Tag::is_config);
        self.header = header.or(self.header.take());
        self.bytes = 0;
        self.broken = true;
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: pictures that are passed on.

    use bytes::Bytes;
    use lianmai_media_plane::MediaKind;

    use super::*;

    fn tag(time: u32, body: &'static [u8]) -> Tag {
        Tag { kind: MediaKind::Video, time, body: body.into() }
    }

    #[test]
    fn tags_are_released_in_time_from_a_keyframe_on() {
        let (out, mut sent) = mpsc::channel(16);
        let mut passthrough = Passthrough::default();
        passthrough.put("a", tag(0, b"\x17\x01\0\0\0\x01"));
        passthrough.follow(Some("a"));
        passthrough.put("a", tag(900, b"\x17\0\0\0\0\x01"));
        passthrough.put("a", tag(960, b"\x27\x01\0\0\0\x01"));
        passthrough.put("a", tag(1000, b"\x17\x01\0\0\0\x01"));
        passthrough.put("b", tag(1020, b"\x27\x01\0\0\0\x01"));
        passthrough.put("a", tag(1040, b"\x27\x01\0\0\0\x01"));
        passthrough.release(10_000_000, |_, _| None, &out);
        passthrough.release(515_000, |_, time| Some(time - 500_000), &out);
        passthrough.release(530_000, |_, time| Some(time - 550_000), &out);
        let mut times = Vec::new();
        while let Ok(tag) = sent.try_recv() {
            times.push(tag.time);
        }
        assert_eq!(times, [1500, 1500, 1500]);
    }

    const HEADER: &[u8] = b"\x17\0\0\0\0\x01";
    const KEY: &[u8] = b"\x17\x01\0\0\0\x01";
    const INTER: &[u8] = b"\x27\x01\0\0\0\x01";

    /// Bodies of what is sent by a pipe with so much room.
    fn release(passthrough: &mut Passthrough, room: usize) -> Vec<Bytes> {
        let (out, mut sent) = mpsc::channel(room);
        passthrough.release(Micros::MAX, |_, time| Some(time), &out);
        std::iter::from_fn(|| sent.try_recv().ok()).map(|tag| tag.body).collect()
    }

    #[test]
    fn a_header_that_was_lost_comes_before_the_next_keyframe() {
        // The pipe is full at the keyframe.
        let mut passthrough = Passthrough::default();
        passthrough.follow(Some("a"));
        for body in [HEADER, KEY, INTER] {
            passthrough.put("a", tag(0, body));
        }
        assert_eq!(release(&mut passthrough, 1), [HEADER]);
        for body in [INTER, KEY, INTER] {
            passthrough.put("a", tag(40, body));
        }
        assert_eq!(release(&mut passthrough, 8), [HEADER, KEY, INTER]);
        // It is full at another header.
        let other: &[u8] = b"\x17\0\0\0\0\x02";
        for body in [INTER, other, KEY] {
            passthrough.put("a", tag(80, body));
        }
        assert_eq!(release(&mut passthrough, 1), [INTER]);
        passthrough.put("a", tag(120, KEY));
        assert_eq!(release(&mut passthrough, 8), [other, KEY]);
        // Too much waits.
        for body in [HEADER, KEY].into_iter().chain([INTER; MAX_WAITING.0]).chain([KEY]) {
            passthrough.put("a", tag(160, body));
        }
        assert_eq!(release(&mut passthrough, 2000), [HEADER, KEY]);
        // Another input has its own.
        passthrough.follow(Some("b"));
        passthrough.put("b", tag(200, KEY));
        assert_eq!(release(&mut passthrough, 8), [KEY]);
    }
}
