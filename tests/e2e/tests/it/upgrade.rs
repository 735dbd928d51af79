//! A hand-made connection: ignored offers, pings, and the answer to a close frame.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::time::timeout;

use lianmai_test_support::raw_ws::{CLOSE, PING, RawWs, Received};

use crate::server::{TEST_TIMEOUT, TestServer};

/// Upgrades by hand, with offers of compression and a query.
async fn upgraded(server: &TestServer) -> Result<RawWs> {
    let mut socket = RawWs::open(server.process.public).await?;
    let head = format!(
        "GET /v1/signal?token=x&room=1 HTTP/1.1\r\nHost: {}\r\nUPGRADE: WebSocket\r\n\
         connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: lianmai.v1\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-other\r\n\r\n",
        server.process.public
    );
    socket.write(head.as_bytes()).await?;
    let head = timeout(TEST_TIMEOUT, socket.http_head()).await.context("no answer")??;
    let head = head.to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 101 "), "{head}");
    ensure!(!head.contains("sec-websocket-extensions"), "{head}");
    Ok(socket)
}

async fn next(socket: &mut RawWs) -> Result<Received> {
    timeout(TEST_TIMEOUT, socket.receive()).await.context("nothing comes")?
}

/// Proves CON-1, CON-7, CON-9.
#[tokio::test]
async fn con_7_offers_and_a_query_are_ignored_and_pings_are_answered() -> Result<()> {
    let server = TestServer::start().await?;
    let mut socket = upgraded(&server).await?;
    for payload in [&b""[..], b"x", &[0xff; 125]] {
        socket.send_frame(PING, payload).await?;
        ensure!(next(&mut socket).await? == Received::Pong(payload.to_vec().into()));
    }
    let join = json!({"appkey": "demo", "channelName": "room", "uid": "1"});
    socket.call("join", join).await?;
    socket.send_frame(PING, b"joined").await?;
    ensure!(next(&mut socket).await? == Received::Pong(b"joined".to_vec().into()));
    drop(socket);
    server.finish().await
}

/// Proves CON-10.
#[tokio::test]
async fn con_10_a_close_comes_back_and_ends_the_socket_but_no_membership() -> Result<()> {
    let server = TestServer::start().await?;
    let mut watcher = server.join("room", 2).await?;
    for code in [1000_u16, 1001, 4005, 4999] {
        let mut socket = upgraded(&server).await?;
        let join = json!({"appkey": "demo", "channelName": "room", "uid": "1",
                          "joinId": "sixteen-characters"});
        socket.call("join", join).await?;
        socket.send_frame(CLOSE, &code.to_be_bytes()).await?;
        let ends = async {
            loop {
                match socket.receive().await? {
                    Received::Close(code, _) => return anyhow::Ok(code),
                    Received::Gone => return Ok(0),
                    _ => {}
                }
            }
        };
        ensure!(timeout(TEST_TIMEOUT, ends).await.context("no close")?? == code, "not {code}");
        ensure!(next(&mut socket).await? == Received::Gone, "the server keeps the socket");
    }
    // Members received only the first join, and a later member sees this member.
    let head = watcher.call("ping", json!({})).await?;
    ensure!(head["seq"] == 2, "{head}");
    let late = server.join("room", 3).await?;
    ensure!(late.snapshot_of("1").is_some(), "a close ended the membership");
    server.finish().await
}
