//! Two pushes of one member: the one that delivers media is never disturbed, neither by a second push nor by the late
//! end of an old one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lianmai_test_support::arrivals::Arrivals;
use lianmai_test_support::media::Ffmpeg;
use serde_json::json;

use crate::cuts::GAP;
use crate::proxy::Proxy;
use crate::server::{TEST_TIMEOUT, TestServer};

/// How much of an undisturbed push is watched, by the stream's own clock.
const WATCH: Duration = Duration::from_secs(2);
/// Even on a busy machine a push is never silent for this long.
const SILENT: [(&str, &str); 1] = [("LIANMAI_RELAY__TAKEOVER_SILENCE_MS", "25000")];

/// Proves URL-8.
#[tokio::test]
async fn a_second_push_is_refused_and_the_first_goes_on() -> Result<()> {
    let server = TestServer::start_with(&SILENT).await?;
    let mut ann = server.join("room", 1).await?;
    let mut bob = server.join("room", 2).await?;
    let url = ann.publish().await?;
    let mut first = Ffmpeg::push(&url)?;
    let mut view = Arrivals::open(&bob.subscribe(1).await?.flv).await?;
    view.media(TEST_TIMEOUT).await?;

    let start = Instant::now();
    let mut second = Ffmpeg::push(&url)?;
    ensure!(!second.exited_within(TEST_TIMEOUT).await?.success(), "a second push was served");
    view.goes_on(WATCH).await?;
    let gap = view.longest_gap_since(start)?;
    ensure!(gap < GAP, "{gap:?} of media are missing");
    ensure!(first.exited()?.is_none(), "{}", first.said());
    server.finish().await
}

/// Proves PUB-6, URL-5.
#[tokio::test]
async fn the_late_end_of_a_push_to_an_old_url_leaves_the_new_one() -> Result<()> {
    let server = TestServer::start().await?;
    let mut ann = server.join("room", 1).await?;
    let mut bob = server.join("room", 2).await?;
    let old_url = ann.publish().await?;
    let proxy = Proxy::to(server.process.rtmp).await?;
    let mut old = Ffmpeg::push(&proxy.url(&old_url)?)?;
    let mut old_view = Arrivals::open(&bob.subscribe(1).await?.flv).await?;
    old_view.media(TEST_TIMEOUT).await?;

    // The connection of the old push is lost, and ends long after the new push has begun.
    proxy.hold();
    ann.call("unpublish", json!({"mediaType": ""})).await?;
    old_view.end(TEST_TIMEOUT).await?;
    let new_url = ann.publish().await?;
    ensure!(new_url != old_url, "the URL lives again");
    let mut new = Ffmpeg::push(&new_url)?;
    let mut view = Arrivals::open(&bob.subscribe(1).await?.flv).await?;
    view.media(TEST_TIMEOUT).await?;

    let start = Instant::now();
    view.goes_on(WATCH / 2).await?;
    ensure!(old.exited()?.is_none(), "the old push has ended already: {}", old.said());
    proxy.close();
    old.exited_within(TEST_TIMEOUT).await?;
    view.goes_on(WATCH).await?;
    let gap = view.longest_gap_since(start)?;
    ensure!(gap < GAP, "{gap:?} of media are missing");
    ensure!(new.exited()?.is_none(), "{}", new.said());
    server.finish().await
}

/// Proves URL-8.
#[tokio::test]
async fn a_silent_push_gives_way_and_its_late_end_changes_nothing() -> Result<()> {
    let server = TestServer::start().await?;
    let mut ann = server.join("room", 1).await?;
    let mut bob = server.join("room", 2).await?;
    let url = ann.publish().await?;
    let proxy = Proxy::to(server.process.rtmp).await?;
    let mut old = Ffmpeg::push(&proxy.url(&url)?)?;
    let mut view = Arrivals::open(&bob.subscribe(1).await?.flv).await?;
    view.media(TEST_TIMEOUT).await?;

    // The encoder does not notice that its connection is lost; the user starts another one.
    proxy.hold();
    // Longer than a push may be silent, which is 1 s: the server may have received its last bytes later than the
    // viewer.
    view.silence(Duration::from_secs(4), TEST_TIMEOUT).await.context("the old push")?;
    let mut new = Ffmpeg::push(&url)?;
    // The play of the viewer continues.
    view.media(TEST_TIMEOUT).await.context("the new push")?;

    let start = Instant::now();
    view.goes_on(WATCH / 2).await?;
    ensure!(old.exited()?.is_none(), "the old push has ended already: {}", old.said());
    proxy.close();
    old.exited_within(TEST_TIMEOUT).await?;
    view.goes_on(WATCH).await?;
    let gap = view.longest_gap_since(start)?;
    ensure!(gap < GAP, "{gap:?} of media are missing");
    ensure!(new.exited()?.is_none(), "{}", new.said());
    server.finish().await
}
