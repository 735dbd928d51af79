//! What ends the play of a viewer, and that the plays of other viewers continue.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lianmai_test_support::arrivals::{self, Arrivals, TagKind};
use lianmai_test_support::media::Ffmpeg;
use serde_json::json;

use crate::cuts::GAP;
use crate::server::{Member, Pull, TEST_TIMEOUT, TestServer};

/// How much of a stream is watched, by the stream's own clock.
const WATCH: Duration = Duration::from_secs(1);

/// Uid 1 created the channel and pushes; uids 2 and 3 play it, uid 2 over both protocols.
struct PlayCutFixture {
    server: TestServer,
    host: Member,
    viewer: Member,
    _other: Member,
    pull: Pull,
    _push: Ffmpeg,
    rtmp: Ffmpeg,
    flv: Arrivals,
    undisturbed: Arrivals,
}

impl PlayCutFixture {
    async fn start() -> Result<Self> {
        let server = TestServer::start().await?;
        let mut host = server.join("room", 1).await?;
        let mut viewer = server.join("room", 2).await?;
        let mut other = server.join("room", 3).await?;
        let push = Ffmpeg::push(&host.publish().await?)?;
        let pull = viewer.subscribe(1).await?;
        let others = other.subscribe(1).await?;
        let mut undisturbed = Arrivals::open(&others.flv).await?;
        undisturbed.media(TEST_TIMEOUT).await?;
        let mut flv = Arrivals::open(&pull.flv).await?;
        flv.media(TEST_TIMEOUT).await?;
        let rtmp = Ffmpeg::play(&pull.rtmp)?;
        // Three plays: two over HTTP-FLV, and the one over RTMP once it is admitted.
        server.players(3).await?;
        let _other = other;
        Ok(PlayCutFixture {
            server,
            host,
            viewer,
            _other,
            pull,
            _push: push,
            rtmp,
            flv,
            undisturbed,
        })
    }

    /// Checks that both plays end and their URLs are refused, and that the other viewer sees no gap.
    async fn assert_cut(mut self) -> Result<()> {
        let start = Instant::now();
        self.rtmp.exited_within(TEST_TIMEOUT).await.context("the RTMP play goes on")?;
        self.flv.end(TEST_TIMEOUT).await?;

        let mut again = Ffmpeg::play(&self.pull.rtmp)?;
        ensure!(!again.exited_within(TEST_TIMEOUT).await?.success(), "the dead URL was served");
        ensure!(Arrivals::open(&self.pull.flv).await.is_err(), "the dead URL was served");
        self.undisturbed.goes_on(WATCH).await?;
        let gap = self.undisturbed.longest_gap_since(start)?;
        ensure!(gap < GAP, "the other viewer misses {gap:?}");
        self.server.finish().await
    }
}

/// Proves SUB-5, URL-6.
#[tokio::test]
async fn unsubscribing_the_last_kind_cuts() -> Result<()> {
    let mut fixture = PlayCutFixture::start().await?;
    fixture.viewer.call("unsubscribe", json!({"uid": "1", "mediaType": "audio"})).await?;
    let start = Instant::now();
    fixture.flv.goes_on_with(&[TagKind::Video], WATCH).await?;
    let gap = fixture.flv.longest_gap_since(start)?;
    ensure!(gap < GAP, "{gap:?} of media are missing");
    ensure!(fixture.rtmp.exited()?.is_none(), "{}", fixture.rtmp.said());

    fixture.viewer.call("unsubscribe", json!({"uid": "1", "mediaType": "video"})).await?;
    fixture.assert_cut().await
}

/// Proves URL-6.
#[tokio::test]
async fn the_viewers_leave_cuts() -> Result<()> {
    let mut fixture = PlayCutFixture::start().await?;
    fixture.viewer.call("leave", json!({})).await?;
    fixture.assert_cut().await
}

/// Proves KIC-1, URL-6.
#[tokio::test]
async fn the_viewers_kick_cuts() -> Result<()> {
    let mut fixture = PlayCutFixture::start().await?;
    fixture.host.call("kick", json!({"uid": "2"})).await?;
    fixture.assert_cut().await
}

/// Proves no rule of the protocol: a viewer that does not read is disconnected.
#[tokio::test]
async fn a_viewer_that_does_not_read_is_let_go() -> Result<()> {
    let server = TestServer::start().await?;
    let mut host = server.join("room", 1).await?;
    let mut viewer = server.join("room", 2).await?;
    let url = host.publish().await?;
    // Plays, but reads nothing but the head of the answer.
    let stuck = arrivals::get(&viewer.subscribe(1).await?.flv).await?;
    ensure!(stuck.status == 200, "{}", stuck.head);
    server.players(1).await?;
    let mut push = Ffmpeg::push_fast(&url)?;
    ensure!(push.exited_within(TEST_TIMEOUT).await?.success(), "{}", push.said());
    server.players(0).await?;
    drop(stuck);
    server.finish().await
}
