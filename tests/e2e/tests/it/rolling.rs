//! A rolling stop of a full server: 1,000 native clients in 100 rooms give commands all the time, while the process is
//! told to stop, ends, and the next one takes over a second later. No command is refused, nothing happens twice,
//! nothing is lost.

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

/// Number of commands before the signal.
const BEFORE: u64 = 900;
/// A client that is late on a busy machine is still a member.
const GRACE: (&str, &str) = ("LIANMAI_SESSION__GRACE_MS", "300000");
/// How long before the signal some clients stop receiving.
const DEAF: Duration = Duration::from_millis(500);
/// Time from one process to the next.
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
    // All clients have received the effects of the joins.
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
    // The last answers to some clients are lost with this process, but not the effects of their commands.
    chorus.deafen();
    sleep(DEAF).await;
    stage.server.signal("TERM").await?;
    let told = Instant::now();
    let code = timeout(PATIENCE, stage.server.wait()).await.context("it does not end")??;
    let took = told.elapsed();
    // Until here the proxies hold these connections, without any answer for their clients.
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
            // There is no notification that the last client is back, so the test polls.
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
    // Calls that began while the server stopped, while there was none, or before all clients were back.
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
