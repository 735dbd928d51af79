//! What a receiver sees and hears of a push task: each member at its place in the layout, and no other member.

use anyhow::{Result, ensure};
use lianmai_compositor::picture::Picture;
use lianmai_test_support::decoding::{DecodedPublish, Media, RATE, loudness};
use lianmai_test_support::samples::Beacon;
use serde_json::json;

use crate::tasks_setup::{BLUE, GREEN, RED, TaskSetup, side_by_side, small, task, user};

/// The position of the bar that moves with each frame: its left edge within a rectangle of 640x360.
fn bar(picture: &Picture, x: u32) -> Option<u32> {
    (0..640).find(|at| picture.at(x + at, 340).y > 200)
}

/// Proves TSK-1, TSK-4, TSK-5, TSK-10.
#[tokio::test]
async fn tsk_5_members_are_seen_and_heard_where_the_layout_says() -> Result<()> {
    let setup = TaskSetup::start().await?;
    let (mut red, mut blue) = setup.hosts().await?;
    red.member.add_task(&task(&setup, side_by_side())).await?;
    let told = blue.member.task_is("pushing").await?;
    ensure!(told["uid"] == "100" && told["revision"] == 1, "{told}");
    let url = format!("rtmp://{}/live/***", setup.receiver.address);
    ensure!(told["streamUrl"] == url, "{told}");
    setup
        .receiver
        .until("a keyframe", |seen| {
            seen.live().is_some_and(|live| live.tags.iter().any(|tag| tag.is_key()))
        })
        .await?;
    let mut decoded = DecodedPublish::start(setup.receiver.follow(), 1280, 720)?;
    decoded
        .until(&[(480, 200, RED), (1120, 200, BLUE), (640, 540, GREEN), (30, 400, GREEN)])
        .await?;
    // Both pictures move.
    let mut bars = [Vec::new(), Vec::new()];
    for _ in 0..50 {
        let frame = decoded.frame().await?;
        for (bars, x) in bars.iter_mut().zip([0, 640]) {
            bars.extend(bar(&frame.picture, x));
            bars.dedup();
        }
    }
    ensure!(bars.iter().all(|bars| bars.len() > 10), "they stand still: {bars:?}");
    let heard = decoded.hear(2 * RATE).await?;
    for tone in [440.0, 1_000.0] {
        ensure!(loudness(&heard, tone) > 300.0, "{tone} Hz: {}", loudness(&heard, tone));
    }

    // One member becomes smaller and silent; the picture of the other one is shown without a crop.
    let mut small = user(100, 0, 0, 360, 360);
    small["adaption"] = json!(0);
    let mut quiet = user(200, 640, 360, 360, 360);
    quiet["pushAudio"] = json!(false);
    red.member.update_task(&task(&setup, json!([small, quiet]))).await?;
    // The canvas shows above and below the first picture; the second one fills its rectangle.
    decoded
        .until(&[
            (270, 200, RED),
            (180, 20, GREEN),
            (180, 340, GREEN),
            (960, 600, BLUE),
            (820, 380, BLUE),
            (1120, 200, GREEN),
        ])
        .await?;
    // Sound that was mixed before the change is over after this.
    decoded.hear(RATE).await?;
    let heard = decoded.hear(2 * RATE).await?;
    let (is, is_not) = (loudness(&heard, 440.0), loudness(&heard, 1_000.0));
    ensure!(is_not < is / 100.0, "not 40 dB less: {is_not} beside {is}");

    // Two pictures at one place: the later one is in front; then the one with the greater `zOrder`.
    let mut both = json!([user(100, 0, 0, 640, 360), user(200, 0, 0, 640, 360)]);
    red.member.update_task(&task(&setup, both.clone())).await?;
    decoded.until(&[(480, 200, BLUE), (960, 600, GREEN)]).await?;
    both[0]["zOrder"] = json!(1);
    red.member.update_task(&task(&setup, both)).await?;
    decoded.until(&[(480, 200, RED)]).await?;

    red.member.delete_task().await?;
    blue.member.task_is("ended").await?;
    setup.receiver.until("the end", |seen| seen.live().is_none()).await?;
    setup.receiver.assert_one_at_a_time()?;
    ensure!(setup.receiver.seen().publishes.len() == 1, "changes of the layout cut the push");
    let log = setup.server.process.log().join("\n");
    ensure!(!log.contains("s3cret") && !log.contains("key?"), "a secret is in the log: {log}");
    drop((red.push, blue.push));
    setup.server.finish().await
}

/// Watches until the picture and the sound of each member were measured, by the stream's own clock.
pub(crate) async fn measure(decoded: &mut DecodedPublish, beacons: &mut [Beacon]) -> Result<()> {
    let mut first = None;
    loop {
        let media = decoded.next().await?;
        for beacon in &mut *beacons {
            beacon.observe(&media);
        }
        if let Media::Frame(frame) = media
            && frame.time - *first.get_or_insert(frame.time) > 12_000
        {
            break;
        }
    }
    for beacon in beacons {
        let offset = beacon.offset()?;
        ensure!(offset.abs() <= 80, "a flash is {offset} ms behind its beep");
    }
    Ok(())
}

/// Picture and sound of each member are in sync at the receiver, by the stream's own clock.
/// Proves TSK-5.
#[tokio::test]
async fn tsk_5_picture_and_sound_of_each_member_stay_together() -> Result<()> {
    let setup = TaskSetup::start().await?;
    let (mut red, blue) = setup.hosts().await?;
    red.member.add_task(&small(&setup)).await?;
    red.member.task_is("pushing").await?;
    setup.receiver.pictures(1).await?;
    let mut decoded = DecodedPublish::start(setup.receiver.follow(), 640, 360)?;
    decoded.until(&[(240, 100, RED), (560, 100, BLUE)]).await?;
    let mut beacons = [Beacon::new((50, 40), 3_000.0), Beacon::new((370, 40), 4_500.0)];
    measure(&mut decoded, &mut beacons).await?;
    drop((red, blue));
    setup.server.finish().await
}
