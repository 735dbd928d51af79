//! A member that sends nothing but the pongs of its WebSocket, like a hidden tab of a browser, and one that sends
//! nothing at all.

use anyhow::{Result, bail, ensure};
use lianmai_test_support::raw_ws::{RawWs, Received};
use serde_json::json;

use crate::server::TestServer;

/// Silence ends a socket after 6 s, and its membership soon after; the server pings after half a second of silence.
const TIMERS: [(&str, &str); 3] = [
    ("LIANMAI_SESSION__PING_INTERVAL_MS", "500"),
    ("LIANMAI_SESSION__DEAD_AFTER_MS", "6000"),
    ("LIANMAI_SESSION__GRACE_MS", "1000"),
];

async fn join(server: &TestServer, uid: &str) -> Result<RawWs> {
    let mut socket = RawWs::connect(server.process.public).await?;
    let join = json!({"appkey": "demo", "channelName": "room", "uid": uid});
    socket.call("join", join).await?;
    Ok(socket)
}

/// The test ends when the silent member ends, whenever that is.
/// Proves LIV-5.
#[tokio::test]
async fn liv_5_who_answers_pings_alone_outlives_who_answers_nothing() -> Result<()> {
    let server = TestServer::start_with(&TIMERS).await?;
    let mut hidden = join(&server, "1").await?.answering_pings();
    let mut silent = join(&server, "2").await?;
    let closed = tokio::spawn(async move {
        loop {
            match silent.receive().await? {
                Received::Text(_) | Received::Pong(_) => {}
                ended => return anyhow::Ok((ended, silent.pings())),
            }
        }
    });
    // Until it hears that the other member has left.
    loop {
        match hidden.receive().await? {
            Received::Text(text) if String::from_utf8_lossy(&text).contains("clientLeave") => break,
            Received::Text(_) => {}
            ended => bail!("the hidden one hears {ended:?}"),
        }
    }
    let (ended, asked) = closed.await??;
    ensure!(matches!(ended, Received::Close(4002, _)), "the silent one ends by {ended:?}");
    ensure!(asked > 0, "it was asked before");
    // It has sent nothing but pongs so far.
    hidden.call("ping", json!({})).await?;
    ensure!(hidden.pings() > 5, "{} pings", hidden.pings());
    server.finish().await
}
