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
    Admission, Job, Refusal, RefusalReason, RunFailure, RunId, RunOrder, RunReport, WantedTask,
};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::address::PushTargets;
use super::capacity::{CapacityStats, TaskCapacity, TaskDemand, TaskLife};
use super::child::{ChildRun, RunEnd, RunStart};
use super::cost::Cost;
use super::job::job;
use super::order_queue::{Lease, OrderQueue, StopReason};
use crate::clock::wall_now;
use crate::executor::{AdmitFuture, Executor};
use crate::media::Providers;
use crate::shard::{ShardMsg, Shards};

/// The parts of the server that an executor shares, and the settings of the operator.
pub(super) struct ExecutorParts {
    pub(super) program: PathBuf,
    pub(super) policy: message::Policy,
    pub(super) push_targets: PushTargets,
    pub(super) capacity: TaskCapacity,
    pub(super) providers: Providers,
    pub(super) shards: Shards,
    pub(super) lines: LogLimiter,
}

/// Runs compositors.
pub(crate) struct LocalExecutor {
    inner: Arc<Inner>,
}

struct Inner {
    parts: ExecutorParts,
    runs: Mutex<Runs>,
}

#[derive(Default)]
struct Runs {
    order_queues: BTreeMap<RunId, Arc<OrderQueue>>,
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
    pub(crate) capacity: CapacityStats,
}

impl LocalExecutor {
    pub(super) fn new(parts: ExecutorParts) -> Self {
        LocalExecutor { inner: Arc::new(Inner { parts, runs: Mutex::default() }) }
    }

    pub(crate) fn stats(&self) -> TaskStats {
        let runs = self.inner.runs();
        let Counts { begun, pushing, refused, killed, failures, late, dropped } =
            runs.counts.clone();
        TaskStats {
            runs: runs.order_queues.len(),
            pushing,
            begun,
            refused,
            killed,
            failures,
            late,
            dropped,
            capacity: self.inner.parts.capacity.stats(),
        }
    }

    /// Ends all runs, and completes when no process is left. No other run begins.
    pub(crate) async fn shut_down(&self) {
        let mut tasks = {
            let mut runs = self.inner.runs();
            runs.closed = true;
            runs.order_queues.values().for_each(|orders| orders.stop(StopReason::Ordered));
            std::mem::take(&mut runs.tasks)
        };
        while let Some(ended) = tasks.join_next().await {
            log_panic(ended);
        }
    }
}

/// Logs the panic of a run, which is a bug.
fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(failure) = ended {
        error!(%failure, "a run of a task has failed");
    }
}

impl Executor for LocalExecutor {
    fn admit(&self, admission: Admission) -> AdmitFuture {
        let inner = self.inner.clone();
        Box::pin(async move { inner.admit(admission).await })
    }

    fn order(&self, order: RunOrder) {
        match order {
            RunOrder::Start { run, job } => self.inner.clone().start(run, job),
            RunOrder::Lease { run, ask, ms } => {
                if let Some(orders) = self.inner.orders(&run) {
                    orders.lease(Lease { ask, ms });
                }
            }
            RunOrder::Update { run, job } => self.inner.update(&run, job),
            RunOrder::Stop { run } => {
                // A run that does not exist has already reported its end.
                if let Some(orders) = self.inner.orders(&run) {
                    orders.stop(StopReason::Ordered);
                }
            }
        }
    }
}

impl Inner {
    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn orders(&self, run: &RunId) -> Option<Arc<OrderQueue>> {
        self.runs().order_queues.get(run).cloned()
    }

    async fn admit(&self, admission: Admission) -> Result<(), Refusal> {
        let Admission { channel, tasks } = admission;
        // Checks all names at the same time, because the engine does not wait long.
        let targets = &self.parts.push_targets;
        let mut checks = Vec::with_capacity(tasks.len());
        for wanted in &tasks {
            checks.push(targets.check(wanted.spec.address.secret_url()));
        }
        for (WantedTask { at, .. }, checked) in tasks.iter().zip(join_all(checks).await) {
            checked.map_err(|why| Refusal { at: *at, why })?;
        }
        let demands = tasks.iter().map(|wanted| TaskDemand {
            life: TaskLife {
                channel: channel.clone(),
                task: wanted.task.clone(),
                life: wanted.life,
            },
            run: None,
            owner: wanted.owner,
            cost: Cost::of(&wanted.spec),
        });
        let demands: Vec<_> = demands.collect();
        self.parts.capacity.reserve(&demands, Instant::now()).map_err(|index| {
            self.runs().counts.refused += 1;
            Refusal {
                at: tasks.get(index).map_or(0, |wanted| wanted.at),
                why: RefusalReason::NoRoom,
            }
        })
    }

    fn start(self: Arc<Self>, run: RunId, job: Box<Job>) {
        let orders = Arc::new(OrderQueue::new());
        let mut runs = self.runs();
        while let Some(ended) = runs.tasks.try_join_next() {
            log_panic(ended);
        }
        if runs.closed || runs.order_queues.contains_key(&run) {
            return;
        }
        if self.parts.capacity.allocate(&demand(&run, &job), Instant::now()).is_err() {
            runs.counts.refused += 1;
            *runs.counts.failures.entry(name(RunFailure::Overloaded)).or_default() += 1;
            let inner = self.clone();
            runs.tasks.spawn(async move {
                inner.report(&run, RunReport::Failed(RunFailure::Overloaded)).await;
            });
            return;
        }
        runs.counts.begun += 1;
        runs.order_queues.insert(run.clone(), orders.clone());
        let inner = self.clone();
        runs.tasks.spawn(async move { inner.carry_out(run, job, orders).await });
    }

    fn update(&self, run: &RunId, job: Box<Job>) {
        // The lock is held so that the run cannot leave here: its room would stay taken.
        let mut runs = self.runs();
        let Some(orders) = runs.order_queues.get(run).cloned() else { return };
        match self.parts.capacity.allocate(&demand(run, &job), Instant::now()) {
            Ok(()) => orders.update(job),
            Err(_) => {
                runs.counts.refused += 1;
                orders.stop(StopReason::NoCapacity);
            }
        }
    }

    async fn carry_out(self: Arc<Self>, run: RunId, first: Box<Job>, orders: Arc<OrderQueue>) {
        let url = first.spec.address.redacted_url().to_owned();
        self.log(|| {
            info!(appkey = %run.channel.appkey, channel = ?run.channel.name.as_str(), task = %run.task,
                run = run.number, %url, "a task begins");
        });
        let begin = RunStart {
            run: run.number,
            job: self.job_message(&run, &first),
            policy: self.parts.policy.clone(),
        };
        drop(first);
        let (inner, of) = (self.clone(), run.clone());
        let to_message = move |job: &Job| inner.job_message(&of, job);
        let report = match ChildRun::start(&self.parts.program, begin, orders.clone(), to_message) {
            Ok(running) => self.follow(&run, running, &orders).await,
            Err(error) => {
                self.log(|| warn!(task = %run.task, %error, "a compositor does not start"));
                RunReport::Failed(RunFailure::Internal)
            }
        };
        if let RunReport::Failed(failure) = report {
            *self.runs().counts.failures.entry(name(failure)).or_default() += 1;
        }
        let again = orders.stop_reason() != Some(StopReason::Ordered);
        self.remove(&run, again);
        self.log(|| {
            info!(appkey = %run.channel.appkey, channel = ?run.channel.name.as_str(), task = %run.task,
                run = run.number, ?report, "a run of a task is over");
        });
        self.report(&run, report).await;
    }

    /// Passes on the reports of a run until it is over. Returns the last report.
    async fn follow(&self, run: &RunId, mut running: ChildRun, orders: &OrderQueue) -> RunReport {
        let mut progress = RunProgress::default();
        let ended = loop {
            match running.next().await {
                // The run continues with its old job, which is no longer wanted.
                Ok(message::Report::Refused { detail, .. }) => {
                    self.log(|| {
                        warn!(task = %run.task, run = run.number, detail, "an update was refused");
                    });
                    orders.stop(StopReason::Refused);
                }
                Ok(report) => self.on_report(run, report, &mut progress).await,
                Err(ended) => break ended,
            }
        };
        let ended = running.end(ended).await;
        if progress.pushing {
            self.runs().counts.pushing -= 1;
        }
        let stopped = orders.stop_reason();
        match &ended {
            RunEnd::Stopped => {}
            RunEnd::Failed(failure, detail) => {
                self.log(
                    || warn!(task = %run.task, run = run.number, ?failure, detail, "a run failed"),
                );
            }
            RunEnd::Crashed(status) => {
                self.log(
                    || warn!(task = %run.task, run = run.number, status, "a compositor ended"),
                );
            }
            RunEnd::Killed | RunEnd::Broken => {
                self.runs().counts.killed += 1;
                self.log(
                    || warn!(task = %run.task, run = run.number, ?ended, "a compositor was killed"),
                );
            }
        }
        match (stopped, ended) {
            (Some(StopReason::NoCapacity), _) => RunReport::Failed(RunFailure::Overloaded),
            (Some(StopReason::Ordered), _) => RunReport::Stopped,
            (Some(StopReason::Refused), _) => RunReport::Failed(RunFailure::Internal),
            (None, RunEnd::Failed(failure, _)) => RunReport::Failed(failure_of(failure)),
            (None, _) => RunReport::Failed(RunFailure::Internal),
        }
    }

    async fn on_report(&self, run: &RunId, report: message::Report, progress: &mut RunProgress) {
        let number = run.number;
        let report = match report {
            message::Report::Accepted { run, ask, .. } if run == number => {
                RunReport::Accepted { ask }
            }
            message::Report::Renew { run, ask } if run == number => RunReport::Renew { ask },
            message::Report::Pushing { run: of, audio_profile } if of == number => {
                self.set_pushing(progress, true);
                self.log(|| info!(task = %run.task, run = number, audio_profile, "a task pushes"));
                RunReport::Pushing
            }
            message::Report::Retrying { run: of, failure, detail } if of == number => {
                self.set_pushing(progress, false);
                let failure = failure_of(failure);
                *self.runs().counts.failures.entry(name(failure)).or_default() += 1;
                self.log(|| {
                    warn!(task = %run.task, run = number, ?failure, detail, "a push broke off");
                });
                RunReport::Retrying(failure)
            }
            message::Report::ImageFailed { run: of, index, detail } if of == number => {
                self.log(
                    || info!(task = %run.task, run = number, index, detail, "an image failed"),
                );
                RunReport::ImageFailed
            }
            message::Report::Stats { stats, .. } => {
                let mut runs = self.runs();
                runs.counts.late += stats.late.saturating_sub(progress.stats.late);
                runs.counts.dropped += stats.dropped.saturating_sub(progress.stats.dropped);
                progress.stats = stats;
                return;
            }
            _ => return,
        };
        self.report(run, report).await;
    }

    fn set_pushing(&self, progress: &mut RunProgress, pushes: bool) {
        let mut runs = self.runs();
        match (std::mem::replace(&mut progress.pushing, pushes), pushes) {
            (false, true) => runs.counts.pushing += 1,
            (true, false) => runs.counts.pushing -= 1,
            _ => {}
        }
    }

    /// Removes a run, so that another one can begin. `again`: it begins soon, and in the same room.
    fn remove(&self, run: &RunId, again: bool) {
        let mut runs = self.runs();
        runs.order_queues.remove(run);
        self.parts.capacity.release(&task_life(run), run.number, again, Instant::now());
    }

    async fn report(&self, run: &RunId, report: RunReport) {
        let message = ShardMsg::Input(Input::Task { run: run.clone(), report });
        // An error: the shard has ended.
        let _ = self.parts.shards.of(run.channel.route()).send(message).await;
    }

    /// The message for a job, with the URLs of the streams.
    fn job_message(&self, run: &RunId, wanted: &Job) -> message::Job {
        let provider = self.parts.providers.of(&run.channel.appkey);
        job(wanted, |stream| provider?.local_pull_url(stream, wanted.viewer, wall_now()))
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
struct RunProgress {
    pushing: bool,
    stats: message::Stats,
}

fn task_life(run: &RunId) -> TaskLife {
    TaskLife { channel: run.channel.clone(), task: run.task.clone(), life: run.life }
}

fn demand(run: &RunId, job: &Job) -> TaskDemand {
    TaskDemand {
        life: task_life(run),
        run: Some(run.number),
        owner: job.owner,
        cost: Cost::of(&job.spec),
    }
}

fn failure_of(failure: message::Failure) -> RunFailure {
    match failure {
        message::Failure::Unreachable => RunFailure::Unreachable,
        message::Failure::Rejected => RunFailure::Rejected,
        message::Failure::Broken => RunFailure::Broken,
        message::Failure::Encoder => RunFailure::Encoder,
        message::Failure::Silent => RunFailure::Silent,
        message::Failure::Internal => RunFailure::Internal,
    }
}

/// The name of a failure in metrics.
fn name(failure: RunFailure) -> &'static str {
    match failure {
        RunFailure::Unreachable => "unreachable",
        RunFailure::Rejected => "rejected",
        RunFailure::Broken => "broken",
        RunFailure::Input => "input",
        RunFailure::Encoder => "encoder",
        RunFailure::Overloaded => "overloaded",
        RunFailure::Silent => "silent",
        RunFailure::Internal => "internal",
    }
}
