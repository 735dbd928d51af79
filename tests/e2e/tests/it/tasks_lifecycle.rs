//! The life of push tasks: members that go and come back, receivers that go and come back, processes that are killed.
//! In the end nothing of a task remains.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lianmai_test_support::children::{descendants, is_encoder, name_of};
use lianmai_test_support::decoding::DecodedPublish;
use lianmai_test_support::media::Ffmpeg;
use lianmai_test_support::process::CpuWait;
use lianmai_test_support::receiver::Receiver;
use lianmai_test_support::samples::flashing_file;
use serde_json::json;
use tokio::process::Command;

use crate::tasks_setup::{
    BLUE, GREEN, Host, RED, TaskSetup, gone, side_by_side, small, task, user,
};

/// Two hosts, and a task that pushes.
async fn pushing(setup: &TaskSetup) -> Result<(Host, Host)> {
    let (mut red, mut blue) = setup.hosts().await?;
    red.member.add_task(&small(setup)).await?;
    blue.member.task_is("pushing").await?;
    setup.receiver.pictures(1).await?;
    Ok((red, blue))
}

async fn kill(pid: u32) -> Result<()> {
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().await?;
    ensure!(killed.success(), "kill failed");
    Ok(())
}

/// The distance of two pictures of a canvas of this size: 15 per second.
const PICTURE_MS: u32 = 67;

/// How long each process has waited for a processor so far.
fn waits(pids: &[u32]) -> Vec<(u32, CpuWait)> {
    pids.iter().map(|pid| (*pid, CpuWait::of(*pid))).collect()
}

/// The sum of these waits since then, in milliseconds.
fn starved(before: &[(u32, CpuWait)]) -> Result<u32> {
    let waited = before.iter().map(|(pid, before)| CpuWait::of(*pid).since(before));
    Ok(u32::try_from(waited.sum::<Duration>().as_millis())?)
}

/// The longest time between two pictures of the newest publish, by its own clock, in milliseconds.
fn longest_gap(setup: &TaskSetup) -> Result<u32> {
    let seen = setup.receiver.seen();
    let tags = &seen.live().context("it has ended")?.tags;
    let times: Vec<u32> = tags.iter().filter(|tag| tag.is_picture()).map(|tag| tag.time).collect();
    let gaps = times.windows(2).map(|two| two[1].saturating_sub(two[0]));
    gaps.max().context("no pictures")
}

/// Proves TSK-5, TSK-6.
#[tokio::test]
async fn tsk_5_who_goes_and_comes_back_interrupts_nothing() -> Result<()> {
    let setup = TaskSetup::start().await?;
    let (mut red, mut blue) = pushing(&setup).await?;
    let children = setup.all_children(4).await?;
    let before = waits(&children);
    let mut decoded = DecodedPublish::start(setup.receiver.follow(), 640, 360)?;
    decoded.until(&[(240, 100, RED), (560, 100, BLUE), (320, 270, GREEN)]).await?;
    // Its encoder is gone; the server does not notice this at once.
    let file = flashing_file("blue", 1_000, 4_500).await?;
    drop(blue.push);
    let mut away = decoded.until(&[(240, 100, RED), (560, 100, GREEN)]).await?;
    // Five seconds, by the stream's own clock, in which the other picture moves.
    let until = away.time + 5_000;
    let mut bars = Vec::new();
    while away.time < until {
        away = decoded.frame().await?;
        bars.extend((0..320).find(|x| away.picture.at(*x, 170).y > 160));
        bars.dedup();
    }
    ensure!(bars.len() > 30, "the other picture stands still: {bars:?}");
    let url = blue.member.publish().await?;
    blue.push = Ffmpeg::push_file(&file, &url)?;
    decoded.until(&[(240, 100, RED), (560, 100, BLUE)]).await?;
    // The time for which these processes had no processor does not count.
    let (gap, waited) = (longest_gap(&setup)?, starved(&before)?);
    ensure!(
        gap <= 5 * PICTURE_MS + waited,
        "{gap} ms without a picture, {waited} ms without a processor"
    );

    // A new place and a new size are seen soon after the answer. It is not known how many pictures were under way at
    // that moment, so a few more than the eight in composition are permitted.
    for (x, width) in [(0, 320), (0, 640)] {
        let mut wanted = small(&setup);
        wanted["layout"]["users"] = json!([user(200, x, 180, width, 180)]);
        let before = waits(&setup.children()?);
        red.member.update_task(&wanted).await?;
        let seen = setup.receiver.seen();
        let tags = &seen.live().context("it has ended")?.tags;
        let answered = tags.iter().rev().find(|tag| tag.is_picture()).context("no picture")?.time;
        let place = (x + width * 3 / 4, 270, BLUE);
        let changed = decoded.until(&[place, (240, 100, GREEN)]).await?;
        let later = (changed.time - i64::from(answered)) / i64::from(PICTURE_MS);
        let waited = i64::from(starved(&before)? / PICTURE_MS);
        ensure!(later <= 8 + 8 + waited, "{later} pictures behind the answer");
    }
    ensure!(setup.receiver.seen().publishes.len() == 1, "changes of the layout cut the push");
    drop((red, blue));
    setup.server.finish().await
}

impl TaskSetup {
    /// The receiver disappears with all its connections.
    async fn lose_receiver(&mut self) -> Result<SocketAddr> {
        let address = self.receiver.address;
        // The new receiver here is not used.
        self.receiver = Receiver::start().await?;
        Ok(address)
    }
}

/// Proves TSK-9, TSK-10.
#[tokio::test]
async fn tsk_9_a_receiver_that_comes_back_gets_the_stream_again() -> Result<()> {
    let mut setup = TaskSetup::start().await?;
    let (red, mut blue) = pushing(&setup).await?;
    let address = setup.lose_receiver().await?;
    for retry in 1..=2 {
        let told = blue.member.task_is("retrying").await?;
        ensure!(told["retries"] == retry, "{told}");
    }
    setup.receiver = Receiver::start_at(address).await?;
    let told = blue.member.task_is("pushing").await?;
    ensure!(told["retries"].as_u64() >= Some(2), "{told}");
    setup.receiver.pictures(50).await?;
    setup.receiver.assert_one_at_a_time()?;
    drop((red, blue));
    setup.server.finish().await
}

/// Proves TSK-6, TSK-9, TSK-10.
#[tokio::test]
async fn tsk_9_a_receiver_that_is_gone_is_given_up() -> Result<()> {
    let mut setup = TaskSetup::start_with(&[("LIANMAI_TASKS__MAX_RETRIES", "2")]).await?;
    let (mut red, mut blue) = pushing(&setup).await?;
    let wanted = small(&setup);
    let address = setup.lose_receiver().await?;
    for retry in 1..=2 {
        let told = blue.member.task_is("retrying").await?;
        ensure!(told["retries"] == retry, "{told}");
    }
    let told = blue.member.task_is("failed").await?;
    ensure!(told["retries"] == 2, "{told}");
    // An update starts the task again.
    setup.receiver = Receiver::start_at(address).await?;
    red.member.update_task(&wanted).await?;
    let told = blue.member.task_is("pushing").await?;
    ensure!(told["retries"].is_null() && told["revision"] == 2, "{told}");
    red.member.delete_task().await?;
    blue.member.task_is("ended").await?;
    drop((red, blue));
    setup.server.finish().await
}

/// Proves TSK-1, TSK-10.
#[tokio::test]
async fn tsk_1_nothing_is_left_of_a_channel_that_ends() -> Result<()> {
    let setup = TaskSetup::start().await?;
    let (mut red, mut blue) = pushing(&setup).await?;
    // The compositor, an encoder, and a decoder for each member.
    let (server_pid, children) = (setup.server.process.pid()?, setup.all_children(4).await?);
    let count = |name: &str| children.iter().filter(|pid| name_of(**pid) == name).count();
    ensure!(count("ffmpeg") == 3 && count("lianmai-composi") == 1, "{children:?}");
    red.member.call("closeChannel", json!({"holdS": 0})).await?;
    blue.member.task_is("ended").await?;
    gone(&children, Some(server_pid)).await?;
    setup.receiver.until("the end", |seen| seen.live().is_none()).await?;
    ensure!(setup.children()?.is_empty(), "{:?}", setup.children()?);
    drop((red, blue));
    setup.server.finish().await
}

/// Proves TSK-11, TSK-12.
#[tokio::test]
async fn tsk_12_nothing_is_left_of_a_server_that_is_killed_and_the_next_one_goes_on() -> Result<()>
{
    let mut setup = TaskSetup::start().await?;
    let (red, blue) = pushing(&setup).await?;
    let children = setup.all_children(4).await?;
    setup.server.process.kill().await?;
    // At once, so that the next process may start before the children of the last one are gone.
    setup.start_again().await?;
    let mut carl = setup.server.join("room", 300).await?;
    let tasks = &carl.joined["channel"]["tasks"];
    ensure!(tasks[0]["taskId"] == "cdn_1", "{tasks}");
    let seen = setup.receiver.seen();
    if seen.live().is_none_or(|live| live.began == seen.publishes[0].began) {
        carl.task_is("pushing").await?;
    }
    setup.receiver.until("the next publish", |seen| seen.publishes.len() == 2).await?;
    setup.receiver.pictures(25).await?;
    setup.receiver.assert_one_at_a_time()?;
    gone(&children, None).await?;
    drop((red, blue));
    setup.server.finish().await
}

/// Proves TSK-11, TSK-12.
#[tokio::test]
async fn tsk_12_a_task_goes_on_behind_a_clean_stop() -> Result<()> {
    let mut setup = TaskSetup::start().await?;
    let (red, blue) = pushing(&setup).await?;
    let children = setup.all_children(4).await?;
    setup.server.process.signal("TERM").await?;
    let code = setup.server.process.wait().await?;
    ensure!(code == 0, "exit code {code}");
    // A clean stop leaves no child processes.
    gone(&children, None).await?;
    setup.start_again().await?;
    setup.receiver.until("the next publish", |seen| seen.publishes.len() == 2).await?;
    setup.receiver.pictures(25).await?;
    setup.receiver.assert_one_at_a_time()?;
    drop((red, blue));
    setup.server.finish().await
}

/// Proves TSK-9, TSK-11.
#[tokio::test]
async fn tsk_9_processes_that_are_killed_are_begun_anew() -> Result<()> {
    let setup = TaskSetup::start().await?;
    let (red, mut blue) = pushing(&setup).await?;
    let server_pid = setup.server.process.pid()?;
    let mut decoded = DecodedPublish::start(setup.receiver.follow(), 640, 360)?;
    decoded.until(&[(240, 100, RED), (560, 100, BLUE)]).await?;
    // Both decoders are killed: the pictures come back, and nothing else happens.
    let decoders = setup.all_children(4).await?.into_iter().filter(|pid| name_of(*pid) == "ffmpeg");
    let decoders: Vec<_> = decoders.filter(|pid| !is_encoder(*pid)).collect();
    for pid in &decoders {
        kill(*pid).await?;
    }
    gone(&decoders, Some(server_pid)).await?;
    setup.all_children(4).await?;
    let mut bars = [Vec::new(), Vec::new()];
    while bars.iter().any(|bars| bars.len() < 20) {
        let frame = decoded.frame().await?;
        for (bars, x) in bars.iter_mut().zip([0, 320]) {
            bars.extend((0..320).find(|at| frame.picture.at(x + at, 170).y > 160));
            bars.dedup();
        }
    }
    ensure!(setup.receiver.seen().publishes.len() == 1, "it was published anew");
    // The encoder is killed: another one continues.
    let encoder = setup
        .all_children(4)
        .await?
        .into_iter()
        .find(|pid| is_encoder(*pid))
        .context("no encoder")?;
    kill(encoder).await?;
    setup.receiver.pictures(50).await?;
    gone(&[encoder], Some(server_pid)).await?;
    // The compositor is killed: another run begins.
    let compositor = setup.all_children(4).await?.into_iter().find(|pid| name_of(*pid) != "ffmpeg");
    let compositor = compositor.context("no compositor")?;
    let left = descendants(compositor);
    kill(compositor).await?;
    let told = blue.member.task_is("retrying").await?;
    ensure!(told["retries"] == 1, "{told}");
    blue.member.task_is("pushing").await?;
    setup.receiver.pictures(25).await?;
    gone(&[compositor], Some(server_pid)).await?;
    gone(&left, None).await?;
    setup.receiver.assert_one_at_a_time()?;
    setup.server.counts("task_runs", 1).await?;
    drop((red, blue));
    setup.server.finish().await
}

/// Proves TSK-2.
#[tokio::test]
async fn tsk_2_a_node_admits_what_it_has_room_for_and_a_user_its_share() -> Result<()> {
    let setup = TaskSetup::start_with(&[("LIANMAI_TASKS__CPU_PERCENT", "100")]).await?;
    let mut ann = setup.server.join("room", 1).await?;
    let mut bob = setup.server.join("room", 2).await?;
    let mut carl = setup.server.join("room", 3).await?;
    let named = |id: &str| {
        let mut wanted = task(&setup, side_by_side());
        wanted["taskId"] = json!(id);
        wanted["streamUrl"] = json!(setup.receiver.url(id));
        json!({"rtmpTasks": [wanted]})
    };
    ann.call("addTasks", named("a")).await?;
    // This needs more than half of what is left.
    let refused = ann.refusal("addTasks", named("b")).await?;
    ensure!(refused["code"] == 1417 && refused["data"]["name"] == "taskFailed", "{refused}");
    ensure!(refused["data"]["field"] == "rtmpTasks[0]", "{refused}");
    ensure!(refused["message"].as_str().is_some_and(|text| text.contains("no room")), "{refused}");
    bob.call("addTasks", named("c")).await?;
    // There is no room for another task.
    let refused = carl.refusal("addTasks", named("d")).await?;
    ensure!(refused["data"]["name"] == "taskFailed", "{refused}");
    let refused = bob.call("updateTasks", named("c")).await;
    ensure!(refused.is_ok(), "the same is no change: {refused:?}");
    setup.server.finish().await
}
