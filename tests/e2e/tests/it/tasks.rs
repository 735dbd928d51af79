//! What a receiver sees and hears of a push task: each member where and as the layout says, and nobody else.

use anyhow::{Context, Result, ensure};
use lianmai_compositor::picture::Picture;
use lianmai_test_support::media::Ffmpeg;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::stage::Scratch;
use crate::tasks_stage::{Air, BLUE, GREEN, RED, YELLOW, side_by_side, small, task, user};
use crate::watching::{Media, RATE, Watching, flashing, loudness};

/// Where the bar is that moves with each frame: its left edge within a rectangle of 640x360.
fn bar(picture: &Picture, x: u32) -> Option<u32> {
    (0..640).find(|at| picture.at(x + at, 340).y > 200)
}

/// Proves TSK-1, TSK-4, TSK-5, TSK-10.
#[tokio::test]
async fn tsk_5_members_are_seen_and_heard_where_the_layout_says() -> Result<()> {
    let air = Air::start().await?;
    let (mut red, mut blue) = air.hosts().await?;
    red.member.add_task(&task(&air, side_by_side())).await?;
    let told = blue.member.task_is("pushing").await?;
    ensure!(told["uid"] == "100" && told["revision"] == 1, "{told}");
    let url = format!("rtmp://{}/live/***", air.receiver.address);
    ensure!(told["streamUrl"] == url, "{told}");
    air.receiver
        .until("a keyframe", |seen| {
            seen.live().is_some_and(|live| live.tags.iter().any(|tag| tag.is_key()))
        })
        .await?;
    let mut watching = Watching::start(air.receiver.follow(), 1280, 720)?;
    watching
        .until(&[(480, 200, RED), (1120, 200, BLUE), (640, 540, GREEN), (30, 400, GREEN)])
        .await?;
    // Both pictures move.
    let mut bars = [Vec::new(), Vec::new()];
    for _ in 0..50 {
        let frame = watching.frame().await?;
        for (bars, x) in bars.iter_mut().zip([0, 640]) {
            bars.extend(bar(&frame.picture, x));
            bars.dedup();
        }
    }
    ensure!(bars.iter().all(|bars| bars.len() > 10), "they stand still: {bars:?}");
    let heard = watching.hear(2 * RATE).await?;
    for tone in [440.0, 1_000.0] {
        ensure!(loudness(&heard, tone) > 300.0, "{tone} Hz: {}", loudness(&heard, tone));
    }

    // One is not heard any more, and smaller; of the other all is seen.
    let mut small = user(100, 0, 0, 360, 360);
    small["adaption"] = json!(0);
    let mut quiet = user(200, 640, 360, 360, 360);
    quiet["pushAudio"] = json!(false);
    red.member.update_task(&task(&air, json!([small, quiet]))).await?;
    // Bars of the canvas above and below the first one; the second fills its rectangle.
    watching
        .until(&[
            (270, 200, RED),
            (180, 20, GREEN),
            (180, 340, GREEN),
            (960, 600, BLUE),
            (820, 380, BLUE),
            (1120, 200, GREEN),
        ])
        .await?;
    // What was mixed before the change has been heard by then.
    watching.hear(RATE).await?;
    let heard = watching.hear(2 * RATE).await?;
    let (is, is_not) = (loudness(&heard, 440.0), loudness(&heard, 1_000.0));
    ensure!(is_not < is / 100.0, "not 40 dB less: {is_not} beside {is}");

    // The tutorial's own: both in one place, the later in front; then by `zOrder`.
    let mut both = json!([user(100, 0, 0, 640, 360), user(200, 0, 0, 640, 360)]);
    red.member.update_task(&task(&air, both.clone())).await?;
    watching.until(&[(480, 200, BLUE), (960, 600, GREEN)]).await?;
    both[0]["zOrder"] = json!(1);
    red.member.update_task(&task(&air, both)).await?;
    watching.until(&[(480, 200, RED)]).await?;

    red.member.delete_task().await?;
    blue.member.task_is("ended").await?;
    air.receiver.until("the end", |seen| seen.live().is_none()).await?;
    air.receiver.assert_one_at_a_time()?;
    ensure!(air.receiver.seen().publishes.len() == 1, "changes of the layout cut the push");
    let log = air.stage.server.log().join("\n");
    ensure!(!log.contains("s3cret") && !log.contains("key?"), "a secret is in the log: {log}");
    drop((red.push, blue.push));
    air.stage.finish().await
}

/// Serves one file to whoever asks.
async fn serve(body: Vec<u8>) -> Result<(String, JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let served = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
        }
    });
    Ok((format!("http://{address}"), served))
}

/// Proves TSK-5, TSK-10.
#[tokio::test]
async fn tsk_5_an_image_is_seen_while_a_member_is_away() -> Result<()> {
    let air = Air::start().await?;
    let scratch = Scratch::new()?;
    let file = scratch.0.join("yellow.png");
    let made = Command::new("ffmpeg")
        .args("-v error -nostdin -f lavfi -i color=c=yellow:size=64x36 -frames:v 1".split(' '))
        .arg(&file)
        .status()
        .await?;
    ensure!(made.success(), "ffmpeg: {made}");
    let (base, _served) = serve(std::fs::read(&file)?).await?;
    let (mut red, mut blue) = air.hosts().await?;
    let mut wanted = small(&air);
    wanted["layout"]["images"] = json!([
        {"url": format!("{base}/place.png?s3cret"), "x": 320, "y": 0, "width": 320, "height": 180},
        {"url": "http://127.0.0.1:9/none.png?s3cret", "x": 0, "y": 180, "width": 320, "height": 180},
    ]);
    red.member.add_task(&wanted).await?;
    red.member.task_is("pushing").await?;
    // One of the images cannot be had, which stops nothing.
    red.member.hear("rtmpTasksStatus", |told| told["code"] == 512).await?;
    air.receiver.pictures(1).await?;
    let mut watching = Watching::start(air.receiver.follow(), 640, 360)?;
    watching.until(&[(240, 100, RED), (560, 100, BLUE), (160, 270, GREEN)]).await?;
    blue.member.call("unpublish", json!({"mediaType": ""})).await?;
    watching.until(&[(240, 100, RED), (560, 100, YELLOW), (160, 270, GREEN)]).await?;
    let file = flashing("blue", 1_000, 4_500).await?;
    let _push = Ffmpeg::push_file(&file, &blue.member.publish().await?)?;
    watching.until(&[(240, 100, RED), (560, 100, BLUE)]).await?;
    ensure!(air.receiver.seen().publishes.len() == 1, "who comes and goes cuts the push");
    let log = air.stage.server.log().join("\n");
    ensure!(!log.contains("s3cret"), "a secret is in the log: {log}");
    air.stage.finish().await
}

/// When something begins in each second: a flash at a place, or a beep.
fn begins(times: &[(i64, bool)]) -> Vec<i64> {
    let edges = times.windows(2).filter(|two| !two[0].1 && two[1].1);
    edges.map(|two| two[1].0).collect()
}

/// How much later a flash comes than its beep, at the median, in milliseconds.
fn offset(flashes: &[i64], beeps: &[i64]) -> Result<i64> {
    let nearest = flashes.iter().filter_map(|flash| {
        let offsets = beeps.iter().map(|beep| flash - beep);
        offsets.min_by_key(|offset| offset.abs()).filter(|offset| offset.abs() < 500)
    });
    let mut offsets: Vec<i64> = nearest.collect();
    offsets.sort_unstable();
    ensure!(offsets.len() >= 4, "flashes {flashes:?}, beeps {beeps:?}");
    Ok(offsets[offsets.len() / 2])
}

/// Picture and sound of each member belong together at the receiver, by the stream's own clock.
/// Proves TSK-5.
#[tokio::test]
async fn tsk_5_picture_and_sound_of_each_member_stay_together() -> Result<()> {
    let air = Air::start().await?;
    let (mut red, blue) = air.hosts().await?;
    red.member.add_task(&small(&air)).await?;
    red.member.task_is("pushing").await?;
    air.receiver.pictures(1).await?;
    let mut watching = Watching::start(air.receiver.follow(), 640, 360)?;
    watching.until(&[(240, 100, RED), (560, 100, BLUE)]).await?;
    let mut flashes = [Vec::new(), Vec::new()];
    let mut beeps = [Vec::new(), Vec::new()];
    let mut last = None;
    loop {
        match watching.next().await? {
            Media::Frame(frame) => {
                for (flashes, x) in flashes.iter_mut().zip([0, 320]) {
                    flashes.push((frame.time, frame.picture.at(x + 50, 40).y > 200));
                }
                let first = *last.get_or_insert(frame.time);
                // By the stream's own clock.
                if frame.time - first > 12_000 {
                    break;
                }
            }
            Media::Sound(sound) => {
                // Some windows of 8 ms: a whole number of the waves of either beep.
                for (at, window) in sound.samples.chunks_exact(RATE / 125).enumerate() {
                    let time = sound.time + 8 * i64::try_from(at)?;
                    for (beeps, tone) in beeps.iter_mut().zip([3_000.0, 4_500.0]) {
                        beeps.push((time, loudness(window, tone) > 2_000.0));
                    }
                }
            }
        }
    }
    for (flashes, beeps) in flashes.iter().zip(&beeps) {
        let offset = offset(&begins(flashes), &begins(beeps)).context("no offset")?;
        ensure!(offset.abs() <= 80, "a flash is {offset} ms behind its beep");
    }
    drop((red, blue));
    air.stage.finish().await
}
