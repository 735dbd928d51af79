//! Proves no rule of the protocol: webhooks, with the receiver of the examples. Nothing is lost, everything is in order
//! and paired, although the receiver is away and the server is killed; requests that are not genuine are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use lianmai_test_support::{arrivals, process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Duration, Instant, sleep, sleep_until, timeout};

use crate::server::{TEST_TIMEOUT, TestServer};

const ENV: [(&str, &str); 3] = [
    ("LIANMAI_WEBHOOKS__ALLOW", r#"["127.0.0.1"]"#),
    ("LIANMAI_SESSION__GRACE_MS", "1000"),
    ("LIANMAI_SESSION__MEDIA_CAP_MS", "1000"),
];

/// The answer of the admin API.
async fn ask(server: &TestServer, method: &str, path: &str, body: &Value) -> Result<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} /v1/apps/demo/{path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        server.process.admin,
        server.process.admin_token()?,
        body.len(),
    );
    let mut answer = arrivals::ask(server.process.admin, &request).await?;
    let text = answer.text().await?;
    ensure!((200..300).contains(&answer.status), "{method} {path}: {text}");
    Ok(serde_json::from_str(&text)?)
}

/// The receiver of the examples, in its own process.
struct HookReceiver {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
}

impl HookReceiver {
    async fn start(secret: &str, port: u16, state: &Path) -> Result<Self> {
        let script = process::root().join("examples/webhook-receiver/receiver.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .args(["--port", &port.to_string(), "--state"])
            .arg(state)
            .env("WEBHOOK_SECRET", secret)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("node")?;
        let output = child.stdout.take().context("a piped child has an output")?;
        let mut lines = BufReader::new(output).lines();
        let line = timeout(TEST_TIMEOUT, lines.next_line()).await??.context("it ended")?;
        let port: u16 = line.strip_prefix("LISTENING ").context("no address")?.parse()?;
        Ok(HookReceiver { child, lines, address: SocketAddr::from(([127, 0, 0, 1], port)) })
    }

    /// Ends it. Returns what it has received.
    async fn end(mut self) -> Result<Value> {
        let pid = self.child.id().context("it has ended")?.to_string();
        Command::new("kill").args(["-TERM", &pid]).status().await?;
        let summary = async {
            while let Some(line) = self.lines.next_line().await? {
                if let Some(summary) = line.strip_prefix("SUMMARY ") {
                    return anyhow::Ok(serde_json::from_str(summary)?);
                }
            }
            anyhow::bail!("no summary")
        };
        timeout(TEST_TIMEOUT, summary).await?
    }
}

/// All events of the API.
async fn events(server: &TestServer) -> Result<Vec<Value>> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = ask(server, "GET", &format!("events?limit=1000{after}"), &Value::Null).await?;
        all.extend(page["events"].as_array().context("no events")?.iter().cloned());
        if page["more"] != true {
            return Ok(all);
        }
        after = format!("&after={}", page["nextCursor"].as_str().context("no cursor")?);
    }
}

/// The last number of each channel, if all channels have ended.
fn ended(events: &[Value]) -> Option<BTreeMap<String, u64>> {
    let mut last = BTreeMap::new();
    for event in events {
        let name = format!("demo/{}", event["channelName"].as_str()?);
        last.insert(name, (event["seq"].as_u64()?, event["type"] == "channelEnded"));
    }
    let all_ended = !last.is_empty() && last.values().all(|(_, ended)| *ended);
    all_ended.then(|| last.into_iter().map(|(name, (seq, _))| (name, seq)).collect())
}

/// The last number of each channel that the receiver has stored.
fn heard(state: &Path) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(state).unwrap_or_default();
    let state: Value = serde_json::from_str(&text).unwrap_or_default();
    let known = state["known"].as_array().cloned().unwrap_or_default();
    let of = |one: &Value| Some((one[0].as_str()?.to_owned(), one[1]["lastSeq"].as_u64()?));
    known.iter().filter_map(of).collect()
}

#[tokio::test]
async fn nothing_is_lost_though_the_receiver_is_away_and_the_server_is_killed() -> Result<()> {
    const MEMBERS: usize = 200;
    // At least this long: the waits between attempts have grown by then.
    const AWAY: Duration = Duration::from_secs(30);
    let mut server = TestServer::start_with(&ENV).await?;
    let state = server.data_dir.0.join("receiver.json");
    let made = ask(&server, "POST", "webhooks", &json!({"url": "http://127.0.0.1:9/"})).await?;
    let secret = made["secret"].as_str().context("no secret")?.to_owned();
    let webhook = format!("webhooks/{}", made["id"].as_str().context("no id")?);
    let receiver = HookReceiver::start(&secret, 0, &state).await?;
    let address = receiver.address;
    let url = json!({"url": format!("http://{address}/")});
    ask(&server, "PATCH", &webhook, &url).await?;
    let pong = ask(&server, "POST", &format!("{webhook}/ping"), &Value::Null).await?;
    ensure!(pong["delivered"] == true, "{pong}");

    // Members come and go; the journal must contain what each was told.
    let (mut mids, mut members) = (BTreeSet::new(), Vec::new());
    let (mut receiver, mut back_at) = (Some(receiver), Instant::now());
    for number in 0..MEMBERS {
        let mut member = server.join(&format!("room {}", number % 8), number + 1).await?;
        mids.insert(member.joined["mid"].as_str().context("no mid")?.to_owned());
        if number % 3 == 0 {
            member.call("leave", json!({})).await?;
        } else {
            members.push(member);
        }
        if number == MEMBERS / 4 {
            receiver.take().context("it runs")?.end().await?;
            back_at = Instant::now() + AWAY;
        }
        if number == MEMBERS / 2 {
            server.counts("store_waiting_rows", 0).await?;
            server.process.kill().await?;
            // None of these comes back.
            members.clear();
            server.start_again(&ENV).await?;
        }
    }
    // These do not come back either: they are lost, and their grace ends after a second.
    drop(members);
    sleep_until(back_at).await;
    let receiver = HookReceiver::start(&secret, address.port(), &state).await?;
    let through = async {
        loop {
            let events = events(&server).await?;
            if let Some(last) = ended(&events)
                && heard(&state) == last
            {
                return anyhow::Ok(events);
            }
            // There is no notification of a change, so the test polls.
            sleep(Duration::from_millis(100)).await;
        }
    };
    let events = timeout(TEST_TIMEOUT, through).await.context("not all is heard")??;
    let of = |kind: &str| {
        let of_kind = events.iter().filter(|event| event["type"] == kind);
        let mids = of_kind.filter_map(|event| event["data"]["mid"].as_str().map(str::to_owned));
        mids.collect::<Vec<_>>()
    };
    let (joined, left) = (of("memberJoined"), of("memberLeft"));
    ensure!(joined.len() == MEMBERS && left.len() == MEMBERS, "{} {}", joined.len(), left.len());
    ensure!(joined.into_iter().collect::<BTreeSet<_>>() == mids, "who has joined");
    ensure!(left.into_iter().collect::<BTreeSet<_>>() == mids, "who has left");
    let seen = receiver.end().await?;
    let counts = ["events", "joined", "left", "gaps", "unpaired", "lost", "refused", "here"];
    let counts: Vec<_> = counts.iter().map(|key| seen[key].as_u64().unwrap_or(u64::MAX)).collect();
    let all = events.len() as u64;
    let members = MEMBERS as u64;
    ensure!(counts == [all, members, members, 0, 0, 0, 0, 0], "{seen} of {all}");
    server.finish().await
}

#[tokio::test]
async fn what_is_not_genuine_is_refused_by_the_receiver() -> Result<()> {
    let server = TestServer::start_with(&ENV).await?;
    let tap = TcpListener::bind("127.0.0.1:0").await?;
    let url = json!({"url": format!("http://{}/", tap.local_addr()?)});
    let made = ask(&server, "POST", "webhooks", &url).await?;
    let secret = made["secret"].as_str().context("no secret")?.to_owned();
    let state = server.data_dir.0.join("receiver.json");
    let receiver = HookReceiver::start(&secret, 0, &state).await?;
    // A listener in between records a genuine request.
    let _member = server.join("room", 1).await?;
    let (mut socket, _) = timeout(TEST_TIMEOUT, tap.accept()).await??;
    let mut recorded = Vec::new();
    while !recorded.ends_with(b"}}") {
        let mut bytes = [0; 4096];
        let count = timeout(TEST_TIMEOUT, socket.read(&mut bytes)).await??;
        ensure!(count > 0, "the delivery ended early");
        recorded.extend_from_slice(&bytes[..count]);
    }
    socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
    let recorded = String::from_utf8(recorded)?;
    let send = async |request: &str| -> Result<u16> {
        let request = request.replacen("HTTP/1.1\r\n", "HTTP/1.1\r\nConnection: close\r\n", 1);
        Ok(arrivals::ask(receiver.address, &request).await?.status)
    };
    let altered = recorded.replace("channelOpened", "channelEnded!");
    ensure!(altered != recorded && send(&altered).await? == 401, "an altered one");
    let line =
        recorded.lines().find(|line| line.starts_with("webhook-timestamp")).context("time")?;
    let older = recorded.replace(line, "webhook-timestamp: 1000000000");
    ensure!(send(&older).await? == 401, "an old one");
    let unsigned = recorded.replace("webhook-signature: v1,", "webhook-signature: v2,");
    ensure!(unsigned != recorded && send(&unsigned).await? == 401, "an unsigned one");
    ensure!(send(&recorded).await? == 200, "the genuine one");
    // The server repeats a delivery whose answer was lost: it is accepted, without effect.
    ensure!(send(&recorded).await? == 200, "the same once more");
    let seen = receiver.end().await?;
    ensure!(seen["events"] == 1 && seen["again"] == 1 && seen["refused"] == 3, "{seen}");
    server.finish().await
}
