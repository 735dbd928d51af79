//! A rate limit without a clock of its own: the generic cell rate algorithm (ITU-T I.371), which needs
//! one number per limit.

use lianmai_protocol::MonoTime;

/// State of one limit: when the next unit would conform if none could be saved up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    arrival_us: u64,
}

impl Rate {
    /// Takes so many units, or says after how many milliseconds they are free. `burst` units may come at
    /// once; nothing takes more than that.
    pub(crate) fn take(
        &mut self,
        now: MonoTime,
        units: u32,
        per_second: u32,
        burst: u32,
    ) -> Result<(), u64> {
        let burst = burst.max(1);
        let units = units.clamp(1, burst);
        let now_us = now.0.saturating_mul(1000);
        let step = 1_000_000 / u64::from(per_second.max(1));
        let ahead = step * u64::from(burst - units);
        let arrival = self.arrival_us.max(now_us);
        if arrival - now_us > ahead {
            return Err((arrival - now_us - ahead).div_ceil(1000));
        }
        self.arrival_us = arrival + step * u64::from(units);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves IDS-6.
    #[test]
    fn a_burst_passes_and_then_the_long_run_rate() {
        let mut rate = Rate::default();
        let passed = (0..100).filter(|_| rate.take(MonoTime(0), 1, 20, 40).is_ok()).count();
        assert_eq!(passed, 40);
        assert_eq!(rate.take(MonoTime(0), 1, 20, 40), Err(50));
        assert_eq!(rate.take(MonoTime(50), 1, 20, 40), Ok(()));
        assert_eq!(rate.take(MonoTime(50), 1, 20, 40), Err(50));
    }

    /// Proves IDS-6.
    #[test]
    fn what_weighs_more_takes_more() {
        let mut rate = Rate::default();
        assert_eq!(rate.take(MonoTime(0), 30, 20, 40), Ok(()));
        assert_eq!(rate.take(MonoTime(0), 11, 20, 40), Err(50));
        assert_eq!(rate.take(MonoTime(0), 10, 20, 40), Ok(()));
        assert_eq!(rate.take(MonoTime(2_000), 1_000, 20, 40), Ok(()), "as much as there can be");
        assert_eq!(rate.take(MonoTime(2_000), 1, 20, 40), Err(50));
    }
}
