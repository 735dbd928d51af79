//! HTTP from the outside: checks of Host and Origin, the admin API with its token, metrics, the upgrade, and the
//! directory of secrets.
//! Proves no rule of the protocol: the admin API and its metrics.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use lianmai_test_support::arrivals;
use lianmai_test_support::process::ServerProcess;
use lianmai_test_support::raw_ws::{RawWs, Received};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::server::{Scratch, TEST_TIMEOUT, TestServer, programs};

/// Status and body of an answer.
async fn ask(
    address: SocketAddr,
    first: &str,
    lines: &[&str],
    body: &str,
) -> Result<(u16, String)> {
    let host = format!("Host: {address}");
    let own_host = lines.iter().any(|line| line.starts_with("Host:"));
    let mut lines = lines.to_vec();
    if !own_host {
        lines.push(&host);
    }
    let length = format!("Content-Length: {}", body.len());
    if !body.is_empty() {
        lines.push(&length);
    }
    let head = format!("{first} HTTP/1.1\r\nConnection: close\r\n{}\r\n\r\n", lines.join("\r\n"));
    let mut answer = arrivals::ask(address, &(head + body)).await?;
    Ok((answer.status, answer.text().await?))
}

/// The status, and the name of the error if there is one.
async fn outcome(address: SocketAddr, first: &str, lines: &[&str]) -> Result<String> {
    let (status, body) = ask(address, first, lines, "").await?;
    let name = serde_json::from_str::<Value>(&body)
        .ok()
        .and_then(|body| Some(format!(" {}", body["name"].as_str()?)));
    Ok(format!("{status}{}", name.unwrap_or_default()))
}

/// Proves CON-3, CON-4, CON-5, CON-6.
#[tokio::test]
async fn hosts_and_origins_are_judged() -> Result<()> {
    let server = TestServer::start().await?;
    let (public, admin) = (server.process.public, server.process.admin);
    let (passes, host, origin, debug) =
        ("", "421 hostNotAllowed", "403 originNotAllowed", "403 debugLocalOnly");
    let own = format!("Origin: http://{public}");
    let localhost = format!("Origin: http://localhost:{}", public.port());
    let https = format!("Origin: https://{public}");
    let of_admin = format!("Origin: http://{admin}");
    // Header lines; the answer of the public listener; the answer of the admin listener.
    let cases: &[(&[&str], &str, &str)] = &[
        (&[], passes, passes),
        (&["Host: localhost"], passes, passes),
        (&["Host: LOCALHOST:1"], passes, passes),
        (&["Host: 127.0.0.2:80"], passes, passes),
        (&["Host: [::1]:80"], passes, passes),
        (&["Host: evil.example"], host, host),
        (&["Host: evil.example:8600"], host, host),
        (&["Host: localhost.evil.example"], host, host),
        (&["Host: localhost."], host, host),
        (&["Host: 127.1"], host, host),
        (&["Host: 0.0.0.0"], host, host),
        (&["Host: 2130706433"], host, host),
        (&["Host: [::ffff:127.0.0.1]"], host, host),
        (&["Host: 192.168.1.1"], host, host),
        (&["Host: "], "400 badRequest", "400 badRequest"),
        (&[&own], passes, origin),
        (&[&localhost], passes, origin),
        (&[&https], origin, origin),
        (&[&of_admin], origin, origin),
        (&["Origin: null"], origin, origin),
        (&["Origin: "], origin, origin),
        (&["Origin: http://evil.example"], origin, origin),
        (&["Origin: http://localhost"], origin, origin),
        (&[&own, &own], origin, origin),
        (&["Sec-Fetch-Site: cross-site"], passes, origin),
        (&["Sec-Fetch-Site: same-site"], passes, origin),
        (&["X-Forwarded-For: 127.0.0.1"], debug, debug),
        (&["X-Forwarded-Proto: https"], debug, debug),
        (&["Forwarded: for=127.0.0.1"], debug, debug),
        (&["X-Real-IP: 127.0.0.1"], debug, debug),
        (&["Via: 1.1 proxy"], debug, debug),
    ];
    for (lines, of_public, of_admin) in cases {
        let expect = |said: &str, passed: &str| {
            if said.is_empty() { passed.to_owned() } else { said.to_owned() }
        };
        let got = outcome(public, "GET /none", lines).await?;
        ensure!(got == expect(of_public, "404 notFound"), "public, {lines:?}: {got}");
        let got = outcome(admin, "GET /healthz", lines).await?;
        ensure!(got == expect(of_admin, "200"), "admin, {lines:?}: {got}");
    }
    let (_, text) = ask(public, "GET /none", &["X-Forwarded-For: 10.0.0.1"], "").await?;
    ensure!(text.contains("debug.allow_from"), "the setting is not named: {text}");
    let (_, text) = ask(public, "GET /none", &["Host: evil.example"], "").await?;
    ensure!(text.contains("server.hosts"), "the setting is not named: {text}");
    let (_, text) = ask(public, "GET /none", &["Origin: null"], "").await?;
    ensure!(text.contains("server.origins"), "the setting is not named: {text}");
    server.finish().await
}

/// Proves CON-1, CON-2, CON-4, CON-7.
#[tokio::test]
async fn an_upgrade_is_exact() -> Result<()> {
    let server = TestServer::start().await?;
    let public = server.process.public;
    let good = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Protocol: chat, lianmai.v1",
    ];
    // Each line in turn is left out or replaced.
    let spoiled = [
        (0, None),
        (0, Some("Upgrade: h2c")),
        (1, None),
        (2, None),
        (2, Some("Sec-WebSocket-Version: 8")),
        (3, None),
        (3, Some("Sec-WebSocket-Key: short")),
        (4, None),
        (4, Some("Sec-WebSocket-Protocol: lianmai.v2")),
    ];
    let upgrade = async |method: &str, lines: &[&str]| -> Result<String> {
        let mut socket = RawWs::open(public).await?;
        let head = format!("{method} HTTP/1.1\r\nHost: {public}\r\n{}\r\n\r\n", lines.join("\r\n"));
        socket.write(head.as_bytes()).await?;
        let head = timeout(TEST_TIMEOUT, socket.http_head()).await.context("no answer")??;
        Ok(head.to_ascii_lowercase())
    };
    for (index, other) in spoiled {
        let mut lines = good.to_vec();
        lines.remove(index);
        lines.extend(other);
        let head = upgrade("GET /v1/signal", &lines).await?;
        ensure!(head.starts_with("http/1.1 400 "), "without {:?}: {head}", good[index]);
    }
    let head = upgrade("GET /v1/signal", &good).await?;
    ensure!(head.starts_with("http/1.1 101 "), "{head}");
    // The accept key of 16 zero bytes, computed by hand as in RFC 6455.
    for line in [
        "sec-websocket-protocol: lianmai.v1\r\n",
        "sec-websocket-accept: icx+yqv66kxgm0fcwalwlflwtai=\r\n",
    ] {
        ensure!(head.contains(line), "{head}");
    }
    ensure!(!head.contains("sec-websocket-extensions"), "{head}");
    let head = upgrade("GET /v2/signal", &good).await?;
    ensure!(head.starts_with("http/1.1 404 "), "{head}");
    let head = upgrade("POST /v1/signal", &good).await?;
    ensure!(head.starts_with("http/1.1 405 "), "{head}");
    let foreign = [&good[..], &["Origin: http://evil.example"]].concat();
    let head = upgrade("GET /v1/signal", &foreign).await?;
    ensure!(head.starts_with("http/1.1 403 "), "{head}");
    server.finish().await
}

/// The admin listener with a token.
struct Admin {
    address: SocketAddr,
    token: String,
}

impl Admin {
    async fn get(&self, path: &str) -> Result<(u16, String)> {
        let token = format!("Authorization: Bearer {}", self.token);
        ask(self.address, &format!("GET {path}"), &[&token], "").await
    }

    /// The status and the name of the error, after a POST of JSON.
    async fn post(&self, path: &str, body: &str) -> Result<String> {
        self.post_as("application/json", path, body).await
    }

    async fn post_as(&self, kind: &str, path: &str, body: &str) -> Result<String> {
        let token = format!("Authorization: Bearer {}", self.token);
        let kind = format!("Content-Type: {kind}");
        let (status, body) =
            ask(self.address, &format!("POST {path}"), &[&token, &kind], body).await?;
        let body: Value = serde_json::from_str(&body).with_context(|| body.clone())?;
        Ok(format!("{status} {}", body["name"].as_str().unwrap_or_default()).trim().to_owned())
    }

    async fn metric(&self, name: &str) -> Result<f64> {
        let (status, text) = self.get("/metrics").await?;
        ensure!(status == 200 && text.ends_with("# EOF\n"), "{status}: {text}");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("no {name} in {text}"))?.parse()?)
    }
}

#[tokio::test]
async fn the_admin_api_needs_its_token() -> Result<()> {
    let server = TestServer::start().await?;
    let admin = Admin { address: server.process.admin, token: server.process.admin_token()? };
    ensure!(admin.token.len() >= 32, "a short token");
    for path in ["/healthz", "/readyz"] {
        ensure!(outcome(admin.address, &format!("GET {path}"), &[]).await? == "200", "{path}");
    }
    let wrong = format!("Authorization: Bearer {}x", admin.token);
    let shorter = format!("Authorization: Bearer {}", &admin.token[1..]);
    let basic = format!("Authorization: Basic {}", admin.token);
    for first in [
        "GET /metrics",
        "GET /v1/apps/demo/channels",
        "GET /v1/apps/demo/channels/room",
        "POST /v1/apps/demo/channels/room/members/7/kick",
        "POST /v1/apps/demo/channels/room/close",
        "GET /openapi.json",
        "GET /none",
    ] {
        let lines: [&[&str]; 5] =
            [&[], &[&wrong], &[&shorter], &[&basic], &["Authorization: Bearer "]];
        for lines in lines {
            let got = outcome(admin.address, first, lines).await?;
            ensure!(got == "401 unauthorized", "{first} {lines:?}: {got}");
        }
    }
    ensure!(admin.get("/metrics").await?.0 == 200, "the right token");
    ensure!(admin.get("/none").await?.0 == 404, "the right token, no such path");
    // The public listener serves none of these.
    for first in ["GET /metrics", "GET /v1/apps/demo/channels", "GET /healthz"] {
        let right = format!("Authorization: Bearer {}", admin.token);
        let got = outcome(server.process.public, first, &[&right]).await?;
        ensure!(got == "404 notFound", "public {first}: {got}");
    }
    server.finish().await
}

#[tokio::test]
async fn metrics_follow_what_happens() -> Result<()> {
    let server = TestServer::start().await?;
    let admin = Admin { address: server.process.admin, token: server.process.admin_token()? };
    ensure!(admin.metric("lianmai_joins_total").await? == 0.0, "joins before any");
    let mut first = server.join("room", 1).await?;
    let _second = server.join("room", 2).await?;
    first.call("sendMessage", json!({"data": "hello"})).await?;
    first.call("publish", json!({})).await?;
    let _ = first.call("subscribe", json!({"uid": "9", "mediaType": "video"})).await;
    for (name, expected) in [
        ("lianmai_joins_total", 2.0),
        ("lianmai_channels", 1.0),
        ("lianmai_members", 2.0),
        ("lianmai_connected_members", 2.0),
        ("lianmai_push_urls", 1.0),
        // Two joins, a message, two kinds.
        ("lianmai_events_total", 5.0),
        ("lianmai_refusals_total{error=\"noSuchMember\"}", 1.0),
    ] {
        let value = admin.metric(name).await?;
        ensure!(value == expected, "{name} is {value} instead of {expected}");
    }
    first.call("leave", json!({})).await?;
    for (name, expected) in
        [("lianmai_leaves_total{reason=\"left\"}", 1.0), ("lianmai_members", 1.0)]
    {
        let value = admin.metric(name).await?;
        ensure!(value == expected, "{name} is {value} instead of {expected}");
    }
    let (_, text) = admin.get("/metrics").await?;
    ensure!(!text.contains("room"), "a channel name in the metrics");
    server.finish().await
}

/// Proves EVT-6, KIC-1, KIC-2.
#[tokio::test]
async fn operators_see_and_end_channels() -> Result<()> {
    let server = TestServer::start().await?;
    let admin = Admin { address: server.process.admin, token: server.process.admin_token()? };
    let mut first = server.join("room #1", 1).await?;
    let mut second = server.join("room #1", 2).await?;
    first.call("publish", json!({"mediaType": "audio"})).await?;
    let (_, list) = admin.get("/v1/apps/demo/channels").await?;
    let list: Value = serde_json::from_str(&list)?;
    let expected = json!({"channels": [{
        "appkey": "demo", "channelName": "room #1", "cid": first.joined["cid"], "creator": "1",
        "members": 2, "broadcasters": 2,
    }]});
    ensure!(list == expected, "{list}");
    let path = "/v1/apps/demo/channels/room%20%231";
    let (_, shown) = admin.get(&format!("{path}/members")).await?;
    let shown: Value = serde_json::from_str(&shown)?;
    ensure!(shown["members"][0]["uid"] == "1", "{shown}");
    ensure!(shown["members"][0]["streams"][0]["mediaType"] == "audio", "{shown}");
    ensure!(shown["members"][1]["connected"] == true, "{shown}");

    let (kick, close) = (format!("{path}/members/2/kick"), format!("{path}/close"));
    for (path, status) in [
        (path.to_owned(), 200),
        (format!("{path}?appkey=demo"), 400),
        ("/v1/apps/demo/channels/none".to_owned(), 404),
        ("/v1/apps/other/channels/room%20%231".to_owned(), 404),
        ("/v1/apps/demo/channels/a%2Fb".to_owned(), 400),
        ("/v1/apps/demo/channels/%00".to_owned(), 400),
        (format!("/v1/apps/demo/channels/{}", "x".repeat(65)), 400),
        ("/v1/apps/demo/channels/%FF".to_owned(), 400),
    ] {
        let (got, body) = admin.get(&path).await?;
        ensure!(got == status, "{path}: {got} {body}");
    }
    let nobody = format!("{path}/members/9/kick");
    for (kind, path, body, expected) in [
        ("text/plain", &kick, r#"{"uid":"2"}"#, "415 notJson"),
        ("application/x-www-form-urlencoded", &kick, "uid=2", "415 notJson"),
        ("application/json", &kick, "", "400 invalidParams"),
        ("application/json", &kick, "{", "400 invalidParams"),
        ("application/json", &kick, r#"{"uid":"2"}"#, "400 invalidParams"),
        ("application/json", &nobody, "{}", "404 noSuchMember"),
        ("application/json", &kick, r#"{"durationS":604801}"#, "400 badDuration"),
        ("application/json", &close, r#"{"holdS":3601}"#, "400 badDuration"),
    ] {
        let got = admin.post_as(kind, path, body).await?;
        ensure!(got == expected, "{path} {body}: {got}");
    }
    let large = format!(r#"{{"reason":"{}"}}"#, "x".repeat(20_000));
    ensure!(admin.post(&kick, &large).await? == "413 bodyTooLarge", "a large body");

    ensure!(admin.post(&kick, r#"{"durationS":60,"reason":"spam"}"#).await? == "200");
    let notice = second.hear("kicked", |_| true).await?;
    ensure!(notice["durationS"] == 60 && notice["reason"] == "spam", "{notice}");
    ensure!(second.hear("closing", |_| true).await?["code"] == 4500);
    first.hear("clientLeave", |p| p["uid"] == "2" && p["reason"] == "kicked").await?;
    let again = server.join("room #1", 2).await;
    ensure!(again.is_err_and(|error| format!("{error:#}").contains("banned")), "no ban");
    ensure!(admin.post(&close, "{}").await? == "200");
    first.hear("liveRoomClose", |p| p["reason"] == "admin").await?;
    ensure!(first.hear("closing", |_| true).await?["code"] == 4501);
    let (_, list) = admin.get("/v1/apps/demo/channels").await?;
    ensure!(list == r#"{"channels":[]}"#, "{list}");
    server.finish().await
}

/// The values that identify a server and its secrets.
async fn identity(server: &ServerProcess) -> Result<Vec<String>> {
    let mut socket = RawWs::connect(server.public).await?;
    let join = json!({"appkey": "demo", "channelName": "room", "uid": "1"});
    let joined = socket.call("join", join).await?;
    let published = socket.call("publish", json!({})).await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names = ["deploymentId", "epoch", "mid", "sessionId"];
    let mut all: Vec<String> = names.iter().map(|name| text(&joined[name])).collect();
    all.push(text(&published["gen"]));
    ensure!(all.iter().all(|text| !text.is_empty()), "{joined}");
    // An orderly end, so that the server does not wait for this socket when it stops.
    socket.request("leave", json!({})).await?;
    while socket.receive().await? != Received::Gone {}
    Ok(all)
}

/// Proves FRM-10.
#[tokio::test]
async fn secrets_are_private_and_last() -> Result<()> {
    let scratch = Scratch::new()?;
    let directory = scratch.0.join("deep/data");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let program = programs()?.join("signal-server");
        let started = ServerProcess::start(&program, &directory, &[]);
        let server = timeout(TEST_TIMEOUT, started).await.context("no start")??;
        let token = server.admin_token()?;
        let identity = timeout(TEST_TIMEOUT, identity(&server)).await.context("no answer")??;
        ensure!(server.terminate().await? == 0, "no clean stop");
        seen.push((token, identity));
        let mode = |path: &std::path::Path| -> Result<u32> {
            Ok(std::fs::metadata(path)?.permissions().mode() & 0o7777)
        };
        ensure!(mode(&directory)? == 0o700, "the directory is open");
        let mut files = 0;
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            ensure!(mode(&path)? == 0o600, "{} is open", path.display());
            files += 1;
        }
        ensure!(files >= 3, "{files} files");
    }
    let [(token, first), (other_token, second)] = &seen[..] else { unreachable!("two starts") };
    ensure!(token == other_token, "another admin token");
    ensure!(first[0] == second[0], "another deployment");
    for (before, after) in first[1..].iter().zip(&second[1..]) {
        ensure!(before != after, "{before} came again");
    }
    // The server does not start with a directory that others may write to, or a secret that they may read.
    let token_file = directory.join("admin.token");
    for (path, open, private) in [(&directory, 0o777, 0o700), (&token_file, 0o644, 0o600)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(open))?;
        let refused = tokio::process::Command::new(programs()?.join("signal-server"))
            .args(["run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--rtmp-listen", "127.0.0.1:0", "--data-dir"])
            .arg(&directory)
            .kill_on_drop(true)
            .output();
        let refused = timeout(TEST_TIMEOUT, refused).await.context("it started")??;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(refused.status.code() == Some(1) && said.contains("chmod"), "{said}");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(private))?;
    }
    Ok(())
}
