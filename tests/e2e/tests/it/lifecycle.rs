//! The life of the process: configuration, start, stop, and its log.
//! Proves no rule of the protocol: the life of the process.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use lianmai_test_support::arrivals::{self, Arrivals};
use lianmai_test_support::media::Ffmpeg;
use lianmai_test_support::process::ServerProcess;
use lianmai_test_support::raw_ws::{RawWs, Received};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::server::{Scratch, TEST_TIMEOUT, TestServer, programs};
use crate::tokens::{self, APPS};

/// Runs the binary to its end.
async fn run(arguments: &[&str]) -> Result<Output> {
    let output =
        Command::new(programs()?.join("signal-server")).args(arguments).kill_on_drop(true).output();
    timeout(TEST_TIMEOUT, output).await.context("it does not end")?.context("it does not start")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is text")
}

/// Proves NOT-2, RST-1.
#[tokio::test]
async fn a_stop_is_told_to_everybody() -> Result<()> {
    let mut server = TestServer::start().await?;
    let mut sockets = Vec::new();
    for uid in 1..=3 {
        let mut socket = RawWs::connect(server.process.public).await?;
        let channel = format!("room{}", uid % 2);
        let join = json!({"appkey": "demo", "channelName": channel, "uid": uid.to_string()});
        socket.call("join", join).await?;
        sockets.push(socket);
    }
    // Connections that are not members: one stays silent, the others join while the server stops, and may be too late.
    for _ in 0..20 {
        sockets.push(RawWs::connect(server.process.public).await?);
    }
    server.process.signal("TERM").await?;
    for (uid, socket) in (10..).zip(&mut sockets[4..]) {
        let join = json!({"appkey": "demo", "channelName": "room", "uid": uid.to_string()});
        let _ = socket.request("join", join).await;
    }
    for (at, mut socket) in sockets.into_iter().enumerate() {
        // Members are moved to the next process, all others are refused; some joins may still have succeeded.
        let codes: &[u16] = if at < 3 { &[4003] } else { &[4000, 4003, 4503] };
        let mut closing = Value::Null;
        let until_close = async {
            loop {
                match socket.receive().await? {
                    Received::Text(text) => {
                        let value: Value = serde_json::from_slice(&text)?;
                        if value["method"] == "closing" {
                            closing = value["params"].clone();
                        }
                    }
                    Received::Pong(_) => {}
                    end => return anyhow::Ok(end),
                }
            }
        };
        let end = timeout(TEST_TIMEOUT, until_close).await.context("no close")??;
        let Received::Close(code, _) = end else { anyhow::bail!("{end:?}") };
        ensure!(codes.contains(&code) && closing["code"] == code, "{at}: {code}, {closing}");
        ensure!(timeout(TEST_TIMEOUT, socket.receive()).await?? == Received::Gone, "more");
    }
    // Not ready any more: the server says so, or does not listen any more.
    let ready = arrivals::get(&format!("http://{}/readyz", server.process.admin)).await;
    ensure!(ready.as_ref().map_or(true, |answer| answer.status == 503), "still ready: {ready:?}");
    let code = timeout(TEST_TIMEOUT, server.process.wait()).await.context("no end")??;
    ensure!(code == 0, "exit code {code}");
    ensure!(server.process.bugs().is_empty(), "{:?}", server.process.bugs());
    for address in [server.process.public, server.process.admin, server.process.rtmp] {
        ensure!(TcpStream::connect(address).await.is_err(), "{address} still listens");
    }
    Ok(())
}

#[tokio::test]
async fn a_stop_does_not_wait_for_media_or_lobbies() -> Result<()> {
    let mut server = TestServer::start().await?;
    let mut host = server.join("room", 1).await?;
    let push = Ffmpeg::push(&host.publish().await?)?;
    let mut viewer = server.join("room", 2).await?;
    let pull = viewer.subscribe(1).await?;
    let mut player = Arrivals::open(&pull.flv).await?;
    player.media(TEST_TIMEOUT).await?;
    let mut lobby = RawWs::connect(server.process.public).await?;
    let mut half = RawWs::open(server.process.public).await?;
    half.write(b"GET / HTTP/1.1\r\n").await?;
    server.process.signal("TERM").await?;
    let code = timeout(TEST_TIMEOUT, server.process.wait()).await.context("it does not stop")??;
    ensure!(code == 0, "exit code {code}");
    player.end(TEST_TIMEOUT).await?;
    // Whatever close it gets, it does not hang.
    timeout(TEST_TIMEOUT, lobby.read_to_end()).await.context("the lobby hangs")?;
    drop(push);
    ensure!(server.process.bugs().is_empty(), "{:?}", server.process.bugs());
    Ok(())
}

#[tokio::test]
async fn every_mistake_is_named_at_once() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.0.join("bad.toml");
    let config = r#"
[server]
listen = "localhost"
origins = ["https://app.example.com/path"]
colour = "red"
[session]
dead_after_ms = 5000
[[apps]]
appkey = "a/b"
[[apps.jwt]]
kid = "k1"
secret = "do-not-print-me"
"#;
    std::fs::write(&file, config)?;
    let output = run(&["check-config", "--config", path(&file)?]).await?;
    let said = text(&output.stderr);
    ensure!(output.status.code() == Some(2), "{:?}: {said}", output.status);
    ensure!(output.stdout.is_empty(), "{}", text(&output.stdout));
    let keys = [
        "server.listen",
        "server.origins[0]",
        "server.colour",
        "session.dead_after_ms",
        "apps[0].appkey",
        "apps[0].jwt[0].secret",
    ];
    for key in keys {
        let named = said.lines().filter(|line| line.starts_with(&format!("{key}: "))).count();
        ensure!(named == 1, "{key} is named {named} times: {said}");
    }
    ensure!(said.lines().count() == keys.len(), "{said}");
    ensure!(!said.contains("do-not-print-me"), "a secret: {said}");
    // `run` prints the same and does not start.
    let output = run(&["run", "--config", path(&file)?]).await?;
    ensure!(output.status.code() == Some(2) && text(&output.stderr) == said, "{output:?}");
    let output = run(&["check-config", "--config", "/nonexistent/x.toml"]).await?;
    ensure!(output.status.code() == Some(2), "{output:?}");
    Ok(())
}

#[tokio::test]
async fn the_default_configuration_is_good() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.0.join("default.toml");
    let generated = run(&["gen-config"]).await?;
    ensure!(generated.status.success() && generated.stderr.is_empty(), "{generated:?}");
    std::fs::write(&file, &generated.stdout)?;
    let output = run(&["check-config", "--config", path(&file)?]).await?;
    ensure!(output.status.success() && output.stdout == b"ok\n", "{output:?}");
    // The defaults that it shows are valid when they are written out. Example lines are no defaults.
    let shown: String = text(&generated.stdout)
        .lines()
        .map(|line| {
            let uncommented = line.strip_prefix('#').filter(|line| !line.starts_with(' '));
            format!("{}\n", uncommented.unwrap_or(line))
        })
        .collect();
    std::fs::write(&file, &shown)?;
    let output = run(&["check-config", "--config", path(&file)?]).await?;
    ensure!(output.status.success(), "{}\n{shown}", text(&output.stderr));
    ensure!(
        shown.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count() > 40
    );
    Ok(())
}

#[tokio::test]
async fn a_taken_port_prevents_the_start() -> Result<()> {
    let server = TestServer::start().await?;
    let scratch = Scratch::new()?;
    let data = scratch.0.join("data");
    let free = "127.0.0.1:0".to_owned();
    for (taken, name) in [
        ([server.process.public.to_string(), free.clone(), free.clone()], "public"),
        ([free.clone(), server.process.admin.to_string(), free.clone()], "admin"),
        ([free.clone(), free.clone(), server.process.rtmp.to_string()], "rtmp"),
    ] {
        let [listen, admin, rtmp] = &taken;
        let output = run(&[
            "run",
            "--listen",
            listen,
            "--admin-listen",
            admin,
            "--rtmp-listen",
            rtmp,
            "--data-dir",
            path(&data)?,
        ])
        .await?;
        let said = text(&output.stderr);
        let address = taken.iter().find(|address| **address != free).context("one is taken")?;
        ensure!(output.status.code() == Some(1), "{:?}: {said}", output.status);
        ensure!(said.contains(address) && said.contains(name), "{said}");
        ensure!(!said.contains("panicked") && output.stdout.is_empty(), "{said}");
    }
    server.finish().await
}

/// A limit of descriptors below the configured number: surplus connections are refused, and the admin API answers.
/// Proves CON-6.
#[tokio::test]
async fn with_few_descriptors_connections_are_refused_and_the_admin_api_answers() -> Result<()> {
    let scratch = Scratch::new()?;
    let script = scratch.0.join("limited");
    let program = programs()?.join("signal-server");
    std::fs::write(
        &script,
        format!("#!/bin/sh\nulimit -n 128\nexec '{}' \"$@\"\n", program.display()),
    )?;
    std::fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    let data = scratch.0.join("data");
    let server = ServerProcess::start(&script, &data, &[]);
    let server = timeout(TEST_TIMEOUT, server).await??;
    let is_told = |line: &str| line.contains("WARN") && line.contains("limit of open files");
    server.logged(0, is_told).await?;
    let mut idle = Vec::new();
    for address in [server.public, server.rtmp] {
        for _ in 0..150 {
            idle.push(RawWs::open(address).await?);
        }
    }
    let health = format!("http://{}/healthz", server.admin);
    let health = timeout(TEST_TIMEOUT, arrivals::get(&health)).await.context("no health")??;
    ensure!(health.status == 200, "{health:?}");
    let mut refused = RawWs::open(server.public).await?;
    refused.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    let head = timeout(TEST_TIMEOUT, refused.http_head()).await.context("no answer")??;
    ensure!(head.starts_with("HTTP/1.1 503") && head.contains("Retry-After"), "{head}");
    // When the others have gone, there is room again.
    drop(idle);
    let mut member = timeout(TEST_TIMEOUT, async {
        loop {
            if let Ok(socket) = RawWs::connect(server.public).await {
                return socket;
            }
        }
    })
    .await
    .context("no room")?;
    member.call("join", json!({"appkey": "demo", "channelName": "room", "uid": "1"})).await?;
    ensure!(!server.log().iter().any(|line| line.contains("accept failed")), "{:?}", server.log());
    ensure!(server.bugs().is_empty(), "{:?}", server.bugs());
    Ok(())
}

/// The part of a URL that authenticates it.
fn mac(url: &str) -> Result<String> {
    let token = url.rsplit_once("t=").context("no token")?.1;
    Ok(token.split_once('.').context("no mac")?.1.to_owned())
}

#[tokio::test]
async fn no_secret_is_logged() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.0.join("config.toml");
    std::fs::write(&file, APPS)?;
    let filter =
        "lianmai_signal_server=trace,lianmai_media_plane=trace,lianmai_signal_engine=trace";
    // First with this filter, then with the traces of the libraries too.
    for filter in [filter, "trace"] {
        let env = [
            ("LIANMAI_CONFIG", path(&file)?),
            ("LIANMAI_LOG__FILTER", filter),
            ("LIANMAI_DRAIN__NOTICE_MS", "100"),
        ];
        // Data of its own: memberships of the first server would continue with its URLs.
        let server = TestServer::start_with(&env).await?;
        let process = &server.process;
        let token = tokens::jwt("room", "1", |_, _| {});
        let basic = tokens::basic("room", "2", 0, 3600);
        let mut secrets = vec![
            token.rsplit_once('.').context("a JWT")?.1.to_owned(),
            basic.clone(),
            process.admin_token()?,
            "a-join-id-that-is-secret".to_owned(),
            "a secret of thirty-two bytes or more".to_owned(),
            "sixteen bytes at least".to_owned(),
            "a message to nobody else".to_owned(),
        ];
        let join = |uid: &str, token: &str| {
            json!({"appkey": "safe", "channelName": "room", "uid": uid, "token": token,
                   "joinId": "a-join-id-that-is-secret"})
        };
        let mut host = RawWs::connect(process.public).await?;
        host.call("join", join("1", &token)).await?;
        host.call("renewToken", json!({"token": token})).await?;
        host.call("sendMessage", json!({"data": "a message to nobody else"})).await?;
        let push = host.call("publish", json!({})).await?;
        let mut viewer = RawWs::connect(process.public).await?;
        viewer.call("join", join("2", &basic)).await?;
        viewer.call("subscribe", json!({"uid": "1", "mediaType": "audio"})).await?;
        let pull = viewer.call("subscribe", json!({"uid": "1", "mediaType": "video"})).await?;
        let urls = [&push["urls"]["rtmp"], &pull["urls"]["rtmp"], &pull["urls"]["flv"]];
        let [push, rtmp, flv] = urls.map(|url| url.as_str().unwrap_or_default().to_owned());
        for url in [&push, &rtmp, &flv] {
            secrets.push(mac(url)?);
        }
        let pushing = Ffmpeg::push(&push)?;
        let mut playing = Ffmpeg::play(&rtmp)?;
        let mut player = Arrivals::open(&flv).await?;
        player.media(TEST_TIMEOUT).await.with_context(|| pushing.said())?;
        // Refusals are logged as well: a wrong token, a URL of another member, a wrong admin token.
        let mut refused = RawWs::connect(process.public).await?;
        let id = refused.request("join", join("3", &token)).await?;
        ensure!(refused.answer(id).await?["error"].is_object(), "a token of somebody else");
        let mut denied = Ffmpeg::push(&push)?;
        denied.exited_within(TEST_TIMEOUT).await?;
        let forged = flv.replace("&t=", "&x=1&t=1");
        ensure!(arrivals::get(&forged).await?.status == 403, "a forged URL");
        let admin = format!(
            "GET /metrics HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
            process.admin,
            process.admin_token()?
        );
        ensure!(arrivals::ask(process.admin, &admin).await?.status == 200, "metrics");
        ensure!(playing.exited()?.is_none(), "the player ended: {}", playing.said());
        drop((pushing, playing, player));
        let id = host.request("leave", json!({})).await?;
        host.answer(id).await?;
        process.logged(0, |line| line.contains("\"reason\":\"left\"")).await?;
        let log = process.log();
        ensure!(log.iter().any(|line| line.contains("\"level\":\"DEBUG\"")), "no such filter");
        for secret in &secrets {
            let line = log.iter().find(|line| line.contains(secret.as_str()));
            ensure!(line.is_none(), "with filter {filter}, the log holds `{secret}`: {line:?}");
        }
        server.finish().await?;
    }
    Ok(())
}
