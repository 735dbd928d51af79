//! Proves no rule of the protocol: every operation of the API, as `docs/api/openapi.json` lists them. A correct request
//! succeeds; without a key, with the key of another app, with too small a scope, or with a body or query that has
//! unknown members, it is refused for that reason and changes nothing. Comes in: the document. Deliberately absent: the
//! effects of the operations, which other tests check.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use lianmai_test_support::process::root;
use serde_json::{Value, json};

use crate::api::{ask_as, ok};
use crate::server::{Member, TestServer};

/// `demo` as without a configuration, and an app whose tokens the API mints.
const APPS: &str = r#"[{appkey = "demo", mode = "debug"}, {appkey = "live", jwt = [{kid = "k1", secret = "a1Zk93lmQe7tXw20vRb58pTy4uHs6cNd"}]}]"#;

/// An operation: its id, its scope, the names in its path, its body.
type Operation = (&'static str, &'static str, Vec<(&'static str, String)>, Value);

/// For each operation its scope, the names in its path beside the app, and a body with which it succeeds. In this order
/// all of them succeed, one after the other.
fn operations(webhook: &str, key: &str, global: &str) -> Vec<Operation> {
    let channel = |name: &str| vec![("channel", name.to_owned())];
    let member = |uid: &str| vec![("channel", "room".to_owned()), ("uid", uid.to_owned())];
    let task = |name: &str| vec![("channel", "room".to_owned()), ("task", name.to_owned())];
    let id = |id: &str| vec![("id", id.to_owned())];
    let (room, none) = (|| channel("room"), Vec::new);
    let wanted = |name: &str| {
        let users = json!([{"uid": "7", "width": 640, "height": 360, "pushVideo": true}]);
        let layout = json!({"canvas": {"width": 640, "height": 360}, "users": users});
        json!({"taskId": name, "streamUrl": format!("rtmp://127.0.0.1:9/live/{name}"), "layout": layout})
    };
    let tasks = |names: &[&str]| {
        let tasks: Vec<Value> = names.iter().map(|name| wanted(name)).collect();
        json!({"rtmpTasks": tasks})
    };
    let null = Value::Null;
    vec![
        ("createChannel", "admin", none(), json!({"channelName": "made"})),
        ("listChannels", "read", none(), null.clone()),
        ("getChannel", "read", room(), null.clone()),
        ("setChannelAttributes", "moderate", room(), json!({"attributes": {"title": "T"}})),
        ("setChannelPolicy", "admin", room(), json!({"maxMembers": 10})),
        ("sendMessage", "moderate", room(), json!({"uid": "0", "data": "hello"})),
        ("listMembers", "read", room(), null.clone()),
        ("getMember", "read", member("7"), null.clone()),
        ("listStreams", "read", room(), null.clone()),
        ("setBarredKinds", "moderate", member("7"), json!({"kinds": ["screenShare"]})),
        ("setMemberRole", "moderate", member("8"), json!({"role": "audience"})),
        ("addTasks", "admin", room(), tasks(&["t1", "t2"])),
        ("listTasks", "read", room(), null.clone()),
        ("getTask", "read", task("t1"), null.clone()),
        ("updateTasks", "admin", room(), tasks(&["t1"])),
        ("deleteTask", "admin", task("t1"), null.clone()),
        ("deleteTasks", "admin", room(), json!({"taskIds": ["t2"]})),
        ("kickMember", "moderate", member("8"), json!({"durationS": 600})),
        ("listBans", "read", room(), null.clone()),
        ("listBansOfApp", "read", none(), null.clone()),
        ("liftBan", "moderate", member("8"), null.clone()),
        ("liftBansBy", "moderate", none(), json!({"by": "7"})),
        ("closeChannel", "moderate", channel("made"), json!({"holdS": 600})),
        ("liftHold", "moderate", channel("made"), null.clone()),
        ("readHistory", "read", room(), null.clone()),
        ("listEvents", "read", none(), null.clone()),
        ("mintToken", "admin", none(), json!({"uid": "9", "ttlS": 60})),
        ("revokeTokens", "admin", none(), json!({"uid": "9"})),
        ("createWebhook", "admin", none(), json!({"url": "https://hooks.example/x"})),
        ("listWebhooks", "admin", none(), null.clone()),
        ("getWebhook", "admin", id(webhook), null.clone()),
        ("changeWebhook", "admin", id(webhook), json!({"enabled": false})),
        ("rotateWebhookSecret", "admin", id(webhook), null.clone()),
        ("pingWebhook", "admin", id(webhook), null.clone()),
        ("listDeadLetters", "admin", id(webhook), null.clone()),
        ("removeWebhook", "admin", id(webhook), null.clone()),
        ("createKey", "admin", none(), json!({"scopes": ["read"]})),
        ("listKeys", "admin", none(), null.clone()),
        ("revokeKey", "admin", id(key), null.clone()),
        ("createGlobalKey", "root", none(), json!({"scopes": ["read"]})),
        ("listGlobalKeys", "root", none(), null.clone()),
        ("revokeGlobalKey", "root", id(global), null),
    ]
}

/// Method and path of each operation, and whether it has a body.
fn documented() -> Result<BTreeMap<String, (String, String, bool)>> {
    let text = std::fs::read_to_string(root().join("docs/api/openapi.json"))?;
    let document: Value = serde_json::from_str(&text)?;
    let mut all = BTreeMap::new();
    for (path, item) in document["paths"].as_object().context("paths")? {
        for (method, operation) in item.as_object().context("an item")? {
            let id = operation["operationId"].as_str().context("an id")?.to_owned();
            let has_body = operation["requestBody"].is_object();
            all.insert(id, (method.to_ascii_uppercase(), path.clone(), has_body));
        }
    }
    Ok(all)
}

/// Creates something. Returns its id, and its text if it is a key.
async fn create(server: &TestServer, first: &str, body: Value) -> Result<(String, String)> {
    let made = ok(server, first, body).await?;
    let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
    Ok((text("id"), text("text")))
}

/// A member of the app whose tokens the API mints.
async fn guest(server: &TestServer, uid: &str) -> Result<Member> {
    let wanted = json!({"uid": uid, "channelName": "room", "ttlS": 3600});
    let minted = ok(server, "POST /v1/apps/live/tokens", wanted).await?;
    Member::join_as(server.process.public, "live", "room", uid, Some(&minted["token"])).await
}

#[tokio::test]
async fn every_operation_succeeds_or_says_why_not() -> Result<()> {
    let server =
        TestServer::start_with(&[("LIANMAI_APPS", APPS), ("LIANMAI_TASKS__SERVE", "true")]).await?;
    let _members = (guest(&server, "7").await?, guest(&server, "8").await?);
    let mut keys = BTreeMap::new();
    for scope in ["read", "moderate", "admin"] {
        let (_, key) =
            create(&server, "POST /v1/apps/live/keys", json!({"scopes": [scope]})).await?;
        keys.insert(scope, key);
    }
    let admin = json!({"scopes": ["admin"]});
    let (_, other_app) = create(&server, "POST /v1/apps/demo/keys", admin.clone()).await?;
    let (doomed, _) = create(&server, "POST /v1/apps/live/keys", admin.clone()).await?;
    let (global, all_apps) = create(&server, "POST /v1/keys", admin).await?;
    let hook = json!({"url": "https://hooks.example/x"});
    let (webhook, _) = create(&server, "POST /v1/apps/live/webhooks", hook).await?;
    keys.insert("root", server.process.admin_token()?);

    let operations = operations(&webhook, &doomed, &global);
    let documented = documented()?;
    let known: BTreeSet<&str> = operations.iter().map(|(id, ..)| *id).collect();
    let listed: BTreeSet<&str> = documented.keys().map(String::as_str).collect();
    ensure!(known == listed, "the document differs: {:?}", known.symmetric_difference(&listed));

    let before = everything(&server).await?;
    for (id, scope, names, good) in &operations {
        let (method, path, has_body) = &documented[*id];
        let first = |appkey: &str| {
            let names = names.iter().map(|(name, value)| (*name, value.as_str()));
            let filled = names.chain([("appkey", appkey)]);
            let fill = |path: String, (name, value): (&str, &str)| {
                path.replace(&format!("{{{name}}}"), value)
            };
            format!("{method} {}", filled.fold(path.clone(), fill))
        };
        let (first, elsewhere) = (first("live"), first("demo"));
        let refused = async |key: &str, first: &str, body: &Value, expected: (u16, &str)| {
            let (status, problem) = ask_as(&server, key, first, "", body).await?;
            let got = (status, problem["name"].as_str().unwrap_or_default());
            ensure!(got == expected, "{id}: {first} {body}: {status} {problem}");
            anyhow::Ok(())
        };
        let own = keys[scope].as_str();
        for wrong in ["", "lmk_0_0", &own[..own.len() - 1]] {
            refused(wrong, &first, good, (401, "unauthorized")).await?;
        }
        let least = [("moderate", "read"), ("admin", "moderate"), ("root", "admin")];
        if let Some((_, less)) = least.iter().find(|(needed, _)| needed == scope) {
            refused(&keys[less], &first, good, (403, "missingScope")).await?;
        }
        if *scope == "root" {
            refused(&all_apps, &first, good, (403, "missingScope")).await?;
        } else {
            refused(&other_app, &first, good, (403, "wrongApp")).await?;
            refused(own, &elsewhere, good, (403, "wrongApp")).await?;
        }
        let strange = format!("{first}?strange=1");
        refused(own, &strange, good, (400, "invalidParams")).await?;
        if *has_body {
            for bad in [json!({"strange": 1}), json!([]), json!("x"), json!(7)] {
                refused(own, &first, &bad, (400, "invalidParams")).await?;
            }
        } else if method != "GET" {
            refused(own, &first, &json!({"strange": 1}), (400, "invalidParams")).await?;
        }
    }
    let after = everything(&server).await?;
    ensure!(before == after, "what was refused changed something: {before} {after}");

    for (id, scope, names, good) in &operations {
        let (method, path, _) = &documented[*id];
        let path = names.iter().fold(path.replace("{appkey}", "live"), |path, (name, value)| {
            path.replace(&format!("{{{name}}}"), value)
        });
        let (status, answer) =
            ask_as(&server, &keys[scope], &format!("{method} {path}"), "", good).await?;
        ensure!((200..300).contains(&status), "{id}: {status} {answer}");
    }
    server.finish().await
}

/// Everything that the operations could change.
async fn everything(server: &TestServer) -> Result<Value> {
    let mut all = Vec::new();
    for path in [
        "channels",
        "channels/room",
        "channels/room/members",
        "channels/room/tasks",
        "bans",
        "events",
        "webhooks",
        "keys",
    ] {
        all.push(ok(server, &format!("GET /v1/apps/live/{path}"), Value::Null).await?);
    }
    all.push(ok(server, "GET /v1/keys", Value::Null).await?);
    Ok(Value::Array(all))
}
