//! `cargo xtask demo`: its output contains playable URLs and is readable for people, later joiners see its
//! broadcasters, and no process remains, whether it ends by Ctrl-C or is killed.
//! Proves no rule of the protocol: the demo.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lianmai_test_support::arrivals::ask;
use lianmai_test_support::process::{build, root};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::media::{assert_moving, assert_playable};
use crate::server::{Member, Pull, Scratch, TEST_TIMEOUT, programs};

/// If it takes longer, it hangs. A demo checks page and programs before it starts, and demos start one after the other.
const STARTS: Duration = TEST_TIMEOUT.saturating_mul(10);

/// The demo and all processes that it started. Ctrl-C goes to its process group, as from a terminal.
struct Demo {
    child: Child,
    pid: u32,
    /// The lines of its error output.
    log: Arc<Mutex<Vec<String>>>,
}

/// A process with its start time, so that it is not confused with a later one of the same id.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    name: String,
    started: String,
}

impl Process {
    /// Every process that has not ended.
    fn all() -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let Ok(pid) = entry?.file_name().to_string_lossy().parse() else { continue };
            // A process may end between the listing and the reading.
            let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let (head, tail) = stat.rsplit_once(')').context("no name")?;
            let name = head.split_once('(').context("no name")?.1.to_owned();
            // From the third field on: the state, the parent; the start is the 22nd.
            let fields: Vec<_> = tail.split_whitespace().collect();
            let [state, parent, ..] = fields[..] else { continue };
            let started = (*fields.get(19).context("no start")?).to_owned();
            if state != "Z" {
                all.push(Process { pid, parent: parent.parse()?, name, started });
            }
        }
        Ok(all)
    }
}

/// The addresses that a demo prints.
struct OnAir {
    server: SocketAddr,
    pull: Pull,
}

impl Demo {
    /// Starts a demo on these ports, in its own folder.
    fn start(folder: &Scratch, ports: [u16; 3]) -> Result<Self> {
        let [public, admin, rtmp] = ports.map(|port| format!("127.0.0.1:{port}"));
        // Under `nohup` a demo would rightly outlive its terminal; this test needs it to end.
        let mut child = Command::new("env")
            .args(["--default-signal=HUP", env!("CARGO")])
            .current_dir(root())
            .args(["xtask", "demo", "--dir"])
            .arg(&folder.0)
            .args(["--", "--listen", &public, "--admin-listen", &admin, "--rtmp-listen", &rtmp])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let pid = child.id().context("it runs")?;
        let errors = child.stderr.take().context("a piped child has an error output")?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = log.clone();
        tokio::spawn(async move {
            let mut errors = BufReader::new(errors).lines();
            while let Ok(Some(line)) = errors.next_line().await {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(Demo { child, pid, log })
    }

    /// Waits until it has printed the playable URLs.
    async fn on_air(&mut self) -> Result<OnAir> {
        let stdout = self.child.stdout.take().context("a piped child has an output")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut said = Vec::new();
        let (mut server, mut flv, mut rtmp) = (None, None, None);
        let read = async {
            while server.is_none() || flv.is_none() || rtmp.is_none() {
                let line = lines.next_line().await?.context("the demo ended")?;
                ensure!(!line.starts_with('{'), "a line of a log: {line}");
                said.push(line.clone());
                let mut words = line.split_whitespace();
                match (words.next(), words.next()) {
                    (Some("signal"), Some(url)) => server = Some(url.to_owned()),
                    (Some("flv"), Some(url)) => flv = Some(url.to_owned()),
                    // The server also prints a line of this name: its listener, without a stream.
                    (Some("rtmp"), Some(url)) if url.contains('?') => rtmp = Some(url.to_owned()),
                    _ => {}
                }
            }
            anyhow::Ok(())
        };
        let printed = timeout(STARTS, read).await.map_err(anyhow::Error::from).flatten();
        printed.with_context(|| format!("printed: {said:#?}, and of errors: {:#?}", self.log()))?;
        for told in ["building", "starting the server; logs go to", "starting a broadcaster"] {
            ensure!(said.iter().any(|line| line.starts_with(told)), "no `{told}`: {said:#?}");
        }
        // The address for people comes before all other addresses.
        let first = said.iter().find(|line| line.contains("://")).context("no address")?;
        let page = first.strip_prefix("page").context("the page is not first")?.trim().to_owned();
        let opened = format!("open    {page}#channel=demo");
        ensure!(said.contains(&opened), "no `{opened}`: {said:#?}");
        // Continues to read, so that the demo never blocks on its output.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let server = server.context("no address")?;
        let address = server.trim_start_matches("ws://").split('/').next().context("no address")?;
        let pull = Pull { rtmp: rtmp.context("no rtmp")?, flv: flv.context("no flv")? };
        Ok(OnAir { server: address.parse()?, pull })
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The demo's own process and its descendants.
    fn family(&self) -> Result<Vec<Process>> {
        let all = Process::all()?;
        let mut family: Vec<_> =
            all.iter().filter(|process| process.pid == self.pid).cloned().collect();
        let mut next = 0;
        while let Some(parent) = family.get(next).map(|process| process.pid) {
            family.extend(all.iter().filter(|process| process.parent == parent).cloned());
            next += 1;
        }
        Ok(family)
    }

    /// Waits until none of its processes is left.
    async fn wait_until_gone(&mut self, family: &[Process]) -> Result<()> {
        timeout(TEST_TIMEOUT, self.child.wait()).await.context("the demo does not end")??;
        gone(family).await
    }
}

/// The process of a family with this name; the oldest if there are several.
fn named<'a>(family: &'a [Process], name: &str) -> Result<&'a Process> {
    let found = family.iter().find(|process| process.name == name);
    found.with_context(|| format!("no {name}: {family:?}"))
}

/// Waits until none of these processes is left.
async fn gone(these: &[Process]) -> Result<()> {
    let left = || anyhow::Ok(Process::all()?.into_iter().filter(|one| these.contains(one)));
    let look = async {
        while left()?.next().is_some() {
            // There is no notification for the end of a process that is not a child of the test.
            sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    match timeout(TEST_TIMEOUT, look).await {
        Ok(result) => result,
        Err(_) => bail!("left behind: {:?}", left()?.collect::<Vec<_>>()),
    }
}

fn kill(signal: &str, target: &str) -> Result<()> {
    let sent = std::process::Command::new("kill")
        .args([&format!("-{signal}"), "--", target])
        .stderr(Stdio::null())
        .status()?;
    ensure!(sent.success(), "nothing to signal");
    Ok(())
}

/// Kills what is left of a demo that failed.
impl Drop for Demo {
    fn drop(&mut self) {
        for process in self.family().unwrap_or_default() {
            let _ = kill("KILL", &process.pid.to_string());
        }
    }
}

/// Builds what the demo builds, so that the demo itself has nothing to build.
fn build_all() -> Result<()> {
    build(&["xtask"])?;
    let mut page = std::process::Command::new(env!("CARGO"));
    let built = page.current_dir(root()).args(["xtask", "page"]).stdout(Stdio::null()).status()?;
    ensure!(built.success(), "cargo xtask page failed");
    programs().map(drop)
}

#[tokio::test]
async fn the_demo_is_on_air_and_ends_without_a_trace() -> Result<()> {
    build_all()?;
    let folder = Scratch::new()?;
    let mut demo = Demo::start(&folder, [0; 3])?;
    let OnAir { server, pull } = demo.on_air().await?;
    assert_playable(&pull).await?;
    assert_moving(&pull).await?;

    let mut late = Member::join(server, "demo", "3001").await?;
    let found = late.snapshot_of("1001").context("the broadcaster is not in the snapshot")?;
    ensure!(found["streams"].as_array().is_some_and(|streams| streams.len() == 2), "{found}");
    let pull = late.subscribe(1001).await?;
    assert_playable(&pull).await?;

    // All three hosts, and the page.
    for uid in ["1002", "1003"] {
        ensure!(late.snapshot_of(uid).is_some(), "{uid} is not in the snapshot");
    }
    let asked = format!("GET / HTTP/1.0\r\nHost: {server}\r\n\r\n");
    let page = ask(server, &asked).await?;
    ensure!(page.status == 200 && page.head.contains("text/html"), "{}", page.head);

    let family = demo.family()?;
    for program in ["signal-server", "bot", "watch", "ffmpeg"] {
        named(&family, program)?;
    }
    kill("INT", &format!("-{}", demo.pid))?;
    demo.wait_until_gone(&family).await?;
    let log = demo.log();
    ensure!(!log.iter().any(|line| line.contains("panicked")), "{log:#?}");
    let logged = std::fs::read_to_string(folder.0.join("log"))?;
    ensure!(logged.lines().any(|line| line.starts_with('{')), "the server logged nothing");
    Ok(())
}

/// However its main process ends, all processes that it started end with it, and the next demo finds its ports free.
#[tokio::test]
async fn a_demo_that_is_killed_leaves_nothing_behind() -> Result<()> {
    build_all()?;
    let folder = Scratch::new()?;
    // Free now; the system gives them to no other process while the first demo has them.
    let free = || TcpListener::bind("127.0.0.1:0");
    let listeners = [free()?, free()?, free()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    drop(listeners);
    for signal in ["KILL", "TERM", "HUP"] {
        let mut demo = Demo::start(&folder, ports)?;
        demo.on_air().await.context(signal)?;
        let family = demo.family()?;
        named(&family, "ffmpeg")?;
        kill(signal, &named(&family, "xtask")?.pid.to_string())?;
        demo.wait_until_gone(&family).await.context(signal)?;
    }
    // An ffmpeg does not outlive the bot that uses it.
    let mut demo = Demo::start(&folder, ports)?;
    demo.on_air().await?;
    let family = demo.family()?;
    let workers: Vec<_> =
        family.iter().filter(|one| one.name == "ffmpeg" || one.name == "bot").cloned().collect();
    ensure!(workers.len() >= 6, "{family:?}");
    // A bot runs a second process as the guard of its ffmpeg; these guards are not killed.
    let ours = |bot: &&Process| {
        bot.name == "bot" && !workers.iter().any(|one| one.name == "bot" && one.pid == bot.parent)
    };
    for bot in workers.iter().filter(ours) {
        kill("KILL", &bot.pid.to_string())?;
    }
    gone(&workers).await?;
    named(&demo.family()?, "signal-server")?;
    kill("KILL", &named(&family, "xtask")?.pid.to_string())?;
    demo.wait_until_gone(&family).await
}
