//! ffmpeg as a child: what decodes and what encodes.
//!
//! In: numbers that say how. Out: a process with a pipe at each side. Absent: what goes through the pipes; any text or
//! address of somebody else: a command line has numbers of ours only.
//!
//! A child reads from a pipe whose other end only this process holds, and writes to one that only it reads. Both close
//! however this process ends, and ffmpeg ends with either. What a child may use is inherited from [`bound`].

mod arguments;

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

pub use arguments::{Decoding, Encoding, Picturing};

/// How long a child may take to end by itself.
const FAREWELL: Duration = Duration::from_secs(1);
/// Memory that a process may have, bytes, beside what it shares with others.
pub const MAX_MEMORY: u64 = 1536 << 20;

/// What a child keeps of the environment: where programs and libraries are.
const KEPT: [&str; 2] = ["PATH", "LD_LIBRARY_PATH"];

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Tools {
    /// ffmpeg, 5.1 or later.
    pub ffmpeg: PathBuf,
}

impl Default for Tools {
    fn default() -> Self {
        Self { ffmpeg: "ffmpeg".into() }
    }
}

/// Bounds the memory of this process and of each of its children, and lets none of them leave a core file. Call it
/// once, in a process that does nothing else.
///
/// # Errors
/// The system does not bound it.
pub fn bound() -> io::Result<()> {
    let limit = |resource: rlimit::Resource, most: u64| {
        let (_, hard) = resource.get()?;
        let most = most.min(hard);
        resource.set(most, most)
    };
    limit(rlimit::Resource::CORE, 0)?;
    limit(rlimit::Resource::DATA, MAX_MEMORY)
}

/// A child, killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pipes: Option<(ChildStdin, ChildStdout)>,
}

impl Process {
    /// What it reads from, and what it writes to. There once.
    ///
    /// # Panics
    /// When they were taken before.
    pub fn pipes(&mut self) -> (ChildStdin, ChildStdout) {
        self.pipes.take().expect("pipes are taken once, right after the start")
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end, and kills it when that takes too long.
    pub async fn end(mut self) {
        drop(self.pipes.take());
        if timeout(FAREWELL, self.child.wait()).await.is_err() {
            // Nothing but its being gone already can fail.
            let _ = self.child.kill().await;
        }
    }
}

/// Starts a decoder: FLV in, NUT out.
///
/// # Errors
/// ffmpeg cannot be started.
pub fn decoder(tools: &Tools, decoding: &Decoding) -> io::Result<Process> {
    start(tools, &arguments::decoder(decoding))
}

/// Starts an encoder: NUT in, FLV out.
///
/// # Errors
/// ffmpeg cannot be started.
pub fn encoder(tools: &Tools, encoding: &Encoding) -> io::Result<Process> {
    start(tools, &arguments::encoder(encoding))
}

fn start(tools: &Tools, arguments: &[String]) -> io::Result<Process> {
    let mut child = Command::new(&tools.ffmpeg)
        .args(arguments)
        // Secrets of the server may be in it.
        .env_clear()
        .envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Its words are made of what a stranger sent.
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let pipes = child.stdin.take().zip(child.stdout.take());
    Ok(Process { child, pipes })
}
