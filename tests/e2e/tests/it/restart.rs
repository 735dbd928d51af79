//! What a process leaves to the next one in the same data directory, after `kill -9` and after a clean stop: members,
//! decisions about them, and their media. Also the course of a stop.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lianmai_test_support::arrivals::{self, Arrivals};
use lianmai_test_support::media::Ffmpeg;
use lianmai_test_support::raw_ws::RawWs;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::reconnecting::{ReconnectingMember, member_of};
use crate::server::{Scratch, TEST_TIMEOUT, TestServer, programs};
use crate::tokens::{self, APPS};

/// A clean stop that is quick, however many members there are.
const QUICK: [(&str, &str); 3] = [
    ("LIANMAI_DRAIN__DEADLINE_MS", "60000"),
    ("LIANMAI_DRAIN__NOTICE_MS", "100"),
    ("LIANMAI_DRAIN__RETRY_AFTER_MS", "100"),
];

/// A stop that would exceed the time limit of a test if it waited for anything.
const SLOW: [(&str, &str); 2] =
    [("LIANMAI_DRAIN__NOTICE_MS", "300000"), ("LIANMAI_DRAIN__DEADLINE_MS", "600000")];
/// A stop that would exceed it if it waited for answers of peers.
const PATIENT: [(&str, &str); 2] =
    [("LIANMAI_DRAIN__NOTICE_MS", "100"), ("LIANMAI_DRAIN__DEADLINE_MS", "600000")];

impl TestServer {
    /// Waits until everything that was answered is stored: joins are answered earlier.
    async fn stored(&self) -> Result<()> {
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            self.process.admin,
            self.process.admin_token()?.trim(),
        );
        let nothing_waits = async {
            loop {
                let text = arrivals::ask(self.process.admin, &request).await?.text().await?;
                if text.lines().any(|line| line == "lianmai_store_waiting_rows 0") {
                    return anyhow::Ok(());
                }
            }
        };
        timeout(TEST_TIMEOUT, nothing_waits).await.context("it is not written down")?
    }

    async fn kill_stored(&mut self) -> Result<()> {
        self.stored().await?;
        self.kill().await
    }

    async fn kill(&mut self) -> Result<()> {
        let bugs = self.process.bugs();
        ensure!(bugs.is_empty(), "{bugs:#?}");
        self.process.kill().await?;
        Ok(())
    }

    /// Waits for the end after a signal. Returns the exit code.
    async fn ended(&mut self) -> Result<i32> {
        let code =
            timeout(TEST_TIMEOUT, self.process.wait()).await.context("it does not stop")??;
        ensure!(self.process.bugs().is_empty(), "{:#?}", self.process.bugs());
        Ok(code)
    }

    async fn reconnecting_member(&self, channel: &str, uid: u64) -> Result<ReconnectingMember> {
        ReconnectingMember::join(self.process.public, channel, uid).await
    }
}

/// Checks that the member heard of no join, leave or change of streams.
fn assert_undisturbed(member: &ReconnectingMember) -> Result<()> {
    for event in ["clientLeave", "clientJoin", "streamAdded", "streamRemoved", "roleChanged"] {
        ensure!(member.count(event) == 0, "{event}: {:?}", member.heard);
    }
    Ok(())
}

/// Proves RES-10, RST-3.
#[tokio::test]
async fn rst_3_after_a_kill_members_are_who_they_were() -> Result<()> {
    let mut server = TestServer::start().await?;
    let mut ann = server.reconnecting_member("room", 1).await?;
    let mut bob = server.reconnecting_member("room", 2).await?;
    ann.call("publish", json!({"mediaType": ""})).await?;
    bob.call("setAttributes", json!({"attributes": {"seat": "4"}})).await?;
    bob.hear("streamAdded").await?;
    let before = bob.call("ping", json!({})).await?;
    let late = server.reconnecting_member("room", 3).await?;
    let picture = late.joined.clone();
    drop(late);
    server.kill_stored().await?;
    server.start_again(&[]).await?;

    let back = bob.reconnect_expecting("snapshot").await?;
    ensure!(back["reason"] == "epochChanged" && back["restore"] == true, "{back}");
    let snapshot = &back["snapshot"];
    ensure!(snapshot["epoch"] != before["epoch"], "{snapshot}");
    for same in ["cid", "deploymentId"] {
        ensure!(snapshot[same] == picture[same], "{same}: {snapshot}, {picture}");
    }
    ensure!(snapshot["mid"] == bob.joined["mid"] && snapshot["self"]["attributes"]["seat"] == "4");
    for uid in 1..=3 {
        let (was, is) = (member_of(&picture, uid), member_of(snapshot, uid));
        ensure!(was.is_some() && was == is, "uid {uid}: {was:?}, {is:?}");
    }
    let back = ann.reconnect_expecting("snapshot").await?;
    let own = &back["snapshot"]["self"];
    ensure!(own["published"][0]["gen"].is_string(), "{own}");
    // Both continue as if nothing had happened.
    ann.call("sendMessage", json!({"data": "still here"})).await?;
    ensure!(bob.hear("message").await?["data"] == "still here");
    assert_undisturbed(&ann)?;
    assert_undisturbed(&bob)?;
    server.finish().await
}

/// Proves RST-3.
#[tokio::test]
async fn rst_3_who_does_not_come_back_after_a_kill_leaves_once() -> Result<()> {
    // On any machine Ann is back sooner than this grace.
    let env = [("LIANMAI_SESSION__GRACE_MS", "10000"), ("LIANMAI_DRAIN__NOTICE_MS", "100")];
    let mut server = TestServer::start_with(&env).await?;
    let mut ann = server.reconnecting_member("room", 1).await?;
    let bob = server.reconnecting_member("room", 2).await?;
    server.kill_stored().await?;
    let starting = Instant::now();
    server.start_again(&env).await?;
    ann.reconnect_expecting("snapshot").await?;
    let leave = ann.hear("clientLeave").await?;
    ensure!(leave["uid"] == "2" && leave["reason"] == "serverRestart", "{leave}");
    ensure!(leave["mid"] == bob.joined["mid"], "{leave}");
    ensure!(starting.elapsed() > Duration::from_secs(9), "after {:?}", starting.elapsed());
    ann.call("ping", json!({})).await?;
    ensure!(ann.count("clientLeave") == 1, "{:?}", ann.heard);
    // After another kill he is still gone.
    server.kill_stored().await?;
    server.start_again(&env).await?;
    let back = ann.reconnect_expecting("snapshot").await?;
    ensure!(member_of(&back["snapshot"], 2).is_none(), "{back}");
    server.finish().await
}

/// Proves IDS-7, RST-1, RST-2.
#[tokio::test]
async fn rst_2_after_a_stop_everything_goes_on() -> Result<()> {
    let mut server = TestServer::start_with(&QUICK).await?;
    let mut ann = server.reconnecting_member("room", 1).await?;
    let mut bob = server.reconnecting_member("room", 2).await?;
    let silent = server.reconnecting_member("room", 3).await?;
    // This member loses its socket before the stop, and misses something.
    let mut lost = server.reconnecting_member("room", 4).await?;
    let seen = lost.at.clone();
    lost.call("ping", json!({})).await?;
    lost.at = seen;
    let attributes = json!({"attributes": {"seat": "4"}});
    let answer = ann.call("setAttributes", attributes.clone()).await?;
    let id = ann.last_id();
    bob.hear("clientUpdate").await?;

    server.process.signal("TERM").await?;
    for member in [&mut ann, &mut bob] {
        let told = member.hear("serverRestarting").await?;
        ensure!(told["retryAfterMs"] == 100 && told["jitterMs"] == 2000, "{told}");
        ensure!(told["deadlineMs"].as_u64().is_some_and(|ms| ms <= 60_000), "{told}");
        ensure!(member.closed().await? == Some(4003), "{:?}", member.heard);
        ensure!(member.hear("closing").await?["action"] == "reconnect");
    }
    ensure!(server.ended().await? == 0);
    server.start_again(&QUICK).await?;

    let back = bob.reconnect_expecting("replayed").await?;
    ensure!(back["restore"] == false && back["replayed"] == 0, "{back}");
    let back = lost.reconnect_expecting("replayed").await?;
    ensure!(back["replayed"] == 1 && lost.count("clientUpdate") == 1, "{back} {:?}", lost.heard);
    ann.reconnect_expecting("replayed").await?;
    // The repeated command is answered from memory and is not executed again.
    let again = ann.request(id, "setAttributes", &attributes).await?;
    ensure!(again["result"] == answer, "{again}, before: {answer}");
    ann.call("sendMessage", json!({"data": "on air"})).await?;
    for member in [&mut bob, &mut lost] {
        member.hear("message").await?;
    }
    ensure!(bob.count("clientUpdate") == 0, "it ran twice: {:?}", bob.heard);
    assert_undisturbed(&ann)?;
    assert_undisturbed(&bob)?;
    drop(silent);
    server.finish().await
}

/// A hand-over is used by one process only: it is not mixed with what a later kill leaves behind.
/// Proves RST-3.
#[tokio::test]
async fn rst_2_a_kill_after_a_restart_is_a_kill() -> Result<()> {
    let mut server = TestServer::start_with(&QUICK).await?;
    let mut ann = server.reconnecting_member("room", 1).await?;
    server.process.signal("TERM").await?;
    ann.closed().await?;
    ensure!(server.ended().await? == 0);
    server.start_again(&QUICK).await?;
    ann.reconnect_expecting("replayed").await?;
    ann.call("sendMessage", json!({"data": "in between"})).await?;
    let epoch = ann.at.0.clone();
    server.kill().await?;
    server.start_again(&QUICK).await?;
    let back = ann.reconnect_expecting("snapshot").await?;
    ensure!(back["reason"] == "epochChanged" && ann.at.0 != epoch, "{back}");
    ensure!(back["snapshot"]["mid"] == ann.joined["mid"], "{back}");
    server.finish().await
}

/// An encoder comes back by itself, and earlier than its member.
/// Proves RST-4.
#[tokio::test]
async fn rst_4_media_goes_on_over_a_kill_and_a_stop() -> Result<()> {
    let mut server = TestServer::start_with(&QUICK).await?;
    let mut ann = server.reconnecting_member("room", 1).await?;
    let mut bob = server.reconnecting_member("room", 2).await?;
    let url = async |ann: &mut ReconnectingMember| {
        let answer = ann.call("publish", json!({"mediaType": ""})).await?;
        answer["url"].as_str().map(str::to_owned).context("no URL")
    };
    let push = url(&mut ann).await?;
    bob.hear("streamAdded").await?;
    let subscribe = async |bob: &mut ReconnectingMember| {
        let mut flv = Value::Null;
        for kind in ["audio", "video"] {
            let answer = bob.call("subscribe", json!({"uid": "1", "mediaType": kind})).await?;
            flv = answer["urls"]["flv"].clone();
        }
        flv.as_str().map(str::to_owned).context("no URL")
    };
    let pull = subscribe(&mut bob).await?;
    let mut pushing = Ffmpeg::push(&push)?;
    let mut playing = Arrivals::open(&pull).await?;
    playing.media(TEST_TIMEOUT).await?;

    server.kill().await?;
    pushing.exited_within(TEST_TIMEOUT).await?;
    server.start_again(&QUICK).await?;
    pushing = Ffmpeg::push(&push)?;
    // The player comes back before its member, and waits for it.
    let early = tokio::spawn(async move { Arrivals::open(&pull).await });
    bob.reconnect_expecting("snapshot").await?;
    let pull = subscribe(&mut bob).await?;
    early.await?.context("the URL of before")?.media(TEST_TIMEOUT).await?;
    playing = Arrivals::open(&pull).await?;
    playing.media(TEST_TIMEOUT).await?;
    ann.reconnect_expecting("snapshot").await?;
    ensure!(url(&mut ann).await? == push, "another push URL");
    playing.media(TEST_TIMEOUT).await?;
    ensure!(pushing.exited()?.is_none(), "cut: {}", pushing.said());

    // A stop ends media last.
    server.process.signal("TERM").await?;
    ensure!(ann.closed().await? == Some(4003) && bob.closed().await? == Some(4003));
    playing.end(TEST_TIMEOUT).await?;
    pushing.exited_within(TEST_TIMEOUT).await?;
    ensure!(server.ended().await? == 0);
    server.start_again(&QUICK).await?;
    let pushing_again = Ffmpeg::push(&push)?;
    bob.reconnect_expecting("replayed").await?;
    let mut playing = Arrivals::open(&pull).await?;
    playing.media(TEST_TIMEOUT).await?;
    ann.reconnect_expecting("replayed").await?;
    ensure!(url(&mut ann).await? == push, "another push URL");
    assert_undisturbed(&bob)?;
    drop(pushing_again);
    server.finish().await
}

/// Proves RES-6, RST-1.
#[tokio::test]
async fn rst_1_a_draining_server_serves_members_and_takes_in_nobody_else() -> Result<()> {
    // Longer than the following steps take on any machine.
    let env = [("LIANMAI_DRAIN__NOTICE_MS", "10000"), ("LIANMAI_DRAIN__DEADLINE_MS", "60000")];
    let mut server = TestServer::start_with(&env).await?;
    let mut ann = server.reconnecting_member("room", 1).await?;
    let mut bob = server.reconnecting_member("room", 2).await?;
    server.process.signal("TERM").await?;
    ann.hear("serverRestarting").await?;
    let ready = arrivals::get(&format!("http://{}/readyz", server.process.admin)).await?;
    ensure!(ready.status == 503, "{}", ready.head);
    bob.reconnect_expecting("replayed").await?;
    bob.hear("serverRestarting").await?;
    ann.call("sendMessage", json!({"data": "last words"})).await?;
    bob.hear("message").await?;
    let refused = server.reconnecting_member("room", 3).await.expect_err("a join").to_string();
    ensure!(refused.contains("\"draining\""), "{refused}");
    for member in [&mut ann, &mut bob] {
        ensure!(member.closed().await? == Some(4003), "{:?}", member.heard);
    }
    ensure!(server.ended().await? == 0);
    Ok(())
}

/// Proves no rule of the protocol: a server without members stops at once.
#[tokio::test]
async fn a_server_without_members_stops_at_once() -> Result<()> {
    let mut server = TestServer::start_with(&SLOW).await?;
    let idle = RawWs::connect(server.process.public).await?;
    drop(idle);
    server.process.signal("TERM").await?;
    ensure!(server.ended().await? == 0);
    Ok(())
}

/// A stop does not wait for answers to its close frames.
/// Proves RST-1.
#[tokio::test]
async fn rst_1_a_stop_does_not_wait_for_peers_that_are_deaf() -> Result<()> {
    let mut server = TestServer::start_with(&PATIENT).await?;
    let mut ann = server.reconnecting_member("room", 1).await?;
    // These sockets are open, but not read and not answered: one of a member, and one that never joined.
    let deaf = server.reconnecting_member("room", 2).await?;
    let idle = RawWs::connect(server.process.public).await?;
    server.process.signal("TERM").await?;
    ensure!(ann.closed().await? == Some(4003), "{:?}", ann.heard);
    ensure!(server.ended().await? == 0);
    drop((deaf, idle));
    server.start_again(&QUICK).await?;
    ann.reconnect_expecting("replayed").await?;
    server.finish().await
}

/// Proves no rule of the protocol: a second signal ends a drain.
#[tokio::test]
async fn a_second_signal_ends_a_drain_with_another_code() -> Result<()> {
    let mut server = TestServer::start_with(&SLOW).await?;
    let mut ann = server.reconnecting_member("room", 1).await?;
    server.process.signal("TERM").await?;
    ann.hear("serverRestarting").await?;
    server.process.signal("INT").await?;
    // She does not answer.
    ensure!(server.ended().await? == 3);
    // There is no hand-over, but no more is lost than after a kill.
    server.start_again(&QUICK).await?;
    let back = ann.reconnect_expecting("snapshot").await?;
    ensure!(back["snapshot"]["mid"] == ann.joined["mid"], "{back}");
    server.finish().await
}

/// Proves no rule of the protocol: a data directory belongs to one process.
#[tokio::test]
async fn rst_3_a_data_directory_is_for_one_process() -> Result<()> {
    let server = TestServer::start().await?;
    let output = Command::new(programs()?.join("signal-server"))
        .args(["run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(["--rtmp-listen", "127.0.0.1:0", "--data-dir"])
        .arg(&server.data_dir.0)
        .kill_on_drop(true)
        .output();
    let output = timeout(TEST_TIMEOUT, output).await.context("it runs")??;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1) && output.stdout.is_empty(), "{output:?}");
    ensure!(said.contains("in use by another server process"), "{said}");
    // The first one is not affected.
    server.join("room", 1).await?;
    server.finish().await
}

/// A deployment that has lost its keys cannot read any ticket. Each is refused with the same answer, which names the
/// next step, and the address is still admitted: many clients may share it.
/// Proves RES-4.
#[tokio::test]
async fn res_4_after_a_lost_data_directory_a_crowd_behind_one_address_is_back() -> Result<()> {
    const CROWD: u32 = 60;
    let mut server = TestServer::start().await?;
    let files = Scratch::new()?;
    let config = files.0.join("config.toml");
    // Without an app in debug mode, because then loopback is not counted.
    let (_, safe) =
        APPS.split_once("creator_moderates = true").context("the debug app is first")?;
    std::fs::write(&config, safe)?;
    let path = config.to_str().context("a path that is text")?.to_owned();
    server.kill().await?;
    std::fs::remove_dir_all(&server.data_dir.0)?;
    server.start_again(&[("LIANMAI_CONFIG", &path)]).await?;
    let mut answers = Vec::new();
    for member in 0..CROWD {
        let mut socket = RawWs::connect(server.process.public).await?;
        // Tickets of another key, and texts that are no tickets.
        let ticket = ["AWFiYw", "", "none at all", "AWFiYw==", "AWFiYwAWFiYwAWFiYwAWFiYw"]
            [member as usize % 5];
        let params = json!({"ticket": ticket, "attempt": 1, "epoch": "ujzdegxdncf32epf3dha",
                            "seq": 1, "n": 0});
        let id = socket.request("reconnect", params).await?;
        let mut answer = timeout(TEST_TIMEOUT, socket.answer(id)).await.context("no answer")??;
        answers.push(answer["result"].take());
    }
    ensure!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    ensure!(answers[0]["reason"] == "invalid" && answers[0]["action"] == "rejoin", "{answers:?}");
    // They join again, and as many new members do.
    let mut members = Vec::new();
    for uid in 1..=2 * CROWD {
        let uid = uid.to_string();
        let token = tokens::jwt("room", &uid, |_, _| {});
        let join = json!({"appkey": "safe", "channelName": "room", "uid": uid, "token": token});
        let mut socket = RawWs::connect(server.process.public).await?;
        let id = socket.request("join", join).await?;
        let answer = timeout(TEST_TIMEOUT, socket.answer(id)).await.context("no answer")??;
        ensure!(answer["result"]["mid"].is_string(), "{answer}");
        members.push(socket);
    }
    server.finish().await
}
