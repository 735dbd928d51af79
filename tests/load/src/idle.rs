//! Memory per idle member: after a snapshot and 20 events, and again after one 16 kB event. The members send pings like
//! clients. If the generator is too slow for that, the server would give members up and the figure would be wrong: then
//! no figure is printed. In: a release server, a number of members. Out: KiB per member. Deliberately absent: a limit
//! to compare with.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lianmai_test_support::process::ServerProcess;
use lianmai_test_support::raw_ws::RawWs;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use crate::Scratch;

const ROOM_SIZE: usize = 10;
const EVENTS: usize = 20;
/// Time for the allocator to return freed memory to the system.
const SETTLE: Duration = Duration::from_secs(10);
/// Interval between the pings of a member; the default of clients is 10 s.
const PING: Duration = Duration::from_secs(8);
/// The server gives up a member that is silent for 25 s; a generator that comes near that is too slow.
const SILENT: Duration = Duration::from_secs(20);

#[expect(clippy::print_stdout, reason = "figures are the output")]
pub(crate) async fn run(server: &Path, members: usize) -> Result<()> {
    let scratch = Scratch::new("idle")?;
    let env = [("LIANMAI_LOG__FILTER", "warn"), ("LIANMAI_LIMITS__MESSAGE_BYTES", "20000")];
    let server = ServerProcess::start(server, &scratch.0, &env).await?;
    let before = server.rss_kib()?;
    let mut rooms = IdleRooms::new();
    let measured = async {
        for room in 0..members / ROOM_SIZE {
            let mut room_members = Vec::new();
            for index in 0..ROOM_SIZE {
                let mut member = RawWs::connect(server.public).await?;
                let uid = (room * ROOM_SIZE + index).to_string();
                let name = format!("room-{room}");
                let join = json!({"appkey": "demo", "channelName": name, "uid": uid});
                member.call("join", join).await?;
                room_members.push(member);
            }
            rooms.add(room_members);
        }
        rooms.say(EVENTS, 100).await?;
        sleep(SETTLE).await;
        let idle = server.rss_kib()?;
        rooms.say(1, 16_000).await?;
        sleep(SETTLE).await;
        anyhow::Ok((idle, server.rss_kib()?))
    };
    let measured = measured.await;
    let late = rooms.silent_for();
    // If the generator was too slow, that is also the cause of any other error.
    ensure!(
        late < SILENT,
        "no figure: this generator left members silent for {late:.1?}, so it is the bottleneck, and not the server. Ask \
         for fewer members, or for a machine with less to do ({:?})",
        measured.err()
    );
    let (idle, after) = measured?;
    let per_member = |rss: u64| (rss - before) as f64 / members as f64;
    println!(
        "idle: {members} members in rooms of {ROOM_SIZE}: {:.2} KiB each after a snapshot and {EVENTS} events, \
         {:.2} KiB each after one event of 16 kB (process: {before} -> {idle} -> {after} KiB)",
        per_member(idle),
        per_member(after)
    );
    Ok(())
}

/// The next round of all rooms: the number of messages, and the bytes of each.
type Round = (usize, usize);

/// All rooms. Each has a task of its own, which sends pings for its members.
struct IdleRooms {
    rooms: JoinSet<Result<()>>,
    round: watch::Sender<Round>,
    done: (mpsc::UnboundedSender<()>, mpsc::UnboundedReceiver<()>),
    /// The longest silence of a member, in milliseconds.
    silent_ms: Arc<AtomicU64>,
}

impl IdleRooms {
    fn new() -> Self {
        IdleRooms {
            rooms: JoinSet::new(),
            round: watch::Sender::new((0, 0)),
            done: mpsc::unbounded_channel(),
            silent_ms: Arc::default(),
        }
    }

    fn add(&mut self, members: Vec<RawWs>) {
        let (mut round, done) = (self.round.subscribe(), self.done.0.clone());
        let silent_ms = Arc::clone(&self.silent_ms);
        self.rooms.spawn(async move {
            let mut room = IdleRoom { members, spoke: Instant::now(), silent_ms };
            let mut tick = interval(PING);
            loop {
                tokio::select! {
                    changed = round.changed() => {
                        if changed.is_err() {
                            return Ok(());
                        }
                        let (count, bytes) = *round.borrow_and_update();
                        room.say(count, bytes).await?;
                        done.send(()).context("nobody waits")?;
                    }
                    _ = tick.tick() => room.ping().await?,
                }
            }
        });
    }

    /// In each room one member sends messages, and all others read them.
    async fn say(&mut self, count: usize, bytes: usize) -> Result<()> {
        let mut left = self.rooms.len();
        self.round.send_replace((count, bytes));
        while left > 0 {
            tokio::select! {
                _ = self.done.1.recv() => left -= 1,
                ended = self.rooms.join_next() => {
                    ended.context("no rooms")???;
                }
            }
        }
        Ok(())
    }

    fn silent_for(&self) -> Duration {
        Duration::from_millis(self.silent_ms.load(Ordering::Relaxed))
    }
}

struct IdleRoom {
    members: Vec<RawWs>,
    /// Time since which every member has sent something.
    spoke: Instant,
    silent_ms: Arc<AtomicU64>,
}

impl IdleRoom {
    async fn ping(&mut self) -> Result<()> {
        let now = Instant::now();
        for member in &mut self.members {
            member.request("ping", json!({})).await?;
        }
        let silent = self.spoke.elapsed().as_millis();
        self.silent_ms.fetch_max(u64::try_from(silent).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.spoke = now;
        // Read at once, so that no data waits in a socket.
        for member in &mut self.members {
            member.answer(member.last_id()).await?;
        }
        Ok(())
    }

    async fn say(&mut self, count: usize, bytes: usize) -> Result<()> {
        for _ in 0..count {
            self.members[0].call("sendMessage", json!({"data": "x".repeat(bytes)})).await?;
        }
        for member in &mut self.members[1..] {
            let mut seen = 0;
            while seen < count {
                let messages = member.messages().await?;
                seen += messages.iter().filter(|message| message["method"] == "message").count();
            }
        }
        Ok(())
    }
}
