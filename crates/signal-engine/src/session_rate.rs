//! The used part of a session's rate: one number, without a clock of its own (the generic cell rate algorithm, ITU-T
//! I.371). Comes in: units, times. Goes out: whether they may pass, and the debt. Deliberately absent: the meaning of a
//! unit (`channel/cost.rs`), and debts of ended memberships (`debts.rs`).

use std::time::Duration;

use lianmai_protocol::MonoTime;
use lianmai_protocol::limits::Limits;

/// State of one session: when its whole burst is earned again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionRate {
    earned_us: u64,
}

fn micros(now: MonoTime) -> u64 {
    now.0.saturating_mul(1000)
}

/// Microseconds in which one unit is earned, and the units of a burst.
fn of(limits: &Limits) -> (u64, u32) {
    (1_000_000 / u64::from(limits.commands_per_second.max(1)), limits.command_burst.max(1))
}

/// How long it takes to earn a whole burst.
pub(crate) fn burst(limits: &Limits) -> Duration {
    let (step, burst) = of(limits);
    Duration::from_micros(step) * burst
}

impl SessionRate {
    /// The rate of a session that begins with a debt.
    pub(crate) fn owing(now: MonoTime, owed: Duration) -> Self {
        let owed_us = u64::try_from(owed.as_micros()).unwrap_or(u64::MAX);
        SessionRate { earned_us: micros(now).saturating_add(owed_us) }
    }

    /// How long until the whole burst is earned again.
    pub(crate) fn owed(self, now: MonoTime) -> Duration {
        Duration::from_micros(self.earned_us.saturating_sub(micros(now)))
    }

    /// Units that were used and are not earned again; a part of one counts as one.
    pub(crate) fn used(self, now: MonoTime, limits: &Limits) -> u64 {
        self.earned_us.saturating_sub(micros(now)).div_ceil(of(limits).0.max(1))
    }

    /// Takes units, or returns the milliseconds until they are free. No command takes more than a burst.
    pub(crate) fn take(&mut self, now: MonoTime, units: u32, limits: &Limits) -> Result<(), u64> {
        self.may(now, units, limits)?;
        self.spend(now, units.max(1), limits);
        Ok(())
    }

    /// Whether units are free; if not, the milliseconds until they are.
    pub(crate) fn may(self, now: MonoTime, units: u32, limits: &Limits) -> Result<(), u64> {
        let (step, burst) = of(limits);
        let ahead = step * u64::from(burst - units.clamp(1, burst));
        let owed = self.earned_us.saturating_sub(micros(now));
        if owed > ahead { Err((owed - ahead).div_ceil(1000)) } else { Ok(()) }
    }

    /// Takes units, free or not.
    pub(crate) fn spend(&mut self, now: MonoTime, units: u32, limits: &Limits) {
        let (step, burst) = of(limits);
        let units = u64::from(units.min(burst));
        self.earned_us = self.earned_us.max(micros(now)).saturating_add(step * units);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { commands_per_second: 20, command_burst: 40, ..Limits::default() }
    }

    /// Proves IDS-6.
    #[test]
    fn a_burst_passes_and_then_the_long_run_rate() {
        let (mut rate, limits) = (SessionRate::default(), limits());
        let passed = (0..100).filter(|_| rate.take(MonoTime(0), 1, &limits).is_ok()).count();
        assert_eq!(passed, 40);
        assert_eq!(rate.take(MonoTime(0), 1, &limits), Err(50));
        assert_eq!(rate.take(MonoTime(50), 1, &limits), Ok(()));
        assert_eq!(rate.take(MonoTime(50), 1, &limits), Err(50));
    }

    /// Proves IDS-6.
    #[test]
    fn a_heavier_command_takes_more_units() {
        let (mut rate, limits) = (SessionRate::default(), limits());
        assert_eq!(rate.take(MonoTime(0), 30, &limits), Ok(()));
        assert_eq!(rate.take(MonoTime(0), 11, &limits), Err(50));
        assert_eq!(rate.take(MonoTime(0), 10, &limits), Ok(()));
        assert_eq!(rate.take(MonoTime(2_000), 1_000, &limits), Ok(()), "as much as there can be");
        assert_eq!(rate.take(MonoTime(2_000), 1, &limits), Err(50));
    }

    /// Proves IDS-9.
    #[test]
    fn a_debt_can_be_carried_over() {
        let (mut rate, limits) = (SessionRate::default(), limits());
        rate.spend(MonoTime(1_000), 39, &limits);
        let owed = rate.owed(MonoTime(1_100));
        assert_eq!((owed, rate.used(MonoTime(1_100), &limits)), (Duration::from_millis(1_850), 37));
        let mut other = SessionRate::owing(MonoTime(1_200), owed);
        assert_eq!(other.take(MonoTime(1_200), 3, &limits), Ok(()));
        assert_eq!(other.take(MonoTime(1_200), 1, &limits), Err(50));
    }
}
