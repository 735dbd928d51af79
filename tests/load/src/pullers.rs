//! The cost of delivering one 2 Mbit/s stream to many players, and the delay that a player sees: from this relay by
//! HTTP-FLV and by RTMP, and from nginx-rtmp by RTMP, with the same pushes and players in the same run. In: a release
//! server, a number of players. Out: processor time, memory, delays. Deliberately absent: decoding.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use lianmai_media_plane::rtmp::message::message_type;
use lianmai_test_support::nginx::Nginx;
use lianmai_test_support::process::{ServerProcess, cpu_s, rss_kib};
use lianmai_test_support::raw_ws::RawWs;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use crate::Scratch;
use crate::rtmp::{Client, Target};

const WINDOW: Duration = Duration::from_secs(12);
/// Time until all players are connected and have read their initial burst.
const SETTLE: Duration = Duration::from_secs(3);
/// Number of players that come late, at different times between two keyframes.
const LATE: u32 = 15;
const LATE_STEP: Duration = Duration::from_millis(137);

pub(crate) async fn run(server: &Path, pullers: usize) -> Result<()> {
    let scratch = Scratch::new("pullers")?;
    let sample = Arc::new(sample(&scratch.0).await?);
    for is_flv in [true, false] {
        let data = scratch.0.join(if is_flv { "flv" } else { "rtmp" });
        let server =
            ServerProcess::start(server, &data, &[("LIANMAI_LOG__FILTER", "warn")]).await?;
        let room = PlayedRoom::new(&server, pullers + 1).await?;
        let pid = server.pid()?;
        let players =
            if is_flv { Players::Flv(room.flv) } else { Players::Rtmp(room.pulls.clone()) };
        let name = if is_flv { "lianmai, HTTP-FLV" } else { "lianmai, RTMP" };
        measure(name, pid, &sample, &room.push, players, pullers, &room.pulls[pullers]).await?;
    }
    let nginx = Nginx::start(&scratch.0).await?;
    let target = Target::parse(&format!("rtmp://{}/live/a", nginx.address))?;
    let pid = nginx.pid()?;
    let players = Players::Rtmp(vec![target.clone(); pullers + 1]);
    measure("nginx-rtmp, RTMP", pid, &sample, &target, players, pullers, &target).await
}

/// Tags of media: type, time, body.
type Sample = Vec<(u8, u32, Vec<u8>)>;

/// 10 s at 2 Mbit/s with one keyframe per second.
async fn sample(folder: &Path) -> Result<Sample> {
    let file = folder.with_extension("flv");
    let encode =
        ["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25", "-f", "lavfi", "-i", "sine"];
    let codec = ["-t", "10", "-c:v", "libx264", "-preset", "veryfast", "-g", "25", "-b:v", "2M"];
    let rate =
        ["-minrate", "2M", "-maxrate", "2M", "-bufsize", "2M", "-nal-hrd", "cbr", "-c:a", "aac"];
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(encode.iter().chain(&codec).chain(&rate))
        .arg(&file)
        .status()
        .await
        .context("ffmpeg")?;
    ensure!(made.success(), "ffmpeg could not make the sample");
    let bytes = std::fs::read(&file)?;
    std::fs::remove_file(file)?;
    let (mut rest, mut tags) = (&bytes[13..], Vec::new());
    while let Some((head, tail)) = rest.split_first_chunk::<11>() {
        let length = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        let time = u32::from_be_bytes([head[7], head[4], head[5], head[6]]);
        if head[0] != message_type::DATA {
            tags.push((head[0], time, tail[..length].to_vec()));
        }
        rest = &tail[length + 4..];
    }
    Ok(tags)
}

/// A member that publishes, and further members that can each play it.
struct PlayedRoom {
    push: Target,
    pulls: Vec<Target>,
    flv: Vec<String>,
    _members: Vec<RawWs>,
}

impl PlayedRoom {
    async fn new(server: &ServerProcess, viewers: usize) -> Result<Self> {
        let join =
            |uid: u32| json!({"appkey": "demo", "channelName": "room", "uid": uid.to_string()});
        let mut publisher = RawWs::connect(server.public).await?;
        publisher.call("join", join(1)).await?;
        let push = publisher.call("publish", json!({})).await?;
        let push = Target::parse(push["url"].as_str().context("no push URL")?)?;
        let mut room =
            PlayedRoom { push, pulls: Vec::new(), flv: Vec::new(), _members: vec![publisher] };
        for uid in 2..2 + u32::try_from(viewers)? {
            // A separate member per player, because a viewer may play a stream only a few times.
            let mut viewer = RawWs::connect(server.public).await?;
            viewer.call("join", join(uid)).await?;
            for kind in ["audio", "video"] {
                let pull = json!({"uid": "1", "mediaType": kind});
                let pull = viewer.call("subscribe", pull).await?;
                if kind == "video" {
                    let url = |name: &str| pull["urls"][name].as_str().context("no pull URL");
                    room.pulls.push(Target::parse(url("rtmp")?)?);
                    room.flv.push(url("flv")?.to_owned());
                }
            }
            room._members.push(viewer);
        }
        Ok(room)
    }
}

enum Players {
    Flv(Vec<String>),
    Rtmp(Vec<Target>),
}

/// The time at which each message was sent, by the hash of its contents.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<HashMap<u64, Instant>>>, RandomState);

impl Sent {
    fn record(&self, body: &[u8]) {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sent.insert(self.1.hash_one(body), Instant::now());
    }

    fn since(&self, body: &[u8]) -> Option<Duration> {
        let sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sent.get(&self.1.hash_one(body)).map(Instant::elapsed)
    }
}

/// Pushes the sample repeatedly in real time.
async fn push(mut client: Client, sample: Arc<Sample>, sent: Sent) -> Result<()> {
    let begin = tokio::time::Instant::now();
    let length = sample.last().map_or(0, |(_, time, _)| time + 40);
    for round in 0.. {
        for (type_id, time, body) in sample.iter() {
            let time = round * length + time;
            sleep_until(begin + Duration::from_millis(time.into())).await;
            sent.record(body);
            client.media(*type_id, time, body).await?;
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "figures are the output")]
async fn measure(
    name: &str,
    pid: u32,
    sample: &Arc<Sample>,
    target: &Target,
    players: Players,
    count: usize,
    last: &Target,
) -> Result<()> {
    let sent = Sent::default();
    let mut pushes = JoinSet::new();
    pushes.spawn(push(Client::publish(target).await?, sample.clone(), sent.clone()));
    let mut readers = JoinSet::new();
    match players {
        Players::Flv(urls) => {
            for url in urls.into_iter().take(count) {
                readers.spawn(read_flv(url));
            }
        }
        Players::Rtmp(targets) => {
            for target in targets.into_iter().take(count) {
                readers.spawn(async move { Client::play(&target).await?.discard().await });
            }
        }
    }
    // One more player, whose delays are measured.
    let delays = Arc::new(Mutex::new(Histogram::<u64>::new(3)?));
    let watched = tokio::spawn(watch(Client::play(last).await?, sent, delays.clone()));
    sleep(SETTLE).await;
    delays.lock().unwrap_or_else(PoisonError::into_inner).reset();
    let (before, start) = (cpu_s(pid)?, Instant::now());
    sleep(WINDOW).await;
    let cpu = (cpu_s(pid)? - before) / start.elapsed().as_secs_f64() * 100.0;
    let rss = rss_kib(pid)?;
    let (p50, p99) = {
        let delays = delays.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(!delays.is_empty(), "nothing was played");
        (delays.value_at_quantile(0.5), delays.value_at_quantile(0.99))
    };
    ensure!(!watched.is_finished(), "the watched player was cut");
    watched.abort();
    let mut late = Histogram::<u64>::new(3)?;
    for _ in 0..LATE {
        sleep(LATE_STEP).await;
        late += u64::try_from(first_frame(last).await?.as_micros())?;
    }
    ensure!(readers.try_join_next().is_none(), "a player was cut");
    ensure!(pushes.try_join_next().is_none(), "the push was cut");
    let ms = |us: u64| us as f64 / 1000.0;
    println!(
        "{name:>18}: 2 Mbit/s to {count} players: {cpu:.1} % of a core, RSS {rss} KiB, delay p50 {:.2} ms p99 \
         {:.2} ms, first frame of a late player p50 {:.1} ms p99 {:.1} ms",
        ms(p50),
        ms(p99),
        ms(late.value_at_quantile(0.5)),
        ms(late.value_at_quantile(0.99)),
    );
    Ok(())
}

async fn read_flv(url: String) -> Result<()> {
    let (address, path) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).context("no FLV URL")?;
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = vec![0; 64 * 1024];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Records the delay of each picture since its push, in microseconds.
async fn watch(mut player: Client, sent: Sent, delays: Arc<Mutex<Histogram<u64>>>) -> Result<()> {
    loop {
        let message = player.next().await?;
        if message.type_id == message_type::VIDEO
            && let Some(delay) = sent.since(&message.payload)
        {
            let delay = u64::try_from(delay.as_micros())?;
            delays.lock().unwrap_or_else(PoisonError::into_inner).record(delay.max(1))?;
        }
    }
}

/// Time from the connection of a player to its first keyframe.
async fn first_frame(target: &Target) -> Result<Duration> {
    let start = Instant::now();
    let first = async {
        let mut player = Client::play(target).await?;
        loop {
            let message = player.next().await?;
            if message.type_id == message_type::VIDEO && message.payload.starts_with(&[0x17, 1]) {
                return anyhow::Ok(start.elapsed());
            }
        }
    };
    timeout(WINDOW, first).await.context("no keyframe came")?
}
