//! The runs of a task (TSK-8, TSK-9). Comes in: publishers, reports of executors, time. Goes out: orders, and states
//! for members. Whatever an executor reports or fails to report, a task has one run at a time, and the next one waits
//! until the last one has reported its end, or its lease is over.

use lianmai_protocol::message::task::TaskState;
use lianmai_protocol::{Gen, MediaKind, Mid, MonoTime, TaskId};

use super::{AnnouncedState, CHANNEL_ENDED, Phase, Task};
use crate::asks::{AfterWrite, ClaimPurpose, Continuation, Question};
use crate::channel::Channel;
use crate::config::TaskPolicy;
use crate::context::Context;
use crate::output::Output;
use crate::task::{
    Claim, Claimed, Job, Publisher, RunFailure, RunOrder, RunReport, layout::compose,
};
use crate::timers::Timer;

/// An executor that was told to begin and does not answer for this long has failed, in milliseconds.
const OFFER_MS: u64 = 5_000;
/// A lease counts as over this long after its end, in milliseconds: clocks differ, and a stop takes a moment.
pub(crate) const LEASE_SLACK_MS: u64 = 500;
/// After a push of this length, in milliseconds, the count of retries begins anew.
const STABLE_MS: u64 = 10_000;
/// Waits between two runs, in milliseconds: the first one, which doubles up to the last one.
const FIRST_WAIT_MS: u64 = 1_000;
const LAST_WAIT_MS: u64 = 4_000;
/// A claim whose answer was `Unavailable` is asked for again after this many milliseconds.
const CLAIM_AGAIN_MS: u64 = 1_000;

const UPDATED: &str = "The task was updated.";
const PUSHES: &str = "The task pushes.";
const PUSHES_LC: &str =
    "The task pushes. Its sound is LC-AAC, since there is no encoder for HE-AAC.";

fn wait_ms(retries: u32) -> u64 {
    let doubled = FIRST_WAIT_MS << retries.saturating_sub(1).min(10);
    doubled.min(LAST_WAIT_MS)
}

impl Channel {
    /// After each input: adapts tasks to the publishers.
    pub(in crate::channel) fn settle_tasks(&mut self, cx: &mut Context) {
        if self.tasks.list.is_empty() {
            self.tasks.stale = false;
            return;
        }
        // While the end of the channel is being written no run begins. Deadlines stay due, so a timer for them would
        // fire for ever.
        if self.closed || self.ending || cx.is_frozen() {
            return;
        }
        if self.tasks.stale {
            self.recompose_tasks(cx);
        }
        self.arm_tasks(cx);
    }

    pub(crate) fn tasks_due(&mut self, cx: &mut Context) {
        self.tasks.armed = None;
        for id in self.tasks.list.keys().cloned().collect::<Vec<_>>() {
            self.step_task(cx, &id);
        }
    }

    fn arm_tasks(&mut self, cx: &mut Context) {
        let Some(policy) = cx.config.tasks else { return };
        let next = self.tasks.list.values().filter_map(|task| deadline(task, policy)).min();
        let Some(next) = next else { return };
        if self.tasks.armed.is_none_or(|armed| next < armed) {
            self.tasks.armed = Some(next);
            cx.timers.arm(next, Timer::Tasks(self.id));
        }
    }

    /// Every member that publishes, in the order in which they began to; those of an earlier process by uid.
    fn publishers(&mut self) -> Vec<Publisher> {
        let of = |member: &crate::channel::member::Member| {
            let stream = member.pushes[0]?;
            let carried = |kind: MediaKind| member.publication(&kind).map(|_| stream);
            let (audio, video) = (carried(MediaKind::Audio), carried(MediaKind::Video));
            (audio.is_some() || video.is_some()).then_some(Publisher {
                uid: member.uid,
                audio,
                video,
            })
        };
        let mut publishing: std::collections::BTreeMap<_, _> =
            self.members.values().filter_map(of).map(|p| (p.uid, p)).collect();
        self.tasks.order.retain(|uid| publishing.contains_key(uid));
        let mut all = Vec::with_capacity(publishing.len());
        all.extend(self.tasks.order.iter().filter_map(|uid| publishing.remove(uid)));
        for (uid, publisher) in publishing {
            self.tasks.order.push(uid);
            all.push(publisher);
        }
        all
    }

    /// Composes every task anew, and updates runs whose composition has changed.
    pub(super) fn recompose_tasks(&mut self, cx: &mut Context) {
        self.tasks.stale = false;
        let publishers = self.publishers();
        let now = cx.mono();
        for id in self.tasks.list.keys().cloned().collect::<Vec<_>>() {
            let Some(task) = self.tasks.list.get_mut(&id) else { continue };
            let spec = &task.spec;
            let shown = compose(&spec.source, spec.canvas, spec.host, &publishers);
            let changed = shown != task.shown;
            let before = std::mem::replace(&mut task.shown, shown);
            let hidden = before.streams().into_iter().filter(|stream| !task.shown.shows(*stream));
            let (viewer, hidden) = (task.viewer, hidden.collect());
            task.empty_since = match task.empty_since {
                _ if !task.shown.is_empty() => None,
                Some(since) => Some(since),
                None => Some(now),
            };
            if changed && task.runs() {
                self.update_run(cx, &id);
                self.cut_inputs(cx, viewer, hidden);
            }
            self.step_task(cx, &id);
        }
    }

    /// Takes a task as far as it can go now.
    fn step_task(&mut self, cx: &mut Context, id: &TaskId) {
        let (now, Some(policy)) = (cx.mono(), cx.config.tasks) else { return };
        let Some(task) = self.tasks.list.get_mut(id) else { return };
        if task.busy_until.is_some_and(|until| until <= now) {
            task.busy_until = None;
        }
        if task.claim_at.is_some_and(|at| at <= now) {
            task.claim_at = None;
            let (life, spec) = (task.life, task.spec.clone());
            let claim = self.claim_of(id, life, &spec);
            let then = Continuation::Claim {
                channel: self.id,
                claim: claim.clone(),
                of: ClaimPurpose::Task,
            };
            cx.ask(Question::Claim(claim), then);
        }
        let Some(task) = self.tasks.list.get_mut(id) else { return };
        let deserted = task.empty_since.is_some_and(|since| since + policy.idle_ms <= now);
        match task.phase {
            Phase::Idle if task.empty_since.is_none() => {
                task.phase = Phase::Waiting { at: now };
                task.retries = 0;
                self.announce_task(cx, id, "The task is about to push.");
            }
            Phase::Idle | Phase::Failed | Phase::Numbering => {}
            _ if deserted => {
                self.stop_run(cx, id);
                if let Some(task) = self.tasks.list.get_mut(id) {
                    task.phase = Phase::Idle;
                    task.retries = 0;
                }
                self.announce_task(cx, id, "Nobody publishes what the task shows.");
            }
            Phase::Offered { until } if until <= now => {
                self.order_stop(cx, id);
                self.run_failed(cx, id, RunFailure::Silent);
            }
            Phase::Leased { until, .. } if until + LEASE_SLACK_MS <= now => {
                self.order_stop(cx, id);
                self.run_failed(cx, id, RunFailure::Silent);
            }
            Phase::Waiting { .. } | Phase::Offered { .. } | Phase::Leased { .. } => {}
        }
        self.begin_run(cx, id);
    }

    /// Writes the number of the next run before any executor is told it, so that no crash makes two runs of one number.
    fn begin_run(&mut self, cx: &mut Context, id: &TaskId) {
        let now = cx.mono();
        let Some(task) = self.tasks.list.get_mut(id) else { return };
        let Phase::Waiting { at } = task.phase else { return };
        if at > now || task.busy_until.is_some() || !task.claimed || cx.is_frozen() || self.ending {
            return;
        }
        task.phase = Phase::Numbering;
        task.run += 1;
        let (life, number) = (task.life, task.run);
        self.tasks.touched.insert(id.clone());
        // An update of several tasks may be half told here: each row gets its journal event in the same write.
        for touched in self.tasks.touched.clone() {
            self.announce_task(cx, &touched, UPDATED);
        }
        self.write_rows(cx);
        cx.store(AfterWrite::Run { channel: self.id, task: id.clone(), life, number });
    }

    /// The number of a run was written, or could not be.
    pub(crate) fn run_numbered(
        &mut self,
        cx: &mut Context,
        id: &TaskId,
        life: u64,
        number: u64,
        stored: bool,
    ) {
        let now = cx.mono();
        let Some(task) = self.tasks.list.get_mut(id) else { return };
        if (task.life, task.run) != (life, number) || task.phase != Phase::Numbering {
            return;
        }
        if cx.is_frozen() {
            // The next process begins the run.
            task.phase = Phase::Waiting { at: now };
            return;
        }
        if !stored {
            return self.run_failed(cx, id, RunFailure::Internal);
        }
        task.phase = Phase::Offered { until: now + OFFER_MS };
        task.viewer = Some(cx.new_mid());
        let Some(task) = self.tasks.list.get(id) else { return };
        if let Some(job) = job(task) {
            let run = self.run_id(id, task);
            cx.outputs.push_back(Output::Order(RunOrder::Start { run, job }));
        }
    }

    fn update_run(&mut self, cx: &mut Context, id: &TaskId) {
        let Some(task) = self.tasks.list.get(id) else { return };
        if let Some(job) = job(task) {
            let run = self.run_id(id, task);
            cx.outputs.push_back(Output::Order(RunOrder::Update { run, job }));
        }
    }

    fn order_stop(&mut self, cx: &mut Context, id: &TaskId) {
        if let Some(task) = self.tasks.list.get(id) {
            let run = self.run_id(id, task);
            cx.outputs.push_back(Output::Order(RunOrder::Stop { run }));
        }
    }

    /// Ends the present run, if there is one. It may push until its lease is over, or it reports that it has stopped.
    /// The caller sets the next phase.
    pub(super) fn stop_run(&mut self, cx: &mut Context, id: &TaskId) {
        let Some(task) = self.tasks.list.get_mut(id) else { return };
        if !task.runs() {
            return;
        }
        if let Phase::Leased { until, .. } = task.phase {
            task.busy_until = Some(until + LEASE_SLACK_MS);
        }
        task.phase = Phase::Idle;
        let (viewer, streams) = (task.viewer.take(), task.shown.streams());
        self.cut_inputs(cx, viewer, streams);
        let Some(task) = self.tasks.list.get(id) else { return };
        if let Some(until) = task.busy_until {
            cx.stopping.add(self.run_id(id, task), until, None);
            cx.timers.arm(until, Timer::Stopping);
        }
        self.order_stop(cx, id);
    }

    /// Releases a claim, as soon as no run of the task can push to the address any more.
    pub(super) fn release_after_run(
        &mut self,
        cx: &mut Context,
        id: &TaskId,
        claim: Claim,
        rest: bool,
    ) {
        let now = cx.mono();
        let Some(task) = self.tasks.list.get(id) else { return };
        match task.busy_until.filter(|until| *until > now) {
            Some(until) => {
                cx.stopping.add(self.run_id(id, task), until, Some(claim));
                cx.timers.arm(until, Timer::Stopping);
            }
            None => cx.release(claim, rest),
        }
    }

    /// Ends what a run plays of these streams.
    fn cut_inputs(&self, cx: &mut Context, viewer: Option<Mid>, streams: Vec<Gen>) {
        let Some(viewer) = viewer else { return };
        for generation in streams.into_iter().filter(|stream| self.streams.contains_key(stream)) {
            let appkey = self.key.appkey.clone();
            cx.outputs.push_back(Output::CutViewer { appkey, generation, viewer });
        }
    }

    /// A run that was told to stop no longer pushes.
    pub(crate) fn run_is_over(&mut self, cx: &mut Context, id: &TaskId, life: u64) {
        if let Some(task) = self.tasks.list.get_mut(id).filter(|task| task.life == life) {
            task.busy_until = None;
            self.step_task(cx, id);
        }
    }

    /// A run no longer pushes, and was not told to end.
    fn run_failed(&mut self, cx: &mut Context, id: &TaskId, why: RunFailure) {
        let now = cx.mono();
        let Some(task) = self.tasks.list.get_mut(id) else { return };
        let (viewer, streams) = (task.viewer.take(), task.shown.streams());
        task.phase = if count_failure(cx, task) {
            Phase::Waiting { at: now + wait_ms(task.retries) }
        } else {
            Phase::Failed
        };
        self.cut_inputs(cx, viewer, streams);
        self.announce_task(cx, id, why.text());
    }

    /// Handles a report of an executor. False if it is not about the present run of a task.
    pub(crate) fn task_report(
        &mut self,
        cx: &mut Context,
        run: &crate::task::RunId,
        report: RunReport,
    ) -> bool {
        let (now, id) = (cx.mono(), &run.task);
        let present =
            |task: &&mut Task| (task.life, task.run) == (run.life, run.number) && task.runs();
        let Some(task) = self.tasks.list.get_mut(id).filter(present) else { return false };
        let lease_ms = cx.config.tasks.map_or(0, |policy| policy.lease_ms);
        match (report, task.phase) {
            (RunReport::Accepted { ask } | RunReport::Renew { ask }, Phase::Offered { .. }) => {
                task.phase = Phase::Leased { until: now + lease_ms, pushing_since: None };
                let order = RunOrder::Lease { run: run.clone(), ask, ms: lease_ms };
                cx.outputs.push_back(Output::Order(order));
            }
            // Too late: the run has stopped by itself, and a lease would begin another one.
            (RunReport::Accepted { .. } | RunReport::Renew { .. }, Phase::Leased { until, .. })
                if until < now =>
            {
                task.busy_until = Some(until + LEASE_SLACK_MS);
                self.order_stop(cx, id);
                // The phase still tells how long the run has pushed.
                self.run_failed(cx, id, RunFailure::Silent);
            }
            (
                RunReport::Accepted { ask } | RunReport::Renew { ask },
                Phase::Leased { pushing_since, .. },
            ) => {
                task.phase = Phase::Leased { until: now + lease_ms, pushing_since };
                let order = RunOrder::Lease { run: run.clone(), ask, ms: lease_ms };
                cx.outputs.push_back(Output::Order(order));
            }
            (RunReport::Pushing, Phase::Leased { until, pushing_since: None }) => {
                task.phase = Phase::Leased { until, pushing_since: Some(now) };
                // No executor has an encoder for HE-AAC (ADR 0045).
                let is_as_asked = task.spec.sound.codec_profile == 0;
                let msg = if is_as_asked { PUSHES } else { PUSHES_LC };
                self.announce_task(cx, id, msg);
            }
            (RunReport::Retrying(why), Phase::Leased { until, .. }) => {
                if count_failure(cx, task) {
                    task.phase = Phase::Leased { until, pushing_since: None };
                } else {
                    self.stop_run(cx, id);
                    if let Some(task) = self.tasks.list.get_mut(id) {
                        task.phase = Phase::Failed;
                    }
                }
                self.announce_task(cx, id, why.text());
            }
            (RunReport::ImageFailed, _) => self.announce_image_failure(cx, id),
            (RunReport::Failed(why), _) => self.run_failed(cx, id, why),
            (RunReport::Stopped, _) => self.run_failed(cx, id, RunFailure::Internal),
            _ => {}
        }
        true
    }

    /// An answer to the claim of a restored task.
    fn task_claimed(&mut self, cx: &mut Context, claim: Claim, claimed: Claimed) {
        let (now, id) = (cx.mono(), claim.holder.task.clone());
        let wants = |task: &&mut Task| {
            task.life == claim.holder.life && task.spec.address.key() == claim.key
        };
        let Some(task) = self.tasks.list.get_mut(&id).filter(wants) else {
            return cx.release(claim, true);
        };
        match claimed {
            Claimed::Granted => {
                task.claimed = true;
                self.step_task(cx, &id);
            }
            Claimed::Unavailable => task.claim_at = Some(now + CLAIM_AGAIN_MS),
            Claimed::Busy { .. } => {
                task.phase = Phase::Failed;
                self.announce_task(cx, &id, "The address belongs to another task.");
            }
        }
    }

    /// An answer to a claim.
    pub(crate) fn claimed(
        &mut self,
        cx: &mut Context,
        of: ClaimPurpose,
        claim: Claim,
        claimed: Claimed,
    ) {
        match of {
            ClaimPurpose::Request(ask) => self.request_claimed(cx, ask, claim, claimed),
            ClaimPurpose::Task => self.task_claimed(cx, claim, claimed),
        }
    }

    /// Gives an updated task all its retries again; a failed one begins anew. Returns whether the task has a run.
    pub(super) fn start_over(&mut self, cx: &Context, id: &TaskId) -> bool {
        let now = cx.mono();
        let Some(task) = self.tasks.list.get_mut(id) else { return false };
        task.retries = 0;
        match task.phase {
            Phase::Failed => task.phase = Phase::Idle,
            Phase::Waiting { .. } => task.phase = Phase::Waiting { at: now },
            _ => {}
        }
        task.runs()
    }

    /// Tells an update. `goes_on`: the run began before the update, and shows the new layout from now on.
    pub(super) fn task_updated(&mut self, cx: &mut Context, id: &TaskId, goes_on: bool) {
        if goes_on {
            // A second update if the composition has changed as well: the last one counts.
            self.update_run(cx, id);
        }
        self.announce_task(cx, id, UPDATED);
    }

    /// The only place where a task ends: its run is told to stop, its claim is released, its row is deleted.
    pub(super) fn end_task(&mut self, cx: &mut Context, id: &TaskId, msg: &str) {
        let Some(task) = self.tasks.list.get_mut(id) else { return };
        task.announced = AnnouncedState::of(TaskState::Ended, task.retries, task.revision);
        self.emit_task(cx, id, msg);
        cx.note(self.task_ended(id, msg));
        self.stop_run(cx, id);
        let Some(task) = self.tasks.list.get(id) else { return };
        let claim = self.claim_of(id, task.life, &task.spec);
        let rest = task.run > 0;
        self.release_after_run(cx, id, claim, rest);
        self.tasks.list.remove(id);
    }

    /// Ends the tasks of a member that has left, if the app is configured so (TSK-1).
    pub(in crate::channel) fn end_tasks_of(
        &mut self,
        cx: &mut Context,
        uid: lianmai_protocol::UserId,
    ) {
        if self.policy.tasks_end_with_owner {
            let own = self.tasks.list.iter().filter(|(_, task)| task.owner == Some(uid));
            for id in own.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
                self.end_task(cx, &id, "The owner of the task has left.");
            }
        }
    }

    /// Ends every task of a channel that is about to end.
    pub(crate) fn end_tasks(&mut self, cx: &mut Context) {
        self.drop_requests(cx);
        for id in self.tasks.list.keys().cloned().collect::<Vec<_>>() {
            self.end_task(cx, &id, CHANNEL_ENDED);
        }
    }

    /// Whether a run of a task may play a stream.
    pub(in crate::channel) fn is_played_by_a_task(&self, generation: Gen, viewer: Mid) -> bool {
        let mut tasks = self.tasks.list.values();
        tasks.any(|task| task.viewer == Some(viewer) && task.shown.shows(generation))
    }
}

fn job(task: &Task) -> Option<Box<Job>> {
    let (owner, spec, shown) = (task.owner, task.spec.clone(), task.shown.clone());
    task.viewer.map(|viewer| Box::new(Job { owner, spec, shown, viewer }))
}

/// Counts a failure. False if there is no retry left.
fn count_failure(cx: &Context, task: &mut Task) -> bool {
    let most = cx.config.tasks.map_or(0, |policy| policy.max_retries);
    if let Phase::Leased { pushing_since: Some(since), .. } = task.phase
        && cx.mono().since(since) >= STABLE_MS
    {
        task.retries = 0;
    }
    let again = task.retries < most;
    task.retries += u32::from(again);
    again
}

/// When a task is to be handled next.
fn deadline(task: &Task, policy: TaskPolicy) -> Option<MonoTime> {
    let deserted = task.empty_since.map(|since| since + policy.idle_ms);
    let next = match task.phase {
        Phase::Idle | Phase::Failed | Phase::Numbering => return task.claim_at,
        Phase::Waiting { at } if task.claimed => Some(task.busy_until.map_or(at, |b| b.max(at))),
        Phase::Waiting { .. } => None,
        Phase::Offered { until } => Some(until),
        Phase::Leased { until, .. } => Some(until + LEASE_SLACK_MS),
    };
    next.into_iter().chain(deserted).chain(task.claim_at).min()
}
