//! Media over RTMPS: ffmpeg pushes and plays with the certificate of the public listener, and a publication is
//! forwarded over RTMPS.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use lianmai_test_support::media::{Ffmpeg, decode, probe};
use lianmai_test_support::process::ServerProcess;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::{Scratch, TEST_TIMEOUT, TestServer, programs};
use crate::tls::{Wss, certify, join};

/// A server with TLS on the public listener and for RTMP.
async fn serve(
    scratch: &Scratch,
    prefer_rtmps: bool,
) -> Result<(ServerProcess, CertificateDer<'static>)> {
    let certificate = certify(&scratch.0)?;
    let file = |name: &str| scratch.0.join(name).display().to_string();
    let text = format!(
        "[server]\nrtmps_listen = \"127.0.0.1:0\"\nprefer_rtmps = {prefer_rtmps}\n\
         [tls]\ncert = {:?}\nkey = {:?}\n[session]\ndead_after_ms = 600000\n",
        file("cert.pem"),
        file("key.pem")
    );
    std::fs::write(scratch.0.join("config.toml"), text)?;
    let config = file("config.toml");
    let program = programs()?.join("signal-server");
    let data = scratch.0.join("data");
    let env = [("LIANMAI_CONFIG", config.as_str())];
    let server = timeout(TEST_TIMEOUT, ServerProcess::start(&program, &data, &env)).await??;
    Ok((server, certificate))
}

async fn call(socket: &mut Wss, method: &str, params: Value) -> Result<Value> {
    timeout(TEST_TIMEOUT, socket.call(method, params)).await.context("no answer")?
}

/// Subscribes to sound and picture of member 1.
async fn subscribe(socket: &mut Wss) -> Result<Value> {
    call(socket, "subscribe", json!({"uid": "1", "mediaType": "audio"})).await?;
    call(socket, "subscribe", json!({"uid": "1", "mediaType": "video"})).await
}

fn text(answer: &Value, key: &str) -> Result<String> {
    Ok(answer["urls"][key].as_str().with_context(|| format!("no {key}: {answer}"))?.to_owned())
}

/// Proves URL-1, URL-2.
#[tokio::test]
async fn ffmpeg_pushes_and_plays_by_rtmps() -> Result<()> {
    let scratch = Scratch::new()?;
    let (server, certificate) = serve(&scratch, true).await?;
    let rtmps = server.rtmps.context("no RTMPS listener")?;
    let (mut ann, _) = join(server.public, &certificate, "1").await?;
    let (mut bob, _) = join(server.public, &certificate, "2").await?;
    let published = call(&mut ann, "publish", json!({"mediaType": ""})).await?;
    let push = text(&published, "rtmps")?;
    ensure!(push.starts_with(&format!("rtmps://{rtmps}/live/")), "{push}");
    ensure!(published["url"] == push, "{published}");
    // The same stream over RTMP.
    let plain =
        push.replacen("rtmps", "rtmp", 1).replace(&rtmps.to_string(), &server.rtmp.to_string());
    ensure!(text(&published, "rtmp")? == plain, "{published}");

    // A client that does not speak TLS is disconnected; others are not affected.
    let mut plain = TcpStream::connect(rtmps).await?;
    plain.write_all(&[3; 4096]).await?;
    let end = timeout(TEST_TIMEOUT, plain.read_to_end(&mut Vec::new())).await;
    end.context("a client without TLS is kept")?.ok();

    let _push = Ffmpeg::push(&push)?;
    let subscribed = subscribe(&mut bob).await?;
    let pull = text(&subscribed, "rtmps")?;
    ensure!(subscribed["url"] == pull, "{subscribed}");
    for url in [&pull, &text(&subscribed, "rtmp")?] {
        let codecs = probe(url, TEST_TIMEOUT).await?;
        ensure!(codecs == ["aac", "h264"], "{url}: {codecs:?}");
    }
    let moving = decode(&pull, 3).await?;
    ensure!(moving.frames >= 25 && moving.distinct >= 10, "{moving:?}");

    // A cut also ends a play over TLS.
    let mut player = Ffmpeg::play(&pull)?;
    for kind in ["audio", "video"] {
        call(&mut bob, "unsubscribe", json!({"uid": "1", "mediaType": kind})).await?;
    }
    player.exited_within(TEST_TIMEOUT).await?;
    ensure!(server.bugs().is_empty(), "{:#?}", server.bugs());
    Ok(())
}

/// A configuration of apps whose publications are also pushed to a URL.
fn apps(url: &str, ca: &Path) -> String {
    format!(
        "[{{ appkey = \"demo\", mode = \"debug\", forward = [{{ url = {url:?}, ca = {ca:?} }}] }}]"
    )
}

/// Proves no rule of the protocol: forwards over RTMPS.
#[tokio::test]
async fn a_publish_is_forwarded_by_rtmps_to_whom_is_trusted() -> Result<()> {
    let (scratch, other) = (Scratch::new()?, Scratch::new()?);
    let (upstream, certificate) = serve(&scratch, false).await?;
    certify(&other.0)?;
    let (mut ann, _) = join(upstream.public, &certificate, "1").await?;
    let (mut bob, _) = join(upstream.public, &certificate, "2").await?;
    let published = call(&mut ann, "publish", json!({"mediaType": ""})).await?;
    let push = text(&published, "rtmps")?;
    let subscribed = subscribe(&mut bob).await?;

    // One server trusts another certificate, the other one trusts the right one.
    let wrong = apps(&push, &other.0.join("cert.pem"));
    let doubter = TestServer::start_with(&[("LIANMAI_APPS", &wrong)]).await?;
    let mut cid = doubter.join("room", 1).await?;
    let _push = Ffmpeg::push(&cid.publish().await?)?;
    let line = doubter.process.logged(0, |line| line.contains("forward failed")).await?;
    ensure!(line.contains("tls") && !line.contains("?t="), "{line}");
    doubter.finish().await?;

    let right = apps(&push, &scratch.0.join("cert.pem"));
    let server = TestServer::start_with(&[("LIANMAI_APPS", &right)]).await?;
    let mut dan = server.join("room", 1).await?;
    let _push = Ffmpeg::push(&dan.publish().await?)?;
    let pull = text(&subscribed, "rtmp")?;
    // Pictures must have come before their codec is determined.
    decode(&pull, 1).await?;
    let codecs = probe(&pull, TEST_TIMEOUT).await?;
    ensure!(codecs == ["aac", "h264"], "{codecs:?}");
    server.finish().await
}
