//! The sound of one input, between a decoder that may be late and a clock that is not.
//!
//! In: samples with the time of the first one. Out: the samples of a time span, and silence where there are none.
//! Deliberately absent: the relation between the input's times and the clock.
//!
//! Times count samples of one channel. Consecutive reads return the samples unchanged. When a read does not continue at
//! the end of the last one, the old position fades out while the new one fades in, so that there is no click.

use std::collections::VecDeque;

use super::Mix;

/// Maximum duration of the stored sound, in seconds.
const MAX_KEPT_SECONDS: i64 = 4;
/// A chunk that begins at most 1/[`TOLERANCE`] s before or after the end of the last one follows it directly.
const TOLERANCE: i64 = 25;
/// Gaps up to this many seconds are filled with silence; after a longer gap the queue starts again.
const GAP: i64 = 2;
/// A fade takes 1/[`FADE`] s.
const FADE: i64 = 200;

/// The sound of one input.
#[derive(Debug)]
pub struct SampleQueue {
    rate: i64,
    channels: usize,
    samples: VecDeque<i16>,
    /// Time of the first stored sample.
    head: i64,
    /// Start of the next read, if it continues the last one.
    next: Option<i64>,
}

impl SampleQueue {
    /// An empty queue. `rate` is that of the pushed and of the read samples.
    #[must_use]
    pub fn new(rate: u32, channels: u32) -> Self {
        Self {
            rate: i64::from(rate.max(1)),
            channels: channels.max(1) as usize,
            samples: VecDeque::new(),
            head: 0,
            next: None,
        }
    }

    /// Time after the last sample.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.head.saturating_add(self.len())
    }

    /// Time up to which sound was read; `None` if the last read was skipped.
    #[must_use]
    pub fn heard_to(&self) -> Option<i64> {
        self.next
    }

    /// Whether the queue is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.samples.clear();
        self.next = None;
    }

    /// Adds interleaved samples; `time` is that of the first one.
    pub fn push(&mut self, time: i64, samples: &[i16]) {
        let samples = &samples[..samples.len() - samples.len() % self.channels];
        if samples.is_empty() {
            return;
        }
        let gap = time.saturating_sub(self.end());
        let distance = gap.unsigned_abs();
        if self.samples.is_empty() || distance > (GAP * self.rate).unsigned_abs() {
            self.samples.clear();
            self.head = time;
            self.samples.extend(samples);
        } else if distance <= (self.rate / TOLERANCE).unsigned_abs() {
            self.samples.extend(samples);
        } else if gap > 0 {
            let silence = distance as usize * self.channels;
            self.samples.extend(std::iter::repeat_n(0, silence));
            self.samples.extend(samples);
        } else {
            let known = distance as usize * self.channels;
            self.samples.extend(samples.get(known..).unwrap_or_default());
        }
        let excess = self.len() - MAX_KEPT_SECONDS * self.rate;
        self.forget(excess);
    }

    /// Adds `count` samples from `from` on to a mix, and forgets the samples before them.
    pub fn read(&mut self, from: i64, count: usize, mix: &mut Mix) {
        match self.next {
            Some(next) if next != from => self.cross(next, from, count, mix),
            _ => self.add(from, count, mix),
        }
        let end = from.saturating_add(count as i64);
        self.next = Some(end);
        // The most recent samples are kept for a fade.
        self.forget(end.saturating_sub(self.rate / FADE).saturating_sub(self.head));
    }

    /// Skips to a time: forgets the samples before it.
    pub fn skip(&mut self, to: i64) {
        self.next = None;
        self.forget(to.saturating_sub(self.rate / FADE).saturating_sub(self.head));
    }

    fn len(&self) -> i64 {
        (self.samples.len() / self.channels) as i64
    }

    fn forget(&mut self, count: i64) {
        let count = count.clamp(0, self.len());
        self.samples.drain(..count as usize * self.channels);
        self.head = self.head.saturating_add(count);
    }

    fn add(&self, from: i64, count: usize, mix: &mut Mix) {
        let lead = self.head.saturating_sub(from).max(0);
        let skipped = from.saturating_sub(self.head).max(0);
        let (Ok(lead), Ok(skipped)) = (usize::try_from(lead), usize::try_from(skipped)) else {
            return;
        };
        if lead >= count || skipped as i64 >= self.len() {
            return;
        }
        let samples = self.samples.range(skipped * self.channels..);
        mix.add(lead * self.channels, samples.copied().take((count - lead) * self.channels));
    }

    /// The sample of one channel at a time; 0 if there is none.
    fn at(&self, time: i64, channel: usize) -> i32 {
        let index = time.checked_sub(self.head).and_then(|index| usize::try_from(index).ok());
        let sample = index
            .and_then(|index| index.checked_mul(self.channels))
            .and_then(|index| self.samples.get(index + channel));
        sample.copied().map_or(0, i32::from)
    }

    fn cross(&self, old: i64, new: i64, count: usize, mix: &mut Mix) {
        let fade = (self.rate / FADE).clamp(1, (count as i64).max(1));
        let mut samples = Vec::with_capacity(fade as usize * self.channels);
        for index in 0..fade {
            for channel in 0..self.channels {
                let (out, into) = (
                    self.at(old.saturating_add(index), channel),
                    self.at(new.saturating_add(index), channel),
                );
                let sum = i64::from(out) * (fade - index) + i64::from(into) * index;
                samples.push((sum / fade) as i16);
            }
        }
        mix.add(0, samples.into_iter().take(count * self.channels));
        let rest = count.saturating_sub(fade as usize);
        if rest > 0 {
            let mut tail = Mix::silence(rest * self.channels);
            self.add(new.saturating_add(fade), rest, &mut tail);
            mix.add(fade as usize * self.channels, tail.finish().into_iter());
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: sound between a decoder and a clock.

    use super::*;

    fn heard(queue: &mut SampleQueue, from: i64, count: usize) -> Vec<i16> {
        let mut mix = Mix::silence(count * queue.channels);
        queue.read(from, count, &mut mix);
        mix.finish()
    }

    #[test]
    fn continuous_sound_is_unchanged() {
        let mut queue = SampleQueue::new(1000, 2);
        queue.push(100, &[1, -1, 2, -2]);
        queue.push(102, &[3, -3]);
        assert_eq!(heard(&mut queue, 98, 4), [0, 0, 0, 0, 1, -1, 2, -2]);
        assert_eq!(heard(&mut queue, 102, 3), [3, -3, 0, 0, 0, 0]);
        assert_eq!(queue.end(), 103);
    }

    #[test]
    fn small_time_errors_cause_no_gap() {
        let mut queue = SampleQueue::new(1000, 1);
        queue.push(0, &[1; 20]);
        queue.push(21, &[2; 20]);
        queue.push(38, &[3; 20]);
        assert_eq!(queue.end(), 60);
        let heard = heard(&mut queue, 0, 60);
        assert!(heard[..20].iter().all(|s| *s == 1) && heard[40..].iter().all(|s| *s == 3));
    }

    #[test]
    fn a_gap_is_silence_and_repeated_samples_are_heard_once() {
        let mut queue = SampleQueue::new(1000, 1);
        queue.push(0, &[1; 10]);
        queue.push(110, &[2; 10]);
        queue.push(0, &[9; 125]);
        let heard = heard(&mut queue, 0, 125);
        assert!(heard[10..110].iter().all(|s| *s == 0), "silence");
        assert!(heard[110..120].iter().all(|s| *s == 2));
        assert!(heard[120..].iter().all(|s| *s == 9));
    }

    #[test]
    fn far_times_reset_the_queue_and_memory_is_bounded() {
        let mut queue = SampleQueue::new(1000, 1);
        queue.push(0, &[1; 10]);
        queue.push(i64::MAX - 5, &[2; 10]);
        assert_eq!(queue.len(), 10);
        queue.push(i64::MIN, &[3; 10]);
        assert_eq!((queue.len(), queue.head), (10, i64::MIN));
        queue.push(0, &[]);
        for index in 0..100 {
            queue.push(index * 1000, &[4; 1000]);
        }
        assert_eq!((queue.len(), queue.end()), (MAX_KEPT_SECONDS * 1000, 100_000));
    }

    #[test]
    fn a_reader_that_jumps_is_cross_faded() {
        let mut queue = SampleQueue::new(1000, 1);
        queue.push(0, &[1000; 50]);
        queue.push(50, &[-1000; 50]);
        assert_eq!(heard(&mut queue, 0, 10), [1000; 10]);
        let heard = heard(&mut queue, 60, 10);
        assert_eq!(heard[0], 1000);
        assert!(heard.windows(2).all(|pair| pair[1] <= pair[0] && pair[0] - pair[1] <= 500));
        assert_eq!(heard[5..], [-1000; 5]);
    }
}
