//! The push tasks of a channel. Comes in: commands of members and of the app's server, reports of executors, time. Goes
//! out: `rtmpTasksStatus`, orders to executors, claims, rows. This file holds the state; requests are in `command` and
//! `judge`, runs in `run`, storage in `persist`.
//!
//! ```text
//!                  a member is seen or heard                number written, told to an executor
//!   [Idle] -------------------------------------> [Waiting] ------> [Numbering] ------> [Offered]
//!     ^                                            ^     |                                 | accepted
//!     |      none for `idle_ms`                    |     | failed too often                v
//!     +--------------------------------------------+     +----> [Failed]  <---------- [Leased]
//!                                     again, later `---------- failed, silent -------------'
//! ```
//!
//! Deliberately absent: claims (`engine/claims.rs`), runs that were told to stop and whose lease is not over
//! (`engine/tasks.rs`), and everything that touches media.

mod command;
mod judge;
mod persist;
mod run;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lianmai_protocol::message::ChannelEvent;
use lianmai_protocol::message::task::{TASK_IMAGE_FAILED, TaskInfo, TaskState, TaskStatus};
use lianmai_protocol::{Mid, MonoTime, TaskId, UserId};

use self::command::TaskRequest;
pub(crate) use self::persist::RESTARTED;
use super::Channel;
use crate::context::Context;
use crate::output::{Note, TaskView};
use crate::task::{Claim, Composition, Holder, RunId, Spec};

/// Why tasks end with their channel.
const CHANNEL_ENDED: &str = "The channel has ended.";

/// The phase of a task, between two runs or in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No member is seen or heard.
    Idle,
    /// The next run begins then at the earliest.
    Waiting { at: MonoTime },
    /// The number of the next run is being written down.
    Numbering,
    /// An executor was told to begin and has not answered; it pushes nothing.
    Offered { until: MonoTime },
    /// A run has a lease, and stops by itself when that is over.
    Leased { until: MonoTime, pushing_since: Option<MonoTime> },
    /// All retries have failed, or the address belongs to another task.
    Failed,
}

/// The state that members were told last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AnnouncedState {
    state: TaskState,
    code: u16,
    retries: u32,
    revision: u64,
}

impl AnnouncedState {
    fn of(state: TaskState, retries: u32, revision: u64) -> AnnouncedState {
        AnnouncedState { code: state.code(), state, retries, revision }
    }
}

#[derive(Debug)]
struct Task {
    /// Distinguishes it from other tasks with the same id.
    life: u64,
    /// Its owner; `None` for the app's server.
    owner: Option<UserId>,
    spec: Spec,
    revision: u64,
    /// Number of the present or last run.
    run: u64,
    phase: Phase,
    /// An earlier run may push until then.
    busy_until: Option<MonoTime>,
    /// Whether it is known to hold the claim of its address.
    claimed: bool,
    /// When the claim is asked for again.
    claim_at: Option<MonoTime>,
    /// Number of retries in a row.
    retries: u32,
    /// Signed into the pull URLs of the present run.
    viewer: Option<Mid>,
    /// The members that are seen and heard.
    shown: Composition,
    /// Since when no member is seen or heard.
    empty_since: Option<MonoTime>,
    announced: AnnouncedState,
}

impl Task {
    fn state(&self) -> TaskState {
        match self.phase {
            Phase::Idle => TaskState::Idle,
            Phase::Failed => TaskState::Failed,
            Phase::Leased { pushing_since: Some(_), .. } => TaskState::Pushing,
            _ if self.retries > 0 => TaskState::Retrying,
            _ => TaskState::Starting,
        }
    }

    /// Whether an executor was told to begin and was not told to end.
    fn runs(&self) -> bool {
        matches!(self.phase, Phase::Offered { .. } | Phase::Leased { .. })
    }

    fn info(&self, id: &TaskId) -> TaskInfo {
        TaskInfo {
            task_id: id.clone(),
            uid: self.owner,
            state: Some(self.announced.state.clone()),
            code: self.announced.code,
            revision: self.announced.revision,
            retries: self.announced.retries,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    list: BTreeMap<TaskId, Task>,
    /// Requests, one after the other; the first one may wait for its admission or for claims.
    requests: VecDeque<TaskRequest>,
    /// An outer call is running requests.
    running_requests: bool,
    /// The members that publish a camera or a microphone, in the order in which they began to. Kept without tasks, too.
    order: Vec<UserId>,
    /// Something was published or ended since the last look.
    stale: bool,
    /// Tasks that differ from their rows.
    touched: BTreeSet<TaskId>,
    /// When the armed timer fires.
    armed: Option<MonoTime>,
}

impl Tasks {
    pub(super) fn infos(&self) -> Vec<TaskInfo> {
        self.list.iter().map(|(id, task)| task.info(id)).collect()
    }

    /// A member has begun or ended to publish a kind. `publishes`: its camera or its microphone is published now.
    pub(super) fn media_changed(&mut self, uid: UserId, publishes: bool) {
        self.stale = true;
        match self.order.iter().position(|other| *other == uid) {
            None if publishes => self.order.push(uid),
            Some(at) if !publishes => _ = self.order.remove(at),
            _ => {}
        }
    }
}

impl Channel {
    fn run_id(&self, id: &TaskId, task: &Task) -> RunId {
        let (channel, task, life, number) = (self.key.clone(), id.clone(), task.life, task.run);
        RunId { channel, task, life, number }
    }

    fn claim_of(&self, id: &TaskId, life: u64, spec: &Spec) -> Claim {
        let (appkey, channel) = (self.key.appkey.clone(), self.key.name.clone());
        let holder = Holder { appkey, channel, task: id.clone(), life };
        Claim { key: spec.address.key(), holder }
    }

    /// Tells all members the state of a task, if it has changed.
    fn announce_task(&mut self, cx: &mut Context, id: &TaskId, msg: &str) {
        let Some(task) = self.tasks.list.get_mut(id) else { return };
        let announced = AnnouncedState::of(task.state(), task.retries, task.revision);
        if task.announced == announced {
            return;
        }
        task.announced = announced;
        self.emit_task(cx, id, msg);
        self.note_task(cx, id, msg);
    }

    /// A picture of a running task could not be used.
    fn announce_image_failure(&mut self, cx: &mut Context, id: &TaskId) {
        let Some(task) = self.tasks.list.get_mut(id) else { return };
        if task.announced.code != TASK_IMAGE_FAILED {
            task.announced.code = TASK_IMAGE_FAILED;
            let msg = "A picture of the layout could not be used.";
            self.emit_task(cx, id, msg);
            self.note_task(cx, id, msg);
        }
    }

    /// Notes the state of a task; the note and the row are in the same write.
    fn note_task(&mut self, cx: &mut Context, id: &TaskId, msg: &str) {
        let Some(task) = self.tasks.list.get(id) else { return };
        let (channel, cid, info) = (self.key.clone(), self.cid, task.info(id));
        self.tasks.touched.insert(id.clone());
        cx.note(Note::TaskChanged { channel, cid, info, msg: msg.to_owned() });
    }

    /// The note of the end of a task.
    fn task_ended(&self, id: &TaskId, msg: &str) -> Note {
        let (channel, cid, task) = (self.key.clone(), self.cid, id.clone());
        Note::TaskEnded { channel, cid, task, msg: msg.to_owned() }
    }

    /// The end of the channel is appended with the present write and becomes visible after it: so are the ends of its
    /// tasks.
    pub(in crate::channel) fn journal_task_ends(&self, cx: &mut Context) {
        for id in self.tasks.list.keys() {
            cx.journal_event(&self.task_ended(id, CHANNEL_ENDED));
        }
    }

    fn emit_task(&mut self, cx: &mut Context, id: &TaskId, msg: &str) {
        let Some(task) = self.tasks.list.get(id) else { return };
        let (info, stream_url) = (task.info(id), task.spec.address.redacted_url().to_owned());
        self.tasks.touched.insert(id.clone());
        self.emit_info(cx, info, stream_url, msg);
    }

    fn emit_info(&mut self, cx: &mut Context, info: TaskInfo, stream_url: String, msg: &str) {
        let TaskInfo { task_id, uid, state, code, revision, retries } = info;
        let msg = msg.to_owned();
        let status = TaskStatus { task_id, uid, stream_url, state, code, msg, revision, retries };
        self.emit(cx, &ChannelEvent::RtmpTasksStatus(status));
    }

    /// The tasks as the admin API sees them.
    pub(crate) fn task_views(&self) -> Vec<TaskView> {
        let view = |(id, task): (&TaskId, &Task)| TaskView {
            info: task.info(id),
            address: task.spec.address.clone(),
            record: task.spec.record,
            run: task.run,
        };
        self.tasks.list.iter().map(view).collect()
    }
}
