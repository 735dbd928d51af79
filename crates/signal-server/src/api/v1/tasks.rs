//! Push tasks of a channel: list, add, update, delete. Tasks that are made here belong to no member. Deliberately absent:
//! what is right, which the engine says as it does to members.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{delete, get};
use http::StatusCode;
use lianmai_protocol::message::task::{Task, TaskInfo};
use lianmai_protocol::{ErrorName, RpcError, TaskId};
use lianmai_signal_engine::TaskChange;
use lianmai_signal_engine::output::TaskView;
use lianmai_signal_engine::task::layout::WHOLE;
use lianmai_signal_engine::task::{Adaption, Draft, Pane, PaneSet, Profile, Source};
use serde::{Deserialize, Serialize};

use crate::api::Api;
use crate::api::error::{ApiError, json};
use crate::api::extract::{AppChannel, AppTask, Json};

type Answer = Result<Response, ApiError>;

/// Longest body that names tasks, in bytes: as long as a frame of a member.
const MAX_BODY: usize = 64 * 1024;

pub(super) fn routes() -> Router<Arc<Api>> {
    let all = "/v1/apps/{appkey}/channels/{channel}/tasks";
    let one = "/v1/apps/{appkey}/channels/{channel}/tasks/{task}";
    Router::new()
        .route(all, get(list).post(add).put(update).delete(delete_some))
        .route(one, delete(delete_one))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TaskDto {
    #[serde(flatten)]
    info: TaskInfo,
    /// Without stream and query.
    stream_url: String,
    record: bool,
    run: u64,
}

impl From<TaskView> for TaskDto {
    fn from(view: TaskView) -> Self {
        let TaskView { info, address, record, run } = view;
        TaskDto { info, stream_url: address.told().to_owned(), record, run }
    }
}

async fn list(State(api): State<Arc<Api>>, AppChannel(key): AppChannel) -> Answer {
    #[derive(Serialize)]
    struct List {
        tasks: Vec<TaskDto>,
    }
    let tasks = api.service.tasks(key).await?.into_iter().map(TaskDto::from).collect();
    Ok(json(StatusCode::OK, &List { tasks }))
}

/// Tasks as members write them, and what only the app's server may say.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tasks {
    rtmp_tasks: Vec<WantedTask>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WantedTask {
    #[serde(flatten)]
    task: Task,
    /// Name of a profile: size where the canvas has none, frame rate, bit rate.
    profile: Option<String>,
    fps: Option<u32>,
    video_kbps: Option<u32>,
    /// Instead of `layout.users`.
    pane_sets: Option<Vec<Vec<WantedPane>>>,
    pane_adaption: Option<u32>,
}

/// A place, in fractions of the canvas.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WantedPane {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    #[serde(default)]
    z_order: u32,
    #[serde(default)]
    major: bool,
}

async fn add(
    State(api): State<Arc<Api>>,
    AppChannel(key): AppChannel,
    Json(tasks): Json<Tasks, MAX_BODY>,
) -> Answer {
    api.service.change_tasks(key, TaskChange::Add(drafts(tasks)?)).await?;
    Ok(done())
}

async fn update(
    State(api): State<Arc<Api>>,
    AppChannel(key): AppChannel,
    Json(tasks): Json<Tasks, MAX_BODY>,
) -> Answer {
    api.service.change_tasks(key, TaskChange::Update(drafts(tasks)?)).await?;
    Ok(done())
}

async fn delete_some(
    State(api): State<Arc<Api>>,
    AppChannel(key): AppChannel,
    Json(ids): Json<Ids>,
) -> Answer {
    api.service.change_tasks(key, TaskChange::Delete(ids.task_ids)).await?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ids {
    task_ids: Vec<TaskId>,
}

async fn delete_one(State(api): State<Arc<Api>>, AppTask(key, task): AppTask) -> Answer {
    api.service.change_tasks(key, TaskChange::Delete(vec![task])).await?;
    Ok(done())
}

/// It took effect, and there is nothing to say.
fn done() -> Response {
    json(StatusCode::OK, &serde_json::json!({}))
}

fn drafts(tasks: Tasks) -> Result<Vec<Draft>, RpcError> {
    let read = tasks.rtmp_tasks.into_iter().enumerate();
    read.map(|(at, task)| {
        draft(task).map_err(|error| {
            let field = error.data.field.clone().unwrap_or_default();
            error.field(format!("rtmpTasks[{at}].{field}"))
        })
    })
    .collect()
}

fn draft(wanted: WantedTask) -> Result<Draft, RpcError> {
    let WantedTask { mut task, profile, fps, video_kbps, pane_sets, pane_adaption } = wanted;
    let profile = match profile.as_deref().map(Profile::named) {
        Some(None) => return Err(bad(ErrorName::BadTask, "profile", "There is no such profile.")),
        profile => profile.flatten(),
    };
    if let Some(profile) = profile
        && (task.layout.canvas.width, task.layout.canvas.height) == (0, 0)
    {
        (task.layout.canvas.width, task.layout.canvas.height) =
            (profile.width & !1, profile.height & !1);
    }
    let stretched = stretch(&mut task);
    let mut draft = Draft::of_wire(&task)?;
    let spec = &mut draft.spec;
    if let Source::Rectangles(windows) = &mut spec.source {
        for (window, _) in windows.iter_mut().zip(&stretched.0).filter(|(_, stretched)| **stretched)
        {
            window.adaption = Adaption::Stretch;
        }
    }
    for (picture, _) in
        spec.pictures.iter_mut().zip(&stretched.1).filter(|(_, stretched)| **stretched)
    {
        picture.adaption = Adaption::Stretch;
    }
    if let Some(profile) = profile {
        spec.encoding = profile.encoding;
    }
    spec.encoding.fps = fps.unwrap_or(spec.encoding.fps);
    spec.encoding.video_kbps = video_kbps.unwrap_or(spec.encoding.video_kbps);
    if let Some(sets) = pane_sets {
        let adaption = match pane_adaption {
            None | Some(1) => Adaption::Crop,
            Some(0) => Adaption::Fit,
            Some(2) => Adaption::Stretch,
            Some(_) => {
                let why = "The adaption is neither 0, 1 nor 2.";
                return Err(bad(ErrorName::BadLayout, "paneAdaption", why));
            }
        };
        if !task.layout.users.is_empty() {
            let why = "There are panes or users, not both.";
            return Err(bad(ErrorName::BadLayout, "paneSets", why));
        }
        let sets = sets.iter().enumerate().map(|(at, panes)| pane_set(at, panes));
        spec.source = Source::Panes { sets: sets.collect::<Result<_, RpcError>>()?, adaption };
    }
    draft.check()?;
    Ok(draft)
}

/// Which users and images are stretched, a third value that members do not have; they count as the second meanwhile.
fn stretch(task: &mut Task) -> (Vec<bool>, Vec<bool>) {
    let of = |adaption: &mut u32| {
        let is_stretched = *adaption == 2;
        if is_stretched {
            *adaption = 1;
        }
        is_stretched
    };
    let users = task.layout.users.iter_mut().map(|user| of(&mut user.adaption)).collect();
    (users, task.layout.images.iter_mut().map(|image| of(&mut image.adaption)).collect())
}

fn pane_set(at: usize, panes: &[WantedPane]) -> Result<PaneSet, RpcError> {
    let panes = panes.iter().enumerate().map(|(number, pane)| {
        let part = |fraction: f64| {
            let is_one = (0.0..=1.0).contains(&fraction);
            // In range and whole by then.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            is_one.then(|| (fraction * f64::from(WHOLE)).round() as u32)
        };
        let WantedPane { x, y, width, height, z_order, major } = *pane;
        let parts = [x, y, width, height].map(part);
        let [Some(x), Some(y), Some(width), Some(height)] = parts else {
            let field = format!("paneSets[{at}][{number}]");
            return Err(bad(ErrorName::BadLayout, &field, "It is no fraction of the canvas."));
        };
        // What two roundings add is no reason to refuse it.
        let (width, height) = (width.min(WHOLE - x), height.min(WHOLE - y));
        Ok(Pane { x, y, width, height, z: z_order, major })
    });
    Ok(PaneSet { panes: panes.collect::<Result<_, RpcError>>()? })
}

fn bad(name: ErrorName, field: &str, why: &str) -> RpcError {
    RpcError::new(name).message(why).field(field)
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: what the app's server may say of tasks.

    use super::*;

    fn draft_of(text: &str) -> Result<Draft, RpcError> {
        let text = format!(
            r#"{{"rtmpTasks": [{{"taskId": "a", "streamUrl": "rtmp://h/live/key", {text}}}]}}"#
        );
        drafts(serde_json::from_str(&text).unwrap()).map(|mut drafts| drafts.remove(0))
    }

    #[test]
    fn profiles_panes_and_a_third_adaption_are_for_the_apps_server() {
        let draft = draft_of(
            r#""layout": {"canvas": {"width": 0, "height": 0}}, "profile": "480p", "fps": 30,
               "paneAdaption": 2, "hostUid": "7",
               "paneSets": [[{"x": 0, "y": 0, "width": 1, "height": 1, "major": true}],
                            [{"x": 0, "y": 0, "width": 0.5, "height": 1}, {"x": 0.3333, "y": 0, "width": 0.6667, "height": 1, "zOrder": 3}]]"#,
        )
        .unwrap();
        let spec = &draft.spec;
        assert_eq!((spec.canvas.width, spec.canvas.height), (854, 480));
        assert_eq!((spec.encoding.fps, spec.encoding.video_kbps), (30, 1_000));
        let Source::Panes { sets, adaption } = &spec.source else { panic!("{spec:?}") };
        assert_eq!((*adaption, sets.len(), sets[1].panes[1].z), (Adaption::Stretch, 2, 3));
        assert!(sets[0].panes[0].major && sets[1].panes[1].width == 666_700);
        let draft = draft_of(
            r#""layout": {"canvas": {"width": 640, "height": 360},
                "users": [{"uid": "1", "width": 16, "height": 16, "adaption": 2, "pushVideo": true}],
                "images": [{"url": "https://h/a.png", "width": 16, "height": 16, "adaption": 2}]}"#,
        )
        .unwrap();
        let Source::Rectangles(windows) = &draft.spec.source else { panic!("{draft:?}") };
        assert_eq!(windows[0].adaption, Adaption::Stretch);
        assert_eq!(draft.spec.pictures[0].adaption, Adaption::Stretch);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let canvas = r#""layout": {"canvas": {"width": 640, "height": 360}"#;
        let pane = |pane: &str| format!(r#"{canvas}}}, "paneSets": [[{{{pane}}}]]"#);
        for (text, name, field) in [
            (format!(r#"{canvas}}}, "profile": "4k""#), ErrorName::BadTask, "profile"),
            (format!(r#"{canvas}}}, "fps": 4"#), ErrorName::BadTask, "fps"),
            (format!(r#"{canvas}}}, "videoKbps": 20001"#), ErrorName::BadTask, "videoKbps"),
            (format!(r#"{canvas}}}, "paneSets": []"#), ErrorName::BadLayout, "layout.paneSets"),
            (
                format!(r#"{canvas}}}, "paneSets": [], "paneAdaption": 3"#),
                ErrorName::BadLayout,
                "paneAdaption",
            ),
            (
                format!(r#"{canvas}, "users": [{{"uid": "1"}}]}}, "paneSets": []"#),
                ErrorName::BadLayout,
                "paneSets",
            ),
            (
                pane(r#""x": -0.1, "y": 0, "width": 1, "height": 1"#),
                ErrorName::BadLayout,
                "paneSets[0][0]",
            ),
            (
                pane(r#""x": 0, "y": 0, "width": 1e300, "height": 1"#),
                ErrorName::BadLayout,
                "paneSets[0][0]",
            ),
            (
                pane(r#""x": 0, "y": 0, "width": 0, "height": 1"#),
                ErrorName::BadLayout,
                "layout.paneSets[0].panes[0]",
            ),
        ] {
            let error = draft_of(&text).unwrap_err();
            let field = format!("rtmpTasks[0].{field}");
            assert_eq!((error.name(), error.data.field.clone()), (&name, Some(field)), "{text}");
        }
    }
}
