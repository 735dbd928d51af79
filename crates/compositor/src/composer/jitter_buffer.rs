//! One input of the composer: which of its pictures is shown and which of its samples are heard at a moment.
//!
//! In: decoded pictures and sound, with the input's times and their times of arrival. Out: the picture and the sound of
//! a moment. Deliberately absent: decoders, rectangles.
//!
//! The times of an input come from its own clock. One offset, the same for picture and sound, converts them to our
//! clock, so that picture and sound stay in sync. The offset is the shortest delay of the last seconds (of picture or
//! sound, whichever is larger) plus a reserve for jitter. The reserve grows while sound still arrives too late. When
//! the input's clock drifts or the delay changes permanently, the offset follows in small steps; after a jump it
//! follows at once.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Micros, SECOND};
use crate::picture::Picture;
use crate::sound::{Mix, SampleQueue};

/// The reserve, at first and at most.
const RESERVES: (Micros, Micros) = (200_000, 1_000_000);
/// The reserve grows by the first value when sound arrives too late, and shrinks by it after the second has passed
/// without late sound.
const GROWTH: (Micros, Micros) = (25_000, 30 * SECOND);
/// Several late arrivals within this time count once.
const LATE_BURST: Micros = 100_000;
/// The shortest delay is remembered for up to two windows of this length.
const WINDOW: Micros = 2 * SECOND;
/// An offset is not changed if it differs from its target by less than this.
const SLACK: Micros = 40_000;
/// The size of one step of an offset, and the minimum time between two steps.
const STEP: (Micros, Micros) = (5_000, 250_000);
/// Differences from which an offset jumps: to a larger offset, since late media leaves a gap in the sound anyway; to a
/// smaller one.
const JUMP_THRESHOLDS: (Micros, Micros) = (100_000, 400_000);
/// A new input first delivers buffered media in a burst; its sound is not played until this time has passed.
const SETTLING: Micros = 200_000;
/// If the delays of picture and sound differ by more than this, only that of the sound counts.
const MAX_DELAY_DIFFERENCE: Micros = 1_500_000;
/// Times that go back by more than this start again.
const MAX_BACKWARD_STEP: Micros = SECOND;
/// A picture is hidden if no other came for this time.
const FROZEN: Micros = 3 * SECOND;
/// Maximum number of pictures that wait, and of their bytes.
const MAX_WAITING: (usize, usize) = (40, 24 << 20);

/// The kind of media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackKind {
    /// Pictures.
    Picture,
    /// Sounds.
    Sound,
}

/// The delay of one kind of media: its time of arrival minus its own time.
#[derive(Debug, Default)]
struct DelayEstimate {
    fastest: Option<Micros>,
    before: Option<Micros>,
    since: Micros,
    last: Option<(Micros, Micros)>,
}

impl DelayEstimate {
    /// Records an arrival. Returns false if the times have started again.
    fn observe(&mut self, now: Micros, time: Micros) -> bool {
        if self.last.is_some_and(|(_, last)| time < last.saturating_sub(MAX_BACKWARD_STEP)) {
            return false;
        }
        self.last = Some((now, time));
        let took = now.saturating_sub(time);
        if self.fastest.is_none() {
            self.since = now;
        }
        if now - self.since > WINDOW {
            self.before = self.fastest.take();
            self.since = now;
        }
        self.fastest = Some(self.fastest.map_or(took, |fastest| fastest.min(took)));
        true
    }

    /// The shortest recent delay; `None` if nothing came for a while.
    fn shortest(&self, now: Micros) -> Option<Micros> {
        self.last.filter(|(at, _)| now - at <= FROZEN)?;
        let fastest = self.fastest?;
        Some(self.before.map_or(fastest, |before| before.min(fastest)))
    }
}

/// One input.
#[derive(Debug)]
pub(super) struct JitterBuffer {
    rate: i64,
    picture: DelayEstimate,
    sound: DelayEstimate,
    queue: SampleQueue,
    waiting: VecDeque<(Micros, Arc<Picture>)>,
    shown: Option<(Micros, Arc<Picture>)>,
    /// Time at which the last picture came.
    seen: Micros,
    /// Our time minus the input's time.
    offset: Option<Micros>,
    moved: Micros,
    reserve: Micros,
    /// Time at which the reserve last grew or shrank.
    reserve_changed: Micros,
    /// Until this time the input is starting.
    settled: Option<Micros>,
}

impl JitterBuffer {
    pub(super) fn new(rate: u32, channels: u32) -> Self {
        Self {
            rate: i64::from(rate),
            picture: DelayEstimate::default(),
            sound: DelayEstimate::default(),
            queue: SampleQueue::new(rate, channels),
            waiting: VecDeque::new(),
            shown: None,
            seen: 0,
            offset: None,
            moved: 0,
            reserve: RESERVES.0,
            reserve_changed: 0,
            settled: None,
        }
    }

    pub(super) fn offset(&self) -> Option<Micros> {
        self.offset
    }

    /// The picture that is shown now.
    pub(super) fn shown(&self) -> Option<&Arc<Picture>> {
        self.shown.as_ref().map(|(_, picture)| picture)
    }

    /// Called when the next times are unrelated to those before.
    pub(super) fn restart(&mut self) {
        self.queue.clear();
        self.forget_times();
    }

    fn forget_times(&mut self) {
        self.picture = DelayEstimate::default();
        self.sound = DelayEstimate::default();
        self.waiting.clear();
        self.offset = None;
        self.settled = None;
    }

    pub(super) fn picture(&mut self, now: Micros, time: Micros, picture: Arc<Picture>) {
        self.observe(now, TrackKind::Picture, time);
        self.seen = now;
        self.waiting.push_back((time, picture));
        let size = |waiting: &VecDeque<(Micros, Arc<Picture>)>| {
            waiting.iter().map(|(_, picture)| picture.data().len()).sum::<usize>()
        };
        while self.waiting.len() > MAX_WAITING.0
            || self.waiting.len() > 1 && size(&self.waiting) > MAX_WAITING.1
        {
            self.thin_out();
        }
    }

    /// Leaves out the waiting picture that leaves the shortest gap. The next one and the newest one stay, so the pictures
    /// go on in time at a lower rate.
    fn thin_out(&mut self) {
        let time = |index: usize| self.waiting.get(index).map_or(0, |(time, _)| *time);
        let gap = |index: &usize| time(index + 1).saturating_sub(time(index - 1));
        match (1..self.waiting.len().saturating_sub(1)).min_by_key(gap) {
            Some(index) => drop(self.waiting.remove(index)),
            None => drop(self.waiting.pop_back()),
        }
    }

    pub(super) fn sound(&mut self, now: Micros, time: i64, samples: &[i16]) {
        let is_late = self.queue.heard_to().is_some_and(|heard| time < heard);
        if is_late && now.saturating_sub(self.reserve_changed) > LATE_BURST {
            self.reserve = (self.reserve + GROWTH.0).min(RESERVES.1);
            self.reserve_changed = now;
        }
        // The end of the chunk arrived now.
        self.queue.push(time, samples);
        let end = i128::from(self.queue.end()) * i128::from(SECOND) / i128::from(self.rate.max(1));
        self.observe(now, TrackKind::Sound, i64::try_from(end).unwrap_or(i64::MAX));
    }

    /// Records the arrival of media, and adjusts the offset.
    pub(super) fn observe(&mut self, now: Micros, kind: TrackKind, time: Micros) {
        let delay = match kind {
            TrackKind::Picture => &mut self.picture,
            TrackKind::Sound => &mut self.sound,
        };
        if !delay.observe(now, time) {
            if kind == TrackKind::Picture {
                // Queued sound has the old times: had sound with the new times come first, it would have been the one
                // to restart.
                self.queue.clear();
            }
            self.forget_times();
            let delay =
                if kind == TrackKind::Picture { &mut self.picture } else { &mut self.sound };
            delay.observe(now, time);
        }
        self.follow(now);
    }

    /// Adds the sound from a sample of our time on to a mix.
    pub(super) fn mix(&mut self, now: Micros, from: i64, count: usize, mix: &mut Mix) {
        let Some(offset) = self.offset_samples() else { return };
        if self.settled.is_some_and(|until| now < until) {
            return self.queue.skip(from.saturating_sub(offset).saturating_add(count as i64));
        }
        self.queue.read(from.saturating_sub(offset), count, mix);
        if now.saturating_sub(self.reserve_changed) > GROWTH.1 {
            self.reserve = (self.reserve - GROWTH.0).max(RESERVES.0);
            self.reserve_changed = now;
        }
    }

    /// Like [`JitterBuffer::mix`], for an input that is not heard.
    pub(super) fn skip(&mut self, from: i64, count: usize) {
        if let Some(offset) = self.offset_samples() {
            self.queue.skip(from.saturating_sub(offset).saturating_add(count as i64));
        }
    }

    /// Selects the picture of a moment of our time.
    pub(super) fn advance(&mut self, now: Micros, at: Micros, interval: Micros) {
        if let Some(offset) = self.offset {
            // The picture whose time is closest.
            let time = at.saturating_sub(offset).saturating_add(interval / 2);
            while self.waiting.front().is_some_and(|(of, _)| *of <= time) {
                self.shown = self.waiting.pop_front();
            }
        }
        if now.saturating_sub(self.seen) > FROZEN {
            self.shown = None;
        }
    }

    fn offset_samples(&self) -> Option<i64> {
        let samples = i128::from(self.offset?) * i128::from(self.rate) / i128::from(SECOND);
        i64::try_from(samples).ok()
    }

    /// The offset that the delays call for.
    fn target(&self, now: Micros) -> Option<Micros> {
        let took = match (self.picture.shortest(now), self.sound.shortest(now)) {
            (Some(picture), Some(sound))
                if picture.abs_diff(sound) <= MAX_DELAY_DIFFERENCE.unsigned_abs() =>
            {
                picture.max(sound)
            }
            (_, Some(sound)) => sound,
            (Some(picture), None) => picture,
            (None, None) => return None,
        };
        took.checked_add(self.reserve)
    }

    fn follow(&mut self, now: Micros) {
        let Some(target) = self.target(now) else { return };
        let Some(offset) = self.offset else {
            self.offset = Some(target);
            self.settled = Some(now + SETTLING);
            return;
        };
        let off = target.saturating_sub(offset);
        let distance = off.unsigned_abs();
        let is_settling = self.settled.is_some_and(|until| now < until);
        if is_settling && off != 0 {
            if off < -SLACK {
                // The input is still catching up with the live media.
                self.settled = Some(now + SETTLING);
            }
            self.offset = Some(target);
        } else if off > JUMP_THRESHOLDS.0 || off < -JUMP_THRESHOLDS.1 {
            self.offset = Some(target);
        } else if distance > SLACK.unsigned_abs() && now.saturating_sub(self.moved) >= STEP.1 {
            self.offset = Some(offset.saturating_add(STEP.0 * off.signum()));
            self.moved = now;
        }
    }
}

#[cfg(test)]
mod tests;
