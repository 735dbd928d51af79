//! Processor time per delivery in one room with paced single events; for comparison, a bare loop that writes a prepared
//! frame to each socket. Both servers run in separate processes and have the same reader. In: a release server, numbers
//! of members and events. Out: microseconds per delivery, and the ratio. Deliberately absent: other traffic.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lianmai_test_support::process::{ServerProcess, cpu_s};
use lianmai_test_support::raw_ws::{RawWs, Received};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::Scratch;

#[expect(clippy::print_stdout, reason = "figures are the output")]
pub(crate) async fn run(server: &Path, members: usize, events: usize, pace_ms: u64) -> Result<()> {
    let ours = ours(server, members, events, pace_ms).await?;
    let bare = bare(members, events, pace_ms).await?;
    println!(
        "fanout: room of {members}, {events} events {pace_ms} ms apart: {ours:.2} us of server CPU per \
         delivery; bare write loop {bare:.2} us; ratio {:.2}",
        ours / bare
    );
    Ok(())
}

async fn ours(server: &Path, members: usize, events: usize, pace_ms: u64) -> Result<f64> {
    let scratch = Scratch::new("fanout")?;
    let env = [
        ("LIANMAI_LOG__FILTER", "warn"),
        ("LIANMAI_LIMITS__COMMANDS_PER_SECOND", "10000"),
        ("LIANMAI_LIMITS__COMMAND_BURST", "10000"),
        // The readers send nothing: without this setting the server would give them up.
        ("LIANMAI_SESSION__DEAD_AFTER_MS", "600000"),
    ];
    let server = ServerProcess::start(server, &scratch.0, &env).await?;
    let join =
        |uid: usize| json!({"appkey": "demo", "channelName": "room", "uid": uid.to_string()});
    let mut readers = JoinSet::new();
    for uid in 1..members {
        let mut member = RawWs::connect(server.public).await?;
        member.call("join", join(uid)).await?;
        readers.spawn(read_messages(member, events));
    }
    let mut sender = RawWs::connect(server.public).await?;
    sender.call("join", join(0)).await?;
    // The events and counts of the joins are over.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = server.cpu_s()?;
    let mut pace = interval(Duration::from_millis(pace_ms));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..events {
        pace.tick().await;
        sender.call("sendMessage", json!({"data": "x".repeat(50)})).await?;
    }
    while let Some(read) = readers.join_next().await {
        read??;
    }
    Ok((server.cpu_s()? - before) * 1e6 / (events * members) as f64)
}

async fn read_messages(mut member: RawWs, events: usize) -> Result<RawWs> {
    let mut seen = 0;
    while seen < events {
        match member.receive().await? {
            Received::Text(text) => {
                seen += text.windows(19).filter(|part| part == b"\"method\":\"message\",").count();
            }
            Received::Pong(_) => {}
            ended => anyhow::bail!("the connection ended: {ended:?}"),
        }
    }
    Ok(member)
}

async fn bare(members: usize, events: usize, pace_ms: u64) -> Result<f64> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("bare")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.stdout.take().context("a piped child has an output")?;
    let line = BufReader::new(output).lines().next_line().await?.context("the bare loop ended")?;
    let address: SocketAddr = line.parse()?;
    let mut readers = JoinSet::new();
    for _ in 1..members {
        readers.spawn(read_frames(RawWs::connect(address).await?, events));
    }
    let mut sender = RawWs::connect(address).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pid = child.id().context("the bare loop ended")?;
    let before = cpu_s(pid)?;
    let mut pace = interval(Duration::from_millis(pace_ms));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..events {
        pace.tick().await;
        sender.send("go").await?;
        ensure!(matches!(sender.receive().await?, Received::Text(_)), "the bare loop ended");
    }
    while let Some(read) = readers.join_next().await {
        read??;
    }
    Ok((cpu_s(pid)? - before) * 1e6 / (events * members) as f64)
}

async fn read_frames(mut member: RawWs, events: usize) -> Result<()> {
    for _ in 0..events {
        ensure!(matches!(member.receive().await?, Received::Text(_)), "the bare loop ended");
    }
    Ok(())
}
