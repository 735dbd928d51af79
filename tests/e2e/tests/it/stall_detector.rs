//! Detects when the machine itself stood still. A thread sleeps for a few milliseconds at a time; when it runs late,
//! everything else may be late as well, and what the bystanders of the hostile-input table measured during that time is
//! not caused by the server. A busy server does not delay this thread: the scheduler prefers threads that mostly sleep.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Time between two runs.
const PERIOD: Duration = Duration::from_millis(5);
/// A run that is later than this is a stall.
const LATE: Duration = Duration::from_millis(20);

/// The stalls so far, in order.
#[derive(Debug, Default)]
pub(crate) struct StallDetector(Mutex<Vec<(Instant, Instant)>>);

impl StallDetector {
    /// The detector of this process; it runs from the first call on.
    pub(crate) fn get() -> &'static Self {
        static DETECTOR: OnceLock<&'static StallDetector> = OnceLock::new();
        DETECTOR.get_or_init(|| {
            let detector: &'static StallDetector = Box::leak(Box::default());
            std::thread::spawn(|| detector.run());
            detector
        })
    }

    fn run(&self) {
        loop {
            let asked = Instant::now() + PERIOD;
            std::thread::sleep(PERIOD);
            let ran = Instant::now();
            if ran > asked + LATE {
                self.stalls().push((asked, ran));
            }
        }
    }

    fn stalls(&self) -> MutexGuard<'_, Vec<(Instant, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long the machine ran between two moments.
    pub(crate) fn ran(&self, from: Instant, to: Instant) -> Duration {
        let overlap = |(start, end): &(Instant, Instant)| {
            (*end).min(to).saturating_duration_since((*start).max(from))
        };
        let stood: Duration = self.stalls().iter().map(overlap).sum();
        (to - from).saturating_sub(stood)
    }

    /// The longest stall since a moment.
    pub(crate) fn longest_since(&self, from: Instant) -> Duration {
        let length =
            |(start, end): &(Instant, Instant)| end.saturating_duration_since((*start).max(from));
        self.stalls().iter().map(length).max().unwrap_or_default()
    }
}
