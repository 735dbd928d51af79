//! Proves no rule of the protocol: the API as a back end uses it, and as operators do on the command line.

use anyhow::{Context, Result, bail, ensure};
use lianmai_test_support::arrivals;
use lianmai_test_support::raw_ws::{RawWs, Received};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::server::{TEST_TIMEOUT, TestServer, programs};

/// Status and body of a request to the API with this key.
pub(crate) async fn ask_as(
    server: &TestServer,
    key: &str,
    first: &str,
    more: &str,
    body: &Value,
) -> Result<(u16, Value)> {
    let (text, value) = ask_text(server, key, first, more, body).await?;
    Ok((text, serde_json::from_str(&value).unwrap_or(Value::String(value))))
}

async fn ask_text(
    server: &TestServer,
    key: &str,
    first: &str,
    more: &str,
    body: &Value,
) -> Result<(u16, String)> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{first} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n{more}\r\n{body}",
        server.process.admin,
        body.len(),
    );
    let mut answer = arrivals::ask(server.process.admin, &request).await?;
    Ok((answer.status, answer.text().await?))
}

pub(crate) async fn ask(server: &TestServer, first: &str, body: Value) -> Result<(u16, Value)> {
    ask_as(server, &server.process.admin_token()?, first, "", &body).await
}

/// Like [`ask`], for a request that succeeds.
pub(crate) async fn ok(server: &TestServer, first: &str, body: Value) -> Result<Value> {
    let (status, value) = ask(server, first, body).await?;
    ensure!((200..300).contains(&status), "{first}: {status} {value}");
    Ok(value)
}

pub(crate) const ROOM: &str = "/v1/apps/demo/channels/room";

#[tokio::test]
async fn a_channel_made_ahead_is_as_it_was_made() -> Result<()> {
    let mut server = TestServer::start().await?;
    let new = json!({
        "channelName": "room", "creator": "9", "attributes": {"title": "T"},
        "policy": {"maxMembers": 1, "duplicate": "rejectNew"},
    });
    let made = ok(&server, "POST /v1/apps/demo/channels", new.clone()).await?;
    let (status, again) = ask(&server, "POST /v1/apps/demo/channels", new).await?;
    ensure!((status, &again["name"]) == (409, &json!("channelExists")), "{again}");
    server.process.kill().await?;
    server.start_again(&[]).await?;
    let shown = ok(&server, &format!("GET {ROOM}"), Value::Null).await?;
    ensure!(shown["cid"] == made["cid"] && shown["policy"] == made["policy"], "{shown}");
    let mut first = server.join("room", 1).await?;
    ensure!(first.joined["channel"]["attributes"]["title"] == "T", "{}", first.joined);
    ensure!(first.joined["channel"]["creator"] == "9", "{}", first.joined);
    for (uid, why) in [(2, "channelFull"), (1, "duplicateLogin")] {
        let refused = server.join("room", uid).await;
        let said = format!("{:#}", refused.err().context("it was let in")?);
        ensure!(said.contains(why), "{said}");
    }
    let patch = json!({"attributes": {"title": null, "topic": "x"}});
    ok(&server, &format!("PATCH {ROOM}/attributes"), patch).await?;
    first.hear("channelUpdate", |p| p["attributes"] == json!({"topic": "x"})).await?;
    ok(&server, &format!("PUT {ROOM}/policy"), json!({})).await?;
    let mut second = server.join("room", 2).await?;
    let message = json!({"uid": "0", "data": "hello", "to": ["2", "7"]});
    let sent = ok(&server, &format!("POST {ROOM}/messages"), message).await?;
    ensure!(sent["delivered"] == 1, "{sent}");
    second.hear("message", |p| p["data"] == "hello" && p["uid"] == "0").await?;

    // The effects of a moderator and of an operator look the same.
    first.call("publish", json!({"mediaType": ""})).await?;
    ok(&server, &format!("PUT {ROOM}/members/1/barred"), json!({"kinds": ["video"]})).await?;
    second.hear("streamRemoved", |p| p["uid"] == "1" && p["mediaType"] == "video").await?;
    let streams = ok(&server, &format!("GET {ROOM}/streams"), Value::Null).await?;
    ensure!(
        streams["publishers"][0]["streams"].as_array().is_some_and(|it| it.len() == 1),
        "{streams}"
    );
    ok(&server, &format!("PUT {ROOM}/members/1/role"), json!({"role": "audience"})).await?;
    second.hear("roleChanged", |p| p["uid"] == "1" && p["role"] == "audience").await?;
    ok(&server, &format!("POST {ROOM}/members/2/kick"), json!({"durationS": 600})).await?;
    second.hear("kicked", |p| p["durationS"] == 600).await?;
    ensure!(server.join("room", 2).await.is_err(), "it is banned");
    let bans = ok(&server, &format!("GET {ROOM}/bans"), Value::Null).await?;
    ensure!(bans["bans"][0]["uid"] == "2", "{bans}");
    let lifted = ok(&server, &format!("DELETE {ROOM}/bans/2"), Value::Null).await?;
    ensure!(lifted["lifted"] == 1, "{lifted}");
    server.join("room", 2).await?;
    ok(&server, &format!("POST {ROOM}/close"), json!({})).await?;
    let (status, _) = ask(&server, &format!("GET {ROOM}"), Value::Null).await?;
    ensure!(status == 404, "{status}");
    server.finish().await
}

/// What differs from one channel to the next.
const OWN: &[&str] = &["epoch", "mid", "pub", "cid", "channelName", "id", "at", "seq"];

fn without_own(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !OWN.contains(&key.as_str()));
            map.values_mut().for_each(without_own);
        }
        Value::Array(list) => list.iter_mut().for_each(without_own),
        _ => {}
    }
}

/// What a client is told, up to the close or the message that is meant; what comes when it comes is left out.
async fn told(client: &mut RawWs, is_last: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    let listen = async {
        loop {
            let messages = match client.receive().await? {
                Received::Text(text) => match serde_json::from_slice(&text)? {
                    Value::Array(messages) => messages,
                    message => vec![message],
                },
                Received::Pong(_) => continue,
                Received::Close(code, why) => {
                    all.push(json!({"close": code, "why": why}));
                    return anyhow::Ok(());
                }
                Received::Gone => bail!("the connection is gone: {all:?}"),
            };
            for message in messages {
                let ends = is_last(&message);
                let moved = ["memberCount", "networkQuality"].map(Value::from);
                if message["method"].is_string() && !moved.contains(&message["method"]) {
                    all.push(message);
                }
                if ends {
                    return Ok(());
                }
            }
        }
    };
    timeout(TEST_TIMEOUT, listen).await.context("it does not end")??;
    all.iter_mut().for_each(without_own);
    Ok(all)
}

/// What a kick tells: two who stay, the one who goes, and who follows the app.
async fn told_by_kick(server: &TestServer, room: &str, by_member: bool) -> Result<Vec<Vec<Value>>> {
    let policy = json!({"creatorModerates": true});
    let new = json!({"channelName": room, "creator": "1", "policy": policy});
    ok(server, "POST /v1/apps/demo/channels", new).await?;
    let mut clients = Vec::new();
    for uid in ["1", "2", "3"] {
        let mut client = RawWs::connect(server.process.public).await?;
        let params = json!({"appkey": "demo", "channelName": room, "uid": uid});
        client.call("join", params).await?;
        clients.push(client);
    }
    let [host, guest, other] = &mut clients[..] else { bail!("three have joined") };
    guest.call("publish", json!({"mediaType": ""})).await?;
    let kick = json!({"uid": "2", "durationS": 60, "reason": "rude"});
    if by_member {
        host.request("kick", kick).await?;
    } else {
        let kick = json!({"durationS": 60, "reason": "rude"});
        let first = format!("POST /v1/apps/demo/channels/{room}/members/2/kick");
        ok(server, &first, kick).await?;
    }
    let has_left =
        |message: &Value| message["method"] == "clientLeave" && message["params"]["uid"] == "2";
    let mut all = vec![told(guest, |_| false).await?];
    all.push(told(host, has_left).await?);
    all.push(told(other, has_left).await?);
    let page = ok(server, "GET /v1/apps/demo/events?limit=1000", Value::Null).await?;
    let events = page["events"].as_array().context("no events")?.iter();
    let mut events: Vec<_> = events.filter(|event| event["channelName"] == room).cloned().collect();
    events.iter_mut().for_each(without_own);
    all.push(events);
    let bans = format!("GET /v1/apps/demo/channels/{room}/bans");
    let bans = ok(server, &bans, Value::Null).await?;
    let ban = &bans["bans"][0];
    ensure!(ban["uid"] == "2", "{bans}");
    // The one thing that tells them apart is who may lift it.
    ensure!(ban["by"] == if by_member { json!("1") } else { Value::Null }, "{bans}");
    Ok(all)
}

/// Proves KIC-1: who kicks makes no difference to anybody else.
#[tokio::test]
async fn a_kick_by_the_api_tells_what_one_by_a_member_does() -> Result<()> {
    let server = TestServer::start().await?;
    let by_member = told_by_kick(&server, "one", true).await?;
    let by_api = told_by_kick(&server, "other", false).await?;
    ensure!(by_member == by_api, "by a member: {by_member:#?}, by the API: {by_api:#?}");
    let [guest, host, other, events] = &by_member[..] else { bail!("four listeners") };
    ensure!(guest.last().is_some_and(|last| last["close"] == 4500), "{guest:?}");
    ensure!(guest.iter().any(|it| it["method"] == "kicked" && it["params"]["reason"] == "rude"));
    ensure!(host.iter().any(|it| it["params"]["reason"] == "kicked"), "{host:?}");
    ensure!(other.iter().filter(|it| it["method"] == "streamRemoved").count() == 2, "{other:?}");
    let left = events.iter().filter(|event| event["type"] == "memberLeft").collect::<Vec<_>>();
    ensure!(left.len() == 1 && left[0]["data"]["reason"] == "kicked", "{events:?}");
    server.finish().await
}

/// Each read comes directly after the answer to a change, while others change other things.
#[tokio::test]
async fn a_read_shows_what_was_answered() -> Result<()> {
    // Four writers, two pairs each: 10,000 pairs of a write and a read.
    const ROUNDS: usize = 1_250;
    let server = std::sync::Arc::new(TestServer::start().await?);
    let mut members = Vec::new();
    for uid in 1..=4 {
        members.push(server.join("room", uid).await?);
    }
    let mut writers = tokio::task::JoinSet::new();
    for uid in 1..=4 {
        let server = server.clone();
        writers.spawn(async move {
            let member = format!("{ROOM}/members/{uid}");
            for round in 0..ROUNDS {
                let role = if round % 2 == 0 { "audience" } else { "broadcaster" };
                ok(&server, &format!("PUT {member}/role"), json!({"role": role})).await?;
                let shown = ok(&server, &format!("GET {member}"), Value::Null).await?;
                ensure!(shown["role"] == role, "round {round}: {shown}");
                let key = format!("k{uid}");
                let patch = json!({"attributes": {key.clone(): round.to_string()}});
                ok(&server, &format!("PATCH {ROOM}/attributes"), patch).await?;
                let shown = ok(&server, &format!("GET {ROOM}"), Value::Null).await?;
                ensure!(
                    shown["attributes"][&key] == json!(round.to_string()),
                    "round {round}: {shown}"
                );
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    drop(members);
    std::sync::Arc::into_inner(server).context("it is used still")?.finish().await
}

#[tokio::test]
async fn lists_come_in_pages_and_as_lines() -> Result<()> {
    let server = TestServer::start().await?;
    let mut names = Vec::new();
    for number in 0..25 {
        let name = format!("room #{number:02}");
        ok(&server, "POST /v1/apps/demo/channels", json!({"channelName": name})).await?;
        names.push(name);
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let first = format!("GET /v1/apps/demo/channels?limit=10{after}");
        let page = ok(&server, &first, Value::Null).await?;
        let channels = page["channels"].as_array().context("no channels")?;
        seen.extend(channels.iter().filter_map(|it| Some(it["channelName"].as_str()?.to_owned())));
        let Some(next) = page["nextCursor"].as_str() else { break };
        after = format!("&after={next}");
    }
    ensure!(seen == names, "{seen:?}");
    let lines = "Accept: application/x-ndjson\r\n";
    let key = server.process.admin_token()?;
    let first = "GET /v1/apps/demo/channels";
    let (_, text) = ask_text(&server, &key, first, lines, &Value::Null).await?;
    let seen: Vec<Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    ensure!(seen.len() == 25 && seen[24]["channelName"] == "room #24", "{text}");
    server.finish().await
}

#[tokio::test]
async fn operators_ask_on_the_command_line() -> Result<()> {
    let server = TestServer::start().await?;
    let program = programs()?.join("signal-server");
    let admin_url = format!("http://{}", server.process.admin);
    let key_file = server.data_dir.0.join("admin.token");
    let run = async |arguments: &[&str]| -> Result<(i32, String, String)> {
        let output = Command::new(&program)
            .args(arguments)
            .env("LIANMAI_ADMIN", &admin_url)
            .env("LIANMAI_KEY_FILE", &key_file)
            .output()
            .await?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let code = output.status.code().context("it was killed")?;
        Ok((code, text(output.stdout), text(output.stderr)))
    };
    let mut member = server.join("room #1", 7).await?;
    let (code, out, err) = run(&["channels"]).await?;
    ensure!(code == 0 && out.contains("CHANNEL") && out.contains("room #1"), "{out}{err}");
    let (_, out, _) = run(&["channels", "--json"]).await?;
    let channel: Value = serde_json::from_str(out.lines().next().context("a line")?)?;
    ensure!(channel["members"] == 1, "{out}");
    let (_, out, _) = run(&["members", "room #1"]).await?;
    ensure!(out.contains("broadcaster") && out.contains("true"), "{out}");
    let (code, out, err) = run(&["kick", "room #1", "7", "--reason", "spam"]).await?;
    ensure!((code, out.as_str()) == (0, "kicked, and banned for 60 s\n"), "{out}{err}");
    member.hear("kicked", |p| p["reason"] == "spam").await?;
    let (_, out, _) = run(&["bans", "list", "room #1"]).await?;
    ensure!(out.contains("room #1") && out.contains('7'), "{out}");
    let (_, out, _) = run(&["bans", "lift", "room #1", "7"]).await?;
    ensure!(out == "lifted 1\n", "{out}");
    let (_, key, _) = run(&["keys", "create", "--scope", "read", "--name", "shop"]).await?;
    let (status, _) =
        ask_as(&server, key.trim(), "GET /v1/apps/demo/channels", "", &Value::Null).await?;
    ensure!(status == 200, "{status}");
    let (_, out, _) = run(&["keys", "--json"]).await?;
    let listed: Value = serde_json::from_str(out.trim())?;
    ensure!(listed["name"] == "shop", "{out}");
    run(&["keys", "revoke", listed["id"].as_str().context("no id")?]).await?;
    let (status, _) =
        ask_as(&server, key.trim(), "GET /v1/apps/demo/channels", "", &Value::Null).await?;
    ensure!(status == 401, "{status}");
    let (_, out, _) = run(&["events"]).await?;
    ensure!(
        out.contains("memberJoined") && out.contains("memberLeft") && out.contains("next: "),
        "{out}"
    );
    let (code, _, err) = run(&["channels", "show", "none"]).await?;
    ensure!(code == 1 && err.contains("noSuchChannel"), "{code} {err}");
    let (code, _, err) = run(&["channels", "--server", "http://127.0.0.1:1"]).await?;
    ensure!(code == 1 && err.contains("cannot reach"), "{code} {err}");
    server.finish().await
}
