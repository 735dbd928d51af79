//! Stores tasks as records, and restores them from these (TSK-12, ADR 0041). Comes in: records. Goes out: records. A
//! restored task has no run: it asks for its claim again, waits until an earlier run can no longer push, and begins the
//! next one.

use lianmai_protocol::TaskId;
use lianmai_protocol::message::task::{TaskInfo, TaskState};

use super::run::LEASE_SLACK_MS;
use super::{AnnouncedState, Phase, Task};
use crate::channel::Channel;
use crate::context::Context;
use crate::record::{MAX_NUMBER, TaskRecord};
use crate::rows::{Row, RowOp};
use crate::task::{Composition, Draft};

/// The message for a task that is changed or ended by a restart.
pub(crate) const RESTARTED: &str = "The server has restarted.";

impl Channel {
    /// Hands the rows of changed tasks to the context.
    pub(in crate::channel) fn write_task_rows(&mut self, cx: &mut Context) {
        for id in std::mem::take(&mut self.tasks.touched) {
            cx.ops.push(match self.tasks.list.get(&id) {
                Some(task) => RowOp::put_task(&self.key, record(&id, task)),
                None => RowOp::drop(&self.key, Row::Task(id)),
            });
        }
    }

    /// Every task, for the next process.
    pub(in crate::channel) fn hand_tasks_over(&self, ops: &mut Vec<RowOp>) {
        let tasks = self.tasks.list.iter();
        ops.extend(tasks.map(|(id, task)| RowOp::put_task(&self.key, record(id, task))));
    }

    /// Restores tasks of an earlier process. `clean`: members know their stored state, so they are told of each task
    /// that is not restored.
    pub(crate) fn restore_tasks(
        &mut self,
        cx: &mut Context,
        records: Vec<TaskRecord>,
        clean: bool,
    ) {
        for record in records {
            let id = record.task.clone();
            let before = AnnouncedState {
                state: record.state.clone(),
                code: record.code,
                retries: record.retries,
                revision: record.revision,
            };
            if let Some(task) = self.restored_task(cx, &record, before.clone(), clean) {
                // The journal goes on across processes, so it gets the new state.
                let is_news = task.announced != before;
                self.tasks.list.insert(id.clone(), task);
                if is_news {
                    self.note_task(cx, &id, RESTARTED);
                }
                continue;
            }
            // Damaged, or there is no room for it, or the server offers no tasks any more.
            if clean {
                let info = TaskInfo {
                    task_id: id.clone(),
                    uid: record.owner,
                    state: Some(TaskState::Ended),
                    code: TaskState::Ended.code(),
                    revision: record.revision,
                    retries: record.retries,
                };
                let stream_url = record.spec.address.redacted_url().to_owned();
                self.emit_info(cx, info, stream_url, "The server has restarted without the task.");
            }
            cx.journal_event(&self.task_ended(&id, RESTARTED));
            cx.ops.push(RowOp::drop(&self.key, Row::Task(id)));
        }
        self.recompose_tasks(cx);
        for id in self.tasks.list.keys().cloned().collect::<Vec<_>>() {
            self.announce_task(cx, &id, RESTARTED);
        }
    }

    fn restored_task(
        &self,
        cx: &Context,
        record: &TaskRecord,
        announced: AnnouncedState,
        clean: bool,
    ) -> Option<Task> {
        let policy = cx.config.tasks?;
        let now = cx.mono();
        let numbers = [record.revision, record.run];
        let room = self.tasks.list.len() < cx.config.limits.tasks;
        if !room || numbers.iter().any(|number| *number > MAX_NUMBER) {
            return None;
        }
        let draft = Draft { id: record.task.clone(), revision: None, spec: record.spec.clone() };
        draft.check().ok()?;
        let failed = record.state == TaskState::Failed;
        let retries = if failed { record.retries } else { 0 };
        let state = if failed { TaskState::Failed } else { TaskState::Idle };
        let fresh = AnnouncedState::of(state, retries, record.revision);
        Some(Task {
            life: record.life,
            owner: record.owner,
            spec: draft.spec,
            revision: record.revision,
            run: record.run,
            phase: if failed { Phase::Failed } else { Phase::Idle },
            busy_until: (record.run > 0).then(|| now + policy.lease_ms + LEASE_SLACK_MS),
            claimed: false,
            claim_at: Some(now),
            retries,
            viewer: None,
            shown: Composition::default(),
            empty_since: Some(now),
            announced: if clean { announced } else { fresh },
        })
    }
}

fn record(id: &TaskId, task: &Task) -> TaskRecord {
    TaskRecord {
        task: id.clone(),
        life: task.life,
        owner: task.owner,
        spec: task.spec.clone(),
        revision: task.revision,
        run: task.run,
        state: task.announced.state.clone(),
        code: task.announced.code,
        retries: task.announced.retries,
    }
}
