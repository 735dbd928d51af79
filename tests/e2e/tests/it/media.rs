//! Published media is played: by members that are present, by players that come too early, and by members that come
//! late.

use anyhow::{Context, Result, ensure};
use lianmai_test_support::arrivals::Arrivals;
use lianmai_test_support::media::{Decoded, Ffmpeg, decode, probe};
use serde_json::Value;

use crate::server::{Pull, TEST_TIMEOUT, TestServer};

/// Checks that both protocols deliver picture and sound.
pub(crate) async fn assert_playable(pull: &Pull) -> Result<()> {
    Arrivals::open(&pull.flv).await?.media(TEST_TIMEOUT).await.context("not on air")?;
    for url in [&pull.rtmp, &pull.flv] {
        let codecs = probe(url, TEST_TIMEOUT).await?;
        ensure!(codecs == ["aac", "h264"], "{url}: {codecs:?}");
    }
    Ok(())
}

/// Checks that both protocols deliver moving pictures, over 5 s.
pub(crate) async fn assert_moving(pull: &Pull) -> Result<()> {
    let (rtmp, flv) = tokio::try_join!(decode(&pull.rtmp, 5), decode(&pull.flv, 5))?;
    for Decoded { frames, distinct } in [rtmp, flv] {
        ensure!(frames >= 50 && distinct >= 10, "{frames} frames, {distinct} distinct");
    }
    Ok(())
}

/// Proves PUB-2, URL-2.
#[tokio::test]
async fn two_members_publish_and_play() -> Result<()> {
    let server = TestServer::start().await?;
    let mut ann = server.join("room", 1).await?;
    let mut bob = server.join("room", 2).await?;

    let push = ann.publish().await?;
    for kind in ["audio", "video"] {
        bob.hear("streamAdded", |added| added["uid"] == "1" && added["mediaType"] == kind).await?;
    }
    let _push = Ffmpeg::push(&push)?;
    let pull = bob.subscribe(1).await?;
    assert_playable(&pull).await?;
    server.finish().await
}

/// Proves URL-8.
#[tokio::test]
async fn a_player_that_comes_before_the_push_waits_for_it() -> Result<()> {
    let server = TestServer::start().await?;
    let mut ann = server.join("room", 1).await?;
    let mut bob = server.join("room", 2).await?;
    let push = ann.publish().await?;
    let pull = bob.subscribe(1).await?;

    let mut early = Arrivals::open(&pull.flv).await?;
    let rtmp = pull.rtmp.clone();
    let early_probe = tokio::spawn(async move { probe(&rtmp, 2 * TEST_TIMEOUT).await });
    server.players(2).await?;
    ensure!(!early_probe.is_finished(), "a player found something");

    let _push = Ffmpeg::push(&push)?;
    early.media(TEST_TIMEOUT).await?;
    let codecs = early_probe.await??;
    ensure!(codecs == ["aac", "h264"], "{codecs:?}");
    server.finish().await
}

/// Proves ORD-2, URL-2.
#[tokio::test]
async fn a_late_member_finds_and_plays_what_is_on_air() -> Result<()> {
    let server = TestServer::start().await?;
    let mut ann = server.join("room", 1).await?;
    let mut first = server.join("room", 2).await?;
    let _push = Ffmpeg::push(&ann.publish().await?)?;
    let pull = first.subscribe(1).await?;
    Arrivals::open(&pull.flv).await?.media(TEST_TIMEOUT).await?;

    let mut late = server.join("room", 3).await?;
    let found = late.snapshot_of("1").context("the publisher is not in the snapshot")?;
    let mut kinds: Vec<_> = found["streams"]
        .as_array()
        .context("no streams")?
        .iter()
        .filter_map(|stream| stream["mediaType"].as_str())
        .collect();
    kinds.sort_unstable();
    ensure!(kinds == ["audio", "video"], "{kinds:?}");
    let pull = late.subscribe(1).await?;
    assert_moving(&pull).await?;
    server.finish().await
}

/// Proves FRM-9.
#[tokio::test]
async fn the_greatest_uid_is_exact_everywhere() -> Result<()> {
    const GREATEST: &str = "18446744073709551615";
    let server = TestServer::start().await?;
    let mut bob = server.join("room", 2).await?;
    let mut ann = server.join("room", GREATEST).await?;
    ensure!(ann.joined["uid"] == GREATEST && ann.joined["self"]["uid"] == GREATEST);

    bob.hear("clientJoin", |join| join["uid"] == GREATEST).await?;
    let _push = Ffmpeg::push(&ann.publish().await?)?;
    bob.hear("streamAdded", |added| added["uid"] == GREATEST).await?;
    let answer = bob.call("subscribe", serde_json::json!({"uid": GREATEST, "mediaType": "audio"}));
    ensure!(answer.await?["uid"] == GREATEST);
    let pull = bob.subscribe(GREATEST).await?;
    Arrivals::open(&pull.flv).await?.media(TEST_TIMEOUT).await?;

    let late = server.join("room", 3).await?;
    ensure!(late.snapshot_of(GREATEST).is_some_and(|found| found["streams"] != Value::Null));
    ann.call("leave", serde_json::json!({})).await?;
    bob.hear("clientLeave", |leave| leave["uid"] == GREATEST).await?;
    server.finish().await
}
