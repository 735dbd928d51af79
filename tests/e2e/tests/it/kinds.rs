//! A player gets exactly the kinds that are published and subscribed while the push of both continues: a camera goes
//! off and on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lianmai_test_support::arrivals::{Arrivals, Arrived, Tag, TagKind};
use lianmai_test_support::media::Ffmpeg;
use serde_json::json;

use crate::server::{Member, Pull, TEST_TIMEOUT, TestServer};

/// The first two bytes of H.264 tags.
const HEADER: [u8; 2] = [0x17, 0];
const KEYFRAME: [u8; 2] = [0x17, 1];
/// How much sound must come without a picture, by the stream's own clock.
const DARK_MS: u32 = 2000;

/// Uid 1 pushes sound and picture and publishes both; uid 2 subscribes to both.
struct KindsFixture {
    server: TestServer,
    host: Member,
    viewer: Member,
    pull: Pull,
    push: Ffmpeg,
}

impl KindsFixture {
    async fn start() -> Result<Self> {
        let server = TestServer::start().await?;
        let mut host = server.join("room", 1).await?;
        let mut viewer = server.join("room", 2).await?;
        let push = Ffmpeg::push(&host.publish().await?)?;
        let pull = viewer.subscribe(1).await?;
        Ok(KindsFixture { server, host, viewer, pull, push })
    }

    /// Turns the camera off, and on again when the player has received sound alone for a while. The picture must then
    /// begin with a keyframe. Returns the first bytes of its first two tags.
    async fn off_and_on(&mut self, playing: &mut Arrivals) -> Result<Vec<[u8; 2]>> {
        playing.media(TEST_TIMEOUT).await?;
        self.host.call("unpublish", json!({"mediaType": "video"})).await?;
        playing.until(TEST_TIMEOUT, is_dark).await.context("the picture goes on")?;
        let before = playing.tags().len();
        self.host.call("publish", json!({"mediaType": "video"})).await?;
        self.viewer.hear("streamAdded", |added| added["mediaType"] == "video").await?;
        // A subscription ends with its publication.
        playing.goes_on_with(&[TagKind::Audio], Duration::from_secs(1)).await?;
        ensure!(video(&playing.tags()[before..]).next().is_none(), "nobody subscribed that");
        let again = self.viewer.subscribe(1).await?;
        ensure!(again.flv == self.pull.flv, "another URL");
        playing.media(TEST_TIMEOUT).await.context("no picture again")?;
        playing.goes_on(Duration::from_secs(2)).await?;
        let tags = playing.tags();
        let begun: Vec<_> = video(&tags[before..]).map(|tag| tag.start).take(2).collect();
        let first = begun.iter().find(|start| **start != HEADER);
        ensure!(first == Some(&KEYFRAME), "it begins with {begun:?}");
        for kind in [TagKind::Audio, TagKind::Video] {
            let times = tags.iter().filter(|tag| tag.kind == kind).map(|tag| tag.time_ms);
            ensure!(times.is_sorted(), "times of {kind:?} go back");
        }
        ensure!(self.push.exited()?.is_none(), "{}", self.push.said());
        Ok(begun)
    }
}

fn video(tags: &[Tag]) -> impl Iterator<Item = &Tag> {
    tags.iter().filter(|tag| tag.kind == TagKind::Video)
}

/// The latest picture is far behind the latest sound.
fn is_dark(arrived: &Arrived) -> bool {
    let last = |kind| arrived.tags.iter().rfind(|tag| tag.kind == kind).map(|tag| tag.time_ms);
    match (last(TagKind::Audio), last(TagKind::Video)) {
        (Some(sound), Some(picture)) => sound >= picture + DARK_MS,
        _ => false,
    }
}

/// Proves PUB-5, SUB-1, SUB-5, URL-12.
#[tokio::test]
async fn a_camera_goes_off_and_on_during_a_play_of_http_flv() -> Result<()> {
    let mut fixture = KindsFixture::start().await?;
    let mut playing = Arrivals::open(&fixture.pull.flv).await?;
    let begun = fixture.off_and_on(&mut playing).await?;
    ensure!(begun == [HEADER, KEYFRAME], "it begins with {begun:?}");
    fixture.server.finish().await
}

/// Proves PUB-5, SUB-1, SUB-5, URL-12.
#[tokio::test]
async fn a_camera_goes_off_and_on_during_a_play_of_rtmp() -> Result<()> {
    let mut fixture = KindsFixture::start().await?;
    let (mut player, mut playing) = Ffmpeg::relay(&fixture.pull.rtmp)?;
    // ffmpeg, which passes on what it plays, leaves out a header that it knows already.
    fixture.off_and_on(&mut playing).await.with_context(|| player.said())?;
    ensure!(player.exited()?.is_none(), "{}", player.said());
    fixture.server.finish().await
}

/// A viewer that subscribes to sound gets sound. When it also subscribes to the picture, an FLV play whose header
/// declares no picture ends, and the next one has both.
/// Proves SUB-1, URL-14.
#[tokio::test]
async fn a_play_of_flv_ends_when_its_viewer_takes_another_kind() -> Result<()> {
    let server = TestServer::start().await?;
    let mut host = server.join("room", 1).await?;
    let mut viewer = server.join("room", 2).await?;
    let _push = Ffmpeg::push(&host.publish().await?)?;
    let mut third = server.join("room", 3).await?;
    let mut other = Arrivals::open(&third.subscribe(1).await?.flv).await?;
    let pull = viewer.call("subscribe", json!({"uid": "1", "mediaType": "audio"})).await?;
    let url = pull["urls"]["flv"].as_str().context("no URL")?;
    let mut sound = Arrivals::open(url).await?;
    sound.goes_on_with(&[TagKind::Audio], Duration::from_secs(2)).await?;
    let both = viewer.subscribe(1).await?;
    ensure!(both.flv == url, "another URL");
    sound.end(TEST_TIMEOUT).await?;
    ensure!(video(&sound.tags()).next().is_none(), "a picture without a head");
    let mut playing = Arrivals::open(url).await?;
    playing.media(TEST_TIMEOUT).await?;
    viewer.call("unsubscribe", json!({"uid": "1", "mediaType": "video"})).await?;
    playing.until(TEST_TIMEOUT, is_dark).await?;
    other.goes_on(Duration::from_secs(1)).await.context("the other viewer")?;
    server.finish().await
}
