//! The clock of the frames.
//!
//! In: rates and the current time. Out: the numbers of frames, and the samples of each. Deliberately absent: sleeping.
//!
//! The time line of the output has no jumps: a late frame replaces the ones that were missed, and contains all of their
//! sound. After a long pause of the process the output continues where it was, and no burst of silence is produced.
//! From then on the output lags behind the clock by *shift*.

use super::{Micros, SECOND};

/// A pause that is longer than this is left out of the output.
const PAUSE: Micros = SECOND;

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tick {
    pub(super) epoch: u64,
    pub(super) number: u64,
    /// Time on the time line of the output.
    pub(super) at: Micros,
    /// The same time on the clock.
    pub(super) wall: Micros,
    /// Position of the first sample, in samples since the epoch.
    pub(super) sound_at: u64,
    /// The same position on the clock, in samples.
    pub(super) wall_sample: i64,
    /// Number of samples per channel.
    pub(super) samples: usize,
    /// Number of frames that this one replaces.
    pub(super) skipped: u64,
}

#[derive(Debug)]
pub(super) struct Clock {
    fps: i64,
    rate: i64,
    epoch: u64,
    /// Output time at the start of the epoch.
    base: Micros,
    /// Clock time minus output time.
    shift: Micros,
    number: u64,
    sound_at: u64,
}

impl Clock {
    pub(super) fn new(fps: u32, rate: u32, now: Micros) -> Self {
        Self {
            fps: i64::from(fps.max(1)),
            rate: i64::from(rate.max(1)),
            epoch: 0,
            base: 0,
            shift: now,
            number: 0,
            sound_at: 0,
        }
    }

    /// Changes the rates. The next frame is due at the same time as before.
    pub(super) fn retime(&mut self, fps: u32, rate: u32) {
        self.base = self.time(self.number);
        self.fps = i64::from(fps.max(1));
        self.rate = i64::from(rate.max(1));
        self.epoch += 1;
        self.number = 0;
        self.sound_at = 0;
    }

    pub(super) fn shift(&self) -> Micros {
        self.shift
    }

    pub(super) fn due(&self) -> Micros {
        self.time(self.number) + self.shift
    }

    pub(super) fn tick(&mut self, now: Micros) -> Option<Tick> {
        let late = now - self.due();
        if late < 0 {
            return None;
        }
        let mut skipped = 0;
        if late > PAUSE {
            self.shift += late;
        } else {
            skipped = u64::try_from(late * self.fps / SECOND).unwrap_or_default();
        }
        let number = self.number + skipped;
        let at = self.time(number);
        let end = u64::try_from(self.samples(at - self.base)).unwrap_or_default();
        let sound_at = self.sound_at;
        let tick = Tick {
            epoch: self.epoch,
            number,
            at,
            wall: at + self.shift,
            sound_at,
            wall_sample: self.samples(self.base + self.shift)
                + i64::try_from(sound_at).unwrap_or(i64::MAX),
            samples: usize::try_from(end.saturating_sub(sound_at)).unwrap_or_default(),
            skipped,
        };
        self.number = number + 1;
        self.sound_at = end.max(sound_at);
        Some(tick)
    }

    fn time(&self, number: u64) -> Micros {
        self.base + i64::try_from(number).unwrap_or(i64::MAX).saturating_mul(SECOND) / self.fps
    }

    fn samples(&self, time: Micros) -> i64 {
        let samples = i128::from(time) * i128::from(self.rate) / i128::from(SECOND);
        i64::try_from(samples).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: frames.

    use super::*;

    #[test]
    fn frames_are_due_at_a_fixed_rate_and_have_all_sound() {
        let mut clock = Clock::new(15, 44_100, 500);
        let mut samples = 0;
        for number in 0..=150 {
            assert_eq!(clock.due(), 500 + number * SECOND / 15);
            assert!(clock.tick(clock.due() - 1).is_none());
            let tick = clock.tick(clock.due()).unwrap();
            assert_eq!((tick.number, tick.sound_at), (number as u64, samples));
            samples += tick.samples as u64;
        }
        assert_eq!(samples, 441_000);
    }

    #[test]
    fn a_late_frame_takes_the_place_of_those_before() {
        let mut clock = Clock::new(10, 1000, 0);
        clock.tick(0).unwrap();
        let tick = clock.tick(450_000).unwrap();
        assert_eq!((tick.number, tick.skipped, tick.samples), (4, 3, 400));
        assert_eq!((tick.at, clock.due()), (400_000, 500_000));
    }

    #[test]
    fn a_pause_is_skipped() {
        let mut clock = Clock::new(10, 1000, 0);
        clock.tick(0).unwrap();
        let tick = clock.tick(60 * SECOND).unwrap();
        assert_eq!((tick.number, tick.skipped, tick.samples), (1, 0, 100));
        assert_eq!((tick.at, tick.wall), (100_000, 60 * SECOND));
        assert_eq!(clock.due(), 60 * SECOND + 100_000);
        assert_eq!(tick.wall_sample, 59_900);
    }

    #[test]
    fn other_rates_begin_an_epoch_where_the_last_one_ends() {
        let mut clock = Clock::new(10, 1000, 0);
        clock.tick(0).unwrap();
        clock.retime(20, 2000);
        assert_eq!(clock.due(), 100_000);
        let tick = clock.tick(100_000).unwrap();
        assert_eq!((tick.epoch, tick.number, tick.at, tick.sound_at), (1, 0, 100_000, 0));
        let tick = clock.tick(150_000).unwrap();
        assert_eq!((tick.number, tick.samples), (1, 100));
        assert_eq!(tick.wall_sample, 200);
    }
}
