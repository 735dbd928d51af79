//! Random faults of the proxies during a storm; half of them are silence without an end. Comes in: proxies and a seed.
//! Goes out: how often each fault occurred. Deliberately absent: clients.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use crate::actors::SeededRng;
use crate::fault_proxy::FaultProxy;

/// Range of the time between two faults, in milliseconds.
const PAUSE_MS: (u64, u64) = (40, 70);

/// The effect on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    /// It is lost without a notice.
    Silent,
    /// It is closed.
    Cut,
    /// It continues slowly.
    Slow,
}

/// How often each fault hit a working connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultCounts {
    hits: BTreeMap<(Effect, &'static str), u64>,
    /// Faults that hit no connection, or one that was silent already.
    misses: u64,
}

impl FaultCounts {
    fn count(&self, of: Effect) -> u64 {
        let hits = self.hits.iter().filter(|((kind, _), _)| *kind == of);
        hits.map(|(_, count)| count).sum()
    }

    /// Number of connections that fell silent without an end.
    pub(crate) fn silent(&self) -> u64 {
        self.count(Effect::Silent)
    }

    /// Number of connections that were closed.
    pub(crate) fn cut(&self) -> u64 {
        self.count(Effect::Cut)
    }
}

impl fmt::Display for FaultCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self.hits.iter().map(|((_, name), count)| format!("{name} {count}"));
        let (silent, cut) = (self.silent(), self.cut());
        let each = each.collect::<Vec<_>>().join(", ");
        write!(f, "{silent} silent, {cut} cut ({each}; {} hit nothing)", self.misses)
    }
}

/// Injects faults until it is told to stop.
pub(crate) async fn inject(
    proxies: Vec<Rc<FaultProxy>>,
    mut rng: SeededRng,
    mut stop: watch::Receiver<bool>,
) -> FaultCounts {
    let mut faults = FaultCounts::default();
    loop {
        let pause = rng.ms(PAUSE_MS.0, PAUSE_MS.1);
        if timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok() {
            return faults;
        }
        if let Some(proxy) = rng.pick(&proxies) {
            let hits = proxy.is_flowing();
            let what = inject_one(proxy, &mut rng);
            let count =
                if hits { faults.hits.entry(what).or_default() } else { &mut faults.misses };
            *count += 1;
        }
    }
}

/// Injects one fault. Some faults end by themselves.
fn inject_one(proxy: &Rc<FaultProxy>, rng: &mut SeededRng) -> (Effect, &'static str) {
    let later = |after: Duration, then: fn(&FaultProxy)| {
        let proxy = Rc::clone(proxy);
        spawn_local(async move {
            sleep(after).await;
            then(&proxy);
        });
    };
    match rng.below(20) {
        0..6 => {
            proxy.stall(true, true);
            (Effect::Silent, "for ever")
        }
        6 => {
            proxy.stall(true, false);
            (Effect::Silent, "to the server")
        }
        7 => {
            proxy.stall(false, true);
            (Effect::Silent, "to the client")
        }
        8..10 => {
            proxy.stall(true, true);
            later(rng.ms(500, 5_000), |proxy| proxy.release(Duration::ZERO));
            (Effect::Silent, "for a while, then late")
        }
        10 => {
            proxy.stall(true, true);
            proxy.set_accepting(false);
            later(rng.ms(3_000, 10_000), |proxy| proxy.set_accepting(true));
            (Effect::Silent, "and closed for a while")
        }
        11..14 => {
            proxy.cut(false);
            (Effect::Cut, "ended")
        }
        14..18 => {
            proxy.cut(true);
            (Effect::Cut, "reset")
        }
        _ => {
            proxy.release(rng.ms(50, 400));
            later(rng.ms(1_000, 4_000), |proxy| proxy.release(Duration::ZERO));
            (Effect::Slow, "slow for a while")
        }
    }
}
