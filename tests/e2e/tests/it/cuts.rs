//! What ends a push: ffmpeg runs undisturbed and gets a write error; its URL is refused from then on, while the push of
//! another member is served. `cargo xtask bench cut` measures how fast this is.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lianmai_test_support::arrivals::{Arrivals, TagKind};
use lianmai_test_support::media::Ffmpeg;
use serde_json::json;

use crate::server::{Member, TEST_TIMEOUT, TestServer};

/// How much of a stream is watched, by the stream's own clock.
const WATCH: Duration = Duration::from_secs(2);
/// Longer than the distance of two pictures; a stream that is cut and served again misses more.
pub(crate) const GAP: Duration = Duration::from_millis(200);

/// Uid 1 created and moderates the channel, and plays what uid 2 pushes.
struct CutFixture {
    server: TestServer,
    host: Member,
    guest: Member,
    url: String,
    push: Ffmpeg,
    view: Arrivals,
}

impl CutFixture {
    async fn start(env: &[(&str, &str)]) -> Result<Self> {
        let server = TestServer::start_with(env).await?;
        let mut host = server.join("room", 1).await?;
        let mut guest = server.join("room", 2).await?;
        let url = guest.publish().await?;
        let push = Ffmpeg::push(&url)?;
        let pull = host.subscribe(2).await?;
        let mut view = Arrivals::open(&pull.flv).await?;
        view.media(TEST_TIMEOUT).await?;
        Ok(CutFixture { server, host, guest, url, push, view })
    }

    /// Checks that the push ended, and that its URL is refused.
    async fn assert_cut(mut self) -> Result<()> {
        let status = self.push.exited_within(TEST_TIMEOUT).await?;
        ensure!(!status.success(), "ffmpeg saw no error");
        self.view.end(TEST_TIMEOUT).await?;

        // At the same moment, on the same server: another member's push is played, and the old URL is refused.
        let mut other = self.server.join("control", 3).await?;
        let control = other.publish().await?;
        let mut viewer = self.server.join("control", 4).await?;
        let pull = viewer.subscribe(3).await?;
        let mut control_view = Arrivals::open(&pull.flv).await?;
        let mut again = Ffmpeg::push(&self.url)?;
        let mut control_push = Ffmpeg::push(&control)?;
        let status = again.exited_within(TEST_TIMEOUT).await.context("the dead URL")?;
        ensure!(!status.success(), "the dead URL was served");
        control_view.media(TEST_TIMEOUT).await.context("the control push")?;
        ensure!(control_push.exited()?.is_none(), "{}", control_push.said());
        self.server.finish().await
    }
}

/// Proves ROL-1, URL-5.
#[tokio::test]
async fn becoming_audience_cuts() -> Result<()> {
    let mut fixture = CutFixture::start(&[]).await?;
    fixture.guest.call("setRole", json!({"role": "audience"})).await?;
    fixture.assert_cut().await
}

/// Proves ROL-3, URL-5.
#[tokio::test]
async fn being_made_audience_cuts() -> Result<()> {
    let mut fixture = CutFixture::start(&[]).await?;
    fixture.host.call("setRole", json!({"role": "audience", "uid": "2"})).await?;
    fixture.assert_cut().await
}

/// Proves KIC-1, URL-5.
#[tokio::test]
async fn a_kick_cuts() -> Result<()> {
    let mut fixture = CutFixture::start(&[]).await?;
    fixture.host.call("kick", json!({"uid": "2", "durationS": 60})).await?;
    fixture.assert_cut().await
}

/// Proves URL-5.
#[tokio::test]
async fn a_kick_by_the_admin_cuts() -> Result<()> {
    let fixture = CutFixture::start(&[]).await?;
    let path = "/v1/apps/demo/channels/room/members/2/kick";
    let answer = fixture.server.process.admin_post(path, &json!({"durationS": 60})).await?;
    ensure!(answer.status == 200, "{}", answer.head);
    fixture.assert_cut().await
}

/// Proves LEA-1, URL-5.
#[tokio::test]
async fn leaving_cuts() -> Result<()> {
    let mut fixture = CutFixture::start(&[]).await?;
    fixture.guest.call("leave", json!({})).await?;
    fixture.assert_cut().await
}

/// Proves PUB-5, URL-5.
#[tokio::test]
async fn unpublishing_both_cuts() -> Result<()> {
    let mut fixture = CutFixture::start(&[]).await?;
    fixture.guest.call("unpublish", json!({"mediaType": ""})).await?;
    fixture.assert_cut().await
}

/// Proves PUB-5, URL-5.
#[tokio::test]
async fn unpublishing_one_kind_does_not_cut_but_the_second_does() -> Result<()> {
    let mut fixture = CutFixture::start(&[]).await?;
    fixture.guest.call("unpublish", json!({"mediaType": "audio"})).await?;
    let start = Instant::now();
    fixture.view.goes_on_with(&[TagKind::Video], WATCH).await?;
    let gap = fixture.view.longest_gap_since(start)?;
    ensure!(gap < GAP, "{gap:?} of media are missing");
    ensure!(fixture.push.exited()?.is_none(), "{}", fixture.push.said());

    fixture.guest.call("unpublish", json!({"mediaType": "video"})).await?;
    fixture.assert_cut().await
}

/// Proves CLS-1, URL-5.
#[tokio::test]
async fn closing_the_channel_cuts() -> Result<()> {
    let mut fixture = CutFixture::start(&[]).await?;
    fixture.host.call("closeChannel", json!({"holdS": 0})).await?;
    fixture.assert_cut().await
}

/// Proves JOI-3, URL-5.
#[tokio::test]
async fn the_same_uid_from_another_place_cuts() -> Result<()> {
    let fixture = CutFixture::start(&[]).await?;
    // The join is complete here: after its answer the old push belongs to no member.
    let _second = fixture.server.join("room", 2).await?;
    fixture.assert_cut().await
}

/// Proves LIV-3, URL-5, URL-9.
#[tokio::test]
async fn the_end_of_grace_cuts_but_not_before_media_held_it_up() -> Result<()> {
    let mut fixture = CutFixture::start(&[
        ("LIANMAI_SESSION__GRACE_MS", "1000"),
        ("LIANMAI_SESSION__MEDIA_CAP_MS", "10000"),
    ])
    .await?;
    // Only the socket of the guest is lost, for good.
    let start = Instant::now();
    fixture.guest = fixture.server.join("elsewhere", 9).await?;
    fixture.view.goes_on(WATCH).await?;
    let gap = fixture.view.longest_gap_since(start)?;
    ensure!(gap < GAP, "{gap:?} of media are missing");
    let left = fixture.host.hear("clientLeave", |left| left["uid"] == "2").await?;
    ensure!(left["reason"] == "timeout", "{left}");
    ensure!(start.elapsed() > Duration::from_secs(9), "media did not keep the member");
    fixture.assert_cut().await
}
