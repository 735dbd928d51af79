//! A signal-server in a separate process. In: a program, a data directory, environment variables. Out: its addresses,
//! its log, and its use of memory and processor as the kernel reports it. Deliberately absent: the server's own code.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::TEST_TIMEOUT;
use crate::arrivals::{self, Answer};

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    _lines: Lines<BufReader<ChildStdout>>,
    log: Arc<Log>,
    /// Listener for WebSocket and HTTP-FLV.
    pub public: SocketAddr,
    /// Listener for RTMP.
    pub rtmp: SocketAddr,
    /// Listener for RTMPS, if it is configured.
    pub rtmps: Option<SocketAddr>,
    /// Listener of the admin API.
    pub admin: SocketAddr,
    data_dir: PathBuf,
}

impl ServerProcess {
    /// Starts `program` on free ports, with its data in `data_dir`.
    ///
    /// # Errors
    /// The server does not start, or does not print its addresses.
    pub async fn start(program: &Path, data_dir: &Path, env: &[(&str, &str)]) -> Result<Self> {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        ServerProcess::start_at(program, data_dir, env, [free; 3]).await
    }

    /// Starts `program` on these addresses (public, RTMP, admin), with its data in `data_dir`.
    ///
    /// # Errors
    /// The server does not start, or does not print its addresses.
    pub async fn start_at(
        program: &Path,
        data_dir: &Path,
        env: &[(&str, &str)],
        [public, rtmp, admin]: [SocketAddr; 3],
    ) -> Result<Self> {
        // A separate thread reads the log: a server whose log is not read would block.
        let (errors, write_errors) = io::pipe()?;
        let log = Arc::new(Log::default());
        let collected = log.clone();
        std::thread::spawn(move || collected.collect(errors));
        let mut child = Command::new(program)
            .args(["run", "--listen", &public.to_string(), "--rtmp-listen", &rtmp.to_string()])
            .args(["--admin-listen", &admin.to_string(), "--data-dir"])
            .arg(data_dir)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(write_errors)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let output = child.stdout.take().context("a piped child has an output")?;
        let mut lines = BufReader::new(output).lines();
        // The server prints a line per listener; that of the admin API is the last.
        let mut listeners: BTreeMap<String, SocketAddr> = BTreeMap::new();
        while !listeners.contains_key("admin") {
            let line = lines.next_line().await?;
            let line = line.with_context(|| format!("the server ended: {:#?}", log.lines()))?;
            let name = line.split_whitespace().next().unwrap_or_default();
            let rest = line.split_once("://").with_context(|| format!("no address: {line}"))?.1;
            let end = rest.find(['/', ' ']).unwrap_or(rest.len());
            listeners.insert(name.to_owned(), rest[..end].parse()?);
        }
        let listener = |name| listeners.get(name).copied().with_context(|| format!("no {name}"));
        let (public, rtmp, admin) = (listener("signal")?, listener("rtmp")?, listener("admin")?);
        let rtmps = listener("rtmps").ok();
        Ok(ServerProcess {
            child,
            _lines: lines,
            log,
            public,
            rtmp,
            rtmps,
            admin,
            data_dir: data_dir.to_owned(),
        })
    }

    /// Posts JSON to the admin API.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn admin_post(&self, path: &str, body: &Value) -> Result<Answer> {
        let (body, token) = (body.to_string(), self.admin_token()?);
        let request = format!(
            "POST {path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.admin,
            body.len(),
        );
        arrivals::ask(self.admin, &request).await
    }

    /// The log lines so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lines().clone()
    }

    /// Number of log lines so far.
    #[must_use]
    pub fn log_length(&self) -> usize {
        self.log.lines().len()
    }

    /// Waits for a log line after the first `known` ones.
    ///
    /// # Errors
    /// There is none within [`TEST_TIMEOUT`].
    pub async fn logged(&self, known: usize, is_it: impl Fn(&str) -> bool) -> Result<String> {
        let wait = async {
            loop {
                // Created before the check, so that a line that arrives in between wakes it.
                let more = self.log.more.notified();
                if let Some(line) = self.log.lines().iter().skip(known).find(|line| is_it(line)) {
                    return line.clone();
                }
                more.await;
            }
        };
        timeout(TEST_TIMEOUT, wait).await.context("the log line did not come")
    }

    /// Log lines that report a bug: ERROR lines and panics.
    #[must_use]
    pub fn bugs(&self) -> Vec<String> {
        let is_bug = |line: &str| {
            line.contains("\"level\":\"ERROR\"")
                || line.contains(" ERROR ")
                || line.contains("panicked")
        };
        self.log.lines().iter().filter(|line| is_bug(line)).cloned().collect()
    }

    /// The process id.
    ///
    /// # Errors
    /// The server has ended.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("the server has ended")
    }

    /// The token of the admin API.
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

    /// Sends a signal, for instance `TERM`.
    ///
    /// # Errors
    /// The process has ended.
    pub async fn signal(&self, name: &str) -> Result<()> {
        let pid = self.pid()?.to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().await?;
        ensure!(sent.success(), "kill failed");
        Ok(())
    }

    /// Waits for the end of the process. Returns the exit code.
    ///
    /// # Errors
    /// It was killed by a signal.
    pub async fn wait(&mut self) -> Result<i32> {
        self.child.wait().await?.code().context("killed by a signal")
    }

    /// Kills the process, so that it can neither write nor report anything, and waits until it is gone. Returns the
    /// time of the kill.
    ///
    /// # Errors
    /// It has ended already.
    pub async fn kill(&mut self) -> Result<Instant> {
        self.pid()?;
        self.child.start_kill()?;
        let killed = Instant::now();
        self.child.wait().await?;
        Ok(killed)
    }

    /// Sends SIGTERM and waits. Returns the exit code.
    ///
    /// # Errors
    /// The process cannot be signalled, or was killed.
    pub async fn terminate(mut self) -> Result<i32> {
        self.signal("TERM").await?;
        self.wait().await
    }
}

/// The error output of a server.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    more: Notify,
}

impl Log {
    fn collect(&self, errors: io::PipeReader) {
        for line in io::BufReader::new(errors).lines().map_while(Result::ok) {
            self.lines().push(line);
            self.more.notify_waiters();
        }
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Builds programs of this workspace with the profile of the tests, and returns their directory. This is fast if they
/// are up to date.
///
/// # Errors
/// The build fails.
pub fn build(packages: &[&str]) -> Result<PathBuf> {
    let mut cargo = std::process::Command::new(env!("CARGO"));
    // Variables of the calling cargo would make build scripts that depend on them run again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    cargo.current_dir(root()).args(["build", "--quiet"]);
    for package in packages {
        cargo.args(["-p", package]);
    }
    ensure!(cargo.status()?.success(), "cargo build failed");
    Ok(target_dir().join("debug"))
}

/// The root of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The target directory of cargo.
#[must_use]
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
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

fn waited(thread: &Path) -> Option<Duration> {
    let stat = std::fs::read_to_string(thread.join("schedstat")).ok()?;
    Some(Duration::from_nanos(stat.split_whitespace().nth(1)?.parse().ok()?))
}

/// How long threads have waited for a processor while they were runnable, as counted by the kernel.
#[derive(Clone, Debug, Default)]
pub struct CpuWait(BTreeMap<u32, Duration>);

impl CpuWait {
    /// The waits of the threads of a process so far; empty if the kernel does not count them.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
        let waited = threads.filter_map(|thread| {
            let thread = thread.ok()?;
            let id = thread.file_name().to_str()?.parse().ok()?;
            Some((id, waited(&thread.path())?))
        });
        CpuWait(waited.collect())
    }

    /// The waits of the calling thread so far.
    #[must_use]
    pub fn of_this_thread() -> Self {
        CpuWait(
            waited(Path::new("/proc/thread-self")).map(|waited| (0, waited)).into_iter().collect(),
        )
    }

    /// The longest wait of a thread since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &CpuWait) -> Duration {
        let known = |id| earlier.0.get(id).copied().unwrap_or_default();
        let waited = self.0.iter().map(|(id, now)| now.saturating_sub(known(id)));
        waited.max().unwrap_or_default()
    }
}

/// Processor time of a process in seconds, with a resolution of 10 ms.
///
/// # Errors
/// The process has ended.
pub fn cpu_s(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, can contain any characters; user and system time are fields 14 and 15.
    let fields = stat.rsplit_once(')').context("no name")?.1;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || -> Result<f64> { Ok(fields.next().context("too short")?.parse()?) };
    Ok((next()? + next()?) / 100.0)
}
