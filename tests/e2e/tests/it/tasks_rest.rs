//! Push tasks of the app's server: by the admin API, and as members see them.
//! Proves no rule of the protocol: HTTP.

use anyhow::{Result, ensure};
use lianmai_test_support::arrivals;
use lianmai_test_support::watching::Watching;
use serde_json::{Value, json};

use crate::tasks_stage::{Air, BLUE, RED, task};

const TASKS: &str = "/v1/apps/demo/channels/room/tasks";

impl Air {
    async fn rest(&self, method: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (admin, token) = (self.stage.server.admin, self.stage.server.admin_token()?);
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {admin}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len(),
        );
        let mut answer = arrivals::ask(admin, &request).await?;
        let text = answer.text().await?;
        Ok((answer.status, serde_json::from_str(&text).unwrap_or_default()))
    }
}

#[tokio::test]
async fn the_apps_server_has_tasks_of_its_own() -> Result<()> {
    let air = Air::start().await?;
    let (mut red, mut blue) = air.hosts().await?;
    // Who has most of the picture follows from how many there are.
    let mut wanted = task(&air, json!([]));
    wanted["hostUid"] = json!("200");
    wanted["fps"] = json!(15);
    wanted["layout"]["canvas"] = json!({"width": 640, "height": 360});
    wanted["paneSets"] = json!([
        [{"x": 0, "y": 0, "width": 1, "height": 1}],
        [{"x": 0, "y": 0, "width": 0.5, "height": 1},
         {"x": 0.5, "y": 0, "width": 0.5, "height": 1, "major": true}],
    ]);
    let body = json!({"rtmpTasks": [wanted]});
    let (status, answer) = air.rest("POST", TASKS, &body).await?;
    ensure!(status == 200 && answer == json!({}), "{status} {answer}");
    let told = red.member.task_is("pushing").await?;
    ensure!(told["uid"].is_null(), "{told}");
    air.receiver.pictures(1).await?;
    let mut watching = Watching::start(air.receiver.follow(), 640, 360)?;
    watching.until(&[(200, 250, RED), (550, 250, BLUE)]).await?;
    blue.member.call("unpublish", json!({"mediaType": "video"})).await?;
    watching.until(&[(200, 250, RED), (550, 250, RED)]).await?;

    let (status, listed) = air.rest("GET", TASKS, &Value::Null).await?;
    let shown = &listed["tasks"][0];
    ensure!(status == 200 && shown["taskId"] == "cdn_1" && shown["state"] == "pushing", "{listed}");
    let url = format!("rtmp://{}/live/***", air.receiver.address);
    ensure!(shown["streamUrl"] == url && shown["run"] == 1 && shown["uid"].is_null(), "{listed}");
    ensure!(!listed.to_string().contains("s3cret"), "{listed}");
    // A member without `moderate` has no power over it; nor is it a member's.
    let error = blue.member.refusal("deleteTasks", json!({"taskIds": ["cdn_1"]})).await?;
    ensure!(error["data"]["name"] == "forbidden", "{error}");

    let again = json!({"rtmpTasks": [task(&air, json!([]))]});
    let (status, answer) = air.rest("POST", TASKS, &again).await?;
    ensure!(status == 409 && answer["name"] == "duplicateTask", "{status} {answer}");
    ensure!(answer["field"] == "rtmpTasks[0].taskId", "{answer}");
    let (status, answer) = air.rest("PUT", TASKS, &again).await?;
    ensure!(status == 200, "{status} {answer}");
    let (status, answer) = air.rest("DELETE", &format!("{TASKS}/none"), &Value::Null).await?;
    ensure!(status == 404 && answer["name"] == "noSuchTask", "{status} {answer}");
    let (status, answer) = air.rest("DELETE", TASKS, &json!({"taskIds": ["cdn_1"]})).await?;
    ensure!(status == 200, "{status} {answer}");
    red.member.task_is("ended").await?;
    let (_, listed) = air.rest("GET", TASKS, &Value::Null).await?;
    ensure!(listed == json!({"tasks": []}), "{listed}");
    drop((red, blue));
    air.stage.finish().await
}

#[tokio::test]
async fn what_is_wrong_is_named() -> Result<()> {
    let air = Air::start().await?;
    let _ann = air.stage.join("a room?%&", 1).await?;
    // The name of a channel may have any mark.
    let named = "/v1/apps/demo/channels/a%20room%3F%25%26/tasks";
    let (status, listed) = air.rest("GET", named, &Value::Null).await?;
    ensure!(status == 200 && listed == json!({"tasks": []}), "{status} {listed}");
    let good = json!({"rtmpTasks": [task(&air, json!([]))]});
    let (status, answer) = air.rest("POST", named, &good).await?;
    ensure!(status == 200, "{status} {answer}");
    let long = "x".repeat(65);
    for (method, path, body, status, name) in [
        ("GET", TASKS, Value::Null, 404, "noSuchChannel"),
        ("POST", TASKS, good.clone(), 404, "noSuchChannel"),
        ("DELETE", &format!("{named}/a-b"), Value::Null, 400, "badTask"),
        (
            "GET",
            &format!("/v1/apps/demo/channels/{long}/tasks"),
            Value::Null,
            400,
            "badChannelName",
        ),
        ("GET", "/v1/apps/de%20mo/channels/room/tasks", Value::Null, 400, "badAppkey"),
        ("GET", "/v1/apps/demo/channels/%ff/tasks", Value::Null, 400, "badChannelName"),
        ("PATCH", named, json!({}), 405, "methodNotAllowed"),
        ("POST", named, json!({"rtmpTasks": []}), 400, "badTask"),
        ("POST", named, json!({"rtmpTasks": [{}]}), 400, "invalidParams"),
        ("POST", named, json!({}), 400, "invalidParams"),
        ("DELETE", named, json!({"taskIds": []}), 400, "badTask"),
        ("PUT", named, json!({"rtmpTasks": [], "x": "x".repeat(70_000)}), 413, "bodyTooLarge"),
    ] {
        let (is, answer) = air.rest(method, path, &body).await?;
        ensure!(is == status && answer["name"] == name, "{method} {path}: {is} {answer}");
    }
    air.stage.finish().await
}
