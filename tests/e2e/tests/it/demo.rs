//! `cargo xtask demo`: what it prints can be played, its broadcaster is found by who comes later, and
//! Ctrl-C leaves nothing behind.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lianmai_test_support::process::{build, root};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::media::{assert_moving, assert_playable};
use crate::stage::{Member, PATIENCE, Pull, programs};

/// For the demo to print everything; its programs are built before.
const START: Duration = Duration::from_secs(20);

/// The demo with everything that it started, in a process group of its own. Whatever is left when it is
/// dropped is killed.
struct Demo {
    child: Child,
    group: u32,
}

impl Demo {
    fn start() -> Result<Self> {
        let free = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let child = Command::new(env!("CARGO"))
            .current_dir(root())
            .args(["xtask", "demo", "--"])
            .args(free)
            .args(["--rtmp-listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let group = child.id().context("it runs")?;
        Ok(Demo { child, group })
    }

    /// Processes of the group that have not ended: id and name.
    fn left(&self) -> Result<Vec<(u32, String)>> {
        let mut left = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
            // A process may end between the listing and the reading.
            let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let (head, tail) = stat.rsplit_once(')').context("no name")?;
            let name = head.split_once('(').context("no name")?.1;
            let mut fields = tail.split_whitespace();
            let state = fields.next().context("no state")?;
            let group = fields.nth(1).context("no group")?;
            if group == self.group.to_string() && state != "Z" {
                left.push((pid, name.to_owned()));
            }
        }
        Ok(left)
    }

    fn signal(&self, name: &str) -> Result<()> {
        let sent = std::process::Command::new("kill")
            .args([&format!("-{name}"), "--", &format!("-{}", self.group)])
            .stderr(Stdio::null())
            .status()?;
        ensure!(sent.success(), "no process of the group is left");
        Ok(())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.signal("KILL");
    }
}

#[tokio::test]
async fn the_demo_is_on_air_and_ends_without_a_trace() -> Result<()> {
    programs()?;
    build(&["xtask"])?;
    let mut demo = Demo::start()?;
    let stdout = demo.child.stdout.take().context("a piped child has an output")?;
    let mut lines = BufReader::new(stdout).lines();
    let mut said = Vec::new();
    let (mut server, mut flv, mut rtmp) = (None, None, None);
    let read = async {
        while server.is_none() || flv.is_none() || rtmp.is_none() {
            let line = lines.next_line().await?.context("the demo ended")?;
            said.push(line.clone());
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("signal"), Some(url)) => server = Some(url.to_owned()),
                (Some("flv"), Some(url)) => flv = Some(url.to_owned()),
                // The server prints a line of this name as well: its listener, without a stream.
                (Some("rtmp"), Some(url)) if url.contains('?') => rtmp = Some(url.to_owned()),
                _ => {}
            }
        }
        anyhow::Ok(())
    };
    timeout(START, read).await.with_context(|| format!("printed: {:#?}", said.clone()))??;
    // Goes on to read, so that the demo never waits for us.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let pull = Pull { rtmp: rtmp.context("no rtmp")?, flv: flv.context("no flv")? };
    assert_playable(&pull).await?;
    assert_moving(&pull).await?;

    let server = server.context("no address")?;
    let address = server.trim_start_matches("ws://").split('/').next().context("no address")?;
    let address: SocketAddr = address.parse()?;
    let mut late = Member::join(address, "demo", "3001").await?;
    let found = late.snapshot_of("1001").context("the broadcaster is not in the snapshot")?;
    ensure!(found["streams"].as_array().is_some_and(|streams| streams.len() == 2), "{found}");
    let pull = late.subscribe(1001).await?;
    assert_playable(&pull).await?;

    let names = |left: &[(u32, String)]| left.iter().map(|(_, name)| name.clone()).collect();
    let running: Vec<String> = names(&demo.left()?);
    for program in ["signal-server", "bot", "watch", "ffmpeg"] {
        ensure!(running.iter().any(|name| name == program), "no {program} in {running:?}");
    }
    demo.signal("INT")?;
    timeout(PATIENCE, demo.child.wait()).await.context("the demo does not end")??;
    let gone = async {
        while !demo.left()?.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    let gone = timeout(PATIENCE, gone).await;
    gone.with_context(|| format!("left behind: {:?}", demo.left()))??;
    Ok(())
}
