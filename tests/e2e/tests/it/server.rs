//! Shared by the tests: a server, and members that join by a raw socket and keep everything that they receive. Every
//! wait ends after [`TEST_TIMEOUT`].

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lianmai_test_support::arrivals;
use lianmai_test_support::media::sample;
use lianmai_test_support::process::{self, ServerProcess};
use lianmai_test_support::raw_ws::RawWs;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

pub(crate) use lianmai_test_support::TEST_TIMEOUT;

/// Members of these tests may be silent for long, and a stop may take as long as it needs. Later settings override
/// these.
const LENIENT_SETTINGS: [(&str, &str); 3] = [
    ("LIANMAI_SESSION__DEAD_AFTER_MS", "600000"),
    ("LIANMAI_DRAIN__DEADLINE_MS", "60000"),
    // The answers of a server must not depend on which programs were built beside it.
    ("LIANMAI_TASKS__SERVE", "false"),
];

/// The programs of this workspace that tests run, built once per run. One build for all, with the selection of `cargo
/// xtask demo`: another selection would unify features differently and build anew.
pub(crate) fn programs() -> Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf>> = OnceLock::new();
    // The sample to push is made here too, so that no test has to wait for it later.
    sample()?;
    let packages = [
        "lianmai-signal-server",
        "lianmai-compositor",
        "lianmai-example-bot",
        "lianmai-example-watch",
    ];
    match BUILT.get_or_init(|| process::build(&packages)) {
        Ok(directory) => Ok(directory),
        Err(error) => bail!("{error:#}"),
    }
}

/// A directory that is deleted with its value.
#[derive(Debug)]
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lianmai-e2e-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct TestServer {
    pub(crate) process: ServerProcess,
    pub(crate) data_dir: Scratch,
}

impl TestServer {
    /// Starts a server with its embedded defaults.
    pub(crate) async fn start() -> Result<Self> {
        TestServer::start_with(&[]).await
    }

    /// Starts a server with settings from the environment.
    pub(crate) async fn start_with(env: &[(&str, &str)]) -> Result<Self> {
        let program = programs()?.join("signal-server");
        let data_dir = Scratch::new()?;
        let env = [&LENIENT_SETTINGS[..], env].concat();
        let started = ServerProcess::start(&program, &data_dir.0, &env);
        let process =
            timeout(TEST_TIMEOUT, started).await.context("the server does not start")??;
        Ok(TestServer { process, data_dir })
    }

    /// Starts the next process with the data and the addresses of one that has ended.
    pub(crate) async fn start_again(&mut self, env: &[(&str, &str)]) -> Result<()> {
        let program = programs()?.join("signal-server");
        let ServerProcess { public, rtmp, admin, .. } = self.process;
        let env = [&LENIENT_SETTINGS[..], env].concat();
        let started =
            ServerProcess::start_at(&program, &self.data_dir.0, &env, [public, rtmp, admin]);
        self.process =
            timeout(TEST_TIMEOUT, started).await.context("it does not start again")??;
        Ok(())
    }

    /// A member that has joined a channel.
    pub(crate) async fn join(&self, channel: &str, uid: impl ToString) -> Result<Member> {
        Member::join(self.process.public, channel, &uid.to_string()).await
    }

    /// Waits until the relay has admitted this many players.
    pub(crate) async fn players(&self, count: usize) -> Result<()> {
        self.counts("relay_players", count).await
    }

    /// Waits until a number of the metrics has this value.
    pub(crate) async fn counts(&self, name: &str, count: usize) -> Result<()> {
        let request = format!(
            "GET /metrics HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
            self.process.admin,
            self.process.admin_token()?,
        );
        let wanted = format!("lianmai_{name} {count}");
        let search = async {
            loop {
                let text = arrivals::ask(self.process.admin, &request).await?.text().await?;
                if text.lines().any(|line| line == wanted) {
                    return anyhow::Ok(());
                }
                // There is no notification of a change, so the test polls.
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(TEST_TIMEOUT, search).await.with_context(|| format!("{name} is not {count}"))?
    }

    /// Ends every test: the server must stop in time, whatever is still running, and must have logged no error.
    pub(crate) async fn finish(mut self) -> Result<()> {
        self.process.signal("TERM").await?;
        let code =
            timeout(TEST_TIMEOUT, self.process.wait()).await.context("it does not stop")??;
        let bugs = self.process.bugs();
        ensure!(code == 0 && bugs.is_empty(), "exit code {code}, the server logged: {bugs:#?}");
        Ok(())
    }
}

/// The pull URLs of a member's media.
#[derive(Clone, Debug)]
pub(crate) struct Pull {
    pub(crate) rtmp: String,
    pub(crate) flv: String,
}

/// A member with a connection. It keeps what it receives while it waits for something else.
#[derive(Debug)]
pub(crate) struct Member {
    ws: RawWs,
    heard: VecDeque<Value>,
    /// The answer to its `join`.
    pub(crate) joined: Value,
}

impl Member {
    /// Joins the app `demo`.
    pub(crate) async fn join(server: SocketAddr, channel: &str, uid: &str) -> Result<Self> {
        Member::join_as(server, "demo", channel, uid, None).await
    }

    /// Joins an app, with a token if one is given.
    pub(crate) async fn join_as(
        server: SocketAddr,
        appkey: &str,
        channel: &str,
        uid: &str,
        token: Option<&Value>,
    ) -> Result<Self> {
        let ws = timeout(TEST_TIMEOUT, RawWs::connect(server)).await.context("no connection")??;
        let mut member = Member { ws, heard: VecDeque::new(), joined: Value::Null };
        let mut params = json!({"appkey": appkey, "channelName": channel, "uid": uid});
        if let Some(token) = token {
            params["token"] = token.clone();
        }
        member.joined = member.call("join", params).await?;
        Ok(member)
    }

    /// Sends a request and waits for its result.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let id = self.ws.request(method, params).await?;
        let is_answer = |message: &Value| message["id"].as_u64() == Some(id);
        let mut answer = self.wait(is_answer).await.with_context(|| method.to_owned())?;
        ensure!(answer.get("error").is_none(), "{method}: {answer}");
        Ok(answer["result"].take())
    }

    /// Sends a request and waits for its refusal. Returns the whole error.
    pub(crate) async fn refusal(&mut self, method: &str, params: Value) -> Result<Value> {
        let id = self.ws.request(method, params).await?;
        let is_answer = |message: &Value| message["id"].as_u64() == Some(id);
        let mut answer = self.wait(is_answer).await.with_context(|| method.to_owned())?;
        ensure!(answer.get("error").is_some(), "{method}: {answer}");
        Ok(answer["error"].take())
    }

    /// Waits for an event or notice, or takes one that was received before.
    pub(crate) async fn hear(
        &mut self,
        method: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let is_it = |message: &Value| message["method"] == method && wanted(&message["params"]);
        let mut message = self.wait(is_it).await.with_context(|| method.to_owned())?;
        Ok(message["params"].take())
    }

    async fn wait(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        if let Some(found) = self.heard.iter().position(&wanted) {
            return self.heard.remove(found).context("it was found");
        }
        let search = async {
            loop {
                let mut found = None;
                for message in self.ws.messages().await? {
                    if found.is_none() && wanted(&message) {
                        found = Some(message);
                    } else {
                        self.heard.push_back(message);
                    }
                }
                if let Some(found) = found {
                    return anyhow::Ok(found);
                }
            }
        };
        match timeout(TEST_TIMEOUT, search).await {
            Ok(result) => result,
            Err(_) => bail!("not heard within {TEST_TIMEOUT:?}; heard: {:?}", self.heard),
        }
    }

    /// Publishes sound and picture. Returns the push URL.
    pub(crate) async fn publish(&mut self) -> Result<String> {
        let answer = self.call("publish", json!({"mediaType": ""})).await?;
        Ok(answer["url"].as_str().context("no push URL")?.to_owned())
    }

    /// Subscribes to both kinds of a publisher; they share their URLs.
    pub(crate) async fn subscribe(&mut self, uid: impl ToString) -> Result<Pull> {
        let uid = uid.to_string();
        let audio = self.call("subscribe", json!({"uid": uid, "mediaType": "audio"})).await?;
        let video = self.call("subscribe", json!({"uid": uid, "mediaType": "video"})).await?;
        ensure!(audio["urls"] == video["urls"], "the kinds differ: {audio} {video}");
        let url = |name: &str| {
            video["urls"][name].as_str().map(str::to_owned).with_context(|| format!("no {name}"))
        };
        Ok(Pull { rtmp: url("rtmp")?, flv: url("flv")? })
    }

    /// The member of that uid in the snapshot of the `join`.
    pub(crate) fn snapshot_of(&self, uid: &str) -> Option<&Value> {
        let members = self.joined["members"].as_array()?;
        members.iter().find(|member| member["uid"] == uid)
    }
}
