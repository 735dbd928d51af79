//! A rolling stop in front of a full house: 1,000 native clients in 100 rooms go on giving commands while the process
//! is told to stop, ends, and the next one takes over a second later. Nobody is refused anything, nothing happens
//! twice, nobody loses anything.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lianmai_client_sdk::{MediaKind, MediaSelector, ReconnectOutcome, Role, UserId};
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::cast::{Dice, Guest, House};
use crate::stage::Stage;
use crate::verdict::{self, Door};

const ROOMS: usize = 100;
const SEATS: usize = 10;
/// Commands in a second, of all together; at least 200 are wanted.
const PER_SECOND: u64 = 250;
/// The process is gone so long after it was told (the default of `drain.deadline_ms`).
const DEADLINE: Duration = Duration::from_secs(10);
/// From one process to the next.
const BETWEEN: Duration = Duration::from_secs(1);
/// Until the last is back, and until all is calm.
const BACK: Duration = Duration::from_secs(20);

fn uid_of(room: usize, seat: usize) -> UserId {
    UserId((room * SEATS + seat + 1) as u64)
}

/// Who sits where: the first publishes all the time, the last two are audience.
fn guest(stage: &Stage, room: usize, seat: usize) -> Guest {
    let role = if seat < SEATS - 2 { Role::Broadcaster } else { Role::Audience };
    Guest::new(stage.server.public, room, uid_of(room, seat).0, role)
}

/// One command that nothing but a fault can refuse.
async fn command(house: &House, guest: &Guest, seat: usize, dice: &mut Dice) {
    let kind = MediaSelector::Kind(MediaKind::ScreenShare);
    match (dice.roll(10), seat) {
        (0..3, _) => house.say(guest, None).await,
        (3..6, _) => {
            let to = uid_of(guest.room, dice.roll(SEATS));
            let to = if to == guest.uid() { uid_of(guest.room, (seat + 1) % SEATS) } else { to };
            house.say(guest, Some(to)).await;
        }
        (6, _) => house.attributes(guest).await,
        (7, _) => house.mute(guest, dice).await,
        (8, 1 | 2) => house.publish(guest, kind).await,
        (9, 1 | 2) => house.unpublish(guest, kind).await,
        (8, 3 | 4) => house.set_role(guest, Role::Audience).await,
        (9, 3 | 4) => house.set_role(guest, Role::Broadcaster).await,
        (8, 1..) => house.subscribe_to(guest, uid_of(guest.room, 0), MediaKind::Video).await,
        _ => house.unsubscribe_from(guest, uid_of(guest.room, 1), MediaKind::Audio).await,
    }
}

async fn everybody(stage: &Stage) -> Result<Vec<Guest>> {
    let mut guests = Vec::new();
    for room in 0..ROOMS {
        for seat in 0..SEATS {
            let guest = guest(stage, room, seat);
            guest.join().await?;
            if seat == 0 {
                guest.client.publish(MediaSelector::Both).await?;
                guest
                    .witness
                    .seen()
                    .wish
                    .published
                    .extend([MediaKind::Audio, MediaKind::Video].map(|kind| (kind, true)));
            }
            guests.push(guest);
        }
    }
    Ok(guests)
}

/// Gives commands at an even pace, whatever becomes of those before, until it is told to stop; then waits for all.
async fn chorus(house: Rc<House>, guests: Vec<Guest>, stop: tokio::sync::watch::Receiver<bool>) {
    let mut dice = Dice::new(0x5eed);
    let mut tick = interval(Duration::from_millis(1000 / PER_SECOND));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut calls = tokio::task::JoinSet::new();
    while !*stop.borrow() {
        tick.tick().await;
        let at = dice.roll(guests.len());
        let (house, guest, mut own) = (Rc::clone(&house), guests[at].clone(), dice.another());
        calls.spawn_local(async move { command(&house, &guest, at % SEATS, &mut own).await });
        while calls.try_join_next().is_some() {}
    }
    calls.join_all().await;
}

#[tokio::test]
async fn rst_1_2_a_rolling_stop_in_front_of_a_full_house() -> Result<()> {
    let mut report = String::new();
    let outcome = LocalSet::new().run_until(story(&mut report)).await;
    println!("{report}");
    outcome
}

async fn story(report: &mut String) -> Result<()> {
    let mut stage = Stage::start().await?;
    let door = Door::of(&stage)?;
    let guests = everybody(&stage).await?;
    let house = Rc::new(House::default());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let singing = tokio::task::spawn_local(chorus(Rc::clone(&house), guests.clone(), stopped));

    // Commands of all kinds are under way when the signal comes.
    let (before, counted) = (Instant::now(), house.tally.count());
    sleep(Duration::from_secs(3)).await;
    let rate = (house.tally.count() - counted) as f64 / before.elapsed().as_secs_f64();
    ensure!(rate >= 200.0, "only {rate:.0} commands a second");
    stage.server.signal("TERM").await?;
    let told = Instant::now();
    let limit = DEADLINE + Duration::from_secs(1);
    let code = timeout(limit, stage.server.wait()).await.context("it does not end")??;
    let took = told.elapsed();
    ensure!(code == 0, "exit code {code}: {:?}", stage.server.log().last());
    verdict::none("the log of the first process", &stage.server.bugs())?;
    ensure!(took <= DEADLINE, "it took {took:?}");
    sleep(BETWEEN).await;
    stage.start_again(&[]).await?;
    let listens = Instant::now();

    let everybody_back = async {
        let is_back = |guest: &Guest| {
            let is_new =
                guest.witness.seen().returns.last().is_some_and(|last| last.back > listens);
            is_new && guest.witness.is_back()
        };
        while !guests.iter().all(is_back) {
            // Each tells for itself; nothing tells of the last one.
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(BACK, everybody_back).await.context("not everybody is back")?;
    let back = listens.elapsed();
    sleep(Duration::from_secs(1)).await;
    stop.send_replace(true);
    timeout(BACK, singing).await.context("calls without an outcome")??;
    let overall = (house.tally.count() - counted) as f64 / before.elapsed().as_secs_f64();
    ensure!(overall >= 200.0, "only {overall:.0} commands a second over all");
    let calm = verdict::calm(&door, &guests, BACK).await?;

    let mut gap = Duration::ZERO;
    let mut losses = 0;
    let mut outcomes = Vec::new();
    for guest in &guests {
        for back in &guest.witness.seen().returns {
            gap = gap.max(back.back.duration_since(back.lost));
            losses += 1;
            if !matches!(back.outcome, ReconnectOutcome::Replayed { .. }) || back.missed {
                outcomes.push(format!("uid {}: {back:?}", guest.uid().0));
            }
        }
    }
    let audit = house.ledger.audit(&guests, &[]);
    *report = format!(
        "rolling stop: {} members, {rate:.0} commands a second before the signal\n\
         exit after {took:.2?}, all back {back:.2?} after the next process listens, calm {calm:.2?} later\n\
         {losses} connections lost, longest time from a loss to `reconnected` {gap:.2?}\n\
         longest call {:.2?}; {} calls: {}\n{audit}",
        guests.len(),
        house.tally.longest(),
        house.tally.count(),
        house.tally.summary(),
    );
    verdict::none("calls", &house.tally.bad(|_, outcome| outcome == "done"))?;
    verdict::none("returns that did not replay", &outcomes)?;
    verdict::none("messages", &audit.faults)?;
    ensure!(audit.told_lost + audit.crashed + audit.rejoined + audit.all_unknown == 0, "{audit}");
    verdict::none("pictures", &verdict::faults(&door, &guests).await?)?;
    for guest in &guests {
        guest.client.leave().await?;
    }
    stage.finish().await
}
