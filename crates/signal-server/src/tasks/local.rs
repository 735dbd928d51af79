//! The executor on this machine: each run is a child process. Comes in: orders of the shards. Goes out: reports to the
//! shard of the channel, log lines, metrics. Deliberately absent: when a run begins and whether it is retried, which
//! the engine decides; the child process, see `child.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use lianmai_compositor::message;
use lianmai_media_plane::LogLimiter;
use lianmai_signal_engine::Input;
use lianmai_signal_engine::task::{
    Admission, Failure, Job, Order, Refusal, RefusalReason, Report, RunId, WantedTask,
};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::address::Reach;
use super::child::{Begin, Ended, Running};
use super::cost::Cost;
use super::job::job;
use super::mailbox::{Lease, Mailbox, Stop};
use super::room::{Guest, Life, RoomStats, Rooms};
use crate::clock::wall_now;
use crate::executor::{Admitting, Executor};
use crate::media::Providers;
use crate::shard::{ShardMsg, Shards};

/// The parts of the server that an executor shares, and the settings of the operator.
pub(super) struct Parts {
    pub(super) program: PathBuf,
    pub(super) policy: message::Policy,
    pub(super) reach: Reach,
    pub(super) rooms: Rooms,
    pub(super) providers: Providers,
    pub(super) shards: Shards,
    pub(super) lines: LogLimiter,
}

/// Runs compositors.
pub(crate) struct LocalExecutor {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    runs: Mutex<Runs>,
}

#[derive(Default)]
struct Runs {
    mailboxes: BTreeMap<RunId, Arc<Mailbox>>,
    tasks: JoinSet<()>,
    counts: Counts,
    closed: bool,
}

/// Counters since the start, and the number of runs that push now.
#[derive(Clone, Debug, Default)]
struct Counts {
    begun: u64,
    pushing: usize,
    refused: u64,
    killed: u64,
    failures: BTreeMap<&'static str, u64>,
    late: u64,
    dropped: u64,
}

/// Metrics of tasks.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskStats {
    /// Runs that have a process.
    pub(crate) runs: usize,
    /// Runs whose stream a receiver accepts.
    pub(crate) pushing: usize,
    /// Runs that began since the start.
    pub(crate) begun: u64,
    /// Tasks and updates that had no room since the start.
    pub(crate) refused: u64,
    /// Processes that were killed since the start.
    pub(crate) killed: u64,
    /// Failures since the start, by reason.
    pub(crate) failures: BTreeMap<&'static str, u64>,
    /// Pictures that were not composed in time, and those that an encoder had no room for, since the start.
    pub(crate) late: u64,
    pub(crate) dropped: u64,
    /// The room that is used.
    pub(crate) room: RoomStats,
}

impl LocalExecutor {
    pub(super) fn new(parts: Parts) -> Self {
        LocalExecutor { inner: Arc::new(Inner { parts, runs: Mutex::default() }) }
    }

    pub(crate) fn stats(&self) -> TaskStats {
        let runs = self.inner.runs();
        let Counts { begun, pushing, refused, killed, failures, late, dropped } =
            runs.counts.clone();
        TaskStats {
            runs: runs.mailboxes.len(),
            pushing,
            begun,
            refused,
            killed,
            failures,
            late,
            dropped,
            room: self.inner.parts.rooms.stats(),
        }
    }

    /// Ends all runs, and completes when no process is left. No other run begins.
    pub(crate) async fn shut_down(&self) {
        let mut tasks = {
            let mut runs = self.inner.runs();
            runs.closed = true;
            runs.mailboxes.values().for_each(|mailbox| mailbox.stop(Stop::Ordered));
            std::mem::take(&mut runs.tasks)
        };
        while let Some(ended) = tasks.join_next().await {
            told(ended);
        }
    }
}

/// Logs the panic of a run, which is a bug.
fn told(ended: Result<(), tokio::task::JoinError>) {
    if let Err(failure) = ended {
        error!(%failure, "a run of a task has failed");
    }
}

impl Executor for LocalExecutor {
    fn admit(&self, admission: Admission) -> Admitting {
        let inner = self.inner.clone();
        Box::pin(async move { inner.admit(admission).await })
    }

    fn order(&self, order: Order) {
        match order {
            Order::Start { run, job } => self.inner.clone().start(run, job),
            Order::Lease { run, ask, ms } => {
                if let Some(mailbox) = self.inner.mailbox(&run) {
                    mailbox.lease(Lease { ask, ms });
                }
            }
            Order::Update { run, job } => self.inner.update(&run, job),
            Order::Stop { run } => {
                // A run that does not exist has already reported its end.
                if let Some(mailbox) = self.inner.mailbox(&run) {
                    mailbox.stop(Stop::Ordered);
                }
            }
        }
    }
}

impl Inner {
    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mailbox(&self, run: &RunId) -> Option<Arc<Mailbox>> {
        self.runs().mailboxes.get(run).cloned()
    }

    async fn admit(&self, admission: Admission) -> Result<(), Refusal> {
        let Admission { channel, tasks } = admission;
        // Checks all names at the same time, because the engine does not wait long.
        let reach = &self.parts.reach;
        let mut looks = Vec::with_capacity(tasks.len());
        for wanted in &tasks {
            looks.push(reach.judge(wanted.spec.address.secret_url()));
        }
        for (WantedTask { at, .. }, judged) in tasks.iter().zip(join_all(looks).await) {
            judged.map_err(|why| Refusal { at: *at, why })?;
        }
        let guests = tasks.iter().map(|wanted| Guest {
            life: Life { channel: channel.clone(), task: wanted.task.clone(), life: wanted.life },
            run: None,
            owner: wanted.owner,
            cost: Cost::of(&wanted.spec),
        });
        let guests: Vec<_> = guests.collect();
        self.parts.rooms.admit(&guests, Instant::now()).map_err(|index| {
            self.runs().counts.refused += 1;
            Refusal {
                at: tasks.get(index).map_or(0, |wanted| wanted.at),
                why: RefusalReason::NoRoom,
            }
        })
    }

    fn start(self: Arc<Self>, run: RunId, job: Box<Job>) {
        let mailbox = Arc::new(Mailbox::new());
        let mut runs = self.runs();
        while let Some(ended) = runs.tasks.try_join_next() {
            told(ended);
        }
        if runs.closed || runs.mailboxes.contains_key(&run) {
            return;
        }
        if self.parts.rooms.run(&guest(&run, &job), Instant::now()).is_err() {
            runs.counts.refused += 1;
            *runs.counts.failures.entry(name(Failure::Overloaded)).or_default() += 1;
            let inner = self.clone();
            runs.tasks.spawn(async move {
                inner.report(&run, Report::Failed(Failure::Overloaded)).await;
            });
            return;
        }
        runs.counts.begun += 1;
        runs.mailboxes.insert(run.clone(), mailbox.clone());
        let inner = self.clone();
        runs.tasks.spawn(async move { inner.carry_out(run, job, mailbox).await });
    }

    fn update(&self, run: &RunId, job: Box<Job>) {
        // The lock is held so that the run cannot leave here: its room would stay taken.
        let mut runs = self.runs();
        let Some(mailbox) = runs.mailboxes.get(run).cloned() else { return };
        match self.parts.rooms.run(&guest(run, &job), Instant::now()) {
            Ok(()) => mailbox.update(job),
            Err(_) => {
                runs.counts.refused += 1;
                mailbox.stop(Stop::NoRoom);
            }
        }
    }

    async fn carry_out(self: Arc<Self>, run: RunId, first: Box<Job>, mailbox: Arc<Mailbox>) {
        let told = first.spec.address.redacted_url().to_owned();
        self.log(|| {
            info!(appkey = %run.channel.appkey, channel = ?run.channel.name.as_str(), task = %run.task,
                run = run.number, url = %told, "a task begins");
        });
        let begin = Begin {
            run: run.number,
            job: self.words(&run, &first),
            policy: self.parts.policy.clone(),
        };
        drop(first);
        let (inner, of) = (self.clone(), run.clone());
        let words = move |job: &Job| inner.words(&of, job);
        let report = match Running::start(&self.parts.program, begin, mailbox.clone(), words) {
            Ok(running) => self.follow(&run, running, &mailbox).await,
            Err(error) => {
                self.log(|| warn!(task = %run.task, %error, "a compositor does not start"));
                Report::Failed(Failure::Internal)
            }
        };
        if let Report::Failed(failure) = report {
            *self.runs().counts.failures.entry(name(failure)).or_default() += 1;
        }
        let again = mailbox.stopped() != Some(Stop::Ordered);
        self.leave(&run, again);
        self.log(|| {
            info!(appkey = %run.channel.appkey, channel = ?run.channel.name.as_str(), task = %run.task,
                run = run.number, ?report, "a run of a task is over");
        });
        self.report(&run, report).await;
    }

    /// Passes on the reports of a run until it is over. Returns the last report.
    async fn follow(&self, run: &RunId, mut running: Running, mailbox: &Mailbox) -> Report {
        let mut said = Said::default();
        let ended = loop {
            match running.next().await {
                // The run continues with its old job, which is no longer wanted.
                Ok(message::Report::Refused { detail, .. }) => {
                    self.log(|| {
                        warn!(task = %run.task, run = run.number, detail, "an update was refused");
                    });
                    mailbox.stop(Stop::Refused);
                }
                Ok(report) => self.heard(run, report, &mut said).await,
                Err(ended) => break ended,
            }
        };
        let ended = running.end(ended).await;
        if said.pushing {
            self.runs().counts.pushing -= 1;
        }
        let stopped = mailbox.stopped();
        match &ended {
            Ended::Stopped => {}
            Ended::Failed(failure, detail) => {
                self.log(
                    || warn!(task = %run.task, run = run.number, ?failure, detail, "a run failed"),
                );
            }
            Ended::Crashed(status) => {
                self.log(
                    || warn!(task = %run.task, run = run.number, status, "a compositor ended"),
                );
            }
            Ended::Killed | Ended::Broken => {
                self.runs().counts.killed += 1;
                self.log(
                    || warn!(task = %run.task, run = run.number, ?ended, "a compositor was killed"),
                );
            }
        }
        match (stopped, ended) {
            (Some(Stop::NoRoom), _) => Report::Failed(Failure::Overloaded),
            (Some(Stop::Ordered), _) => Report::Stopped,
            (Some(Stop::Refused), _) => Report::Failed(Failure::Internal),
            (None, Ended::Failed(failure, _)) => Report::Failed(failure_of(failure)),
            (None, _) => Report::Failed(Failure::Internal),
        }
    }

    async fn heard(&self, run: &RunId, report: message::Report, said: &mut Said) {
        let number = run.number;
        let report = match report {
            message::Report::Accepted { run, ask, .. } if run == number => Report::Accepted { ask },
            message::Report::Renew { run, ask } if run == number => Report::Renew { ask },
            message::Report::Pushing { run: of, audio_profile } if of == number => {
                self.pushes(said, true);
                self.log(|| info!(task = %run.task, run = number, audio_profile, "a task pushes"));
                Report::Pushing
            }
            message::Report::Retrying { run: of, failure, detail } if of == number => {
                self.pushes(said, false);
                let failure = failure_of(failure);
                *self.runs().counts.failures.entry(name(failure)).or_default() += 1;
                self.log(|| {
                    warn!(task = %run.task, run = number, ?failure, detail, "a push broke off");
                });
                Report::Retrying(failure)
            }
            message::Report::ImageFailed { run: of, index, detail } if of == number => {
                self.log(
                    || info!(task = %run.task, run = number, index, detail, "an image failed"),
                );
                Report::ImageFailed
            }
            message::Report::Stats { stats, .. } => {
                let mut runs = self.runs();
                runs.counts.late += stats.late.saturating_sub(said.stats.late);
                runs.counts.dropped += stats.dropped.saturating_sub(said.stats.dropped);
                said.stats = stats;
                return;
            }
            _ => return,
        };
        self.report(run, report).await;
    }

    fn pushes(&self, said: &mut Said, pushes: bool) {
        let mut runs = self.runs();
        match (std::mem::replace(&mut said.pushing, pushes), pushes) {
            (false, true) => runs.counts.pushing += 1,
            (true, false) => runs.counts.pushing -= 1,
            _ => {}
        }
    }

    /// Removes a run, so that another one can begin. `again`: it begins soon, and in the same room.
    fn leave(&self, run: &RunId, again: bool) {
        let mut runs = self.runs();
        runs.mailboxes.remove(run);
        self.parts.rooms.end(&life(run), run.number, again, Instant::now());
    }

    async fn report(&self, run: &RunId, report: Report) {
        let message = ShardMsg::Input(Input::Task { run: run.clone(), report });
        // An error: the shard has ended.
        let _ = self.parts.shards.of(run.channel.route()).send(message).await;
    }

    /// The message for a job, with the URLs of the streams.
    fn words(&self, run: &RunId, wanted: &Job) -> message::Job {
        let provider = self.parts.providers.of(&run.channel.appkey);
        job(wanted, |stream| provider?.pull_here(stream, wanted.viewer, wall_now()))
    }

    /// Logs a line, unless there were too many.
    fn log(&self, line: impl FnOnce()) {
        if self.parts.lines.allow_any() {
            line();
        }
    }
}

/// The last state that a run reported.
#[derive(Default)]
struct Said {
    pushing: bool,
    stats: message::Stats,
}

fn life(run: &RunId) -> Life {
    Life { channel: run.channel.clone(), task: run.task.clone(), life: run.life }
}

fn guest(run: &RunId, job: &Job) -> Guest {
    Guest { life: life(run), run: Some(run.number), owner: job.owner, cost: Cost::of(&job.spec) }
}

fn failure_of(failure: message::Failure) -> Failure {
    match failure {
        message::Failure::Unreachable => Failure::Unreachable,
        message::Failure::Rejected => Failure::Rejected,
        message::Failure::Broken => Failure::Broken,
        message::Failure::Encoder => Failure::Encoder,
        message::Failure::Silent => Failure::Silent,
        message::Failure::Internal => Failure::Internal,
    }
}

/// The name of a failure in metrics.
fn name(failure: Failure) -> &'static str {
    match failure {
        Failure::Unreachable => "unreachable",
        Failure::Rejected => "rejected",
        Failure::Broken => "broken",
        Failure::Input => "input",
        Failure::Encoder => "encoder",
        Failure::Overloaded => "overloaded",
        Failure::Silent => "silent",
        Failure::Internal => "internal",
    }
}
