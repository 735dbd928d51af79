//! Proves no rule of the protocol: clients that other tools generate from `docs/api`, and a tool that sends every
//! request that the document allows. `cargo xtask api check` generates the clients and runs these tests; they are
//! ignored elsewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use lianmai_test_support::process::root;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::api::ok;
use crate::server::{Member, Scratch, TestServer};

/// `demo` as without a configuration, and an app whose tokens the API mints.
const APPS: &str = r#"[{appkey = "demo", mode = "debug"}, {appkey = "live", jwt = [{kid = "k1", secret = "a1Zk93lmQe7tXw20vRb58pTy4uHs6cNd"}]}]"#;

/// The folder that `cargo xtask api check` prepared, with `python` and `client`.
fn tools() -> Result<PathBuf> {
    let tools = std::env::var_os("LIANMAI_API_TOOLS").context("run `cargo xtask api check`")?;
    Ok(tools.into())
}

async fn start_server() -> Result<TestServer> {
    TestServer::start_with(&[("LIANMAI_APPS", APPS), ("LIANMAI_TASKS__SERVE", "true")]).await
}

/// A member of the app whose tokens the API mints.
async fn guest(server: &TestServer, channel: &str, uid: &str) -> Result<Member> {
    let wanted = json!({"uid": uid, "channelName": channel, "ttlS": 3600});
    let minted = ok(server, "POST /v1/apps/live/tokens", wanted).await?;
    Member::join_as(server.process.public, "live", channel, uid, Some(&minted["token"])).await
}

/// Runs a program of the folder to its end with full rights; if all is well, it prints nothing.
async fn run(server: &TestServer, program: &mut Command, more: &[(&str, &str)]) -> Result<()> {
    let output = program
        .current_dir(root().join("tests/api"))
        .env("LIANMAI_ADMIN", format!("http://{}", server.process.admin))
        .env("LIANMAI_TOKEN", server.process.admin_token()?)
        .envs(more.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, failed) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{}\n{said}\n{failed}", output.status);
    Ok(())
}

fn python(name: &str) -> Result<Command> {
    Ok(Command::new(tools()?.join("python/bin").join(name)))
}

#[tokio::test]
#[ignore = "cargo xtask api check"]
async fn a_client_in_typescript_does_what_a_back_end_does() -> Result<()> {
    let server = start_server().await?;
    let _seven = guest(&server, "room", "7").await?;
    run(&server, Command::new("node").arg("generated/client.js"), &[]).await?;
    server.finish().await
}

#[tokio::test]
#[ignore = "cargo xtask api check"]
async fn a_client_in_python_does_what_a_back_end_does() -> Result<()> {
    let server = start_server().await?;
    let _seven = guest(&server, "room", "7").await?;
    let path = tools()?.display().to_string();
    run(&server, python("python3")?.arg("client.py"), &[("PYTHONPATH", &path)]).await?;
    server.finish().await
}

/// Creates what Schemathesis asks about: see `tests/api/schemathesis.toml`.
async fn fill(server: &TestServer) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    for channel in ["live", "kicked", "closed", "tasks"] {
        members.push(server.join(channel, 7).await?);
    }
    let canvas = json!({"width": 640, "height": 360});
    let user = json!({"uid": "7", "width": 640, "height": 360, "pushVideo": true});
    for (channel, names) in [("live", ["t1", "t2"].as_slice()), ("tasks", ["t1"].as_slice())] {
        let task = |name: &&str| {
            let layout = json!({"canvas": canvas, "users": [user]});
            json!({"taskId": name, "streamUrl": format!("rtmp://127.0.0.1:9/live/{channel}-{name}"), "layout": layout})
        };
        let tasks: Vec<Value> = names.iter().map(task).collect();
        let first = format!("POST /v1/apps/demo/channels/{channel}/tasks");
        ok(server, &first, json!({"rtmpTasks": tasks})).await?;
    }
    Ok(members)
}

/// Creates something. Returns its id.
async fn create(server: &TestServer, first: &str, body: Value) -> Result<String> {
    let made = ok(server, first, body).await?;
    Ok(made["id"].as_str().context("no id")?.to_owned())
}

#[tokio::test]
#[ignore = "cargo xtask api check"]
async fn whatever_is_asked_is_answered_as_the_document_says() -> Result<()> {
    let server = start_server().await?;
    let _members = fill(&server).await?;
    let hook = json!({"url": "https://hooks.example/x"});
    let key = json!({"scopes": ["read"], "name": "x"});
    let scratch = Scratch::new()?;
    let answers = scratch.0.join("answers").display().to_string();
    let ids = [
        ("LIANMAI_WEBHOOK", create(&server, "POST /v1/apps/demo/webhooks", hook.clone()).await?),
        ("LIANMAI_OTHER_WEBHOOK", create(&server, "POST /v1/apps/demo/webhooks", hook).await?),
        ("LIANMAI_API_KEY", create(&server, "POST /v1/apps/demo/keys", key.clone()).await?),
        ("LIANMAI_GLOBAL_KEY", create(&server, "POST /v1/keys", key).await?),
        ("LIANMAI_ANSWERS", answers.clone()),
        ("PYTHONPATH", ".".to_owned()),
    ];
    let more: Vec<(&str, &str)> = ids.iter().map(|(name, id)| (*name, id.as_str())).collect();
    let document = root().join("docs/api/openapi.json");
    let mut program = python("st")?;
    program
        .args(["--no-color", "--config-file", "schemathesis.toml", "run"])
        .arg(&document)
        .args(["--url", &format!("http://{}", server.process.admin)])
        .args(["--header", &format!("Authorization: Bearer {}", server.process.admin_token()?)]);
    run(&server, &mut program, &more).await?;
    let missed = never_reached(&document, Path::new(&answers))?;
    ensure!(missed.is_empty(), "no 2xx of {missed:?}");
    server.finish().await
}

/// Operations of the document that were never answered with a 2xx.
fn never_reached(document: &Path, answers: &Path) -> Result<BTreeSet<String>> {
    let document: Value = serde_json::from_str(&std::fs::read_to_string(document)?)?;
    let items = document["paths"].as_object().context("paths")?.values();
    let operations = items.filter_map(Value::as_object).flat_map(|item| item.values());
    let ids = operations.filter_map(|operation| operation["operationId"].as_str());
    let mut missed: BTreeSet<String> = ids.map(str::to_owned).collect();
    ensure!(missed.len() > 30, "only {} operations", missed.len());
    for line in std::fs::read_to_string(answers)?.lines() {
        let answer: Value = serde_json::from_str(line)?;
        if answer["status"].as_u64().is_some_and(|status| (200..300).contains(&status)) {
            missed.remove(answer["operation"].as_str().unwrap_or_default());
        }
    }
    Ok(missed)
}
