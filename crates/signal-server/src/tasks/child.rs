//! One run as a child process. Comes in: the orders of its queue. Goes out: its reports, and its end: reported when
//! the process is gone, so nothing pushes any more. Deliberately absent: the consequences of reports.
//!
//! ```text
//!   OrderQueue --> [writer] -- a line each --> standard input  \
//!                                                            > lianmai-compositor, one process for each run
//!   reports <-- [reader] <- a line each -- standard output  /
//! ```
//!
//! The child ends with its standard input, so it does not outlive this process, however this one ends. A child that
//! does not end when it is ordered to is killed. All children are awaited, so there are no zombies.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use lianmai_compositor::message::{self, MAX_LINE, VERSION};
use lianmai_signal_engine::task::Job;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::order_queue::{NextOrder, OrderQueue};

/// Maximum number of waiting reports of a child.
const MAX_WAITING_REPORTS: usize = 32;
/// A child that has not ended this long after its order to stop is killed. It takes at most 2 s to disconnect from a
/// receiver.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);
/// Time for a child to exit after its last report, or after the end of its output.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of reports per second. Normal are five or six.
const MAX_REPORTS_PER_SECOND: u32 = 200;

/// The environment variables that a child keeps: the paths of programs and libraries.
const KEPT_VARIABLES: [&str; 2] = ["PATH", "LD_LIBRARY_PATH"];

/// How a run ended.
#[derive(Debug)]
pub(super) enum RunEnd {
    /// It reported that it was stopped, or why it failed.
    Stopped,
    Failed(message::Failure, String),
    /// The process ended without a report.
    Crashed(String),
    /// It did not end in time, and was killed.
    Killed,
    /// It sent too many reports, and was killed.
    Broken,
}

/// The content of the first order.
pub(super) struct RunStart {
    /// The number of the run.
    pub(super) run: u64,
    pub(super) job: message::Job,
    pub(super) policy: message::Policy,
}

/// A child that carries out a run. Dropping it kills it.
pub(super) struct ChildRun {
    run: u64,
    child: Child,
    orders: Arc<OrderQueue>,
    reports: mpsc::Receiver<message::Report>,
    writer: JoinHandle<()>,
    /// Time at which it is killed unless it has ended.
    deadline: Option<Instant>,
    second_start: Instant,
    reports_in_second: u32,
}

impl ChildRun {
    /// Starts a child. `to_message` converts a job of the queue to a message.
    ///
    /// # Errors
    /// There is no such program, or no room for a process.
    pub(super) fn start(
        program: &Path,
        begin: RunStart,
        orders: Arc<OrderQueue>,
        to_message: impl Fn(&Job) -> message::Job + Send + 'static,
    ) -> io::Result<Self> {
        let mut child = start(program)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or(io::ErrorKind::BrokenPipe)?;
        let RunStart { run, job, policy } = begin;
        let first = message::Order::Start { v: VERSION, run, job: Box::new(job), policy };
        let writer = tokio::spawn(write(input, first, run, orders.clone(), to_message));
        let (line, reports) = mpsc::channel(MAX_WAITING_REPORTS);
        tokio::spawn(read(output, line));
        let (deadline, second_start, reports_in_second) = (None, Instant::now(), 0);
        Ok(ChildRun {
            run,
            child,
            orders,
            reports,
            writer,
            deadline,
            second_start,
            reports_in_second,
        })
    }

    /// The next report.
    ///
    /// # Errors
    /// The run is over. [`ChildRun::end`] must end its process.
    pub(super) async fn next(&mut self) -> Result<message::Report, RunEnd> {
        let report = loop {
            let deadline = self.deadline;
            let over = async {
                match deadline {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                report = self.reports.recv() => {
                    break report.ok_or_else(|| RunEnd::Crashed(String::new()))?;
                }
                () = self.orders.wait_for_stop(), if deadline.is_none() => {
                    self.deadline = Some(Instant::now() + STOP_TIMEOUT);
                }
                () = over => return Err(RunEnd::Killed),
            }
        };
        if self.second_start.elapsed() >= Duration::from_secs(1) {
            (self.second_start, self.reports_in_second) = (Instant::now(), 0);
        }
        self.reports_in_second += 1;
        if self.reports_in_second > MAX_REPORTS_PER_SECOND {
            return Err(RunEnd::Broken);
        }
        match report {
            message::Report::Stopped { run } if run == self.run => Err(RunEnd::Stopped),
            message::Report::Failed { run, failure, detail } if run == self.run => {
                Err(RunEnd::Failed(failure, detail))
            }
            report => Ok(report),
        }
    }

    /// Waits for the end of the process, and kills it if that takes too long.
    pub(super) async fn end(mut self, ended: RunEnd) -> RunEnd {
        // The end of its input also orders it to stop.
        self.writer.abort();
        let exit = match ended {
            RunEnd::Killed | RunEnd::Broken => None,
            _ => timeout(EXIT_TIMEOUT, self.child.wait()).await.ok(),
        };
        match (exit, ended) {
            (Some(Ok(status)), RunEnd::Crashed(_)) => RunEnd::Crashed(status.to_string()),
            (Some(_), ended) => ended,
            (None, ended) => {
                // Can only fail if the process is gone already.
                let _ = self.child.kill().await;
                ended
            }
        }
    }
}

fn start(program: &Path) -> io::Result<Child> {
    Command::new(program)
        // The environment may hold secrets of the server.
        .env_clear()
        .envs(KEPT_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // It reports everything on standard output.
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

/// Sends orders to a child, up to the order to stop.
async fn write(
    mut input: ChildStdin,
    first: message::Order,
    run: u64,
    orders: Arc<OrderQueue>,
    to_message: impl Fn(&Job) -> message::Job + Send,
) {
    let mut order = first;
    loop {
        let is_last = matches!(order, message::Order::Stop { .. });
        let Ok(mut line) = serde_json::to_vec(&order) else { return };
        line.push(b'\n');
        // An error: the child is gone, which the end of its output tells, too.
        if input.write_all(&line).await.is_err() || is_last {
            // Drops the input only now, because its end also orders a stop.
            return;
        }
        order = match orders.next().await {
            NextOrder::Lease(lease) => message::Order::Lease { run, ask: lease.ask, ms: lease.ms },
            NextOrder::Job(job) => message::Order::Update { run, job: Box::new(to_message(&job)) },
            NextOrder::Stop => message::Order::Stop { run },
        };
    }
}

/// Passes on the reports of a child. A line that is too long ends the reports. A line that cannot be parsed is an
/// unknown report.
async fn read(output: ChildStdout, reports: mpsc::Sender<message::Report>) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut output).take(MAX_LINE as u64);
        match bounded.read_until(b'\n', &mut line).await {
            Ok(count) if count > 0 && line.ends_with(b"\n") => {}
            _ => return,
        }
        let report = serde_json::from_slice(&line).unwrap_or(message::Report::Unknown);
        if reports.send(report).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: programs that are no compositor.

    use super::super::order_queue::{Lease, StopReason};
    use super::*;

    const JOB: &str = r#"{"push": "rtmp://127.0.0.1:9/live/a", "scene": {
        "canvas": {"width": 16, "height": 16}, "fps": 15, "videoKbps": 100,
        "sound": {"kbps": 64, "sampleRate": 48000, "channels": 2}}}"#;

    fn start(program: &str) -> io::Result<(ChildRun, Arc<OrderQueue>)> {
        let orders = Arc::new(OrderQueue::new());
        let job: message::Job = serde_json::from_str(JOB).unwrap();
        let begin = RunStart { run: 7, job: job.clone(), policy: message::Policy::default() };
        let running =
            ChildRun::start(Path::new(program), begin, orders.clone(), move |_| job.clone())?;
        Ok((running, orders))
    }

    async fn ended(mut running: ChildRun) -> RunEnd {
        loop {
            if let Err(ended) = running.next().await {
                return running.end(ended).await;
            }
        }
    }

    #[tokio::test]
    async fn a_child_that_fails_to_start_or_exits_at_once_is_reported() {
        assert!(start("/nowhere/compositor").is_err());
        let (running, _mailbox) = start("/bin/true").unwrap();
        let ended = ended(running).await;
        assert!(matches!(&ended, RunEnd::Crashed(status) if status.contains("0")), "{ended:?}");
    }

    #[tokio::test]
    async fn a_child_that_writes_too_much_is_killed() {
        let (running, _mailbox) = start("/usr/bin/yes").unwrap();
        let ended = ended(running).await;
        assert!(matches!(ended, RunEnd::Broken), "{ended:?}");
    }

    /// The program repeats its input: the orders of a run, in order, and then the end.
    #[tokio::test]
    async fn stdin_closes_after_the_stop_order() {
        let (mut running, orders) = start("/bin/cat").unwrap();
        assert_eq!(running.next().await.unwrap(), message::Report::Unknown);
        orders.lease(Lease { ask: 1, ms: 2000 });
        assert_eq!(running.next().await.unwrap(), message::Report::Unknown);
        orders.stop(StopReason::Ordered);
        let ended = ended(running).await;
        assert!(matches!(&ended, RunEnd::Crashed(status) if status.contains("0")), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_does_not_exit_is_killed() {
        let (running, orders) = start("/bin/cat").unwrap();
        let pid = running.child.id().unwrap().to_string();
        let stopped = Command::new("kill").args(["-STOP", &pid]).status().await.unwrap();
        assert!(stopped.success());
        orders.stop(StopReason::Ordered);
        let ended = ended(running).await;
        assert!(matches!(ended, RunEnd::Killed), "{ended:?}");
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the child was reaped");
    }
}
