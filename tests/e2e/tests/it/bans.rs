//! A ban that survives a crash: directly after its answer and until its end, nothing that the kicked user had is
//! accepted; afterwards only new tokens are.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lianmai_test_support::raw_ws::RawWs;
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

use crate::hostile_media::{connect, handshake, request, talk};
use crate::hostile_urls::stream_of;
use crate::reconnecting::{ReconnectingMember, member_of};
use crate::server::{Scratch, TEST_TIMEOUT, TestServer};
use crate::tokens::{self, APPS};

/// Longer than the server waits for a member that may still come back (RST-4).
const BAN: Duration = Duration::from_secs(14);
/// Tolerance for clocks and whole seconds.
const SLACK: Duration = Duration::from_secs(1);

fn join(uid: &str, token: &str) -> Value {
    json!({"appkey": "safe", "channelName": "room", "uid": uid, "token": token})
}

/// The answer to a `join` of uid 2.
async fn enter(server: &TestServer, token: &str) -> Result<Value> {
    let mut socket = RawWs::connect(server.process.public).await?;
    let id = socket.request("join", join("2", token)).await?;
    timeout(TEST_TIMEOUT, socket.answer(id)).await.context("no answer")?
}

fn refusal(answer: &Value) -> &str {
    answer["error"]["data"]["name"].as_str().unwrap_or("none")
}

/// Whether the relay accepts a push to this URL.
pub(crate) async fn is_taken(server: &TestServer, url: &str) -> Result<bool> {
    let (first, then) =
        ([handshake(), connect("live")].concat(), request("publish", &stream_of(url)?));
    // `connect` and `createStream` are answered first.
    let talk = talk(&server.process, &first, &then, 4);
    let said = timeout(TEST_TIMEOUT, talk).await.context("no answer to a push")??;
    match said.get(3).map(String::as_str) {
        Some("NetStream.Publish.Start") => Ok(true),
        Some("NetStream.Publish.Denied") => Ok(false),
        _ => bail!("{said:?}"),
    }
}

/// Proves KIC-2, KIC-3, RES-12, RST-5.
#[tokio::test]
async fn rst_5_a_ban_outlives_a_kill_right_after_its_answer() -> Result<()> {
    let scratch = Scratch::new()?;
    let config = scratch.0.join("config.toml");
    std::fs::write(&config, APPS)?;
    let env = [("LIANMAI_CONFIG", config.to_str().context("a path that is text")?)];
    let mut server = TestServer::start_with(&env).await?;
    let address = server.process.public;
    let moderates =
        tokens::jwt("room", "1", |_, claims| claims["rights"]["moderate"] = true.into());
    let mut host = ReconnectingMember::join_with(address, join("1", &moderates)).await?;
    let token = tokens::jwt("room", "2", |_, _| {});
    let mut guest = ReconnectingMember::join_with(address, join("2", &token)).await?;
    let push = guest.call("publish", json!({"mediaType": ""})).await?;
    let push = push["url"].as_str().context("no URL")?.to_owned();
    ensure!(is_taken(&server, &push).await?, "the URL was never good");

    let asked = Instant::now();
    host.call("kick", json!({"uid": "2", "durationS": BAN.as_secs()})).await?;
    let (answered, kicked_s) = (Instant::now(), tokens::now_s());
    server.process.kill().await?;
    ensure!(server.process.bugs().is_empty(), "{:#?}", server.process.bugs());
    server.start_again(&env).await?;
    let back = host.reconnect_expecting("snapshot").await?;
    ensure!(member_of(&back["snapshot"], 2).is_none(), "{back}");

    // Everything is refused again and again until the ban ends.
    let pushes = async {
        let mut pace = interval(Duration::from_millis(100));
        let mut refused = 0;
        while asked.elapsed() < BAN {
            pace.tick().await;
            ensure!(
                !is_taken(&server, &push).await?,
                "the push of somebody who was kicked is served"
            );
            refused += 1;
        }
        Ok(refused)
    };
    let entries = async {
        let mut pace = interval(Duration::from_millis(500));
        let mut refused = 0;
        loop {
            pace.tick().await;
            let before = Instant::now();
            let banned = enter(&server, &token).await?;
            let after = Instant::now();
            if refusal(&banned) != "banned" {
                ensure!(after + SLACK > asked + BAN, "over after {:?}: {banned}", after - asked);
                return Ok(refused);
            }
            let left = banned["error"]["data"]["retryAfterMs"].as_u64().context("no end")?;
            let left = Duration::from_millis(left);
            ensure!(after + left + SLACK > asked + BAN, "{left:?} left of the ban");
            ensure!(before + left < answered + BAN + SLACK, "{left:?} left of the ban");
            let ticket = guest.reconnect_expecting("refused").await?;
            ensure!(ticket["reason"] == "kicked" && ticket["action"] == "none", "{ticket}");
            refused += 1;
        }
    };
    let (pushes, entries): (u32, u32) = tokio::try_join!(pushes, entries)?;
    ensure!(pushes > 0 && entries > 3, "only {pushes} pushes and {entries} entries");
    println!("refused for {BAN:?}: {pushes} pushes, {entries} times token and ticket");

    // What was valid before stays invalid. Only a token that was issued a minute after the kick is new, because clocks
    // of app servers may differ by this much.
    ensure!(
        guest.reconnect_expecting("refused").await?["reason"] == "kicked",
        "the ticket lives again"
    );
    let early = tokens::jwt("room", "2", |_, claims| claims["iat"] = (kicked_s + 50).into());
    for (token, named) in [(token, "old"), (early, "too early")] {
        let refused = enter(&server, &token).await?;
        ensure!(refusal(&refused) == "tokenRevoked", "{named}: {refused}");
    }
    let fresh = tokens::jwt("room", "2", |_, claims| {
        claims["iat"] = (kicked_s + 62).into();
    });
    let mut guest = ReconnectingMember::join_with(address, join("2", &fresh)).await?;
    ensure!(host.hear("clientJoin").await?["uid"] == "2", "{:?}", host.heard);
    let anew = guest.call("publish", json!({"mediaType": ""})).await?;
    let anew = anew["url"].as_str().context("no URL")?.to_owned();
    ensure!(is_taken(&server, &anew).await?, "the new URL is no good");
    ensure!(!is_taken(&server, &push).await?, "the URL of before lives again");
    server.finish().await
}
