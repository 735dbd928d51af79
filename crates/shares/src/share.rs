//! The part of a pool that one key may hold.
//!
//! In: the amount that is left for everyone, the amount that the key holds. Out: how much more the key may take.
//! Absent: which key holds what, see `pool.rs`.

/// The part that one key may hold of a pool, or of the share of its parent.
///
/// If no other key holds anything, a key with the share `num / den` gets `num / den` of the whole. While others hold
/// something, it gets at most `num / (den - num)` times what stays free. So after `n` keys that took all they could,
/// `((den - num) / den)^n` of the whole is still free for the next key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    num: u64,
    den: u64,
    min: usize,
    max: usize,
}

impl Share {
    /// No bound of its own: the key may take everything that is left.
    pub const ALL: Self = Self::of(1, 1);

    /// The share `num / den`. If `num` is at least `den`, it is [`Share::ALL`]. A `den` of 0 counts as 1.
    #[must_use]
    pub const fn of(num: u64, den: u64) -> Self {
        let den = if den == 0 { 1 } else { den };
        Self { num: if num < den { num } else { den }, den, min: 0, max: usize::MAX }
    }

    /// At most the amount `max`, and at most an eighth of what is left; or the part `max / capacity` of what is left,
    /// if that is more than an eighth. If `max` is at least `capacity`, it is [`Share::ALL`].
    #[must_use]
    pub const fn capped(max: usize, capacity: usize) -> Self {
        let share =
            if max < capacity / 8 { Self::of(1, 8) } else { Self::of(max as u64, capacity as u64) };
        if max < capacity { Self { max, ..share } } else { Self::ALL }
    }

    /// The same share, but the key gets at least the amount `min` (or an earlier, larger minimum) as long as its
    /// parent has that much left. The maximum of [`Share::capped`] still applies. Many keys can use up the whole in
    /// this way, so `min` should be small in comparison.
    #[must_use]
    pub const fn at_least(self, min: usize) -> Self {
        Self { min: if min > self.min { min } else { self.min }, ..self }
    }

    /// How much more a key may take that holds `held`, if its parent may take `left` more. For amounts that no guard
    /// holds, and to look before taking.
    #[must_use]
    pub fn room(self, left: usize, held: usize) -> usize {
        let (num, den) = (u128::from(self.num), u128::from(self.den));
        // The key may grow by x as long as (held + x) * (den - num) <= (left - x) * num.
        let part = (left as u128 * num).saturating_sub(held as u128 * (den - num)) / den;
        // This is at most `left`, because num <= den.
        let part = usize::try_from(part).unwrap_or(left);
        let min = self.min.saturating_sub(held).min(left);
        part.max(min).min(self.max.saturating_sub(held))
    }
}
