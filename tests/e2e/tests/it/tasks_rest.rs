//! Push tasks of the app's server: through the admin API, and as members see them.
//! Proves no rule of the protocol: HTTP.

use anyhow::{Result, ensure};
use lianmai_test_support::arrivals;
use lianmai_test_support::decoding::DecodedPublish;
use serde_json::{Value, json};

use crate::tasks_setup::{BLUE, RED, TaskSetup, task};

const TASKS: &str = "/v1/apps/demo/channels/room/tasks";

impl TaskSetup {
    async fn rest(&self, method: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (admin, token) = (self.server.process.admin, self.server.process.admin_token()?);
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
    let setup = TaskSetup::start().await?;
    let (mut red, mut blue) = setup.hosts().await?;
    // The pane set depends on the number of members with a picture.
    let mut wanted = task(&setup, json!([]));
    wanted["hostUid"] = json!("200");
    wanted["fps"] = json!(15);
    wanted["layout"]["canvas"] = json!({"width": 640, "height": 360});
    wanted["paneSets"] = json!([
        [{"x": 0, "y": 0, "width": 1, "height": 1}],
        [{"x": 0, "y": 0, "width": 0.5, "height": 1},
         {"x": 0.5, "y": 0, "width": 0.5, "height": 1, "major": true}],
    ]);
    let body = json!({"rtmpTasks": [wanted]});
    let (status, answer) = setup.rest("POST", TASKS, &body).await?;
    ensure!(status == 200 && answer == json!({}), "{status} {answer}");
    let told = red.member.task_is("pushing").await?;
    ensure!(told["uid"].is_null(), "{told}");
    setup.receiver.pictures(1).await?;
    let mut decoded = DecodedPublish::start(setup.receiver.follow(), 640, 360)?;
    decoded.until(&[(200, 250, RED), (550, 250, BLUE)]).await?;
    blue.member.call("unpublish", json!({"mediaType": "video"})).await?;
    decoded.until(&[(200, 250, RED), (550, 250, RED)]).await?;

    let (status, listed) = setup.rest("GET", TASKS, &Value::Null).await?;
    let shown = &listed["tasks"][0];
    ensure!(status == 200 && shown["taskId"] == "cdn_1" && shown["state"] == "pushing", "{listed}");
    let url = format!("rtmp://{}/live/***", setup.receiver.address);
    ensure!(shown["streamUrl"] == url && shown["run"] == 1 && shown["uid"].is_null(), "{listed}");
    ensure!(!listed.to_string().contains("s3cret"), "{listed}");
    // A member without `moderate` cannot change it, and it has no owner.
    let error = blue.member.refusal("deleteTasks", json!({"taskIds": ["cdn_1"]})).await?;
    ensure!(error["data"]["name"] == "forbidden", "{error}");

    let again = json!({"rtmpTasks": [task(&setup, json!([]))]});
    let (status, answer) = setup.rest("POST", TASKS, &again).await?;
    ensure!(status == 409 && answer["name"] == "duplicateTask", "{status} {answer}");
    ensure!(answer["field"] == "rtmpTasks[0].taskId", "{answer}");
    let (status, answer) = setup.rest("PATCH", TASKS, &again).await?;
    ensure!(status == 200, "{status} {answer}");
    let (status, answer) = setup.rest("DELETE", &format!("{TASKS}/none"), &Value::Null).await?;
    ensure!(status == 404 && answer["name"] == "noSuchTask", "{status} {answer}");
    let (status, one) = setup.rest("GET", &format!("{TASKS}/cdn_1"), &Value::Null).await?;
    ensure!(status == 200 && one["taskId"] == "cdn_1" && one["revision"] == 2, "{status} {one}");
    let ids = json!({"taskIds": ["cdn_1"]});
    let (status, answer) =
        setup.rest("POST", "/v1/apps/demo/channels/room/deleteTasks", &ids).await?;
    ensure!(status == 200, "{status} {answer}");
    red.member.task_is("ended").await?;
    let (_, listed) = setup.rest("GET", TASKS, &Value::Null).await?;
    ensure!(listed == json!({"tasks": []}), "{listed}");
    drop((red, blue));
    setup.server.finish().await
}

#[tokio::test]
async fn what_is_wrong_is_named() -> Result<()> {
    let setup = TaskSetup::start().await?;
    let _ann = setup.server.join("a room?%&", 1).await?;
    // The name of a channel may contain any permitted mark.
    let named = "/v1/apps/demo/channels/a%20room%3F%25%26/tasks";
    let (status, listed) = setup.rest("GET", named, &Value::Null).await?;
    ensure!(status == 200 && listed == json!({"tasks": []}), "{status} {listed}");
    let good = json!({"rtmpTasks": [task(&setup, json!([]))]});
    let (status, answer) = setup.rest("POST", named, &good).await?;
    ensure!(status == 200, "{status} {answer}");
    let long = "x".repeat(65);
    let ending = "/v1/apps/demo/channels/a%20room%3F%25%26/deleteTasks".to_owned();
    for (method, path, body, status, name) in [
        ("GET", TASKS, Value::Null, 404, "noSuchChannel"),
        ("POST", TASKS, good.clone(), 404, "noSuchChannel"),
        ("DELETE", &format!("{named}/a-b"), Value::Null, 422, "badTask"),
        ("GET", &format!("{named}/none"), Value::Null, 404, "noSuchTask"),
        (
            "GET",
            &format!("/v1/apps/demo/channels/{long}/tasks"),
            Value::Null,
            400,
            "badChannelName",
        ),
        ("GET", "/v1/apps/de%20mo/channels/room/tasks", Value::Null, 404, "noSuchApp"),
        ("GET", "/v1/apps/demo/channels/%ff/tasks", Value::Null, 400, "badChannelName"),
        ("PUT", named, json!({}), 405, "methodNotAllowed"),
        ("POST", named, json!({"rtmpTasks": []}), 422, "badTask"),
        ("POST", named, json!({"rtmpTasks": [{}]}), 400, "invalidParams"),
        ("POST", named, json!({}), 400, "invalidParams"),
        ("POST", named, json!({"rtmpTasks": [], "x": 1}), 400, "invalidParams"),
        ("POST", &ending, json!({"taskIds": []}), 422, "badTask"),
        ("POST", &ending, json!({"taskIds": ["a-b"]}), 400, "invalidParams"),
        ("PATCH", named, json!({"rtmpTasks": [], "x": "x".repeat(70_000)}), 413, "bodyTooLarge"),
    ] {
        let (is, answer) = setup.rest(method, path, &body).await?;
        ensure!(is == status && answer["name"] == name, "{method} {path}: {is} {answer}");
    }
    setup.server.finish().await
}

/// A key without the scope to make tasks can still read them; a repeated request has one effect.
#[tokio::test]
async fn a_key_needs_the_scope_and_a_repeated_request_has_one_effect() -> Result<()> {
    let setup = TaskSetup::start().await?;
    let _ann = setup.server.join("room", 1).await?;
    let (admin, token) = (setup.server.process.admin, setup.server.process.admin_token()?);
    let ask =
        async |key: &str, first: &str, more: &str, body: &Value| -> Result<(u16, Value, bool)> {
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let request = format!(
                "{first} HTTP/1.0\r\nHost: {admin}\r\nAuthorization: Bearer {key}\r\n{more}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len(),
            );
            let mut answer = arrivals::ask(admin, &request).await?;
            let again = answer.head.to_ascii_lowercase().contains("idempotent-replayed: true");
            let text = answer.text().await?;
            Ok((answer.status, serde_json::from_str(&text).unwrap_or_default(), again))
        };
    let scopes = json!({"scopes": ["moderate"]});
    let (_, made, _) = ask(&token, "POST /v1/apps/demo/keys", "", &scopes).await?;
    let key = made["text"].as_str().unwrap_or_default().to_owned();
    let body = json!({"rtmpTasks": [task(&setup, json!([]))]});
    for first in
        [format!("POST {TASKS}"), format!("PATCH {TASKS}"), format!("DELETE {TASKS}/cdn_1")]
    {
        let body = if first.starts_with("DELETE") { &Value::Null } else { &body };
        let (status, answer, _) = ask(&key, &first, "", body).await?;
        ensure!((status, &answer["name"]) == (403, &json!("missingScope")), "{first}: {answer}");
    }
    let (status, listed, _) = ask(&key, &format!("GET {TASKS}"), "", &Value::Null).await?;
    ensure!(status == 200 && listed == json!({"tasks": []}), "{status} {listed}");
    let (status, _, _) = ask("lmk_x_y", &format!("GET {TASKS}"), "", &Value::Null).await?;
    ensure!(status == 401, "{status}");
    let once = "Idempotency-Key: a\r\n";
    let (add, delete) = (format!("POST {TASKS}"), format!("DELETE {TASKS}/cdn_1"));
    let (status, answer, again) = ask(&token, &add, once, &body).await?;
    ensure!((status, again) == (200, false), "{answer}");
    let (status, _, _) = ask(&token, &delete, "", &Value::Null).await?;
    ensure!(status == 200, "{status}");
    let (status, answer, again) = ask(&token, &add, once, &body).await?;
    ensure!((status, again) == (200, true), "{answer}");
    let (_, listed, _) = ask(&token, &format!("GET {TASKS}"), "", &Value::Null).await?;
    ensure!(listed == json!({"tasks": []}), "it was added once more: {listed}");
    setup.server.finish().await
}
