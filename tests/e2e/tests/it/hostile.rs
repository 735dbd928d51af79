//! The hostile-input table. A row is an input and all answers to it; rows are grouped by topic in the modules beside
//! this one. During the rows two bystanders in the same channel exchange messages and media ([`Bystanders`]). After
//! each row none of this may be missing or late, and the server must have logged no error. Repeatable rows are
//! repeated, and the server's memory must not grow.

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

use crate::hostile_bystanders::{Bystanders, CHANNEL};
use crate::server::{Scratch, TEST_TIMEOUT, programs};
use crate::tokens::APPS;

/// Repetitions before the first memory measurement, and between the first and the second.
const WARM_UP: u64 = 200;
const REPEATS: u64 = 1_000;
/// Repetitions in parallel.
const PARALLEL: u64 = 16;
/// The server's resident memory may grow by this much over [`REPEATS`], because its allocator returns memory late.
const GROWTH_KIB: u64 = 2 * 1024;

/// Limits that repetitions do not reach.
pub(crate) const ROOMY: &str = "[limits]\ncommands_per_second = 10000\ncommand_burst = 100000\n\
    channel_bytes_per_second = 1000000000\n";

/// A server with an app in debug mode and one in safe mode, and the bystanders.
#[derive(Debug)]
pub(crate) struct HostileFixture {
    pub(crate) server: ServerProcess,
    pub(crate) bystanders: Bystanders,
    pub(crate) admin_token: String,
    next_uid: AtomicU64,
    _data: Scratch,
}

impl HostileFixture {
    /// Starts everything; `config` is added to the apps.
    pub(crate) async fn open(config: &str) -> Result<Arc<Self>> {
        let data = Scratch::new()?;
        let file = data.0.join("config.toml");
        std::fs::write(&file, format!("{config}\n{APPS}"))?;
        let program = programs()?.join("signal-server");
        let file = file.to_str().context("a path that is text")?;
        let env = [("LIANMAI_CONFIG", file)];
        let data_dir = data.0.join("data");
        let started = ServerProcess::start(&program, &data_dir, &env);
        let server =
            timeout(TEST_TIMEOUT, started).await.context("the server does not start")??;
        let bystanders = Bystanders::start(&server).await?;
        let admin_token = server.admin_token()?;
        let next_uid = AtomicU64::new(1_000);
        Ok(Arc::new(HostileFixture { server, bystanders, admin_token, next_uid, _data: data }))
    }

    /// A uid that was not used before.
    pub(crate) fn fresh_uid(&self) -> String {
        self.next_uid.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// A member of the bystanders' channel.
    pub(crate) async fn member(&self, uid: &str, role: &str) -> Result<RawWs> {
        let mut socket = RawWs::connect(self.server.public).await?;
        // A repetition continues the same membership, whatever happened to its socket.
        let params = json!({
            "appkey": "demo", "channelName": CHANNEL, "uid": uid, "role": role,
            "joinId": format!("hostile-join-{uid:0>8}"),
        });
        socket.call("join", params).await?;
        Ok(socket)
    }

    /// Checks what must hold after each row.
    pub(crate) async fn check(&self) -> Result<()> {
        self.bystanders.check().await?;
        let bugs = self.server.bugs();
        ensure!(bugs.is_empty(), "the server logged: {bugs:#?}");
        self.server.rss_kib().map(drop)
    }
}

/// Something to send.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// A request with a fresh id.
    Call(&'static str, Value),
    /// Text in which `$ID` becomes a fresh id, and `$LAST` the id before it.
    Text(String),
    /// A frame of any type.
    Frame(u8, Vec<u8>),
    /// Bytes without framing.
    Bytes(Vec<u8>),
}

/// The state of the connection before the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartState {
    /// Upgraded.
    Lobby,
    /// Joined the bystanders' channel in a role.
    Channel(&'static str),
}

type ActionFuture = Pin<Box<dyn Future<Output = Result<Vec<String>>> + Send>>;

/// How a row is executed.
#[derive(Clone)]
pub(crate) enum Action {
    /// On a WebSocket.
    Socket(StartState, Vec<Input>),
    /// By a function that returns the answers.
    Custom(Arc<dyn Fn(Arc<HostileFixture>) -> ActionFuture + Send + Sync>),
}

/// One row.
#[derive(Clone)]
pub(crate) struct Row {
    name: &'static str,
    action: Action,
    /// All answers: `ok` or the name of an error for each answer, `closing CODE ACTION`, `close CODE REASON`, `gone`.
    /// Unless it ends with one of the last two, the connection continues.
    expect: Vec<&'static str>,
    repeated: bool,
}

/// A row before the join.
pub(crate) fn lobby(name: &'static str, say: Vec<Input>, expect: &[&'static str]) -> Row {
    socket(name, StartState::Lobby, say, expect)
}

/// A row of an audience member.
pub(crate) fn member(name: &'static str, say: Vec<Input>, expect: &[&'static str]) -> Row {
    socket(name, StartState::Channel("audience"), say, expect)
}

/// A row of a broadcaster.
pub(crate) fn broadcaster(name: &'static str, say: Vec<Input>, expect: &[&'static str]) -> Row {
    socket(name, StartState::Channel("broadcaster"), say, expect)
}

fn socket(name: &'static str, place: StartState, say: Vec<Input>, expect: &[&'static str]) -> Row {
    let action = Action::Socket(place, say);
    Row { name, action, expect: expect.to_vec(), repeated: true }
}

/// A row that is executed by a function.
pub(crate) fn custom<F, P>(name: &'static str, play: F, expect: &[&'static str]) -> Row
where
    F: Fn(Arc<HostileFixture>) -> P + Send + Sync + 'static,
    P: Future<Output = Result<Vec<String>>> + Send + 'static,
{
    let action = Action::Custom(Arc::new(move |fixture| Box::pin(play(fixture))));
    Row { name, action, expect: expect.to_vec(), repeated: true }
}

impl Row {
    /// The row is not repeated.
    pub(crate) fn once(mut self) -> Self {
        self.repeated = false;
        self
    }

    /// Executes the row `times` times with one uid, on one connection if it continues.
    async fn run(&self, fixture: &Arc<HostileFixture>, times: u64) -> Result<()> {
        let uid = fixture.fresh_uid();
        let mut kept: Option<RawWs> = None;
        for _ in 0..times {
            let once = async {
                match &self.action {
                    Action::Custom(play) => play(fixture.clone()).await,
                    Action::Socket(place, say) => {
                        let mut socket = match (kept.take(), place) {
                            (Some(kept), _) => kept,
                            (None, StartState::Lobby) => {
                                RawWs::connect(fixture.server.public).await?
                            }
                            (None, StartState::Channel(role)) => fixture.member(&uid, role).await?,
                        };
                        let heard = converse(&mut socket, say, self.expect.len()).await?;
                        let over = heard.last().is_some_and(|last| is_end(last));
                        if !over && *place != StartState::Lobby {
                            kept = Some(socket);
                        }
                        Ok(heard)
                    }
                }
            };
            let heard = timeout(TEST_TIMEOUT, once).await.context("takes too long")??;
            ensure!(heard == self.expect, "got {heard:?} instead of {:?}", self.expect);
        }
        Ok(())
    }

    async fn repeat(&self, fixture: &Arc<HostileFixture>, times: u64) -> Result<()> {
        let mut tasks = JoinSet::new();
        for worker in 0..PARALLEL {
            let share = times / PARALLEL + u64::from(worker < times % PARALLEL);
            let (row, fixture) = (self.clone(), fixture.clone());
            tasks.spawn(async move { row.run(&fixture, share).await });
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

/// Sends everything and collects the answers: `count` of them, or until the end of the connection. If the connection
/// continues, a further request proves that nothing more came.
async fn converse(socket: &mut RawWs, say: &[Input], count: usize) -> Result<Vec<String>> {
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
            // The answer to this request does not belong to the row.
            heard.pop();
            return Ok(heard);
        }
        ensure!(heard.len() == known, "more than expected: {heard:?}");
    }
}

async fn speak(socket: &mut RawWs, say: &Input) -> Result<()> {
    // A connection that is closed during a write still gives the reason when it is read.
    let _ = match say {
        Input::Call(method, params) => socket.request(method, params.clone()).await.map(drop),
        Input::Text(text) if text.contains('$') => {
            let mut text = text.replace("$LAST", &socket.last_id().to_string());
            while let Some(at) = text.find("$ID") {
                text.replace_range(at..at + 3, &socket.fresh_id().to_string());
            }
            socket.send(&text).await
        }
        Input::Text(text) => socket.send(text).await,
        Input::Frame(opcode, payload) => socket.send_frame(*opcode, payload).await,
        Input::Bytes(bytes) => socket.write(bytes).await,
    };
    Ok(())
}

/// Waits for one frame and notes its content, except events and notices of the channel.
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
            // Answers to requests whose id could not be read are marked.
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

/// Executes every row once, then the repeatable rows again. Returns a line of figures for each.
pub(crate) async fn run_rows(fixture: &Arc<HostileFixture>, rows: &[Row]) -> Result<String> {
    let mut report = String::new();
    let mut wrong = Vec::new();
    for row in rows {
        if let Err(error) = row.run(fixture, 1).await {
            wrong.push(format!("`{}`: {error:#}", row.name));
        }
        fixture.check().await.with_context(|| format!("after `{}`", row.name))?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    for row in rows.iter().filter(|row| row.repeated) {
        let start = Instant::now();
        let measured = async {
            row.repeat(fixture, WARM_UP).await?;
            let before = fixture.server.rss_kib()?;
            row.repeat(fixture, REPEATS).await?;
            let after = fixture.server.rss_kib()?;
            if after > before + GROWTH_KIB {
                bail!("memory grew from {before} to {after} KiB over {REPEATS} repeats");
            }
            fixture.check().await?;
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
    let _ = writeln!(report, "{} rows; {}", rows.len(), fixture.bystanders.summary());
    Ok(report)
}

/// Executes the rows of one topic on a server of their own.
pub(crate) async fn run_topic(topic: &str, rows: &[Row]) -> Result<String> {
    let start = Instant::now();
    let fixture = HostileFixture::open(ROOMY).await?;
    let report = run_rows(&fixture, rows).await?;
    Ok(format!("== {topic}: {} ms\n{report}", start.elapsed().as_millis()))
}
