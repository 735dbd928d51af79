//! Hostile pace: peers that send slowly, not at all, or too much, and one that does not read. The rows take seconds
//! each, so they run in parallel, on a server with default limits.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lianmai_test_support::raw_ws::{PING, RawWs, Received};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::hostile::HostileFixture;
use crate::hostile_bystanders::CHANNEL;
use crate::server::TEST_TIMEOUT;

/// Time limit of the server for the head of a request, from accept.
const HEAD: Duration = Duration::from_secs(5);
/// Time limit of the server for the join, from the upgrade, and for `publish` or `play`, from accept.
const LOBBY: Duration = Duration::from_secs(10);

/// Opens a connection, sends bytes, and waits for its end. Returns how long that took.
async fn half(address: SocketAddr, bytes: &[u8]) -> Result<Duration> {
    let start = Instant::now();
    let mut socket = RawWs::open(address).await?;
    socket.write(bytes).await?;
    let _ = socket.read_to_end().await;
    Ok(start.elapsed())
}

/// Sends one byte every 200 ms: a peer that is never silent for long.
async fn drip(address: SocketAddr, bytes: &'static [u8]) -> Result<Duration> {
    let start = Instant::now();
    let mut socket = RawWs::open(address).await?;
    let mut tick = interval(Duration::from_millis(200));
    for byte in bytes.iter().cycle() {
        tick.tick().await;
        if socket.write(&[*byte]).await.is_err() {
            return Ok(start.elapsed());
        }
        ensure!(start.elapsed() < TEST_TIMEOUT, "nobody ends it");
    }
    bail!("nothing to send")
}

/// The server closed the connection, but not early. How late depends on the machine; [`TEST_TIMEOUT`] bounds it.
fn took(time: Duration, limit: Duration) -> Result<()> {
    ensure!(time >= limit - Duration::from_millis(500), "over after {time:?}");
    Ok(())
}

/// Stays in the lobby, silent or with pings, until it is closed.
async fn never_joins(fixture: Arc<HostileFixture>, pings: bool) -> Result<()> {
    let start = Instant::now();
    let mut socket = RawWs::connect(fixture.server.public).await?;
    let mut tick = interval(Duration::from_secs(1));
    let mut closing = Value::Null;
    loop {
        let received = tokio::select! {
            received = socket.receive() => received?,
            _ = tick.tick() => {
                if pings {
                    let _ = socket.send_frame(PING, b"still here").await;
                }
                continue;
            }
        };
        match received {
            Received::Text(text) => closing = serde_json::from_slice(&text)?,
            Received::Pong(_) => {}
            Received::Close(code, reason) => {
                ensure!(closing["params"]["code"] == 4505, "{closing}");
                ensure!((code, &*reason) == (4505, "joinTimeout"), "{code} {reason}");
                return took(start.elapsed(), LOBBY);
            }
            Received::Gone => bail!("gone without a word"),
        }
    }
}

/// 1,000 commands at once: the burst is served, then all others are refused, then the connection is closed.
async fn floods(fixture: Arc<HostileFixture>) -> Result<()> {
    let mut socket = fixture.member("701", "audience").await?;
    let start = Instant::now();
    for _ in 0..1_000 {
        if socket.request("mute", json!({"mediaType": "audio"})).await.is_err() {
            break;
        }
    }
    let (mut served, mut refused, mut closing) = (0, 0, Value::Null);
    loop {
        let text = match socket.receive().await? {
            Received::Text(text) => text,
            Received::Pong(_) => continue,
            Received::Close(code, reason) => {
                ensure!((code, &*reason) == (4506, "rateLimited"), "{code} {reason}");
                break;
            }
            Received::Gone => bail!("gone without a word"),
        };
        let messages = match serde_json::from_slice(&text)? {
            Value::Array(messages) => messages,
            message => vec![message],
        };
        for message in messages {
            if message["method"] == "closing" {
                closing = message["params"].clone();
            } else if message["error"]["data"]["name"] == "rateLimited" {
                ensure!(message["error"]["data"]["retryAfterMs"].is_u64(), "{message}");
                refused += 1;
            } else if message.get("result").is_some() {
                served += 1;
            }
        }
    }
    ensure!(closing["code"] == 4506, "{closing}");
    // The burst, and twenty for each second that it took.
    let most = 41 + (20.0 * start.elapsed().as_secs_f64()).ceil() as u32;
    ensure!((40..=most).contains(&served), "{served} served, not up to {most}");
    ensure!(refused >= 100, "{refused} refused");
    Ok(())
}

/// A member that reads only when the test reads, and its `seq`.
async fn narrow(fixture: &HostileFixture, uid: &str) -> Result<(RawWs<TcpStream>, u64)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // A small window, so that the server's side of the connection is full soon.
    socket.set_recv_buffer_size(4 * 1024)?;
    socket.connect(&fixture.server.public.into())?;
    socket.set_nonblocking(true)?;
    let mut reader = RawWs::over(TcpStream::from_std(socket.into())?);
    reader.upgrade(fixture.server.public).await?;
    let params = json!({"appkey": "demo", "channelName": CHANNEL, "uid": uid, "role": "audience"});
    let joined = reader.call("join", params).await?;
    let seq = joined["seq"].as_u64().context("no seq")?;
    Ok((reader, seq))
}

/// Reads the rest: contiguous events after `seq`, then the end. Returns the number of bytes, the notices and the end.
async fn rest(
    reader: &mut RawWs<TcpStream>,
    mut seq: u64,
) -> Result<(usize, Vec<Value>, Received)> {
    let (mut bytes, mut notices) = (0, Vec::new());
    loop {
        match reader.receive().await? {
            Received::Text(text) => {
                bytes += text.len();
                let messages = match serde_json::from_slice(&text)? {
                    Value::Array(messages) => messages,
                    message => vec![message],
                };
                for message in messages {
                    if let Some(next) = message["params"]["seq"].as_u64() {
                        ensure!(next == seq + 1, "event {next} after {seq}");
                        seq = next;
                    } else {
                        notices.push(message);
                    }
                }
            }
            Received::Pong(_) => {}
            end => return Ok((bytes, notices, end)),
        }
    }
}

/// A member stops reading while sixteen others send bursts of 8 KiB messages to its channel: it is disconnected, and
/// everything that it was sent before is intact.
async fn stops_reading(fixture: Arc<HostileFixture>) -> Result<String> {
    let (mut reader, seq) = narrow(&fixture, "801").await?;
    let known = fixture.server.log_length();
    let mut senders = JoinSet::new();
    for sender in 0..16 {
        let fixture = fixture.clone();
        senders.spawn(async move {
            let mut socket = fixture.member(&(900 + sender).to_string(), "audience").await?;
            let data = "x".repeat(8_000);
            for _ in 0..40 {
                // While it waits for the answer, it reads the messages of the others; otherwise it would be
                // disconnected itself.
                socket.call("sendMessage", json!({"data": data})).await?;
            }
            anyhow::Ok(())
        });
    }
    let cut = fixture.server.logged(known, |line| line.contains("slowReader")).await?;
    while let Some(ended) = senders.join_next().await {
        ended??;
    }
    let (bytes, _, end) = rest(&mut reader, seq).await?;
    // Without room for a close frame the connection just ends.
    match &end {
        Received::Close(4001, reason) => ensure!(reason == "slowReader", "{reason}"),
        end => ensure!(matches!(end, Received::Gone), "{end:?}"),
    }
    ensure!(cut.contains("closing"), "{cut}");
    Ok(format!("a reader that stops: {bytes} bytes were on their way, then {end:?}"))
}

/// A member that is behind, but not too slow, is kicked: it gets all earlier messages, the reason, and the close.
async fn is_kicked_while_behind(fixture: Arc<HostileFixture>) -> Result<()> {
    let (mut reader, seq) = narrow(&fixture, "802").await?;
    let mut sender = fixture.member("803", "audience").await?;
    let data = "x".repeat(8_000);
    for _ in 0..100 {
        sender.call("sendMessage", json!({"data": data})).await?;
    }
    let path = format!("/v1/apps/demo/channels/{CHANNEL}/members/802/kick");
    fixture.server.admin_post(&path, &json!({})).await?;
    let (bytes, notices, end) = rest(&mut reader, seq).await?;
    ensure!(bytes > 800_000, "{bytes} bytes");
    let heard: Vec<_> = notices.iter().filter_map(|notice| notice["method"].as_str()).collect();
    ensure!(heard.ends_with(&["kicked", "closing"]), "{heard:?}");
    ensure!(matches!(end, Received::Close(4500, _)), "{end:?}");
    Ok(())
}

/// Members may send without limit.
const TALKATIVE: &str = "[limits]\ncommands_per_second = 10000\ncommand_burst = 10000\n\
    channel_bytes_per_second = 1000000000\n";

/// Proves CLI-10, IDS-6, KIC-1, NOT-2, SES-3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pace_disturbs_others() -> Result<()> {
    let start = Instant::now();
    let fixture = HostileFixture::open("").await?;
    let (public, admin, rtmp) = (fixture.server.public, fixture.server.admin, fixture.server.rtmp);
    let mut rows = JoinSet::new();
    let mut row = |name: &'static str, play: Pin<Box<dyn Future<Output = Result<()>> + Send>>| {
        rows.spawn(async move {
            let played = timeout(TEST_TIMEOUT, play).await.context("takes too long");
            played.and_then(|played| played).context(name)
        });
    };
    for address in [public, admin] {
        row(
            "silence in the place of a request",
            Box::pin(async move { took(half(address, b"").await?, HEAD) }),
        );
        row(
            "half a head",
            Box::pin(async move {
                took(
                    half(address, b"GET /v1/signal HTTP/1.1\r\nHost: localhost\r\nUpgr").await?,
                    HEAD,
                )
            }),
        );
        row(
            "a head byte by byte",
            Box::pin(async move {
                took(
                    drip(address, b"GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa").await?,
                    HEAD,
                )
            }),
        );
    }
    row(
        "silence in the place of an RTMP handshake",
        Box::pin(async move { took(half(rtmp, b"").await?, LOBBY) }),
    );
    row(
        "half an RTMP handshake",
        Box::pin(async move { took(half(rtmp, &[3; 800]).await?, LOBBY) }),
    );
    row(
        "an RTMP handshake byte by byte",
        Box::pin(async move { took(drip(rtmp, &[3]).await?, LOBBY) }),
    );
    row("a WebSocket that never joins", Box::pin(never_joins(fixture.clone(), false)));
    row("a WebSocket that only pings", Box::pin(never_joins(fixture.clone(), true)));
    row("half a frame in the lobby", {
        let fixture = fixture.clone();
        Box::pin(async move {
            let start = Instant::now();
            let mut socket = RawWs::connect(fixture.server.public).await?;
            socket.write(&[0x81, 0xfe, 0x40, 0, 0, 0, 0, 0, b'{']).await?;
            let _ = socket.read_to_end().await;
            took(start.elapsed(), LOBBY)
        })
    });
    while let Some(ended) = rows.join_next().await {
        ended??;
        fixture.check().await?;
    }
    floods(fixture.clone()).await.context("a flood of commands")?;
    fixture.check().await.context("after a flood of commands")?;
    // A burst of sixteen members does not fill the queue of one member.
    let fixture = HostileFixture::open(TALKATIVE).await?;
    let report = stops_reading(fixture.clone()).await.context("a reader that stops")?;
    fixture.check().await.context("after a reader that stops")?;
    is_kicked_while_behind(fixture.clone()).await.context("a kick of who is behind")?;
    println!(
        "== pace: {} ms\n{report}\n{}",
        start.elapsed().as_millis(),
        fixture.bystanders.summary()
    );
    Ok(())
}
