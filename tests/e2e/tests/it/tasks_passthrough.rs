//! The only picture of a task is passed on as its member encoded it, with the sound of all members that are heard.
//! Comes in: two pushes. Goes out: what a receiver gets, compared byte by byte, and as picture and sound.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use lianmai_compositor::flv::FlvReader;
use lianmai_media_plane::MediaKind;
use lianmai_test_support::decoding::{DecodedPublish, RATE, loudness};
use lianmai_test_support::samples::{Beacon, flashing_file};
use serde_json::json;

use crate::tasks::measure;
use crate::tasks_setup::{BLUE, GREEN, RED, TaskSetup, side_by_side, task, user};

/// Length of the tag's header before the coded picture.
const CODED: usize = 5;

/// The encoded pictures of a file.
fn pictures(file: &[u8]) -> Result<BTreeSet<Bytes>> {
    let mut reader = FlvReader::default();
    reader.push(file);
    let mut pictures = BTreeSet::new();
    while let Some(tag) = reader.next()? {
        if tag.kind == MediaKind::Video && !tag.is_config() {
            pictures.insert(tag.body.slice(CODED..));
        }
    }
    Ok(pictures)
}

/// Proves TSK-4, TSK-5.
#[tokio::test]
async fn tsk_4_the_only_picture_is_passed_on_as_it_is() -> Result<()> {
    let setup = TaskSetup::start().await?;
    let (mut red, blue) = setup.hosts().await?;
    // Another member is heard without a picture.
    let voice = json!({"uid": "200", "pushAudio": true});
    let mut wanted = task(&setup, json!([user(100, 0, 0, 640, 360), voice]));
    wanted["config"] = json!({"singleVideoNoTrans": true});
    red.member.add_task(&wanted).await?;
    red.member.task_is("pushing").await?;
    setup.receiver.pictures(50).await?;
    let made = pictures(&std::fs::read(flashing_file("red", 440, 3_000).await?)?)?;
    let seen = setup.receiver.seen();
    let passed = seen.live().context("it has ended")?.tags.iter().filter(|tag| tag.is_picture());
    for tag in passed {
        ensure!(made.contains(&tag.body.slice(CODED..)), "a picture that nobody has pushed");
    }
    // It keeps its own size, whatever the canvas is.
    let mut decoded = DecodedPublish::start(setup.receiver.follow(), 640, 360)?;
    decoded.until(&[(480, 200, RED), (100, 250, RED), (620, 20, RED)]).await?;
    measure(&mut decoded, &mut [Beacon::new((100, 80), 3_000.0)]).await?;
    let heard = decoded.hear(2 * RATE).await?;
    for tone in [440.0, 1_000.0] {
        ensure!(loudness(&heard, tone) > 300.0, "{tone} Hz: {}", loudness(&heard, tone));
    }
    ensure!(setup.receiver.seen().publishes.len() == 1, "the push was cut");

    // A canvas again: many receivers accept no other size within a publish, so there is a new one.
    red.member.update_task(&task(&setup, side_by_side())).await?;
    setup.receiver.until("another publish", |seen| seen.publishes.len() == 2).await?;
    setup.receiver.pictures(1).await?;
    let mut decoded = DecodedPublish::start(setup.receiver.follow(), 1280, 720)?;
    decoded.until(&[(480, 200, RED), (1120, 200, BLUE), (640, 540, GREEN)]).await?;
    setup.receiver.assert_one_at_a_time()?;
    drop((red, blue));
    setup.server.finish().await
}
