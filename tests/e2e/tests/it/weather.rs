//! What happens to the ways of a storm: at random, half of it silence without an end. Comes in: ways and dice. Goes
//! out: how often what happened. Deliberately absent: clients.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use crate::cast::Dice;
use crate::fault_proxy::Way;

/// Between two faults, in milliseconds.
const PAUSE_MS: (u64, u64) = (40, 70);

/// How often what happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(BTreeMap<&'static str, u64>);

impl Faults {
    /// All, and those that fall silent without an end.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let silent = self.0.iter().filter(|(name, _)| name.contains("silent"));
        (self.0.values().sum(), silent.map(|(_, count)| count).sum())
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self.0.iter().map(|(name, count)| format!("{name} {count}"));
        f.write_str(&each.collect::<Vec<_>>().join(", "))
    }
}

/// Goes on until it is told to stop.
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
            *faults.0.entry(strike(way, &mut dice)).or_default() += 1;
        }
    }
}

/// One fault. Some end by themselves.
fn strike(way: &Rc<Way>, dice: &mut Dice) -> &'static str {
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
            "silent for ever"
        }
        6 => {
            way.stall(true, false);
            "silent to the server"
        }
        7 => {
            way.stall(false, true);
            "silent to the client"
        }
        8..10 => {
            way.stall(true, true);
            later(dice.ms(500, 5_000), |way| way.release(Duration::ZERO));
            "silent for a while, then late"
        }
        10 => {
            way.stall(true, true);
            way.open(false);
            later(dice.ms(3_000, 10_000), |way| way.open(true));
            "silent and closed for a while"
        }
        11..14 => {
            way.cut(false);
            "ended"
        }
        14..18 => {
            way.cut(true);
            "reset"
        }
        _ => {
            way.release(dice.ms(50, 400));
            later(dice.ms(1_000, 4_000), |way| way.release(Duration::ZERO));
            "slow for a while"
        }
    }
}
