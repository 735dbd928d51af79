//! The cost of a push task and the time until its first picture, for several numbers of members at 1280x720 with 15
//! pictures per second; for comparison, one plain ffmpeg that composes the same streams in the same places, in the same
//! run. Also the offset between picture and sound in a long run. In: a release server, with its compositor next to it.
//! Out: figures. Deliberately absent: members that come, go and move, which the plain ffmpeg does not support.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lianmai_test_support::children::{Usage, descendants, is_encoder, name_of};
use lianmai_test_support::decoding::{DecodedPublish, Media};
use lianmai_test_support::media::Ffmpeg;
use lianmai_test_support::process::ServerProcess;
use lianmai_test_support::raw_ws::RawWs;
use lianmai_test_support::receiver::{Receiver, Seen};
use lianmai_test_support::samples::{Beacon, flashing_file, media_file, median};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::Scratch;

const CANVAS: (u32, u32) = (1280, 720);
const FPS: u32 = 15;
const KBPS: u32 = 1_200;
/// Time from the first picture until the load is steady.
const SETTLE: Duration = Duration::from_secs(10);
const WINDOW: Duration = Duration::from_secs(20);
/// The probing options that a compositor uses before it decodes a stream.
const PROBING: &str = "-probesize 500000 -analyzeduration 500000";
const MINUTE_MS: i64 = 60_000;

/// Members that publish, on a separate server.
struct PublishingRoom {
    server: ServerProcess,
    members: Vec<RawWs>,
    _pushes: Vec<Ffmpeg>,
    _scratch: Scratch,
}

impl PublishingRoom {
    /// Each member pushes one of these files, in turn.
    async fn new(server: &Path, name: &str, files: &[PathBuf], members: usize) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let env = [
            ("LIANMAI_LOG__FILTER", "warn"),
            ("LIANMAI_SESSION__DEAD_AFTER_MS", "600000"),
            ("LIANMAI_TASKS__SERVE", "true"),
            ("LIANMAI_TASKS__CPU_PERCENT", "10000"),
            ("LIANMAI_TASKS__MEMORY_BYTES", "17179869184"),
        ];
        let server = ServerProcess::start(server, &scratch.0, &env).await?;
        let mut room =
            PublishingRoom { server, members: Vec::new(), _pushes: Vec::new(), _scratch: scratch };
        for (uid, file) in (1..=members).zip(files.iter().cycle()) {
            let mut member = RawWs::connect(room.server.public).await?;
            let join = json!({"appkey": "demo", "channelName": "room", "uid": uid.to_string()});
            member.call("join", join).await?;
            let push = member.call("publish", json!({"mediaType": ""})).await?;
            let url = push["url"].as_str().context("no push URL")?;
            room._pushes.push(Ffmpeg::push_file(file, url)?);
            room.members.push(member);
        }
        Ok(room)
    }

    /// The URLs by which one more member plays each of the others.
    async fn pulls(&mut self) -> Result<Vec<String>> {
        let count = self.members.len();
        let mut viewer = RawWs::connect(self.server.public).await?;
        let join = json!({"appkey": "demo", "channelName": "room", "uid": "100"});
        viewer.call("join", join).await?;
        let mut pulls = Vec::new();
        for uid in 1..=count {
            let play = |kind| json!({"uid": uid.to_string(), "mediaType": kind});
            viewer.call("subscribe", play("audio")).await?;
            let pull = viewer.call("subscribe", play("video")).await?;
            pulls.push(pull["urls"]["rtmp"].as_str().context("no pull URL")?.to_owned());
        }
        self.members.push(viewer);
        Ok(pulls)
    }

    async fn add_task(
        &self,
        receiver: &Receiver,
        canvas: (u32, u32),
        cells: &[Cell],
    ) -> Result<()> {
        let user = |(uid, cell): (usize, &Cell)| {
            json!({"uid": uid.to_string(), "x": cell.x, "y": cell.y, "width": cell.width,
                "height": cell.height, "pushAudio": true, "pushVideo": true})
        };
        let users: Vec<Value> = (1..).zip(cells).map(user).collect();
        let task = json!({
            "taskId": "bench", "streamUrl": receiver.url("composed"), "fps": FPS, "videoKbps": KBPS,
            "layout": {"canvas": {"width": canvas.0, "height": canvas.1}, "users": users},
        });
        let path = "/v1/apps/demo/channels/room/tasks";
        let mut answer = self.server.admin_post(path, &json!({"rtmpTasks": [task]})).await?;
        let text = answer.text().await?;
        ensure!(answer.status == 200, "{} {text}", answer.status);
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

/// Places for `count` members: rows of 16:9.
fn cells(count: usize) -> Result<Vec<Cell>> {
    let columns = (1_usize..).find(|columns| columns * columns >= count).context("no number")?;
    let columns = u32::try_from(columns)?;
    let (width, height) = ((CANVAS.0 / columns) & !1, (CANVAS.0 / columns * 9 / 16) & !1);
    let cell =
        |at: u32| Cell { x: width * (at % columns), y: height * (at / columns), width, height };
    Ok((0..u32::try_from(count)?).map(cell).collect())
}

/// Time from `begin` until a receiver has a keyframe.
async fn first_picture(receiver: &Receiver, begin: Instant) -> Result<Duration> {
    let has_one =
        |seen: &Seen| seen.live().is_some_and(|live| live.tags.iter().any(|tag| tag.is_key()));
    receiver.until("a keyframe", has_one).await?;
    Ok(begin.elapsed())
}

pub(crate) async fn run(server: &Path, members: &[usize]) -> Result<()> {
    let sample = format!(
        "-f lavfi -i testsrc2=size={}x{}:rate={FPS} -f lavfi -i sine=sample_rate=44100 -t 60 \
         -c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -g {FPS} -b:v {KBPS}k \
         -maxrate {KBPS}k -bufsize {KBPS}k -c:a aac -b:a 64k",
        CANVAS.0, CANVAS.1,
    );
    let sample = media_file("bench-720p15.flv", sample.split_whitespace()).await?;
    for count in members {
        composed(server, &sample, *count).await?;
        plain(server, &sample, *count).await?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "figures are the output")]
async fn composed(server: &Path, sample: &Path, count: usize) -> Result<()> {
    let room = PublishingRoom::new(server, "compose", &[sample.to_owned()], count).await?;
    let receiver = Receiver::start().await?;
    let begin = Instant::now();
    room.add_task(&receiver, CANVAS, &cells(count)?).await?;
    let first = first_picture(&receiver, begin).await?;
    sleep(SETTLE).await;
    let pids = descendants(room.server.pid()?);
    ensure!(pids.len() == count + 2, "not a process for each member: {pids:?}");
    let [mut compositor, mut encoder, mut decoders, mut all] = [Usage::default(); 4];
    for (pid, usage) in pids.iter().zip(Usage::of(&pids, WINDOW).await?) {
        let part = match name_of(*pid).as_str() {
            "ffmpeg" if is_encoder(*pid) => &mut encoder,
            "ffmpeg" => &mut decoders,
            _ => &mut compositor,
        };
        *part += usage;
        all += usage;
    }
    println!(
        "{count} members, a push task: first picture {first:.2?} after the request; {:.1} % of a core: compositor {:.1}, \
         encoder {:.1}, decoders {:.1}; RSS {} MiB: compositor {}, encoder {}, decoders {}; {} MiB what they share counted \
         once",
        all.cpu,
        compositor.cpu,
        encoder.cpu,
        decoders.cpu,
        mib(all.rss_kib),
        mib(compositor.rss_kib),
        mib(encoder.rss_kib),
        mib(decoders.rss_kib),
        mib(all.pss_kib),
    );
    Ok(())
}

#[expect(clippy::print_stdout, reason = "figures are the output")]
async fn plain(server: &Path, sample: &Path, count: usize) -> Result<()> {
    let mut room = PublishingRoom::new(server, "plain", &[sample.to_owned()], count).await?;
    let receiver = Receiver::start().await?;
    let pulls = room.pulls().await?;
    let begin = Instant::now();
    let ffmpeg = overlay(&pulls, &cells(count)?, &receiver.url("plain"))?;
    let first = first_picture(&receiver, begin).await?;
    sleep(SETTLE).await;
    let pid = ffmpeg.id().context("the plain ffmpeg has ended")?;
    let usage = Usage::of(&[pid], WINDOW).await?.into_iter().next().context("no figure")?;
    println!(
        "{count} members, one plain ffmpeg: first picture {first:.2?} after its start; {:.1} % of a core; RSS {} MiB, \
         {} MiB what others share counted once",
        usage.cpu,
        mib(usage.rss_kib),
        mib(usage.pss_kib),
    );
    Ok(())
}

fn mib(kib: u64) -> u64 {
    kib.div_ceil(1024)
}

/// Starts one ffmpeg that does the work of a task, for inputs that exist from the beginning and stay. It encodes like
/// the encoder of a task.
fn overlay(pulls: &[String], cells: &[Cell], to: &str) -> Result<Child> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-nostdin"]);
    let (mut graph, mut sounds) = (String::new(), String::new());
    graph.push_str(&format!("color=c=black:size={}x{}:rate={FPS}[on0]", CANVAS.0, CANVAS.1));
    for (at, (url, cell)) in pulls.iter().zip(cells).enumerate() {
        ffmpeg.args(PROBING.split(' ')).args(["-i", url]);
        let Cell { x, y, width, height } = *cell;
        graph.push_str(&format!(
            ";[{at}:v]fps={FPS},scale={width}:{height}:flags=bilinear[v{at}];\
             [on{at}][v{at}]overlay={x}:{y}[on{}]",
            at + 1
        ));
        sounds.push_str(&format!("[{at}:a]"));
    }
    let count = pulls.len();
    graph.push_str(&format!(";{sounds}amix=inputs={count}:normalize=0[sound]"));
    ffmpeg.args(["-filter_complex", &graph, "-map", &format!("[on{count}]"), "-map", "[sound]"]);
    let distance = 2 * FPS;
    let encoding = format!(
        "-c:v libx264 -preset veryfast -tune zerolatency -profile:v main -pix_fmt yuv420p -bf 0 -sc_threshold 0 -threads 2 \
         -g {distance} -keyint_min {distance} -b:v {KBPS}k -maxrate {KBPS}k -bufsize {}k -r {FPS} \
         -c:a aac -b:a 64k -ar 48000 -ac 2 -flush_packets 1 -f flv",
        2 * KBPS
    );
    ffmpeg.args(encoding.split_whitespace()).arg(to).kill_on_drop(true);
    ffmpeg.stdin(std::process::Stdio::null()).spawn().context("ffmpeg")
}

/// Measures two members whose pictures flash and whose sounds beep, for `minutes` by the stream's own clock.
#[expect(clippy::print_stdout, reason = "figures are the output")]
pub(crate) async fn drift(server: &Path, minutes: i64) -> Result<()> {
    let files =
        [flashing_file("red", 440, 3_000).await?, flashing_file("blue", 1_000, 4_500).await?];
    let mut room = PublishingRoom::new(server, "drift", &files, files.len()).await?;
    let receiver = Receiver::start().await?;
    let canvas = (640, 360);
    let cell = |x| Cell { x, y: 0, width: 320, height: 180 };
    room.add_task(&receiver, canvas, &[cell(0), cell(320)]).await?;
    first_picture(&receiver, Instant::now()).await?;
    let mut decoded = DecodedPublish::start(receiver.follow(), canvas.0, canvas.1)?;
    let mut beacons = [Beacon::new((50, 40), 3_000.0), Beacon::new((370, 40), 4_500.0)];
    let begin = decoded.frame().await?.time;
    let mut minute = 0;
    while minute < minutes {
        let media = decoded.next().await?;
        for beacon in &mut beacons {
            beacon.observe(&media);
        }
        if let Media::Frame(frame) = media
            && frame.time - begin >= (minute + 1) * MINUTE_MS
        {
            for (beacon, color) in beacons.iter().zip(["red", "blue"]) {
                let of = |(time, offset)| of_minute(begin, minute, time).then_some(offset);
                let offset = median(beacon.offsets().into_iter().filter_map(of));
                let offset = offset.context("no flash of a minute has its beep")?;
                println!("minute {}, {color}: a flash is {offset} ms behind its beep", minute + 1);
            }
            minute += 1;
            // The server would give up members that are silent for too long.
            for member in &mut room.members {
                member.call("ping", json!({})).await?;
            }
        }
    }
    let publishes = receiver.seen().publishes.len();
    println!("{minutes} minutes, {publishes} publishes");
    for (beacon, color) in beacons.iter().zip(["red", "blue"]) {
        let of = |wanted: i64| {
            let of = |(time, offset)| of_minute(begin, wanted, time).then_some(offset);
            median(beacon.offsets().into_iter().filter_map(of))
        };
        let (first, last) = of(0).zip(of(minutes - 1)).context("no flash has its beep")?;
        let worst = beacon.offsets().into_iter().map(|(_, offset)| offset.abs()).max();
        println!(
            "{color}: {first} ms in the first minute, {last} ms in the last, {} ms at most of any flash",
            worst.unwrap_or_default()
        );
    }
    Ok(())
}

/// Whether a time lies in a minute; the first minute is 0.
fn of_minute(begin: i64, minute: i64, time: i64) -> bool {
    (time - begin).div_euclid(MINUTE_MS) == minute
}
