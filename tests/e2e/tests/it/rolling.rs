//! A rolling stop in front of a full house: 1,000 native clients in 100 rooms go on giving commands while the process
//! is told to stop, ends, and the next one takes over a second later. Nobody is refused anything, nothing happens
//! twice, nobody loses anything.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lianmai_client_sdk::ReconnectOutcome;
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use crate::cast::Dice;
use crate::chorus::{Chorus, METHODS, ROOMS, SEATS};
use crate::stage::{PATIENCE, Scratch, Stage};
use crate::tokens::APPS;
use crate::verdict::{self, Door};

/// Commands that were given before the signal.
const BEFORE: u64 = 900;
/// Whoever is late on a busy machine is still a member.
const GRACE: (&str, &str) = ("LIANMAI_SESSION__GRACE_MS", "300000");
/// So long before the signal some begin to hear nothing.
const DEAF: Duration = Duration::from_millis(500);
/// From one process to the next.
const BETWEEN: Duration = Duration::from_secs(1);

/// Proves IDS-7, RST-1, RST-2.
#[tokio::test]
async fn rst_1_2_a_rolling_stop_in_front_of_a_full_house() -> Result<()> {
    let mut report = String::new();
    let outcome = LocalSet::new().run_until(story(&mut report)).await;
    println!("{report}");
    outcome
}

async fn story(report: &mut String) -> Result<()> {
    let scratch = Scratch::new()?;
    let config = scratch.0.join("config.toml");
    std::fs::write(&config, APPS)?;
    let env = [("LIANMAI_CONFIG", config.to_str().context("a path that is text")?), GRACE];
    let mut stage = Stage::start_with(&env).await?;
    let door = Door::of(&stage)?;
    let chorus = Rc::new(Chorus::gather(&stage).await?);
    let (guests, house) = (&chorus.guests, &chorus.house);
    ensure!(guests.len() == ROOMS * SEATS && guests.len() >= 1_000, "{} members", guests.len());
    // What their joins made known has been heard.
    verdict::calm(&door, &chorus.all_in_rooms(), PATIENCE).await?;
    let mut dice = Dice::new(0x5eed);
    chorus.begin(&mut dice);
    let (stop, stopped) = watch::channel(false);
    let singing = spawn_local(Rc::clone(&chorus).sing(dice, stopped));

    // Commands of all kinds are under way when the signal comes.
    let before = Instant::now();
    let some = async {
        while chorus.begun() < BEFORE {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, some).await.context("nobody gives commands")?;
    let rate = house.tally.count() as f64 / before.elapsed().as_secs_f64();
    // Of some the last answers are lost with this process, and what they asked for is not.
    chorus.deafen();
    sleep(DEAF).await;
    stage.server.signal("TERM").await?;
    let told = Instant::now();
    let code = timeout(PATIENCE, stage.server.wait()).await.context("it does not end")??;
    let took = told.elapsed();
    // The network goes on holding what it holds until here: nobody answered for them.
    let deaf = chorus.lose_the_deaf();
    ensure!(code == 0, "exit code {code}: {:?}", stage.server.log().last());
    verdict::none("the log of the first process", &stage.server.bugs())?;
    sleep(BETWEEN).await;
    stage.start_again(&env).await?;
    chorus.let_in();
    let listens = Instant::now();

    let everybody_back = async {
        let is_back = |guest: &crate::cast::Guest| {
            let is_new =
                guest.witness.seen().returns.last().is_some_and(|last| last.back > listens);
            is_new && guest.witness.is_back()
        };
        while !guests.iter().all(is_back) {
            // Each tells for itself; nothing tells of the last one.
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, everybody_back).await.context("not everybody is back")?;
    let (back, all_back) = (listens.elapsed(), Instant::now());
    sleep(Duration::from_secs(1)).await;
    stop.send_replace(true);
    timeout(PATIENCE, singing).await.context("calls without an outcome")??;
    let overall = house.tally.count() as f64 / before.elapsed().as_secs_f64();
    let calm = verdict::calm(&door, guests, PATIENCE).await;

    let (mut gap, mut losses, mut outcomes) = (Duration::ZERO, 0, Vec::new());
    for guest in guests {
        for back in &guest.witness.seen().returns {
            gap = gap.max(back.back.duration_since(back.lost));
            losses += 1;
            if !matches!(back.outcome, ReconnectOutcome::Replayed { .. }) || back.missed {
                outcomes.push(format!("uid {}: {back:?}", guest.uid().0));
            }
        }
    }
    let audit = house.ledger.audit(guests, &[]);
    // Called while the server stopped, or while there was none, or before all were back.
    let meanwhile: BTreeMap<_, _> = house.tally.methods(told, all_back);
    *report = format!(
        "rolling stop: {} members who stay, {rate:.0} commands a second before the signal, {overall:.0} over all\n\
         exit after {took:.2?}, all back {back:.2?} after the next process listens, calm {calm:.2?}\n\
         {losses} connections lost, {deaf} of them deaf until the exit; longest time from a loss to `reconnected` {gap:.2?}\n\
         longest call {:.2?}; {} calls: {}\nbegun from the signal until all were back: {meanwhile:?}\n\
         {} events, each heard by everybody\n{audit}",
        guests.len(),
        house.tally.longest(),
        house.tally.count(),
        house.tally.summary(),
        chorus.score.borrow().count(),
    );
    verdict::none("calls", &house.tally.bad(|_, outcome| outcome == "done"))?;
    calm?;
    let missing: Vec<_> =
        METHODS.iter().filter(|method| !meanwhile.contains_key(*method)).collect();
    ensure!(missing.is_empty(), "never called meanwhile: {missing:?}");
    verdict::none("returns that did not replay", &outcomes)?;
    verdict::none("messages", &audit.faults)?;
    ensure!(audit.is_exact(), "{audit}");
    verdict::none("events", &chorus.score.borrow().faults(guests))?;
    verdict::none("endings", &chorus.endings()?)?;
    verdict::none("pictures", &verdict::faults(&door, guests).await?)?;
    for guest in guests {
        guest.client.leave().await?;
    }
    stage.finish().await
}
