//! `addTasks`, `updateTasks`, `deleteTasks`, of a member or of the app's server. A request takes effect as a whole or
//! not at all (TSK-2). The requests of a channel run one after the other, since each may have to wait for claims.
//!
//! ```text
//!   request -> allowed? -> well-formed? -> admitted? -> claims of new addresses -> still valid? -> takes effect
//!                                                                |                               -> written
//!                             one is refused: the others are released                            -> answer
//! ```

use std::collections::BTreeSet;

use lianmai_protocol::message::task::{TaskIds, TaskState, Tasks as WireTasks};
use lianmai_protocol::{ErrorName, RpcError, UserId};

use super::judge::{check, read_drafts};
use super::{AnnouncedState, Phase, Task};
use crate::asks::{AfterWrite, Caller, ClaimPurpose, Continuation, Question};
use crate::channel::member::PendingOn;
use crate::channel::session::CommandKey;
use crate::channel::{Channel, CommandResult, Reply};
use crate::context::Context;
use crate::ids::{AskId, QueryId};
use crate::output::{Note, Output};
use crate::task::{Admission, Claim, Claimed, Composition, Draft, Refusal, TaskChange, WantedTask};

/// Requests of one channel that may wait. Each session has one at most, so only a crowd or the app's server comes here.
const MAX_REQUESTS: usize = 64;

/// A request that waits for its turn, its admission or its claims.
#[derive(Debug)]
pub(super) struct TaskRequest {
    by: Caller,
    /// The question that the member's command waits for meanwhile.
    ask: AskId,
    change: TaskChange,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Its turn has not come.
    Queued,
    /// It waits for the admission of its tasks.
    Admitting { claims: Vec<Claim>, planned: Vec<PlannedChange> },
    /// It waits for `open` answers to claims.
    Claiming {
        open: usize,
        got: Vec<Claim>,
        refused: Option<RpcError>,
        planned: Vec<PlannedChange>,
    },
}

/// An entry of a request's list that changes something, and the life of its task; a new task has a new life.
#[derive(Clone, Copy, Debug)]
struct PlannedChange {
    at: usize,
    life: u64,
}

impl Channel {
    /// `addTasks` of a member.
    pub(in crate::channel) fn add_tasks(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        command: CommandKey,
        params: &WireTasks,
    ) -> CommandResult {
        self.may_have_tasks(cx, uid)?;
        let drafts = read_drafts(params)?;
        self.request_tasks(cx, uid, command, TaskChange::Add(drafts))
    }

    /// `updateTasks` of a member.
    pub(in crate::channel) fn update_tasks(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        command: CommandKey,
        params: &WireTasks,
    ) -> CommandResult {
        self.may_have_tasks(cx, uid)?;
        let drafts = read_drafts(params)?;
        self.request_tasks(cx, uid, command, TaskChange::Update(drafts))
    }

    /// `deleteTasks` of a member.
    pub(in crate::channel) fn delete_tasks(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        command: CommandKey,
        params: TaskIds,
    ) -> CommandResult {
        self.may_have_tasks(cx, uid)?;
        self.request_tasks(cx, uid, command, TaskChange::Delete(params.task_ids))
    }

    fn request_tasks(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        command: CommandKey,
        change: TaskChange,
    ) -> CommandResult {
        let ask = cx.asks.reserve();
        self.set_pending(uid, command, ask, PendingOn::Claims);
        if let Err(error) = self.enqueue(Caller::Member(uid), ask, change) {
            if let Some(member) = self.members.get_mut(&uid) {
                member.pending = None;
            }
            return Err(error);
        }
        self.run_task_requests(cx);
        Ok(Reply::Deferred)
    }

    /// A request of the app's server. A request that cannot be queued is answered with its error at once.
    pub(crate) fn admin_tasks(&mut self, cx: &mut Context, query: QueryId, change: TaskChange) {
        let ask = cx.asks.reserve();
        let served = if cx.config.tasks.is_none() {
            Err(ErrorName::MethodNotFound.into())
        } else {
            self.enqueue(Caller::Admin(query), ask, change)
        };
        if let Err(error) = served {
            cx.outputs.push_back(Output::AdminReply { query, reply: Err(error) });
        }
        self.run_task_requests(cx);
    }

    fn enqueue(&mut self, by: Caller, ask: AskId, change: TaskChange) -> Result<(), RpcError> {
        if self.ending || self.closed {
            return Err(ErrorName::TaskChannelGone.into());
        }
        if self.tasks.requests.len() >= MAX_REQUESTS {
            return Err(RpcError::new(ErrorName::TaskFailed)
                .message("Too many requests about tasks of this channel wait."));
        }
        self.tasks.requests.push_back(TaskRequest { by, ask, change, stage: Stage::Queued });
        Ok(())
    }

    /// Whether a member may have tasks of its own, or manage those of others (TSK-1).
    fn may_have_tasks(&self, cx: &Context, uid: UserId) -> Result<(), RpcError> {
        if cx.config.tasks.is_none() {
            return Err(ErrorName::MethodNotFound.into());
        }
        let member = self.members.get(&uid).ok_or(ErrorName::NotJoined)?;
        if member.rights.moderate {
            return Ok(());
        }
        if !member.rights.tasks {
            return Err(RpcError::new(ErrorName::Forbidden).message("The method needs `tasks`."));
        }
        if !member.is_visible() {
            return Err(ErrorName::NotBroadcaster.into());
        }
        Ok(())
    }

    /// Whether the caller of a request still waits for it.
    fn is_awaited(&self, request: &TaskRequest) -> bool {
        request.by.member().is_none_or(|uid| self.awaits(uid, request.ask))
    }

    /// Runs requests until one has to wait, or none is left.
    fn run_task_requests(&mut self, cx: &mut Context) {
        if std::mem::replace(&mut self.tasks.running_requests, true) {
            return;
        }
        while let Some(request) = self.tasks.requests.front() {
            let begins = matches!(request.stage, Stage::Queued);
            if begins && self.is_awaited(request) {
                self.begin_request(cx);
            }
            let waits = self.tasks.requests.front().is_some_and(|request| match request.stage {
                Stage::Queued => false,
                Stage::Admitting { .. } => true,
                Stage::Claiming { open, .. } => open > 0,
            });
            if waits {
                break;
            }
            self.end_request(cx);
        }
        self.tasks.running_requests = false;
    }

    /// Checks the first request, and asks whether its tasks can be carried out.
    fn begin_request(&mut self, cx: &mut Context) {
        let Some(mut request) = self.tasks.requests.pop_front() else { return };
        let judged =
            check(&request.change).and_then(|()| self.judge(cx, request.by, &request.change));
        let answered = |planned, refused| {
            let (open, got) = (0, Vec::new());
            Stage::Claiming { open, got, refused, planned }
        };
        request.stage = match judged {
            Err(error) => answered(Vec::new(), Some(error)),
            Ok(changes) => {
                let (claims, planned) = self.plan(cx, &request.change, changes);
                let tasks = self.wanted_tasks(request.by, &request.change, &planned);
                if tasks.is_empty() {
                    answered(planned, None)
                } else {
                    let admission = Box::new(Admission { channel: self.key.clone(), tasks });
                    let then = Continuation::Admit { channel: self.id, request: request.ask };
                    cx.ask(Question::Admit(admission), then);
                    Stage::Admitting { claims, planned }
                }
            }
        };
        self.tasks.requests.push_front(request);
    }

    /// The tasks that are to be carried out when a request takes effect.
    fn wanted_tasks(
        &self,
        by: Caller,
        change: &TaskChange,
        planned: &[PlannedChange],
    ) -> Vec<WantedTask> {
        let (TaskChange::Add(drafts) | TaskChange::Update(drafts)) = change else {
            return Vec::new();
        };
        let wanted = |planned: &PlannedChange| {
            let draft = drafts.get(planned.at)?;
            let owner = self.tasks.list.get(&draft.id).map_or(by.member(), |task| task.owner);
            let (task, spec) = (draft.id.clone(), draft.spec.clone());
            Some(WantedTask { at: planned.at, task, life: planned.life, owner, spec })
        };
        planned.iter().filter_map(wanted).collect()
    }

    /// The answer to an admission: if the tasks can be carried out, the claims are asked for.
    pub(crate) fn admitted(
        &mut self,
        cx: &mut Context,
        ask: AskId,
        admitted: Option<Result<(), Refusal>>,
    ) {
        let front = self.tasks.requests.front_mut().filter(|front| front.ask == ask);
        let Some(TaskRequest { stage, .. }) = front else { return };
        let Stage::Admitting { claims, planned } = std::mem::replace(stage, Stage::Queued) else {
            return;
        };
        let refused = match admitted {
            Some(Ok(())) => None,
            Some(Err(refusal)) => Some(refusal.error()),
            None => Some(ErrorName::TaskFailed.into()),
        };
        let claims = if refused.is_none() { claims } else { Vec::new() };
        *stage = Stage::Claiming { open: claims.len(), got: Vec::new(), refused, planned };
        for claim in claims {
            // The task may come back to an address whose claim is about to be released.
            cx.stopping.keep(&claim);
            let of = ClaimPurpose::Request(ask);
            let then = Continuation::Claim { channel: self.id, claim: claim.clone(), of };
            cx.ask(Question::Claim(claim), then);
        }
        self.run_task_requests(cx);
    }

    /// The claims that a request needs and its tasks do not hold, and the changes that it will make.
    fn plan(
        &self,
        cx: &mut Context,
        change: &TaskChange,
        changes: Vec<usize>,
    ) -> (Vec<Claim>, Vec<PlannedChange>) {
        let drafts = match change {
            TaskChange::Add(drafts) | TaskChange::Update(drafts) => drafts.as_slice(),
            TaskChange::Delete(_) => &[],
        };
        let (mut claims, mut planned) = (Vec::new(), Vec::new());
        for at in changes {
            let Some(draft) = drafts.get(at) else {
                planned.push(PlannedChange { at, life: 0 });
                continue;
            };
            let task = self.tasks.list.get(&draft.id);
            let life = task.map_or_else(|| cx.new_life(), |task| task.life);
            planned.push(PlannedChange { at, life });
            let key = draft.spec.address.key();
            if !task.is_some_and(|task| task.claimed && task.spec.address.key() == key) {
                claims.push(self.claim_of(&draft.id, life, &draft.spec));
            }
        }
        (claims, planned)
    }

    /// An answer to a claim of a request.
    pub(super) fn request_claimed(
        &mut self,
        cx: &mut Context,
        ask: AskId,
        claim: Claim,
        claimed: Claimed,
    ) {
        let front = self.tasks.requests.front_mut().filter(|front| front.ask == ask);
        let Some(TaskRequest { stage: Stage::Claiming { open, got, refused, .. }, change, .. }) =
            front
        else {
            self.release_unneeded(cx, claim);
            return;
        };
        *open -= 1;
        let mut lost = None;
        match claimed {
            Claimed::Granted => got.push(claim),
            Claimed::Busy { retry_after_ms } => {
                let error = RpcError::new(ErrorName::StreamUrlBusy);
                let error = match change.index_of(&claim.holder.task) {
                    Some(at) => error.field(format!("rtmpTasks[{at}].streamUrl")),
                    None => error,
                };
                *refused = Some(match retry_after_ms {
                    Some(ms) => error.retry_after_ms(ms),
                    None => error,
                });
            }
            Claimed::Unavailable => {
                // It may have been granted all the same, and the answer lost.
                lost = Some(claim);
                refused.get_or_insert_with(|| ErrorName::TaskFailed.into());
            }
        }
        if let Some(claim) = lost {
            self.release_unneeded(cx, claim);
        }
        self.run_task_requests(cx);
    }

    /// Releases a claim of a request, unless the task itself wants that address: a restored task asks for its claim,
    /// too. If the task has run before, it may have pushed there.
    fn release_unneeded(&self, cx: &mut Context, claim: Claim) {
        let task = self.tasks.list.get(&claim.holder.task);
        let task = task.filter(|task| task.life == claim.holder.life);
        if task.is_none_or(|task| task.spec.address.key() != claim.key) {
            cx.release(claim, task.is_some_and(|task| task.run > 0));
        }
    }

    /// The first request has all answers: it takes effect, or its claims are released.
    fn end_request(&mut self, cx: &mut Context) {
        let Some(mut request) = self.tasks.requests.pop_front() else { return };
        let stage = std::mem::replace(&mut request.stage, Stage::Queued);
        // The caller had left before the turn of the request.
        let Stage::Claiming { got, refused, planned, .. } = stage else { return };
        let judged = match refused {
            Some(error) => Err(error),
            None if !self.is_awaited(&request) => Err(ErrorName::Superseded.into()),
            // The state may have changed since the claims were asked for: an owner may have left, for instance.
            None => self.judge(cx, request.by, &request.change).map(drop),
        };
        let outcome = judged.and_then(|()| {
            if planned.iter().all(|planned| self.is_as_planned(&request.change, *planned)) {
                Ok(())
            } else {
                Err(ErrorName::TaskOverridden.into())
            }
        });
        let TaskRequest { by, ask, change, .. } = request;
        match &outcome {
            Ok(()) => {
                let ids = change.ids();
                // Writes unchanged tasks again, too: an earlier write of the same state may have failed. The first
                // write of the request has all its rows, and so has the last one, which is answered.
                self.tasks.touched.extend(ids.iter().cloned());
                self.change_tasks(cx, by, change, &planned);
                self.tasks.touched.extend(ids);
            }
            Err(_) => {
                for claim in got {
                    self.release_unneeded(cx, claim);
                }
            }
        }
        self.answer_request(cx, by, ask, outcome);
    }

    /// Whether a task is still the planned one, or still does not exist.
    fn is_as_planned(&self, change: &TaskChange, planned: PlannedChange) -> bool {
        let present = |draft: Option<&Draft>| {
            draft.and_then(|draft| self.tasks.list.get(&draft.id)).map(|task| task.life)
        };
        match change {
            TaskChange::Add(drafts) => present(drafts.get(planned.at)).is_none(),
            TaskChange::Update(drafts) => present(drafts.get(planned.at)) == Some(planned.life),
            TaskChange::Delete(_) => true,
        }
    }

    fn change_tasks(
        &mut self,
        cx: &mut Context,
        by: Caller,
        change: TaskChange,
        planned: &[PlannedChange],
    ) {
        match change {
            TaskChange::Add(drafts) => {
                let drafts = planned.iter().map(|PlannedChange { at, life }| (&drafts[*at], *life));
                self.insert_tasks(cx, by.member(), &drafts.collect::<Vec<_>>());
            }
            TaskChange::Update(drafts) => {
                let drafts = planned.iter().map(|planned| &drafts[planned.at]);
                self.replace_tasks(cx, &drafts.collect::<Vec<_>>());
            }
            TaskChange::Delete(ids) => {
                for id in ids.into_iter().collect::<BTreeSet<_>>() {
                    self.end_task(cx, &id, "The task was deleted.");
                }
            }
        }
    }

    /// Answers a request: if it succeeded, when its tasks are written, even if it changed nothing (RST-5).
    fn answer_request(
        &mut self,
        cx: &mut Context,
        by: Caller,
        ask: AskId,
        outcome: Result<(), RpcError>,
    ) {
        if outcome.is_ok() {
            self.write_rows(cx);
        }
        match by {
            Caller::Member(uid) if self.awaits(uid, ask) => match outcome {
                Ok(()) => {
                    let ask =
                        cx.store(AfterWrite::Change { member: self.member_ref(uid), of: None });
                    if let Some(pending) =
                        self.members.get_mut(&uid).and_then(|m| m.pending.as_mut())
                    {
                        (pending.ask, pending.on) = (ask, PendingOn::Write);
                    }
                }
                Err(error) => self.finish_pending(cx, uid, "tasks", Err(error)),
            },
            Caller::Member(_) => {}
            Caller::Admin(query) => match outcome {
                Ok(()) => {
                    cx.store(AfterWrite::Tasks { by });
                }
                Err(error) => {
                    cx.outputs.push_back(Output::AdminReply { query, reply: Err(error) });
                }
            },
        }
    }

    /// Adds every task before the first run begins. The number of a run is written at once, and that write has all rows
    /// and journal events of the request: a crash leaves all tasks of the request or none.
    fn insert_tasks(&mut self, cx: &mut Context, owner: Option<UserId>, drafts: &[(&Draft, u64)]) {
        for (draft, life) in drafts {
            let revision = draft.revision.unwrap_or(1);
            let task = Task {
                life: *life,
                owner,
                spec: draft.spec.clone(),
                revision,
                run: 0,
                phase: Phase::Idle,
                busy_until: None,
                claimed: true,
                claim_at: None,
                retries: 0,
                viewer: None,
                shown: Composition::default(),
                empty_since: Some(cx.mono()),
                announced: AnnouncedState::of(TaskState::Idle, 0, revision),
            };
            self.tasks.list.insert(draft.id.clone(), task);
            // Its row and its journal event must be in the same write.
            self.tasks.touched.insert(draft.id.clone());
            let (channel, cid, id) = (self.key.clone(), self.cid, draft.id.clone());
            cx.note(Note::TaskAdded { channel, cid, task: id, owner });
        }
        self.recompose_tasks(cx);
        // If a task starts at once, one event tells that, and no event that it is idle.
        for (draft, _) in drafts {
            if self.tasks.list[&draft.id].phase == Phase::Idle {
                self.emit_task(cx, &draft.id, "Nobody publishes what the task shows.");
            }
        }
    }

    /// Changes every task before the next run begins, for the same reason.
    fn replace_tasks(&mut self, cx: &mut Context, drafts: &[&Draft]) {
        let mut changed = Vec::new();
        for draft in drafts {
            let Some(task) = self.tasks.list.get_mut(&draft.id) else { continue };
            task.revision = draft.revision.unwrap_or(task.revision + 1);
            let moves = task.spec.address.key() != draft.spec.address.key();
            let before = std::mem::replace(&mut task.spec, draft.spec.clone());
            task.claimed = true;
            task.claim_at = None;
            if moves {
                let (life, run) = (task.life, task.run);
                let old = self.claim_of(&draft.id, life, &before);
                let rest = run > 0;
                self.stop_run(cx, &draft.id);
                self.release_after_run(cx, &draft.id, old, rest);
            }
            let ran = self.start_over(cx, &draft.id);
            self.tasks.touched.insert(draft.id.clone());
            changed.push((&draft.id, ran && !moves));
        }
        self.recompose_tasks(cx);
        for (id, goes_on) in changed {
            self.task_updated(cx, id, goes_on);
        }
    }

    /// Answers the app's server about its requests that have no claims yet, at the end of the process: they changed
    /// nothing. Clients repeat theirs in the next process.
    pub(crate) fn refuse_waiting_requests(&mut self, cx: &mut Context) {
        self.tasks.requests.retain(|request| {
            let Caller::Admin(query) = request.by else { return true };
            let goes_on = matches!(request.stage, Stage::Claiming { .. });
            if !goes_on {
                let reply = Err(ErrorName::Draining.into());
                cx.outputs.push_back(Output::AdminReply { query, reply });
            }
            goes_on
        });
    }

    /// Drops all requests at the end of the channel, and releases their claims.
    pub(super) fn drop_requests(&mut self, cx: &mut Context) {
        for request in std::mem::take(&mut self.tasks.requests) {
            if let Stage::Claiming { got, .. } = request.stage {
                for claim in got {
                    self.release_unneeded(cx, claim);
                }
            }
            if let Caller::Admin(query) = request.by {
                let reply = Err(ErrorName::TaskChannelGone.into());
                cx.outputs.push_back(Output::AdminReply { query, reply });
            }
        }
    }
}
