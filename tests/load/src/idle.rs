//! Memory per idle joined member: after a snapshot and 20 events, and again after one 16 kB event.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use lianmai_test_support::process::ServerProcess;
use lianmai_test_support::raw_ws::RawWs;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Scratch;

const ROOM: usize = 10;
const EVENTS: usize = 20;
/// What was freed is given back to the system, or not, within this time.
const REST: Duration = Duration::from_secs(10);

#[expect(clippy::print_stdout, reason = "figures are the output")]
pub(crate) async fn run(server: &Path, members: usize) -> Result<()> {
    let scratch = Scratch::new("idle")?;
    let env = [("LIANMAI_LOG__FILTER", "warn"), ("LIANMAI_LIMITS__MESSAGE_BYTES", "20000")];
    let server = ServerProcess::start(server, &scratch.0, &env).await?;
    let before = server.rss_kib()?;
    let mut rooms = Vec::new();
    for room in 0..members / ROOM {
        let mut room_members = Vec::new();
        for index in 0..ROOM {
            let mut member = RawWs::connect(server.public).await?;
            let uid = (room * ROOM + index).to_string();
            let name = format!("room-{room}");
            member.call("join", json!({"appkey": "demo", "channelName": name, "uid": uid})).await?;
            room_members.push(member);
        }
        rooms.push(room_members);
    }
    let mut rooms = say(rooms, EVENTS, 100).await?;
    sleep(REST).await;
    let idle = server.rss_kib()?;
    rooms = say(rooms, 1, 16_000).await?;
    sleep(REST).await;
    let after = server.rss_kib()?;
    let per_member = |rss: u64| (rss - before) as f64 / members as f64;
    println!(
        "idle: {members} members in rooms of {ROOM}: {:.2} KiB each after a snapshot and {EVENTS} events, \
         {:.2} KiB each after one event of 16 kB (process: {before} -> {idle} -> {after} KiB)",
        per_member(idle),
        per_member(after)
    );
    drop(rooms);
    Ok(())
}

/// One member of each room sends messages; everybody reads them all.
async fn say(rooms: Vec<Vec<RawWs>>, count: usize, bytes: usize) -> Result<Vec<Vec<RawWs>>> {
    let mut tasks = JoinSet::new();
    for mut room in rooms {
        tasks.spawn(async move {
            for _ in 0..count {
                room[0].call("sendMessage", json!({"data": "x".repeat(bytes)})).await?;
            }
            for member in &mut room[1..] {
                let mut seen = 0;
                while seen < count {
                    let messages = member.messages().await?;
                    seen +=
                        messages.iter().filter(|message| message["method"] == "message").count();
                }
            }
            anyhow::Ok(room)
        });
    }
    let mut rooms = Vec::new();
    while let Some(room) = tasks.join_next().await {
        rooms.push(room??);
    }
    Ok(rooms)
}
