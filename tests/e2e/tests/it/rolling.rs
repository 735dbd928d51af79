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

use crate::actors::SeededRng;
use crate::final_state::{self, AdminApi};
use crate::load::{Load, METHODS, ROOMS, SEATS};
use crate::server::{Scratch, TEST_TIMEOUT, TestServer};
use crate::tokens::APPS;

/// Number of commands before the signal.
const BEFORE: u64 = 900;
/// A client that is late on a busy machine is still a member.
const GRACE: (&str, &str) = ("LIANMAI_SESSION__GRACE_MS", "300000");
/// How long before the signal some clients stop receiving.
const STALL: Duration = Duration::from_millis(500);
/// Time from one process to the next.
const BETWEEN: Duration = Duration::from_secs(1);

/// Proves IDS-7, RST-1, RST-2.
#[tokio::test]
async fn rst_1_2_a_rolling_stop_of_a_full_server() -> Result<()> {
    let mut report = String::new();
    let outcome = LocalSet::new().run_until(run(&mut report)).await;
    println!("{report}");
    outcome
}

async fn run(report: &mut String) -> Result<()> {
    let scratch = Scratch::new()?;
    let config = scratch.0.join("config.toml");
    std::fs::write(&config, APPS)?;
    let env = [("LIANMAI_CONFIG", config.to_str().context("a path that is text")?), GRACE];
    let mut server = TestServer::start_with(&env).await?;
    let api = AdminApi::of(&server)?;
    let load = Rc::new(Load::join_all_members(&server).await?);
    let (actors, workload) = (&load.actors, &load.workload);
    ensure!(actors.len() == ROOMS * SEATS && actors.len() >= 1_000, "{} members", actors.len());
    // All clients have received the effects of the joins.
    final_state::settle(&api, &load.all_in_rooms(), TEST_TIMEOUT).await?;
    let mut rng = SeededRng::new(0x5eed);
    load.begin(&mut rng);
    let (stop, stopped) = watch::channel(false);
    let running = spawn_local(Rc::clone(&load).run(rng, stopped));

    // Commands of all kinds are under way when the signal comes.
    let before = Instant::now();
    let some = async {
        while load.begun() < BEFORE {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TEST_TIMEOUT, some).await.context("nobody gives commands")?;
    let rate = workload.tally.count() as f64 / before.elapsed().as_secs_f64();
    // The last answers to some clients are lost with this process, but not the effects of their commands.
    load.stall_answers();
    sleep(STALL).await;
    server.process.signal("TERM").await?;
    let told = Instant::now();
    let code = timeout(TEST_TIMEOUT, server.process.wait()).await.context("it does not end")??;
    let took = told.elapsed();
    // Until here the proxies hold these connections, without any answer for their clients.
    let stalled = load.cut_stalled();
    ensure!(code == 0, "exit code {code}: {:?}", server.process.log().last());
    final_state::ensure_none("the log of the first process", &server.process.bugs())?;
    sleep(BETWEEN).await;
    server.start_again(&env).await?;
    load.accept_again();
    let listens = Instant::now();

    let everybody_back = async {
        let is_back = |actor: &crate::actors::Actor| {
            let is_new =
                actor.observer.seen().returns.last().is_some_and(|last| last.back > listens);
            is_new && actor.observer.is_back()
        };
        while !actors.iter().all(is_back) {
            // There is no notification that the last client is back, so the test polls.
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TEST_TIMEOUT, everybody_back).await.context("not everybody is back")?;
    let (back, all_back) = (listens.elapsed(), Instant::now());
    sleep(Duration::from_secs(1)).await;
    stop.send_replace(true);
    timeout(TEST_TIMEOUT, running).await.context("calls without an outcome")??;
    let overall = workload.tally.count() as f64 / before.elapsed().as_secs_f64();
    let calm = final_state::settle(&api, actors, TEST_TIMEOUT).await;

    let (mut gap, mut losses, mut outcomes) = (Duration::ZERO, 0, Vec::new());
    for actor in actors {
        for back in &actor.observer.seen().returns {
            gap = gap.max(back.back.duration_since(back.lost));
            losses += 1;
            if !matches!(back.outcome, ReconnectOutcome::Replayed { .. }) || back.missed {
                outcomes.push(format!("uid {}: {back:?}", actor.uid().0));
            }
        }
    }
    let audit = workload.ledger.audit(actors, &[]);
    // Calls that began while the server stopped, while there was none, or before all clients were back.
    let meanwhile: BTreeMap<_, _> = workload.tally.methods(told, all_back);
    *report = format!(
        "rolling stop: {} members who stay, {rate:.0} commands a second before the signal, {overall:.0} over all\n\
         exit after {took:.2?}, all back {back:.2?} after the next process listens, calm {calm:.2?}\n\
         {losses} connections lost, {stalled} of them stalled until the exit; longest loss until `reconnected` {gap:.2?}\n\
         longest call {:.2?}; {} calls: {}\nbegun from the signal until all were back: {meanwhile:?}\n\
         {} events, each heard by everybody\n{audit}",
        actors.len(),
        workload.tally.longest(),
        workload.tally.count(),
        workload.tally.summary(),
        load.expected.borrow().count(),
    );
    final_state::ensure_none("calls", &workload.tally.bad(|_, outcome| outcome == "done"))?;
    calm?;
    let missing: Vec<_> =
        METHODS.iter().filter(|method| !meanwhile.contains_key(*method)).collect();
    ensure!(missing.is_empty(), "never called meanwhile: {missing:?}");
    final_state::ensure_none("returns that did not replay", &outcomes)?;
    final_state::ensure_none("messages", &audit.faults)?;
    ensure!(audit.is_exact(), "{audit}");
    final_state::ensure_none("events", &load.expected.borrow().differences(actors))?;
    final_state::ensure_none("ends of memberships", &load.wrong_ends()?)?;
    final_state::ensure_none("pictures", &final_state::differences(&api, actors).await?)?;
    for actor in actors {
        actor.client.leave().await?;
    }
    server.finish().await
}
