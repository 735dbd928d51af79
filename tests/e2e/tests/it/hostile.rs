//! The hostile-input table. A row is what is sent and every answer to it; rows by topic are in the modules
//! beside this one. While they run, a pair of bystanders in the same channel exchanges messages and media
//! ([`Witness`]), and after each row nothing of theirs may be missing or late and the server must have
//! logged no error. Rows that can be repeated are repeated, and the server's memory must not grow.

use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use lianmai_test_support::process::ServerProcess;
use lianmai_test_support::raw_ws::{RawWs, Received};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::hostile_witness::{CHANNEL, Witness};
use crate::stage::{PATIENCE, Scratch, programs};
use crate::tokens::APPS;

/// Repeats before the memory is measured, and between the two measurements.
const WARM_UP: u64 = 200;
const REPEATS: u64 = 1_000;
/// Repeats at the same time.
const PARALLEL: u64 = 16;
/// The server's resident memory may grow by this much over [`REPEATS`]: its allocator gives back late.
const GROWTH_KIB: u64 = 2 * 1024;

/// Limits that no row reaches by being repeated.
pub(crate) const ROOMY: &str = "[limits]\ncommands_per_second = 10000\ncommand_burst = 100000\n\
    channel_bytes_per_second = 1000000000\n";

/// A server with an app in debug mode and one in safe mode, and the pair.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) server: ServerProcess,
    pub(crate) witness: Witness,
    pub(crate) admin_token: String,
    next_uid: AtomicU64,
    _data: Scratch,
}

impl House {
    /// Starts all of it; `config` is added to the apps.
    pub(crate) async fn open(config: &str) -> Result<Arc<Self>> {
        let data = Scratch::new()?;
        let file = data.0.join("config.toml");
        std::fs::write(&file, format!("{config}\n{APPS}"))?;
        let program = programs()?.join("signal-server");
        let file = file.to_str().context("a path that is text")?;
        let env = [("LIANMAI_CONFIG", file)];
        let data_dir = data.0.join("data");
        let started = ServerProcess::start(&program, &data_dir, &env);
        let server = timeout(PATIENCE, started).await.context("the server does not start")??;
        let witness = Witness::start(&server).await?;
        let admin_token = server.admin_token()?;
        let next_uid = AtomicU64::new(1_000);
        Ok(Arc::new(House { server, witness, admin_token, next_uid, _data: data }))
    }

    /// A uid that nobody had.
    pub(crate) fn fresh_uid(&self) -> String {
        self.next_uid.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// A member of the pair's channel.
    pub(crate) async fn member(&self, uid: &str, role: &str) -> Result<RawWs> {
        let mut socket = RawWs::connect(self.server.public).await?;
        // The same again is the same membership, whatever became of its socket.
        let params = json!({
            "appkey": "demo", "channelName": CHANNEL, "uid": uid, "role": role,
            "joinId": format!("hostile-join-{uid:0>8}"),
        });
        socket.call("join", params).await?;
        Ok(socket)
    }

    /// What must hold after each row.
    pub(crate) async fn check(&self) -> Result<()> {
        self.witness.check().await?;
        let bugs = self.server.bugs();
        ensure!(bugs.is_empty(), "the server logged: {bugs:#?}");
        self.server.rss_kib().map(drop)
    }
}

/// What one connection sends.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    /// A request with a fresh id.
    Call(&'static str, Value),
    /// Text as it is, but for `$ID`, which becomes a fresh id, and `$LAST`, the one before it.
    Text(String),
    /// A frame of any type.
    Frame(u8, Vec<u8>),
    /// Bytes as they are.
    Bytes(Vec<u8>),
}

/// Where the connection is when it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Upgraded.
    Lobby,
    /// Joined the pair's channel, in a role.
    Channel(&'static str),
}

type Playing = Pin<Box<dyn Future<Output = Result<Vec<String>>> + Send>>;

/// How a row is played.
#[derive(Clone)]
pub(crate) enum Play {
    /// By a WebSocket.
    Socket(Place, Vec<Say>),
    /// By a function that tells what came back.
    Own(Arc<dyn Fn(Arc<House>) -> Playing + Send + Sync>),
}

/// One row.
#[derive(Clone)]
pub(crate) struct Row {
    name: &'static str,
    play: Play,
    /// What comes back, all of it: `ok` or the name of an error for each answer, `closing CODE ACTION`,
    /// `close CODE REASON`, `gone`. Where it does not end in one of the last two the connection lives on.
    expect: Vec<&'static str>,
    repeated: bool,
}

/// A row before the join.
pub(crate) fn lobby(name: &'static str, say: Vec<Say>, expect: &[&'static str]) -> Row {
    socket(name, Place::Lobby, say, expect)
}

/// A row of an audience member.
pub(crate) fn member(name: &'static str, say: Vec<Say>, expect: &[&'static str]) -> Row {
    socket(name, Place::Channel("audience"), say, expect)
}

/// A row of a broadcaster.
pub(crate) fn broadcaster(name: &'static str, say: Vec<Say>, expect: &[&'static str]) -> Row {
    socket(name, Place::Channel("broadcaster"), say, expect)
}

fn socket(name: &'static str, place: Place, say: Vec<Say>, expect: &[&'static str]) -> Row {
    let play = Play::Socket(place, say);
    Row { name, play, expect: expect.to_vec(), repeated: true }
}

/// A row that is played by a function.
pub(crate) fn own<F, P>(name: &'static str, play: F, expect: &[&'static str]) -> Row
where
    F: Fn(Arc<House>) -> P + Send + Sync + 'static,
    P: Future<Output = Result<Vec<String>>> + Send + 'static,
{
    let play = Play::Own(Arc::new(move |house| Box::pin(play(house))));
    Row { name, play, expect: expect.to_vec(), repeated: true }
}

impl Row {
    /// Is played once only.
    pub(crate) fn once(mut self) -> Self {
        self.repeated = false;
        self
    }

    /// Plays it `times` with one uid, on one connection where that lives on.
    async fn run(&self, house: &Arc<House>, times: u64) -> Result<()> {
        let uid = house.fresh_uid();
        let mut kept: Option<RawWs> = None;
        for _ in 0..times {
            let once = async {
                match &self.play {
                    Play::Own(play) => play(house.clone()).await,
                    Play::Socket(place, say) => {
                        let mut socket = match (kept.take(), place) {
                            (Some(kept), _) => kept,
                            (None, Place::Lobby) => RawWs::connect(house.server.public).await?,
                            (None, Place::Channel(role)) => house.member(&uid, role).await?,
                        };
                        let heard = converse(&mut socket, say, self.expect.len()).await?;
                        let over = heard.last().is_some_and(|last| is_end(last));
                        if !over && *place != Place::Lobby {
                            kept = Some(socket);
                        }
                        Ok(heard)
                    }
                }
            };
            let heard = timeout(PATIENCE, once).await.context("takes too long")??;
            ensure!(heard == self.expect, "got {heard:?} instead of {:?}", self.expect);
        }
        Ok(())
    }

    async fn repeat(&self, house: &Arc<House>, times: u64) -> Result<()> {
        let mut tasks = JoinSet::new();
        for worker in 0..PARALLEL {
            let share = times / PARALLEL + u64::from(worker < times % PARALLEL);
            let (row, house) = (self.clone(), house.clone());
            tasks.spawn(async move { row.run(&house, share).await });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

fn is_end(heard: &str) -> bool {
    heard == "gone" || heard.starts_with("close ")
}

/// Says it all and collects what comes back: `count` things, or until the end of the connection. Where the
/// connection lives on, a request behind it shows that nothing more came.
async fn converse(socket: &mut RawWs, say: &[Say], count: usize) -> Result<Vec<String>> {
    for say in say {
        speak(socket, say).await?;
    }
    let mut heard = Vec::new();
    while heard.len() < count {
        hear(socket, &mut heard).await?;
        if heard.last().is_some_and(|last| is_end(last)) {
            let after = socket.receive().await?;
            ensure!(after == Received::Gone, "{after:?} after the end: {heard:?}");
            return Ok(heard);
        }
    }
    let id = socket.request("ping", json!({})).await?;
    loop {
        let known = heard.len();
        let message = hear(socket, &mut heard).await?;
        if message.iter().any(|message| message["id"] == id) {
            // The answer itself is none of the row's.
            heard.pop();
            return Ok(heard);
        }
        ensure!(heard.len() == known, "more than expected: {heard:?}");
    }
}

async fn speak(socket: &mut RawWs, say: &Say) -> Result<()> {
    // Who is cut off while it still speaks hears why when it listens.
    let _ = match say {
        Say::Call(method, params) => socket.request(method, params.clone()).await.map(drop),
        Say::Text(text) if text.contains('$') => {
            let mut text = text.replace("$LAST", &socket.last_id().to_string());
            while let Some(at) = text.find("$ID") {
                text.replace_range(at..at + 3, &socket.fresh_id().to_string());
            }
            socket.send(&text).await
        }
        Say::Text(text) => socket.send(text).await,
        Say::Frame(opcode, payload) => socket.send_frame(*opcode, payload).await,
        Say::Bytes(bytes) => socket.write(bytes).await,
    };
    Ok(())
}

/// Waits for one frame and notes what is in it; events and notices of the channel are not noted.
async fn hear(socket: &mut RawWs, heard: &mut Vec<String>) -> Result<Vec<Value>> {
    let text = match socket.receive().await? {
        Received::Text(text) => text,
        Received::Pong(_) => {
            heard.push("pong".to_owned());
            return Ok(Vec::new());
        }
        Received::Close(code, reason) => {
            heard.push(format!("close {code} {reason}"));
            return Ok(Vec::new());
        }
        Received::Gone => {
            heard.push("gone".to_owned());
            return Ok(Vec::new());
        }
    };
    let messages = match serde_json::from_slice(&text)? {
        Value::Array(messages) => messages,
        message => vec![message],
    };
    for message in &messages {
        if let Some(error) = message.get("error") {
            let name = error["data"]["name"].as_str().context("an error without name")?;
            // Requests whose id could not be read are told apart.
            let to = if message["id"].is_null() { " null" } else { "" };
            let field = error["data"]["field"].as_str().map(|field| format!(" {field}"));
            heard.push(format!("{name}{to}{}", field.unwrap_or_default()));
        } else if message.get("result").is_some() {
            heard.push("ok".to_owned());
        } else if message["method"] == "closing" {
            let (code, action) = (&message["params"]["code"], &message["params"]["action"]);
            heard.push(format!("closing {code} {}", action.as_str().unwrap_or_default()));
        }
    }
    Ok(messages)
}

/// Plays every row once, then those that can be repeated; a line of figures for each.
pub(crate) async fn play(house: &Arc<House>, rows: &[Row]) -> Result<String> {
    let mut report = String::new();
    let mut wrong = Vec::new();
    for row in rows {
        if let Err(error) = row.run(house, 1).await {
            wrong.push(format!("`{}`: {error:#}", row.name));
        }
        house.check().await.with_context(|| format!("after `{}`", row.name))?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    for row in rows.iter().filter(|row| row.repeated) {
        let start = Instant::now();
        let measured = async {
            row.repeat(house, WARM_UP).await?;
            let before = house.server.rss_kib()?;
            row.repeat(house, REPEATS).await?;
            let after = house.server.rss_kib()?;
            if after > before + GROWTH_KIB {
                bail!("memory grew from {before} to {after} KiB over {REPEATS} repeats");
            }
            house.check().await?;
            anyhow::Ok((before, after))
        };
        let (before, after) = measured.await.with_context(|| format!("repeated `{}`", row.name))?;
        let _ = writeln!(
            report,
            "{:<44} {before:>6} -> {after:>6} KiB {:>5} ms",
            row.name,
            start.elapsed().as_millis()
        );
    }
    let _ = writeln!(report, "{} rows; {}", rows.len(), house.witness.summary());
    Ok(report)
}

/// Plays the rows of one topic in a house of their own.
pub(crate) async fn play_topic(topic: &str, rows: &[Row]) -> Result<String> {
    let start = Instant::now();
    let house = House::open(ROOMY).await?;
    let report = play(&house, rows).await?;
    Ok(format!("== {topic}: {} ms\n{report}", start.elapsed().as_millis()))
}
