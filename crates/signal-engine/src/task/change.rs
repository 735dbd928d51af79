//! A change of the tasks of a channel, by a member or by the app's server.

use lianmai_protocol::TaskId;

use super::spec::Draft;

/// A change of tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskChange {
    /// As `addTasks`.
    Add(Vec<Draft>),
    /// As `updateTasks`.
    Update(Vec<Draft>),
    /// As `deleteTasks`.
    Delete(Vec<TaskId>),
}

impl TaskChange {
    /// The ids of its tasks.
    pub(crate) fn ids(&self) -> Vec<TaskId> {
        match self {
            TaskChange::Add(drafts) | TaskChange::Update(drafts) => {
                drafts.iter().map(|draft| draft.id.clone()).collect()
            }
            TaskChange::Delete(ids) => ids.clone(),
        }
    }

    /// Index of a task in the list of the request.
    pub(crate) fn index_of(&self, id: &TaskId) -> Option<usize> {
        match self {
            TaskChange::Add(drafts) | TaskChange::Update(drafts) => {
                drafts.iter().position(|draft| draft.id == *id)
            }
            TaskChange::Delete(_) => None,
        }
    }
}
