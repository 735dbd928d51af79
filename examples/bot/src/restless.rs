//! The occasional steps of a synthetic host, so that viewers see changes. In: a pause. Out: one step after each pause,
//! in a cycle. Deliberately absent: randomness; the steps are predictable.

use std::time::Duration;

use lianmai_client_sdk::MediaKind;
use tokio::time::{Instant, sleep_until};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Mute(MediaKind),
    Unmute(MediaKind),
    Leave,
    /// The member that left joins and publishes again.
    Return,
}

static STEPS: [Step; 6] = [
    Step::Mute(MediaKind::Audio),
    Step::Unmute(MediaKind::Audio),
    Step::Mute(MediaKind::Video),
    Step::Unmute(MediaKind::Video),
    Step::Leave,
    Step::Return,
];

/// The steps of one host; there are none without a pause.
#[derive(Debug)]
pub(crate) struct Restless {
    pause: Option<Duration>,
    due: Instant,
    taken: usize,
}

impl Restless {
    pub(crate) fn new(pause: Option<Duration>) -> Self {
        Restless { pause, due: Instant::now() + pause.unwrap_or_default(), taken: 0 }
    }

    /// Waits for the next step. If the future is dropped before, the same step is still the next one.
    pub(crate) async fn step(&mut self) -> Step {
        let Some(pause) = self.pause else { return std::future::pending().await };
        sleep_until(self.due).await;
        let step = STEPS[self.taken % STEPS.len()].clone();
        self.taken += 1;
        self.due = Instant::now() + pause;
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_step_is_undone_before_the_cycle_repeats() {
        let start = Instant::now();
        let mut restless = Restless::new(Some(Duration::from_secs(10)));
        let mut taken = Vec::new();
        for _ in 0..12 {
            taken.push(restless.step().await);
        }
        assert_eq!(taken[..6], STEPS);
        assert_eq!(taken[6..], STEPS);
        assert_eq!(start.elapsed(), Duration::from_secs(120));
        let at = |step| STEPS.iter().position(|other| *other == step).unwrap();
        for kind in [MediaKind::Audio, MediaKind::Video] {
            assert!(at(Step::Mute(kind.clone())) < at(Step::Unmute(kind)));
        }
        assert!(at(Step::Leave) < at(Step::Return));
    }
}
