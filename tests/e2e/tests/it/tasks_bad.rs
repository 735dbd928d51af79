//! Push tasks that are wrong: each gets its own error with the path of the wrong value, and changes nothing.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::server::Member;
use crate::tasks_setup::{TaskSetup, side_by_side, task, user};

/// A change of a good task, and the expected error: name, code, path.
struct InvalidTask {
    change: Box<dyn Fn(&mut Value)>,
    name: &'static str,
    code: i64,
    field: &'static str,
}

fn row(
    change: impl Fn(&mut Value) + 'static,
    name: &'static str,
    code: i64,
    field: &'static str,
) -> InvalidTask {
    InvalidTask { change: Box::new(change), name, code, field }
}

fn set(pointer: &'static str, value: Value) -> impl Fn(&mut Value) {
    move |task| {
        let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", pointer));
        let parent = task.pointer_mut(parent).expect("a path of the task");
        match parent {
            Value::Array(list) => list[key.parse::<usize>().expect("a number")] = value.clone(),
            other => other[key] = value.clone(),
        }
    }
}

const TASK: (&str, i64) = ("badTask", 1400);
const LAYOUT: (&str, i64) = ("badLayout", 1501);
const IMAGE: (&str, i64) = ("badImage", 1502);

fn of(
    (name, code): (&'static str, i64),
    pointer: &'static str,
    value: Value,
    field: &'static str,
) -> InvalidTask {
    row(set(pointer, value), name, code, field)
}

fn rows(own: &[String]) -> Vec<InvalidTask> {
    let mut rows = vec![
        of(TASK, "/streamUrl", json!("http://127.0.0.1/live/a"), "streamUrl"),
        of(TASK, "/streamUrl", json!("rtmp://127.0.0.1"), "streamUrl"),
        of(TASK, "/streamUrl", json!("rtmp://h/live/a b"), "streamUrl"),
        of(TASK, "/streamUrl", json!("rtmp://h/live/<script>"), "streamUrl"),
        of(TASK, "/streamUrl", json!("rtmp://h/live/a\n-i /etc/passwd"), "streamUrl"),
        of(TASK, "/streamUrl", json!("rtmp://h/live/a\u{0}"), "streamUrl"),
        of(TASK, "/streamUrl", json!("rtmp://h/live/"), "streamUrl"),
        of(TASK, "/streamUrl", json!(""), "streamUrl"),
        of(TASK, "/streamUrl", json!(format!("rtmp://h/live/{}", "x".repeat(3000))), "streamUrl"),
        of(TASK, "/revision", json!(0), "revision"),
        of(TASK, "/extraInfo", json!("x".repeat(1025)), "extraInfo"),
        of(TASK, "/config", json!({"audioParam": {"bitRate": 9}}), "config.audioParam.bitRate"),
        of(TASK, "/config", json!({"audioParam": {"bitRate": 193}}), "config.audioParam.bitRate"),
        of(
            TASK,
            "/config",
            json!({"audioParam": {"sampleRate": 22050}}),
            "config.audioParam.sampleRate",
        ),
        of(TASK, "/config", json!({"audioParam": {"channels": 3}}), "config.audioParam.channels"),
        of(
            TASK,
            "/config",
            json!({"audioParam": {"codecProfile": 2}}),
            "config.audioParam.codecProfile",
        ),
        of(LAYOUT, "/layout/canvas/width", json!(1922), "layout.canvas.width"),
        of(LAYOUT, "/layout/canvas/height", json!(0), "layout.canvas.height"),
        of(
            LAYOUT,
            "/layout/canvas",
            json!({"width": 1920, "height": 1082, "color": 0}),
            "layout.canvas",
        ),
        of(LAYOUT, "/layout/canvas/color", json!(16_777_216), "layout.canvas.color"),
        of(LAYOUT, "/layout/users/0/x", json!(642), "layout.users[0]"),
        of(LAYOUT, "/layout/users/0/x", json!(4_294_967_295_u32), "layout.users[0]"),
        of(LAYOUT, "/layout/users/1/width", json!(1), "layout.users[1]"),
        of(LAYOUT, "/layout/users/1/uid", json!("100"), "layout.users[1].uid"),
        of(LAYOUT, "/layout/users/0/adaption", json!(2), "layout.users[0].adaption"),
        of(LAYOUT, "/layout/users/0/zOrder", json!(101), "layout.users[0].zOrder"),
        of(
            LAYOUT,
            "/layout/users",
            (1..=8).map(|uid| user(uid, 0, 0, 16, 16)).collect(),
            "layout.users",
        ),
        of(
            LAYOUT,
            "/layout/users",
            (1..=22).map(|uid| json!({"uid": uid.to_string(), "pushAudio": true})).collect(),
            "layout.users",
        ),
        of(LAYOUT, "/config", json!({"singleVideoNoTrans": true}), "config.singleVideoNoTrans"),
        of(
            IMAGE,
            "/layout/images",
            json!([{"url": "ftp://h/a", "width": 16, "height": 16}]),
            "layout.images[0].url",
        ),
        of(
            IMAGE,
            "/layout/images",
            json!([{"url": "file:///etc/passwd", "width": 16, "height": 16}]),
            "layout.images[0].url",
        ),
        of(
            LAYOUT,
            "/layout/images",
            json!([{"url": "http://h/a", "x": 1280, "width": 16, "height": 16}]),
            "layout.images[0]",
        ),
    ];
    for url in own {
        rows.push(of(TASK, "/streamUrl", json!(url), "streamUrl"));
    }
    rows
}

async fn refused(member: &mut Member, task: &Value, row: &InvalidTask) -> Result<()> {
    let error = member.refusal("addTasks", json!({"rtmpTasks": [task]})).await?;
    let field = format!("rtmpTasks[0].{}", row.field);
    let is_it = error["code"] == row.code
        && error["data"]["name"] == row.name
        && error["data"]["field"] == field.as_str();
    ensure!(is_it, "{error}, and not {} at {field}", row.name);
    // No answer contains what was sent, because it may be a secret.
    ensure!(!error["message"].as_str().is_none_or(str::is_empty), "{error}");
    Ok(())
}

/// Proves TSK-3, TSK-4.
#[tokio::test]
async fn tsk_3_each_task_that_is_wrong_has_its_error() -> Result<()> {
    let fast = [
        ("LIANMAI_LIMITS__COMMANDS_PER_SECOND", "10000"),
        ("LIANMAI_LIMITS__COMMAND_BURST", "10000"),
    ];
    let setup = TaskSetup::start_with(&fast).await?;
    let mut ann = setup.server.join("room", 1).await?;
    let rtmp = setup.server.process.rtmp;
    let own = [
        format!("rtmp://{rtmp}/live/a"),
        format!("rtmp://localhost:{}/live/a", rtmp.port()),
        format!("rtmp://[::ffff:127.0.0.1]:{}/live/a", rtmp.port()),
        ann.publish().await?,
        format!("rtmp://{}/live/a", setup.server.process.public),
    ];
    for row in rows(&own) {
        let mut wanted = task(&setup, side_by_side());
        (row.change)(&mut wanted);
        refused(&mut ann, &wanted, &row).await?;
    }
    // Errors of the whole request.
    for (params, name) in [
        (json!({}), "invalidParams"),
        (json!({"rtmpTasks": [{"taskId": "a"}]}), "invalidParams"),
        (json!({"rtmpTasks": []}), "badTask"),
    ] {
        let error = ann.refusal("addTasks", params).await?;
        ensure!(error["data"]["name"] == name, "{error}");
    }
    for id in ["", "a-b", "ä", &"x".repeat(65)] {
        let mut wanted = task(&setup, side_by_side());
        wanted["taskId"] = json!(id);
        let error = ann.refusal("addTasks", json!({"rtmpTasks": [wanted]})).await?;
        ensure!(error["data"]["name"] == "badTask", "{id}: {error}");
    }
    // Errors among several tasks and existing ones: no part of a request takes effect.
    let named = |id: &str, stream: &str| {
        let mut wanted = task(&setup, side_by_side());
        wanted["taskId"] = json!(id);
        wanted["streamUrl"] = json!(setup.receiver.url(stream));
        wanted
    };
    let mut bob = setup.server.join("other", 2).await?;
    ann.call("addTasks", json!({"rtmpTasks": [named("a", "a")]})).await?;
    for (tasks, name, code) in [
        (json!([named("b", "b"), named("b", "c")]), "duplicateTask", 1403),
        (json!([named("b", "b"), named("c", "b?other")]), "streamUrlBusy", 20026),
        (json!([named("b", "b"), named("a", "d")]), "duplicateTask", 1403),
        (
            (0..6).map(|n| named(&format!("t{n}"), &format!("t{n}"))).collect(),
            "taskLimitExceeded",
            1402,
        ),
    ] {
        let error = ann.refusal("addTasks", json!({"rtmpTasks": tasks})).await?;
        ensure!(error["data"]["name"] == name && error["code"] == code, "{error}");
    }
    let error = bob.refusal("addTasks", json!({"rtmpTasks": [named("b", "a")]})).await?;
    ensure!(error["data"]["name"] == "streamUrlBusy", "another channel has it: {error}");
    let error = bob.refusal("deleteTasks", json!({"taskIds": ["a"]})).await?;
    ensure!(error["data"]["name"] == "noSuchTask" && error["code"] == 1404, "{error}");
    let mut old = named("a", "a");
    old["revision"] = json!(1);
    old["record"] = json!(true);
    let error = ann.refusal("updateTasks", json!({"rtmpTasks": [old]})).await?;
    ensure!(error["data"]["name"] == "taskOverridden" && error["code"] == 1301, "{error}");
    let late = setup.server.join("room", 3).await?;
    let tasks = late.joined["channel"]["tasks"].as_array().map_or(0, Vec::len);
    ensure!(tasks == 1, "{}", late.joined);
    setup.server.finish().await
}

/// Proves TSK-3.
#[tokio::test]
async fn tsk_3_addresses_that_are_not_public_are_refused_where_the_operator_has_it_so() -> Result<()>
{
    let setup = TaskSetup::start_with(&[("LIANMAI_TASKS__PRIVATE_PUSH", "false")]).await?;
    let mut ann = setup.server.join("room", 1).await?;
    for url in [
        setup.receiver.url("key"),
        "rtmp://10.0.0.1/live/a".to_owned(),
        "rtmp://169.254.169.254/live/a".to_owned(),
        "rtmp://[::1]/live/a".to_owned(),
        "rtmp://localhost/live/a".to_owned(),
    ] {
        let row = of(TASK, "/streamUrl", json!(url), "streamUrl");
        let mut wanted = task(&setup, side_by_side());
        (row.change)(&mut wanted);
        refused(&mut ann, &wanted, &row).await?;
    }
    setup.server.finish().await
}
