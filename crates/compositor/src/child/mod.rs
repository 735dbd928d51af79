//! ffmpeg as a child process: decoders and encoders.
//!
//! In: numeric parameters. Out: a process with a pipe on each side. Deliberately absent: the contents of the pipes;
//! text and addresses from users. A command line contains only our own numbers.
//!
//! A child reads from a pipe whose other end only this process holds, and writes to one that only this process reads.
//! Both close when this process ends in any way, and ffmpeg ends when either closes. A child inherits the limits of
//! [`limit_resources`].

mod arguments;

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

pub use arguments::{DecoderOptions, EncoderOptions, VideoOptions};

/// Time limit for a child to end by itself.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum memory of a process in bytes, not counting shared memory.
pub const MAX_MEMORY: u64 = 1536 << 20;

/// The environment variables of a child: where programs and libraries are.
const KEPT_VARIABLES: [&str; 2] = ["PATH", "LD_LIBRARY_PATH"];

/// The programs.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The path of ffmpeg, version 5.1 or later.
    pub ffmpeg: PathBuf,
}

impl Default for Tools {
    fn default() -> Self {
        Self { ffmpeg: "ffmpeg".into() }
    }
}

/// Limits the memory of this process and of each of its children, and disables core files. Call it once, in a process
/// that does nothing else.
///
/// # Errors
/// The system cannot set the limits.
pub fn limit_resources() -> io::Result<()> {
    let limit = |resource: rlimit::Resource, most: u64| {
        let (_, hard) = resource.get()?;
        let most = most.min(hard);
        resource.set(most, most)
    };
    limit(rlimit::Resource::CORE, 0)?;
    limit(rlimit::Resource::DATA, MAX_MEMORY)
}

/// A child process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pipes: Option<(ChildStdin, ChildStdout)>,
}

impl Process {
    /// The pipes that it reads from and writes to. They can be taken once.
    ///
    /// # Panics
    /// If they were taken before.
    pub fn pipes(&mut self) -> (ChildStdin, ChildStdout) {
        self.pipes.take().expect("pipes are taken once, right after the start")
    }

    /// Its process id; `None` after it has ended.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Closes its pipes and waits for its end; kills it if that takes too long.
    pub async fn end(mut self) {
        drop(self.pipes.take());
        if timeout(EXIT_TIMEOUT, self.child.wait()).await.is_err() {
            // This fails only if the process has already ended.
            let _ = self.child.kill().await;
        }
    }
}

/// Starts a decoder: FLV in, NUT out.
///
/// # Errors
/// ffmpeg cannot be started.
pub fn decoder(tools: &Tools, decoding: &DecoderOptions) -> io::Result<Process> {
    start(tools, &arguments::decoder(decoding))
}

/// Starts an encoder: NUT in, FLV out.
///
/// # Errors
/// ffmpeg cannot be started.
pub fn encoder(tools: &Tools, encoding: &EncoderOptions) -> io::Result<Process> {
    start(tools, &arguments::encoder(encoding))
}

fn start(tools: &Tools, arguments: &[String]) -> io::Result<Process> {
    let mut child = Command::new(&tools.ffmpeg)
        .args(arguments)
        // The environment may contain secrets of the server.
        .env_clear()
        .envs(KEPT_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Its messages would contain data from users.
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let pipes = child.stdin.take().zip(child.stdout.take());
    Ok(Process { child, pipes })
}
