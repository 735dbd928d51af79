//! Video that is passed through unchanged.
//!
//! In: tags of one input, and the conversion of its times to the time line of the output. Out: tags in sync with the
//! sound. Deliberately absent: the sound, which is mixed and encoded as always.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::flv::Tag;
use crate::output::BEGIN;
use crate::stage::Micros;

/// Maximum number of tags, and of bytes, that wait for their time.
const WAITING: (usize, usize) = (1024, 8 << 20);

#[derive(Debug, Default)]
pub(super) struct Pass {
    input: Option<String>,
    waiting: VecDeque<Tag>,
    bytes: usize,
    /// A tag was lost: tags before the next keyframe are useless.
    broken: bool,
    /// Time of the last tag.
    last: i64,
}

impl Pass {
    /// Sets the input whose video is passed through.
    pub(super) fn follow(&mut self, input: Option<&str>) {
        if self.input.as_deref() != input {
            self.input = input.map(str::to_owned);
            self.forget();
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
        self.broken &= !tag.is_key();
        if self.broken && !tag.is_config() {
            return;
        }
        self.bytes += tag.body.len();
        self.waiting.push_back(tag);
        if self.waiting.len() > WAITING.0 || self.bytes > WAITING.1 {
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
        let Some(input) = &self.input else { return };
        while let Some(tag) = self.waiting.front() {
            let Some(time) = output_time(input, Micros::from(tag.time) * 1000) else { return };
            if time > at {
                return;
            }
            let Some(tag) = self.waiting.pop_front() else { return };
            self.bytes -= tag.body.len();
            // The output time never goes back, whatever the input's times do.
            self.last = self.last.max(BEGIN + time / 1000);
            let time = (self.last.max(0) & i64::from(u32::MAX)) as u32;
            if out.try_send(Tag { time, ..tag }).is_err() {
                self.broken = true;
            }
        }
    }

    fn forget(&mut self) {
        self.waiting.clear();
        self.bytes = 0;
        self.broken = true;
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: pictures that are passed on.

    use lianmai_media_plane::MediaKind;

    use super::*;

    fn tag(time: u32, body: &'static [u8]) -> Tag {
        Tag { kind: MediaKind::Video, time, body: body.into() }
    }

    #[test]
    fn they_leave_in_time_from_a_keyframe_on() {
        let (out, mut sent) = mpsc::channel(16);
        let mut pass = Pass::default();
        pass.put("a", tag(0, b"\x17\x01\0\0\0\x01"));
        pass.follow(Some("a"));
        pass.put("a", tag(900, b"\x17\0\0\0\0\x01"));
        pass.put("a", tag(960, b"\x27\x01\0\0\0\x01"));
        pass.put("a", tag(1000, b"\x17\x01\0\0\0\x01"));
        pass.put("b", tag(1020, b"\x27\x01\0\0\0\x01"));
        pass.put("a", tag(1040, b"\x27\x01\0\0\0\x01"));
        pass.release(10_000_000, |_, _| None, &out);
        pass.release(515_000, |_, time| Some(time - 500_000), &out);
        pass.release(530_000, |_, time| Some(time - 550_000), &out);
        let mut times = Vec::new();
        while let Ok(tag) = sent.try_recv() {
            times.push(tag.time);
        }
        assert_eq!(times, [1400, 1500, 1500]);
    }
}
