//! Push tasks of a channel: list, show, add, update, end. Tasks that are made here belong to no member. Comes in: tasks
//! as members write them, and additions for the app's server (`wanted`). Goes out: the state of each task as members
//! see it, and its address without secrets. Deliberately absent: validation, which the engine does as for members.

mod wanted;

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use lianmai_protocol::message::task::{TaskInfo, TaskState};
use lianmai_protocol::{ErrorName, TaskId, UserId};
use lianmai_signal_engine::TaskChange;
use lianmai_signal_engine::output::TaskView;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::wanted::WantedTasks;
use super::{ApiResult, Done, done};
use crate::api::Api;
use crate::api::access::{Admin, Channel, Read, Task};
use crate::api::error::{ApiError, json};
use crate::api::extract::{Json, MAX_TASKS_BODY};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, add, update))
        .routes(routes!(show, delete))
        .routes(routes!(delete_some))
}

/// The state of a task.
#[derive(Clone, Copy, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
enum TaskStateDto {
    /// No member publishes what it shows, so it waits.
    Idle,
    /// It is about to push.
    Starting,
    /// It pushes.
    Pushing,
    /// The push broke off or could not begin, and is retried.
    Retrying,
    /// All retries have failed. An update starts it again.
    Failed,
    /// It has ended.
    Ended,
}

impl TaskStateDto {
    fn of(state: Option<&TaskState>) -> Self {
        match state {
            Some(TaskState::Starting) => TaskStateDto::Starting,
            Some(TaskState::Pushing) => TaskStateDto::Pushing,
            Some(TaskState::Retrying) => TaskStateDto::Retrying,
            Some(TaskState::Failed) => TaskStateDto::Failed,
            Some(TaskState::Ended) => TaskStateDto::Ended,
            _ => TaskStateDto::Idle,
        }
    }
}

/// A push task.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct TaskDto {
    #[schema(value_type = String)]
    task_id: TaskId,
    /// The member that owns it; absent for a task of the API.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    uid: Option<UserId>,
    state: TaskStateDto,
    /// The code that members are told: 505 pushing, 506 failed, 512 an image could not be used, 0 otherwise.
    code: u16,
    /// Increases with each update.
    revision: u64,
    /// The number of retries of the push in a row.
    retries: u32,
    /// Without stream name and query.
    stream_url: String,
    /// Whether a file is written as well.
    record: bool,
    /// How often it has begun to push.
    run: u64,
}

impl From<TaskView> for TaskDto {
    fn from(view: TaskView) -> Self {
        let TaskView { info, address, record, run } = view;
        let TaskInfo { task_id, uid, state, code, revision, retries } = info;
        let (state, stream_url) =
            (TaskStateDto::of(state.as_ref()), address.redacted_url().to_owned());
        TaskDto { task_id, uid, state, code, revision, retries, stream_url, record, run }
    }
}

/// Push tasks, ordered by id.
#[derive(Serialize, utoipa::ToSchema)]
struct TaskList {
    tasks: Vec<TaskDto>,
}

/// Push tasks of a channel
#[utoipa::path(
    get, path = "/v1/apps/{appkey}/channels/{channel}/tasks", operation_id = "listTasks", tag = "tasks",
    params(("appkey" = String, Path), ("channel" = String, Path)),
    responses((status = 200, body = TaskList))
)]
async fn list(State(api): State<Arc<Api>>, Channel(key, _): Channel<Read>) -> ApiResult {
    let tasks = api.service.tasks(key).await?.into_iter().map(TaskDto::from).collect();
    Ok(json(StatusCode::OK, &TaskList { tasks }))
}

/// Add push tasks
///
/// Either all are added, or none. A task that already exists with the same content changes nothing, so the request may
/// be repeated.
#[utoipa::path(
    post, path = "/v1/apps/{appkey}/channels/{channel}/tasks", operation_id = "addTasks", tag = "tasks",
    params(("appkey" = String, Path), ("channel" = String, Path)), request_body = WantedTasks,
    responses((status = 200, body = Done))
)]
async fn add(
    State(api): State<Arc<Api>>,
    Channel(key, _): Channel<Admin>,
    Json(tasks): Json<WantedTasks, MAX_TASKS_BODY>,
) -> ApiResult {
    api.service.change_tasks(key, TaskChange::Add(tasks.drafts()?)).await?;
    Ok(done())
}

/// Update push tasks
///
/// Either all are updated, or none. An update replaces the whole content of a task; other tasks stay.
#[utoipa::path(
    patch, path = "/v1/apps/{appkey}/channels/{channel}/tasks", operation_id = "updateTasks", tag = "tasks",
    params(("appkey" = String, Path), ("channel" = String, Path)), request_body = WantedTasks,
    responses((status = 200, body = Done))
)]
async fn update(
    State(api): State<Arc<Api>>,
    Channel(key, _): Channel<Admin>,
    Json(tasks): Json<WantedTasks, MAX_TASKS_BODY>,
) -> ApiResult {
    api.service.change_tasks(key, TaskChange::Update(tasks.drafts()?)).await?;
    Ok(done())
}

/// One push task
#[utoipa::path(
    get, path = "/v1/apps/{appkey}/channels/{channel}/tasks/{task}", operation_id = "getTask", tag = "tasks",
    params(("appkey" = String, Path), ("channel" = String, Path), ("task" = String, Path)),
    responses((status = 200, body = TaskDto))
)]
async fn show(State(api): State<Arc<Api>>, Task(key, id, _): Task<Read>) -> ApiResult {
    let tasks = api.service.tasks(key).await?;
    let found = tasks.into_iter().find(|view| view.info.task_id == id);
    let view = found.ok_or_else(|| ApiError::from(ErrorName::NoSuchTask))?;
    Ok(json(StatusCode::OK, &TaskDto::from(view)))
}

/// End a push task
#[utoipa::path(
    delete, path = "/v1/apps/{appkey}/channels/{channel}/tasks/{task}", operation_id = "deleteTask", tag = "tasks",
    params(("appkey" = String, Path), ("channel" = String, Path), ("task" = String, Path)),
    responses((status = 200, body = Done))
)]
async fn delete(State(api): State<Arc<Api>>, Task(key, id, _): Task<Admin>) -> ApiResult {
    api.service.change_tasks(key, TaskChange::Delete(vec![id])).await?;
    Ok(done())
}

/// The id of a push task.
#[derive(utoipa::ToSchema)]
#[schema(pattern = "^[A-Za-z0-9_]{1,64}$")]
#[expect(dead_code, reason = "it describes texts inside of lists")]
struct TaskName(String);

/// Which push tasks to end.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TaskIds {
    #[schema(value_type = Vec<TaskName>, min_items = 1, max_items = 64)]
    task_ids: Vec<TaskId>,
}

/// End several push tasks
///
/// Either all end, or none.
#[utoipa::path(
    post, path = "/v1/apps/{appkey}/channels/{channel}/deleteTasks", operation_id = "deleteTasks", tag = "tasks",
    params(("appkey" = String, Path), ("channel" = String, Path)), request_body = TaskIds,
    responses((status = 200, body = Done))
)]
async fn delete_some(
    State(api): State<Arc<Api>>,
    Channel(key, _): Channel<Admin>,
    Json(TaskIds { task_ids }): Json<TaskIds>,
) -> ApiResult {
    api.service.change_tasks(key, TaskChange::Delete(task_ids)).await?;
    Ok(done())
}
