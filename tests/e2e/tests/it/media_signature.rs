//! A URL is valid for its stream, its use and its viewer until it expires; any other URL is refused, over RTMP and over
//! HTTP-FLV.
//! Proves no rule of the protocol: that no URL can be made from another.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use lianmai_test_support::arrivals::{self, Arrivals};
use lianmai_test_support::media::Ffmpeg;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::server::{Member, Pull, TEST_TIMEOUT, TestServer};

/// Uid 1 pushes, uid 2 plays. Both URLs are valid, so a refusal is caused by the change.
struct SignatureFixture {
    server: TestServer,
    _ann: Member,
    bob: Member,
    push_url: String,
    pull: Pull,
    _push: Ffmpeg,
    view: Arrivals,
}

impl SignatureFixture {
    async fn start() -> Result<Self> {
        let server = TestServer::start().await?;
        let mut ann = server.join("room", 1).await?;
        let mut bob = server.join("room", 2).await?;
        let push_url = ann.publish().await?;
        let push = Ffmpeg::push(&push_url)?;
        let pull = bob.subscribe(1).await?;
        let mut view = Arrivals::open(&pull.flv).await?;
        view.media(TEST_TIMEOUT).await?;
        Ok(SignatureFixture { server, _ann: ann, bob, push_url, pull, _push: push, view })
    }

    /// Checks that the valid URLs are still served.
    async fn finish(mut self) -> Result<()> {
        self.view.media(TEST_TIMEOUT).await?;
        self.server.finish().await
    }
}

async fn assert_push_refused(url: &str) -> Result<()> {
    let mut push = Ffmpeg::push(url)?;
    let status = push.exited_within(TEST_TIMEOUT).await.with_context(|| url.to_owned())?;
    ensure!(!status.success(), "{url}: served");
    Ok(())
}

async fn assert_play_refused(url: &str) -> Result<()> {
    let mut play = Ffmpeg::play(url)?;
    let status = play.exited_within(TEST_TIMEOUT).await.with_context(|| url.to_owned())?;
    ensure!(!status.success(), "{url}: served");
    Ok(())
}

/// Over HTTP the refusal names the reason.
async fn assert_flv_refused(url: &str, why: &[&str]) -> Result<()> {
    let mut answer = arrivals::get(url).await?;
    ensure!(answer.status == 403, "{url}: {}", answer.head);
    let body: Value = serde_json::from_str(&answer.text().await?)?;
    let name = body["name"].as_str().context("no name")?;
    ensure!(why.contains(&name), "{url}: {body}");
    Ok(())
}

/// Changes the character at `at` to another one of the same alphabet.
fn changed(url: &str, at: usize) -> Result<String> {
    let old = url.get(at..=at).context("no such character")?;
    let new = if old == "a" { "b" } else { "a" };
    Ok(format!("{}{new}{}", &url[..at], &url[at + 1..]))
}

/// The index of one character in each of the stream, the viewer and the MAC.
fn places(url: &str) -> Result<Vec<usize>> {
    let stream = url.find("/live/").context("no stream")? + "/live/".len() + 12;
    let mac = url.rfind('.').context("no token")? + 1;
    Ok([Some(stream), url.find("?v=").map(|at| at + 8), Some(mac)].into_iter().flatten().collect())
}

#[tokio::test]
async fn a_changed_byte_is_refused() -> Result<()> {
    let fixture = SignatureFixture::start().await?;
    for at in places(&fixture.push_url)? {
        assert_push_refused(&changed(&fixture.push_url, at)?).await?;
    }
    for (rtmp, flv) in places(&fixture.pull.rtmp)?.into_iter().zip(places(&fixture.pull.flv)?) {
        let flv = changed(&fixture.pull.flv, flv)?;
        assert_flv_refused(&flv, &["badSignature", "badUrl"]).await?;
        assert_play_refused(&changed(&fixture.pull.rtmp, rtmp)?).await?;
    }
    let (unsigned, _) = fixture.pull.flv.split_once('?').context("no query")?;
    assert_flv_refused(unsigned, &["badUrl"]).await?;
    fixture.finish().await
}

#[tokio::test]
async fn a_url_of_the_other_direction_is_refused() -> Result<()> {
    let mut fixture = SignatureFixture::start().await?;
    assert_play_refused(&fixture.push_url).await?;
    let (path, token) = fixture.push_url.split_once('?').context("no query")?;
    let stream = path.rsplit('/').next().context("no stream")?;
    let as_flv = format!("http://{}/live/{stream}.flv?{token}", fixture.server.process.public);
    assert_flv_refused(&as_flv, &["badSignature", "badUrl"]).await?;

    // This stream has no push, so a push with a valid URL would be accepted.
    let mut carl = fixture.server.join("room", 3).await?;
    carl.publish().await?;
    let pull = fixture.bob.subscribe(3).await?;
    assert_push_refused(&pull.rtmp).await?;
    let (base, query) = pull.rtmp.split_once('?').context("no query")?;
    let (_, token) = query.split_once('&').context("no token")?;
    assert_push_refused(&format!("{base}?{token}")).await?;
    fixture.finish().await
}

/// Proves URL-6.
#[tokio::test]
async fn the_url_of_a_viewer_that_left_is_refused() -> Result<()> {
    let fixture = SignatureFixture::start().await?;
    let mut gone = fixture.server.join("room", 3).await?;
    let pull = gone.subscribe(1).await?;
    Arrivals::open(&pull.flv).await?.media(TEST_TIMEOUT).await?;
    gone.call("leave", json!({})).await?;
    assert_play_refused(&pull.rtmp).await?;
    let mut answer = arrivals::get(&pull.flv).await?;
    let body: Value = serde_json::from_str(&answer.text().await?)?;
    ensure!(answer.status == 403 && body["name"].is_string(), "{body}");
    // It is not valid with another viewer's name either.
    let viewer = |url: &str| -> Option<String> {
        Some(url.split_once("?v=")?.1.split_once('&')?.0.to_owned())
    };
    let (mine, other) = (viewer(&pull.flv), viewer(&fixture.pull.flv));
    let (mine, other) = (mine.context("no viewer")?, other.context("no viewer")?);
    assert_flv_refused(&pull.flv.replace(&mine, &other), &["badSignature"]).await?;
    fixture.finish().await
}

/// Proves URL-7.
#[tokio::test]
async fn an_expired_url_is_refused() -> Result<()> {
    let fixture = SignatureFixture::start().await?;
    let key = std::fs::read(fixture.server.data_dir.0.join("url.key"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();

    // The test's signature must be the server's, otherwise this test would prove nothing.
    for url in [&fixture.push_url, &fixture.pull.rtmp, &fixture.pull.flv] {
        let exp = url.rsplit_once("t=").and_then(|(_, token)| token.split_once('.'));
        let exp: u64 = exp.context("no end")?.0.parse()?;
        ensure!(exp > now && resigned(url, &key, exp)? == **url, "signed in another way: {url}");
    }
    let expired = |url| resigned(url, &key, now - 1);
    assert_flv_refused(&expired(&fixture.pull.flv)?, &["expired"]).await?;
    assert_play_refused(&expired(&fixture.pull.rtmp)?).await?;
    let mut carl = fixture.server.join("room", 3).await?;
    let push = carl.publish().await?;
    assert_push_refused(&expired(&push)?).await?;
    let mut served = Ffmpeg::push(&resigned(&push, &key, now + 3600)?)?;
    let mut bob = fixture.bob;
    let mut view = Arrivals::open(&bob.subscribe(3).await?.flv).await?;
    view.media(TEST_TIMEOUT).await?;
    ensure!(served.exited()?.is_none(), "{}", served.said());
    fixture.server.finish().await
}

/// The URL with another expiry, signed as the relay's URLs are.
fn resigned(url: &str, key: &[u8], exp: u64) -> Result<String> {
    let (base, query) = url.split_once('?').context("no query")?;
    let stream = base.rsplit('/').next().context("no stream")?;
    let stream = stream.strip_suffix(".flv").unwrap_or(stream);
    let viewer = query.strip_prefix("v=").and_then(|query| query.split_once('&'));
    let (direction, viewer, before) = match viewer {
        Some((viewer, _)) => ("play", viewer, format!("v={viewer}&")),
        None => ("publish", "", String::new()),
    };
    let exp = exp.to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(key)?;
    for field in ["v1", direction, stream, viewer, &exp] {
        mac.update(&(field.len() as u64).to_be_bytes());
        mac.update(field.as_bytes());
    }
    let mac = URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..16]);
    Ok(format!("{base}?{before}t={exp}.{mac}"))
}
