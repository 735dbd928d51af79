//! Whether a request for tasks can take effect (TSK-1, TSK-2, TSK-3, TSK-6). Comes in: a request, its caller, the
//! present tasks. Goes out: the entries of its list that would change something, or the first error and its path.
//! Changes nothing.

use std::collections::BTreeSet;

use lianmai_protocol::message::task::Tasks as WireTasks;
use lianmai_protocol::{ErrorName, RpcError, TaskId, UserId};

use super::Phase;
use crate::asks::Caller;
use crate::channel::Channel;
use crate::context::Context;
use crate::task::spec::MAX_REVISION;
use crate::task::{Draft, TaskChange};

impl Channel {
    fn may_change(&self, by: Caller, owner: Option<UserId>) -> bool {
        by.member().is_none_or(|uid| {
            owner == Some(uid) || self.members.get(&uid).is_some_and(|m| m.rights.moderate)
        })
    }

    /// Whether a request can take effect now, and the entries of its list that would change something.
    pub(super) fn judge(
        &self,
        cx: &Context,
        by: Caller,
        change: &TaskChange,
    ) -> Result<Vec<usize>, RpcError> {
        match change {
            TaskChange::Add(drafts) => self.judge_add(cx, by, drafts),
            TaskChange::Update(drafts) => self.judge_update(by, drafts),
            TaskChange::Delete(ids) => self.judge_delete(by, ids),
        }
    }

    fn judge_add(
        &self,
        cx: &Context,
        by: Caller,
        drafts: &[Draft],
    ) -> Result<Vec<usize>, RpcError> {
        let mut new = Vec::new();
        for (at, draft) in drafts.iter().enumerate() {
            match self.tasks.list.get(&draft.id) {
                None => new.push(at),
                // A repeated request, after a crash for instance: the task exists already.
                Some(task) if task.owner == by.member() && task.spec == draft.spec => {}
                Some(_) => {
                    let field = format!("rtmpTasks[{at}].taskId");
                    return Err(RpcError::new(ErrorName::DuplicateTask).field(field));
                }
            }
        }
        if self.tasks.list.len() + new.len() > cx.config.limits.tasks {
            return Err(RpcError::new(ErrorName::TaskLimitExceeded).field("rtmpTasks"));
        }
        Ok(new)
    }

    fn judge_update(&self, by: Caller, drafts: &[Draft]) -> Result<Vec<usize>, RpcError> {
        let mut changes = Vec::new();
        for (at, draft) in drafts.iter().enumerate() {
            let id_field = format!("rtmpTasks[{at}].taskId");
            let Some(task) = self.tasks.list.get(&draft.id) else {
                return Err(RpcError::new(ErrorName::NoSuchTask).field(id_field));
            };
            if !self.may_change(by, task.owner) {
                return Err(not_owner(id_field));
            }
            let same = task.spec == draft.spec && task.phase != Phase::Failed;
            // After the greatest revision there is no next one.
            let next = draft.revision.or((task.revision == MAX_REVISION).then_some(MAX_REVISION));
            match next {
                _ if same && draft.revision.is_none() => {}
                Some(revision) if revision == task.revision && same => {}
                Some(revision) if revision <= task.revision => {
                    let field = format!("rtmpTasks[{at}].revision");
                    return Err(RpcError::new(ErrorName::TaskOverridden).field(field));
                }
                _ => changes.push(at),
            }
        }
        Ok(changes)
    }

    fn judge_delete(&self, by: Caller, ids: &[TaskId]) -> Result<Vec<usize>, RpcError> {
        for (at, id) in ids.iter().enumerate() {
            let field = format!("taskIds[{at}]");
            let Some(task) = self.tasks.list.get(id) else {
                return Err(RpcError::new(ErrorName::NoSuchTask).field(field));
            };
            if !self.may_change(by, task.owner) {
                return Err(not_owner(field));
            }
        }
        Ok((0..ids.len()).collect())
    }
}

fn not_owner(field: String) -> RpcError {
    RpcError::new(ErrorName::Forbidden).message("The task is somebody else's.").field(field)
}

pub(super) fn read_drafts(params: &WireTasks) -> Result<Vec<Draft>, RpcError> {
    let read = params.rtmp_tasks.iter().enumerate();
    read.map(|(at, task)| Draft::of_wire(task).map_err(|error| prefix_field(error, at))).collect()
}

/// An error of one task of a list.
fn prefix_field(error: RpcError, at: usize) -> RpcError {
    let field = format!("rtmpTasks[{at}].{}", error.data.field.as_deref().unwrap_or_default());
    error.field(field)
}

fn check_list(field: &str, len: usize) -> Result<(), RpcError> {
    if len == 0 {
        let error = RpcError::new(ErrorName::BadTask);
        return Err(error.message("The list is empty.").field(field));
    }
    Ok(())
}

/// Checks a request without the present tasks.
pub(super) fn check(change: &TaskChange) -> Result<(), RpcError> {
    match change {
        TaskChange::Add(drafts) | TaskChange::Update(drafts) => {
            check_list("rtmpTasks", drafts.len())?;
            check_drafts(drafts)
        }
        TaskChange::Delete(ids) => check_list("taskIds", ids.len()),
    }
}

/// Checks each draft, and that no two have the same id or address.
fn check_drafts(drafts: &[Draft]) -> Result<(), RpcError> {
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for (at, draft) in drafts.iter().enumerate() {
        draft.check().map_err(|error| prefix_field(error, at))?;
        if !ids.insert(&draft.id) {
            let field = format!("rtmpTasks[{at}].taskId");
            return Err(RpcError::new(ErrorName::DuplicateTask).field(field));
        }
        if !places.insert(draft.spec.address.key()) {
            let field = format!("rtmpTasks[{at}].streamUrl");
            return Err(RpcError::new(ErrorName::StreamUrlBusy).field(field));
        }
    }
    Ok(())
}
