//! How much of a pool one key may hold.
//!
//! In: what is left for everybody, what the key holds. Out: how much more it may take. Absent: who holds what, see
//! `pool.rs`.

/// The part of a pool, or of the share of its parent, that one key may hold.
///
/// A key with the share `num / den` that is alone gets `num / den` of the whole. When others hold something, it gets at
/// most `num / (den - num)` times what is left free. So after `n` keys that took all they could, `((den - num) / den)^n`
/// of the whole is still free for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    num: u64,
    den: u64,
    least: usize,
    most: usize,
}

impl Share {
    /// No share of its own: the key is bounded by what is left only.
    pub const ALL: Self = Self::of(1, 1);

    /// `num / den` of what is left. A `num` of at least `den` is [`Share::ALL`]; a `den` of 0 counts as 1.
    #[must_use]
    pub const fn of(num: u64, den: u64) -> Self {
        let den = if den == 0 { 1 } else { den };
        Self { num: if num < den { num } else { den }, den, least: 0, most: usize::MAX }
    }

    /// As much as `most`, and an eighth of what is left, unless `most` is more than an eighth of `whole`: then that part
    /// of what is left. A `most` of at least `whole` is [`Share::ALL`].
    #[must_use]
    pub const fn capped(most: usize, whole: usize) -> Self {
        let share =
            if most < whole / 8 { Self::of(1, 8) } else { Self::of(most as u64, whole as u64) };
        if most < whole { Self { most, ..share } } else { Self::ALL }
    }

    /// The key gets as much as `least`, or what was said of it before, as long as its parent has that much left, however
    /// little its part would be. So many keys can use up the whole: it is for amounts that are small in comparison.
    #[must_use]
    pub const fn at_least(self, least: usize) -> Self {
        Self { least: if least > self.least { least } else { self.least }, ..self }
    }

    /// How much more a key may take that holds `held`, where its parent may take `left` more. For amounts that are not
    /// held by guards, and for a look before something is taken.
    #[must_use]
    pub fn room(self, left: usize, held: usize) -> usize {
        let (num, den) = (u128::from(self.num), u128::from(self.den));
        // It may grow by x as long as (held + x) * (den - num) <= (left - x) * num.
        let part = (left as u128 * num).saturating_sub(held as u128 * (den - num)) / den;
        // No more than `left`, since num <= den.
        let part = usize::try_from(part).unwrap_or(left);
        let least = self.least.saturating_sub(held).min(left);
        part.max(least).min(self.most.saturating_sub(held))
    }
}
