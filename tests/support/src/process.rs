//! A signal-server in a process of its own, and what the kernel says about it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

/// A running server; killed when it is dropped.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    _lines: Lines<BufReader<ChildStdout>>,
    log: Arc<Mutex<Vec<String>>>,
    /// WebSocket and HTTP-FLV.
    pub public: SocketAddr,
    /// RTMP.
    pub rtmp: SocketAddr,
    /// Admin API.
    pub admin: SocketAddr,
    data_dir: PathBuf,
}

impl ServerProcess {
    /// Starts `program` on free ports with its data in `data_dir`.
    ///
    /// # Errors
    /// It does not start or does not say where it listens.
    pub async fn start(program: &Path, data_dir: &Path, env: &[(&str, &str)]) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--rtmp-listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let errors = child.stderr.take().context("a piped child has an error output")?;
        tokio::spawn(collect(BufReader::new(errors).lines(), log.clone()));
        let output = child.stdout.take().context("a piped child has an output")?;
        let mut lines = BufReader::new(output).lines();
        let mut address = async |word: &str| -> Result<SocketAddr> {
            let line = lines.next_line().await?.context("the server ended")?;
            ensure!(line.starts_with(word), "unexpected line: {line}");
            let rest = line.split_once("://").context("no address")?.1;
            let end = rest.find(['/', ' ']).unwrap_or(rest.len());
            Ok(rest[..end].parse()?)
        };
        let (public, rtmp, admin) =
            (address("signal").await?, address("rtmp").await?, address("admin").await?);
        Ok(ServerProcess {
            child,
            _lines: lines,
            log,
            public,
            rtmp,
            admin,
            data_dir: data_dir.to_owned(),
        })
    }

    /// The log lines so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Log lines that tell of a bug: ERROR lines and panics.
    #[must_use]
    pub fn bugs(&self) -> Vec<String> {
        let is_bug = |line: &String| {
            line.contains("\"level\":\"ERROR\"")
                || line.contains(" ERROR ")
                || line.contains("panicked")
        };
        self.log().into_iter().filter(is_bug).collect()
    }

    /// The process.
    ///
    /// # Errors
    /// It has ended.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("the server has ended")
    }

    /// Token of the admin API.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn admin_token(&self) -> io::Result<String> {
        Ok(std::fs::read_to_string(self.data_dir.join("admin.token"))?.trim().to_owned())
    }

    /// Resident memory in KiB.
    ///
    /// # Errors
    /// The process has ended.
    pub fn rss_kib(&self) -> Result<u64> {
        rss_kib(self.pid()?)
    }

    /// Processor time used so far, in seconds.
    ///
    /// # Errors
    /// The process has ended.
    pub fn cpu_s(&self) -> Result<f64> {
        cpu_s(self.pid()?)
    }

    /// Sends SIGTERM and waits; the exit code.
    ///
    /// # Errors
    /// The process cannot be signalled or was killed.
    pub async fn terminate(mut self) -> Result<i32> {
        let pid = self.pid()?.to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await?;
        ensure!(sent.success(), "kill failed");
        self.child.wait().await?.code().context("killed by a signal")
    }
}

async fn collect(mut lines: Lines<BufReader<ChildStderr>>, log: Arc<Mutex<Vec<String>>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// Builds programs of this workspace, as the tests are built, and says where they are. Building what is
/// fresh takes a moment only.
///
/// # Errors
/// The build fails.
pub fn build(packages: &[&str]) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.current_dir(&root).args(["build", "--quiet"]);
    for package in packages {
        cargo.args(["-p", package]);
    }
    ensure!(cargo.status()?.success(), "cargo build failed");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("debug"))
}

/// Resident memory of a process in KiB.
///
/// # Errors
/// The process has ended.
pub fn rss_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().next().context("empty VmRSS")?.parse()?)
}

/// Processor time of a process in seconds; the kernel counts hundredths.
///
/// # Errors
/// The process has ended.
pub fn cpu_s(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; user and system time are fields 14 and 15.
    let fields = stat.rsplit_once(')').context("no name")?.1;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || -> Result<f64> { Ok(fields.next().context("too short")?.parse()?) };
    Ok((next()? + next()?) / 100.0)
}
