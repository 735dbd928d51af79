//! One input on its way to the canvas: which of its pictures is seen and what of its sound is heard at a moment.
//!
//! In: decoded pictures and sounds, with the input's times and the moments at which they came. Out: the picture and the
//! sound of a moment. Absent: decoders, rectangles.
//!
//! Times of an input are those of its own clock. One offset, the same for picture and sound, leads from it to ours, so both
//! keep the distance that they had. It is the time that the fastest media of the last seconds took on its way, of picture
//! or sound whichever is slower, and a reserve beside it for what comes less evenly; it grows while sound comes too late all
//! the same. When a clock runs away, or the way becomes longer for good, the offset follows in small steps; after a jump at
//! once.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Micros, SECOND};
use crate::picture::Picture;
use crate::sound::{Mix, Queue};

/// What comes so much later than the fastest is in time: at first, and at most.
const RESERVES: (Micros, Micros) = (200_000, 1_000_000);
/// A reserve grows by so much for sound that comes when its time has passed, and shrinks by as much after a while
/// in which there was none.
const GROWTH: (Micros, Micros) = (25_000, 30 * SECOND);
/// What comes late within such a time is late once.
const GUST: Micros = 100_000;
/// Two of these are how long the fastest is remembered.
const WINDOW: Micros = 2 * SECOND;
/// An offset this close to where it should be is left alone.
const SLACK: Micros = 40_000;
/// How far an offset moves at once, and how often it may.
const STEP: (Micros, Micros) = (5_000, 250_000);
/// An offset that is so far off jumps: too late for what comes, since there is a gap in the sound anyway; too early.
const JUMPS: (Micros, Micros) = (100_000, 400_000);
/// A beginning: an input that began lets come what is older than live, in one go, and its sound is not heard.
const SETTLING: Micros = 200_000;
/// Picture and sound that are further apart than this belong to different worlds: sound leads.
const APART: Micros = 1_500_000;
/// Times that go back by more begin anew.
const BACK: Micros = SECOND;
/// A picture after which none came for so long is not shown any more.
const FROZEN: Micros = 3 * SECOND;
/// Most pictures that wait, and their bytes.
const WAITING: (usize, usize) = (40, 24 << 20);

/// What an input is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Pictures.
    Picture,
    /// Sounds.
    Sound,
}

/// How long media of one kind takes: its moment minus its time.
#[derive(Debug, Default)]
struct Way {
    fastest: Option<Micros>,
    before: Option<Micros>,
    since: Micros,
    last: Option<(Micros, Micros)>,
}

impl Way {
    /// Takes an arrival. False: the times have begun anew.
    fn observe(&mut self, now: Micros, time: Micros) -> bool {
        if self.last.is_some_and(|(_, last)| time < last.saturating_sub(BACK)) {
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

    /// The fastest of late, unless nothing came for a while.
    fn took(&self, now: Micros) -> Option<Micros> {
        self.last.filter(|(at, _)| now - at <= FROZEN)?;
        let fastest = self.fastest?;
        Some(self.before.map_or(fastest, |before| before.min(fastest)))
    }
}

/// One input.
#[derive(Debug)]
pub(super) struct Lane {
    rate: i64,
    picture: Way,
    sound: Way,
    queue: Queue,
    waiting: VecDeque<(Micros, Arc<Picture>)>,
    shown: Option<(Micros, Arc<Picture>)>,
    /// When the last picture came.
    seen: Micros,
    /// Our time minus that of the input.
    offset: Option<Micros>,
    moved: Micros,
    reserve: Micros,
    /// When the reserve was last found too small, or made smaller.
    scant: Micros,
    /// Until then the input is at its beginning.
    settled: Option<Micros>,
}

impl Lane {
    pub(super) fn new(rate: u32, channels: u32) -> Self {
        Self {
            rate: i64::from(rate),
            picture: Way::default(),
            sound: Way::default(),
            queue: Queue::new(rate, channels),
            waiting: VecDeque::new(),
            shown: None,
            seen: 0,
            offset: None,
            moved: 0,
            reserve: RESERVES.0,
            scant: 0,
            settled: None,
        }
    }

    pub(super) fn offset(&self) -> Option<Micros> {
        self.offset
    }

    /// What is shown at the moment.
    pub(super) fn shown(&self) -> Option<&Arc<Picture>> {
        self.shown.as_ref().map(|(_, picture)| picture)
    }

    /// The next times have nothing to do with those before.
    pub(super) fn restart(&mut self) {
        self.queue.clear();
        self.forget_times();
    }

    fn forget_times(&mut self) {
        self.picture = Way::default();
        self.sound = Way::default();
        self.waiting.clear();
        self.offset = None;
        self.settled = None;
    }

    pub(super) fn picture(&mut self, now: Micros, time: Micros, picture: Arc<Picture>) {
        self.observe(now, Kind::Picture, time);
        self.seen = now;
        self.waiting.push_back((time, picture));
        let size = |waiting: &VecDeque<(Micros, Arc<Picture>)>| {
            waiting.iter().map(|(_, picture)| picture.data().len()).sum::<usize>()
        };
        while self.waiting.len() > WAITING.0
            || self.waiting.len() > 1 && size(&self.waiting) > WAITING.1
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
        if is_late && now.saturating_sub(self.scant) > GUST {
            self.reserve = (self.reserve + GROWTH.0).min(RESERVES.1);
            self.scant = now;
        }
        // The end of it came now.
        self.queue.push(time, samples);
        let end = i128::from(self.queue.end()) * i128::from(SECOND) / i128::from(self.rate.max(1));
        self.observe(now, Kind::Sound, i64::try_from(end).unwrap_or(i64::MAX));
    }

    /// Something came, and with it a word on how long its way is.
    pub(super) fn observe(&mut self, now: Micros, kind: Kind, time: Micros) {
        let way = match kind {
            Kind::Picture => &mut self.picture,
            Kind::Sound => &mut self.sound,
        };
        if !way.observe(now, time) {
            if kind == Kind::Picture {
                // Sound that came with these times would be the new one.
                self.queue.clear();
            }
            self.forget_times();
            let way = if kind == Kind::Picture { &mut self.picture } else { &mut self.sound };
            way.observe(now, time);
        }
        self.follow(now);
    }

    /// Adds what is heard from a sample of our time on.
    pub(super) fn mix(&mut self, now: Micros, from: i64, count: usize, mix: &mut Mix) {
        let Some(offset) = self.offset_samples() else { return };
        if self.settled.is_some_and(|until| now < until) {
            return self.queue.skip(from.saturating_sub(offset).saturating_add(count as i64));
        }
        self.queue.read(from.saturating_sub(offset), count, mix);
        if now.saturating_sub(self.scant) > GROWTH.1 {
            self.reserve = (self.reserve - GROWTH.0).max(RESERVES.0);
            self.scant = now;
        }
    }

    /// As [`Lane::mix`] for an input that is not heard.
    pub(super) fn pass(&mut self, from: i64, count: usize) {
        if let Some(offset) = self.offset_samples() {
            self.queue.skip(from.saturating_sub(offset).saturating_add(count as i64));
        }
    }

    /// Shows the picture of a moment of our time.
    pub(super) fn advance(&mut self, now: Micros, at: Micros, interval: Micros) {
        if let Some(offset) = self.offset {
            // The one whose time is next to it.
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

    /// Where the offset should be.
    fn target(&self, now: Micros) -> Option<Micros> {
        let took = match (self.picture.took(now), self.sound.took(now)) {
            (Some(picture), Some(sound)) if picture.abs_diff(sound) <= APART.unsigned_abs() => {
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
                // It is still catching up with what is live.
                self.settled = Some(now + SETTLING);
            }
            self.offset = Some(target);
        } else if off > JUMPS.0 || off < -JUMPS.1 {
            self.offset = Some(target);
        } else if distance > SLACK.unsigned_abs() && now.saturating_sub(self.moved) >= STEP.1 {
            self.offset = Some(offset.saturating_add(STEP.0 * off.signum()));
            self.moved = now;
        }
    }
}

#[cfg(test)]
mod tests;
