//! Random faults of the proxies during a storm; half of them are silence without an end. Comes in: proxies and dice.
//! Goes out: how often each fault occurred. Deliberately absent: clients.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use crate::cast::Dice;
use crate::fault_proxy::Way;

/// Range of the time between two faults, in milliseconds.
const PAUSE_MS: (u64, u64) = (40, 70);

/// The effect on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// It is lost without a notice.
    Silent,
    /// It is closed.
    Cut,
    /// It continues slowly.
    Slow,
}

/// How often each fault hit a working connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    hits: BTreeMap<(Kind, &'static str), u64>,
    /// Faults that hit no connection, or one that was silent already.
    misses: u64,
}

impl Faults {
    fn count(&self, of: Kind) -> u64 {
        let hits = self.hits.iter().filter(|((kind, _), _)| *kind == of);
        hits.map(|(_, count)| count).sum()
    }

    /// Number of connections that fell silent without an end.
    pub(crate) fn silent(&self) -> u64 {
        self.count(Kind::Silent)
    }

    /// Number of connections that were closed.
    pub(crate) fn cut(&self) -> u64 {
        self.count(Kind::Cut)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self.hits.iter().map(|((_, name), count)| format!("{name} {count}"));
        let (silent, cut) = (self.silent(), self.cut());
        let each = each.collect::<Vec<_>>().join(", ");
        write!(f, "{silent} silent, {cut} cut ({each}; {} hit nothing)", self.misses)
    }
}

/// Injects faults until it is told to stop.
pub(crate) async fn storm(
    ways: Vec<Rc<Way>>,
    mut dice: Dice,
    mut stop: watch::Receiver<bool>,
) -> Faults {
    let mut faults = Faults::default();
    loop {
        let pause = dice.ms(PAUSE_MS.0, PAUSE_MS.1);
        if timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok() {
            return faults;
        }
        if let Some(way) = dice.pick(&ways) {
            let hits = way.flows();
            let what = strike(way, &mut dice);
            let count =
                if hits { faults.hits.entry(what).or_default() } else { &mut faults.misses };
            *count += 1;
        }
    }
}

/// Injects one fault. Some faults end by themselves.
fn strike(way: &Rc<Way>, dice: &mut Dice) -> (Kind, &'static str) {
    let later = |after: Duration, then: fn(&Way)| {
        let way = Rc::clone(way);
        spawn_local(async move {
            sleep(after).await;
            then(&way);
        });
    };
    match dice.roll(20) {
        0..6 => {
            way.stall(true, true);
            (Kind::Silent, "for ever")
        }
        6 => {
            way.stall(true, false);
            (Kind::Silent, "to the server")
        }
        7 => {
            way.stall(false, true);
            (Kind::Silent, "to the client")
        }
        8..10 => {
            way.stall(true, true);
            later(dice.ms(500, 5_000), |way| way.release(Duration::ZERO));
            (Kind::Silent, "for a while, then late")
        }
        10 => {
            way.stall(true, true);
            way.open(false);
            later(dice.ms(3_000, 10_000), |way| way.open(true));
            (Kind::Silent, "and closed for a while")
        }
        11..14 => {
            way.cut(false);
            (Kind::Cut, "ended")
        }
        14..18 => {
            way.cut(true);
            (Kind::Cut, "reset")
        }
        _ => {
            way.release(dice.ms(50, 400));
            later(dice.ms(1_000, 4_000), |way| way.release(Duration::ZERO));
            (Kind::Slow, "slow for a while")
        }
    }
}
