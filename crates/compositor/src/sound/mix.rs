//! A mix of several sounds.
//!
//! In: samples. Out: their sum, limited to the range of a sample. Deliberately absent: times.

/// A mix in progress.
#[derive(Debug)]
pub struct Mix {
    sum: Vec<i32>,
}

impl Mix {
    /// Silence of `samples` samples, counted over all channels.
    #[must_use]
    pub fn silence(samples: usize) -> Self {
        Self { sum: vec![0; samples] }
    }

    /// Adds samples from index `from` on; samples after the end are ignored.
    pub fn add(&mut self, from: usize, samples: impl Iterator<Item = i16>) {
        let sum = self.sum.get_mut(from..).unwrap_or_default();
        for (sum, sample) in sum.iter_mut().zip(samples) {
            *sum = sum.saturating_add(i32::from(sample));
        }
    }

    /// The mix; values that are too large are clipped.
    #[must_use]
    pub fn finish(self) -> Vec<i16> {
        let bounded = |sum: i32| sum.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
        self.sum.into_iter().map(bounded).collect()
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: sums of sounds.

    use super::*;

    #[test]
    fn sounds_add_up_and_are_cut_off() {
        let mut mix = Mix::silence(4);
        mix.add(0, [100, -100, 30_000, -30_000].into_iter());
        mix.add(1, [50, 30_000, -30_000, 7].into_iter());
        mix.add(9, [1].into_iter());
        assert_eq!(mix.finish(), [100, -50, i16::MAX, i16::MIN]);
    }
}
